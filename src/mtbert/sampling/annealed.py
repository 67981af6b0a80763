"""Annealed sampling: proportional to the number of rows in the first epoch, nearly uniform in the last.

Source: Stickland and Murray, "BERT and PALs", 2019. A task's probability is proportional to its number of rows to a
power. The power falls from 1 to 0.2 in equal steps, one per epoch: ``1 - 0.8 * (epoch - 1) / (epochs - 1)``. In a run
of a single epoch it is 1.

Dimension key: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mtbert.sampling.temperature import powers
from mtbert.sampling.turn import Progress
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class Annealed(Settings):
    """Draws tasks in proportion to their rows in the first epoch, and nearly uniformly in the last."""

    kind: Literal["annealed"] = "annealed"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        """Returns the probability of each task for this step, ``[T]``, float64."""
        return powers(sizes, 1 - 0.8 * (progress.epoch - 1) / max(1, progress.epochs - 1))
