"""Momentum Bregman proximal point: keeps predictions near those of the averaged weights.

Source: Jiang et al., "SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models through
Principled Regularized Optimization", ACL 2020: ``mu * mean of l(f(x; theta), f(x; theta_ema))`` with ``mu = 1``, the
second half of SMART. smart-pytorch leaves it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.losses import Loss, Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.model.model import Model


class Bregman(Settings):
    """The mean divergence from the predictions of the averaged model, which are made without dropout and gradient."""

    needs: ClassVar = Needs(
        because="a prediction",
        labels=False,
    )
    kind: Literal["bregman"] = "bregman"
    weight: float = Field(default=1.0, ge=0, description="mu")

    def with_average(self, average: Model) -> Loss:
        """Returns the loss that compares with the predictions of the model ``average``."""
        import torch

        def loss(p: Pass) -> Tensor:
            with torch.no_grad():
                expected = p.finish(average.embed(p.alone, None), None, model=average).prediction
            return p.task.predicts.divergence(p.out.prediction, expected).mean()

        return loss
