"""Ordinal log loss: the further a wrong class is from the right one, the more its probability costs.

Source: Castagnos, Mihelich and Dognin, "A Simple Log-based Loss Function for Ordinal Text Classification", COLING 2022.
The authors' code computes ``log(1 - p)`` directly and gets ``nan`` once the logit of the right class is about 17 higher
than the others. The function ``_log_not`` below stays finite there. The sum of this loss and cross-entropy is also
called CEOLL. In a recipe, it is written ``losses: [ce, oll]``.

Dimension key: B examples, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.losses import LossWeight, Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


def ordinal_log_loss(logits_BK: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Returns the loss of each example, ``[B]``, in nats: ``-sum_k |k - y|**alpha * log(1 - p_k)``.

    The sum is over the wrong classes ``k``; ``p_k`` is the probability of class ``k``, and ``y`` is the index of the
    right class. ``labels`` holds these indices, ``[B]``, or distributions over the classes, ``[B, K]``. The loss of a
    distribution is its expected loss: the mean over ``y``, weighted by the probabilities in the distribution.
    """
    import torch

    classes_K = torch.arange(logits_BK.shape[-1], device=logits_BK.device)
    if labels.dim() == 2:
        apart_KK = (classes_K - classes_K[:, None]).abs()
        distance_KK = (apart_KK.to(logits_BK.dtype) ** alpha).masked_fill(apart_KK == 0, 0.0)
        return -(labels.to(logits_BK.dtype) @ distance_KK * _log_not(logits_BK)).sum(-1)
    labels_B = labels.long()
    wrong_BK = classes_K != labels_B[:, None]
    distance_BK = (classes_K - labels_B[:, None]).abs().to(logits_BK.dtype) ** alpha
    # The true class is left out by its index and not by its zero distance: 0 ** 0 is 1, and 0 * inf is nan.
    return -(distance_BK * _log_not(logits_BK)).masked_fill(~wrong_BK, 0.0).sum(-1)


def _log_not(logits_BK: Tensor) -> Tensor:
    """Returns ``log(1 - p_k)`` for every class ``k``, ``[B, K]``; ``p_k`` is the probability of class ``k``.

    Values and gradients are finite, however confident the prediction is.
    """
    import torch

    off_diagonal_KK = ~torch.eye(logits_BK.shape[-1], dtype=torch.bool, device=logits_BK.device)
    others_BKK = logits_BK[:, None, :].masked_fill(~off_diagonal_KK, float("-inf"))
    return others_BKK.logsumexp(-1) - logits_BK.logsumexp(-1, keepdim=True)


class OrdinalLogLoss(Settings):
    """The mean of :func:`ordinal_log_loss` over the batch."""

    needs: ClassVar = Needs(reads=("ordered logits",), because="an order of the classes", soft=True)
    kind: Literal["oll"] = "oll"
    weight: LossWeight = 1.0
    alpha: float = Field(default=1.5, ge=0, le=5, description="0: all mistakes cost the same")

    def __call__(self, p: Pass) -> Tensor:
        return p.mean(ordinal_log_loss(p.out.prediction, p.labels, self.alpha))
