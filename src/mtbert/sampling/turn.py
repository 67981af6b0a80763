"""The seam of samplers: sizes and progress go in, the probability of each task comes out.

A recipe is read without torch, so a sampler's file imports torch inside its functions.

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
    """How far a run is; ``epoch`` counts from 1, ``step`` from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int


class SamplerSettings(Protocol):
    """The seam of every sampler."""

    @property
    def kind(self) -> str: ...

    def __call__(self, sizes: Sequence[int], progress: Progress, /) -> Tensor:
        """Returns the probability of each task for this step, ``[T]``, summing to 1, from numbers of train rows."""
        ...


def draw(probabilities_T: Tensor, seed: int, step: int) -> int:
    """Returns the task of step ``step``, drawn by a generator of (seed, step) alone."""
    return int(numpy_generator(seed, "task", step).choice(len(probabilities_T), p=probabilities_T.numpy()))
