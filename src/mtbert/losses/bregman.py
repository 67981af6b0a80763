"""Momentum Bregman proximal point method: keeps predictions close to those of a model with averaged weights.

Source: the second half of SMART, in Jiang et al., "SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural
Language Models through Principled Regularized Optimization", ACL 2020: ``mu * mean of l(f(x; theta), f(x; theta_ema))``
with ``mu = 1``. Here ``l`` is a divergence between two predictions, ``theta`` are the weights of the model, and
``theta_ema`` are the averages of these weights. The package smart-pytorch does not include this half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.losses import Loss, LossWeight, Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.model.model import Model


class Bregman(Settings):
    """The mean divergence between the predictions of the model and those of its copy with averaged weights.

    The copy predicts without dropout and gets no gradient.
    """

    needs: ClassVar = Needs(
        because="a prediction",
        labels=False,
    )
    kind: Literal["bregman"] = "bregman"
    weight: LossWeight = Field(default=1.0, description="mu")

    def with_average(self, average: Model) -> Loss:
        """Returns a loss that compares the predictions of the trained model with those of the model ``average``."""
        import torch

        def loss(p: Pass) -> Tensor:
            with torch.no_grad():
                expected = p.finish(average.embed(p.alone, None), None, model=average).prediction
            return p.mean(p.task.predicts.divergence(p.out.prediction, expected))

        return loss
