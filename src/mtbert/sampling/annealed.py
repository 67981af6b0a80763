"""Annealed sampling, which starts with probabilities proportional to the tasks' sizes and ends with nearly equal ones.

Source: Stickland and Murray, "BERT and PALs", 2019. The probability of a task is proportional to ``size ** power``,
where its size is its number of train rows. The power falls from 1 in the first epoch to 0.2 in the last, in equal
steps: ``1 - 0.8 * (epoch - 1) / (epochs - 1)``. In a run of a single epoch, the power is 1.

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
    """A sampler whose probabilities are proportional to the tasks' sizes at first and nearly equal at the end."""

    kind: Literal["annealed"] = "annealed"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        """Returns for each task the probability that it is trained in this step, ``[T]``, float64."""
        return powers(sizes, 1 - 0.8 * (progress.epoch - 1) / max(1, progress.epochs - 1))
