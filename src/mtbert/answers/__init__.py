"""The interface of answer types: everything about an answer, from the cell of a table to the text that a person reads.

Each answer type is an :class:`AnswerType`, defined in a file of its own and listed in ``answers/known.py``. It has two
halves. A :class:`LabelKind` says what a label is: how a cell becomes a label, and how labels and decisions are shown.
A :class:`PredictionKind` says what the numbers of a head mean: how many there are, which decision follows from them,
and how wrong they are. A type has one prediction kind for heads with layers, and may have another for the cosine head.

Labels are float64 arrays, ``[B]`` or ``[B, K]`` depending on the type; a missing label is ``nan``. The files of answer
types import torch only inside functions, so that recipes can be read without loading torch.

Dimension key: B examples, K numbers of one answer, such as one logit per class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.answers.fitting import Fits

    Tensors = dict[str, Tensor]

Labels = npt.NDArray[np.float64]  # [B] or [B, K], nan where missing
Array = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]
Cells = Sequence[str | None]  # a column as it is written in a file; None for an empty cell

# The log-probabilities of the options of N questions, [N, K], and the true options, [N]: see answers/probabilities.py.
AsOptions = tuple[Labels, npt.NDArray[np.int64]]
FigureName = Literal["by_label", "co_occurrence", "confusion", "distances", "ranks", "similarity"]  # in the report

SoftKind = Literal["votes", "shares"]  # how a file writes labels that are distributions
YES_NO = "yes/no labels"  # label 1 of a pair says that both texts mean the same
CANDIDATES = "candidates"  # the second text of a row is the right candidate for the first


class TaskFacts(Protocol):
    """The fields of a task that its answers depend on."""

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

    @property
    def soft(self) -> SoftKind | None: ...


class WrongCell(ValueError):
    """The error for a cell that cannot be read as a label.

    ``row`` and ``column`` locate the cell; the message gives the reason.
    """

    def __init__(self, row: int, why: str, column: int = 0) -> None:
        super().__init__(why)
        self.row = row
        self.column = column


# Scores ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """A metric: it computes one number that says how good the answers to a data set are.

    The functions ``value``, ``undefined`` and ``right`` take the labels and the decisions that
    :meth:`PredictionKind.decide` returns, each ``[B]`` or ``[B, K]``. If ``ranks`` is true, they take raw predictions
    instead of decisions. If ``probabilities`` is true, they take calibrated predictions instead.
    """

    name: str
    value: Callable[[TaskFacts, Array, Labels], float]
    constant: Callable[[TaskFacts, Labels], float]  # the value of the best constant answer
    undefined: Callable[[Array, Labels], str | None] = lambda answers, labels: None  # why the value is undefined
    ranks: bool = False  # the metric reads raw predictions, so it does not depend on a threshold
    probabilities: bool = False  # the metric reads calibrated predictions; a head that gives cosines has none
    higher_is_better: bool = True  # otherwise it is only reported, and no recipe may choose it
    lowest: float = 0.0  # the lowest value; the highest is 1, and the overall score maps this range to 0 to 1
    # Whether each answer is right, [B]; only for a metric that is the share of right answers.
    right: Callable[[Array, Labels], npt.NDArray[np.bool_]] | None = None
    # Returns the values on resampled examples, [R, S], from the task, answers [S, B], labels [B], and how often each
    # resample drew each example, [R, B]. Only for a metric that has a fast way to compute them.
    resampled: Callable[[TaskFacts, Array, Labels, Labels], Labels] | None = None


# Shown -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distribution:
    """A summary of the labels in a split: the counts of each class, or of each range of scores, and some statistics."""

    heading: str  # the heading of the column of names
    counts: tuple[tuple[str, int], ...]
    numbers: tuple[tuple[str, float], ...] = ()
    classes: bool = False  # whether the names are classes, each of which needs enough examples to learn from


@dataclass(frozen=True)
class Shown:
    """A table to print on a terminal."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""  # printed above a table with a frame
    lead: str = ""  # a line printed above a table without a frame
    names: int = 0  # the index of the column of names; too long names are cut


