"""Cross-entropy of classes and of binary decisions.

Dimension key: B batch, K classes.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mtbert.losses import Needs, Pass
from mtbert.settings import Settings


class CrossEntropy(Settings):
    """The mean negative log-likelihood of the true class, in nats.

    With ``class_weights`` each example counts by the weight of its class; the mean stays that over examples, so that a
    step cut into passes has the same gradient (PyTorch divides by the weights of the batch). With
    ``smoothing`` that share of the target is spread evenly over all classes (Szegedy et al., "Rethinking the Inception
    Architecture for Computer Vision", 2016).
    """

    needs: ClassVar = Needs(types=("classification", "ordinal"), because="one logit per class")
    kind: Literal["ce"] = "ce"
    weight: float = Field(default=1.0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, min_length=2, description="one per label, in the order of labels"
    )

    def __call__(self, p: Pass) -> Tensor:
        logits_BK = p.out.prediction
        weights_K = None if self.class_weights is None else logits_BK.new_tensor(self.class_weights)
        losses_B = cross_entropy(
            logits_BK, p.labels_B.long(), weights_K, reduction="none", label_smoothing=self.smoothing
        )
        return losses_B.mean()


class BinaryCrossEntropy(Settings):
    """The mean negative log-likelihood of a 0/1 label under one logit, in nats; ``smoothing`` as for classes."""

    needs: ClassVar = Needs(types=("binary",), because="one logit for two classes")
    kind: Literal["bce"] = "bce"
    weight: float = Field(default=1.0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)

    def __call__(self, p: Pass) -> Tensor:
        targets_B = p.labels_B.to(p.out.prediction.dtype) * (1 - self.smoothing) + self.smoothing / 2
        return binary_cross_entropy_with_logits(p.out.prediction, targets_B)
