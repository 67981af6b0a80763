"""R-Drop: two passes that differ in their dropout alone must agree.

Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021: ``alpha / 2 * (KL(p1 || p2) +
KL(p2 || p1))``, with ``alpha`` from 1 to 5. Different here: their loss adds the cross-entropy of the second pass, ours
keeps the one of the first pass alone. Scores have half the squared error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.losses import Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class RDrop(Settings):
    """The mean of half the symmetric divergence from a second pass with masks of its own, embeddings included."""

    needs: ClassVar = Needs(
        because="a prediction",
        labels=False,
        dropout=True,
    )
    kind: Literal["rdrop"] = "rdrop"
    weight: float = Field(default=1.0, ge=0, description="alpha")

    def __call__(self, p: Pass) -> Tensor:
        again = p.finish(p.embed(p.generator), p.generator).prediction
        return p.task.predicts.divergence(p.out.prediction, again).mean() / 2
