"""Comparison of the answers of an exported model with those of the original, in float32 and before any clamp.

Dimension key: B examples, T texts of an example that are encoded separately, D width of the encoder.
"""

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
LARGEST_DIFFERENCE = 1e-4  # of a probability, a cosine, a score's share of the range, or a vector's share of its length
READ_VECTORS, SINGLE_VECTORS = "vectors", "single_vectors"
UNEQUAL_CHOICES = 0.01  # share of the chosen labels that may differ, because their probabilities are nearly equal


def some_rows(data: Dataset, most: int = COMPARED_ROWS) -> Dataset:
    """Returns up to ``most`` examples of a data set, evenly spaced from the first example to the last."""
    if len(data) <= most:
        return data
    chosen: Rows = np.linspace(0, len(data) - 1, most).round().astype(np.int64)
    return replace(data, examples=data.examples.take(chosen), rows=data.rows[chosen])


def compare(model: Model, data: Dataset, answering: Answering) -> Compared:
    """Compares the answers of an exported model with those of ``model`` for the examples of ``data``.

    ``answering`` runs the exported model.

    Raises:
        Differs: If a number in an answer differs by more than ``LARGEST_DIFFERENCE``, or if the share of chosen labels
            that differ is more than ``UNEQUAL_CHOICES``. In the first case, the message names the task and the example,
            and contains both answers. In the second case, the message names the task, and contains the share.
    """
    task, found, ours = data.task, dict(answering(data)), scoring.predict_examples(model, data)
    vectors = {name: found.pop(name) for name in (READ_VECTORS, SINGLE_VECTORS) if name in found}
    largest = max((_of_vectors(model, data, name, theirs) for name, theirs in vectors.items()), default=0.0)
    fitted = model.fitted(task.name)
    fitted.pop("knots", None)  # an isotonic map may have steps, which magnify any rounding
    raw = found.get("prediction")
    if raw is None:
        return Compared(
            len(data), max(largest, _largest(data, answer_tensors(task, ours, fitted, clamped=False), found))
        )
    for calibration in (fitted, dict[FittedName, Tensor]()):
        both = (_numbers(answer_tensors(task, x, calibration, clamped=False)) for x in (ours, raw))
        largest = max(largest, _largest(data, *both))
    return Compared(len(data), max(largest, _follows(model, data, found)))


def compare_scores(model: Model, data: Dataset, metric: str, answering: Answering, tolerance: float) -> Compared:
    """Compares the scores of an exported model, whose weights were rounded, with those of ``model``.

    Args:
        model: The original model.
        data: Examples with labels.
        metric: The metric of the task.
        answering: A function that runs the exported model. It returns the raw predictions, and the answers that the
            exported model computes from them.
        tolerance: The largest allowed loss of score.

    Raises:
        Differs: If the exported model's score is lower by more than ``tolerance``, or if the exported model's answers
            do not follow from its raw predictions. In the first case, the message contains both scores.
    """
    found = dict(answering(data))
    found.pop(READ_VECTORS, None)  # the scored predictions were made from them
    vectors = found.pop(SINGLE_VECTORS, None)
    _follows(model, data, found)
    ours, theirs = scoring.predict_examples(model, data), found["prediction"]
    rounded = [theirs] if vectors is None else [theirs, _read_by_head(model, data, vectors)]
    before, *scores = (
        scoring.evaluate_predicted(data, scoring.decided(model, data, prediction)).metrics[metric]
        for prediction in (ours, *rounded)
    )
    after = min(scores, key=lambda score: (score == score, score))  # nan first
    if not before - after <= tolerance:  # a score that is not a number fails too
        raise Differs(
            f"task {data.task.name}: int8 loses {before - after:.4f} of {metric}, which falls from {before:.4f} to "
            f"{after:.4f} on {count(len(data), 'row')}; at most {tolerance:g} is allowed. Export without --int8, or "
            "allow more with --tolerance."
        )
    return Compared(len(data), largest_difference(model, data.task, ours, theirs), (before, after), metric)


