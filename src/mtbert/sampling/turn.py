"""The interface of samplers, and the random choice of a step's task by the probabilities that a sampler returns.

The file of a sampler imports torch only inside its functions, so that recipes can be read without loading torch.

Dimension key: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mtbert.seeds import numpy_generator

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """How far a run has come: its epoch and its step, and how many of both there are in total.

    Epochs are counted from 1, and steps are counted from 0.
    """

    epoch: int
    epochs: int
    step: int
    steps: int


class SamplerSettings(Protocol):
    """A sampler with its settings. Calling it returns the probability with which each task is drawn for a step."""

    @property
    def kind(self) -> str: ...

    def __call__(self, sizes: Sequence[int], progress: Progress, /) -> Tensor:
        """Returns the probability of each task for this step, ``[T]``, float64. The probabilities sum to 1.

        Args:
            sizes: The number of train rows of each task.
            progress: The current epoch and step of the run, and the total number of each.
        """
        ...


def draw(probabilities_T: Tensor, seed: int, step: int) -> int:
    """Returns the index of the task that a step trains. It depends only on the probabilities, the seed and the step."""
    return int(numpy_generator(seed, "task", step).choice(len(probabilities_T), p=probabilities_T.numpy()))
