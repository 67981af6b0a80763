"""Recipes whose data a caller gives as objects, such as data frames, in place of files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtbert import files
from mtbert.data.memory import NO_ROWS, MemoryRows, arrow_table, by_split, file_of, name_of
from mtbert.recipe.files import given_recipe, with_absolute_files
from mtbert.recipe.parts import DataRecipe
from mtbert.recipe.settings import Recipe


def with_rows(
    recipe: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str], data: Mapping[str, Any], out: Path
) -> tuple[Recipe, MemoryRows]:
    """Returns a pair: a recipe that reads ``data`` from files in ``out``, and the rows to write into these files.

    The files are written later, not by this function.
    """
    if not isinstance(data, Mapping):
        found = type(data).__name__
        raise TypeError(
            f"data: must be a dict of rows by task or table, found {found}. "
            "Give {NAME: rows}, with names of the recipe."
        )
    splits = {name: by_split(name, given) for name, given in data.items()}
    files_of = {name: {split: file_of(name, split) for split in given} for name, given in splits.items()}
    settings = given_recipe(recipe, overrides, files_of)
    if not data:
        return settings, NO_ROWS
    tables, names, readers = {}, {}, settings.tasks_by_table()
    for name, given in splits.items():
        columns, kind = [task.columns for task in readers[name]], "table" if name in settings.tables else "task"
        for split, rows in given.items():
            file, called = file_of(name, split), name_of(kind, name, split)
            read = columns if split == "train" else [each.unweighted for each in columns]
            tables[file], names[file] = arrow_table(rows, read, called), called
    root = DataRecipe(root=str(files.resolved(out)))
    settings = with_absolute_files(settings, files_of).model_copy(update={"data": root})
    return settings, MemoryRows(tables, names)