def largest_difference(model: Model, task: Task, ours: Tensor, theirs: Tensor) -> float:
    """Returns the largest difference between the answers that follow from two sets of raw predictions.

    Only floating-point answers, such as probabilities and scores, are compared. Predicted labels are not compared.
    Differences between scores are divided by the width of the task's range.
    """
    fitted = model.fitted(task.name)
    answers = (_numbers(answer_tensors(task, raw, fitted, clamped=False)) for raw in (ours, theirs))
    return max(float(_apart(a, b, _unit(task)).max()) for a, b in zip(*map(dict.values, answers), strict=True))


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
    """Returns the tensors of ``answers`` that have a floating-point dtype."""
    return {name: tensor for name, tensor in answers.items() if tensor.is_floating_point()}


def _follows(model: Model, data: Dataset, found: Mapping[str, Tensor]) -> float:
    """Returns how far an exported model's answers differ from the answers that follow from its raw predictions.

    ``found`` holds tensors of the exported model: the raw predictions under ``prediction``, and the answers.
    """
    others = {name: tensor for name, tensor in found.items() if name != "prediction"}
    fitted = model.fitted(data.task.name)
    return _largest(data, answer_tensors(data.task, found["prediction"], fitted, clamped=True), others)


def _of_vectors(model: Model, data: Dataset, name: str, theirs: Tensor) -> float:
    """Returns the largest difference between the vectors of an exported model and the vectors of ``model``.

    ``theirs`` holds the vectors of the exported model, ``[B, T, D]``. Each example has T vectors. Differences are
    divided by the norm of the vector of ``model``.
    """
    ours = torch.stack(scoring.pooled_vectors(model, data), 1)
    if ours.shape == theirs.shape:
        length = ours.norm(dim=-1, keepdim=True)
        ours, theirs = ours / length, theirs / length
    return _difference(data, name, ours, theirs, 1.0)


@torch.no_grad()
def _read_by_head(model: Model, data: Dataset, vectors_BTD: Tensor) -> Tensor:
    """Returns the raw predictions of the original model's head for vectors that the exported model made."""
    prediction: Tensor = model.head(data.task.name)(vectors_BTD.unbind(1), None)
    return prediction.float()


def _largest(data: Dataset, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Returns the largest difference between two sets of answers.

    ``theirs`` must have all floating-point tensors of ``ours``. It may lack integer tensors, which are then not
    compared.
    """
    for name in _numbers(ours):
        if name not in theirs:
            raise Differs(f"task {data.task.name}: the exported model gives no {name}. Report this as a bug.")
    unit = _unit(data.task)
    return max((_difference(data, name, ours[name], tensor, unit) for name, tensor in theirs.items()), default=0.0)


def _unit(task: Task) -> float:
    """Returns the divisor for differences between answers: the width of the task's range, or 1 without a range."""
    low, high = task.range or (0.0, 1.0)
    return high - low


def _difference(data: Dataset, name: str, ours: Tensor, theirs: Tensor, unit: float) -> float:
    """Returns the largest difference between two tensors of answers, and raises :class:`Differs` if it is too large.

    For integers, such as labels, returns 0, and raises :class:`Differs` only if too many of them are unequal.
    Differences are divided by ``unit``.
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
    by_row = _apart(ours, theirs, unit)
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


def _apart(ours: Tensor, theirs: Tensor, unit: float) -> Tensor:
    """Returns for each row the largest difference between ``ours`` and ``theirs``, in multiples of ``unit``."""
    apart = (ours.double() - theirs.double()).abs() / unit
    # A word without a token has no prediction: nan on both sides.
    apart = apart.masked_fill(ours.isnan() & theirs.isnan(), 0.0).nan_to_num(nan=torch.inf)
    return apart.flatten(1).amax(1) if apart.dim() > 1 else apart


def _where(data: Dataset, row: int) -> str:
    words = data.words(np.arange(len(data)))
    return f"id {shown(data.examples.ids[row if words is None else int(words.owners[row])])}"


def _told(numbers: Tensor) -> str:
    return ", ".join(f"{x:.6g}" for x in numbers.flatten()[:6].tolist())
