"""Rows from memory for a table that several tasks read."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import toy_table

import mtbert
from mtbert.data.memory import arrow_table
from mtbert.data.tables import Columns
from mtbert.recipe.files import load_recipe

table_folder = toy_table.table_folder


def test_rows_from_memory_are_given_by_the_name_of_their_table(table_folder: Path):
    recipe = toy_table.raw_table_recipe(table_folder)
    with (table_folder / "data/reviews.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    from_file = mtbert.train(recipe, out=table_folder / "file")
    recipe["tables"]["reviews"] = {k: v for k, v in toy_table.TABLE.items() if k != "train"}
    from_memory = mtbert.train(recipe, data={"reviews": rows}, out=table_folder / "memory")
    assert dict(from_memory.scores) == dict(from_file.scores)
    again = load_recipe(str(table_folder / "memory/recipe.yaml"))
    assert again.tables["reviews"].train.path == "data/reviews-train.parquet"
    assert dict(mtbert.evaluate(table_folder / "memory")) == dict(from_memory.scores)
    fewer = [{k: v for k, v in row.items() if k not in ("stars", "spam")} for row in rows]
    with pytest.warns(mtbert.MtbertWarning) as heard:
        found = mtbert.evaluate(table_folder / "file", data={"reviews": fewer})
    assert list(found) == ["topics"]
    assert [line for one in heard if "left out" in (line := str(one.message))] == [
        "data of table reviews: left out: stars (no column 'stars'), spam (no column 'spam'). To name columns: "
        "changes=['tasks.stars.columns.label=COLUMN', 'tasks.spam.columns.label=COLUMN']"
    ]
    other = [{"text" if k == "body" else k: v for k, v in row.items()} for row in rows]
    with pytest.raises(
        ValueError, match=r"'body', .*\['tables.reviews.columns.text=COLUMN', 'tasks.topics.columns.text=\[title, C"
    ):
        mtbert.evaluate(table_folder / "file", data={"reviews": other})
    with pytest.raises(ValueError, match=r"line 1: there is no column 'x', .*\['tasks.spam.columns.label=COLUMN'\] \("):
        mtbert.evaluate(table_folder / "file", changes=["tasks.spam.columns.label=x"])
    toy_table.write_table(table_folder / "data", "test.csv")
    changes = ["tables.reviews.test=test.csv", "tasks.spam.columns.label=x"]
    with pytest.raises(
        ValueError, match=r"test.csv, line 1: there is no column 'x', .*\['tasks.spam.columns.label=COL"
    ):
        mtbert.evaluate(table_folder / "file", "test", changes=changes)
    rows[0]["spam"] = "maybe"
    with pytest.raises(ValueError, match=r"row 1, column 'spam': 'maybe' is not .* never gives this answer\."):
        mtbert.evaluate(table_folder / "file", data={"reviews": rows}, task="spam")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"stars": []}, "data: task 'stars' reads table 'reviews'. Give data={'reviews': rows}."),
        ({"review": []}, "data: no table and no task with data of its own is called 'review'. Did you mean 'reviews'?"),
        ({"reviews": {"trian": []}}, "data of reviews: there is no split 'trian'. Did you mean 'train'?"),
        ({"reviews": []}, "data of table reviews: no rows. Add rows."),
        (
            {"reviews": [{"body": "a", "key": 1}]},
            "data of table reviews: there is no column 'title', found 'body', 'key'.",
        ),
    ],
)
def test_rows_from_memory_that_fit_no_table_are_refused(data: Any, said: str, table_folder: Path):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        mtbert.train(toy_table.raw_table_recipe(table_folder), data=data, out=table_folder / "run")


def test_a_column_that_one_task_reads_as_a_set_and_one_as_a_class_stays_as_it_is(table_folder: Path):
    sets = Columns(text=("a",), label="tags", separator=";")
    plain = Columns(text=("b",), label="tags", id="a")
    rows = [{"a": "x", "b": "y", "tags": "p;q"}]
    for each in ([sets, plain], [plain, sets]):
        table = arrow_table(rows, each, "rows")
        assert set(table.column_names) == {"a", "b", "tags"}
        assert table["tags"].to_pylist() == ["p;q"]
    assert arrow_table(rows, [sets], "rows")["tags"].to_pylist() == ['["p", "q"]']


def test_without_train_and_rows_both_ways_to_give_them_are_named(table_folder: Path):
    recipe = toy_table.raw_table_recipe(table_folder)
    recipe["tables"]["reviews"] = {"batch_size": 2}
    with pytest.raises(ValueError, match=r"tables\.reviews\.train: must be given, or data=\{'reviews': rows\}\.$"):
        mtbert.train(recipe, out=table_folder / "run")


def test_a_table_and_a_task_with_data_of_its_own_cannot_have_one_name(table_folder: Path):
    recipe = toy_table.raw_table_recipe(table_folder)
    recipe["tasks"] = recipe["tasks"] | {"reviews": {"type": "binary", "inputs": "single"}}
    recipe["tables"]["reviews"] = {"batch_size": 2}
    said = r"^recipe given as a dict, tables\.reviews: a task of this name has files of its own"
    with pytest.raises(ValueError, match=said):
        mtbert.train(recipe, data={"reviews": [{"text": "a", "label": 1}]}, out=table_folder / "run")
