"""Splitting rows into train and dev so that no text occurs in both."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from mtbert.columns import Ints, TextColumn, numbered

_Column = TypeVar("_Column")


def linking(columns: Sequence[_Column]) -> Sequence[_Column]:
    """Returns the text columns that link rows: rows with a text in common in these columns must stay in the same split.

    These are all columns except those of the wrong candidates of a ranking: a wrong candidate may occur in any row. In
    a ranking, ``columns`` are those of the query, the right candidate, and the wrong candidates, in this order.
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
        ValueError: If ``fraction`` is not between 0 and 1, or if all rows are in one group.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction for dev must be between 0 and 1, found {fraction:g}. Give 0.1, for example.")
    rows = len(texts[0])
    group_n, sizes = _groups(texts)
    if len(sizes) < 2:
        raise ValueError(
            f"a split needs two groups of examples without a common text, found {len(sizes)} in {rows} "
            "examples. Rows that share a text are one group, and so are chains of such rows. Add rows with other "
            "texts, or name a dev file."
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
