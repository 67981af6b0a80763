"""Reading files of any size in blocks of bounded size, with all columns, from the first row to the last.

The rows of a block depend on the file and on the calls of :meth:`RowStream.take` and :meth:`RowStream.skip` alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mtbert.data import formats, parquet
from mtbert.data.objects import MOST_COLUMNS
from mtbert.data.records import Record, Records, check_names

MOST_BYTES = 2**24  # a block ends as soon as its cells take more bytes
BUFFER = 2**20  # bytes of a column of a Parquet file that are read at once


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a file, with all columns.

    Attributes:
        name: The name by which error messages call the file.
        first: The number of rows of the file before the block.
        size: The number of rows in the block.
        columns: The names of all columns of the file.
        lines: For each row, the number by which error messages call the row, such as the ``7`` in ``line 7``.
        unit: The word that error messages put before the number of a row, such as ``line``.
        rows: For each row, its values; empty if there is a ``table``.
        table: The rows as a ``pyarrow.Table``, if the file is a Parquet file; otherwise None.
    """

    name: str
    first: int
    size: int
    columns: tuple[str, ...]
    lines: Sequence[int]
    unit: str
    rows: Sequence[Sequence[object]] = ()
    table: Any = None

    def records(self, wanted: Sequence[str]) -> Records:
        """Returns the rows of this block. Each row holds only the values of the ``wanted`` columns."""
        at = [self.columns.index(column) if column in self.columns else None for column in wanted]
        if self.table is None:
            found = ([None if i is None else row[i] for i in at] for row in self.rows)
            return Records(self.columns, zip(self.lines, found, strict=True), self.unit)
        nothing: list[object] = [None] * self.size
        values = [nothing if i is None else self._values(i) for i in at]
        return Records(self.columns, zip(self.lines, zip(*values, strict=True), strict=True), self.unit)

    def _values(self, column: int) -> list[object]:
        return parquet.cell_values(self.name, self.columns[column], self.table.column(column))


class RowStream(ABC):
    """A stream of the rows of a file, which :func:`opened_stream` opens."""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self.name, self.columns = name, tuple(columns)
        self.types = ("text",) * len(self.columns)  # of Parquet files, the type of each column
        self.done = 0  # rows that were taken or skipped
        check_names(name, self.columns)

    @abstractmethod
    def more(self) -> bool:
        """Returns whether a row is left."""

    @abstractmethod
    def take(self, most: int) -> Block:
        """Returns the next rows: at most ``most``, and at least one. There must be a row left."""

    @abstractmethod
    def skip(self, rows: int) -> None:
        """Passes over the next ``rows`` rows, or over all that are left if these are fewer."""

    @abstractmethod
    def share(self) -> float:
        """Returns which share of the file has been read, from 0 to 1."""


class TextStream(RowStream):
    """The rows of a text file, such as CSV or JSON lines."""

    def __init__(self, name: str, columns: Sequence[str], records: Records, size: int) -> None:
        super().__init__(name, columns)
        self._rows, self._unit, self._reached, self._bytes = iter(records.rows), records.unit, records.reached, size
        self._next: Record | None = None

    def more(self) -> bool:
        if self._next is None:
            self._next = next(self._rows, None)
        return self._next is not None

    def take(self, most: int) -> Block:
        lines: list[int] = []
        rows: list[Sequence[object]] = []
        size = 0
        while len(rows) < most and size <= MOST_BYTES and self.more():
            assert self._next is not None
            line, row = self._next
            self._next = None
            lines.append(line)
            rows.append(row)
            size += sum(len(cell) if isinstance(cell, str) else 8 for cell in row)
        block = Block(self.name, self.done, len(rows), self.columns, lines, self._unit, rows)
        self.done += block.size
        return block

    def skip(self, rows: int) -> None:
        while rows and self.more():
            self._next = None
            passed = 1 + sum(1 for _ in islice(self._rows, rows - 1))
            self.done += passed
            rows -= passed

    def share(self) -> float:
        return self._reached() / max(self._bytes, 1) if self._reached is not None else 0.0


