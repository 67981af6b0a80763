"""CoSENT: of two pairs of sentences, the pair with the higher label should have the higher cosine.

Source: Su, "CoSENT: a more effective sentence embedding scheme than Sentence-BERT", 2022 (in Chinese,
kexue.fm/archives/8847), as implemented in the sentence-transformers library. The loss depends on the order of the
labels, but not on their values.

Dimension key: B pairs of sentences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.losses import LossWeight, Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


def cosent(cosines_B: Tensor, labels_B: Tensor, scale: float) -> Tensor:
    """Returns ``log(1 + sum exp(scale * (cos_j - cos_i)))``, a scalar in nats.

    The sum is over all combinations of two rows ``i`` and ``j`` with ``label_i > label_j``. The result is 0 if all
    labels are equal. The result is one logarithm over the whole batch and not a mean, so it grows slowly with the batch
    size.
    """
    import torch

    higher_BB = labels_B[:, None] > labels_B
    gaps_BB = scale * (cosines_B - cosines_B[:, None])
    gaps = gaps_BB.masked_fill(~higher_BB, float("-inf")).flatten()
    return torch.cat([gaps.new_zeros(1), gaps]).logsumexp(0)


class CoSENT(Settings):
    """The loss :func:`cosent` over the cosines and labels of a batch."""

    needs: ClassVar = Needs(
        reads=("cosine",), because="a cosine, from head: cosine", inputs=("separate",), soft=True, compares=True
    )
    kind: Literal["cosent"] = "cosent"
    weight: LossWeight = 1.0
    scale: float = Field(default=20.0, gt=0, le=1e4, description="multiplies the difference of two cosines")

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns two tensors: the cosine of each pair of texts and the label of each pair, ``[B]`` each."""
        return p.out.prediction, p.labels

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns the loss as a scalar. ``gathered`` holds the cosines and the labels of all examples of a step."""
        cosines_B, labels_B = gathered
        return cosent(cosines_B, labels_B, self.scale)

    def __call__(self, p: Pass) -> Tensor:
        return self.compare(*self.gather(p))
