"""Means, intervals and tests over seeds and examples.

A score varies for two reasons: the seed of the run, and the choice of the examples in dev. All seeds of a row are
scored on the same examples, so their scores are not independent: an interval over seeds alone ignores the examples, and
an interval over examples alone ignores the seeds. Here the variance of a mean over seeds has both parts, as for
subjects that several judges rate (two-way random effects): how much the mean moves when the examples are resampled, and
how much the seeds differ beyond that.

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
SURE = 2 / 3  # confidence of the upper bound on the variance of seeds, which sets the degrees of freedom
_CHUNK = 100  # resamples at a time, for the memory of their counts


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its uncertainty."""

    mean: float
    sd: float  # over seeds; nan for one seed
    se: float  # of the mean, over seeds and examples; for one seed over examples alone
    df: float  # degrees of freedom of se
    seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """Returns the 95% interval of the mean, by Student's t."""
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.df)) * self.se
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Returns the two-sided p-value for a true value of 0."""
        if self.se == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.se, self.df))

    def detectable(self, alpha: float = 1 - LEVEL) -> float:
        """Returns the true value that a test at level ``alpha`` finds with a probability of 0.8, at this ``se``."""
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
    """Returns the mean of the seeds' scores with its uncertainty.

    Args:
        scores_S: The score of each seed on all examples, or its difference from the control's score with that seed.
        resampled_RS: The same on resampled examples; each line has one resample, the same for all seeds.

    With two or more seeds, the variance of the mean is ``examples + seeds / S``. ``examples`` is the variance of the
    resampled mean. ``seeds`` is the variance of the scores, minus the part of it that comes from examples which move
    one seed and not another. The degrees of freedom are Satterthwaite's, with an upper bound in place of ``seeds``:
    a few seeds that happen to lie close together would otherwise count like many. Source: Cornfield and Tukey, "Average
    values of mean squares in factorials", 1956; the bound is ours, chosen by simulation.

    By simulation with three seeds, a test at 0.05 errs in 4 to 6% of studies. A test at 0.0045 (Holm's first step over
    eleven rows) errs as often as it should while seeds vary as much as examples. It errs 1.5 times as often when the
    variance of the seeds is four times that of the examples, 2.5 times at ten, and 3.3 times at thirty and more.
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
    """Returns the p-values corrected for their number by Holm's method (1979), bitwise as statsmodels does.

    ``multipletests`` of statsmodels runs a garbage collection in each call, which takes a hundred times as long.
    """
    order_T = np.argsort(p_T)
    steps_T = np.asarray(p_T, dtype=np.float64)[order_T] * np.arange(len(p_T), 0, -1)
    corrected_T = np.empty_like(steps_T)
    corrected_T[order_T] = np.maximum.accumulate(steps_T).clip(max=1.0)
    return [float(p) for p in corrected_T]


def exact_mcnemar(right_a_B: npt.NDArray[np.bool_], right_b_B: npt.NDArray[np.bool_]) -> float:
    """Returns the two-sided p-value of McNemar's exact test, for two runs on the same examples.

    The hypothesis is that both runs have the same probability of a right answer. The arguments say which answers of
    each run are right, ``[B]``.
    """
    table = [
        [int((right_a_B & right_b_B).sum()), int((right_a_B & ~right_b_B).sum())],
        [int((~right_a_B & right_b_B).sum()), int((~right_a_B & ~right_b_B).sum())],
    ]
    return float(mcnemar(table, exact=True).pvalue)


def resample(task: Task, metric: str, answers: npt.NDArray[Any], labels: Labels, resamples: int = RESAMPLES) -> Floats:
    """Returns the metric of each seed's answers on resampled examples, ``[R, S]``.

    Examples are drawn with replacement. The draws depend only on the task's name and the number of examples, so any two
    rows are resampled alike and their differences are paired.

    Args:
        task: The task of the answers.
        metric: The name of one of its metrics.
        answers: The answers that the metric reads, ``[S, B]`` or ``[S, B, K]``.
        labels: ``[B]`` or ``[B, K]``.
        resamples: Number of resamples, R.
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
