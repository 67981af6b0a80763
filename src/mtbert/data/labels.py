"""From labels as written to numbers: a task's classes or range, and the examples that the model learns from."""

from collections.abc import Sequence

from mtbert.answers import Cells, WrongCell
from mtbert.batch import Examples
from mtbert.data.tables import Table
from mtbert.messages import shown
from mtbert.task import Task


def complete(task: Task, tables: Sequence[Table]) -> Task:
    """Returns the task with the fields filled in that follow from its tables: the classes, or the range.

    Raises:
        ValueError: If the columns cannot hold labels of the task's type; the message names file, line and column.
    """
    try:
        found = task.answer.labels.complete(task, [_cells(table) for table in tables])
    except WrongCell as error:
        raise _at(tables[error.column], error) from None
    except ValueError as error:
        raise ValueError(f"{tables[0].name}, column {shown(tables[0].column)}: {error}") from None
    return task.model_copy(update=found) if found else task


def examples(table: Table, task: Task) -> Examples:
    """Returns the rows as examples with labels of the task's type.

    Raises:
        ValueError: If a cell cannot be a label; the message names file, line and column.
    """
    try:
        labels = task.answer.labels.read(task, _cells(table))
    except WrongCell as error:
        raise _at(table, error) from None
    return Examples([row.id for row in table.rows], list(zip(*(row.texts for row in table.rows), strict=True)), labels)


def _cells(table: Table) -> Cells:
    return [row.label for row in table.rows]


def _at(table: Table, error: WrongCell) -> ValueError:
    return ValueError(f"{table.at(table.rows[error.row])}: {error}")
