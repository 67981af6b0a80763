"""Cells of a file that hold numbers, such as weights or shares. All numbers are stored in one array.

Dimension key: n rows, C columns of a file.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating[Any]]
NumberType = Literal["<f2", "<f8"]  # zeros and ones, or any numbers
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class NumberCells(Sequence[str | None]):
    """One or more columns of numbers in a file. Together they give a label or a weight for each row.

    The class is a sequence with one item for each row: the text that ``written`` makes from the numbers of the row, or
    None if all cells of the row are empty.

    Args:
        names: The names of the columns.
        numbers: The numbers, ``[n, C]``; ``nan`` for an empty cell.
        written: A function that makes one text from the numbers of a row.

    >>> cells = NumberCells(("a", "b"), np.array([[0.25, 0.75], [np.nan, np.nan]]), str)
    >>> len(cells), cells[0], cells[1], cells.given.tolist()
    (2, '[0.25, 0.75]', None, [True, False])
    """

    names: tuple[str, ...]
    numbers: Numbers
    written: Callable[[Sequence[float]], str | None]

    @property
    def given(self) -> Mask:
        """A mask of the rows in which at least one cell holds a number, ``[n]``."""
        found: Mask = np.logical_not(np.isnan(self.numbers).all(axis=1))
        return found

    def take(self, rows: npt.NDArray[np.int64]) -> "NumberCells":
        """Returns the cells of the given rows, in the given order."""
        return NumberCells(self.names, self.numbers[rows], self.written)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, row: int) -> str | None: ...
    @overload
    def __getitem__(self, row: slice) -> "NumberCells": ...
    def __getitem__(self, row: int | slice) -> "str | NumberCells | None":
        if isinstance(row, slice):
            return NumberCells(self.names, self.numbers[row], self.written)
        found = self.numbers[row]
        return None if np.isnan(found).all() else self.written(found.tolist())


class GrowingNumbers:
    """Builds :class:`NumberCells` from rows that are appended to it.

    Args:
        names: The names of the columns.
        written: A function that makes one text from the numbers of a row.
        dtype: The type of the finished numbers.
    """

    def __init__(
        self, names: tuple[str, ...], written: Callable[[Sequence[float]], str | None], dtype: NumberType
    ) -> None:
        self._names, self._written, self._dtype = names, written, dtype
        self._numbers = bytearray()

    def extend(self, rows: Iterable[Sequence[float]]) -> None:
        """Appends rows. Each row has one number for each column; ``nan`` stands for an empty cell."""
        self._numbers += np.fromiter(chain.from_iterable(rows), self._dtype).tobytes()

    def column(self) -> NumberCells:
        """Returns the finished cells. No rows can be appended afterwards."""
        numbers = np.frombuffer(self._numbers, self._dtype).reshape(-1, len(self._names))
        return NumberCells(self._names, numbers, self._written)
