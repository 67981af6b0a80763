"""Null in a recipe drops what the recipe that it extends says."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from recipe_files import refusal, write

from mtbert import yaml_text
from mtbert.recipe.extending import extend
from mtbert.recipe.files import given_recipe, load_recipe
from mtbert.recipe.schema import recipe_schema
from mtbert.recipe.settings import as_plain
from mtbert.recipe.tables import OF_TABLE, TableRecipe

BASE = """
data: {root: /data}
tasks:
  a:
    {type: binary, inputs: single, train: a.csv, dev: d.csv, test: t.csv, dev_fraction: 0.3, dev_seed: 7,
     dev_split: rows, batch_size: 8, no_duplicates: true,
     columns: {text: body, id: key, label: spam}, head: {kind: mlp, hidden: 9}}
  b: {type: binary, inputs: single, train: b.csv, batch_size: 8, metric: accuracy}
train: {mode: alternate, sampler: {kind: temperature, temperature: 3}, lr: 1e-3, clip: 2, epochs: 7}
"""
MOVED = "table: rows, " + "".join(f"{key}: null, " for key in OF_TABLE)


def changed(folder: Path, change: str, base: str = BASE) -> Any:
    write(folder, base, "base.yaml")
    jsonschema.validate(yaml_text.parse(change or "{}", "change"), recipe_schema())
    return load_recipe(write(folder, f"extends: base.yaml\n{change}"))


def test_a_task_moves_from_files_of_its_own_to_a_table(tmp_path: Path):
    change = f"tables: {{rows: {{train: rows.csv}}}}\ntasks: {{a: {{{MOVED} columns: {{id: null, text: null}}}}}}"
    task = changed(tmp_path, change).tasks["a"]
    table = TableRecipe.model_validate({"train": "rows.csv"})
    assert {key: getattr(task, key) for key in OF_TABLE} == {key: getattr(table, key) for key in OF_TABLE}
    assert (task.columns.text, task.columns.id, task.columns.label) == (("text",), None, "spam")
    assert (task.head.kind, task.head.hidden) == ("mlp", 9)


@pytest.mark.parametrize("key", [*OF_TABLE, "columns.id"])
def test_a_setting_that_stays_beside_a_table_is_refused(tmp_path: Path, key: str):
    write(tmp_path, BASE, "base.yaml")
    nulls = MOVED.replace(f" {key}: null,", "")
    columns = "{}" if key == "columns.id" else "{id: null}"
    content = f"extends: base.yaml\ntables: {{rows: {{train: rows.csv}}}}\ntasks: {{a: {{{nulls} columns: {columns}}}}}"
    said = refusal(tmp_path, content)
    assert said.startswith(f"recipe mine.yaml, tasks.a.{key}: belongs to the table, not to a task that reads it.")


def test_the_id_of_a_table_is_that_of_a_task_whose_own_is_null():
    task = {"type": "binary", "inputs": "single", "table": "rows", "columns": {"id": None, "label": "spam"}}
    tables = {"rows": {"train": "rows.csv", "columns": {"id": "key"}}}
    assert given_recipe({"tables": tables, "tasks": {"a": task}}, [], {}).tasks["a"].columns.id == "key"


def test_a_task_moves_from_a_table_to_files_of_its_own(tmp_path: Path):
    base = "tables: {rows: {train: rows.csv, batch_size: 64}}\ntasks: {a: {type: binary, inputs: single, table: rows}}"
    found = changed(tmp_path, "tables: null\ntasks: {a: {table: null, train: a.csv}}", base)
    assert found.tables == {}
    assert (found.tasks["a"].train.path, found.tasks["a"].batch_size) == ("a.csv", 16)


def test_null_gives_a_setting_its_default_back_or_is_its_value(tmp_path: Path):
    found = changed(
        tmp_path,
        "train: {sampler: null, lr: null, clip: null, mode: null}\n"
        "tasks: {a: {head: null, batch_size: null, columns: null}, b: {metric: null}}",
    )
    plain = changed(tmp_path, "", "tasks: {a: {type: binary, inputs: single, train: a.csv}}")
    train = plain.train.model_copy(update={"clip": None, "epochs": 7})
    assert found.train == train
    task = plain.tasks["a"]
    assert (found.tasks["a"].head, found.tasks["a"].batch_size) == (task.head, task.batch_size)
    assert (found.tasks["a"].columns, found.tasks["b"].metric) == (task.columns, task.metric)


def test_null_for_the_way_of_a_label_lets_another_one_take_its_place(tmp_path: Path):
    base = "tasks: {a: {type: binary, inputs: single, train: a.csv, columns: {%s}}}"
    changes = ("label: l", "label: null, votes: v"), ("votes: v", "votes: null, label: l"), ("votes: v", "votes: null")
    found = [changed(tmp_path, f"tasks: {{a: {{columns: {{{now}}}}}}}", base % before) for before, now in changes]
    assert [each.tasks["a"].columns.labels for each in found] == [("v",), ("l",), ("label",)]


def test_null_for_a_whole_part_gives_its_defaults(tmp_path: Path):
    found = changed(tmp_path, "train: null\ntasks: {b: null}")
    assert list(found.tasks) == ["a"]
    assert (
        as_plain(found)["train"]["lr"] == as_plain(changed(tmp_path, "", BASE.split("train: {mode")[0]))["train"]["lr"]
    )


def test_null_drops_what_must_be_given(tmp_path: Path):
    write(tmp_path, BASE, "base.yaml")
    said = refusal(tmp_path, "extends: base.yaml\ntasks: {a: {train: null}}")
    assert said == "recipe mine.yaml, tasks.a.train: must be given."


def test_an_override_drops_too(tmp_path: Path):
    name = write(tmp_path, BASE)
    assert load_recipe(name, ["tasks.a.batch_size=null", "train.sampler=null"]).tasks["a"].batch_size == 16


def test_a_dict_that_extends_drops_too(tmp_path: Path):
    name = write(tmp_path, BASE)
    given = {"extends": name, "train": {"sampler": None}, "tasks": {"b": {"batch_size": None}}}
    assert given_recipe(given, [], {}).tasks["b"].batch_size == 16


def test_null_where_nothing_is_inherited_is_refused_as_before(tmp_path: Path):
    content = "tasks: {a: {type: binary, inputs: single, train: a.csv, batch_size: null}}"
    assert refusal(tmp_path, content) == "recipe mine.yaml, tasks.a.batch_size: must be a valid integer, found null."
    said = refusal(tmp_path, content.replace(", batch_size: null", ""), "tasks.a.batch_size=null")
    assert said == "recipe mine.yaml, tasks.a.batch_size: must be a valid integer, found null."


def test_a_null_of_an_unknown_key_stays():
    assert extend({"trian": {}, "x": 1}, {"trian": None, "x": None}) == {"trian": None, "x": None}
    assert extend({"tune": {"train.lr": [1, 2]}}, {"tune": {"train.lr": None}}) == {"tune": {}}
