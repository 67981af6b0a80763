"""The command ``predict`` for several tasks: which ones answer, the form of their answers, and its messages."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
import toy_run
import yaml
from safetensors.numpy import load_file, save_file

from mtbert.model.encoder import Encoder
from mtbert.recipe.settings import validate_recipe
from mtbert.use.input_columns import answering

PAIRS = [("the dog runs", "a cat sleeps"), ("a very long film is dull dull dull", "bad"), ("old", "new")]
NAME_SST = "To name columns: --set tasks.sst.columns.text=sentence1"
QUORA, SST, STS = ["label", "p(0)", "p(1)"], ["label", *(f"p({i})" for i in range(5))], ["score"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("id,sentence1,sentence2\n" + "".join(f"x{i},{a},{b}\n" for i, (a, b) in enumerate(PAIRS)))
    return path


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Collects the number of tokens of each pass through an encoder."""
    found: list[int] = []
    encode = Encoder.encode

    def counted(self, x_ND, *given, **named):
        found.append(len(x_ND))
        return encode(self, x_ND, *given, **named)

    monkeypatch.setattr(Encoder, "encode", counted)
    return found


def own(mtbert, run: Path, task: str, file: Path, *more: str) -> list[dict[str, object]]:
    """Returns the answers of a task that is asked alone, without the columns of the input."""
    out = file.parent / "own.jsonl"
    assert mtbert("predict", run, "--task", task, "--input", file, "--output", out, *more, "--overwrite").code == 0
    given = {"id", "sentence", "sentence1", "sentence2"}
    return [{k: v for k, v in json.loads(line).items() if k not in given} for line in out.read_text().splitlines()]


def test_without_a_task_all_that_fit_answer_in_one_pass_and_one_warning_names_the_others(
    toy, mtbert, pairs, passes, tmp_path
):
    out = tmp_path / "answers.jsonl"
    done = mtbert("predict", toy / "run", "--input", pairs, "--output", out)
    assert len(passes) == 1
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [
        f"warning: {pairs}: left out: sst (no column 'sentence'). {NAME_SST}",
        f"done: 3 rows with the answers of quora, sts in {out}",
    ]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [list(row) for row in rows] == [["id", "sentence1", "sentence2", "quora", "sts"]] * 3
    assert [(row["sentence1"], row["sentence2"]) for row in rows] == PAIRS
    assert [row["quora"] for row in rows] == own(mtbert, toy / "run", "quora", pairs)
    assert [row["sts"] for row in rows] == own(mtbert, toy / "run", "sts", pairs)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "-"])
def test_in_a_table_columns_are_named_after_task_and_answer(toy, mtbert, pairs, tmp_path, suffix):
    out = tmp_path / f"answers.{suffix}"
    done = mtbert("predict", toy / "run", "--input", pairs, "--output", "-" if suffix == "-" else out)
    assert done.code == 0
    if suffix == "-":
        out.write_text(done.out)
    found = pd.read_parquet(out) if suffix == "parquet" else pd.read_csv(out, sep="\t" if suffix == "tsv" else ",")
    assert list(found) == ["id", "sentence1", "sentence2", "quora.label", "quora.p(0)", "quora.p(1)", "sts.score"]
    assert found["quora.p(1)"].tolist() == [row["p(1)"] for row in own(mtbert, toy / "run", "quora", pairs)]
    assert found["sts.score"].tolist() == [row["score"] for row in own(mtbert, toy / "run", "sts", pairs)]


def test_several_tasks_answer_in_the_order_in_which_they_are_named(toy, mtbert, pairs):
    done = mtbert("predict", toy / "run", "--task", "sts", "--task", "quora", "--input", pairs)
    assert (done.code, done.err) == (0, "")
    header = next(csv.reader(done.out.splitlines()))
    assert header == ["id", "sentence1", "sentence2", "sts.score", "quora.label", "quora.p(0)", "quora.p(1)"]


def test_tasks_that_read_other_columns_answer_from_them(toy, mtbert, passes, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"sentence": "a dog runs", "sentence1": "a cat", "sentence2": "a dog", "n": 1}))
    done = mtbert("predict", toy / "run", "--input", file, "--output", tmp_path / "out.jsonl")
    assert len(passes) == 2
    assert done.err.splitlines() == [
        f"{file}: columns that these tasks do not read, copied as they are: 'n'.",
        f"{file}: there is no column 'id', so the output begins with one that numbers the rows from 1.",
        f"done: 1 row with the answers of sst, quora, sts in {tmp_path}/out.jsonl",
    ]
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert list(row) == ["id", "sentence", "sentence1", "sentence2", "n", "sst", "quora", "sts"]
    assert [list(row[task]) for task in ("sst", "quora", "sts")] == [SST, QUORA, STS]
    for task in ("sst", "quora", "sts"):
        (alone,) = own(mtbert, toy / "run", task, file)
        assert row[task] == {key: pytest.approx(alone[key], abs=1e-6) for key in row[task]}


