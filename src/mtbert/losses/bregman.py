"""Momentum Bregman proximal point: predictions stay near those of the averaged weights.

Source: Jiang et al., "SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models through
Principled Regularized Optimization", ACL 2020: ``mu * mean of l(f(x; theta), f(x; theta_ema))`` with ``mu = 1``, the
second half of SMART. smart-pytorch leaves it out.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtbert.losses import Needs, Pass
from mtbert.losses.divergence import divergence
from mtbert.settings import Settings


class Bregman(Settings):
    """The mean divergence from the prediction of the averaged model, which has no dropout and no gradient."""

    needs: ClassVar = Needs(
        types=("classification", "ordinal", "binary", "regression", "cosine"),
        because="a prediction",
        labels=False,
        ema=True,
    )
    kind: Literal["bregman"] = "bregman"
    weight: float = Field(default=1.0, ge=0, description="mu")

    def __call__(self, p: Pass) -> Tensor:
        assert p.ema is not None
        with torch.no_grad():
            averaged = p.finish(p.ema.embed(p.alone, None), None, model=p.ema).prediction
        return divergence(p.task, p.out.prediction, averaged).mean()
