"""Averaged weights (EMA): a second model whose weights are a moving average of those of the trained model.

This file imports torch inside its functions, so that recipes can be read without loading torch.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from pydantic import Field

from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.model.model import Model


class Ema(Settings):
    """An exponential moving average of all weights.

    In the first steps, the decay is only ``(1 + step) / (10 + step)``. The random initial weights of new heads
    therefore soon vanish from the average.
    """

    decay: float = Field(default=0.99, gt=0, lt=1, description="share of the average that stays in each step")
    predicts: bool = Field(
        default=True, description="true: the average is scored and saved; false: only losses read it"
    )

    def start(self, model: Model) -> Model:
        """Returns a copy of ``model`` that will hold the averages of its weights. The copy is not trained."""
        return copy.deepcopy(model).requires_grad_(False)

    def update(self, average: Model, model: Model, step: int) -> None:
        """Moves the weights of ``average`` towards those of ``model``.

        Call this after each optimizer step. ``step`` is the index of that step, counted from 0.
        """
        import torch

        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(average.parameters(), model.parameters(), strict=True))
        olds: list[Tensor] = [old for old, _ in pairs]
        with torch.no_grad():
            torch._foreach_lerp_(olds, [new for _, new in pairs], 1 - decay)
