"""Advice about columns that labelled rows lack, for a model that is trained already."""

from typing import Any

import pytest

from mtbert.advice import worded_for_shell
from mtbert.data.mistakes import NoColumn
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.use.input_columns import advising_the_trained, labelled_for

SINGLE = {"type": "binary", "inputs": "single"}


def recipe() -> Recipe:
    raw: dict[str, Any] = {
        "tables": {"notes": {"train": "notes.csv", "columns": {"text": "note", "id": "key"}}},
        "tasks": {
            "kind": SINGLE | {"table": "notes", "label": "kind"},
            "late": SINGLE | {"table": "notes", "label": "late"},
            "same": SINGLE
            | {"inputs": "packed", "table": "notes", "columns": {"text": ["note", "other"], "label": "same"}},
            "tags": SINGLE | {"type": "multilabel", "table": "notes", "columns": {"label": ["red", "big"]}},
            "own": SINGLE | {"train": "own.csv", "columns": {"text": "note"}},
        },
    }
    return validate_recipe(raw, "r")


def advice(key: str, column: str, *tasks: str, unused: tuple[str, ...] = ()) -> str:
    """Returns the end of the message about a column that rows for ``tasks`` lack."""
    with pytest.raises(ValueError, match="there is no column") as error, advising_the_trained(recipe(), tasks):
        raise NoColumn("rows", key, column, ["body"], unused, "(see)")
    said = str(error.value)
    assert said.startswith(f"rows: there is no column '{column}', found 'body'.")
    return said.partition("'body'. ")[2]


@pytest.mark.parametrize(
    ("key", "column", "tasks", "said"),
    [
        ("columns.text", "note", "kind late", "--set tables.notes.columns.text=COLUMN"),
        ("columns.text", "note", "own", "--set tasks.own.columns.text=COLUMN"),
        ("columns.text", "other", "kind same", "--set 'tasks.same.columns.text=[note, COLUMN]'"),
        ("columns.label", "late", "kind late", "--set tasks.late.columns.label=COLUMN"),
        ("columns.id", "key", "late", "--set tables.notes.columns.id=COLUMN"),
    ],
)
def test_the_key_that_works_is_named(key: str, column: str, tasks: str, said: str):
    with worded_for_shell():
        assert advice(key, column, *tasks.split()) == f"To name another column: {said} (see)"


def test_the_advice_to_a_caller_names_changes_and_a_similar_column():
    assert advice("columns.label", "late", "late", unused=("body", "lates")) == (
        "Did you mean 'lates'? To name another column: changes=['tasks.late.columns.label=lates'] (see)"
    )
    assert advice("columns.text", "note", "kind", "same") == (
        "To name another column: changes=['tables.notes.columns.text=COLUMN', "
        "'tasks.same.columns.text=[COLUMN, other]'] (see)"
    )


def test_columns_that_are_named_as_classes_and_conditions_are_no_settings_to_change():
    assert advice("columns.label", "red", "tags") == "Rename the column in the rows. (see)"
    assert advice("columns.label", "late") == "Rename the column in the rows. (see)"  # a command without changes
    assert advice("where", "w", "kind") == "Set where. (see)"


def test_tasks_whose_label_columns_are_missing_are_left_out_unless_all_are_missing():
    tasks = ["kind", "late", "tags"]
    assert labelled_for(recipe(), tasks, "rows", ["note", "kind", "late", "red", "big"]) == (tasks, [])
    assert labelled_for(recipe(), tasks, "rows", ["note", "other"]) == (tasks, [])
    with worded_for_shell():
        assert labelled_for(recipe(), tasks, "rows", ["note", "late", "red"]) == (
            ["late"],
            [
                "rows: left out: kind (no column 'kind'), tags (no column 'big'). "
                "To name columns: --set tasks.kind.columns.label=COLUMN"
            ],
        )
    assert labelled_for(recipe(), ["late", "tags"], "rows", ["late"])[1] == [
        "rows: left out: tags (no column 'red', 'big')."
    ]
