"""The answer type for scores in a range: one number per example, or the cosine of two vectors.

In a prediction, 0 stands for the lowest score of the task's range, and 1 stands for the highest score.

Dimension key: B examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from mtbert.answers import (
    AnswerType,
    Array,
    Cells,
    Distribution,
    FigureName,
    Judged,
    LabelKind,
    Labels,
    PredictionKind,
    TaskFacts,
    WrongCell,
)
from mtbert.answers.class_labels import check_codes
from mtbert.answers.divergence import squared_error
from mtbert.answers.heads import COSINE, OUTPUTS
from mtbert.answers.measures import MAE, PEARSON, SPEARMAN
from mtbert.answers.seen import SeenColumn, Suits
from mtbert.messages import few, shown
from mtbert.numbers import number

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.answers.prediction_kind import Tensors

_Number = TypeVar("_Number", float, Labels)

BINS = 10  # number of bins in a histogram of scores
COLLAPSED_STD = 1e-3  # share of the range: scores with a smaller standard deviation count as all the same
NEAR = 0.1  # share of the range: a score further from its label counts as wrong
RANGES = "between -1e100 and 1e100, its ends at least 1e-100 apart"  # keeps squares finite and above 0


@dataclass(frozen=True)
class ScoreLabels(LabelKind[Labels]):
    """Labels that are scores in the task's own range, ``[B]``."""

    figures: tuple[FigureName, ...] = ("similarity",)
    graded: bool = True
    wrong: str = f"A score counts as wrong if it is more than {NEAR:.0%} of the range away from its label."

    def check(self, task: TaskFacts) -> None:
        if task.labels is not None:
            raise ValueError("labels are for classes; a regression task has a range. Drop labels.")
        check_codes(task)
        check_range(task)

    def suits(self, labels: Sequence[SeenColumn], texts: Sequence[SeenColumn]) -> Suits | None:
        if len(labels) != 1 or len(labels[0].numbers) < 3:
            return None
        # Many whole numbers may be scores, but also counts, prices or years.
        degree = 0.4 if labels[0].dense else 0.45 if labels[0].whole else 0.75
        return Suits(degree, labels[0].told(), "for scores between")

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns ``{"range": (lowest, highest)}`` of the scores in the columns; ``{}`` if the recipe sets a range."""
        if task.range is not None:
            return {}
        scores = [
            score(cell, None, row, i)
            for i, cells in enumerate(columns)
            for row, cell in enumerate(cells)
            if cell is not None
        ]
        if not scores or min(scores) == max(scores):
            found = f"all {len(scores):,} scores are {scores[0]:g}" if scores else "there are no scores"
            raise ValueError(f"{found}. Check the column, or set the task's range.")
        low, high = min(scores), max(scores)
        if not is_range(low, high):
            raise ValueError(f"scores must be {RANGES}, found {low!r} to {high!r}. Scale them, or check the column.")
        return {"range": (low, high)}

    def read(self, task: TaskFacts, cells: Cells) -> Labels:
        found = (math.nan if cell is None else score(cell, task.range, row) for row, cell in enumerate(cells))
        return np.fromiter(found, np.float64, len(cells))

    def targets(self, task: TaskFacts, labels: Labels) -> Labels:
        return fraction(task, labels)

    def distribution(self, task: TaskFacts, labels: Labels) -> Distribution:
        known_B = labels[~np.isnan(labels)]
        edges = [at(task, i / BINS) for i in range(BINS + 1)]
        counts = np.bincount(np.clip(np.searchsorted(edges, known_B, "right") - 1, 0, BINS - 1), minlength=BINS)
        names = [f"{edge:.4g}" for edge in edges]
        for digits in range(5, 18):  # scores may differ only in their last digits
            if len(set(names)) == len(names):
                break
            names = [f"{edge:.{digits}g}" for edge in edges]
        return Distribution(
            "score",
            tuple((f"{names[i]} to {names[i + 1]}", int(count)) for i, count in enumerate(counts)),
            (("mean", float(known_B.mean())), ("lowest", float(known_B.min())), ("highest", float(known_B.max()))),
        )

    def fits(self, task: TaskFacts, decision: Array, labels: Labels) -> bool:
        kind = decision.shape == (len(labels),) and decision.dtype == np.float64
        return kind and bool(np.isfinite(decision).all())

    def collapsed(self, decision: Array) -> bool:
        """Returns whether nearly all scores are equal: their standard deviation is below 0.1% of the task's range."""
        return bool(np.std(decision) < COLLAPSED_STD)

    def summary(self, task: TaskFacts) -> str:
        return "{:g} to {:g}".format(*ends(task))

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        return round(float(label), 4)

    def details(self, task: TaskFacts, decision: Array, labels: Labels) -> dict[str, Any]:
        return {"range": list(ends(task))}


