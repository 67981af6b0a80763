"""Python types that all answer types use, for labels, cells of files, metrics, and tables that are shown to the user.

Dimension key: B examples, K numbers of one answer, such as one logit per class, S seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from mtbert.ragged import Ragged

Labels = npt.NDArray[np.float64]  # [B] or [B, K], nan where missing
AnyLabels = Labels | Ragged  # a number or several for each text, or one for each of its words
Array = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]
Cells = Sequence[str | None]  # a column as it is written in a file, or NumberCells; None for an empty cell

# The log-probabilities of the options of N questions, [N, K], and the true options, [N]: see answers/probabilities.py.
AsOptions = tuple[Labels, npt.NDArray[np.int64]]
# Figures and tables of the report that fit some labels.
FigureName = Literal["by_label", "co_occurrence", "confusion", "distances", "ranks", "similarity"]

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

    @property
    def splitter(self) -> str | None: ...


class ColumnFacts(Protocol):
    """The column settings that an answer type depends on; see ``data/tables.py``."""

    @property
    def text(self) -> tuple[str, ...]: ...

    @property
    def label(self) -> str | tuple[str, ...] | None: ...

    @property
    def votes(self) -> str | tuple[str, ...] | None: ...

    @property
    def shares(self) -> str | tuple[str, ...] | None: ...

    @property
    def weight(self) -> str | None: ...

    @property
    def separator(self) -> str | None: ...

    @property
    def model_fields_set(self) -> set[str]:
        """The names of the settings that the recipe gives. All others have their defaults."""
        ...


class WrongCell(ValueError):
    """The error for a cell that cannot be read as a label.

    The error has two messages. The message for training is ``str(error)``. The message for scoring a trained model is
    the attribute ``trained``.

    Args:
        row: The index of the cell's row.
        why: The first part of both messages: what is wrong with the cell.
        column: The index of the cell's column.
        repair: The second part of the message for training.
        trained: The second part of the message for scoring a trained model. If it is empty, both messages are equal.
    """

    def __init__(self, row: int, why: str, column: int = 0, *, repair: str = "", trained: str = "") -> None:
        super().__init__(f"{why} {repair}" if repair else why)
        self.row = row
        self.column = column
        self.trained = f"{why} {trained}" if trained else str(self)

    def moved(self, row: int, before: str = "") -> WrongCell:
        """Returns the same error for the cell at ``row``. Its messages begin with ``before``."""
        found = WrongCell(row, f"{before}{self}", self.column)
        found.trained = f"{before}{self.trained}"
        return found


# Scores ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """A metric: it computes one number that says how good the answers to a data set are.

    ``value`` returns the number. ``undefined`` returns the reason why there is no number, or None if there is one.
    ``right`` returns whether each answer is right. Each of these three functions takes decisions and labels, both
    ``[B]`` or ``[B, K]``. The decisions come from :meth:`PredictionKind.decide`. If ``ranks`` is true, the functions
    take raw predictions instead of decisions. If ``probabilities`` is true, they take calibrated predictions instead.
    """

    name: str
    value: Callable[[TaskFacts, Array, Any], float]
    constant: Callable[[TaskFacts, Any], float]  # the value of the best constant answer
    undefined: Callable[[Array, Any], str | None] = lambda answers, labels: None  # why the value is undefined
    ranks: bool = False  # the metric reads raw predictions, so it does not depend on a threshold
    probabilities: bool = False  # the metric reads calibrated predictions, which must give probabilities
    soft: bool = True  # tasks with soft labels have the metric too; it then takes the most voted class for the label
    beside_constant: bool = True  # score tables show the value of the best constant answer; otherwise it would mislead
    higher_is_better: bool = True  # otherwise it is only reported, and no recipe may choose it
    lowest: float = 0.0  # the lowest value; the highest is 1, and the overall score maps this range to 0 to 1
    # Whether each answer is right, [B]; only for a metric that is the share of right answers.
    right: Callable[[Array, Any], npt.NDArray[np.bool_]] | None = None
    # Returns the values on resampled examples, [R, S], from the task, answers [S, B], labels [B], and how often each
    # resample drew each example, [R, B]. Only for a metric that has a fast way to compute them.
    resampled: Callable[[TaskFacts, Array, Any, Labels], Labels] | None = None


# Shown -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distribution:
    """A summary of the labels in a split: the number of rows for each class or each part of a score's range."""

    heading: str  # the heading of the column of names
    counts: tuple[tuple[str, int], ...]
    numbers: tuple[tuple[str, float], ...] = ()
    classes: bool = False  # whether the names are classes, each of which needs enough examples to learn from


@dataclass(frozen=True)
class Conflicts:
    """The examples of a split that contradict each other, as ``mtbert data check`` shows them."""

    number: int
    heading: str  # the heading of the line with this number
    warning: str  # the sentence about them, which is printed if there are any
    first: tuple[int, int] | None = None  # two examples with the same texts and different labels, if that is a conflict


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

    - ``answer``: the answers, in the same form as labels. All other fields are ``[B]``.
    - ``p_B``: the probability of the answer; ``nan`` if the head gives no probabilities.
    - ``distance_B``: how far the answer is from the label. The unit depends on the answer type. For example, 2 means
      that two labels of a set are wrong, or that a score is wrong by 2.
    - ``loss_B``: a number that is higher for worse answers. If the head gives probabilities, it is ``-log p(label)`` in
      nats, or the cross-entropy to a soft label. For a cosine, it is the distance between cosine and threshold if the
      answer is wrong, and minus this distance if the answer is right. For a score, it is ``distance_B``.
    - ``wrong_B``: whether the answer counts as wrong.
    """

    answer: AnyLabels
    p_B: Labels
    distance_B: Labels
    loss_B: Labels
    wrong_B: npt.NDArray[np.bool_]
