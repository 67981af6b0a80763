"""The plan of a run: the number of rounds in each epoch, and the number of steps that follows from it.

A round is one joint step with a batch of every table or, if tables take turns, one step with each table. If a task has
files of its own, these count as a table that only this task reads.
"""

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
    """The number of rounds in each epoch, and two quantities that follow from it.

    A round is one joint step with a batch of every table or, if tables take turns, one step with each table.

    Attributes:
        rounds: The number of rounds in each epoch.
        steps_per_round: The number of optimizer steps in one round.
        passes: For each task, how often the whole run is expected to pass over the train rows of its table.
    """

    rounds: tuple[int, ...]
    steps_per_round: int
    passes: Mapping[str, float]

    @classmethod
    def of(cls, recipe: Recipe, sizes: Mapping[str, int]) -> Self:
        """Returns the plan of a run of ``recipe``.

        The plan holds the number of rounds in each epoch, the number of steps in a round, and the expected number of
        passes over the train rows of each task.

        A round is one joint step with a batch of every table or, if tables take turns, one step with each table.
        ``sizes`` maps the name of each table to its number of train rows.
        """
        train, tables = recipe.train, recipe.tasks_by_table()
        drawn = {name: tables[name][0].batch_size for name in sizes}
        batches = [math.ceil(sizes[name] / drawn[name]) for name in sizes]
        named = {"min": min(batches), "max": max(batches)}
        cycle = train.rounds if isinstance(train.rounds, tuple) else (train.rounds,)
        counts = [n if isinstance(n, int) else named[n] for n in cycle]
        rounds = tuple(counts[epoch % len(counts)] for epoch in range(train.epochs))
        # Expected batches of each table per round: one, except with a sampler that depends on the sizes.
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
            passes={
                task.name: n * drawn[name] / sizes[name]
                for name, n in zip(sizes, taken, strict=True)
                for task in tables[name]
            },
        )

    @property
    def steps(self) -> int:
        """The number of optimizer steps of the whole run."""
        return sum(self.rounds) * self.steps_per_round

    def epoch(self, step: int) -> int:
        """Returns the number of the epoch that contains ``step``.

        Epochs are counted from 1, and steps are counted from 0.
        """
        ends = [rounds * self.steps_per_round for rounds in accumulate(self.rounds)]
        return min(bisect_right(ends, step) + 1, len(self.rounds))

    def evaluations(self, every: int | str) -> frozenset[int]:
        """Returns the step counts at which dev is scored: an element ``n`` means "after ``n`` steps".

        The end of the run is always included. A round is one joint step with a batch of every table or, if tables take
        turns, one step with each table.

        Args:
            every: The number of rounds between evaluations, or ``epoch`` for an evaluation at the end of each epoch.
        """
        rounds = accumulate(self.rounds) if isinstance(every, str) else range(every, sum(self.rounds) + 1, every)
        return frozenset(n * self.steps_per_round for n in rounds) | {self.steps}

    def may_end_early(self, recipe: Recipe) -> bool:
        """Returns whether ``train.patience`` is so short that a run of ``recipe`` may end before its last step."""
        patience = recipe.train.patience
        return patience is not None and patience + 1 < len(self.evaluations(recipe.train.evaluate_every))
