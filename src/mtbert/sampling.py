"""Which task and which rows a step takes: a function of the seed and of how far the run is.

Dimension key: T tasks.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from mtbert.data.clusters import spread
from mtbert.settings import Settings


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``epoch`` counts from 1, ``step`` from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int


Schedule = Callable[[Sequence[int], Progress], Tensor]
"""Task sizes and progress in; the probability of each task for this step out, ``[T]``, summing to 1."""


class RoundRobin(Settings):
    """Every task in turn: one-hot."""

    kind: Literal["round_robin"] = "round_robin"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        probabilities_T = torch.zeros(len(sizes), dtype=torch.float64)
        probabilities_T[progress.step % len(sizes)] = 1
        return probabilities_T


class Proportional(Settings):
    """Each task as often as it has rows."""

    kind: Literal["proportional"] = "proportional"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        return proportional(sizes, 1.0)


class SquareRoot(Settings):
    """By the square root of the rows, between equal shares and proportional ones."""

    kind: Literal["square_root"] = "square_root"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        return proportional(sizes, 0.5)


class Temperature(Settings):
    """By the rows to the power ``1 / temperature``: 1 is proportional, and the higher, the more equal."""

    kind: Literal["temperature"] = "temperature"
    temperature: float = Field(default=2.0, gt=0)

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        return proportional(sizes, 1 / self.temperature)


class Annealed(Settings):
    """Proportional in the first epoch, nearly equal in the last.

    The power falls from 1 to 0.2 in equal steps, one per epoch: ``1 - 0.8 * (epoch - 1) / (epochs - 1)``; of a
    single epoch it is 1.

    Source: Stickland and Murray, "BERT and PALs", 2019. The formula as printed in the paper under study divides by
    zero in the first epoch.
    """

    kind: Literal["annealed"] = "annealed"

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        return proportional(sizes, 1 - 0.8 * (progress.epoch - 1) / max(1, progress.epochs - 1))


# One line per order of tasks.
SamplerSettings = Annotated[
    RoundRobin | Proportional | SquareRoot | Temperature | Annealed, Field(discriminator="kind")
]


def proportional(sizes: Sequence[int], power: float) -> Tensor:
    """Returns ``size**power`` of each task over their sum, ``[T]``, float64."""
    powers_T = (torch.tensor(sizes, dtype=torch.float64) / max(sizes)) ** power  # at most 1: nothing overflows
    return powers_T / powers_T.sum()


def pick(probabilities_T: Tensor, seed: int, step: int) -> int:
    """The task of step ``step``, drawn by a generator of (seed, step) alone."""
    return int(generator(seed, "task", step).choice(len(probabilities_T), p=probabilities_T.numpy()))


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator of its own for each purpose: the same words give the same draws, other words unrelated ones."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))


@dataclass(frozen=True)
class Stream:
    """An endless order of a data set's rows: one seeded permutation after the other.

    With ``clusters``, ``[size, texts]``, each permutation is rearranged so that a batch holds no cluster twice as far
    as that is possible, and cut to whole batches.
    """

    name: str
    size: int
    batch_size: int
    seed: int
    clusters: npt.NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    _passes: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.clusters is not None and self.size < self.batch_size:
            raise ValueError(
                f"task {self.name}: no_duplicates cuts a pass to whole batches, and {self.size} train rows are not one "
                f"of {self.batch_size}. Lower batch_size."
            )

    def rows(self, batch: int) -> npt.NDArray[np.int64]:
        """Row numbers of batch ``batch`` (from 0); a batch that reaches the end of a pass takes from the next."""
        first = batch * self.batch_size
        wanted = np.arange(first, first + self.batch_size)
        size = self.size if self.clusters is None else self.size - self.size % self.batch_size
        return np.array([self._permutation(i // size)[i % size] for i in wanted.tolist()])

    def _permutation(self, number: int) -> npt.NDArray[np.int64]:
        if number not in self._passes:
            for old in [n for n in self._passes if n < number - 1]:
                del self._passes[old]
            order = generator(self.seed, "rows", self.name, number).permutation(self.size)
            self._passes[number] = order if self.clusters is None else spread(order, self.clusters, self.batch_size)
        return self._passes[number]
