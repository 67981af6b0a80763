"""The commands as a person gives them: what they write, and the one line that a mistake gives."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_run
import yaml
from filelock import FileLock
from safetensors.numpy import load_file
from typer.testing import CliRunner

from mtbert import cli
from mtbert.recipe import Recipe, load, shipped


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line of a user's mistake."""
        assert self.code == 2, self
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("mtbert: ")
        return line.removeprefix("mtbert: ")


Mtbert = Callable[..., Done]


@pytest.fixture
def mtbert(monkeypatch, capfd) -> Mtbert:
    """Runs one command in this process."""

    def run(*arguments: object, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["mtbert", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capfd.readouterr()
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capfd.readouterr()
        assert isinstance(code, int)
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder with encoder, data, toy.yaml, and a finished run; tests only read it."""
    folder = tmp_path_factory.mktemp("toy")
    recipe = toy_run.set_up(folder, epochs=1, rounds=2)
    done = CliRunner().invoke(cli.app, ["train", str(recipe), "--out", str(folder / "run")])
    assert done.exit_code == 0, done
    return folder


@pytest.fixture
def run_copy(toy, tmp_path) -> Path:
    """The finished run, to be broken."""
    return Path(shutil.copytree(toy / "run", tmp_path / "broken"))


def table(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


PAIRS = [("the dog runs", "a cat sleeps"), ("a very long film is dull dull dull", "bad"), ("old", "new")]


def pairs_csv(folder: Path, *, ids: bool = True) -> Path:
    rows = [f"x{i},{a},{b}\n" if ids else f"{a},{b}\n" for i, (a, b) in enumerate(PAIRS)]
    path = folder / "pairs.csv"
    path.write_text(("id," if ids else "") + "sentence1,sentence2\n" + "".join(rows))
    return path


# Training and evaluation -------------------------------------------------------------------------


def test_a_run_leaves_what_it_was_and_did(toy):
    run = toy / "run"
    assert load(str(run / "recipe.yaml")) == load(str(toy / "toy.yaml"))
    assert {p.name for p in run.iterdir()} >= {"best", "last", "recipe.yaml", "environment.json", "metrics.jsonl"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert set(lines[0]["losses"]) == {"sst.ce", "sst.oll", "quora.bce", "sts.mse"}
    assert set(lines[-1]["evaluation"]) == {"sst", "quora", "sts"}


def test_evaluate_repeats_the_scores_of_the_run(toy, mtbert):
    done = mtbert("evaluate", toy / "run" / "last")
    evaluation = json.loads((toy / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (done.code, done.err) == (0, "")
    for scores in evaluation["evaluation"].values():
        assert all(f"{value:.4f}" in done.out for value in scores["metrics"].values())
    assert f"{evaluation['aggregates']['overall']:.4f}" in done.out


def test_evaluate_scores_a_labelled_file_of_one_task(toy, mtbert):
    done = mtbert("evaluate", toy / "run", "--task", "sts", "--split", toy / "data" / "sts.csv")
    assert done.code == 0
    assert "44" in done.out
    assert "quora" not in done.out


# Prediction --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_predict_writes_a_table_in_the_order_of_its_input(toy, mtbert, tmp_path, suffix, delimiter):
    out = tmp_path / f"answers.{suffix}"
    done = mtbert("predict", toy / "run", "--task", "quora", "--input", pairs_csv(tmp_path), "--output", out)
    assert (done.code, done.out, done.err.strip()) == (0, "", f"3 answers in {out}")
    rows = table(out.read_text(), delimiter)
    assert [row["id"] for row in rows] == ["x0", "x1", "x2"]
    assert list(rows[0]) == ["id", "label", "p(0)", "p(1)"]
    assert all(float(r["p(0)"]) + float(r["p(1)"]) == pytest.approx(1) for r in rows)
    backwards = tmp_path / "backwards.csv"
    header, *lines = (tmp_path / "pairs.csv").read_text().splitlines()
    backwards.write_text("\n".join([header, *lines[::-1]]) + "\n")
    again = table(mtbert("predict", toy / "run", "--task", "quora", "--input", backwards).out)
    assert [row["id"] for row in again] == ["x2", "x1", "x0"]
    for one, other in zip(rows, again[::-1], strict=True):
        assert float(one["p(1)"]) == pytest.approx(float(other["p(1)"]), rel=1e-5)


def test_predict_writes_json_lines(toy, mtbert, tmp_path):
    out = tmp_path / "answers.jsonl"
    assert mtbert("predict", toy / "run", "--task", "sts", "--input", pairs_csv(tmp_path), "--output", out).code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["x0", "x1", "x2"]
    assert all(0 <= row["score"] <= 5 for row in rows)


def test_standard_input_and_output_are_tables_and_nothing_else(toy, mtbert, tmp_path):
    from_file = mtbert("predict", toy / "run", "--task", "sts", "--input", pairs_csv(tmp_path))
    piped = mtbert("predict", toy / "run", "--task", "sts", "--input", "-", stdin=(tmp_path / "pairs.csv").read_text())
    lines = "".join(
        json.dumps({"id": f"x{i}", "sentence1": a, "sentence2": b}) + "\n" for i, (a, b) in enumerate(PAIRS)
    )
    objects = mtbert("predict", toy / "run", "--task", "sts", "--input", "-", stdin=lines)
    assert (from_file.code, from_file.err) == (0, "")
    assert from_file.out == piped.out == objects.out
    assert [list(row) for row in table(piped.out)] == [["id", "score"]] * 3


def test_rows_without_the_id_column_are_numbered(toy, mtbert, tmp_path):
    with_ids = mtbert("predict", toy / "run", "--task", "sts", "--input", pairs_csv(tmp_path))
    without = mtbert("predict", toy / "run", "--task", "sts", "--input", pairs_csv(tmp_path, ids=False))
    assert [row["id"] for row in table(without.out)] == ["1", "2", "3"]
    assert [row["score"] for row in table(without.out)] == [row["score"] for row in table(with_ids.out)]


def test_one_text_or_pair_is_answered_in_one_line(toy, mtbert):
    done = mtbert("predict", toy / "run", "--task", "sst", "--text", "not bad")
    assert re.fullmatch(r"[0-4](  p\([0-4]\) 0\.\d{4}){5}\n", done.out)
    done = mtbert("predict", toy / "run", "--task", "sts", "--text", "old", "--text-pair", "new")
    assert re.fullmatch(r"score [0-5]\.\d{4}\n", done.out)
    assert done.err == ""


def test_embeddings_are_written_as_npy_or_safetensors(toy, mtbert, tmp_path):
    for name in ("v.npy", "v.safetensors"):
        arguments = ("--input", pairs_csv(tmp_path), "--output", tmp_path / "a.csv", "--embeddings", tmp_path / name)
        assert f"3 vectors in {tmp_path / name}" in mtbert("predict", toy / "run", "--task", "sts", *arguments).err
    vectors = np.load(tmp_path / "v.npy")
    assert (vectors.shape, vectors.dtype) == ((3, 16), np.float32)
    np.testing.assert_array_equal(load_file(tmp_path / "v.safetensors")["vectors"], vectors)


# Recipes and data --------------------------------------------------------------------------------


def test_recipe_show_prints_a_recipe_that_loads_to_the_same(mtbert, tmp_path):
    done = mtbert("recipe", "show", "demo", "--set", "train.epochs=9")
    (tmp_path / "shown.yaml").write_text(done.out)
    assert load(str(tmp_path / "shown.yaml")) == load("demo", ["train.epochs=9"])


def test_recipe_list_and_schema(mtbert):
    assert mtbert("recipe", "list").out.splitlines() == shipped()
    assert set(json.loads(mtbert("recipe", "schema").out)["properties"]) == {"extends", *Recipe.model_fields}


def test_data_check_exits_with_2_on_an_error_and_on_a_warning_only_with_strict(toy, mtbert):
    # sts has the same file for train and dev.
    done = mtbert("data", "check", toy / "toy.yaml")
    assert (done.code, done.err) == (0, "")
    assert mtbert("data", "check", toy / "toy.yaml", "--strict").code == 2
    clean = ("--set", "tasks.sts=", "--set", "tasks.quora=")
    assert mtbert("data", "check", toy / "toy.yaml", *clean).code == 0
    assert "gone.csv" in mtbert("data", "check", toy / "toy.yaml", "--set", "tasks.sst.train=gone.csv").mistake
    assert "model.freeze: 9" in mtbert("data", "check", toy / "toy.yaml", "--set", "model.freeze=9").mistake


# Help --------------------------------------------------------------------------------------------


def test_help_needs_no_torch():
    code = (
        "import sys, mtbert.cli\nsys.argv = ['mtbert', '--help']\ntry: mtbert.cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'datasets', 'numpy', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mtbert train demo" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "recipe show", "recipe list", "recipe schema", "data check"]
)
def test_the_help_of_a_command_has_an_example(command):
    done = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert re.search(rf"^ *(\S+ \S+ \| )?mtbert {command}", done.output.replace("│", " "), re.MULTILINE)


# Mistakes ----------------------------------------------------------------------------------------

DISTILBERT = {"model_type": "distilbert", "vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
DISTILBERT |= {"max_position_embeddings": 32}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.epoch=3"], "recipe {toy}/toy.yaml, train: unknown key 'epoch'. Did you mean 'epochs'?"),
        (["lr"], "--set lr: give a.b=value, as in --set train.lr=2e-5."),
        (["tasks.sts.head=cosine"], "tasks.sts: head 'cosine' compares two vectors, so inputs must be 'separate'"),
        (["tasks.sst.train=sts_.csv"], "sts_.csv: there is no such file. Did you mean 'sts.csv'? Relative paths start"),
        (["tasks.sst.train=bad.csv"], "bad.csv, line 3, column 'sentiment': 'good' is not one of the classes '0', '1'"),
        (["tasks.sts.range=[0, 4]"], "sts.csv, line 11, column 'similarity': 4.5 is outside the task's range."),
        (["model.max_length=33"], "model.max_length: 33 is more than the 32 positions of {toy}/encoder."),
        (["model.path={toy}/data"], "{toy}/data/config.json: not there. Give the folder of a model"),
        (["model.path={toy}/gone"], "{toy}/gone: must be a folder, a hub id (org/name) or 'demo', found nothing."),
        (["model.path={toy}/other"], "{toy}/other: 32 weights of a distilbert encoder are missing: transformer"),
        (["train.device=tpu"], "train.device: must be 'auto', 'cpu', 'cuda' or 'mps', found \"tpu\"."),
    ],
)  # fmt: skip
def test_a_mistake_in_a_recipe_is_one_line_before_anything_is_written(toy, mtbert, tmp_path, settings, said):
    (toy / "data" / "bad.csv").write_text("id,sentence,sentiment\na,dog,0\nb,cat,good\n")
    (toy / "other").mkdir(exist_ok=True)
    (toy / "other" / "config.json").write_text(json.dumps(DISTILBERT))
    shutil.copy(toy / "encoder" / "model.safetensors", toy / "other")
    labels = "tasks.sst.labels=['0', '1', '2', '3', '4']"
    options = [part for s in (labels, *settings) for part in ("--set", s.format(toy=toy))]
    done = mtbert("train", toy / "toy.yaml", "--out", tmp_path / "run", *options)
    assert said.format(toy=toy) in done.mistake
    assert not (tmp_path / "run").exists()


def test_several_mistakes_in_a_recipe_are_a_line_each(toy, mtbert):
    done = mtbert("recipe", "show", toy / "toy.yaml", "--set", "train.lr=x", "--set", "model.max_length=2")
    assert done.code == 2
    assert [line.split(", ")[1] for line in done.err.splitlines()] == [
        "model.max_length: must be greater than or equal to 8",
        "train.lr: must be a valid number",
    ]


def test_train_wants_a_recipe_or_a_run_to_go_on_with(toy, mtbert, tmp_path):
    wanted = "give a RECIPE (with --out, --set), or --resume RUN alone. See: mtbert train --help"
    assert mtbert("train").mistake == wanted
    assert mtbert("train", "demo", "--resume", toy / "run").mistake == wanted
    assert mtbert("train", "--resume", toy / "run", "--set", "a=b").mistake == wanted
    assert mtbert("train", "gone.yaml").mistake.startswith("recipe gone.yaml: no such file and no such shipped recipe.")
    run = toy / "run"
    assert mtbert("train", toy / "toy.yaml", "--out", run).mistake == (
        f"{run}: exists. Go on with: mtbert train --resume {run}; or give another --out, or --overwrite."
    )
    assert mtbert("train", "--resume", tmp_path).mistake == (
        f"{tmp_path}: no run here (no recipe.yaml). Start one with: mtbert train RECIPE --out {tmp_path}"
    )


def with_own_data(toy: Path, run: Path) -> Path:
    """Gives a copied run a copy of the data beside it; returns their folder."""
    data = Path(shutil.copytree(toy / "data", run.parent / "data"))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["root"] = str(data)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return data


def test_a_run_does_not_go_on_with_other_data(toy, mtbert, run_copy):
    data = with_own_data(toy, run_copy)
    (data / "sst.csv").write_text((data / "sst.csv").read_text().replace("s0,", "s00,"))
    said = f"sst.csv: changed since the run in {run_copy} began. Put the old file back, or start a new run."
    done = mtbert("train", "--resume", run_copy)
    assert (done.code, done.err) == (2, f"mtbert: {said}\n")


def test_evaluate_reads_changed_data_with_the_range_that_the_model_learnt(toy, mtbert, run_copy):
    data = with_own_data(toy, run_copy)
    (data / "sts.csv").write_text((data / "sts.csv").read_text() + "t99,a,b,7\n")
    said = "sts.csv, line 46, column 'similarity': 7 is outside the task's range. Give 0 to 5, or drop the row."
    assert mtbert("evaluate", run_copy).mistake == said


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("best/heads.safetensors", None, "damaged or half-written"),
        ("best/model.safetensors", None, "model.safetensors"),
        ("best/mtbert.json", b"{", "mtbert.json"),
        ("best/mtbert.json", b"\xff", "mtbert.json"),
        ("best/mtbert.json", b"[]", "mtbert.json: damaged or not ours"),
        ("best/mtbert.json", b'{"format": 1, "tasks": {}}', "mtbert.json: damaged or not ours: pooling"),
        ("best/tokenizer.json", b"{", "tokenizer.json: not a tokenizer"),
        ("best/config.json", b"{", "config.json: not JSON"),
    ],
)
def test_a_damaged_model_is_named(mtbert, run_copy, file, content, said):
    path = run_copy / file
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)
    mistake = mtbert("predict", run_copy, "--task", "sst", "--text", "a dog").mistake
    assert str(path) in mistake
    assert said in mistake


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("last/state.json", b"{"),
        ("last/training.safetensors", None),
        ("last/state.json", b"{}"),
        ("environment.json", b"{"),
        ("environment.json", b"{}"),
        ("environment.json", b"[1]"),
    ],
)
def test_a_damaged_state_is_named(mtbert, run_copy, file, content):
    path = run_copy / file
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)
    done = mtbert("train", "--resume", run_copy)
    assert done.code == 2
    assert str(path) in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "sts_b", "--text", "a"], "task sts_b: this model has no such task. Use sst or quora or sts."),
        (["--task", "sst"], "give --input FILE, or --text (with --text-pair for a pair). See: mtbert predict --help"),
        (["--task", "sst", "--text", "a", "--input", "b.csv"], "give --input FILE, or --text"),
        (["--task", "sst", "--input", "b.csv", "--text-pair", "a"], "give --input FILE, or --text"),
        (["--task", "sts", "--text", "a"], "task sts, text 0: takes 2 text(s), found 1: 'a'."),
        (["--task", "sst", "--text", "a", "--text-pair", "b"], "text 0: takes 1 text(s), found 2: ('a', 'b')."),
        (["--task", "sst", "--text", "  "], "task sst, text 0: must be UTF-8 text and not empty, found '  '."),
        (["--task", "sst", "--input", "gone.csv"], "gone.csv: there is no such file."),
        (["--task", "sst", "--input", "{toy}/data/sts.csv"], "sts.csv, line 1: there is no column 'sentence'"),
        (["--task", "sst", "--text", "a", "--output", "a.txt"], "--output a.txt: the file must end in .csv or .tsv or"),
        (["--task", "sst", "--text", "a", "--output", "gone/a.csv"], "--output gone/a.csv: must be a file in a folder"),
        (["--task", "sst", "--text", "a", "--embeddings", "a.pt"], "--embeddings a.pt: the file must end in .npy or"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_question_is_one_line(toy, mtbert, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert said in mtbert("predict", toy / "run", *(a.format(toy=toy) for a in arguments)).mistake
    assert list(tmp_path.iterdir()) == []


def test_an_empty_text_in_a_file_is_named_and_nothing_is_written(toy, mtbert, tmp_path):
    path = pairs_csv(tmp_path)
    path.write_text(path.read_text().replace("a cat sleeps", " "))
    done = mtbert("predict", toy / "run", "--task", "sts", "--input", path, "--output", tmp_path / "a.csv")
    assert done.mistake.startswith(f"{path}, line 2, column 'sentence2': the text is empty.")
    assert not (tmp_path / "a.csv").exists()


def test_a_mistake_in_an_evaluation_is_one_line(toy, mtbert, tmp_path):
    run = toy / "run"
    assert mtbert("evaluate", tmp_path).mistake.startswith(f"{tmp_path}: no trained model here")
    assert mtbert("evaluate", run, "--task", "x").mistake.startswith("task x: this model has no such task.")
    assert mtbert("evaluate", run, "--split", "test.csv").mistake == (
        "--split test.csv: say whose labels these are, with --task sst or --task quora or --task sts."
    )
    gone = mtbert("evaluate", run, "--task", "sst", "--split", tmp_path / "test.csv").mistake
    assert gone == f"{tmp_path}/test.csv: there is no such file. Check the path."
    moved = Path(shutil.copytree(run / "best", tmp_path / "moved"))
    assert mtbert("evaluate", moved).mistake.startswith(f"{moved}: no recipe.yaml here or one folder up")


def test_a_label_that_looks_like_markup_is_told_as_it_is(toy, mtbert, run_copy):
    card = run_copy / "best" / "mtbert.json"
    labels = ["[b]", "[/b]", ":smile:", "3", "4"]
    content = json.loads(card.read_text())
    content["tasks"]["sst"]["labels"] = labels
    card.write_text(json.dumps(content))
    told = mtbert("predict", run_copy, "--task", "sst", "--text", "a dog").out
    assert all(f"p({label}) " in told for label in labels)
    assert told.split("  ")[0] in labels


def test_the_error_of_a_bug_is_not_hidden(monkeypatch):
    def bug(**_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(cli, "app", bug)
    with pytest.raises(KeyError):
        cli.main()


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    def fail(**_: object) -> None:
        torch.empty(2**60)

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("mtbert: out of memory. Set train.token_budget,")


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("a"), 2), (PermissionError("a"), 2), (FloatingPointError("a"), 1), ("Stopped", 130)]
)
def test_exit_codes_tell_a_mistake_from_a_failure_and_a_stop(error, code, monkeypatch, capsys):
    from mtbert.train import Stopped

    def fail(**_: object) -> None:
        raise Stopped("a") if error == "Stopped" else error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, capsys.readouterr().err) == (code, "mtbert: a\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "toy", "--nope"], "No such option: --nope"),
        (["retrain"], "No such command 'retrain'."),
        (["predict", "run"], "Missing option '--task'."),
        (["train"], "give a RECIPE (with --out, --set), or --resume RUN alone."),
    ],
)
def test_a_mistake_in_the_options_is_one_line(mtbert, arguments, said):
    assert mtbert(*arguments).mistake.startswith(said)


@pytest.mark.parametrize("option", ["--output", "--embeddings"])
def test_the_input_file_is_never_written_over(toy, mtbert, tmp_path, option):
    suffix = ".csv" if option == "--output" else ".npy"
    source = pairs_csv(tmp_path).rename(tmp_path / f"input{suffix}")
    before = source.read_bytes()
    said = mtbert("predict", toy / "run", "--task", "quora", "--input", source, option, source).mistake
    assert said == f"{option} {source}: is the input file. Give another."
    assert source.read_bytes() == before


def test_bytes_that_are_no_text_are_refused(toy, mtbert):
    said = mtbert("predict", toy / "run", "--task", "sst", "--text", "a \udcff b").mistake
    assert said.startswith("task sst, text 0: must be UTF-8 text and not empty, found 'a \\udcff b'")


def test_a_name_too_long_for_a_file_is_one_line(toy, mtbert):
    assert mtbert("train", toy / "toy.yaml", "--out", "a" * 300).mistake.endswith("File name too long. Check the path.")


def test_a_mistake_in_the_settings_leaves_the_run_to_be_overwritten_alone(toy, mtbert, run_copy):
    before = {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()}
    for change in ("train.betas=[2, 0.9]", "tasks.sst.train=gone.csv", "model.max_length=4000"):
        assert mtbert("train", toy / "toy.yaml", "--out", run_copy, "--overwrite", "--set", change).mistake
    assert {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()} == before


def test_a_run_that_another_process_trains_is_left_alone(toy, mtbert, run_copy):
    with FileLock(run_copy / "lock"):
        before = {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()}
        for call in (("--resume", run_copy), (toy / "toy.yaml", "--out", run_copy, "--overwrite")):
            said = mtbert("train", *call).mistake
            assert said == f"{run_copy}: another mtbert train is at work there. Wait for it, or give another --out."
        assert {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"done": 99}, "its state is not of this run (99 steps of 2, 3 tasks)."),
        ({"taken": []}, "its state is not of this run (2 steps of 2, 0 tasks)."),
        ({"generator": "00"}, "its state is not of this run"),
        ({"metrics_bytes": 10**9}, "shorter than at the last checkpoint."),
    ],
)
def test_a_state_of_another_run_is_refused(mtbert, run_copy, change, said):
    path = run_copy / "last" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    done = mtbert("train", "--resume", run_copy)
    assert done.code == 2
    assert said in done.err.splitlines()[-1]


def test_a_tokenizer_with_more_words_than_the_encoder_is_refused(toy, mtbert, tmp_path):
    other = Path(shutil.copytree(toy / "encoder", tmp_path / "encoder"))
    with (other / "vocab.txt").open("a") as file:
        file.write("zebra\n")
    done = mtbert("train", toy / "toy.yaml", "--out", tmp_path / "run", "--set", f"model.path={other}")
    assert f"{other}: the tokenizer gives ids up to 28, but the encoder has 28 embeddings." in done.mistake


@pytest.mark.parametrize(("recipe", "folder"), [("paper/base", "runs/paper/base"), ("my/own.yaml", "runs/own")])
def test_a_run_without_out_is_named_for_its_recipe(toy, mtbert, tmp_path, monkeypatch, recipe, folder):
    seen = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    shutil.copy(toy / "toy.yaml", tmp_path / "my/own.yaml")
    monkeypatch.setattr("mtbert.launch.start", lambda settings, out, console, **_: seen.append(out))
    assert mtbert("train", recipe).code == 0
    assert seen == [Path(folder)]
