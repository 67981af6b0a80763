"""Engines run the encoder and the heads of a model. Everything else about an answer is the same for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mtbert import scoring
from mtbert.batch import Dataset
from mtbert.model.model import Model


class Engine(Protocol):
    """Runs a model on data sets, one for each task. The task's answer type decodes the raw predictions."""

    def __call__(self, data: Sequence[Dataset], *, vectors: bool = False) -> Mapping[str, tuple[Tensor, ...]]:
        """Returns for each task its raw predictions and, if ``vectors`` is true, the vectors that its head reads.

        The values and their order are those of :func:`mtbert.scoring.predict_with_vectors`. Data sets that share their
        tokens are encoded once.
        """
        ...


@dataclass(frozen=True)
class TorchEngine:
    """Runs the model with PyTorch, without padding."""

    model: Model

    def __call__(self, data: Sequence[Dataset], *, vectors: bool = False) -> Mapping[str, tuple[Tensor, ...]]:
        if vectors:
            return scoring.predict_with_vectors(self.model, data)
        return {name: (found,) for name, found in scoring.predict_together(self.model, data).items()}
