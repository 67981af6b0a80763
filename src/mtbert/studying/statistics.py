"""Means, intervals and tests over seeds and examples.

A score varies for two reasons: the seed of the run, and the choice of the examples in dev. All seeds of a recipe of the
study are scored on the same examples, so their scores are not independent. An interval over seeds alone would ignore
the examples, and an interval over examples alone would ignore the seeds. Therefore the variance of a mean over seeds
has two parts here: how much the mean moves when the examples are resampled, and how much the seeds differ beyond that.
This is a model with two-way random effects, as for subjects that are all rated by the same judges.

Dimension key: S seeds, R resamples, B examples, K numbers per answer, T tests.
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
from mtbert.answers import AnyLabels
from mtbert.batch import Floats
from mtbert.seeds import numpy_generator
from mtbert.task import Task

RESAMPLES = 2000
LEVEL = 0.95
POWER = 0.8
SURE = 2 / 3  # confidence of the upper bound on the variance of seeds, which sets the degrees of freedom
_LEAST = 1e-12  # a smaller variance comes from rounding
_CHUNK = 100  # resamples at a time, for the memory of their counts


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, with its uncertainty. It is the mean of a score or of the difference between two scores."""

    mean: float
    sd: float  # over seeds; nan for one seed
    se: float  # of the mean, over seeds and examples; for one seed over examples alone
    df: float  # degrees of freedom of se
    seeds: int
    of_examples: float = 0.0  # the part of the squared se that comes from the choice of the examples
    bounds: tuple[float, float] = (-math.inf, math.inf)  # the lowest and the highest possible value

    @property
    def interval(self) -> tuple[float, float] | None:
        """Returns the lower and the upper end of the mean's 95% interval, by Student's t distribution.

        The interval is cut off at the lowest and the highest possible value (``bounds``). Returns None if ``se`` is 0.
        This happens if the mean is the same on all resamples of the examples and for all seeds, so that the size of its
        error cannot be estimated.
        """
        if self.se == 0:
            return None
        half = self.quantile * self.se
        return max(self.bounds[0], self.mean - half), min(self.bounds[1], self.mean + half)

    @property
    def quantile(self) -> float:
        """Returns half the width of a 95% interval, in standard errors, by Student's t distribution."""
        return float(stats.t.ppf((1 + LEVEL) / 2, self.df))

    @property
    def p(self) -> float:
        """The p-value of a two-sided t-test. Its null hypothesis is that the true mean is 0."""
        if self.se == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.se, self.df))

    def detectable(self, alpha: float = 1 - LEVEL) -> float:
        """Returns the smallest true mean that a test at level ``alpha`` finds with a probability of 0.8.

        The standard error is taken to be ``se``. Returns infinity if that mean would be above the highest possible one.
        """
        if self.se == 0:
            return 0.0
        least = float(stats.t.ppf(1 - alpha / 2, self.df))

        def excess(effect: float) -> float:
            """Returns the power of a t-test minus 0.8, if the true mean is ``effect`` times the standard error.

            Only one tail of the test is computed. The other tail is negligible where the power is near 0.8.
            """
            with np.errstate(divide="ignore"):  # SciPy 1.13 divides by zero on its way to the right number
                return float(stats.nct.sf(least, self.df, effect)) - POWER

        enough = 1.0
        while excess(enough) < 0:
            enough *= 1.5
        found = float(optimize.brentq(excess, 0, enough)) * self.se
        return found if found <= self.bounds[1] else math.inf


