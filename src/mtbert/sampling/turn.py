"""The seam of samplers: sizes and progress go in, the probability of each task comes out.

Dimension key: T tasks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mtbert.seeds import numpy_generator


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``epoch`` counts from 1, ``step`` from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int


Sampler = Callable[[Sequence[int], Progress], Tensor]
"""Numbers of train rows and progress in; the probability of each task for this step out, ``[T]``, summing to 1."""


def draw(probabilities_T: Tensor, seed: int, step: int) -> int:
    """Returns the task of step ``step``, drawn by a generator of (seed, step) alone."""
    return int(numpy_generator(seed, "task", step).choice(len(probabilities_T), p=probabilities_T.numpy()))
