"""Multiple negatives ranking: among all second sentences of a batch, the right one should be the most similar.

Source: Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017, with the scaled cosine
of the sentence-transformers library. A cluster is a group of sentences that mean the same. Unlike in that library,
sentences of one cluster are not used as negatives of each other, because data such as Quora's contain the same question
in many rows.

Dimension key: B positive pairs, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.answers import YES_NO
from mtbert.answers.divergence import at_least_float32
from mtbert.losses import Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


def multiple_negatives(
    anchors_BD: Tensor, positives_BD: Tensor, clusters_B: Tensor, scale: float, symmetric: bool
) -> Tensor:
    """Returns the mean over rows ``i`` of ``-log softmax_j(scale * cos(a_i, p_j))`` at ``j = i``, in nats.

    Args:
        anchors_BD: The first vectors ``a``, ``[B, D]``.
        positives_BD: The second vectors ``p``, ``[B, D]``; row ``i`` belongs to anchor ``i``.
        clusters_B: The cluster of each row, ``[B]``. Rows of the same cluster are not negatives of each other.
        scale: The factor of the cosine, which is the inverse of a temperature.
        symmetric: Whether to average this loss with the loss in which anchors and positives are exchanged.

    Returns:
        A scalar in float32 or float64. If there are fewer than two rows, it is 0, but still part of the autograd graph.
        A zero vector has cosine 0 with every vector.
    """
    import torch

    scores_BB = scale * _unit(anchors_BD) @ _unit(positives_BD).T
    same_BB = (clusters_B[:, None] == clusters_B).fill_diagonal_(False)
    scores_BB = scores_BB.masked_fill(same_BB, float("-inf"))
    directions = (scores_BB, scores_BB.T) if symmetric else (scores_BB,)
    gains = torch.stack([s_BB.log_softmax(-1).diagonal().sum() for s_BB in directions])
    return -gains.mean() / max(len(scores_BB), 1)


def _unit(x_BD: Tensor) -> Tensor:
    """Returns ``x_BD`` with every row scaled to length 1, in float32 or float64.

    A zero row stays zero, and its gradient is of moderate size.
    """
    x_BD = at_least_float32(x_BD)
    norm_B1 = x_BD.norm(dim=-1, keepdim=True)
    unit_BD: Tensor = x_BD / norm_B1.where(norm_B1 > 0, 1.0)
    return unit_BD


POSITIVE_PAIRS = Needs(
    reads=(YES_NO,),
    because="pairs that mean the same (label 1) as two vectors",
    inputs=("separate",),
    vectors=True,
    clusters=True,
    compares=True,
)


def positive_pairs(p: Pass) -> tuple[Tensor, Tensor, Tensor]:
    """Returns three tensors about the pairs with label 1: their first vectors, their second vectors, their clusters.

    For ``P`` such pairs, the shapes are ``[P, D]``, ``[P, D]`` and ``[P]``. A pair has only one cluster, because its
    two sentences mean the same.
    """
    anchors_BD, positives_BD = p.out.vectors
    rows_B = p.labels == 1
    return anchors_BD[rows_B], positives_BD[rows_B], p.batch.clusters[p.task.name][:, 0][rows_B]


class MultipleNegatives(Settings):
    """The loss :func:`multiple_negatives` over the positive pairs of a batch; pairs labelled 0 are ignored."""

    needs: ClassVar = POSITIVE_PAIRS
    kind: Literal["mnrl"] = "mnrl"
    weight: float = Field(default=1.0, ge=0)
    scale: float = Field(default=20.0, gt=0, le=1e4, description="multiplies the cosine; one over a temperature")
    symmetric: bool = Field(default=False, description="true: also look for the right one among all first sentences")

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns the vectors and clusters of the positive pairs, see :func:`positive_pairs`."""
        return positive_pairs(p)

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns :func:`multiple_negatives` of all gathered positive pairs, a scalar."""
        anchors_BD, positives_BD, clusters_B = gathered
        return multiple_negatives(anchors_BD, positives_BD, clusters_B, self.scale, self.symmetric)

    def __call__(self, p: Pass) -> Tensor:
        return self.compare(*self.gather(p))
