"""The command ``predict``: its answers, the columns of its files, and the one line that a mistake prints."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from mtbert import load


def table(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


PAIRS = [("the dog runs", "a cat sleeps"), ("a very long film is dull dull dull", "bad"), ("old", "new")]


def pairs_csv(folder: Path, *, ids: bool = True) -> Path:
    rows = [f"x{i},{a},{b}\n" if ids else f"{a},{b}\n" for i, (a, b) in enumerate(PAIRS)]
    path = folder / "pairs.csv"
    path.write_text(("id," if ids else "") + "sentence1,sentence2\n" + "".join(rows))
    return path


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_predict_writes_a_table_in_the_order_of_its_input(toy, mtbert, tmp_path, suffix, delimiter):
    out = tmp_path / f"answers.{suffix}"
    done = mtbert("predict", toy / "run", "--task", "quora", "--input", pairs_csv(tmp_path), "--output", out)
    assert (done.code, done.out, done.err.strip()) == (0, "", f"done: 3 answers in {out}")
    rows = table(out.read_text(), delimiter)
    assert [row["id"] for row in rows] == ["x0", "x1", "x2"]
    assert list(rows[0]) == ["id", "sentence1", "sentence2", "label", "p(0)", "p(1)"]
    assert [(row["sentence1"], row["sentence2"]) for row in rows] == PAIRS
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
    assert [list(row) for row in table(piped.out)] == [["id", "sentence1", "sentence2", "score"]] * 3


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
        arguments = ("--input", pairs_csv(tmp_path), "--output", tmp_path / f"{name}.csv", "--vectors", tmp_path / name)
        assert f"3 vectors in {tmp_path / name}" in mtbert("predict", toy / "run", "--task", "sts", *arguments).err
    vectors = np.load(tmp_path / "v.npy")
    assert (vectors.shape, vectors.dtype) == ((3, 16), np.float32)
    np.testing.assert_array_equal(load_file(tmp_path / "v.safetensors")["vectors"], vectors)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "sts_b", "--text", "a"], "task sts_b: this model has no such task. Use sst or quora or sts."),
        (["--task", "sst"], "give --input FILE, or --text (with --text-pair for a pair). See: mtbert predict --help"),
        (["--task", "sst", "--text", "a", "--input", "b.csv"], "give --input FILE, or --text"),
        (["--task", "sst", "--input", "b.csv", "--text-pair", "a"], "give --input FILE, or --text"),
        (["--task", "sts", "--text", "a"], "task sts: reads pairs of texts. Give --text-pair too."),
        (["--task", "sst", "--text", "a", "--text-pair", "b"], "text 1: takes 1 text, found 2: ('a', 'b')."),
        (["--task", "sst", "--text", "  "], "task sst, text 1: must be UTF-8 text and not empty, found '  '."),
        (["--task", "sst", "--input", "gone.csv"], "gone.csv: there is no such file."),
        (
            ["--task", "sst", "--input", "{toy}/data/sts.csv"],
            "sts.csv: there is no column 'sentence', found 'id', 'sentence1', 'sentence2', 'similarity'. Task sst "
            "reads it. To name another column: --set tasks.sst.columns.text=sentence1",
        ),
        (["--task", "sst", "--text", "a", "--output", "a.txt"], "--output a.txt: the file must end in .csv or .tsv or"),
        (["--task", "sst", "--text", "a", "--output", "gone/a.csv"], "--output gone/a.csv: must be a file in a folder"),
        (["--task", "sst", "--text", "a", "--vectors", "a.pt"], "--vectors a.pt: the file must end in .npy or"),
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


def test_a_label_that_looks_like_markup_is_printed_as_it_is(toy, mtbert, run_copy):
    card = run_copy / "best" / "mtbert.json"
    labels = ["[b]", "[/b]", ":smile:", "3", "4"]
    content = json.loads(card.read_text())
    content["tasks"]["sst"]["labels"] = labels
    card.write_text(json.dumps(content))
    told = mtbert("predict", run_copy, "--task", "sst", "--text", "a dog").out
    assert all(f"p({label}) " in told for label in labels)
    assert told.split("  ")[0] in labels


@pytest.mark.parametrize("option", ["--output", "--vectors"])
def test_the_input_file_is_never_overwritten(toy, mtbert, tmp_path, option):
    suffix = ".csv" if option == "--output" else ".npy"
    source = pairs_csv(tmp_path).rename(tmp_path / f"input{suffix}")
    before = source.read_bytes()
    said = mtbert("predict", toy / "run", "--task", "quora", "--input", source, option, source).mistake
    assert said == f"{option} {source}: is the input file. Give another."
    assert source.read_bytes() == before


def test_bytes_that_are_not_text_are_refused(toy, mtbert):
    said = mtbert("predict", toy / "run", "--task", "sst", "--text", "a \udcff b").mistake
    assert said.startswith("task sst, text 1: must be UTF-8 text and not empty, found 'a \\udcff b'")


# Columns -------------------------------------------------------------------------------------------


def test_a_column_with_the_name_of_an_answer_stays_and_a_warning_says_where_the_answer_is(toy, mtbert, tmp_path):
    (tmp_path / "in.csv").write_text("label,id,other,sentence,score\ngold,a,1,a dog runs,7\nnone,b,2,a cat sleeps,8\n")
    done = mtbert(
        "predict", toy / "run", "--task", "sst", "--input", tmp_path / "in.csv", "--output", tmp_path / "o.csv"
    )
    assert done.err.splitlines() == [
        f"{tmp_path}/in.csv: columns that the task does not read, copied as they are: 'label', 'other', 'score'.",
        "warning: the input has a column 'label', so the answers to it are in 'predicted_label'.",
        f"done: 2 answers in {tmp_path}/o.csv",
    ]
    first, second = table((tmp_path / "o.csv").read_text())
    assert list(first)[:6] == ["label", "id", "other", "sentence", "score", "predicted_label"]
    assert [first[c] for c in ("label", "id", "other", "sentence", "score")] == ["gold", "a", "1", "a dog runs", "7"]
    assert {first["predicted_label"], second["predicted_label"]} <= set("01234")


def test_ids_keep_the_name_of_their_column(toy, mtbert, tmp_path):
    (tmp_path / "in.csv").write_text("key,sentence\nk1,a dog runs\nk2,a cat sleeps\n")
    call = ("predict", toy / "run", "--task", "sst", "--input", tmp_path / "in.csv")
    done = mtbert(*call, "--set", "tasks.sst.columns.id=key")
    assert (done.code, done.err) == (0, "")
    assert [list(row)[:3] for row in table(done.out)] == [["key", "sentence", "label"]] * 2
    assert [row["key"] for row in table(done.out)] == ["k1", "k2"]
    numbered = mtbert(*call)
    assert numbered.err.splitlines() == [
        f"{tmp_path}/in.csv: columns that the task does not read, copied as they are: 'key'.",
        f"{tmp_path}/in.csv: there is no column 'id', so the output begins with one that numbers the rows from 1.",
    ]
    assert [(row["id"], row["key"]) for row in table(numbered.out)] == [("1", "k1"), ("2", "k2")]


def test_a_recipe_without_ids_adds_no_column_of_ids(toy, mtbert, tmp_path):
    (tmp_path / "in.csv").write_text("sentence\na dog runs\n")
    call = ("predict", toy / "run", "--task", "sst", "--input", tmp_path / "in.csv")
    done = mtbert(*call, "--set", "tasks.sst.columns.id=null")
    assert (done.code, done.err) == (0, "")
    assert list(table(done.out)[0])[:2] == ["sentence", "label"]


def test_a_recipe_without_ids_leaves_an_id_column_as_it_is(toy, mtbert, tmp_path):
    (tmp_path / "in.csv").write_text("sentence,id\na dog runs,x\na dog runs,\n")
    call = (
        "predict",
        toy / "run",
        "--task",
        "sst",
        "--input",
        tmp_path / "in.csv",
        "--set",
        "tasks.sst.columns.id=null",
    )
    assert [(row["sentence"], row["id"]) for row in table(mtbert(*call).out)] == [
        ("a dog runs", "x"),
        ("a dog runs", ""),
    ]


def test_names_of_columns_can_be_set(toy, mtbert, tmp_path):
    (tmp_path / "in.csv").write_text("id,one,two\nx,dog,cat\n")
    call = ("predict", toy / "run", "--task", "sts", "--input", tmp_path / "in.csv")
    assert "there is no column 'sentence1'" in mtbert(*call).mistake
    done = mtbert(*call, "--set", "tasks.sts.columns.text=[one, two]")
    asked = mtbert("predict", toy / "run", "--task", "sts", "--text", "dog", "--text-pair", "cat").out
    assert table(done.out)[0] | {"score": ""} == {"id": "x", "one": "dog", "two": "cat", "score": ""}
    assert float(table(done.out)[0]["score"]) == pytest.approx(float(asked.split()[1]), abs=1e-4)


def test_parquet_goes_in_and_out_with_its_types(toy, mtbert, tmp_path):
    frame = pd.DataFrame({"n": [3, 1], "sentence": ["a dog runs", "a cat sleeps"], "id": ["a", "b"]})
    frame.to_parquet(tmp_path / "in.parquet")
    call = ("predict", toy / "run", "--task", "sst", "--input", tmp_path / "in.parquet")
    assert mtbert(*call, "--output", tmp_path / "out.parquet").code == 0
    found = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(found[list(frame)], frame)
    assert list(found)[3:] == ["label", "p(0)", "p(1)", "p(2)", "p(3)", "p(4)"]
    assert found["p(1)"].dtype == np.float64


def test_one_text_in_a_file_stands_beside_its_answer(toy, mtbert, tmp_path):
    out = tmp_path / "a.jsonl"
    call = ("predict", toy / "run", "--task", "sts", "--text", "old", "--text-pair", "new", "--output", out)
    assert mtbert(*call).err == f"done: 1 answer in {out}\n"
    (row,) = map(json.loads, out.read_text().splitlines())
    assert list(row) == ["text", "text_pair", "score"]
    assert (row["text"], row["text_pair"]) == ("old", "new")


def test_numbers_have_six_digits_in_a_file_and_all_digits_in_python(toy, mtbert, tmp_path):
    (row,) = table(mtbert("predict", toy / "run", "--task", "sst", "--input", "-", stdin="id,sentence\na,a dog\n").out)
    exact = load(toy / "run").predict("sst", "a dog")[0]
    shares = [value for key, value in row.items() if key.startswith("p(")]
    assert all(re.fullmatch(r"0\.\d{1,6}", share) for share in shares)
    assert [float(share) for share in shares] == pytest.approx(list(exact.values())[1:], rel=1e-5)
    assert any(len(str(value)) > 10 for value in list(exact.values())[1:])
