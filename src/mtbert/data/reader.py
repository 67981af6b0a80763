"""Turning records into a table: cells are converted and put into columns, and unusable rows are dropped and counted."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtbert.columns import CodedColumn, GrowingColumn, NumberColumn, TextColumn
from mtbert.data import cells
from mtbert.data.cells import quoted
from mtbert.data.records import Records
from mtbert.data.tables import Columns, Table, TableFile, names
from mtbert.messages import count, near, shown

TOGETHER = 256  # rows moved into columns at once; few, because a row may hold megabytes of text
MOST_ROWS = 20_000_000  # most rows of a table; they fit into the memory of a large machine


@dataclass
class DroppedRows:
    """The rows that were dropped for the same reason: the line of the first one, and how many there are."""

    first: int
    number: int = 0


class Reader:
    """Makes one table from the records of one or more files, and counts the rows that it drops.

    Call :meth:`read` for each file, and :meth:`table` at the end.
    """

    def __init__(self, columns: Columns, where: dict[str, str | None], labelled: bool) -> None:
        self.chosen = 0  # records that satisfy ``where``
        self._columns, self._where, self._labelled = columns, where, labelled
        self._keys = [("text", column) for column in columns.text]
        self._keys += [("label", column) for column in columns.labels] if labelled else []
        self._keys += [("id", columns.id)] if columns.id is not None else []
        self._keys += [("where", column) for column in where]
        self.wanted = [column for _, column in self._keys]
        self._dropped: dict[tuple[int, str], DroppedRows] = {}  # by file and reason
        self._records = 0
        self._waiting: list[list[Any]] = []  # rows that are not in columns yet, as texts, label and id
        self._texts = [GrowingColumn() for _ in columns.text]
        self._ids = GrowingColumn()
        self._hashes, self._numbers, self._lines = array("q"), array("q"), array("q")
        self._labels: dict[str | None, int] = {None: -1}
        self._codes = array("i")
        self._ends: list[int] = []
        self._unnamed: ValueError | None = None  # for the first row without an id; raised if the file has ids

    def read(self, file: int, name: str, records: Records) -> None:
        """Adds the rows of a file to the table. ``file`` is the index of the file, ``name`` its name in messages.

        Raises:
            ValueError: If a column is missing, a cell cannot be converted, or there are no rows.
        """
        if not records.late:
            self._check_columns(name, records)
        before, self._unnamed = self._records, None
        add = self._adder(file, name, records)
        wrong: ValueError | None = None
        for line, values in records.rows:
            self._records += 1
            if self._records > MOST_ROWS:
                raise ValueError(f"{name}: more than {MOST_ROWS:,} rows. Keep fewer.")
            try:
                if wrong is None:
                    add(line, values)
            except ValueError as error:
                if not records.late:
                    raise
                wrong = error  # raised later, because a damaged line or a missing column is reported first
        if records.late:
            self._check_columns(name, records)
        if self._unnamed is not None and self._has_id(records):  # a later object had one
            raise self._unnamed
        if wrong is not None:
            raise wrong
        if self._records == before:
            raise ValueError(f"{name}: a header but no rows. Add rows.")
        self._settle()
        self._ends.append(len(self._lines))

    def table(self, parts: Sequence[TableFile]) -> Table:
        """Returns all rows as a table. No more files can be read after this call.

        Raises:
            ValueError: If no row is left.
        """
        numbers, codes = np.frombuffer(self._numbers, np.int64), np.frombuffer(self._codes, np.int32)
        ids = NumberColumn(numbers) if self._columns.id is None else self._ids.column()
        return Table(
            parts=tuple(parts),
            ids=ids,
            texts=tuple(column.column() for column in self._texts),
            labels=CodedColumn([text for text in self._labels if text is not None], codes),
            lines=np.frombuffer(self._lines, np.int64),
            ends=tuple(self._ends),
            warnings=tuple(self._warnings(parts, ids)),
            column=", ".join(self._columns.labels) or "label",
        )

    def _adder(self, file: int, name: str, records: Records) -> Callable[[int, Sequence[object]], None]:
        """Returns a function that converts one record of the file and adds it to the table, or drops it."""
        columns, labelled = self._columns, self._labelled
        texts, end = len(columns.text), len(self._keys) - len(self._where)
        make = [columns.as_label if key == "label" else _MAKE[key] for key, _ in self._keys]
        chosen_by, make = make[end:], make[:end]
        wanted = list(self._where.values())
        id_key = columns.id
        without = f"without a label in column{'s' * (len(columns.labels) > 1)} {quoted(columns.labels)}"

        def at(line: int, column: str) -> str:
            return cells.place(name, records.unit, line, column)

        def add(line: int, values: Sequence[object]) -> None:
            if wanted:
                found = _made(chosen_by, values[end:], self.wanted[end:], at, line)
                if not all(map(cells.same, found, wanted)):
                    return
            self.chosen += 1
            made = _made(make, values, self.wanted, at, line)
            given = made[:texts]
            if labelled:
                label = columns.row_label(made[texts : texts + len(columns.labels)])
                if label is None:
                    self._drop(file, without, line)
                    return
                made[texts : texts + len(columns.labels)] = [label]
            if "" in given:
                if labelled:
                    self._drop(file, "with an empty text", line)
                    return
                where = at(line, self.wanted[given.index("")])
                raise ValueError(f"{where}: the text is empty. Give a text, or drop the row.")
            if id_key is None:
                self._numbers.append(self._records)
            elif made[-1] == "":
                made[-1] = self._number(at(line, id_key), records)
            self._lines.append(line)
            self._waiting.append(made)
            if len(self._waiting) == TOGETHER:
                self._settle()

        return add

    def _settle(self) -> None:
        """Moves the rows that have been converted since the last call into the columns."""
        if not self._waiting:
            return
        made, labels = list(zip(*self._waiting, strict=True)), self._labels
        for column, texts in zip(self._texts, made, strict=False):
            column.extend(texts)
        given = made[len(self._texts)] if self._labelled else (None,) * len(self._waiting)
        self._codes.extend([labels.setdefault(label, len(labels) - 1) for label in given])
        if self._columns.id is not None:
            self._ids.extend(made[-1])
            self._hashes.extend(map(hash, made[-1]))
        self._waiting.clear()

    def _number(self, place: str, records: Records) -> str:
        """Returns the number of the current record, which replaces its empty id.

        Raises:
            ValueError: If the file has an id column.
        """
        error = ValueError(f"{place}: the id is empty. Give one, or number the rows with columns.id: null.")
        if self._has_id(records):
            raise error
        self._unnamed = self._unnamed or error
        return str(self._records)

    def _has_id(self, records: Records) -> bool:
        return self._labelled or self._columns.id in records.columns

    def _warnings(self, parts: Sequence[TableFile], ids: TextColumn | NumberColumn) -> Iterator[str]:
        """Yields a warning for each reason why rows were dropped, and a warning if ids are repeated.

        Raises:
            ValueError: If no row is left.
        """
        drops = [
            (parts[file].name, f"dropped {count(rows.number, 'row')} {why} (first: {parts[file].unit} {rows.first})")
            for (file, why), rows in self._dropped.items()
        ]
        if not self._lines:
            name = names(parts)
            raise ValueError(f"{name}: no usable row; {', '.join(drop for _, drop in drops)}. Check the file.")
        yield from (f"{name}: {drop}." for name, drop in drops)
        if isinstance(ids, TextColumn):
            _, first, inverse = np.unique(np.frombuffer(self._hashes, np.int64), return_index=True, return_inverse=True)
            before = first[inverse]
            suspects = np.flatnonzero(before != np.arange(len(ids))).tolist()
            repeated = [
                row for row in suspects if ids[row] == ids[before[row]]
            ]  # a different id may have the same hash
            if repeated:
                part = parts[bisect_right(self._ends, repeated[0])]
                example = f"{shown(ids[repeated[0]])}, {part.unit} {self._lines[repeated[0]]}"
                yield f"{part.name}: {count(len(repeated), 'row')} with an id used before (first: {example})."

    def _drop(self, file: int, why: str, line: int) -> None:
        self._dropped.setdefault((file, why), DroppedRows(line)).number += 1

    def _check_columns(self, name: str, records: Records) -> None:
        known = list(records.columns)
        unused = [column for column in known if column not in self.wanted]
        for key, column in self._keys:
            found = known.count(column)
            if not found and not (key == "id" and not self._has_id(records)):
                raise ValueError(
                    f"{name}{records.header}: there is no column {shown(column)}, found {quoted(known)}."
                    f"{near(column, unused)} Set {key if key == 'where' else f'columns.{key}'}."
                )
            if found > 1:
                raise ValueError(
                    f"{name}{records.header}: {found} columns are named {shown(column)}. Rename all but one."
                )


_MAKE: dict[str, Callable[[object], Any]] = {
    "text": cells.as_text,
    "id": cells.as_id,
    "where": cells.as_label,
}


def _made(
    make: Sequence[Callable[[object], Any]],
    values: Sequence[object],
    columns: Sequence[str],
    at: Callable[[int, str], str],
    line: int,
) -> list[Any]:
    """Returns the values, each converted by the function at the same position in ``make``. An error names the cell."""
    made: list[Any] = []
    try:
        for each, value in zip(make, values, strict=False):
            made.append(each(value))
    except ValueError as error:
        raise ValueError(f"{at(line, columns[len(made)])}: {error}") from None
    return made
