"""Metrics of one task, what they are per class, and the aggregate over tasks.

Everything is computed by scikit-learn and SciPy, which are imported on first use.

Dimension key: B examples.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mtbert.task import Task

Array = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]

OF_CLASSES = ("accuracy", "macro_f1")
OF_RANKS = ("auc", "average_precision")  # of yes/no tasks: they read logits or cosines, so no threshold matters
OF_SCORES = ("pearson", "spearman")
OF_ERRORS = ("mae",)  # lower is better, so no aggregate and no choice of the best model may read them
COLLAPSED_SHARE = 0.99
COLLAPSED_STD = 1e-3  # of the range


@dataclass(frozen=True)
class OfClass:
    """How well one class is found; a share of nothing is 0."""

    label: str
    precision: float  # share of the answers with this class that are right
    recall: float  # share of the examples of this class that get it as an answer
    f1: float
    examples: int
    answers: int


def names(task: Task) -> tuple[str, ...]:
    """Returns the metrics that a recipe may choose for the task, the default first; in all of them higher is better."""
    if not task.is_class:
        return OF_SCORES
    return OF_CLASSES + OF_RANKS if task.type == "binary" else OF_CLASSES


def reported(task: Task) -> tuple[str, ...]:
    """Returns the metrics that every evaluation of the task holds: those of :func:`names`, and errors of scores."""
    return names(task) if task.is_class else names(task) + OF_ERRORS


def value(task: Task, metric: str, answers_B: Array, labels_B: Array) -> float:
    """Returns one metric of a task.

    Args:
        task: The task; its range is the unit of ``mae``.
        metric: One of :func:`reported`.
        answers_B: Logits or cosines where ``metric`` is one of ``OF_RANKS``, else class indices, or scores mapped to
            0..1, which may lie outside.
        labels_B: Class indices, or scores in the task's range.

    Where the metric is :func:`undefined`, that of the best constant answer is returned.
    """
    if undefined(task, metric, answers_B, labels_B) is not None:
        return baseline(task, metric, labels_B)
    return _VALUES[metric](task, answers_B, labels_B)


def undefined(task: Task, metric: str, answers_B: Array, labels_B: Array) -> str | None:
    """Returns a warning where a metric is undefined: a correlation with a constant, a rank where all labels are equal.

    Takes what :func:`value` takes.
    """
    if metric in OF_RANKS and np.ptp(labels_B) == 0:
        what = f"{metric} where all labels are equal"
    elif metric in OF_SCORES and _constant(answers_B, labels_B):
        what = "correlation with a constant"
    else:
        return None
    return f"task {task.name}: {what} is undefined; reported as {baseline(task, metric, labels_B):g}."


def baseline(task: Task, metric: str, labels_B: Array) -> float:
    """Returns the metric of the best constant answer: the most frequent class, or the median score for ``mae``.

    Correlations with a constant count as 0, and ranks are those of equal scores for all.
    """
    if metric in OF_SCORES:
        return 0.0
    if metric == "auc":
        return 0.5
    if metric == "average_precision":
        return float(np.mean(labels_B == 1))
    if metric == "mae":
        return float(np.mean(np.abs(labels_B - np.median(labels_B))))
    found, counts = np.unique(labels_B, return_counts=True)
    return value(task, metric, np.full_like(labels_B, found[counts.argmax()]), labels_B)


def by_class(task: Task, decided_B: Array, labels_B: Array) -> list[OfClass]:
    """Returns precision, recall, F1 and counts of each class, in the order of the task's labels."""
    from sklearn.metrics import precision_recall_fscore_support

    classes = range(len(task.labels or ()))
    rows = precision_recall_fscore_support(labels_B, decided_B, labels=list(classes), zero_division=0.0)
    answers = np.bincount(decided_B.astype(np.int64), minlength=len(classes))
    return [
        OfClass(label, float(precision), float(recall), float(f1), int(examples), int(said))
        for label, precision, recall, f1, examples, said in zip(task.labels or (), *rows, answers, strict=True)
    ]


def confusion(task: Task, decided_B: Array, labels_B: Array) -> list[list[int]]:
    """Returns how many examples of each class (rows) get each class as an answer (columns)."""
    from sklearn.metrics import confusion_matrix

    counts: list[list[int]] = confusion_matrix(labels_B, decided_B, labels=range(len(task.labels or ()))).tolist()
    return counts


def collapsed(task: Task, predicted_B: Array) -> bool:
    """Returns whether 99% of the predictions are one class, or the scores (mapped to 0..1) hardly differ."""
    if task.is_class:
        return bool(np.unique(predicted_B, return_counts=True)[1].max() >= COLLAPSED_SHARE * len(predicted_B))
    return bool(np.std(predicted_B) < COLLAPSED_STD)


def aggregates(tasks: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the aggregates over ``tasks``: the paper's, the plain mean, or one task's metric alone."""
    return ("overall", "mean", *tasks)


def aggregate(name: str, scores: Mapping[str, tuple[str, float]]) -> float:
    """Returns one number over tasks from ``{task: (metric, value)}``.

    ``overall`` is the mean after mapping correlations from -1..1 to 0..1, as the paper's table 4 does;
    ``mean`` is the plain mean; a task's name is that task's metric.
    """
    if name in scores:
        return scores[name][1]
    values = [unit_scale(metric, value) if name == "overall" else value for metric, value in scores.values()]
    return math.fsum(values) / len(values)


_Number = TypeVar("_Number", float, npt.NDArray[np.float64])


def unit_scale(metric: str, value: _Number) -> _Number:
    """Returns one value of a metric, or an array of values, on 0..1: a correlation ``r`` becomes ``(r + 1) / 2``.

    >>> unit_scale("pearson", -0.5), unit_scale("accuracy", 0.5)
    (0.25, 0.5)
    """
    return (value + 1) / 2 if metric in OF_SCORES else value


def _accuracy(task: Task, decided_B: Array, labels_B: Array) -> float:
    return float(np.mean(decided_B == labels_B))


def _macro_f1(task: Task, decided_B: Array, labels_B: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels_B, decided_B, average="macro", zero_division=0.0))


def _auc(task: Task, raw_B: Array, labels_B: Array) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels_B, raw_B))


def _average_precision(task: Task, raw_B: Array, labels_B: Array) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels_B, raw_B))


def _pearson(task: Task, scores_B: Array, labels_B: Array) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(scores_B, labels_B).statistic)


def _spearman(task: Task, scores_B: Array, labels_B: Array) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(scores_B, labels_B).statistic)


def _mae(task: Task, scores_B: Array, labels_B: Array) -> float:
    from sklearn.metrics import mean_absolute_error

    low, high = task.range or (0.0, 1.0)
    # Clamped, as answers are: a score outside the range is never given to anyone.
    return float(mean_absolute_error(labels_B, low + (high - low) * np.clip(scores_B, 0, 1)))


def _constant(scores_B: Array, labels_B: Array) -> bool:
    return len(labels_B) < 2 or bool(np.ptp(scores_B) == 0 or np.ptp(labels_B) == 0)


_VALUES: Mapping[str, Callable[[Task, Array, Array], float]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "auc": _auc,
    "average_precision": _average_precision,
    "pearson": _pearson,
    "spearman": _spearman,
    "mae": _mae,
}
