"""Which task and which rows a step takes: a function of the seed and of how far the run is.

Dimension key: T tasks.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``epoch`` counts from 1, ``step`` from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int


Schedule = Callable[[Sequence[int], Progress], Tensor]
"""Task sizes and progress in; the probability of each task for this step out, ``[T]``, summing to 1."""


def round_robin(sizes: Sequence[int], progress: Progress) -> Tensor:
    """Every task in turn: one-hot."""
    probabilities_T = torch.zeros(len(sizes), dtype=torch.float64)
    probabilities_T[progress.step % len(sizes)] = 1
    return probabilities_T


def pick(schedule: Schedule, sizes: Sequence[int], progress: Progress, seed: int) -> int:
    """The task of this step, drawn from ``schedule`` by a generator of (seed, step) alone."""
    probabilities = schedule(sizes, progress).numpy()
    return int(generator(seed, "task", progress.step).choice(len(sizes), p=probabilities))


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator of its own for each purpose: the same words give the same draws, other words unrelated ones."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))


@dataclass(frozen=True)
class Stream:
    """An endless order of a data set's rows: one seeded permutation after the other."""

    name: str
    size: int
    batch_size: int
    seed: int
    _passes: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, batch: int) -> npt.NDArray[np.int64]:
        """Row numbers of batch ``batch`` (from 0); a batch that reaches the end of a pass takes from the next."""
        first = batch * self.batch_size
        wanted = np.arange(first, first + self.batch_size)
        return np.array([self._permutation(i // self.size)[i % self.size] for i in wanted.tolist()])

    def _permutation(self, number: int) -> npt.NDArray[np.int64]:
        if number not in self._passes:
            for old in [n for n in self._passes if n < number - 1]:
                del self._passes[old]
            self._passes[number] = generator(self.seed, "rows", self.name, number).permutation(self.size)
        return self._passes[number]