@dataclass(frozen=True)
class Judged:
    """How wrong the answers to ``B`` examples are.

    - ``answer``, ``[B]`` or ``[B, K]``: the answers, in the same form as labels. All other fields are ``[B]``.
    - ``p_B``: the probability of the answer; ``nan`` if the head gives no probabilities.
    - ``distance_B``: how far the answer is from the label: in classes, in wrong labels, or in the unit of scores.
    - ``loss_B``: a number that is higher for worse answers. If the head gives probabilities, it is ``-log p(label)`` in
      nats, or the cross-entropy to a soft label. For a cosine, it is the difference between cosine and threshold, which
      is negative if the answer is right. For a score, it is ``distance_B``.
    - ``wrong_B``: whether the answer counts as wrong.
    """

    answer: Labels
    p_B: Labels
    distance_B: Labels
    loss_B: Labels
    wrong_B: npt.NDArray[np.bool_]


# The two halves of a type -------------------------------------------------------------------------------------


class LabelKind(Protocol):
    """The label half of an answer type: what a label is, and how labels and decisions are shown."""

    @property
    def figures(self) -> tuple[FigureName, ...]:
        """The names of the figures and tables that a study's report shows for a task of this answer type."""
        ...

    @property
    def graded(self) -> bool:
        """Whether one answer can be more wrong than another.

        If so, the report compares groups of examples by their mean distance between answer and label.
        """
        ...

    @property
    def wrong(self) -> str:
        """A sentence for the report that says when an answer counts as wrong; empty if that is obvious."""
        ...

    def check(self, task: TaskFacts) -> None:
        """Raises ValueError if a task setting (``labels``, ``codes``, ``range``) does not suit its answer type."""
        ...

    def missing(self, task: TaskFacts) -> str | None:
        """Returns the name of a field, such as ``labels``, that the task lacks but a trained model needs.

        If no such field is lacking, returns None.
        """
        ...

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns a dict with values for the settings that the recipe of a task leaves open, such as ``labels``.

        The values are taken from ``columns``: the label column of the train data and, if there is a dev source, the
        label column of dev.

        Raises:
            ValueError: If the cells cannot be labels of the task.
        """
        ...

    def read(self, task: TaskFacts, cells: Cells) -> Labels:
        """Returns the labels in a column of cells, ``[B]`` or ``[B, K]``; a missing label is ``nan``.

        Raises:
            WrongCell: If a cell cannot be a label.
            ValueError: If two of the task's labels are written the same way.
        """
        ...

    def targets(self, task: TaskFacts, labels: Labels) -> Labels:
        """Returns the labels in the form that losses read: class indices, or scores mapped to [0, 1].

        The shape stays the same.
        """
        ...

    def distribution(self, task: TaskFacts, labels: Labels) -> Distribution:
        """Returns the distribution of the labels in one split, for ``mtbert data check``."""
        ...

    def doubts(self, task: TaskFacts) -> list[str]:
        """Returns warnings about the task's class names or range for ``mtbert data check``, one line each."""
        ...

    def fits(self, task: TaskFacts, decision: Array, examples: int) -> bool:
        """Returns whether ``decision`` has the shape, dtype and values that decisions of this :class:`LabelKind` have.

        ``examples`` is the expected number of decisions: one for each example or, if words are labelled, for each word.
        """
        ...

    def collapsed(self, decision: Array) -> bool:
        """Returns whether all or nearly all decisions are the same."""
        ...

    def choices(self, task: TaskFacts) -> tuple[str, ...] | None:
        """Returns the names of all possible answers; None if they cannot be listed."""
        ...

    def summary(self, task: TaskFacts) -> str:
        """Returns a short description of the possible labels: the class names, or the range."""
        ...

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        """Returns a label or an answer as the report shows it: an index into :meth:`choices`, a number or a text."""
        ...

    def tables(self, task: TaskFacts, decision: Array, labels: Labels) -> list[Shown | str]:
        """Returns what ``mtbert evaluate`` prints in addition to the scores: a list of tables and of texts."""
        ...

    def details(self, task: TaskFacts, decision: Array, labels: Labels) -> dict[str, Any]:
        """Returns what ``mtbert evaluate --json`` prints for a task in addition to its scores, as JSON values."""
        ...


