"""Arrays whose rows differ in length, in Arrow's layout: all values in one flat array, and where each row ends.

Labels of words are stored in this way: a text is a row, with one number per word. A row without numbers means that the
text has no labels.

Dimension key: B rows, W values of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Ends = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths; row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    >>> rows = Ragged.of([[1, 2], [], [3]])
    >>> len(rows), rows[0], rows[np.array([2, 0])].values
    (3, array([1., 2.]), array([3., 1., 2.]))
    """

    values: npt.NDArray[Any]
    offsets: Ends

    @classmethod
    def of(cls, rows: Iterable[Sequence[float] | npt.NDArray[Any]], dtype: npt.DTypeLike = np.float64) -> Ragged:
        """Returns a :class:`Ragged` that holds the given rows, with their values converted to ``dtype``."""
        listed = list(rows)
        values = np.concatenate([np.zeros(0, dtype), *(np.asarray(row, dtype) for row in listed)])
        return cls(values, np.cumsum([0, *map(len, listed)], dtype=np.int64))

    @cached_property
    def lengths(self) -> Ends:
        """The number of values of each row, ``[B]``. The type :data:`Ends` only means an int64 array here."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Ends:
        """The index of the row of each value, ``[W]``. The type :data:`Ends` only means an int64 array here."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def places(self, rows: npt.NDArray[np.int64]) -> Ends:
        """Returns the indices in ``self.values`` of all values that belong to the given rows, one row after the other.

        ``rows`` holds the indices of the rows.
        """
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        found: Ends = np.repeat(self.offsets[rows], lengths) + within
        return found

    def sums(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Returns the sum of ``values`` in each row.

        ``values``, ``[W]``, is divided into rows in the same way as ``self.values``.
        """
        found: npt.NDArray[np.float64] = np.bincount(
            self.owners, np.asarray(values, np.float64), minlength=len(self)
        ).astype(np.float64)
        return found

    def with_values(self, values: npt.NDArray[Any]) -> Ragged:
        """Returns rows that have the lengths of these rows, but the given values."""
        return Ragged(values, self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int | np.integer[Any]) -> npt.NDArray[Any]: ...
    @overload
    def __getitem__(self, row: npt.NDArray[np.int64]) -> Ragged: ...
    def __getitem__(self, row: int | np.integer[Any] | npt.NDArray[np.int64]) -> npt.NDArray[Any] | Ragged:
        """Returns the row with the index ``row``.

        If ``row`` is an array of indices, returns the rows with these indices, in the order of the array.
        """
        if isinstance(row, np.ndarray):
            return Ragged(self.values[self.places(row)], np.concatenate([[0], np.cumsum(self.lengths[row])]))
        return self.values[self.offsets[row] : self.offsets[row + 1]]


def row_keys(rows: npt.NDArray[Any] | Ragged) -> npt.NDArray[Any]:
    """Returns a key for each row, ``[B]``. Equal rows have equal keys."""
    if isinstance(rows, Ragged):
        return np.array([hash(rows[row].tobytes()) for row in range(len(rows))], np.int64)
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows[0].nbytes))).ravel()


def all_values(labels: npt.NDArray[Any] | Ragged) -> npt.NDArray[Any]:
    """Returns ``labels`` unchanged if they are an array. If they are labels of words, returns them in a flat array."""
    return labels.values if isinstance(labels, Ragged) else labels


def concatenated(parts: Iterator[npt.NDArray[Any] | Ragged], rows: int) -> npt.NDArray[Any] | Ragged:
    """Returns the rows of all parts in one array or, if the parts are labels of words, in one :class:`Ragged`.

    ``rows`` is the number of rows in all parts. If the parts are arrays, only one of them at a time is in memory in
    addition to the result.
    """
    part = next(parts)
    if isinstance(part, Ragged):
        ragged = [part, *(other for other in parts if isinstance(other, Ragged))]
        lengths = np.concatenate([each.lengths for each in ragged])
        return Ragged(np.concatenate([each.values for each in ragged]), np.concatenate([[0], lengths.cumsum()]))
    found, first = np.empty((rows, *part.shape[1:]), part.dtype), 0
    for each in chain([part], parts):
        found[first : first + len(each)] = each
        first += len(each)
    return found