def test_a_file_with_one_column_is_answered_in_one_file_or_in_parts_and_not_if_another_column_is_set(
    toy, mtbert, tmp_path
):
    file, out = tmp_path / "in.csv", tmp_path / "out.csv"
    file.write_text("id,sentence\na,not bad\nb,a dog\n")
    assert mtbert("predict", toy / "run", "--input", file, "--output", out).code == 0
    expected = out.read_text().splitlines()[1:]
    file.write_text(file.read_text().replace("sentence", "review"))
    for target in (out, tmp_path / "parts"):
        done = mtbert(
            "predict",
            toy / "run",
            "--input",
            file,
            "--output",
            f"{target}/" if target != out else out,
            *(["--overwrite"] if target == out else []),
        )
        assert done.err.startswith(
            f"{file}: 'review' is the only text, so these tasks read it: sst (no column 'sentence')"
        )
        written = out if target == out else target / "in-00000.csv"
        assert (done.code, written.read_text().splitlines()[1:]) == (0, expected)
    call = ("predict", toy / "run", "--task", "sst", "--input", file, "--set", "tasks.sst.columns.text=sentences")
    assert mtbert(*call).mistake.startswith(f"{file}: there is no column 'sentences', found 'id', 'review'.")


def test_an_id_column_that_one_of_the_tasks_names_is_enough(toy, mtbert, pairs, passes):
    pairs.write_text(pairs.read_text().replace("id,", "key,"))
    call = ("predict", toy / "run", "--task", "sts", "--task", "quora", "--input", pairs)
    done = mtbert(*call, "--set", "tasks.quora.columns.id=key")
    assert (done.code, done.err, len(passes)) == (0, "", 1)
    assert [row["key"] for row in csv.DictReader(done.out.splitlines())] == ["x0", "x1", "x2"]
    numbered = mtbert(*call, "--set", "tasks.sts.columns.id=null")
    assert "there is no column 'id', so the output begins with one" in numbered.err
    assert [(row["id"], row["key"]) for row in csv.DictReader(numbered.out.splitlines())] == [
        ("1", "x0"),
        ("2", "x1"),
        ("3", "x2"),
    ]


@pytest.mark.parametrize(
    ("suffix", "taken", "there"),
    [("jsonl", "quora", "predicted_quora"), ("csv", "sts.score", "predicted_sts.score")],
)
def test_an_answer_never_takes_the_place_of_an_input_column(toy, mtbert, pairs, tmp_path, suffix, taken, there):
    pairs.write_text("\n".join(f"{line},{taken if i == 0 else i}" for i, line in enumerate(pairs.read_text().split())))
    file, out = tmp_path / "in.csv", tmp_path / f"out.{suffix}"
    rows = [{"id": "a", "sentence1": "old", "sentence2": "new", taken: "gold"}]
    pd.DataFrame(rows).to_csv(file, index=False)
    done = mtbert("predict", toy / "run", "--input", file, "--output", out)
    assert f"warning: the input has a column '{taken}', so the answers to it are in '{there}'." in done.err
    (row,) = map(json.loads, out.read_text().splitlines()) if suffix == "jsonl" else pd.read_csv(out).to_dict("records")
    assert row[taken] == "gold"
    assert there in row


# One text ------------------------------------------------------------------------------------------------


def test_on_the_screen_each_task_has_a_line(toy, mtbert):
    alone = {
        task: mtbert("predict", toy / "run", "--task", task, "--text", "old", "--text-pair", "new").out
        for task in ("quora", "sts")
    }
    done = mtbert("predict", toy / "run", "--text", "old", "--text-pair", "new")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"quora  {alone['quora']}sts    {alone['sts']}"
    done = mtbert("predict", toy / "run", "--text", "not bad")
    assert (done.err, done.out.split()[0], done.out.count("\n")) == ("", "sst", 1)


def test_one_text_in_a_file_stands_beside_all_its_answers(toy, mtbert, tmp_path):
    out = tmp_path / "a.jsonl"
    done = mtbert("predict", toy / "run", "--text", "old", "--text-pair", "new", "--output", out)
    assert done.err == f"done: 1 row with the answers of quora, sts in {out}\n"
    (row,) = map(json.loads, out.read_text().splitlines())
    assert list(row) == ["text", "text_pair", "quora", "sts"]
    assert (row["text"], list(row["quora"]), list(row["sts"])) == ("old", QUORA, STS)


