"""Scores of answers by the metrics of a task's type, and the aggregate of several tasks' scores.

Dimension key: B examples.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from mtbert.answers import Array, Labels
from mtbert.answers.known import ANSWER_TYPES
from mtbert.task import Task

_Number = TypeVar("_Number", float, Labels)
_LOWEST = {metric.name: metric.lowest for answer in ANSWER_TYPES.values() for metric in answer.metrics}


def value(task: Task, metric: str, answers: Array, labels: Labels) -> float:
    """Returns one metric of a task.

    Args:
        task: The task; its range is the unit of errors.
        metric: The name of one of ``task.answer.metrics``.
        answers: Raw predictions where the metric ranks examples, else decisions, ``[B]`` or ``[B, K]``.
        labels: As in :data:`mtbert.answers.Labels`.

    Where the metric is :func:`undefined`, that of the best constant answer is returned.
    """
    if task.answer.metric(metric).undefined(answers, labels) is not None:
        return baseline(task, metric, labels)
    return task.answer.metric(metric).value(task, answers, labels)


def undefined(task: Task, metric: str, answers: Array, labels: Labels) -> str | None:
    """Returns a warning where a metric is undefined: a correlation with a constant, a rank where all labels are equal.

    Takes what :func:`value` takes.
    """
    what = task.answer.metric(metric).undefined(answers, labels)
    if what is None:
        return None
    return f"task {task.name}: {what} is undefined; reported as {baseline(task, metric, labels):g}."


def baseline(task: Task, metric: str, labels: Labels) -> float:
    """Returns the metric of the best constant answer: the most frequent class, or the median score for errors.

    Correlations with a constant count as 0, and ranks are those of equal scores for all.
    """
    return task.answer.metric(metric).constant(task, labels)


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


def unit_scale(metric: str, value: _Number) -> _Number:
    """Returns one value of a metric, or an array of values, on 0..1: a correlation ``r`` becomes ``(r + 1) / 2``.

    >>> unit_scale("pearson", -0.5), unit_scale("accuracy", 0.5)
    (0.25, 0.5)
    """
    lowest = _LOWEST.get(metric, 0.0)
    return (value - lowest) / (1 - lowest)
