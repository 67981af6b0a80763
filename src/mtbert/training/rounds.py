"""The plan of a run: how many rounds each epoch has, and therefore how many steps the run has."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import torch

from mtbert.recipe.settings import Recipe
from mtbert.sampling.turn import Progress


@dataclass(frozen=True)
class RoundPlan:
    """The number of rounds of each epoch. A round is one batch per task: one joint step, or one step per task.

    Attributes:
        rounds: The number of rounds of each epoch.
        steps_per_round: Optimizer steps in one round.
        passes: How often the whole run passes over the train rows of each task, in expectation.
    """

    rounds: tuple[int, ...]
    steps_per_round: int
    passes: Mapping[str, float]

    @classmethod
    def of(cls, recipe: Recipe, sizes: Mapping[str, int]) -> Self:
        """Returns the plan of ``recipe`` for tasks whose numbers of train rows are ``sizes``."""
        train = recipe.train
        drawn = {name: recipe.tasks[name].batch_size for name in sizes}
        batches = [math.ceil(sizes[name] / drawn[name]) for name in sizes]
        named = {"min": min(batches), "max": max(batches)}
        cycle = train.rounds if isinstance(train.rounds, tuple) else (train.rounds,)
        counts = [n if isinstance(n, int) else named[n] for n in cycle]
        rounds = tuple(counts[epoch % len(counts)] for epoch in range(train.epochs))
        # Expected batches of each task per round: one, except with a sampler that depends on the sizes.
        turns = [
            torch.stack(
                [train.sampler(list(sizes.values()), Progress(epoch, train.epochs, i, 0)) for i in range(len(sizes))]
            ).sum(0)
            for epoch in range(1, train.epochs + 1)
        ]
        taken = [sum(n * float(turn[i]) for n, turn in zip(rounds, turns, strict=True)) for i in range(len(sizes))]
        return cls(
            rounds=rounds,
            steps_per_round=1 if train.mode == "joint" else len(sizes),
            passes={name: n * drawn[name] / sizes[name] for name, n in zip(sizes, taken, strict=True)},
        )

    @property
    def steps(self) -> int:
        """The number of optimizer steps of the whole run."""
        return sum(self.rounds) * self.steps_per_round

    def epoch(self, step: int) -> int:
        """Returns the epoch (from 1) that step ``step`` (from 0) belongs to."""
        ends = [rounds * self.steps_per_round for rounds in accumulate(self.rounds)]
        return min(bisect_right(ends, step) + 1, len(self.rounds))

    def evaluations(self, every: int | str) -> frozenset[int]:
        """Returns the numbers of completed steps after which dev is scored; the end of the run is always one of them.

        Args:
            every: The number of rounds between evaluations, or ``epoch`` for one at the end of each epoch.
        """
        rounds = accumulate(self.rounds) if isinstance(every, str) else range(every, sum(self.rounds) + 1, every)
        return frozenset(n * self.steps_per_round for n in rounds) | {self.steps}
