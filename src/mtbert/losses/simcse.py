"""SimCSE: a sentence should be nearest to its paraphrase, or to itself under another dropout mask.

Source: Gao, Yao and Chen, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", 2021. The supervised form is
``-log(exp(sim(h_i, h_i+) / t) / sum_j exp(sim(h_i, h_j+) / t))`` without the hard negatives of the source. It equals
:func:`mtbert.losses.ranking.multiple_negatives` with scale ``1 / t``. So does the unsupervised form, in which ``h_i+``
is a second vector of the same sentence.

Dimension key: B examples, S sentences (2B for separate pairs), D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.answers.divergence import at_least_float32
from mtbert.losses import Needs, Pass
from mtbert.losses.ranking import POSITIVE_PAIRS, multiple_negatives, positive_pairs
from mtbert.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class SimCSE(Settings):
    """The supervised form over the positive pairs of a batch; it equals ``mnrl`` with ``scale: 1 / temperature``."""

    needs: ClassVar = POSITIVE_PAIRS
    kind: Literal["simcse"] = "simcse"
    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(
        default=0.1, ge=1e-4, description="divides the cosine; the loss is mnrl with scale: 1 / temperature"
    )

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns the result of :func:`~mtbert.losses.ranking.positive_pairs`."""
        return positive_pairs(p)

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns :func:`~mtbert.losses.ranking.multiple_negatives` of all positive pairs, a scalar."""
        anchors_BD, positives_BD, clusters_B = gathered
        return multiple_negatives(anchors_BD, positives_BD, clusters_B, 1 / self.temperature, symmetric=False)

    def __call__(self, p: Pass) -> Tensor:
        return self.compare(*self.gather(p))


class UnsupervisedSimCSE(Settings):
    """The unsupervised form over all sentences of the batch, whatever their labels.

    Each sentence passes through the model a second time, with new dropout masks. Whatever pooling the task has, the
    vector of a sentence is the last layer's output for its first token, passed through a linear layer and a tanh. Only
    this loss uses that layer, and a saved model does not contain it. Sentences of the same cluster, such as equal ones,
    are not used as negatives of each other.
    """

    needs: ClassVar = Needs(
        because="sentences that are encoded alone",
        inputs=("single", "separate"),
        vectors=True,
        labels=False,
        dropout=True,
        clusters=True,
    )
    kind: Literal["simcse-unsup"] = "simcse-unsup"
    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=0.05, ge=1e-4, description="divides the cosine")

    def build(self, width: int, generator: torch.Generator) -> nn.Module:
        """Returns a linear layer with BERT's initial weights, followed by a tanh."""
        from torch import nn

        from mtbert.model.heads import linear

        return nn.Sequential(linear(width, width, generator), nn.Tanh())

    def with_own(self, own: nn.Module) -> TwoPasses:
        """Returns the loss that passes the vectors of first tokens through ``own``."""
        return TwoPasses(own, self.temperature)


@dataclass(frozen=True)
class TwoPasses:
    """The loss of :class:`UnsupervisedSimCSE`, with its own layer."""

    layer: nn.Module
    temperature: float

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns the vectors of this pass and of a second one, ``[S, D]`` each, and the clusters, ``[S]``."""
        again = p.finish(p.embed(p.generator), p.generator)
        first_SD, second_SD = (self.layer(at_least_float32(out.first_SD)) for out in (p.out, again))
        return first_SD, second_SD, p.batch.clusters[p.task.name].T.flatten()

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns :func:`~mtbert.losses.ranking.multiple_negatives` of all sentences, a scalar."""
        first_SD, second_SD, clusters_S = gathered
        return multiple_negatives(first_SD, second_SD, clusters_S, 1 / self.temperature, symmetric=False)

    def __call__(self, p: Pass) -> Tensor:
        return self.compare(*self.gather(p))