def test_a_moved_model_answers_a_text_without_its_recipe(toy, mtbert, run_copy, tmp_path):
    moved = (run_copy / "best").rename(tmp_path / "moved")
    assert mtbert("predict", moved, "--text", "not bad").out.startswith("sst  ")


# Refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "sst", "--task", "stt", "--text", "a"], "task stt: this model has no such task. Use sst or quora"),
        (["--task", "sts", "--task", "stt", "--input", "{pairs}"], "task stt: this model has no such task."),
        (["--task", "sts", "--task", "sst", "--input", "{pairs}"], "there is no column 'sentence'"),
        (["--task", "sts", "--task", "sts", "--text", "a"], "--task sts: is given more than once. Give it once."),
        (["--task", "sst", "--task", "sts", "--text", "a"], "task sts: reads pairs of texts. Give --text-pair too."),
        (
            ["--task", "sts", "--task", "sst", "--text", "a", "--text-pair", "b"],
            "task sst takes single texts, but task sts pairs. Ask one after the other.",
        ),
        (["--text", " "], "task sst, text 1: must be UTF-8 text and not empty, found ' '."),
        (
            ["--text", "a", "--vectors", "v.npy"],
            "--vectors v.npy: a task has vectors of its own, so give exactly one --task, found 0.",
        ),
        (["--task", "sts", "--task", "sst", "--text", "a", "--vectors", "v.npy"], "give exactly one --task, found 2."),
        (["--input", "gone.csv"], "gone.csv: there is no such file."),
        (
            ["--input", "{pairs}", *(f"--set=tasks.{t}.columns.text=[{t[0]}, b]" for t in ("quora", "sts"))],
            "{pairs}: no task can answer: sst (no column 'sentence'), quora (no column 'q', 'b'), "
            "sts (no column 's', 'b'). To name columns: --set tasks.sst.columns.text=sentence1 --set "
            "'tasks.quora.columns.text=[sentence1, sentence2]' --set 'tasks.sts.columns.text=[sentence1, sentence2]'",
        ),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_answered_is_one_line(toy, mtbert, tmp_path, pairs, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    refused = mtbert("predict", toy / "run", *(a.format(pairs=pairs) for a in arguments)).mistake
    assert said.format(pairs=pairs) in refused
    assert list(tmp_path.iterdir()) == [pairs]


def test_a_model_without_tasks_of_pairs_says_so(toy, mtbert, run_copy):
    card = run_copy / "best/mtbert.json"
    content = json.loads(card.read_text())
    content["tasks"] = {"sst": content["tasks"]["sst"]}
    card.write_text(json.dumps(content))
    heads = run_copy / "best/heads.safetensors"
    save_file({name: part for name, part in load_file(heads).items() if "sst" in name}, heads)
    said = mtbert("predict", run_copy, "--text", "old", "--text-pair", "new").mistake
    assert said == "no task of this model takes pairs. Give single texts; its tasks are sst."


def test_a_task_that_the_recipe_does_not_have_is_left_out(toy, mtbert, run_copy, pairs):
    recipe = run_copy / "recipe.yaml"
    content = yaml.safe_load(recipe.read_text())
    del content["tasks"]["quora"]
    recipe.write_text(yaml.safe_dump(content))
    done = mtbert("predict", run_copy, "--input", pairs)
    assert done.err == (
        f"warning: {pairs}: left out: sst (no column 'sentence'), quora (the recipe of this run does not have it). "
        f"{NAME_SST}\n"
    )
    assert done.out.splitlines()[0] == "id,sentence1,sentence2,sts.score"


def test_a_task_whose_answers_no_loss_trains_is_left_out(tmp_path):
    raw = toy_run.raw_recipe(tmp_path)
    raw["tasks"]["quora"] |= {"inputs": "separate", "losses": ["simcse"]}
    recipe = validate_recipe(raw, "toy")
    left_out = "a.csv: left out: quora (no loss trains its answers)."
    assert answering(recipe, ["quora", "sts"], "a.csv", {}) == (["sts"], [left_out])
    assert answering(recipe, ["sts"], "a.csv", {}) == (["sts"], [])
    with pytest.raises(
        ValueError,
        match=r"^a\.csv: no task can answer: quora \(no loss trains its answers\)\. Ask one of them with task\.$",
    ):
        answering(recipe, ["quora"], "a.csv", {})
