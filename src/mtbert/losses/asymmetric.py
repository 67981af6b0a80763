"""Asymmetric loss for sets of labels: easy negatives, which are the majority, count less than positives.

Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021. The defaults are those of the
authors' training code. That code sums over labels and batch, limits the probabilities inside the logarithms to at
least 1e-8, and stops the gradient through the two powers (see :func:`asymmetric_loss`). Here the loss of an example is
the mean over its known labels, and the loss of a batch is the mean over its examples. The logarithms are exact, and
gradient flows through the powers too. If both exponents and ``clip`` are 0, the loss is binary cross-entropy.

Dimension key: B examples, K labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.losses import LossWeight, Needs, Pass
from mtbert.losses.missing import mean_of_known
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


def asymmetric_loss(logits_BK: Tensor, yes_BK: Tensor, gamma_pos: float, gamma_neg: float, clip: float) -> Tensor:
    """Returns the loss of each label, ``[B, K]``, in nats.

    Let ``p`` be the predicted probability of a label. If the example has the label (``yes_BK`` is true), the loss is
    ``-(1 - p)**gamma_pos * log(p)``. If not, it is ``-q**gamma_neg * log(1 - q)`` with ``q = max(p - clip, 0)``.
    """
    from torch.nn.functional import logsigmoid

    log_p_BK, log_not_BK = logsigmoid(logits_BK), logsigmoid(-logits_BK)
    yes_loss_BK = -(gamma_pos * log_not_BK).exp() * log_p_BK
    if clip == 0:
        no_loss_BK = -(gamma_neg * log_p_BK).exp() * log_not_BK
    else:
        p_BK = logits_BK.sigmoid()
        hard_BK = p_BK > clip
        q_BK = (p_BK - clip).where(hard_BK, logits_BK.new_tensor(0.5))  # no power of 0, whose gradient may be infinite
        # 1 - q keeps its digits where p is nearly 1.
        no_loss_BK = -(q_BK**gamma_neg * ((-logits_BK).sigmoid() + clip).log()).where(hard_BK, logits_BK.new_zeros(()))
    return yes_loss_BK.where(yes_BK, no_loss_BK)


class Asymmetric(Settings):
    """The :func:`asymmetric_loss`, averaged over the known labels of each example and then over the examples."""

    needs: ClassVar = Needs(reads=("logits of labels",), because="one logit for each label of a set")
    kind: Literal["asl"] = "asl"
    weight: LossWeight = 1.0
    gamma_pos: float = Field(default=0.0, ge=0, le=100, description="more: easy positives count less")
    gamma_neg: float = Field(default=4.0, ge=0, le=100, description="more: easy negatives count less")
    clip: float = Field(
        default=0.05, ge=0, lt=1, description="a label that an example lacks costs nothing below this probability"
    )

    def __call__(self, p: Pass) -> Tensor:
        losses_BK = asymmetric_loss(p.out.prediction, p.labels == 1, self.gamma_pos, self.gamma_neg, self.clip)
        return p.mean(mean_of_known(losses_BK, p.labels))
