"""Converts a table's labels to numbers, and finds a task's classes or score range if the recipe does not give them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from mtbert.advice import see
from mtbert.answers import Cells, WrongCell
from mtbert.answers.of_words import Repairing
from mtbert.batch import Examples, Floats
from mtbert.cell_columns import CellColumn, CodedColumn
from mtbert.columns import WordColumn
from mtbert.data.mistakes import WrongLabel
from mtbert.data.tables import Table
from mtbert.data.words import JOINED
from mtbert.messages import count, shown
from mtbert.ragged import Ragged, concatenated
from mtbert.task import Task

READ_AT_ONCE = 2**16  # cells of a column with many different ones that are read at once
_Made = TypeVar("_Made", bound=npt.NDArray[Any] | Ragged)


def complete(task: Task, tables: Sequence[Table]) -> Task:
    """Returns a copy of the task with its classes or its score range.

    Classes or a score range that the recipe does not set are found in the tables. If the texts in the first table are
    lists of words, and the recipe sets no ``splitter``, the copy gets the splitter ``unicode-joined``. Prediction then
    joins the words of a text by single spaces, as training does.

    Raises:
        ValueError: If the tables contain labels that do not suit the task's type. The message names file and column,
            and the line if a single label is wrong.
    """
    try:
        found = task.answer.labels.complete(task, [table.labels for table in tables])
    except WrongCell as error:
        raise _placed(tables[error.column], error) from None
    except ValueError as error:
        where = f"{tables[0].name}, column {shown(tables[0].column)}"
        raise ValueError(f"{where}: {error} {see('own-data')}") from None
    if task.splitter is None and any(isinstance(column, WordColumn) for column in tables[0].texts):
        found |= {"splitter": JOINED}
    return task.model_copy(update=found) if found else task


def labelled_examples(table: Table, task: Task) -> Examples:
    """Returns the rows of a table as examples. The task's answer type converts their labels to numbers.

    Raises:
        ValueError: If a cell is not a valid label. The message names file, line and column.
    """
    try:
        labels = _read(table.labels, partial(task.answer.labels.read, task))
    except WrongCell as error:
        raise _placed(table, error) from None
    return Examples(table.ids, table.texts, labels, _weights(table), _votes(table, task))


def _placed(table: Table, error: WrongCell) -> WrongLabel:
    """Returns an error that says where the wrong cell is, and why the cell is wrong.

    If several cells of the label column have the same wrong value, the error also says how many.
    """
    cell = table.labels[error.row]
    same = sum(other == cell for other in table.labels)
    alike = f" {same:,} cells hold this." if same > 1 else ""
    said, trained = (f"{table.at(error.row)}: {why}{alike} {see('own-data')}" for why in (error, error.trained))
    return WrongLabel(said, trained)


def _votes(table: Table, task: Task) -> Floats | None:
    """Returns how many votes each label was made from, ``[B]``; None if the labels do not come from votes."""
    votes = task.answer.labels.votes
    if votes(task, ()) is None:
        return None

    def read(cells: Cells) -> Floats:
        found = votes(task, cells)
        assert found is not None
        return found

    return _read(table.labels, read)


def _read(column: CellColumn, read: Callable[[Cells], _Made]) -> _Made:
    """Applies the function ``read`` to the cells of a column, and returns the results in the order of the rows.

    Each different text in a :class:`CodedColumn` is read once.
    """
    if isinstance(column, CodedColumn):
        different = [*column.values, None]  # code -1 is the last one, a missing cell
        try:
            return cast("_Made", read(different)[column.codes.astype(np.int64)])
        except WrongCell as error:
            raise error.moved(int(np.argmax(column.codes == error.row))) from None

    def parts() -> Iterator[_Made]:
        for first in range(0, len(column), READ_AT_ONCE):
            try:
                yield read(column[first : first + READ_AT_ONCE])
            except WrongCell as error:
                raise error.moved(first + error.row) from None

    return cast("_Made", concatenated(parts(), len(column)))


def _weights(table: Table) -> Floats | None:
    """Returns the weights of a table's rows, ``[B]``; None if the table has no column of weights.

    Raises:
        ValueError: If a row has no weight. The message names file, line and column.
    """
    if table.weights is None:
        return None
    missing = np.flatnonzero(~table.weights.given)
    if len(missing):
        place = table.at(int(missing[0]), table.weight_column)
        raise ValueError(f"{place}: the weight is empty. Give 1 for an ordinary row, or drop the row.")
    return table.weights.numbers[:, 0].astype(np.float64, copy=False)


def repair_warnings(table: Table, task: Task) -> tuple[str, ...]:
    """Returns a warning for each file in which :func:`labelled_examples` reads some ``I-`` tags as ``B-`` tags."""
    kind = task.answer.labels
    if not isinstance(kind, Repairing):
        return ()
    tags_B = _read(table.labels, partial(kind.repaired, task))
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
