"""Cells that hold sets of labels (lists, joined names, or a column for each label), and recipes that name them."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy_run

from mtbert.answers.known import ANSWER_TYPES
from mtbert.data.cells import as_labels, as_yes_no
from mtbert.data.labels import complete, labelled_examples
from mtbert.data.memory import arrow_table
from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns, Table
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import validate_recipe
from mtbert.task import Task

NAN = np.nan
SETS = Columns(separator=";")
WIDE = Columns(label=("toxic", "insult"), separator=";")
FREE = Task(name="t", type="multilabel", inputs="single")


def table(folder: Path, name: str, content: str, columns: Columns = SETS) -> Table:
    (folder / name).write_text(content)
    return read(Source(path=name), columns, folder, texts=1)


def refused(folder: Path, name: str, content: str, columns: Columns = SETS) -> str:
    with pytest.raises(ValueError, match=re.escape(name)) as error:
        table(folder, name, content, columns)
    return str(error.value)


# Cells --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("a; b ;c", ["a", "b", "c"]),
        ("a", ["a"]),
        ("a;;b;", ["a", "b"]),
        ("b;a;b", ["b", "a"]),
        ("1.0;2", ["1", "2"]),
        ('["a", "b;c"]', ["a", "b;c"]),
        ("['a', 'b']", ["a", "b"]),
        ("[]", []),
        (" [3, 3.0, true] ", ["3", "true"]),
        (["a", " b ", 7, True], ["a", "b", "7", "true"]),
        ([], []),
        (("é", "é"), ["é"]),
        (5, ["5"]),
    ],
)
def test_a_cell_becomes_a_json_list_in_which_each_name_stands_once(cell: object, names: list[str]):
    assert as_labels(cell, ";") == json.dumps(names, ensure_ascii=False)


@pytest.mark.parametrize("cell", [None, "", "  ", "nan", NAN, "NaN"])
def test_an_empty_cell_is_a_missing_label_and_no_empty_set(cell: object):
    assert as_labels(cell, ";") is None


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (" ; ;", "'; ;' names no label. Write [] for an empty set, or leave the cell empty."),
        ("[a, b]", """'[a, b]' is no list. Write it as ["a", "b"], or drop the row."""),
        ("[" * 100_000, """ is no list. Write it as ["a", "b"], or drop the row."""),
        (["a", ""], "a label of a set must not be empty, found ['a', '']. Fix or drop the row."),
        (["a", None], "a label of a set must not be empty, found ['a', None]. Fix or drop the row."),
        ([["a"]], "the label of a set must be one value, found ['a']. Fix or drop the row."),
        ({"a": 1}, "the label must be one value, found {'a': 1}. Fix or drop the row."),
        (["\ud83d"], "the label of a set holds half a surrogate pair. Fix or drop the row."),
    ],
)
def test_a_cell_that_is_no_set_is_refused(cell: object, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        as_labels(cell, ";")


def test_another_separator_may_stand_between_the_names():
    assert as_labels("a;b, c", ",") == '["a;b", "c"]'
    assert as_labels("a b  c", " ") == '["a", "b", "c"]'


def test_yes_and_no_are_written_as_numbers_or_truth_values():
    assert [as_yes_no(x) for x in (1, "0", 1.0, "0.0", True, "False")] == [1, 0, 1, 0, 1, 0]
    assert all(math.isnan(as_yes_no(x)) for x in (None, "", " ", NAN, "NaN"))
    for wrong in (2, "yes", -1):
        with pytest.raises(ValueError, match=re.escape(f"must be 0, 1 or empty, found {wrong!r}. Fix or drop")):
            as_yes_no(wrong)


# Files --------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_sets(tmp_path: Path):
    rows: list[tuple[str, list[str] | None]] = [("one", ["b", "a"]), ("two", []), ("three", None), ("four", ["c"])]
    with (tmp_path / "s.csv").open("w", newline="") as file:
        written = [(text, "" if names is None else ";".join(names) or "[]") for text, names in rows]
        csv.writer(file).writerows([("text", "label"), *written])
    objects = [{"text": text, "label": names} for text, names in rows]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, objects)))
    (tmp_path / "s.json").write_text(json.dumps(objects))
    pq.write_table(pa.Table.from_pylist(objects), tmp_path / "s.parquet")
    for given, name in ((objects, "l"), (pd.DataFrame(objects), "p"), (pa.Table.from_pylist(objects), "a")):
        pq.write_table(arrow_table(given, [SETS], "rows"), tmp_path / f"{name}.parquet")
    for name in ("s.csv", "s.jsonl", "s.json", "s.parquet", "l.parquet", "p.parquet", "a.parquet"):
        found = read(Source(path=name), SETS, tmp_path, texts=1)
        assert "dropped 1 row without a label in column 'label'" in found.warnings[0], name
        task = complete(FREE, [found])
        assert task.labels == ("a", "b", "c"), name
        expected = [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
        np.testing.assert_array_equal(labelled_examples(found, task).labels, expected, name)


def test_rows_in_memory_may_hold_arrays_as_pandas_reads_them():
    given = pd.DataFrame({"text": ["a", "b"], "label": [np.array(["x", "y"]), np.array([])]})
    assert arrow_table(given, [SETS], "rows")["label"].to_pylist() == ['["x", "y"]', "[]"]


def test_a_wrong_cell_is_named_by_its_place(tmp_path: Path):
    assert refused(tmp_path, "s.csv", "text,label\na,x\nb,[x\n").startswith(
        "s.csv, line 3, column 'label': '[x' is no list."
    )
    found = table(tmp_path, "d.csv", "text,label\na,x;y\nb,x;z\n")
    with pytest.raises(ValueError, match=r"^d.csv, line 3, column 'label': 'z' is not one of the classes 'x', 'y'\."):
        labelled_examples(found, FREE.model_copy(update={"labels": ("x", "y")}))


def test_a_list_for_a_task_of_one_label_is_refused_and_sets_are_proposed(tmp_path: Path):
    said = refused(
        tmp_path, "a.jsonl", '{"text": "a", "label": ["x"]}', Columns().read_by(ANSWER_TYPES["classification"])
    )
    assert said == (
        "a.jsonl, line 1, column 'label': the label must be one value, found ['x']. Fix or drop the row, or use "
        "columns.votes, columns.shares or type: multilabel."
    )


# A column for each label ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet", "memory"])
def test_columns_of_0_and_1_are_labels_and_an_empty_one_is_missing(tmp_path: Path, kind: str):
    rows: list[dict[str, Any]] = [
        {"text": "one", "toxic": 1, "insult": 0},
        {"text": "two", "toxic": None, "insult": None},
        {"text": "three", "toxic": None, "insult": 1},
        {"text": "four", "toxic": 0, "insult": 0},
    ]
    if kind == "csv":
        pd.DataFrame(rows).to_csv(tmp_path / "w.csv", index=False)  # as 1.0 and 0.0
    else:
        pq.write_table(
            arrow_table(rows, [WIDE], "rows") if kind == "memory" else pa.Table.from_pylist(rows),
            tmp_path / "w.parquet",
        )
    name = "w.csv" if kind == "csv" else "w.parquet"
    found = read(Source(path=name), WIDE, tmp_path, texts=1)
    unit = "line 3" if kind == "csv" else "row 2"
    assert found.warnings == (f"{name}: dropped 1 row without a label in columns 'toxic', 'insult' (first: {unit}).",)
    task = FREE.model_copy(update={"labels": ("toxic", "insult")})
    np.testing.assert_array_equal(labelled_examples(found, task).labels, [[1, 0], [NAN, 1], [0, 0]])


def test_a_wrong_or_missing_column_of_a_label_is_named(tmp_path: Path):
    said = refused(tmp_path, "w.csv", "text,toxic,insult\na,1,0\nb,0,2\n", WIDE)
    assert said == "w.csv, line 3, column 'insult': must be 0, 1 or empty, found '2'. Fix or drop the row."
    said = refused(tmp_path, "w.csv", "text,toxic,insults\na,1,0\n", WIDE)
    assert "w.csv, line 1: there is no column 'insult', found 'text', 'toxic', 'insults'. Did you mean" in said


# Recipes ------------------------------------------------------------------------------------------------


def task(**given: Any) -> TaskRecipe:
    return validate_recipe({"tasks": {"t": {"inputs": "single", "train": "x.csv"} | given}}, "r").tasks["t"]


def test_a_task_of_sets_has_a_separator_and_columns_give_it_labels():
    assert task(type="multilabel").columns.separator == ";"
    assert task(type="multilabel", columns={"separator": "|"}).columns.separator == "|"
    assert task(type="classification").columns.separator is None
    assert task(type="multilabel", columns={"label": ["b", "a"]}).labels == ("b", "a")
    named = task(type="multilabel", columns={"label": ["b", "a"]}, labels={"a": "art", "b": "ball"})
    assert (named.labels, named.codes) == (("art", "ball"), ("a", "b"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"type": "binary", "columns": {"separator": ";"}},
            "separator: ';' is for sets of labels, found type 'binary'. Drop it.",
        ),
        ({"type": "ordinal", "columns": {"label": ["a", "b"]}}, "label: ['a', 'b'] is for sets of labels"),
        (
            {"type": "multilabel", "columns": {"label": ["a", "b"]}, "labels": ["a", "c"]},
            "columns.label and labels must name the same, found 'a', 'b' and 'a', 'c'. Drop labels, or map",
        ),
        ({"type": "multilabel", "columns": {"label": ["a", "a"]}}, "label must name different columns, found 'a', 'a'"),
        ({"type": "multilabel", "columns": {"label": ["a"]}}, "type 'multilabel' needs at least 2 labels, found 1"),
        ({"type": "multilabel", "columns": {"separator": ""}}, "tasks.t.columns.separator"),
        ({"type": "multilabel", "losses": ["ce"]}, "loss 'ce' needs one logit per class, which type 'multilabel'"),
        ({"type": "binary", "losses": ["asl"]}, "loss 'asl' needs one logit for each label of a set, which type"),
        ({"type": "multilabel", "head": "cosine"}, "head 'cosine'"),
        ({"type": "multilabel", "range": [0, 1]}, "range is for regression"),
        (
            {"type": "multilabel", "labels": ["a", "b", "c"], "losses": [{"kind": "bce", "class_weights": [1, 2]}]},
            "loss 'bce': class_weights must be one number per class, found 2 for 3 labels.",
        ),
    ],
)
def test_a_recipe_that_does_not_fit_sets_is_refused(given: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        task(**given)


def test_a_generated_task_gives_sets_of_one_label_each(tmp_path: Path):
    raw = toy_run.raw_recipe(tmp_path)
    raw["tasks"] = {"t": {"type": "multilabel", "inputs": "single", "train": {"generated": "sst", "split": "dev"}}}
    settings = validate_recipe(raw, "r").tasks["t"]
    found = read(settings.train, settings.columns, tmp_path, texts=1)
    assert found.labels[0] in ('["0"]', '["1"]', '["2"]', '["3"]', '["4"]')
