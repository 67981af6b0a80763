"""The seam of every answer type: what an answer is, from the cell of a table to what a person reads.

An answer type is one file with an :class:`AnswerType`, and one line in ``answers/known.py``. It has two halves.
A :class:`LabelKind` says what a label is: how a cell becomes one, and how labels and decisions are shown. A
:class:`PredictionKind` says what the numbers of a head mean: how many there are, what they decide, how wrong they are.
A type has one for heads with layers, and may have another for the cosine head.

Labels are float64 arrays of the type's own shape, ``[B]`` or ``[B, K]``, with ``nan`` where one is missing. Torch is
imported inside functions alone: a recipe is read without it.

Dimension key: B examples, K numbers of one answer: logits of the classes, or scores of several aspects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Labels = npt.NDArray[np.float64]  # [B] or [B, K], nan where missing
Array = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]
Cells = Sequence[str | None]  # a column as it is written; None where a cell is empty

YES_NO = "yes/no labels"  # what label 1 says of a pair: both texts mean the same


class TaskFacts(Protocol):
    """The part of a task that its answers depend on."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...] | None: ...

    @property
    def codes(self) -> tuple[str, ...] | None: ...

    @property
    def range(self) -> tuple[float, float] | None: ...


class WrongCell(ValueError):
    """A cell that cannot be a label. ``row`` and ``column`` say which one of the given cells; the message says why."""

    def __init__(self, row: int, why: str, column: int = 0) -> None:
        super().__init__(why)
        self.row = row
        self.column = column


# Scores ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """One number that says how good answers are.

    All functions take labels as :data:`Labels`, and decisions as :meth:`PredictionKind.decide` makes them, or raw
    predictions where ``ranks`` is true; both ``[B]`` or ``[B, K]``.
    """

    name: str
    value: Callable[[TaskFacts, Array, Labels], float]
    constant: Callable[[TaskFacts, Labels], float]  # the value of the best constant answer
    undefined: Callable[[Array, Labels], str | None] = lambda answers, labels: None  # why there is no value
    ranks: bool = False  # it reads raw predictions, so no threshold matters
    higher_is_better: bool = True  # else it is reported, and no recipe may choose it
    lowest: float = 0.0  # of its range, whose highest is 1; the overall score maps it onto 0 to 1
    # Right or wrong, [B], where the value is the share of the right ones.
    right: Callable[[Array, Labels], npt.NDArray[np.bool_]] | None = None
    # The values on resampled examples, [R, S], of answers [S, B] and how often each example was drawn, [R, B]. A quick
    # way for a metric that has one.
    resampled: Callable[[Array, Labels, Labels], Labels] | None = None


# Shown -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distribution:
    """The labels of one split: counts of classes or of bins, and a few numbers about all of them."""

    heading: str  # of the names
    counts: tuple[tuple[str, int], ...]
    numbers: tuple[tuple[str, float], ...] = ()
    classes: bool = False  # each name needs examples enough to learn from, and may be listed by its count


@dataclass(frozen=True)
class Shown:
    """A table for a terminal. The first ``texts`` columns hold words; numbers stand in the others."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""  # above a table with a frame
    lead: str = ""  # a line above a table without one
    names: int = 0  # the column of names, which are cut where they are too long


@dataclass(frozen=True)
class Judged:
    """How wrong the answers to ``B`` examples are.

    ``answer`` is in the unit of labels, ``[B]`` or ``[B, K]``; all else is ``[B]``. ``loss_B`` orders the answers, the
    worst highest: ``-log p(label)`` in nats; for a cosine how far it lies on the wrong side of the threshold; for a
    score its distance. ``distance_B`` counts classes, or is in the unit of labels. ``p_B`` is the probability of the
    answer, ``nan`` where the head knows none.
    """

    answer: Labels
    p_B: Labels
    distance_B: Labels
    loss_B: Labels
    wrong_B: npt.NDArray[np.bool_]


# The two halves of a type -------------------------------------------------------------------------------------