class PredictionKind(Protocol):
    """The half of an answer type that is about predictions: it gives a meaning to the numbers that a head returns.

    Predictions are tensors ``[B, *shape]``, where ``shape`` is what the method :meth:`shape` returns. All methods take
    predictions that have been calibrated.
    """

    @property
    def feeds(self) -> tuple[str, ...]:
        """The names of the values that losses can read here, such as ``logits``; see ``Needs.reads``."""
        ...

    @property
    def loss(self) -> str:
        """The kind of the default loss, such as ``ce``."""
        ...

    @property
    def start(self) -> float:
        """The value that the bias of the head's last layer has before training."""
        ...

    @property
    def gaussian(self) -> bool:
        """Whether the predictions are scores with a Gaussian likelihood, rather than logits.

        Learned task weights depend on this.
        """
        ...

    @property
    def fits(self) -> Fits:
        """The numbers that a run can fit on held-out rows: a threshold, calibrations, both, or nothing."""
        ...

    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        """Returns the shape of the prediction for one example; ``()`` for a single number.

        -1 stands for the number of candidates that a row has.

        Raises:
            ValueError: If the shape depends on the task's labels, and these are not known yet.
        """
        ...

    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        """Returns the decision that follows from each calibrated prediction, ``[B]`` or ``[B, K]``.

        Decisions are class indices (int64), a 0 or 1 for each label (int64), or scores (float64). Scores are
        scaled so that the task's range becomes [0, 1], but they can lie outside this range.
        """
        ...

    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor) -> list[dict[str, Any]]:
        """Returns a readable answer for each example: a dict of texts, numbers, None, or lists of these."""
        ...

    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        """Returns the answers as tensors, by the names that they have in an exported model (see docs/export.md).

        This uses operations on tensors alone. If ``clamped`` is false, a score may lie outside the task's range.
        """
        ...

    def options(self, prediction: Labels, labels: Labels) -> AsOptions | None:
        """Returns a pair: the log-probabilities of the possible answers, ``[N, K]``, and the indices of the right ones.

        ``N`` is the number of known labels in all examples. Returns None if the predictions give no probabilities.
        """
        ...

    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        """Returns the divergence between two predictions for the same examples, ``[B]``, in float32 or more precisely.

        If ``detached`` is true, no gradient flows through the targets of the divergence.
        :func:`mtbert.answers.divergence.symmetric_kl` says what these targets are.
        """
        ...

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        """Returns how wrong the answers are. The arguments ``prediction`` and ``decision`` are float64 arrays."""
        ...


@dataclass(frozen=True)
class AnswerType:
    """An answer type: its name in recipes, its kind of labels, the kinds of predictions it can use, and its metrics."""

    name: str
    labels: LabelKind
    metrics: tuple[Metric, ...]  # the default first
    predictions: Mapping[str, PredictionKind]  # by the output of a head, ``HeadKind.gives`` in ``answers/heads.py``
    candidates: bool = False  # a row is a query and its candidates, the right one first; it has no label
    sets: bool = False  # a cell holds any number of labels; ``LabelKind`` gets it as JSON text, see ``data/cells.py``
    soft: AnswerType | None = None  # the type of tasks whose labels are distributions; None if there are no such tasks
    words: bool = False  # a label is one number per word of a text, see :class:`mtbert.ragged.Ragged`

    @property
    def choosable(self) -> tuple[str, ...]:
        """The names of the metrics that a recipe may choose, the default first. For all of them, higher is better."""
        return tuple(metric.name for metric in self.metrics if metric.higher_is_better)
