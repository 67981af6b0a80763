"""Annealed sampling: proportional in the first epoch, nearly equal in the last.

Source: Stickland and Murray, "BERT and PALs", 2019. The power falls from 1 to 0.2 in equal steps, one per epoch:
``1 - 0.8 * (epoch - 1) / (epochs - 1)``; in a single epoch it is 1. The formula as printed in the paper under study
divides by zero in the first epoch.
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
    """Proportional to the rows in the first epoch, nearly equal in the last."""

    kind: Literal["annealed"] = "annealed"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        """Returns ``[T]``."""
        return powers(sizes, 1 - 0.8 * (progress.epoch - 1) / max(1, progress.epochs - 1))
