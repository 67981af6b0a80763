"""Cross-entropy for classes, for yes/no labels and for sets of labels, with class weights and label smoothing.

``balanced`` weights give all classes the same total weight in the train data: a class with ``n_k`` of ``n`` rows gets
``n / (K * n_k)`` (King and Zeng, "Logistic Regression in Rare Events Data", 2001; scikit-learn uses the same name). In
a set, each label is a yes/no decision: the weight of ``yes`` is the class weight, and the weight of ``no`` is 1. The
``balanced`` weight of a label in a set is the number of rows without the label divided by the number of rows with it.

A soft label is a distribution over the classes; for yes/no it is the share of ``yes``. The loss of a soft label is a
sum over the classes. Each class adds its share times the loss of a hard label of this class, class weight included. For
``balanced`` weights, ``n_k`` is the sum of the shares of class ``k`` over all rows.

Dimension key: B examples, K classes (for sets: K labels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, Tag

from mtbert.losses import LossWeight, Needs, Pass
from mtbert.losses.missing import mean_of_known
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

_ClassWeight = Annotated[float, Field(ge=1e-6, le=1e6)]
ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("[name]")]
    | Annotated[tuple[_ClassWeight, ...], Field(min_length=2), Tag("[list]")],
    Discriminator(lambda value: "[name]" if isinstance(value, str) else "[list]"),
]
_DESCRIPTION = "one number per label, in the order of labels; balanced: n / (K * n_k), from the rows of train"
_OF_SETS = f"{_DESCRIPTION}; for sets: the weight of yes, with weight 1 for no; balanced: rows without / rows with it"


class CrossEntropy(Settings):
    """The mean negative log-likelihood of the true class, in nats; for soft labels, the cross-entropy.

    With ``class_weights``, the loss of each example is multiplied by the weight of its class. The sum is divided by the
    number of examples, whereas PyTorch divides it by the sum of the weights. ``smoothing`` is the share of the target
    that is spread evenly over all classes (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
    2016).
    """

    needs: ClassVar = Needs(reads=("logits",), because="one logit per class", soft=True)
    kind: Literal["ce"] = "ce"
    weight: LossWeight = 1.0
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target that all classes get evenly")
    class_weights: ClassWeights | None = Field(default=None, description=_DESCRIPTION)

    def __call__(self, p: Pass) -> Tensor:
        from torch.nn.functional import cross_entropy

        logits_BK = p.out.prediction
        weights_K = None if self.class_weights is None else logits_BK.new_tensor(_numbers(self.class_weights))
        targets = p.labels.long() if p.labels.dim() == 1 else p.labels.to(logits_BK.dtype)
        losses_B = cross_entropy(logits_BK, targets, weights_K, reduction="none", label_smoothing=self.smoothing)
        return p.mean(losses_B)

    def balanced(self, rows: npt.ArrayLike) -> Self:
        """Returns a copy of the settings with numbers in place of ``class_weights: balanced``.

        For the argument ``rows``, see :meth:`mtbert.losses.ClassWeighted.balanced`.
        """
        return self.model_copy(update={"class_weights": _balanced(rows)})


class BinaryCrossEntropy(Settings):
    """Binary cross-entropy in nats, averaged over examples, for yes/no labels and for sets of labels.

    In a set, each label of the task is a yes/no decision. A decision has one logit, and a target from 0 (no) to 1
    (yes). For sets, the loss of an example is the mean over the labels whose targets are known.

    ``smoothing`` works as in :class:`CrossEntropy` with the two classes "no" and "yes". For yes/no labels,
    ``class_weights`` works as in :class:`CrossEntropy` too. For sets, ``class_weights`` holds one number for each label
    of the task: the weight of the class "yes". The class "no" always has weight 1.
    """

    needs: ClassVar = Needs(reads=("logit", "logits of labels"), because="one logit for two classes", soft=True)
    kind: Literal["bce"] = "bce"
    weight: LossWeight = 1.0
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target that all classes get evenly")
    class_weights: ClassWeights | None = Field(default=None, description=_OF_SETS)

    def __call__(self, p: Pass) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        if p.labels.dim() > 1:
            return p.mean(self._of_sets(p.out.prediction, p.labels))
        logits_B = p.out.prediction
        targets_B = p.labels.to(logits_B.dtype) * (1 - self.smoothing) + self.smoothing / 2
        no, yes = (1.0, 1.0) if self.class_weights is None else _numbers(self.class_weights)
        weight = None if self.class_weights is None else logits_B.new_tensor(yes / no)
        if p.weights is None:  # the same as below, but rounded as in earlier versions
            return no * binary_cross_entropy_with_logits(logits_B, targets_B, pos_weight=weight)
        losses_B = binary_cross_entropy_with_logits(logits_B, targets_B, pos_weight=weight, reduction="none")
        return no * p.mean(losses_B)

    def _of_sets(self, logits_BK: Tensor, labels_BK: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        yes_K = None if self.class_weights is None else logits_BK.new_tensor(_numbers(self.class_weights))
        targets_BK = labels_BK.nan_to_num().to(logits_BK.dtype) * (1 - self.smoothing) + self.smoothing / 2
        losses_BK = binary_cross_entropy_with_logits(logits_BK, targets_BK, pos_weight=yes_K, reduction="none")
        return mean_of_known(losses_BK, labels_BK)

    def balanced(self, rows: npt.ArrayLike) -> Self:
        """Returns a copy of the settings with numbers in place of ``class_weights: balanced``.

        For the argument ``rows``, see :meth:`mtbert.losses.ClassWeighted.balanced`.
        """
        return self.model_copy(update={"class_weights": _balanced(rows)})


def _balanced(rows: npt.ArrayLike) -> tuple[float, ...]:
    counts = np.asarray(rows)
    weights = counts[:, 0] / counts[:, 1] if counts.ndim == 2 else counts.sum() / (len(counts) * counts)
    return tuple(weights.tolist())


def _numbers(weights: ClassWeights) -> tuple[float, ...]:
    if isinstance(weights, str):
        raise ValueError(
            f"class_weights: {weights} is no list of numbers yet. Call balanced(rows of each class) first."
        )
    return weights
