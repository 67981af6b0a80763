"""The values of metrics for one task, and aggregates of metrics over several tasks.

Dimension key: B examples, K numbers per answer.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from mtbert.answers import AnyLabels, Array, Labels
from mtbert.answers.known import ANSWER_TYPES
from mtbert.task import Task

_Number = TypeVar("_Number", float, Labels)
_LOWEST = {metric.name: metric.lowest for answer in ANSWER_TYPES.values() for metric in answer.metrics}


def value(task: Task, metric: str, answers: Array, labels: AnyLabels) -> float:
    """Returns the value of a metric for a task, or its :func:`baseline` where the metric is :func:`undefined`.

    Args:
        task: The task. If its labels are scores, the answers are converted from 0..1 to the range of the labels.
        metric: The name of a metric in ``task.metrics``.
        answers: Raw predictions if the metric ranks examples, calibrated ones if it reads probabilities, otherwise
            decisions; ``[B]`` or ``[B, K]``.
        labels: The labels, in the form of :data:`mtbert.answers.AnyLabels`.
    """
    if task.metric_named(metric).undefined(answers, labels) is not None:
        return baseline(task, metric, labels)
    return task.metric_named(metric).value(task, answers, labels)


def undefined(task: Task, metric: str, answers: Array, labels: AnyLabels) -> str | None:
    """Returns a warning if a metric is undefined, otherwise None.

    A correlation, for example, is undefined if all answers are the same. The arguments are those of :func:`value`.
    """
    what = task.metric_named(metric).undefined(answers, labels)
    if what is None:
        return None
    return f"task {task.name}: {what} is undefined; reported as {baseline(task, metric, labels):g}."


def baseline(task: Task, metric: str, labels: AnyLabels) -> float:
    """Returns the value that a metric has for the best constant answer, such as the most frequent class or the median.

    A correlation with a constant counts as 0. For a metric that ranks examples, all examples get the same score.
    """
    return task.metric_named(metric).constant(task, labels)


def aggregates(tasks: Sequence[str]) -> tuple[str, ...]:
    """Returns the names that :func:`aggregate` accepts: ``overall``, ``mean``, and each name in ``tasks``."""
    return ("overall", "mean", *tasks)


def aggregate(name: str, scores: Mapping[str, tuple[str, float]]) -> float:
    """Combines the scores of several tasks into one number.

    ``scores`` is a dict ``{task: (metric, value)}``, and ``name`` says how its values are combined. ``mean`` gives the
    mean of the values. ``overall`` gives their mean after correlations are mapped from -1..1 to 0..1. The name of a
    task gives the value of that task alone.

    Raises:
        KeyError: If ``name`` is not one of :func:`aggregates`.
    """
    if name == "overall":
        return _mean([unit_scale(metric, value) for metric, value in scores.values()])
    if name == "mean":
        return _mean([value for _, value in scores.values()])
    return scores[name][1]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def unit_scale(metric: str, value: _Number) -> _Number:
    """Returns a metric's value, or an array of values, mapped to 0..1: a correlation ``r`` becomes ``(r + 1) / 2``.

    >>> unit_scale("pearson", -0.5), unit_scale("accuracy", 0.5)
    (0.25, 0.5)
    """
    lowest = _LOWEST.get(metric, 0.0)
    return (value - lowest) / (1 - lowest)
