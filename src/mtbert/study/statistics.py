"""Means, intervals and tests over seeds and examples.

A score varies for two reasons: the seed of the run, and which examples happen to be in dev. The seeds of a row are
scored on the same examples, so these are no independent draws: an interval over seeds alone leaves the examples out,
and one over examples alone the seeds. Here the variance of a mean over seeds has both parts (two-way random effects,
as for subjects rated by judges): what resampling the examples moves the mean, and what seeds differ beyond that.

Dimension key: S seeds, R resamples, B examples, T tests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar

from mtbert import metrics
from mtbert.answers import Labels
from mtbert.batch import Floats
from mtbert.seeds import numpy_generator
from mtbert.task import Task

RESAMPLES = 2000
LEVEL = 0.95
POWER = 0.8
SURE = 2 / 3  # that seeds vary no more than what the degrees of freedom go by
_CHUNK = 100  # resamples at a time, for the memory of their counts


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its uncertainty; ``sd`` is over seeds, ``nan`` for one of them."""

    mean: float
    sd: float
    se: float  # of the mean: over seeds and examples, or over examples alone for one seed
    df: float
    seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval by Student's t."""
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.df)) * self.se
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided, that the true value is 0."""
        if self.se == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.se, self.df))

    def detectable(self, alpha: float = 1 - LEVEL) -> float:
        """The true value that a test at ``alpha`` finds with a probability of 0.8, given this uncertainty."""
        if self.se == 0:
            return 0.0
        least = float(stats.t.ppf(1 - alpha / 2, self.df))

        def missing(effect: float) -> float:
            """Returns the power less 80%; the other tail adds nothing near the solution."""
            with np.errstate(divide="ignore"):  # SciPy 1.13 divides by zero on its way to the right number
                return float(stats.nct.sf(least, self.df, effect)) - POWER

        enough = 1.0
        while missing(enough) < 0:
            enough *= 1.5
        return float(optimize.brentq(missing, 0, enough)) * self.se


def estimate(scores_S: Floats, resampled_RS: Floats) -> Estimate:
    """The mean of ``scores_S`` with its uncertainty.

    Args:
        scores_S: The score of each seed on all examples; or its difference from a control's of the same seed.
        resampled_RS: The same on resampled examples; one row's resample is the same for all seeds.

    With two seeds and more the variance is ``examples + seeds / S``: ``examples`` is the variance of the resampled
    mean, ``seeds`` that of the scores less what resampled examples move one seed against another. Degrees of freedom
    are Satterthwaite's, for seeds that vary as much as an upper bound says: few seeds that happen to lie close
    together would otherwise pass for many. Source: Cornfield and Tukey, "Average values of mean squares in
    factorials", 1956; the bound is ours, chosen by simulation.

    What is left of that, by simulation with three seeds: a test at 0.05 errs in 4 to 6% of studies. One at 0.0045, as
    Holm's first step over eleven rows is, errs as often as it says while seeds vary as much as examples, 1.5 times as
    often where their variance is four times that of the examples, 2.5 times at ten and 3.3 times at thirty and more.
    """
    seeds = len(scores_S)
    mean = float(scores_S.mean())
    of_mean = float(resampled_RS.mean(1).var(ddof=1))
    if seeds == 1:
        return Estimate(mean, math.nan, math.sqrt(of_mean), math.inf, 1)
    of_each = float(resampled_RS.var(0, ddof=1).mean())
    interaction = max(0.0, of_each - of_mean) * seeds / (seeds - 1)
    between = float(scores_S.var(ddof=1))
    bound = between * (seeds - 1) / float(stats.chi2.ppf(1 - SURE, seeds - 1))
    variance, most = (of_mean + max(0.0, x - interaction) / seeds for x in (between, bound))
    df = most**2 / ((bound / seeds) ** 2 / (seeds - 1)) if between > 0 else math.inf
    return Estimate(mean, math.sqrt(between), math.sqrt(variance), df, seeds)


def holm(p_T: Sequence[float]) -> list[float]:
    """Returns the p-values corrected for how many there are (Holm 1979), bitwise those of statsmodels.

    Its ``multipletests`` collects garbage at each call, which takes a hundred times as long as all else here.
    """
    order_T = np.argsort(p_T)
    steps_T = np.asarray(p_T, dtype=np.float64)[order_T] * np.arange(len(p_T), 0, -1)
    corrected_T = np.empty_like(steps_T)
    corrected_T[order_T] = np.maximum.accumulate(steps_T).clip(max=1.0)
    return [float(p) for p in corrected_T]


def exact_mcnemar(right_a_B: npt.NDArray[np.bool_], right_b_B: npt.NDArray[np.bool_]) -> float:
    """Two-sided p-value that two runs are right equally often, from the examples where just one is."""
    table = [
        [int((right_a_B & right_b_B).sum()), int((right_a_B & ~right_b_B).sum())],
        [int((~right_a_B & right_b_B).sum()), int((~right_a_B & ~right_b_B).sum())],
    ]
    return float(mcnemar(table, exact=True).pvalue)


def resample(task: Task, metric: str, answers: npt.NDArray[Any], labels: Labels, resamples: int = RESAMPLES) -> Floats:
    """Returns the metric of each seed's answers on resampled examples, ``[R, S]``.

    Draws with replacement, from a generator of the task's name and the number of examples alone, so that any two rows
    are resampled alike and their differences are paired.

    Args:
        task: The task of the answers.
        metric: The name of one of its metrics.
        answers: What the metric reads, ``[S, B]`` or ``[S, B, K]``.
        labels: ``[B]`` or ``[B, K]``.
        resamples: How many.
    """
    size, known = len(labels), task.answer.metric(metric)
    draws = numpy_generator(0, "bootstrap", task.name, size)
    made = []
    for first in range(0, resamples, _CHUNK):
        rows = draws.integers(size, size=(min(_CHUNK, resamples - first), size))
        counts_RB = np.stack([np.bincount(row, minlength=size) for row in rows]).astype(np.float64)
        if known.right is not None:
            made.append(counts_RB @ np.stack([known.right(a, labels) for a in answers]).T / size)
        elif known.resampled is not None:
            made.append(known.resampled(answers, labels, counts_RB))
        else:
            made.append(np.array([[metrics.value(task, metric, a[row], labels[row]) for a in answers] for row in rows]))
    return np.concatenate(made)
