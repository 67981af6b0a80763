"""Labelled rows that a caller gives as objects, such as data frames, to score a trained model on."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtbert.batch import Dataset
from mtbert.data.memory import MemoryRows, arrow_table, column_names, file_of, index_of, name_of
from mtbert.data.source_table import UNLABELLED
from mtbert.messages import few, near, shown
from mtbert.recipe.given_data import check_by_name
from mtbert.recipe.settings import Recipe
from mtbert.use.input_columns import advising_the_trained, labelled_for
from mtbert.use.inputs import labelled
from mtbert.use.predictor import Predictor


def rows_to_score(
    predictor: Predictor, recipe: Recipe, data: Mapping[str, Any], task: str | None
) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Returns labelled rows from memory as a data set for each task that reads them, and the warnings from reading.

    Args:
        predictor: The model.
        recipe: The recipe of its run.
        data: A dict from the name of a task or table to its rows.
        task: The only task to read for; None for all that were trained to predict labels.

    Raises:
        ValueError, TypeError: If the rows cannot be read, or no task reads them.
    """
    check_by_name(data)
    readers = {name: [each] for name, each in recipe.tasks.items()} | recipe.tasks_by_table()
    found: dict[str, Dataset] = {}
    warnings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mtbert-rows-") as folder:
        for name, rows in data.items():
            if name not in readers:
                raise ValueError(f"data: no task or table {shown(name)}.{near(str(name), readers)}")
            file, called = file_of(name, "train"), name_of("table" if name in recipe.tables else "task", name, "train")
            asked = [each.name for each in readers[name] if each.scored and task in (None, each.name)]
            asked, left_out = labelled_for(recipe, asked, called, column_names(rows, called))
            warnings += left_out
            with advising_the_trained(recipe, asked):
                table = arrow_table(rows, [recipe.tasks[each].columns.unweighted for each in asked], called)
            given = MemoryRows({file: table}, {file: called}, {file: index_of(rows)})
            with given.named(), given.written(Path(folder) / "run") as place:
                for each in asked:
                    found[each], lines = labelled(predictor, recipe, each, file, {}, place or Path())
                    if len(asked) > 1:  # a row without a label of one task is there for another
                        lines = tuple(line for line in lines if UNLABELLED not in line)
                    warnings += map(given.renamed, lines)
    if not found:
        raise ValueError(f"data: no task to score reads these rows. Give {{TASK: rows}}, with {few(recipe.tasks)}.")
    return found, tuple(dict.fromkeys(warnings))
