"""The interface of answer types: everything about an answer, from the cell of a table to the text that a person reads.

Each answer type is an :class:`AnswerType`, defined in a file of its own and listed in ``answers/known.py``. It has two
halves. A :class:`LabelKind` says what a label is: how a cell becomes a label, and how labels and decisions are shown.
A :class:`PredictionKind` says what the numbers of a head mean: how many there are, which decision follows from them,
and how wrong they are. A type has one prediction kind for heads with layers, and may have another for the cosine head.
Both halves have defaults, which fit a type with one answer for each text.

Labels are float64 arrays, ``[B]`` or ``[B, K]`` depending on the type; a missing label is ``nan``. For a type that
labels each word of a text, the labels are in a :class:`mtbert.ragged.Ragged` instead. The files of answer types import
torch only inside functions, so that recipes can be read without loading torch.

Dimension key: B examples, K numbers of one answer, such as one logit per class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtbert.answers.label_kind import LabelKind, Per
from mtbert.answers.prediction_kind import PredictionKind
from mtbert.answers.values import (
    CANDIDATES,
    YES_NO,
    AnyLabels,
    Array,
    AsOptions,
    Cells,
    ColumnFacts,
    Conflicts,
    Distribution,
    FigureName,
    Judged,
    Labels,
    Metric,
    Shown,
    SoftKind,
    TaskFacts,
    WrongCell,
)

__all__ = [
    "CANDIDATES",
    "YES_NO",
    "AnswerType",
    "AnyLabels",
    "Array",
    "AsOptions",
    "Cells",
    "ColumnFacts",
    "Conflicts",
    "Distribution",
    "FigureName",
    "Judged",
    "LabelKind",
    "Labels",
    "Metric",
    "Per",
    "PredictionKind",
    "Shown",
    "SoftKind",
    "TaskFacts",
    "WrongCell",
]


@dataclass(frozen=True)
class AnswerType:
    """An answer type: its name in recipes, its kind of labels, the kinds of predictions it can use, and its metrics."""

    name: str
    labels: LabelKind[Any]
    metrics: tuple[Metric, ...]  # the default first
    predictions: Mapping[str, PredictionKind[Any]]  # by the output of a head, ``HeadKind.gives`` in ``heads.py``
    soft: AnswerType | None = None  # the type of tasks whose labels are distributions; None if there are no such tasks

    def with_labels(self, soft: SoftKind | None) -> AnswerType:
        """Returns the variant of this answer type that reads soft labels. ``soft`` says how they are given.

        If ``soft`` is None, or if there is no such variant, returns this answer type.
        """
        return self if soft is None or self.soft is None else self.soft

    @property
    def choosable(self) -> tuple[str, ...]:
        """The names of the metrics that a recipe may choose, the default first. For all of them, higher is better."""
        return tuple(metric.name for metric in self.metrics if metric.higher_is_better)
