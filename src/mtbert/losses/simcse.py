"""SimCSE: a sentence should be nearest to its paraphrase or, without labels, to itself with other dropout masks.

Source: Gao, Yao and Chen, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", 2021. The supervised form is
``-log(exp(sim(h_i, h_i+) / t) / sum_j exp(sim(h_i, h_j+) / t))``, where ``h_i`` is the vector of a sentence, ``h_i+``
is the vector of its paraphrase, ``sim`` is the cosine, and ``t`` is the temperature. For a ranking task, the sum also
has a term for each wrong candidate (a hard negative). The supervised form equals :func:`mtbert.losses.ranking.ranking`
with scale ``1 / t``. In the unsupervised form, ``h_i+`` is a second vector of the same sentence, and there are no hard
negatives.

Dimension key: B examples, C candidates of a row, T texts of an example, S sentences (T of each example), D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.answers.divergence import at_least_float32
from mtbert.losses import LossWeight, Needs, Pass
from mtbert.losses.ranking import RIGHT_CANDIDATES, multiple_negatives, ranking, right_candidates
from mtbert.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class SimCSE(Settings):
    """Supervised SimCSE: the same loss as ``mnrl`` (:class:`MultipleNegatives`) with ``scale: 1 / temperature``.

    In a ranking task, the loss is the mean over all rows. In a task of pairs, it is the mean over rows with label 1.
    """

    needs: ClassVar = RIGHT_CANDIDATES
    kind: Literal["simcse"] = "simcse"
    weight: LossWeight = 1.0
    temperature: float = Field(
        default=0.1, ge=1e-4, le=1e4, description="divides the cosine; the loss is mnrl with scale: 1 / temperature"
    )

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns three tensors: the vectors of the queries, the vectors of the candidates, and the clusters of both.

        Texts that mean the same have the same cluster, a number. In a ranking task, the tensors hold all rows of the
        forward pass. In a task of pairs, the tensors hold only the rows with label 1. See :func:`right_candidates` for
        the shapes.
        """
        return right_candidates(p)

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns the loss as a scalar, computed by :func:`~mtbert.losses.ranking.ranking`.

        ``gathered`` holds the three tensors of :meth:`gather`, each concatenated over all forward passes of the step.
        """
        queries_BD, candidates_BCD, clusters_BT = gathered
        return ranking(queries_BD, candidates_BCD, clusters_BT, 1 / self.temperature, symmetric=False)

    def __call__(self, p: Pass) -> Tensor:
        return self.compare(*self.gather(p))


class UnsupervisedSimCSE(Settings):
    """Unsupervised SimCSE, over all sentences of the batch. The loss works without labels.

    Each sentence passes through the model a second time, with new dropout masks. To get the vector of a sentence, the
    last layer's output for its first token is passed through a linear layer and a tanh, whatever pooling the task has.
    The linear layer is used by no other loss, and a saved model does not contain it.

    Equal sentences are not used as negatives of each other. If a task has yes/no labels for pairs, the two sentences of
    a pair with label 1 count as equal.
    """

    needs: ClassVar = Needs(
        because="sentences that are encoded alone",
        inputs=("single", "separate"),
        vectors=True,
        labels=False,
        dropout=True,
        clusters=True,
        compares=True,
    )
    kind: Literal["simcse-unsup"] = "simcse-unsup"
    weight: LossWeight = 1.0
    temperature: float = Field(default=0.05, ge=1e-4, le=1e4, description="divides the cosine")

    def build(self, width: int, generator: torch.Generator) -> nn.Module:
        """Returns a new linear layer, initialised at random as in BERT, followed by a tanh."""
        from torch import nn

        from mtbert.model.heads import linear

        return nn.Sequential(linear(width, width, generator), nn.Tanh())

    def with_own(self, own: nn.Module) -> TwoPasses:
        """Returns the function that computes the loss. ``own`` is the module that :meth:`build` returned."""
        return TwoPasses(own, self.temperature)


@dataclass(frozen=True)
class TwoPasses:
    """Computes the loss of :class:`UnsupervisedSimCSE` from two forward passes over the same sentences.

    ``layer`` consists of a linear layer and a tanh. It is applied to the sentence vectors of both passes.
    """

    layer: nn.Module
    temperature: float

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Repeats the forward pass ``p`` with new dropout masks, and returns three tensors.

        They are the sentence vectors of the pass ``p``, ``[S, D]``, the sentence vectors of the repeated pass,
        ``[S, D]``, and the cluster of each sentence, ``[S]``. Sentences of the same cluster mean the same.
        """
        again = p.finish(p.embed(p.generator), p.generator)
        first_SD, second_SD = (self.layer(at_least_float32(out.first_SD)) for out in (p.out, again))
        return first_SD, second_SD, p.batch.clusters[p.task.name].T.flatten()

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns the loss as a scalar, computed by :func:`~mtbert.losses.ranking.multiple_negatives`.

        ``gathered`` holds the three tensors of :meth:`gather`, joined over all calls of :meth:`gather` in the step.
        """
        first_SD, second_SD, clusters_S = gathered
        return multiple_negatives(first_SD, second_SD, clusters_S, 1 / self.temperature, symmetric=False)

    def __call__(self, p: Pass) -> Tensor:
        return self.compare(*self.gather(p))