@dataclass(frozen=True)
class ScoreEstimate(Estimate):
    """The mean of a score over seeds, with its uncertainty. The possible scores have finite bounds, such as 0 and 1.

    ``trials`` is the number of examples if the score is the share of right answers, and otherwise None.
    """

    trials: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Returns the lower and the upper end of the mean's 95% interval, or None if the interval cannot be computed.

        The interval is Wilson's score interval, which is made for a share of right answers among ``n`` examples. The
        quantile is that of Student's t distribution.

        ``n`` is the number of examples if the score is the share of right answers of a single run. Otherwise, ``n`` is
        computed from the standard error.

        The interval lies within the lowest and the highest possible score (``bounds``). If there are few examples, the
        interval is wide, even if all answers are right.

        Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
        """
        low, high = self.bounds
        share = min(1.0, max(0.0, (self.mean - low) / (high - low)))
        product, variance = share * (1 - share), (self.se / (high - low)) ** 2
        varies = min(product, variance) > _LEAST
        if self.trials is not None and (self.seeds == 1 or not varies):
            number = float(self.trials)
        elif varies:
            number = product / variance
        else:
            return None
        q = self.quantile**2 / number
        middle, half = (share + q / 2) / (1 + q), math.sqrt(q * product + q**2 / 4) / (1 + q)
        return low + (high - low) * max(0.0, middle - half), low + (high - low) * min(1.0, middle + half)


def estimate(scores_S: Floats, resampled_RS: Floats) -> Estimate:
    """Returns the mean of a score over seeds, with its uncertainty.

    Args:
        scores_S: The score of each seed on all examples, ``[S]``. In a comparison of two recipes of a study, each
            number is the difference between the scores of the two recipes with the same seed.
        resampled_RS: The same scores or differences on resampled examples, ``[R, S]``. Each line is one resample, which
            is the same for all seeds.

    With two or more seeds, the variance of the mean is ``from_examples + from_seeds / S``. For ``from_examples``, the
    mean over seeds is computed on each resample, and the variance of these ``R`` means is taken. ``from_seeds`` is the
    variance of the scores between seeds, minus the variance of the interaction between seeds and examples. (They
    interact if an example is easier for one seed than for another.) The interaction is subtracted because
    ``from_examples`` already includes it. Source: Cornfield and Tukey, "Average values of mean squares in factorials",
    1956.

    The degrees of freedom are computed by Satterthwaite's formula, in which an upper confidence bound replaces the
    variance between seeds. Without the bound, a few seeds whose scores are close together by chance would give too many
    degrees of freedom. The bound is ours. We chose its confidence by simulation.

    We measured the rate of false positives in simulations with three seeds and no true difference. At level 0.05, the
    rate is 4 to 6%. At level 0.0045 (the first step of Holm's method with eleven tests), the rate can be too high:
    up to 0.015 if the scores vary much more between seeds than between samples of examples.
    """
    seeds = len(scores_S)
    mean = float(scores_S.mean())
    of_mean = float(resampled_RS.mean(1).var(ddof=1))
    if seeds == 1:
        return Estimate(mean, math.nan, math.sqrt(of_mean), math.inf, 1, of_mean)
    of_each = float(resampled_RS.var(0, ddof=1).mean())
    interaction = max(0.0, of_each - of_mean) * seeds / (seeds - 1)
    between = float(scores_S.var(ddof=1))
    bound = between * (seeds - 1) / float(stats.chi2.ppf(1 - SURE, seeds - 1))
    variance, most = (of_mean + max(0.0, x - interaction) / seeds for x in (between, bound))
    df = most**2 / ((bound / seeds) ** 2 / (seeds - 1)) if between > 0 else math.inf
    return Estimate(mean, math.sqrt(between), math.sqrt(variance), df, seeds, of_mean)


def estimate_score(scores_S: Floats, resampled_RS: Floats, *, lowest: float, trials: int | None) -> ScoreEstimate:
    """Returns the mean of a score over seeds, with its uncertainty. The score lies between ``lowest`` and 1.

    ``trials`` is the number of examples if the score is the share of right answers, and otherwise None. The other
    arguments are those of :func:`estimate`.
    """
    known = vars(estimate(scores_S, resampled_RS)) | {"bounds": (lowest, 1.0)}
    return ScoreEstimate(**known, trials=trials)


def holm(p_T: Sequence[float]) -> list[float]:
    """Returns the p-values, corrected for the number of tests by Holm's method (1979), in the same order.

    The results are exactly those of ``multipletests`` in statsmodels. That function takes a hundred times as long,
    because it runs the garbage collector in each call.
    """
    order_T = np.argsort(p_T)
    steps_T = np.asarray(p_T, dtype=np.float64)[order_T] * np.arange(len(p_T), 0, -1)
    corrected_T = np.empty_like(steps_T)
    corrected_T[order_T] = np.maximum.accumulate(steps_T).clip(max=1.0)
    return [float(p) for p in corrected_T]


def exact_mcnemar(right_a_B: npt.NDArray[np.bool_], right_b_B: npt.NDArray[np.bool_]) -> float:
    """Returns the two-sided p-value of McNemar's exact test for two runs on the same examples.

    The null hypothesis is that both runs are equally likely to give a right answer. Each argument, ``[B]``, says which
    answers of one run are right.
    """
    table = [
        [int((right_a_B & right_b_B).sum()), int((right_a_B & ~right_b_B).sum())],
        [int((~right_a_B & right_b_B).sum()), int((~right_a_B & ~right_b_B).sum())],
    ]
    return float(mcnemar(table, exact=True).pvalue)


def resample(
    task: Task, metric: str, answers: npt.NDArray[Any], labels: AnyLabels, resamples: int = RESAMPLES
) -> Floats:
    """Returns the metric of each seed's answers on bootstrap resamples of the examples, ``[R, S]``.

    The draws depend only on the task's name and the number of examples. All recipes of a study are therefore resampled
    in the same way, and the differences between their scores are paired.

    Args:
        task: The task of the answers.
        metric: The name of one of the task's metrics.
        answers: The answers of all seeds, in the form that the metric reads, ``[S, B]`` or ``[S, B, K]``.
        labels: The labels of the examples, ``[B]`` or ``[B, K]``.
        resamples: The number of resamples, R.
    """
    size, known = len(labels), task.metric_named(metric)
    draws = numpy_generator(0, "bootstrap", task.name, size)
    made = []
    for first in range(0, resamples, _CHUNK):
        rows = draws.integers(size, size=(min(_CHUNK, resamples - first), size))
        counts_RB = np.stack([np.bincount(row, minlength=size) for row in rows]).astype(np.float64)
        if known.right is not None:
            made.append(counts_RB @ np.stack([known.right(a, labels) for a in answers]).T / size)
        elif known.resampled is not None:
            made.append(known.resampled(task, answers, labels, counts_RB))
        else:
            made.append(np.array([[metrics.value(task, metric, a[row], labels[row]) for a in answers] for row in rows]))
    return np.concatenate(made)
