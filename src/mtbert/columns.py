"""Columns of a table, which hold texts or numbers without a Python object for each row.

Texts are stored in Arrow's layout: one block of UTF-8, and the byte at which each text begins and ends. The block may
be a memory-mapped file, so that even ten million texts take up little memory. Arrow's own arrays are not used, because
a run on CSV files must also work without pyarrow.

Dimension key: n rows.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from typing import Any, Protocol, Self, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

ROWS_AT_ONCE = 4096  # rows that become Python objects at a time
MOST_DECODED = 2**22  # bytes that are decoded at once


class TextColumn(Sequence[str]):
    """A column of texts. A text becomes a Python string only when it is read.

    Args:
        block: The UTF-8 bytes of the texts, ``[bytes]``.
        starts: The byte at which each text begins, ``[n]``.
        stops: The byte after the end of each text, ``[n]``.
        digest: The SHA-256 of ``block`` as a hexadecimal string, if it is already known.

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
        """Returns a column that holds the given texts.

        Raises:
            UnicodeEncodeError: If a text contains an unpaired surrogate.
        """
        made, left = GrowingColumn(), iter(texts)
        while part := list(islice(left, ROWS_AT_ONCE)):
            made.extend(part)
        return made.column()

    @classmethod
    def stored(cls, block: Bytes, offsets: Ints, digest: str | None = None) -> Self:
        """Returns a column of texts that follow each other in ``block``.

        Text ``i`` is ``block[offsets[i]:offsets[i + 1]]``.
        """
        return cls(block, offsets[:-1], offsets[1:], digest)

    def take(self, rows: Ints) -> Self:
        """Returns a column with the texts of the given rows, in the given order. The texts are not copied."""
        return type(self)(self.block, self.starts[rows], self.stops[rows], self._digest)

    def digest(self) -> str:
        """Returns the SHA-256 of the texts' bytes, and of where each text begins and ends, as a hexadecimal string."""
        if self._digest is None:
            self._digest = hashlib.sha256(self._bytes).hexdigest()
        found = hashlib.sha256(self._digest.encode())
        for places in (self.starts, self.stops):
            found.update(np.ascontiguousarray(places).data)
        return found.hexdigest()

    @cached_property
    def folded(self) -> Hashes:
        """A hash of each text, ``[n]``, that ignores upper and lower case and white space around the text."""
        return hashes(text.strip().casefold() for text in self)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Self: ...
    def __getitem__(self, row: int | slice) -> str | Self:
        if isinstance(row, slice):
            return type(self)(self.block, self.starts[row], self.stops[row], self._digest)
        return str(self._bytes[self.starts[row] : self.stops[row]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), ROWS_AT_ONCE):
            starts, stops = self.starts[first : first + ROWS_AT_ONCE], self.stops[first : first + ROWS_AT_ONCE]
            low, high = int(starts.min()), int(stops.max())
            near = bytes(self._bytes[low:high]) if high - low < MOST_DECODED else b"\xff"
            places = zip((starts - low).tolist(), (stops - low).tolist(), strict=True)
            if near.isascii():  # each byte is a character then, and slicing one string is five times as fast
                text = near.decode()
                yield from (text[start:stop] for start, stop in places)
            else:
                yield from (str(self._bytes[low + start : low + stop], "utf-8") for start, stop in places)


class WordColumn(TextColumn):
    """A column of texts in which single spaces separate the words.

    >>> WordColumn.joining(TextColumn.of(["a b", "c d"]))[1:2][0].split(" ")
    ['c', 'd']
    """

    @classmethod
    def joining(cls, texts: TextColumn) -> Self:
        """Returns a column of this class with the same texts. Single spaces must separate the words in ``texts``."""
        return cls(texts.block, texts.starts, texts.stops, texts._digest)


class TextTuples(Sequence[tuple[str, ...]]):
    """The texts of several columns, row by row: each item is a tuple with one text from each column.

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
    """A column of row numbers, which serve as ids if a table has none. Each number is returned as a string."""

    def __init__(self, numbers: Ints) -> None:
        self.numbers = numbers

    def take(self, rows: Ints) -> "NumberColumn":
        """Returns a column with the values of the given rows, in the given order."""
        return NumberColumn(self.numbers[rows])

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "NumberColumn": ...
    def __getitem__(self, row: int | slice) -> "str | NumberColumn":
        return NumberColumn(self.numbers[row]) if isinstance(row, slice) else str(self.numbers[row])


class TakesRows(Protocol):
    """The interface of a column whose method ``take`` returns the rows with the given indices."""

    def take(self, rows: Ints, /) -> Any: ...


Column = TypeVar("Column", bound=TakesRows)


class GrowingColumn:
    """Builds a :class:`TextColumn` from texts that are appended to it."""

    def __init__(self) -> None:
        self._block = bytearray()
        self._offsets = array("q", [0])

    def extend(self, texts: Iterable[str]) -> None:
        """Appends texts. One call with many texts is faster than many calls with few.

        Raises:
            UnicodeEncodeError: If a text contains an unpaired surrogate.
        """
        encoded = list(map(str.encode, texts))
        self._block += b"".join(encoded)
        self._offsets.extend(accumulate(map(len, encoded), initial=self._offsets.pop()))

    def column(self) -> TextColumn:
        """Returns the finished column.

        The column shares the memory of this builder, so no texts can be appended afterwards.
        """
        return TextColumn.stored(np.frombuffer(self._block, np.uint8), np.frombuffer(self._offsets, np.int64))


def taken(column: Column, rows: Ints, size: int) -> Column:
    """Returns the cells of ``column`` at the indices ``rows``, which must ascend without duplicates.

    ``size`` is the number of cells in ``column``. If all of them are taken, returns ``column`` itself.
    """
    return column if len(rows) == size else cast("Column", column.take(rows))


def hashes(texts: Iterable[str]) -> Hashes:
    """Returns a 64-bit BLAKE2b hash of each text, ``[n]``. The hash of a text is the same in every process.

    Collisions are rare: among 20 million different texts, the chance that any two have the same hash is 1 in 90,000.
    """
    found, blake = bytearray(), hashlib.blake2b
    for text in texts:
        found += blake(text.encode(), digest_size=8).digest()
    return np.frombuffer(found, np.uint64)


def numbered(keys: npt.NDArray[np.generic]) -> Ints:
    """Returns a number for each key, ``[n]``. Equal keys have equal numbers.

    Different keys have the numbers 0, 1, ... in the order of their first occurrence.

    >>> numbered(np.array([30, 10, 30, 20])).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