class LabelKind(Protocol):
    """What a label is, and how labels and decisions are shown."""

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures and tables of a report that fit such labels."""
        ...

    @property
    def graded(self) -> bool:
        """Whether an answer is more or less wrong: groups of examples are then told by their mean distance."""
        ...

    def check(self, task: TaskFacts) -> None:
        """Raises ValueError unless ``labels``, ``codes`` and ``range`` of a recipe can be those of such labels."""
        ...

    def missing(self, task: TaskFacts) -> str | None:
        """Returns what a trained model must know of the task and does not, as ``labels``."""
        ...

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns the fields of the task that follow from its data: the columns of train and of dev, where named.

        Raises:
            ValueError: If these cannot be the labels of such a task.
        """
        ...

    def read(self, task: TaskFacts, cells: Cells) -> Labels:
        """Returns the labels in a column, ``[B]`` or ``[B, K]``: ``nan`` where one is missing.

        Raises:
            WrongCell: If a cell cannot be a label.
            ValueError: If the task's labels cannot be told apart.
        """
        ...

    def targets(self, task: TaskFacts, labels: Labels) -> Labels:
        """Returns what losses get in place of labels, in the same shape: class indices, or scores mapped to 0 to 1."""
        ...

    def distribution(self, task: TaskFacts, labels: Labels) -> Distribution:
        """Returns what ``data check`` shows of the labels of one split."""
        ...

    def doubts(self, task: TaskFacts) -> list[str]:
        """Returns what ``data check`` warns about in the task's own names and range, a line each."""
        ...

    def fits(self, task: TaskFacts, decision: Array, examples: int) -> bool:
        """Returns whether these can be decisions for so many examples: their shape, type and values."""
        ...

    def collapsed(self, decision: Array) -> bool:
        """Returns whether all or nearly all decisions are the same."""
        ...

    def choices(self, task: TaskFacts) -> tuple[str, ...] | None:
        """Returns the names of all answers that there are, where they can be listed."""
        ...

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        """Returns one label or :attr:`Judged.answer` for the report: an index of ``choices``, or a number or words."""
        ...

    def tables(self, task: TaskFacts, decision: Array, labels: Labels) -> list[Shown | str]:
        """Returns what ``evaluate`` shows beside the scores."""
        ...

    def details(self, task: TaskFacts, decision: Array, labels: Labels) -> dict[str, Any]:
        """Returns what ``evaluate --json`` says beside the scores, in values that JSON has words for."""
        ...


class PredictionKind(Protocol):
    """What the numbers of a head mean: predictions are ``[B, *shape]``."""

    @property
    def feeds(self) -> tuple[str, ...]:
        """What a loss may read of predictions and labels, by name; a loss says in ``Needs.reads`` what it wants."""
        ...

    @property
    def loss(self) -> str:
        """The kind of the default loss."""
        ...

    @property
    def start(self) -> float:
        """The bias of the head's last layer before training."""
        ...

    @property
    def gaussian(self) -> bool:
        """Whether the likelihood is Gaussian, for learned task weights: predictions are scores, not logits."""
        ...

    @property
    def fitted(self) -> bool:
        """Whether a threshold between yes and no is fitted on train data; else it is 0."""
        ...

    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        """Returns the shape of one example's prediction: ``()`` for one number.

        Raises:
            ValueError: If it depends on labels that are not known yet.
        """
        ...

    def decide(self, prediction: Tensor, threshold: float) -> npt.NDArray[Any]:
        """Returns what raw predictions decide.

        That is class indices as int64, or scores mapped to 0 to 1, unclamped, as float64; ``[B]`` or ``[B, K]``.
        """
        ...

    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float) -> list[dict[str, Any]]:
        """Returns one answer per example as a person wants it, by name: texts, numbers, ``None`` or lists of these."""
        ...

    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        """Returns how far apart two predictions for the same examples are, ``[B]``, at least float32.

        ``detached`` stops the gradient of the targets, see :func:`mtbert.answers.divergence.symmetric_kl`.
        """
        ...

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        """Returns how wrong answers are, from their predictions and decisions as float64."""
        ...


@dataclass(frozen=True)
class AnswerType:
    """An answer type: its name in recipes, and all that it says."""

    name: str
    labels: LabelKind
    metrics: tuple[Metric, ...]  # the default first
    predictions: Mapping[str, PredictionKind]  # by what a head gives: see ``answers/heads.py``

    @property
    def choosable(self) -> tuple[str, ...]:
        """The metrics that a recipe may choose, the default first; higher is better in all of them."""
        return tuple(metric.name for metric in self.metrics if metric.higher_is_better)

    def metric(self, name: str) -> Metric:
        """Returns the metric of that name.

        Raises:
            KeyError: If the type has none.
        """
        return {metric.name: metric for metric in self.metrics}[name]
