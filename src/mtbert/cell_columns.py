"""Columns of labels and weights, as they are written in a file. A cell may be empty.

There are three classes, which store cells in different ways:

- :class:`CodedColumn` stores each distinct text once. It is for texts that occur in many cells, such as class names.
- :class:`TextCells` stores the text of every cell. It is for texts that seldom repeat, such as ``["O", "PER", "O"]``.
- :class:`NumberCells` stores numbers, one or more for each row. It is for weights, and for labels that are written as
  numbers in several columns of the file.

Dimension key: n rows.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, overload

import numpy as np
import numpy.typing as npt

from mtbert.columns import ROWS_AT_ONCE, GrowingColumn, Ints, TextColumn
from mtbert.number_cells import Mask, NumberCells

MOST_CODED = 2**16  # different texts of a column that are stored once each


class CodedColumn(Sequence[str | None]):
    """A column of cells in which the same texts occur many times, such as labels. Each different text is stored once.

    Args:
        values: The different texts, in the order in which they first occur.
        codes: For each row, the index of its text in ``values``, ``[n]``; -1 for a missing cell.
    """

    def __init__(self, values: Sequence[str], codes: npt.NDArray[np.int32]) -> None:
        self.values, self.codes = values, codes

    @property
    def given(self) -> Mask:
        """A mask of the cells that are not missing, ``[n]``."""
        return self.codes >= 0

    @classmethod
    def of(cls, cells: Iterable[str | None]) -> Self:
        """Returns a column that holds the given cells. None stands for a missing cell.

        >>> column = CodedColumn.of(["b", None, "a", "b"])
        >>> column.values, column.codes.tolist(), column[1:3]
        (['b', 'a'], [0, -1, 1, 0], [None, 'a'])
        """
        known: dict[str, int] = {}
        codes = [-1 if cell is None else known.setdefault(cell, len(known)) for cell in cells]
        return cls(list(known), np.array(codes, np.int32))

    def take(self, rows: Ints) -> "CodedColumn":
        """Returns a column of the cells of ``rows``, in this order. It stores only the texts that occur in these cells.

        >>> column = CodedColumn.of(["b", None, "a", "b"]).take(np.array([2, 1]))
        >>> column.values, list(column)
        (['a'], ['a', None])
        """
        codes = self.codes[rows]
        used = np.bincount(codes[codes >= 0], minlength=len(self.values)) > 0
        if used.all():
            return CodedColumn(self.values, codes)
        found = np.append(np.cumsum(used) - 1, -1).astype(np.int32)  # code -1 is the last one
        return CodedColumn(
            [value for value, here in zip(self.values, used.tolist(), strict=True) if here], found[codes]
        )

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str | None]:
        values = [*self.values, None]  # code -1 is the last one, None
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


class TextCells(Sequence[str | None]):
    """A column that stores the text of each cell separately. It is meant for columns in which few texts repeat.

    >>> column = TextCells(TextColumn.of(["0.25", "", "0.5"]))
    >>> column[0], list(column), column.given.tolist()
    ('0.25', ['0.25', None, '0.5'], [True, False, True])
    """

    def __init__(self, texts: TextColumn) -> None:
        self.texts = texts  # an empty text stands for a missing cell

    @property
    def given(self) -> Mask:
        """A mask of the cells that are not missing, ``[n]``."""
        found: Mask = self.texts.stops > self.texts.starts
        return found

    def take(self, rows: Ints) -> "TextCells":
        """Returns a column of the cells of the given rows, in the given order. The texts are not copied."""
        return TextCells(self.texts.take(rows))

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str | None]:
        return (text or None for text in self.texts)

    @overload
    def __getitem__(self, row: int) -> str | None: ...
    @overload
    def __getitem__(self, row: slice) -> "TextCells": ...
    def __getitem__(self, row: int | slice) -> "str | TextCells | None":
        return TextCells(self.texts[row]) if isinstance(row, slice) else self.texts[row] or None


CellColumn = CodedColumn | TextCells | NumberCells


class GrowingCells:
    """Builds a column of labels from cells that are appended to it."""

    def __init__(self) -> None:
        self._known: dict[str | None, int] = {None: -1}
        self._codes = array("i")
        self._texts: GrowingColumn | None = None  # holds all cells, once there are many different ones

    def extend(self, cells: Sequence[str | None]) -> None:
        """Appends ``cells`` to the column. Each cell must be a text that is not empty, or None if it is missing.

        Raises:
            UnicodeEncodeError: If a text contains an unpaired surrogate.
        """
        if self._texts is not None:
            self._texts.extend(cell or "" for cell in cells)
            return
        known = self._known
        self._codes.extend([known.setdefault(cell, len(known) - 1) for cell in cells])
        if len(known) - 1 > MOST_CODED:
            coded, self._texts = self._coded(), GrowingColumn()
            for first in range(0, len(coded), ROWS_AT_ONCE):
                self._texts.extend(cell or "" for cell in coded[first : first + ROWS_AT_ONCE])
            self._known, self._codes = {}, array("i")

    def column(self) -> CodedColumn | TextCells:
        """Returns the finished column. No cells can be appended afterwards."""
        return self._coded() if self._texts is None else TextCells(self._texts.column())

    def _coded(self) -> CodedColumn:
        texts = [text for text in self._known if text is not None]
        return CodedColumn(texts, np.frombuffer(self._codes, np.int32))
