"""Recipes whose data a caller gives as objects, such as data frames, in place of files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtbert import files
from mtbert.data.memory import NO_ROWS, MemoryRows, arrow_table, by_split, file_of, index_of, name_of
from mtbert.recipe.files import given_recipe, with_absolute_files
from mtbert.recipe.parts import DataRecipe
from mtbert.recipe.settings import Recipe

RecipeLike = str | Path | Mapping[str, Any] | Recipe


def check_by_name(data: object) -> None:
    """Raises a TypeError if ``data`` is anything but a dict, for example a single data frame."""
    if not isinstance(data, Mapping):
        raise TypeError(
            f"data: must be a dict of rows by task or table, found {type(data).__name__}. "
            "Give {NAME: rows}, with names of the recipe."
        )


def with_rows(
    recipe: RecipeLike, overrides: Sequence[str], data: Mapping[str, Any], out: Path
) -> tuple[Recipe, MemoryRows]:
    """Returns a pair: a recipe that reads ``data`` from files in ``out``, and the rows to write into these files.

    The files are written later, not by this function.
    """
    check_by_name(data)
    splits = {name: by_split(name, given) for name, given in data.items()}
    files_of = {name: {split: file_of(name, split) for split in given} for name, given in splits.items()}
    settings = given_recipe(recipe, overrides, files_of)
    if not data:
        return settings, NO_ROWS
    tables, names, indexes, readers = {}, {}, {}, settings.tasks_by_table()
    for name, given in splits.items():
        columns, kind = [task.columns for task in readers[name]], "table" if name in settings.tables else "task"
        for split, rows in given.items():
            file, called = file_of(name, split), name_of(kind, name, split)
            read = columns if split == "train" else [each.unweighted for each in columns]
            tables[file], names[file], indexes[file] = arrow_table(rows, read, called), called, index_of(rows)
    settings = rooted_at(with_absolute_files(settings, files_of), str(files.resolved(out)))
    return settings, MemoryRows(tables, names, indexes)


def rooted_at(recipe: Recipe, root: str | None) -> Recipe:
    """Returns a copy of the recipe whose ``data.root`` is ``root``."""
    return recipe.model_copy(update={"data": DataRecipe(root=root)})
