"""Engines: what runs the encoder and the heads of a model. Everything else about an answer is the same for all of them.

An engine gets data sets, one for each task, and returns raw predictions. The task's answer type decodes these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mtbert import scoring
from mtbert.batch import Dataset
from mtbert.model.model import Model


@dataclass(frozen=True)
class Raw:
    """What a task's head gives for the examples of a data set, and what it reads.

    Attributes:
        prediction: The raw numbers of the head, ``[B]`` or ``[B, K]``; for words ``[W, K]``.
        vectors: One tensor ``[B, D]`` for each sequence of an example; empty if nobody asked for vectors.
    """

    prediction: Tensor
    vectors: tuple[Tensor, ...] = ()


class Engine(Protocol):
    """Runs a model on data sets. Data sets that share their tokens are encoded only once."""

    def __call__(self, data: Sequence[Dataset], *, vectors: bool) -> Mapping[str, Raw]:
        """Returns what the task of each data set gives, by the task's name; with the vectors if ``vectors`` is true."""
        ...


@dataclass(frozen=True)
class TorchEngine:
    """Runs the model with PyTorch, without padding."""

    model: Model

    def __call__(self, data: Sequence[Dataset], *, vectors: bool) -> Mapping[str, Raw]:
        if not vectors:
            return {name: Raw(found) for name, found in scoring.predict_together(self.model, data).items()}
        found = scoring.predict_with_vectors(self.model, data)
        return {name: Raw(parts[0], parts[1:]) for name, parts in found.items()}
