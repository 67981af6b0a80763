"""The summary of a study: the scores of its recipes, and comparisons between recipes.

Each recipe is compared with its control (usually the same recipe without one technique) and with the reference recipe
of the study.

Dimension key: S seeds, R resamples, B examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from mtbert import metrics
from mtbert.batch import Floats
from mtbert.studying import statistics
from mtbert.studying.results import DevData, Results
from mtbert.studying.settings import OVERALL
from mtbert.studying.statistics import Estimate, ScoreEstimate

Against = Literal["control", "reference"]
Verdict = Literal["better", "worse", "unclear"]


@dataclass(frozen=True)
class Comparison:
    """The difference in one score between a recipe of a study and the recipe called ``other``.

    ``other`` is the name of the recipe's control (a recipe that usually lacks only one technique) or of the study's
    reference recipe. The runs of the two recipes are paired by seed, and their answers are paired by example.
    """

    other: str  # the row that is compared with
    difference: Estimate  # positive where the row is better
    p: float  # the p-value of the hypothesis that there is no difference
    corrected: float  # p corrected by Holm's method for all rows that are compared in this score

    @property
    def verdict(self) -> Verdict:
        """Returns ``better`` or ``worse`` if the corrected p-value is below 0.05, and otherwise ``unclear``."""
        if self.corrected >= 1 - statistics.LEVEL:
            return "unclear"
        return "better" if self.difference.mean > 0 else "worse"


@dataclass(frozen=True)
class RowScores:
    """The scores of one recipe of a study, by task.

    The scores include ``overall``, the mean over tasks, if the recipe has a score for every task of the study's
    reference recipe.
    """

    scores: Mapping[str, ScoreEstimate]
    by_seed: Sequence[Mapping[str, float]]  # the scores of each run, in the order of the seeds
    collapsed: Mapping[str, int]  # by task: the number of runs whose answers are all, or nearly all, the same


@dataclass(frozen=True)
class Summary:
    """The statistics of a study: the scores of each of its recipes, and the comparisons between recipes."""

    baseline: Mapping[str, float]  # each score of the best constant answers
    rows: Mapping[str, RowScores]
    comparisons: Mapping[Against, Mapping[str, Mapping[str, Comparison]]]  # by row and score
    main: str  # the score that decides: overall, or the score of the reference's only task

    def judged_by(self, by_score: Mapping[str, Comparison]) -> str | None:
        """Returns the name of the score that decides which of two recipes is better.

        ``by_score`` maps the name of each score to the comparison of the two recipes by this score. If the main score
        is in ``by_score``, the main score decides. Otherwise, if ``by_score`` has a single score, the single score
        decides. Otherwise, returns None.
        """
        return self.main if self.main in by_score else next(iter(by_score)) if len(by_score) == 1 else None

    def collapse_mark(self, row: str) -> str:
        """Returns a mark such as `` (collapsed: sst)`` for a recipe of the study. ``row`` is the name of the recipe.

        The mark names each task for which a run of the recipe gives nearly the same answer to all examples. If there is
        no such task, the mark is an empty text.
        """
        tasks = [task for task, seeds in self.rows[row].collapsed.items() if seeds]
        return f" (collapsed: {', '.join(tasks)})" if tasks else ""

    @property
    def main_first(self) -> list[str]:
        """Returns the names of the scores, with the main score first."""
        return [self.main, *(name for name in self.baseline if name not in (self.main, OVERALL))]

    def detectable(self, against: Against, score: str) -> float | None:
        """Returns the smallest true difference in a score that the tests of this study would find in 80% of cases.

        Each test compares a recipe with its control or with the reference recipe, by the score named in ``score``.
        ``against`` chooses between control and reference. The level of a test is 0.05 divided by the number of tests
        (the first step of Holm's method).

        The smallest difference is computed for each test, and the median of these differences is returned. If a
        smallest difference is larger than the largest possible difference, infinity takes its place. Tests of two
        recipes with the same answers are left out of the median. If no test is left, returns None.
        """
        found = [by[score].difference for by in self.comparisons[against].values() if score in by]
        alpha = (1 - statistics.LEVEL) / max(1, len(found))
        varied = [d.detectable(alpha) for d in found if d.se > 0]  # rows with equal answers tell nothing about it
        return float(np.median(varied)) if varied else None


def summarise(results: Results) -> Summary:
    """Returns the statistics of all runs that have ended. For the same runs, the numbers are the same, bit for bit."""
    return _Sums(results).summary()


class _Sums:
    """Computes the summary of a study. For this, it scores every run on all dev examples and on resampled examples."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.resampled: dict[str, dict[str, Floats]] = {}  # by row and score: [R, S]
        self.scores: dict[str, dict[str, Floats]] = {}  # [S]
        for row, by_seed in results.runs.items():
            tasks = next(iter(by_seed.values())).predicted
            self.scores[row], self.resampled[row] = {}, {}
            for name in (n for n in results.dev if n in tasks):
                dev = results.dev[name]
                answers_SB = np.stack([r.predicted[name].read_by(dev.scored_by) for r in by_seed.values()])
                self.scores[row][name] = np.array([self._score(dev, answers_B) for answers_B in answers_SB])
                self.resampled[row][name] = statistics.resample(dev.task, dev.metric, answers_SB, dev.labels)
            if len(self.tasks) > 1 and set(self.tasks) <= tasks.keys():
                for by_score in (self.scores[row], self.resampled[row]):
                    by_score[OVERALL] = self._overall({name: by_score[name] for name in self.tasks})

    @cached_property
    def tasks(self) -> list[str]:
        """Returns the names of the tasks that take part in the score ``overall``, which is a mean over tasks.

        These are the tasks of the study's reference recipe. As long as no run of the reference recipe has ended, these
        are all tasks of the study.
        """
        reference = self.results.runs.get(self.results.outline.reference)
        known = next(iter(reference.values())).predicted if reference else self.results.dev
        return [name for name in self.results.dev if name in known]

    def summary(self) -> Summary:
        return Summary(
            main=OVERALL if len(self.tasks) > 1 else self.tasks[0],
            baseline=self._baseline(),
            rows={row: self._scored(row) for row in self.results.runs},
            comparisons={
                "control": self._compared({row: c for row, c in self.results.outline.rows.items() if c is not None}),
                "reference": self._compared(dict.fromkeys(self.results.outline.rows, self.results.outline.reference)),
            },
        )

    @staticmethod
    def _score(dev: DevData, answers_B: Floats) -> float:
        return metrics.value(dev.task, dev.metric, answers_B, dev.labels)

    def _overall(self, by_task: Mapping[str, Floats]) -> Floats:
        """Returns the score ``overall``: the mean of the tasks' scores, each scaled to the range from 0 to 1."""
        scaled = [metrics.unit_scale(self.results.dev[name].metric, values) for name, values in by_task.items()]
        mean: Floats = np.mean(scaled, axis=0)
        return mean

    def _baseline(self) -> dict[str, float]:
        found = {n: metrics.baseline(d.task, d.metric, d.labels) for n, d in self.results.dev.items()}
        return found | {OVERALL: float(self._overall({n: np.array(found[n]) for n in self.tasks}))}

    def _scored(self, row: str) -> RowScores:
        runs = self.results.runs[row].values()
        return RowScores(
            scores={key: self._estimated(key, s, self.resampled[row][key]) for key, s in self.scores[row].items()},
            by_seed=[{key: float(s[i]) for key, s in self.scores[row].items()} for i in range(len(runs))],
            collapsed={
                name: sum(dev.task.answer.labels.collapsed(r.predicted[name].decision.numpy()) for r in runs)
                for name, dev in self.results.dev.items()
                if name in self.scores[row]
            },
        )

    def _estimated(self, key: str, scores_S: Floats, resampled_RS: Floats) -> ScoreEstimate:
        dev = self.results.dev.get(key)
        trials = None if dev is None or dev.scored_by.right is None else len(dev.labels)
        return statistics.estimate_score(scores_S, resampled_RS, lowest=self._lowest(key), trials=trials)

    def _lowest(self, key: str) -> float:
        """Returns the lowest value that a score can have; the highest is 1."""
        return 0.0 if key == OVERALL else self.results.dev[key].scored_by.lowest

    def _compared(self, pairs: Mapping[str, str]) -> dict[str, dict[str, Comparison]]:
        found = {
            row: {key: self._compare(row, other, key) for key in self.scores[row] if key in self.scores[other]}
            for row, other in pairs.items()
            if row != other and self._seeds(row, other)
        }
        found = {row: by_score for row, by_score in found.items() if by_score}  # rows without a common task go
        for key in (*self.results.dev, OVERALL):
            rows = [row for row in found if key in found[row]]
            for row, p in zip(rows, statistics.holm([found[row][key].p for row in rows]), strict=True):
                found[row][key] = replace(found[row][key], corrected=p)
        return found

    def _seeds(self, row: str, other: str) -> list[int]:
        """Returns the seeds for which both recipes, ``row`` and ``other``, have a run that has ended."""
        return [seed for seed in self.results.runs.get(row, {}) if seed in self.results.runs.get(other, {})]

    def _compare(self, row: str, other: str, key: str) -> Comparison:
        runs = [self.results.runs[name] for name in (row, other)]
        seeds = self._seeds(row, other)
        (mine, theirs), (mine_R, theirs_R) = (
            [
                by[name][key][..., [list(r).index(seed) for seed in seeds]]
                for name, r in zip((row, other), runs, strict=True)
            ]
            for by in (self.scores, self.resampled)
        )
        width = 1 - self._lowest(key)
        difference = replace(statistics.estimate(mine - theirs, mine_R - theirs_R), bounds=(-width, width))
        p = difference.p
        dev = self.results.dev.get(key)
        if len(seeds) == 1 and dev is not None and (right := dev.scored_by.right) is not None:
            one, two = (right(r[seeds[0]].predicted[key].decision.numpy(), dev.labels) for r in runs)
            p = statistics.exact_mcnemar(one, two)
        return Comparison(other, difference, p, p)
