"""Multiple negatives ranking: among all candidates of a batch, the right one should be the most similar to the query.

A row is a pair or a ranking. A pair consists of a query and one candidate. The candidate is right if both texts mean
the same. A ranking consists of a query and several candidates; the wrong candidates are used as hard negatives.

Source: Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017, with the scaled cosine
and the hard negatives of the sentence-transformers library. Unlike in that library, texts that mean the same (a
cluster) are never negatives of each other, because the same question occurs many times in data sets such as Quora's.

Dimension key: B rows, C candidates of a row, N candidates of all rows, T texts of a row, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.answers import CANDIDATES, YES_NO
from mtbert.answers.divergence import at_least_float32
from mtbert.losses import LossWeight, Needs, Pass
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
    return ranking(anchors_BD, positives_BD[:, None], clusters_B[:, None].expand(-1, 2), scale, symmetric)


def ranking(queries_BD: Tensor, candidates_BCD: Tensor, clusters_BT: Tensor, scale: float, symmetric: bool) -> Tensor:
    """Returns the ranking loss in nats: each query should choose its right candidate among the candidates of all rows.

    The loss of row ``i`` is ``-log softmax(scale * cosines)`` at the right candidate of the row. ``cosines`` holds one
    cosine for each candidate of every row: its cosine with the query of row ``i``. The result is the mean loss over
    the rows. The softmax of row ``i`` always includes the right candidate of row ``i``. Of all other candidates, three
    kinds are left out, because these candidates are not wrong:

    - candidates with the same text as the right candidate of row ``i``,
    - candidates with the same text as the query of row ``i``,
    - right candidates of rows with the same query as row ``i``.

    Args:
        queries_BD: The vectors of the queries.
        candidates_BCD: The vectors of the candidates of each row, the right one first.
        clusters_BT: The cluster of each text, the query first; ``T`` is ``C + 1``. Equal clusters mean equal texts.
        scale: The factor of the cosine, which is the inverse of a temperature.
        symmetric: Whether to average this loss with the loss in which each right candidate chooses among the queries.

    Returns:
        A scalar in float32 or float64. If there is no wrong candidate, it is 0, but still part of the autograd graph.
    """
    import torch

    rows = len(queries_BD)
    scores_BN = scale * _unit(queries_BD) @ _unit(candidates_BCD).transpose(0, 1).flatten(0, 1).T
    query_B1, right_B1, of_candidates_N = clusters_BT[:, :1], clusters_BT[:, 1:2], clusters_BT[:, 1:].T.flatten()
    same_BN = (of_candidates_N == query_B1) | (of_candidates_N == right_B1)
    same_BN[:, :rows] |= query_B1 == query_B1.T  # right candidates are the first B of all
    scores_BN = scores_BN.masked_fill(same_BN.fill_diagonal_(False), float("-inf"))
    directions = (scores_BN, scores_BN[:, :rows].T) if symmetric else (scores_BN,)
    gains = torch.stack([s.log_softmax(-1).diagonal().sum() for s in directions])
    return -gains.mean() / max(rows, 1)


def _unit(x: Tensor) -> Tensor:
    """Returns the vectors ``[..., D]`` scaled to length 1, as float64 if ``x`` is float64, and otherwise as float32.

    A zero vector stays zero, and its gradient is passed on without scaling.
    """
    x = at_least_float32(x)
    norm = x.norm(dim=-1, keepdim=True)
    unit: Tensor = x / norm.where(norm > 0, 1.0)
    return unit


RIGHT_CANDIDATES = Needs(
    reads=(YES_NO, CANDIDATES),
    because="pairs that mean the same (label 1), or a right candidate, as vectors of their own",
    inputs=("separate",),
    vectors=True,
    clusters=True,
    compares=True,
)


def right_candidates(p: Pass) -> tuple[Tensor, Tensor, Tensor]:
    """Returns three tensors about the B rows that have a right candidate.

    In a ranking, all rows have a right candidate. In a task of pairs, only the rows with label 1 have a right
    candidate.

    Returns:
        First, the vectors of the queries, ``[B, D]``. Second, the vectors of the C candidates of each row, with the
        right candidate in front, ``[B, C, D]``. In a task of pairs, C is 1. Third, the index of each text's cluster,
        with the query in front, ``[B, 1 + C]``. Two texts are in the same cluster if they are equal, or if they are
        the texts of a pair with label 1.
    """
    import torch

    query_BD, *candidates = p.out.vectors
    found = query_BD, torch.stack(candidates, 1), p.batch.clusters[p.task.name]
    if CANDIDATES in p.task.predicts.feeds:
        return found
    rows_B = p.labels == 1
    queries_BD, candidates_BCD, clusters_BT = (part[rows_B] for part in found)
    return queries_BD, candidates_BCD, clusters_BT


class MultipleNegatives(Settings):
    """The multiple negatives ranking loss, with its settings. The function :func:`ranking` computes the loss.

    In a ranking task, the loss is the mean over all rows. In a task of pairs, the loss is the mean over the rows with
    label 1.
    """

    needs: ClassVar = RIGHT_CANDIDATES
    kind: Literal["mnrl"] = "mnrl"
    weight: LossWeight = 1.0
    scale: float = Field(default=20.0, gt=0, le=1e4, description="multiplies the cosine; one over a temperature")
    symmetric: bool = Field(default=False, description="true: also look for the right query of each right candidate")

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns what :func:`right_candidates` returns: the queries and candidates as vectors, and an id per text.

        Equal texts have equal ids.
        """
        return right_candidates(p)

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns the loss over the rows of all forward passes of a step as a scalar, computed by :func:`ranking`."""
        queries_BD, candidates_BCD, clusters_BT = gathered
        return ranking(queries_BD, candidates_BCD, clusters_BT, self.scale, self.symmetric)

    def __call__(self, p: Pass) -> Tensor:
        return self.compare(*self.gather(p))
