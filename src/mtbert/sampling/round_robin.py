"""Round robin: every task in turn, as the paper under study alternates its batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mtbert.sampling.turn import Progress
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class RoundRobin(Settings):
    """Every task in turn: one-hot."""

    kind: Literal["round_robin"] = "round_robin"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        """Returns ``[T]``, 1 for the task whose turn it is."""
        import torch

        probabilities_T = torch.zeros(len(sizes), dtype=torch.float64)
        probabilities_T[progress.step % len(sizes)] = 1
        return probabilities_T