@dataclass(frozen=True)
class Score(PredictionKind[Labels]):
    """Predictions with one number per example, ``[B]``, that stands for a score.

    The number 0 stands for the lowest score of the task's range, and 1 for the highest. Predictions are not clamped, so
    they may be below 0 or above 1. With the cosine head, the number is the cosine.
    """

    feeds: tuple[str, ...] = ("score",)
    loss: str = "mse"
    start: float = 0.5  # the middle of the range, which a small learning rate would take long to reach
    gaussian: bool = True

    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        return ()

    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        return prediction.double().numpy()

    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor) -> list[dict[str, Any]]:
        """Returns a dict for each example, in which ``score`` is the score, clamped to the task's range."""
        return [{"score": at(task, float(p.clamp(0, 1)))} for p in prediction]

    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        share_B = prediction.clamp(0, 1) if clamped else prediction
        return {"score": at(task, 0.0) + width(task) * share_B.double()}  # the range may be too large for float32

    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        return squared_error(prediction, other, detached=detached)

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        answer_B = at(task, decision.clip(0, 1))
        distance_B = np.abs(answer_B - labels)
        unknown_B = np.full(len(labels), np.nan)
        return Judged(answer_B, unknown_B, distance_B, distance_B, distance_B > NEAR * width(task))


def ends(task: TaskFacts) -> tuple[float, float]:
    """Returns the lowest and the highest possible score of the task; 0 and 1 if its range is not known yet."""
    return task.range or (0.0, 1.0)


def width(task: TaskFacts) -> float:
    """Returns the difference between the highest and the lowest possible score of the task."""
    low, high = ends(task)
    return high - low


def at(task: TaskFacts, fraction: _Number) -> _Number:
    """Returns the score at ``fraction`` of the task's range: 0 is the lowest score, and 1 is the highest.

    For an array of fractions, returns an array of scores.
    """
    return ends(task)[0] + width(task) * fraction


def fraction(task: TaskFacts, scores: Labels) -> Labels:
    """Returns ``scores`` mapped from the task's range to [0, 1]. If the range is not known yet, they stay unchanged."""
    if task.range is None:
        return scores
    low, high = task.range
    return (scores - low) / (high - low)


def check_range(task: TaskFacts) -> None:
    """Raises ValueError if the task's range is empty, or has ends that are too large or too close to compute with."""
    if task.range is not None:
        low, high = task.range
        if not low < high:
            raise ValueError(f"range must be [lowest, highest], found [{low:g}, {high:g}].")
        if not is_range(low, high):
            raise ValueError(f"range must be {RANGES}, found [{low!r}, {high!r}].")


def is_range(low: float, high: float) -> bool:
    """Returns whether the range from ``low`` to ``high`` is usable: its ends must not be huge or too close together."""
    return max(abs(low), abs(high)) <= 1e100 and high - low >= 1e-100


def score(cell: str, limits: tuple[float, float] | None, row: int, column: int = 0) -> float:
    """Returns the score that is written in ``cell``; ``row`` and ``column`` locate the cell in an error.

    Raises:
        WrongCell: If the cell is not a number, or the number is outside ``limits``.
    """
    low, high = limits or (-math.inf, math.inf)
    repair = f"Give {f'{low:g} to {high:g}' if limits else 'a number'}, or leave the cell empty."
    found = number(cell)
    if found is None:
        raise WrongCell(row, f"{shown(cell)} is not a number. {repair}", column)
    if not low <= found <= high:
        raise WrongCell(row, f"{few([cell])} is outside the task's range. {repair}", column)
    return found


REGRESSION = AnswerType(
    "regression",
    ScoreLabels(),
    (PEARSON, SPEARMAN, MAE),
    {OUTPUTS: Score(), COSINE: Score(feeds=("cosine",), start=0.0)},
)
