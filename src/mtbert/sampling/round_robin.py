"""Round-robin sampling: the tasks take turns.

Dimension key: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mtbert.sampling.turn import Progress
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class RoundRobin(Settings):
    """A sampler that takes every task in turn."""

    kind: Literal["round_robin"] = "round_robin"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        """Returns the probability of each task, ``[T]``, float64: 1 for the task whose turn it is, 0 for all others."""
        import torch

        probabilities_T = torch.zeros(len(sizes), dtype=torch.float64)
        probabilities_T[progress.step % len(sizes)] = 1
        return probabilities_T
