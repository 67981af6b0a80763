"""Source tables: a source table holds the rows of one or more files, or of a data set, for all tasks that read them.

Each task reads only some of the columns, and only the rows that have the task's label and all of the task's texts. A
row that no task can read stays in the source table. Warnings count such rows, and call them dropped.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np

from mtbert.cell_columns import CellColumn, CodedColumn
from mtbert.columns import Ints, NumberColumn, TextColumn, taken
from mtbert.data.cell_groups import CellGroup
from mtbert.data.cells import quoted
from mtbert.data.split import linking
from mtbert.data.tables import Columns, Table, TableFile, names
from mtbert.messages import count
from mtbert.number_cells import Mask, NumberCells

UNLABELLED = "without a label in column"  # of the warning about such rows


@dataclass(frozen=True)
class Reading:
    """The columns that one task reads in a :class:`SourceTable`.

    Attributes:
        texts: The task's columns of texts, as indices into ``SourceTable.texts``.
        labels: The task's column of labels, as an index into ``SourceTable.labels``.
        named: The names of the label columns in the file. Several label columns in the file become a single column of
            the source table.
        weight: The task's column of weights, as an index into ``SourceTable.labels``, which has columns of labels and
            columns of weights. None if the task has no weights.
        weighted: The name of the column of weights in the file. None if the task has no weights.
    """

    texts: tuple[int, ...]
    labels: int
    named: tuple[str, ...]
    weight: int | None = None
    weighted: str | None = None


def readings(each: Sequence[Columns]) -> tuple[list[str], list[CellGroup], tuple[Reading, ...]]:
    """Returns what several tasks read from one source.

    Args:
        each: The column settings of each task.

    Returns:
        Three sequences. First, the names of the text columns. Second, groups of columns: the columns of each group
        together give each row a label or a weight. Third, a :class:`Reading` for each task, with indices into the first
        two sequences.
    """
    texts = list(dict.fromkeys(column for columns in each for column in columns.text))
    groups = list(dict.fromkeys(group for columns in each for group in columns.groups))
    found = []
    for columns in each:
        labels, *weight = map(groups.index, columns.groups)
        found.append(
            Reading(
                texts=tuple(map(texts.index, columns.text)),
                labels=labels,
                named=columns.labels,
                weight=weight[0] if weight else None,
                weighted=columns.weight,
            )
        )
    return texts, groups, tuple(found)


@dataclass(frozen=True, eq=False)
class Others:
    """The rows of a table that do not satisfy the source's ``where``.

    No task reads these rows, but a split takes them into account.

    Attributes:
        rows: A mask of these rows, ``[n]``.
        labelled: For each column of labels or weights, a mask of the rows in ``rows`` that have a value there, ``[n]``.
    """

    rows: Mask
    labelled: tuple[Mask, ...]


@dataclass(frozen=True, eq=False)
class SourceTable:
    """The rows of a source, stored in columns.

    Attributes:
        parts: The files of the source, or its data set.
        ids: The id of each row. It is empty in a row that no task can read.
        texts: The columns of texts that at least one task reads. A missing text is empty.
        labels: The columns of labels and of weights that at least one task reads, as they are written. Several columns
            of a file that together give one label are merged into one column.
        readings: For each task, which of these columns it reads.
        lines: The number of each row's first line in its file, or the row's number in its data set, counted from 1.
        ends: For each file, the number of rows in this file and all files before it.
        warnings: Warnings that arose while the source was read, except those about dropped rows.
        others: Which rows of the table do not satisfy the source's ``where``; None if all rows of the table satisfy it.
    """

    parts: tuple[TableFile, ...]
    ids: TextColumn | NumberColumn
    texts: tuple[TextColumn, ...]
    labels: tuple[CellColumn, ...]
    readings: tuple[Reading, ...]
    lines: Ints
    ends: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    others: Others | None = None

    @cached_property
    def chosen(self) -> "SourceTable":
        """The table with only the rows that satisfy the source's ``where``. The texts are not copied."""
        if self.others is None:
            return self
        rows, size = np.flatnonzero(~self.others.rows), len(self)
        return replace(
            self,
            ids=taken(self.ids, rows, size),
            texts=tuple(taken(column, rows, size) for column in self.texts),
            labels=tuple(taken(column, rows, size) for column in self.labels),
            lines=self.lines[rows],
            ends=tuple(np.searchsorted(rows, self.ends).tolist()),
            others=None,
        )

    @property
    def name(self) -> str:
        """The names of the source's files as one text, for use in messages. A long list of names is cut short."""
        return names(self.parts)

    def __len__(self) -> int:
        return len(self.lines)

    @cached_property
    def _full(self) -> tuple[Mask, ...]:
        """For each task, a mask of the rows that have all texts that the task reads."""
        full = [column.stops > column.starts for column in self.texts]
        return tuple(np.logical_and.reduce([full[i] for i in reading.texts]) for reading in self.readings)

    @cached_property
    def _labelled(self) -> tuple[Mask, ...]:
        """For each task, a mask of the rows that have a label for the task."""
        labelled = [column.given for column in self.labels]
        if self.others is not None:
            labelled = [own | other for own, other in zip(labelled, self.others.labelled, strict=True)]
        return tuple(labelled[reading.labels] for reading in self.readings)

    @cached_property
    def reads(self) -> tuple[Mask, ...]:
        """For each task, a mask of the rows that it reads: those with a label and no empty text for this task."""
        return tuple(full & labelled for full, labelled in zip(self._full, self._labelled, strict=True))

    @cached_property
    def usable(self) -> Ints:
        """The indices of the rows that at least one task reads, in ascending order.

        Raises:
            ValueError: If there is no such row.
        """
        rows = np.flatnonzero(np.logical_or.reduce(self.reads))
        if not len(rows):
            why = ", ".join(each for _, each in self._dropped)
            raise ValueError(f"{self.name}: no usable row; {why}. Check the file.")
        return rows

    def read_by(self, reading: int) -> Ints:
        """Returns the indices of the rows that one task reads, in ascending order.

        ``reading`` is the index of the task in :attr:`readings`.

        Raises:
            ValueError: If the task reads no row.
        """
        rows = np.flatnonzero(self.reads[reading])
        if not len(rows):
            named = self.readings[reading].named
            without = f"no label in column{'s' * (len(named) > 1)} {quoted(named)}"
            why = "an empty text" if self._labelled[reading].any() else without
            raise ValueError(f"{self.name}: no usable row; all of them have {why}. Check the file.")
        return rows

    def table(self, reading: int) -> Table:
        """Returns the rows that one task reads, as a table of their own. The texts are not copied.

        ``reading`` is the index of the task in :attr:`readings`.
        """
        rows, columns = self.read_by(reading), self.readings[reading]
        weights = None if columns.weight is None else self.labels[columns.weight]
        return Table(
            parts=self.parts,
            ids=taken(self.ids, rows, len(self)),
            texts=tuple(taken(self.texts[i], rows, len(self)) for i in columns.texts),
            labels=taken(self.labels[columns.labels], rows, len(self)),
            lines=self.lines[rows],
            ends=tuple(np.searchsorted(rows, self.ends).tolist()),
            warnings=self.all_warnings,
            column=", ".join(columns.named),
            weights=None if weights is None else cast("NumberCells", taken(weights, rows, len(self))),
            weight_column=columns.weighted or "",
        )

    def unlabelled(self) -> Table:
        """Returns a table of all rows, with all columns of texts but without labels."""
        labels = CodedColumn([], np.full(len(self), -1, np.int32))
        return Table(self.parts, self.ids, self.texts, labels, self.lines, self.ends, self.warnings)

    @property
    def linking(self) -> tuple[TextColumn, ...]:
        """The text columns that link rows: if two rows have the same text there, they stay together in a split."""
        return tuple(self.texts[i] for i in sorted({i for reading in self.readings for i in linking(reading.texts)}))

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """All warnings from reading the table. Those about dropped rows come first, one for each file and reason."""
        return (*self._told(self._dropped), *self.warnings)

    def left_out(self, reading: int) -> tuple[str, ...]:
        """Returns warnings about rows that one task leaves out, although another task reads the same rows.

        Such a row has a label for the task, but one of the task's texts is empty. For each file with such rows, one
        warning gives the number of these rows. ``reading`` is the index of the task in :attr:`readings`.

        Raises:
            ValueError: If no task reads any row.
        """
        labelled, own = self._labelled[reading], self.reads[reading]
        rows = np.zeros(len(self), np.bool_)
        rows[self.usable] = True
        return self._told(self._counted(rows & labelled & ~own, "left out", "with an empty text"))

    @property
    def _dropped(self) -> list[tuple[int, str]]:
        """Returns the notes about dropped rows, one for each file and reason, in the order of the rows.

        Each is a pair: the index of the first row that was dropped for this reason, and the text of the note.
        """
        columns = list(dict.fromkeys(column for reading in self.readings for column in reading.named))
        without = f"{UNLABELLED}{'s' * (len(columns) > 1)} {quoted(columns)}"
        labelled, read = np.logical_or.reduce(self._labelled), np.logical_or.reduce(self.reads)
        found = (
            *self._counted(~labelled, "dropped", without),
            *self._counted(labelled & ~read, "dropped", "with an empty text"),
        )
        return sorted(found)

    def _counted(self, rows: Mask, done: str, why: str) -> Iterator[tuple[int, str]]:
        for part, begin, end in zip(self.parts, (0, *self.ends), self.ends, strict=False):
            here = rows[begin:end]
            if number := int(here.sum()):
                first = begin + int(here.argmax())
                yield first, f"{done} {count(number, 'row')} {why} (first: {part.unit} {self.lines[first]})"

    def _told(self, found: Iterable[tuple[int, str]]) -> tuple[str, ...]:
        """Returns each text in ``found`` as a warning that begins with the name of the file."""
        return tuple(f"{self.parts[bisect_right(self.ends, first)].name}: {each}." for first, each in found)

    def places(self) -> Ints:
        """Returns for each row a number that encodes its file and line."""
        return np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0)) * 2**40 + self.lines
