"""Metrics of one task and the aggregate over tasks.

Dimension key: B examples.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtbert.task import Task

Array = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]

OF_CLASSES = ("accuracy", "macro_f1")
OF_SCORES = ("pearson", "spearman")
COLLAPSED_SHARE = 0.99
COLLAPSED_STD = 1e-3  # of the range


def names(task: Task) -> tuple[str, ...]:
    """The metrics that fit the task; the first is its default."""
    return OF_CLASSES if task.is_class else OF_SCORES


def score(task: Task, predicted_B: Array, labels_B: Array) -> dict[str, float]:
    """All metrics of the task by name: of class indices, or of scores.

    A correlation with a constant is undefined: it is reported as 0 with a warning.
    """
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import f1_score

    if task.is_class:
        return {
            "accuracy": float(np.mean(predicted_B == labels_B)),
            "macro_f1": float(f1_score(labels_B, predicted_B, average="macro", zero_division=0.0)),
        }
    if len(labels_B) < 2 or np.ptp(predicted_B) == 0 or np.ptp(labels_B) == 0:
        warnings.warn(f"task {task.name}: correlation with a constant is undefined; reported as 0.", stacklevel=2)
        return dict.fromkeys(OF_SCORES, 0.0)
    return {
        "pearson": float(pearsonr(predicted_B, labels_B).statistic),
        "spearman": float(spearmanr(predicted_B, labels_B).statistic),
    }


def baseline(task: Task, metric: str, labels_B: Array) -> float:
    """The metric of the best constant answer: the most frequent class, or 0 for a correlation."""
    if metric not in OF_CLASSES:
        return 0.0
    values, counts = np.unique(labels_B, return_counts=True)
    return score(task, np.full_like(labels_B, values[counts.argmax()]), labels_B)[metric]


def collapsed(task: Task, predicted_B: Array) -> bool:
    """Whether 99% of the predictions are one class, or the scores (mapped to 0..1) hardly differ."""
    if task.is_class:
        return bool(np.unique(predicted_B, return_counts=True)[1].max() >= COLLAPSED_SHARE * len(predicted_B))
    return bool(np.std(predicted_B) < COLLAPSED_STD)


def aggregates(tasks: Sequence[str]) -> tuple[str, ...]:
    """The names of the aggregates over ``tasks``: the paper's, the plain mean, or one task's metric alone."""
    return ("overall", "mean", *tasks)


def aggregate(name: str, scores: Mapping[str, tuple[str, float]]) -> float:
    """One number over tasks from ``{task: (metric, value)}``.

    ``overall`` is the mean after mapping correlations from -1..1 to 0..1, as the paper's table 4 does;
    ``mean`` is the plain mean; a task's name is that task's metric.
    """
    if name in scores:
        return scores[name][1]
    mapped = [
        (value + 1) / 2 if name == "overall" and metric in OF_SCORES else value for metric, value in scores.values()
    ]
    return math.fsum(mapped) / len(mapped)
