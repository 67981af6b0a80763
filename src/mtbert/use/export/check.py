"""Comparison of the answers of an exported model with those of the original, in float32 and before any clamp."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mtbert import scoring
from mtbert.answers.fitting import FittedName, calibrated
from mtbert.batch import Dataset, Rows
from mtbert.messages import count, shown
from mtbert.model.model import Model
from mtbert.task import Task
from mtbert.use.export import Answering, Compared, Differs

COMPARED_ROWS = 256  # rows of dev whose answers are compared
SCORED_ROWS = 2000  # rows of dev on which a model with rounded weights is scored
LARGEST_DIFFERENCE = 1e-4  # of a probability, a cosine, or a score's share of the range
UNEQUAL_CHOICES = 0.01  # share of the chosen labels that may differ, because their probabilities are nearly equal


def some_rows(data: Dataset, most: int = COMPARED_ROWS) -> Dataset:
    """Returns at most ``most`` examples of a data set, evenly spaced from the first example to the last."""
    if len(data) <= most:
        return data
    chosen: Rows = np.linspace(0, len(data) - 1, most).round().astype(np.int64)
    return replace(data, examples=data.examples.take(chosen), rows=data.rows[chosen])


def compare(model: Model, data: Dataset, answering: Answering) -> Compared:
    """Compares the answers of an exported model with those of ``model`` for the examples of ``data``.

    Raises:
        Differs: If an answer differs by more than ``LARGEST_DIFFERENCE``, or if more than ``UNEQUAL_CHOICES`` of the
            chosen labels differ. The message names the task, the example and both numbers.
    """
    task, found, ours = data.task, dict(answering(data)), scoring.predict_examples(model, data)
    raw = found.pop("prediction", None)
    if raw is None:
        fitted = model.fitted(task.name)
        fitted.pop("knots", None)
        return Compared(len(data), _largest(data, answer_tensors(task, ours, fitted, clamped=False), found))
    uncalibrated = answer_tensors(task, ours, {}, clamped=False), answer_tensors(task, raw, {}, clamped=False)
    largest = _largest(data, *(_numbers(answers) for answers in uncalibrated))
    follows = _largest(data, answer_tensors(task, raw, model.fitted(task.name), clamped=True), found)
    return Compared(len(data), max(largest, follows))


def compare_scores(model: Model, data: Dataset, metric: str, answering: Answering, tolerance: float) -> Compared:
    """Compares the scores of an exported model, whose weights were rounded, with those of ``model``.

    Args:
        model: The original model.
        data: Examples with labels.
        metric: The metric of the task.
        answering: A function that asks the exported model, and gives its raw predictions.
        tolerance: The largest allowed loss of score.

    Raises:
        Differs: If the score is lower by more than ``tolerance``. The message has both scores.
    """
    ours, theirs = scoring.predict_examples(model, data), answering(data)["prediction"]
    before, after = (
        scoring.evaluate_predicted(data, scoring.decided(model, data, prediction)).metrics[metric]
        for prediction in (ours, theirs)
    )
    if not before - after <= tolerance:  # a score that is not a number fails too
        raise Differs(
            f"task {data.task.name}: int8 loses {before - after:.4f} of {metric}, which falls from {before:.4f} to "
            f"{after:.4f} on {count(len(data), 'row')}; at most {tolerance:g} is allowed. Export without --int8, or "
            "allow more with --tolerance."
        )
    return Compared(len(data), largest_difference(model, data.task, ours, theirs), (before, after), metric)


def largest_difference(model: Model, task: Task, ours: Tensor, theirs: Tensor) -> float:
    """Returns the largest difference between the answers that follow from two sets of raw predictions.

    Differences between scores are divided by the width of the task's range. Labels are not compared.
    """
    fitted = model.fitted(task.name)
    answers = (_numbers(answer_tensors(task, raw, fitted, clamped=False)) for raw in (ours, theirs))
    return max(float(_apart(task, a, b).max()) for a, b in zip(*map(dict.values, answers), strict=True))


def answer_tensors(
    task: Task, prediction: Tensor, fitted: Mapping[FittedName, Tensor], *, clamped: bool
) -> dict[str, Tensor]:
    """Returns the answers that follow from raw predictions, as tensors.

    ``fitted`` holds the task's threshold (0 if missing) and the numbers of its calibration (none if missing).
    ``clamped`` says whether scores are clamped to the task's range.
    """
    threshold = fitted.get("threshold", 0.0)
    return task.predicts.as_tensors(task, calibrated(prediction, fitted), threshold, clamped=clamped)


def _numbers(answers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of ``answers`` that do not hold whole numbers."""
    return {name: tensor for name, tensor in answers.items() if tensor.is_floating_point()}


def _largest(data: Dataset, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Returns the largest difference between two sets of answers.

    ``theirs`` must have all floating-point tensors of ``ours``. It may lack integer tensors, which are then not
    compared.
    """
    for name in _numbers(ours):
        if name not in theirs:
            raise Differs(f"task {data.task.name}: the exported model gives no {name}. Report this as a bug.")
    return max((_difference(data, name, ours[name], tensor) for name, tensor in theirs.items()), default=0.0)


def _difference(data: Dataset, name: str, ours: Tensor, theirs: Tensor) -> float:
    """Returns the largest difference between two tensors of answers, and raises :class:`Differs` if it is too large.

    For integers, such as labels, returns 0, and raises :class:`Differs` only if too many of them are unequal. The
    difference between two scores is divided by the width of the task's range.
    """
    if ours.shape != theirs.shape:
        raise Differs(
            f"task {data.task.name}: {name} must have the shape {list(ours.shape)}, found {list(theirs.shape)}. "
            "Report this as a bug."
        )
    if not ours.is_floating_point():
        unequal = float((ours != theirs).double().mean())
        if unequal > UNEQUAL_CHOICES:
            raise Differs(
                f"task {data.task.name}: {unequal:.1%} of the {name} that the exported model chooses are others than "
                "ours. Report this as a bug."
            )
        return 0.0
    by_row = _apart(data.task, ours, theirs)
    if not len(by_row):
        return 0.0
    worst = int(by_row.argmax())
    if by_row[worst] > LARGEST_DIFFERENCE:
        raise Differs(
            f"task {data.task.name}, {_where(data, worst)}: the exported model answers {name} {_told(theirs[worst])}, "
            f"ours {_told(ours[worst])}. They differ by {float(by_row[worst]):.1e}, at most {LARGEST_DIFFERENCE:g} is "
            "allowed. Report this as a bug."
        )
    return float(by_row[worst])


def _apart(task: Task, ours: Tensor, theirs: Tensor) -> Tensor:
    """Returns the largest difference in each row of two tensors of answers.

    Differences between scores are divided by the width of the task's range.
    """
    low, high = task.range or (0.0, 1.0)
    apart = (ours.double() - theirs.double()).abs() / (high - low)
    # A word without a token has no prediction: nan on both sides.
    apart = apart.masked_fill(ours.isnan() & theirs.isnan(), 0.0).nan_to_num(nan=torch.inf)
    return apart.flatten(1).amax(1) if apart.dim() > 1 else apart


def _where(data: Dataset, row: int) -> str:
    words = data.words(np.arange(len(data)))
    return f"id {shown(data.examples.ids[row if words is None else int(words.owners[row])])}"


def _told(numbers: Tensor) -> str:
    return ", ".join(f"{x:.6g}" for x in numbers.flatten()[:6].tolist())
