"""Shards: the fixed parts of a step's batch, and the sum of their gradients in a fixed order.

With ``train.shards: V``, each step computes the gradients of V shards one by one. They are added in pairs, then these
sums are added in pairs, and so on: a binary tree. Floating-point sums depend on the order of the additions, so a fixed
tree gives the same bits wherever the shards are computed: in one process, or in several that exchange their sums.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

import numpy as np
import torch
from torch import Tensor

from mtbert.batch import TaskRows
from mtbert.collate import share_rows


def cut_shards(
    parts: Sequence[TaskRows], count: int, apart: Callable[[str], bool] = lambda _: False
) -> list[list[TaskRows]]:
    """Divides the examples of a step among ``count`` shards, and returns the examples of each shard.

    The shards have about equally many tokens: each row, the longest first, goes to the shard that has the fewest tokens
    so far. A row that several tasks share is in the same shard for all of them. A shard may lack rows of a task, or
    have no rows. For ``apart``, see :func:`mtbert.collate.collate`.
    """
    if count == 1:
        return [list(parts)]
    shards: list[list[TaskRows]] = [[] for _ in range(count)]
    fullness = [(0, i) for i in range(count)]
    heapify(fullness)
    for span in share_rows(parts, apart):
        lengths = span.lengths()
        owners = np.empty(len(lengths), np.int64)
        for row in np.argsort(-lengths, kind="stable"):
            tokens, owners[row] = fullness[0]
            heapreplace(fullness, (tokens + int(lengths[row]), int(owners[row])))
        for i, shard in enumerate(shards):
            shard += span.cut(np.flatnonzero(owners == i))
    return shards


@dataclass(frozen=True)
class Sums:
    """The sums over some shards of a step.

    Attributes:
        gradients: A flat list of gradients; None counts as zeros. By default, the list has one entry for each trained
            weight. If the recipe needs a separate gradient for each task, the list has two parts. The first part has,
            task by task, one entry for each shared weight. The second part has one entry for each trained weight, but
            the entries for shared weights are None.
        losses: The value of each loss before weighting, keyed by ``task.loss``.
        tokens: The number of tokens.
        error: Why there are no sums: a message about a loss that is not finite. None if there are sums.
    """

    gradients: Sequence[Tensor | None]
    losses: dict[str, float]
    tokens: int
    error: str | None = None

    def __add__(self, other: "Sums") -> "Sums":
        """Returns ``self`` plus ``other``. The gradients of ``self`` may be overwritten."""
        if self.error is not None or other.error is not None:
            return failed(self.error or other.error)
        return Sums(
            [_added(a, b) for a, b in zip(self.gradients, other.gradients, strict=True)],
            {key: self.losses.get(key, 0.0) + other.losses.get(key, 0.0) for key in self.losses | other.losses},
            self.tokens + other.tokens,
        )


def failed(error: str | None) -> Sums:
    """Returns a :class:`Sums` that holds only an error message."""
    return Sums((), {}, 0, error)


def tree_sum(values: Iterable[Sums]) -> Sums:
    """Returns the sum of ``values``, added in a binary tree. There must be 1, 2, 4, 8, ... values.

    Only a few sums are kept at a time, so ``values`` may be computed one by one.
    """
    waiting: list[tuple[int, Sums]] = []  # the level in the tree, and the sum
    for value in values:
        level = 0
        while waiting and waiting[-1][0] == level:
            value = waiting.pop()[1] + value
            level += 1
        waiting.append((level, value))
    ((_, total),) = waiting
    return total


@torch.no_grad()
def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Returns the sum of two gradients. The tensor ``a`` may be overwritten with the sum.

    None counts as a gradient of zeros: if one gradient is None, returns the other gradient. If that gradient is dense,
    each -0.0 becomes 0.0, as in a sum with zeros. If both gradients are None, returns None.
    """
    if a is None or b is None:
        only = b if a is None else a
        return only if only is None or only.is_sparse else only + 0.0
    if a.is_sparse:
        rows = torch.cat([a.coalesce().indices(), b.coalesce().indices()], 1)
        values = torch.cat([a.coalesce().values(), b.coalesce().values()])
        return torch.sparse_coo_tensor(rows, values, a.shape, check_invariants=False).coalesce()
    return a.add_(b)
