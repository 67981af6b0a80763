"""Rows in which the text of a task is empty: this task gives no answer to them, but the other tasks do."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from commands import Mtbert

HEAD = "id,sentence,sentence1,sentence2\n"
ROWS = HEAD + "a,a dog runs,old,new\nb, ,a cat,a dog\nc,a film,bad,\nd,,,\ne,fine,the dog,the cat\n"
SST = ["sst.label", *(f"sst.p({i})" for i in range(5))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text(ROWS)
    return path


def warning(file: Path) -> str:
    told = "2 rows of task sst, 2 rows of task quora, 2 rows of task sts"
    return f"warning: {file}: no answer in {told}, because a text is empty (first: line 3)."


def test_a_task_answers_null_where_its_text_is_empty_and_the_others_answer(
    mtbert: Mtbert, toy: Path, file: Path, tmp_path: Path
):
    out, full = tmp_path / "out.jsonl", tmp_path / "full.jsonl"
    done = mtbert("predict", toy / "run", "--input", file, "--output", out)
    assert done.err.splitlines() == [warning(file), f"done: 5 rows with the answers of sst, quora, sts in {out}"]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == list("abcde")
    there = [[row["id"] for row in rows if row[task] is not None] for task in ("sst", "quora", "sts")]
    assert there == [["a", "c", "e"], ["a", "b", "e"], ["a", "b", "e"]]
    for task, kept in (("sst", "ace"), ("sts", "abe")):
        lines = [line for line in ROWS.splitlines() if line[0] in kept]
        file.write_text("\n".join([HEAD.strip(), *lines]))
        assert (
            mtbert("predict", toy / "run", "--task", task, "--input", file, "--output", full, "--overwrite").code == 0
        )
        alone = [json.loads(line) for line in full.read_text().splitlines()]
        together = [row[task] for row in rows if row[task] is not None]
        for one, other in zip(alone, together, strict=True):
            assert other == {key: pytest.approx(one[key], abs=1e-5) for key in other}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_in_a_table_the_cells_of_such_an_answer_are_empty(
    mtbert: Mtbert, toy: Path, file: Path, tmp_path: Path, suffix: str
):
    file.write_text("\n".join([HEAD.strip(), *ROWS.splitlines()[2:]]))  # the first row has no answer of sst
    out = tmp_path / f"out.{suffix}"
    done = mtbert("predict", toy / "run", "--input", file, "--output", out, "--unsure", 0.3)
    assert done.code == 0, done
    found = pd.read_parquet(out) if suffix == "parquet" else pd.read_csv(out, sep="\t" if suffix == "tsv" else ",")
    quora = ["quora.label", "quora.p(0)", "quora.p(1)", "quora.probability", "quora.unsure"]
    assert list(found) == [
        "id",
        "sentence",
        "sentence1",
        "sentence2",
        *SST,
        "sst.probability",
        "sst.unsure",
        *quora,
        "sts.score",
    ]
    for name, missing in ((SST[0], "bd"), ("sst.unsure", "bd"), ("quora.p(1)", "cd"), ("sts.score", "cd")):
        assert "".join(found["id"][found[name].isna()]) == missing, name
    assert (found["sst.unsure"] == True).sum() == 1  # noqa: E712  # three tenths of two answers, rounded up


def test_the_warning_counts_rows_of_the_tasks_that_are_asked(mtbert: Mtbert, toy: Path, file: Path):
    done = mtbert("predict", toy / "run", "--task", "sts", "--task", "quora", "--input", file)
    told = "2 rows of task sts, 2 rows of task quora"
    assert f"no answer in {told}, because a text is empty (first: line 4)." in done.err
    assert [row["sts.score"] == "" for row in csv.DictReader(done.out.splitlines())] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_a_task_whose_texts_are_all_empty_is_left_out(mtbert: Mtbert, toy: Path, file: Path):
    file.write_text(HEAD + "a,,old,new\n")
    done = mtbert("predict", toy / "run", "--input", file)
    assert done.err == f"warning: {file}: left out: sst (a text is empty in every row).\n"
    assert done.out.splitlines()[0] == "id,sentence,sentence1,sentence2,quora.label,quora.p(0),quora.p(1),sts.score"
    file.write_text(HEAD + "a,,old,\n")
    said = mtbert("predict", toy / "run", "--input", file).mistake
    assert said.startswith(f"{file}: no task can answer: sst (a text is empty in every row), quora (a text")


def test_of_a_single_task_that_is_named_an_empty_text_is_an_error(mtbert: Mtbert, toy: Path, file: Path):
    said = mtbert("predict", toy / "run", "--task", "sst", "--input", file).mistake
    assert said == f"{file}, line 3, column 'sentence': the text is empty. Give a text, or drop the row."


def test_rows_without_ids_are_numbered_whether_they_have_an_answer_or_not(mtbert: Mtbert, toy: Path, file: Path):
    file.write_text("".join(line.partition(",")[2] for line in ROWS.splitlines(keepends=True)))
    done = mtbert("predict", toy / "run", "--input", file)
    assert [row["id"] for row in csv.DictReader(done.out.splitlines())] == ["1", "2", "3", "4", "5"]
