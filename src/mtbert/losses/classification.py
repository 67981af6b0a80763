"""Cross-entropy of classes and of binary decisions.

Dimension key: B batch, K classes.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mtbert.losses import Pass
from mtbert.task import Settings


class CrossEntropy(Settings):
    """The mean negative log-likelihood of the true class, in nats."""

    fits: ClassVar = ("classification", "ordinal")
    needs: ClassVar = "one logit per class"
    kind: Literal["ce"] = "ce"
    weight: float = Field(default=1.0, ge=0)

    def __call__(self, p: Pass) -> Tensor:
        return cross_entropy(p.out.prediction, p.labels_B.long())


class BinaryCrossEntropy(Settings):
    """The mean negative log-likelihood of a 0/1 label under one logit, in nats."""

    fits: ClassVar = ("binary",)
    needs: ClassVar = "one logit for two classes"
    kind: Literal["bce"] = "bce"
    weight: float = Field(default=1.0, ge=0)

    def __call__(self, p: Pass) -> Tensor:
        return binary_cross_entropy_with_logits(p.out.prediction, p.labels_B.to(p.out.prediction.dtype))
