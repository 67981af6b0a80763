"""Cross-entropy for classes and for yes/no labels, with class weights and label smoothing.

``balanced`` weights give all classes the same total weight over train: ``n / (K * n_k)`` for a class with ``n_k`` of
``n`` rows, if there are ``K`` classes (King and Zeng, "Logistic Regression in Rare Events Data", 2001; the name is
scikit-learn's).

Dimension key: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag

from mtbert.losses import Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("[name]")]
    | Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2), Tag("[list]")],
    Discriminator(lambda value: "[name]" if isinstance(value, str) else "[list]"),
]
_DESCRIPTION = "one number per label, in the order of labels; balanced: n / (K * n_k), from the rows of train"


class CrossEntropy(Settings):
    """The mean negative log-likelihood of the true class, in nats.

    With ``class_weights`` the loss of each example is multiplied by the weight of its class. It is still divided by the
    number of examples, so that a step cut into several passes has the same gradient; PyTorch divides by the sum of the
    weights. ``smoothing`` is the share of the target that is spread evenly over all classes (Szegedy et al.,
    "Rethinking the Inception Architecture for Computer Vision", 2016).
    """

    needs: ClassVar = Needs(reads=("logits",), because="one logit per class")
    kind: Literal["ce"] = "ce"
    weight: float = Field(default=1.0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: ClassWeights | None = Field(default=None, description=_DESCRIPTION)

    def __call__(self, p: Pass) -> Tensor:
        from torch.nn.functional import cross_entropy

        logits_BK = p.out.prediction
        weights_K = None if self.class_weights is None else logits_BK.new_tensor(_numbers(self.class_weights))
        losses_B = cross_entropy(
            logits_BK, p.labels.long(), weights_K, reduction="none", label_smoothing=self.smoothing
        )
        return losses_B.mean()

    def balanced(self, rows_K: Sequence[int]) -> Self:
        """Returns these settings with numbers in place of ``balanced``, from the number of train rows per class."""
        return self.model_copy(update={"class_weights": _balanced(rows_K)})


class BinaryCrossEntropy(Settings):
    """The mean negative log-likelihood of a 0/1 label under one logit, in nats.

    ``smoothing`` and ``class_weights`` have the same effect as in :class:`CrossEntropy` with two classes.
    """

    needs: ClassVar = Needs(reads=("logit",), because="one logit for two classes")
    kind: Literal["bce"] = "bce"
    weight: float = Field(default=1.0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: ClassWeights | None = Field(default=None, description=_DESCRIPTION)

    def __call__(self, p: Pass) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        logits_B = p.out.prediction
        targets_B = p.labels.to(logits_B.dtype) * (1 - self.smoothing) + self.smoothing / 2
        if self.class_weights is None:
            return binary_cross_entropy_with_logits(logits_B, targets_B)
        no, yes = _numbers(self.class_weights)
        return no * binary_cross_entropy_with_logits(logits_B, targets_B, pos_weight=logits_B.new_tensor(yes / no))

    def balanced(self, rows_K: Sequence[int]) -> Self:
        """Returns these settings with numbers in place of ``balanced``, from the number of train rows per class."""
        return self.model_copy(update={"class_weights": _balanced(rows_K)})


def _balanced(rows_K: Sequence[int]) -> tuple[float, ...]:
    return tuple(sum(rows_K) / (len(rows_K) * rows) for rows in rows_K)


def _numbers(weights: ClassWeights) -> tuple[float, ...]:
    if isinstance(weights, str):
        raise ValueError(
            f"class_weights: {weights} is no list of numbers yet. Call balanced(rows of each class) first."
        )
    return weights
