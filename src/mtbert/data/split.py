"""A train and a dev part that share no text."""

from collections.abc import Sequence

import numpy as np

from mtbert.batch import Rows


def grouped_split(texts: Sequence[Sequence[str]], fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Returns the rows of train and of dev, each in ascending order; rows that share a text are on the same side.

    A text is the same in any case, and sharing is passed on: of ``(a, b), (b, c), (c, d)`` all are on one side. Whole
    groups are drawn at random while they fit, so one giant group stays in train, and dev gets as close to its share as
    the remaining groups allow.

    Args:
        texts: The texts of the rows, a column for each text of a row.
        fraction: The share of rows that dev should get, between 0 and 1.
        seed: The same seed and texts give the same split.

    Raises:
        ValueError: If fraction is not between 0 and 1, or if all rows are one group.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction for dev must be between 0 and 1, found {fraction:g}. Give 0.1, for example.")
    rows = len(texts[0])
    groups = _groups(texts)
    if len(groups) < 2:
        raise ValueError(
            f"a split needs two groups of examples without a common text, found {len(groups)} in {rows} "
            f"examples. Add rows with other texts, or name a dev file."
        )
    target = fraction * rows
    dev: set[int] = set()
    left = []
    for i in np.random.default_rng(seed).permutation(len(groups)):
        if len(dev) + len(groups[i]) <= target:
            dev.update(groups[i])
        else:
            left.append(groups[i])
    closest = min(left, key=len)
    if not dev or (len(left) > 1 and len(dev) + len(closest) - target < target - len(dev)):
        dev.update(closest)
    is_dev = np.zeros(rows, np.bool_)
    is_dev[list(dev)] = True
    return np.flatnonzero(~is_dev), np.flatnonzero(is_dev)


def _groups(texts: Sequence[Sequence[str]]) -> list[list[int]]:
    """Row numbers of each set of examples tied by common texts, in order of their first row (union-find)."""
    parent = list(range(len(texts[0])))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[str, int] = {}
    for i, row in enumerate(zip(*texts, strict=True)):
        for text in row:
            a, b = sorted((root(i), root(first.setdefault(text.strip().casefold(), i))))
            parent[b] = a
    groups: dict[int, list[int]] = {}
    for i in range(len(parent)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())