class ParquetStream(RowStream):
    """The rows of a Parquet file. Row groups that are passed over are not read."""

    def __init__(self, name: str, file: Any) -> None:
        super().__init__(name, file.schema_arrow.names)
        self._file, self.size = file, int(file.metadata.num_rows)
        self.types = tuple(map(str, file.schema_arrow.types))
        self._group = 0  # the next row group
        self._batches: Iterator[Any] = iter(())
        self._ahead: Any = None  # the rest of the current batch

    def more(self) -> bool:
        return self.done < self.size

    def take(self, most: int) -> Block:
        import pyarrow as pa

        parts: list[Any] = []
        first = self.done
        size = 0
        while self.done - first < most and size <= MOST_BYTES and self.more():
            parts.append(self._some(most - (self.done - first)))
            size += parts[-1].nbytes
        table = pa.Table.from_batches(parts).replace_schema_metadata()
        lines = range(first + 1, self.done + 1)
        return Block(self.name, first, self.done - first, self.columns, lines, "row", table=table)

    def skip(self, rows: int) -> None:
        rows = min(rows, self.size - self.done)
        while rows:
            passed = self._rows_of(self._group) if self._between_groups() else 0
            if 0 < passed <= rows:
                self._group += 1
                self.done += passed
            else:
                passed = self._some(rows).num_rows
            rows -= passed

    def share(self) -> float:
        return self.done / max(self.size, 1)

    def _rows_of(self, group: int) -> int:
        return int(self._file.metadata.row_group(group).num_rows)

    def _between_groups(self) -> bool:
        """Returns whether the next row begins a new row group.

        If the next row does not begin a row group, this call makes sure that ``self._ahead`` holds the next rows.
        """
        if self._ahead is None:
            with parquet.parquet_errors(self.name):
                self._ahead = next(self._batches, None)
        return self._ahead is None

    def _some(self, most: int) -> Any:
        """Returns the next rows as one Arrow batch of at most ``most`` rows. There must be a row left."""
        while self._between_groups():
            with parquet.parquet_errors(self.name):
                self._batches = self._file.iter_batches(
                    batch_size=parquet.BATCH, row_groups=[self._group], use_threads=False
                )
            self._group += 1
        found = self._ahead.slice(0, most)
        rest = self._ahead.slice(most)
        self._ahead = rest if rest.num_rows else None
        self.done += found.num_rows
        return found


@contextmanager
def opened_stream(name: str, path: Path, wanted: Sequence[str]) -> Iterator[RowStream]:
    """Yields a file of any size as a :class:`RowStream`.

    A JSON file is first read once to find its columns. If it contains no object, it has no rows.

    Args:
        name: The name of the file in messages.
        path: The path of the file.
        wanted: Columns that the file should have. They help to detect the separator of columns.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read, or if two columns have the same name.
    """
    if formats.file_kind(name, path)[0] == ".parquet":
        with opened_parquet(name, path) as file:
            yield ParquetStream(name, file)
        return
    with _records(name, path, wanted) as records:
        columns = _all_columns(name, records) if records.late else list(records.columns)
    with _records(name, path, columns) as records:
        yield TextStream(name, columns, records, path.stat().st_size)


@contextmanager
def opened_parquet(name: str, path: Path) -> Iterator[Any]:
    """Yields a Parquet file as a ``pyarrow.parquet.ParquetFile`` that reads in small parts."""
    with formats.opened_bytes(name, path, unlimited=True) as opened:
        yield parquet.parquet_file(name, opened, BUFFER)


def first_keys(name: str, path: Path, wanted: Sequence[str]) -> tuple[str, ...]:
    """Returns the keys of the objects at the beginning of a JSON file.

    Objects are read until each of the ``wanted`` keys has been seen. If the first object has all of these keys, no
    other object is read. If a key is never seen, the whole file is read. If the file has no object, the tuple is empty.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read.
    """
    with _records(name, path, wanted) as records:
        for _ in records.rows:
            if all(column in records.columns for column in wanted):
                break
        return tuple(records.columns)


def _records(name: str, path: Path, wanted: Sequence[str]) -> AbstractContextManager[Records]:
    return formats.opened(name, path, wanted, unlimited=True, may_be_empty=True)


def _all_columns(name: str, records: Records) -> list[str]:
    for _ in records.rows:
        if len(records.columns) >= MOST_COLUMNS:
            raise ValueError(f"{name}: its objects have {MOST_COLUMNS:,} different keys or more. Give fewer columns.")
    return list(records.columns)
