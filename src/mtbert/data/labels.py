"""Converts a table's labels to numbers, and finds a task's classes or score range if the recipe does not give them."""

import json
from collections.abc import Sequence

import numpy as np

from mtbert.answers import WrongCell
from mtbert.answers.of_words import Repairing
from mtbert.batch import Examples, Floats
from mtbert.columns import WordColumn
from mtbert.data.tables import Table
from mtbert.data.words import JOINED
from mtbert.messages import count, shown
from mtbert.task import Task


def complete(task: Task, tables: Sequence[Table]) -> Task:
    """Returns the task with its classes or score range. If the recipe does not set these, they come from the tables.

    So does the splitter, which says whether the task reads texts as they are or their words with single spaces between
    them. It is set for each task of a table of words, whatever its type, because prediction must read what training
    read.

    Raises:
        ValueError: If the tables contain labels that do not suit the task's type. The message names file and column,
            and the line if a single label is wrong.
    """
    try:
        found = task.answer.labels.complete(task, [table.labels for table in tables])
    except WrongCell as error:
        raise ValueError(f"{tables[error.column].at(error.row)}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{tables[0].name}, column {shown(tables[0].column)}: {error}") from None
    if task.splitter is None and any(isinstance(column, WordColumn) for column in tables[0].texts):
        found |= {"splitter": JOINED}
    elif task.splitter is None and task.reads_words:
        found |= {"splitter": "unicode"}
    return task.model_copy(update=found) if found else task


def labelled_examples(table: Table, task: Task) -> Examples:
    """Returns the rows of a table as examples. The task's answer type converts their labels to numbers.

    Raises:
        ValueError: If a cell is not a valid label. The message names file, line and column.
    """
    kind, cells = task.answer.labels, table.labels
    different = [*cells.values, None]  # each different cell is read once; code -1 is the last one, a missing cell
    try:
        labels = kind.read(task, different)[cells.codes]
    except WrongCell as error:
        first = int(np.argmax(cells.codes == error.row))
        raise ValueError(f"{table.at(first)}: {error}") from None
    votes = kind.votes(task, different)
    return Examples(table.ids, table.texts, labels, _weights(table), None if votes is None else votes[cells.codes])


def _weights(table: Table) -> Floats | None:
    """Returns the weights of a table's rows, ``[B]``; None if the table has no column of weights.

    Raises:
        ValueError: If a row has no weight. The message names file, line and column.
    """
    if table.weights is None:
        return None
    values, codes = table.weights.values, table.weights.codes
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        place = table.at(int(missing[0]), table.weight_column)
        raise ValueError(f"{place}: the weight is empty. Give 1 for an ordinary row, or drop the row.")
    weights: Floats = np.array([json.loads(value) for value in values])[codes]
    return weights


def repair_warnings(table: Table, task: Task) -> tuple[str, ...]:
    """Returns a warning for each file in which :func:`labelled_examples` reads some ``I-`` tags as ``B-`` tags."""
    kind, cells = task.answer.labels, table.labels
    if not isinstance(kind, Repairing):
        return ()
    tags_B = kind.repaired(task, [*cells.values, None])[cells.codes]
    found = []
    for part, begin, end in zip(table.parts, (0, *table.ends), table.ends, strict=False):
        here = tags_B[begin:end]
        if here.any():
            first = int(table.lines[begin + int((here > 0).argmax())])
            tags = count(int(here.sum()), "tag")
            found.append(
                f"{part.name}: {tags} with I- where an entity begins, read as B- (first: {part.unit} {first})."
            )
    return tuple(found)
