"""Splitting rows into train and dev so that no text occurs in both."""

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

from mtbert.columns import Ints, TextColumn, numbered
from mtbert.messages import count

SplitBy = Literal["texts", "rows"]
_Column = TypeVar("_Column")


class Inseparable(ValueError):
    """Raised if no rows can be split off, because shared texts link all rows."""


def linking(columns: Sequence[_Column]) -> Sequence[_Column]:
    """Returns the text columns that link rows: rows with a text in common in these columns must stay in the same split.

    The argument ``columns`` holds all text columns of a task. For a ranking, the first column must hold the queries,
    the second column the right candidates, and all other columns wrong candidates. Columns of wrong candidates are not
    returned, because a wrong candidate may occur in any row.
    """
    return columns[:2]


def grouped_split(texts: Sequence[TextColumn], fraction: float, seed: int) -> tuple[Ints, Ints]:
    """Returns the row indices of train and those of dev, each in ascending order. Rows that share a text stay together.

    Texts are compared without regard to case and to leading or trailing space; an empty text does not count as shared.
    Rows that are linked by a chain of shared texts, such as ``(a, b), (b, c), (c, d)``, form a group, and no group is
    divided. Groups are drawn at random and go to dev if they still fit, so a giant group stays in train.

    Args:
        texts: The texts of the rows: one column for each text of a row.
        fraction: The share of rows that dev should get, between 0 and 1.
        seed: The seed of the draw. The same seed and texts give the same split.

    Raises:
        ValueError: If ``fraction`` is not between 0 and 1.
        Inseparable: If all rows are in one group.
    """
    _check_fraction(fraction)
    rows = len(texts[0])
    group_n, sizes = _groups(texts)
    if len(sizes) < 2:
        raise Inseparable(
            f"Rows that share a text must stay together, and chains of shared texts link all {count(rows, 'row')}."
        )
    target = fraction * rows
    order = np.random.default_rng(seed).permutation(len(sizes))
    in_order, smallest = sizes[order], int(sizes.min())
    taken = np.zeros(len(order), np.bool_)
    size = 0
    for place in range(len(order)):
        if size + smallest > target:
            break
        if size + in_order[place] <= target:
            taken[place] = True
            size += int(in_order[place])
    left = np.flatnonzero(~taken)
    closest = left[np.argmin(in_order[left])]
    if not size or (len(left) > 1 and size + in_order[closest] - target < target - size):
        taken[closest] = True
    is_dev = np.isin(group_n, order[taken])
    return np.flatnonzero(~is_dev), np.flatnonzero(is_dev)


def split_by_rows(rows: int, fraction: float, seed: int) -> tuple[Ints, Ints]:
    """Returns the row indices of train and those of dev, each in ascending order.

    Each row is drawn by itself, even if it shares a text with others, so train and dev may have texts in common.

    Args:
        rows: The number of rows.
        fraction: The share of rows that dev should get, between 0 and 1. Each side gets one row at least.
        seed: The seed of the draw. The same seed and number of rows give the same split.

    Raises:
        ValueError: If ``fraction`` is not between 0 and 1, or if there are fewer than two rows.
    """
    _check_fraction(fraction)
    if rows < 2:
        raise ValueError(f"a split needs two rows at least, found {rows}. Add rows, or name a dev file.")
    order = np.random.default_rng(seed).permutation(rows)
    size = min(max(round(fraction * rows), 1), rows - 1)
    return np.sort(order[size:]), np.sort(order[:size])


def far_from(fraction: float, size: int, rows: int) -> bool:
    """Returns whether a part of ``size`` rows out of ``rows`` is far too small or far too large.

    The part should have ``fraction * rows`` rows. It is far off if it misses this number by more than two rows and by
    more than half of the number.

    >>> far_from(0.1, 80, 1000), far_from(0.1, 10, 1000), far_from(0.1, 2, 5)
    (False, True, False)
    """
    return abs(size - fraction * rows) > max(fraction * rows / 2, 2)


def separable(texts: Sequence[TextColumn], fraction: float) -> bool:
    """Returns whether the share of the rows that :func:`grouped_split` gives to dev is close to ``fraction``."""
    try:
        return not far_from(fraction, len(grouped_split(texts, fraction, 0)[1]), len(texts[0]))
    except Inseparable:
        return False


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction for dev must be between 0 and 1, found {fraction:g}. Give 0.1, for example.")


def _groups(texts: Sequence[TextColumn]) -> tuple[Ints, Ints]:
    """Returns a pair: the group index of each row, and the size of each group. Rows that share a text share a group.

    Groups are numbered in the order of their first rows.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(texts[0])
    numbers = numbered(np.concatenate([column.folded for column in texts]))
    empty = np.flatnonzero(np.concatenate([column.stops == column.starts for column in texts]))
    numbers[empty] = numbers.max(initial=-1) + 1 + np.arange(len(empty))  # two empty texts are no shared text
    text = numbers.reshape(len(texts), rows)
    if len(texts) > 1:
        first, others = np.tile(text[0], len(texts) - 1), text[1:].ravel()
        size = numbers.max(initial=-1) + 1
        links = coo_array((np.ones(len(first), np.bool_), (first, others)), shape=(size, size))
        group_n = numbered(connected_components(links, directed=False)[1][text[0]])
    else:
        group_n = numbered(text[0])
    return group_n, np.bincount(group_n)
