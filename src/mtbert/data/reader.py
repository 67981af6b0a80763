"""Makes a source table from records: the cells that tasks read are converted and put into columns."""

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mtbert.advice import see
from mtbert.columns import GrowingColumn, NumberColumn, TextColumn, WordColumn
from mtbert.data import cells
from mtbert.data.cell_groups import CellGroup
from mtbert.data.mistakes import NoColumn
from mtbert.data.records import Records
from mtbert.data.source_table import Others, SourceTable, readings
from mtbert.data.tables import Columns, TableFile
from mtbert.data.words import Given, WordReader, as_tags
from mtbert.messages import count, shown
from mtbert.progress_bar import progress_of

TOGETHER = 256  # rows moved into columns at once; few, because a row may hold megabytes of text
MOST_ROWS = 20_000_000  # most rows of a table; they fit into the memory of a large machine
ROWS_OF_A_TICK = 4096  # rows between two calls of the progress bar


class Reader:
    """Makes one source table from the records of one or more files.

    The table holds each column that at least one of its tasks reads. Call :meth:`read` for each file, and :meth:`table`
    at the end.

    Args:
        each: The column settings of each task. All tasks have the same id column.
        where: The values that a record must have, by column. Other records are left out, unless ``whole`` is true.
        labelled: Whether to read labels too.
        whole: Whether to keep the records that do not satisfy ``where``, so that they take part when dev is split off
            from train. The labels of these records are not read, only whether there is one.
        words: Text columns whose cells may be lists of words. The text columns of tasks that assign a label to each
            word need not be named here.
        gaps: Whether a text may be empty in data without labels.
    """

    def __init__(
        self,
        each: Sequence[Columns],
        where: dict[str, str | None],
        labelled: bool,
        *,
        whole: bool = False,
        words: Collection[str] = (),
        gaps: bool = False,
    ) -> None:
        self.chosen = 0  # records that satisfy ``where``
        texts, groups, self._readings = readings(each)
        self._id, self._where, self._labelled, self._whole = each[0].id, where, labelled, whole
        self._gaps = labelled or gaps
        self._keys = [("text", column) for column in texts]
        labels = groups if labelled else []
        self._slots: list[tuple[CellGroup, slice]] = []  # where the cells of each label and weight are
        for group in labels:
            self._slots.append((group, slice(len(self._keys), len(self._keys) + len(group.names))))
            self._keys += [(group.key, column) for column in group.names]
        self._keys += [("id", self._id)] if self._id is not None else []
        self._keys += [("where", column) for column in where]
        self.wanted = [column for _, column in self._keys]
        self._records = 0
        self._waiting: list[list[Any]] = []  # rows that are not in columns yet, as texts, labels and id
        self._texts = [GrowingColumn() for _ in texts]
        listed = {*words, *(columns.text[0] for columns in each if columns.words)}
        self._words = {i: WordReader() for i, column in enumerate(texts) if column in listed}
        self._untagged = {i: array("q") for i in self._words}  # rows with a plain text and no tags
        self._widened: list[tuple[str, str, int]] = []  # file, unit and line of each span with a part of a word
        self._ids = GrowingColumn()
        self._hashes, self._numbers, self._lines = array("q"), array("q"), array("q")
        self._others = array("b")  # if ``whole``, for each row: whether it is one of the others, and has which labels
        self._chosen_row = bytes(1 + len(labels))
        self._labels = [group.growing() for group in labels]
        self._ends: list[int] = []
        self._unnamed: ValueError | None = None  # for the first row without an id; raised if the file has ids

    def read(self, name: str, records: Records) -> None:
        """Adds the rows of a file to the table. ``name`` is the name of the file in messages.

        Raises:
            ValueError: If a column is missing, a cell cannot be converted, or there are no rows.
        """
        if not records.late:
            self._check_columns(name, records)
        before, self._unnamed = self._records, None
        add = self._adder(name, records)
        wrong: ValueError | None = None
        with progress_of(f"reading {name}") as tick:
            for line, values in records.rows:
                self._records += 1
                if self._records % ROWS_OF_A_TICK == 0:
                    tick(ROWS_OF_A_TICK)
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

    def table(self, parts: Sequence[TableFile]) -> SourceTable:
        """Returns all rows as a table. No more files can be read after this call."""
        ids = NumberColumn(np.frombuffer(self._numbers, np.int64)) if self._id is None else self._ids.column()
        made = SourceTable(
            parts=tuple(parts),
            ids=ids,
            texts=tuple(map(self._text_column, range(len(self._texts)))),
            labels=tuple(column.column() for column in self._labels),
            readings=self._readings,
            lines=np.frombuffer(self._lines, np.int64),
            ends=tuple(self._ends),
        )
        hashes = np.frombuffer(self._hashes, np.int64)
        if self._whole:
            others = np.frombuffer(self._others, np.bool_).reshape(len(made), -1)
            made = replace(made, others=Others(others[:, 0], tuple(others[:, 1:].T)))
            hashes = hashes[~others[:, 0]] if len(hashes) else hashes
        return replace(made, warnings=(*self._repeated(made.chosen, hashes), *self._told_widened()))

    def _text_column(self, column: int) -> TextColumn:
        """Returns the column of texts with index ``column``.

        If the cells of the column are lists of words, or if there is a tag for each word, every text of the result
        consists of words that are joined by single spaces.
        """
        made = self._texts[column].column()
        if column not in self._words or not self._words[column].given:
            return made
        plain = set(self._untagged[column])
        if plain:
            made = TextColumn.of(" ".join(text.split()) if row in plain else text for row, text in enumerate(made))
        return WordColumn.joining(made)

    def _adder(self, name: str, records: Records) -> Callable[[int, Sequence[object]], None]:
        """Returns a function that takes a record of a file, converts it, and adds it to the table."""
        slots, labelled, id_key = self._slots, self._labelled, self._id
        texts, end = len(self._texts), len(self._keys) - len(self._where)
        of_labels = iter([_converts(group) for group, _ in slots for _ in group.names])
        join = [(tuple if group.numbers else group.join, slot) for group, slot in slots]
        make = [_MAKE[key] if key in _MAKE else next(of_labels) for key, _ in self._keys]
        for i, reader in self._words.items():
            make[i] = reader.text
        chosen_by, make = make[end:], make[:end]
        wanted = list(self._where.values())

        def at(line: int, column: str) -> str:
            return cells.place(name, records.unit, line, column)

        def add(line: int, values: Sequence[object]) -> None:
            if wanted:
                found = _made(chosen_by, values[end:], self.wanted[end:], at, line)
                if not all(map(cells.same, found, wanted)):
                    if self._whole:
                        self._append_other(line, values)
                    return
            self.chosen += 1
            made = _made(make, values, self.wanted, at, line)
            for i, reader in self._words.items():
                self._read_words(i, reader, made, name, records.unit, line)
            if labelled:
                made[texts : slots[-1][1].stop] = [each(made[slot]) for each, slot in join]
            if not self._gaps and "" in made[:texts]:
                where = at(line, self.wanted[made.index("")])
                raise ValueError(f"{where}: the text is empty. Give a text, or drop the row.")
            if id_key is None:
                self._numbers.append(self._records)
            elif made[-1] == "" and self._usable(made):
                made[-1] = self._number(at(line, id_key), records)
            self._append(line, made, self._chosen_row)

        return add

    def _append_other(self, line: int, values: Sequence[object]) -> None:
        """Adds a row with the texts of a record that does not satisfy ``where``. The row has no label."""
        made: list[Any] = [cells.any_text(value) for value in values[: len(self._texts)]]
        made += [(math.nan,) * len(group.names) if group.numbers else None for group, _ in self._slots]
        if self._id is None:
            self._numbers.append(self._records)
        else:
            made.append("")
        self._append(line, made, bytes([1, *(any(map(cells.is_given, values[slot])) for _, slot in self._slots)]))

    def _append(self, line: int, made: list[Any], others: bytes) -> None:
        self._lines.append(line)
        if self._whole:
            self._others.frombytes(others)
        self._waiting.append(made)
        if len(self._waiting) == TOGETHER:
            self._settle()

    def _read_words(self, column: int, reader: WordReader, row: list[Any], name: str, unit: str, line: int) -> None:
        """Replaces the labels of words in ``row`` by JSON lists with one tag for each word.

        The words are those of the text ``row[column]``. A label in ``row`` is either a list of tags or a list of
        entities with their places in the text. If the labels are tags, the text is replaced by its words, joined by
        single spaces. If the labels are entities, or if the row has no labels, the text stays as it is.
        """
        own = [slot.start for group, slot in self._slots if group.words_of == self._keys[column][1]]
        at = own[0] if own else column
        try:
            if own:
                if not isinstance(row[column], Given) and all(row[i] is None for i in own):
                    self._untagged[column].append(len(self._lines))
                row[column], tags, widened = reader.tagged(row[column], [row[i] for i in own])
                for i, each in zip(own, tags, strict=True):
                    row[i] = each
                self._widened += [(name, unit, line)] * widened
            elif row[column]:
                row[column] = reader.untagged(row[column])
        except ValueError as error:
            raise ValueError(f"{cells.place(name, unit, line, self.wanted[at])}: {error}") from None

    def _told_widened(self) -> Iterator[str]:
        """Yields a warning for each file with entities that had to be widened to whole words."""
        for name, unit in dict.fromkeys((name, unit) for name, unit, _ in self._widened):
            lines = [line for each, _, line in self._widened if each == name]
            spans = f"{count(len(lines), 'span')} with a part of a word"
            yield f"{name}: {spans}, which stands for the whole word (first: {unit} {lines[0]})."

    def _settle(self) -> None:
        """Moves all rows that were converted since the last call into the columns of the table."""
        if not self._waiting:
            return
        made = list(zip(*self._waiting, strict=True))
        for column, texts in zip(self._texts, made, strict=False):
            column.extend(texts)
        for labels, cells_ in zip(self._labels, made[len(self._texts) :], strict=False):
            labels.extend(cells_)
        if self._id is not None:
            self._ids.extend(made[-1])
            self._hashes.extend(map(hash, made[-1]))
        self._waiting.clear()

    def _usable(self, made: Sequence[Any]) -> bool:
        """Returns whether a row has the label and all texts of at least one task. Always true if no labels are read.

        ``made`` holds the values of the row: first the texts, then the labels.
        """
        labels = made[len(self._texts) :]
        return not self._labelled or any(
            not _is_missing(labels[reading.labels]) and all(made[i] for i in reading.texts)
            for reading in self._readings
        )

    def _number(self, place: str, records: Records) -> str:
        """Returns the number of the current record as text, which is the id of a record without an id of its own.

        Raises:
            ValueError: If a record must have an id: labels are read, or the file has an id column.
        """
        error = ValueError(f"{place}: the id is empty. Give one, or number the rows with columns.id: null.")
        if self._has_id(records):
            raise error
        self._unnamed = self._unnamed or error
        return str(self._records)

    def _has_id(self, records: Records) -> bool:
        return self._labelled or self._id in records.columns

    def _repeated(self, table: SourceTable, hashes: npt.NDArray[np.int64]) -> Iterator[str]:
        """Yields one warning if several rows have the same id. ``hashes`` has the hash of each row's id.

        If the data is labelled, rows that no task can read are ignored.

        Raises:
            ValueError: If the data is labelled, and no task can read any row.
        """
        rows = table.usable if self._labelled else np.arange(len(table))
        if isinstance(table.ids, TextColumn):
            _, first, inverse = np.unique(hashes[rows], return_index=True, return_inverse=True)
            before = first[inverse]
            suspects = np.flatnonzero(before != np.arange(len(rows)))
            repeated = [
                row
                for row, other in zip(rows[suspects].tolist(), rows[before[suspects]].tolist(), strict=True)
                if table.ids[row] == table.ids[other]  # a different id may have the same hash
            ]
            if repeated:
                part = table.parts[bisect_right(table.ends, repeated[0])]
                example = f"{shown(table.ids[repeated[0]])}, {part.unit} {table.lines[repeated[0]]}"
                yield f"{part.name}: {count(len(repeated), 'row')} with an id used before (first: {example})."

    def _check_columns(self, name: str, records: Records) -> None:
        known = list(records.columns)
        unused = [column for column in known if column not in self.wanted]
        for key, column in self._keys:
            found = known.count(column)
            if not found and not (key == "id" and not self._has_id(records)):
                where = "where" if key == "where" else f"columns.{key}"
                raise NoColumn(f"{name}{records.header}", where, column, known, unused, see("own-data"))
            if found > 1:
                raise ValueError(
                    f"{name}{records.header}: {found} columns are named {shown(column)}. Rename all but one."
                )


_MAKE: dict[str, Callable[[object], Any]] = {
    "text": cells.as_text,
    "id": cells.as_id,
    "where": cells.as_label,
}


def _converts(group: CellGroup) -> Callable[[object], Any]:
    """Returns the function that converts a cell of ``group`` to a number, to the tags of words, or to a string."""
    return group.numbers.read if group.numbers else as_tags if group.words_of else group.convert


def _is_missing(label: str | tuple[float, ...] | None) -> bool:
    return label is None or (isinstance(label, tuple) and all(map(math.isnan, label)))


def _made(
    make: Sequence[Callable[[object], Any]],
    values: Sequence[object],
    columns: Sequence[str],
    at: Callable[[int, str], str],
    line: int,
) -> list[Any]:
    """Returns each value, converted by the function in ``make`` at the same index. Errors name the cell."""
    made: list[Any] = []
    try:
        for each, value in zip(make, values, strict=False):
            made.append(each(value))
    except ValueError as error:
        raise ValueError(f"{at(line, columns[len(made)])}: {error}") from None
    return made
