"""Turning labels as they are written into numbers: the classes or range of a task, and its examples."""

from collections.abc import Sequence

import numpy as np

from mtbert.answers import WrongCell
from mtbert.batch import Examples
from mtbert.data.tables import Table
from mtbert.messages import shown
from mtbert.task import Task


def complete(task: Task, tables: Sequence[Table]) -> Task:
    """Returns the task with its classes or its range filled in from its tables.

    Raises:
        ValueError: If the columns do not hold labels of the task's type; the message names file, line and column.
    """
    try:
        found = task.answer.labels.complete(task, [table.labels for table in tables])
    except WrongCell as error:
        raise ValueError(f"{tables[error.column].at(error.row)}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{tables[0].name}, column {shown(tables[0].column)}: {error}") from None
    return task.model_copy(update=found) if found else task


def labelled_examples(table: Table, task: Task) -> Examples:
    """Returns the rows as examples with labels of the task's type.

    Raises:
        ValueError: If a cell cannot be a label; the message names file, line and column.
    """
    cells = table.labels
    try:
        # Each different cell is read once; the last one, to which code -1 refers, is a missing cell.
        labels = task.answer.labels.read(task, [*cells.values, None])[cells.codes]
    except WrongCell as error:
        first = int(np.argmax(cells.codes == error.row))
        raise ValueError(f"{table.at(first)}: {error}") from None
    return Examples(table.ids, table.texts, labels)
