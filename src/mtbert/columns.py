"""Columns of a table: texts, repeated texts and numbers, without a Python object for each row.

Texts lie as Arrow lays them: one block of UTF-8, and where each begins and ends. The block may be a mapped file, so
that ten million texts need no memory of their own. Arrow's own arrays are not used, because a run on CSV files must
also work where pyarrow is not installed.

Dimension key: n rows.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from typing import Self, overload

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

ROWS_AT_ONCE = 4096  # rows that become Python objects at a time
MOST_DECODED = 2**22  # bytes that are decoded at once


class TextColumn(Sequence[str]):
    """A column of texts; a string is made when one is asked for.

    Args:
        block: UTF-8, ``[bytes]``.
        starts: The byte at which each text begins, ``[n]``.
        stops: The byte behind each text, ``[n]``.
        digest: SHA-256 of ``block`` in hex digits, where it is known.

    >>> column = TextColumn.of(["one", "zwölf", ""])
    >>> column[1], list(column.take(np.array([2, 0])))
    ('zwölf', ['', 'one'])
    """

    def __init__(self, block: Bytes, starts: Ints, stops: Ints, digest: str | None = None) -> None:
        self.block, self.starts, self.stops = block, starts, stops
        self._bytes = memoryview(block)  # type: ignore[arg-type]
        self._digest = digest

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TextColumn":
        """Returns a column with these texts.

        Raises:
            UnicodeEncodeError: If one holds half a surrogate pair.
        """
        made, left = GrowingColumn(), iter(texts)
        while part := list(islice(left, ROWS_AT_ONCE)):
            made.extend(part)
        return made.column()

    @classmethod
    def stored(cls, block: Bytes, offsets: Ints, digest: str | None = None) -> Self:
        """Returns the column whose texts lie one after the other; ``offsets`` has ``n + 1`` numbers."""
        return cls(block, offsets[:-1], offsets[1:], digest)

    def take(self, rows: Ints) -> "TextColumn":
        """Returns the texts of these rows, in this order; they share the block."""
        return TextColumn(self.block, self.starts[rows], self.stops[rows], self._digest)

    def digest(self) -> str:
        """Returns a SHA-256 that differs where a text does: of the block, and of where the texts lie in it."""
        if self._digest is None:
            self._digest = hashlib.sha256(self._bytes).hexdigest()
        found = hashlib.sha256(self._digest.encode())
        for places in (self.starts, self.stops):
            found.update(np.ascontiguousarray(places).data)
        return found.hexdigest()

    @cached_property
    def folded(self) -> Hashes:
        """A hash of each text without outer space and case, ``[n]``: texts that are the same to a reader share one."""
        return hashes(text.strip().casefold() for text in self)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "TextColumn": ...
    def __getitem__(self, row: int | slice) -> "str | TextColumn":
        if isinstance(row, slice):
            return TextColumn(self.block, self.starts[row], self.stops[row], self._digest)
        return str(self._bytes[self.starts[row] : self.stops[row]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), ROWS_AT_ONCE):
            starts, stops = self.starts[first : first + ROWS_AT_ONCE], self.stops[first : first + ROWS_AT_ONCE]
            low, high = int(starts.min()), int(stops.max())
            near = bytes(self._bytes[low:high]) if high - low < MOST_DECODED else b"\xff"
            places = zip((starts - low).tolist(), (stops - low).tolist(), strict=True)
            if near.isascii():  # then bytes are characters, and slices of one string are five times as fast
                text = near.decode()
                yield from (text[start:stop] for start, stop in places)
            else:
                yield from (str(self._bytes[low + start : low + stop], "utf-8") for start, stop in places)


class TextTuples(Sequence[tuple[str, ...]]):
    """The texts of several columns, row by row.

    >>> TextTuples([TextColumn.of(["a", "b"]), TextColumn.of(["c", "d"])])[1]
    ('b', 'd')
    """

    def __init__(self, columns: Sequence[TextColumn]) -> None:
        self.columns = tuple(columns)

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, row: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, row: slice) -> list[tuple[str, ...]]: ...
    def __getitem__(self, row: int | slice) -> tuple[str, ...] | list[tuple[str, ...]]:
        if isinstance(row, slice):
            return list(zip(*(column[row] for column in self.columns), strict=True))
        return tuple(column[row] for column in self.columns)


class NumberColumn(Sequence[str]):
    """A column of texts that are numbers written out, as ids are where a table has none."""

    def __init__(self, numbers: Ints) -> None:
        self.numbers = numbers

    def take(self, rows: Ints) -> "NumberColumn":
        """Returns the texts of these rows, in this order."""
        return NumberColumn(self.numbers[rows])

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "NumberColumn": ...
    def __getitem__(self, row: int | slice) -> "str | NumberColumn":
        return NumberColumn(self.numbers[row]) if isinstance(row, slice) else str(self.numbers[row])


class CodedColumn(Sequence[str | None]):
    """A column of cells of which many are the same, as labels are.

    Args:
        values: The different texts, in the order of their first row.
        codes: The number of each row's text among them, ``[n]``; -1 where the cell is missing.
    """

    def __init__(self, values: Sequence[str], codes: npt.NDArray[np.int32]) -> None:
        self.values, self.codes = values, codes

    @classmethod
    def of(cls, cells: Iterable[str | None]) -> Self:
        """Returns a column with these cells.

        >>> column = CodedColumn.of(["b", None, "a", "b"])
        >>> column.values, column.codes.tolist(), column[1:3]
        (['b', 'a'], [0, -1, 1, 0], [None, 'a'])
        """
        known: dict[str, int] = {}
        codes = [-1 if cell is None else known.setdefault(cell, len(known)) for cell in cells]
        return cls(list(known), np.array(codes, np.int32))

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str | None]:
        values = [*self.values, None]  # the last is that of code -1
        for first in range(0, len(self), ROWS_AT_ONCE):
            yield from map(values.__getitem__, self.codes[first : first + ROWS_AT_ONCE].tolist())

    @overload
    def __getitem__(self, row: int) -> str | None: ...
    @overload
    def __getitem__(self, row: slice) -> list[str | None]: ...
    def __getitem__(self, row: int | slice) -> str | list[str | None] | None:
        if isinstance(row, slice):
            return [None if code < 0 else self.values[code] for code in self.codes[row].tolist()]
        code = self.codes[row]
        return None if code < 0 else self.values[code]


class GrowingColumn:
    """A column of texts while it grows."""

    def __init__(self) -> None:
        self._block = bytearray()
        self._offsets = array("q", [0])

    def extend(self, texts: Iterable[str]) -> None:
        """Adds texts; many at once are faster.

        Raises:
            UnicodeEncodeError: If one holds half a surrogate pair.
        """
        encoded = list(map(str.encode, texts))
        self._block += b"".join(encoded)
        self._offsets.extend(accumulate(map(len, encoded), initial=self._offsets.pop()))

    def column(self) -> TextColumn:
        """Returns the column, which shares its memory: nothing can be appended from then on."""
        return TextColumn.stored(np.frombuffer(self._block, np.uint8), np.frombuffer(self._offsets, np.int64))


def hashes(texts: Iterable[str]) -> Hashes:
    """Returns 64 bits of each text's BLAKE2b hash, ``[n]``: the same ones in every process.

    Two of 20 million different texts share a hash once in 90,000 such tables.
    """
    found, blake = bytearray(), hashlib.blake2b
    for text in texts:
        found += blake(text.encode(), digest_size=8).digest()
    return np.frombuffer(found, np.uint64)


def numbered(keys: npt.NDArray[np.generic]) -> Ints:
    """Returns for each key a number that equal ones share, ``[n]``: 0, 1, ... in the order of their first row.

    >>> numbered(np.array([30, 10, 30, 20])).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
