"""R-Drop: two passes that differ only in their dropout masks should give the same predictions.

Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021: ``alpha / 2 * (KL(p1 || p2) +
KL(p2 || p1))``, with ``alpha`` from 1 to 5. Here ``p1`` and ``p2`` are the predictions of the two passes. Difference:
the loss in the source includes the cross-entropy of both passes, while here only the first pass has a main loss. For
a task that predicts scores, the loss is half the squared difference between the two predictions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.losses import LossWeight, Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class RDrop(Settings):
    """Half the symmetric divergence between the predictions of two forward passes, averaged over examples.

    The second forward pass draws new dropout masks everywhere, including the embedding layer.
    """

    needs: ClassVar = Needs(
        because="a prediction",
        labels=False,
        dropout=True,
    )
    kind: Literal["rdrop"] = "rdrop"
    weight: LossWeight = Field(default=1.0, description="alpha")

    def __call__(self, p: Pass) -> Tensor:
        again = p.finish(p.embed(p.generator), p.generator).prediction
        return p.mean(p.task.predicts.divergence(p.out.prediction, again)) / 2
