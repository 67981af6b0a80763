"""The base class :class:`LabelKind`. Its subclasses say how labels are read, checked and shown.

Dimension key: B examples, K numbers that make up one label, T texts of an example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from mtbert.answers.columns import one_label
from mtbert.answers.seen import SeenColumn, Suits
from mtbert.answers.values import (
    AnyLabels,
    Array,
    Cells,
    ColumnFacts,
    Conflicts,
    Distribution,
    FigureName,
    Labels,
    Shown,
    TaskFacts,
)
from mtbert.ragged import all_values, row_keys

Per = Literal["text", "word"]
_Labels = TypeVar("_Labels", bound=AnyLabels)


class LabelKind(ABC, Generic[_Labels]):
    """The label half of an answer type: what a label is, and how labels and decisions are shown."""

    @property
    def per(self) -> Per:
        """``word`` if each word has a label and an answer, ``text`` if each example has one label and one answer."""
        return "text"

    @property
    def figures(self) -> tuple[FigureName, ...]:
        """The names of the figures and tables that a study's report shows for a task of this answer type."""
        return ()

    @property
    def graded(self) -> bool:
        """Whether one answer can be more wrong than another.

        If so, the report compares groups of examples by their mean distance between answer and label.
        """
        return False

    @property
    def wrong(self) -> str:
        """A sentence for the report that says when an answer counts as wrong; empty if that is obvious."""
        return ""

    @property
    def of_lists(self) -> str:
        """Advice for a user whose cells hold lists of labels, while this answer type reads one label per row.

        An example is ``use type: multilabel``. There is no advice (an empty text) if no setting and no answer type
        reads such lists.
        """
        return ""

    # Settings -------------------------------------------------------------------------------------------------

    @abstractmethod
    def check(self, task: TaskFacts) -> None:
        """Raises ValueError if a task setting (``labels``, ``codes``, ``range``) does not suit its answer type."""

    def missing(self, task: TaskFacts) -> str | None:
        """Returns the name of a field, such as ``labels``, that is None in ``task`` but that a trained model needs.

        Returns None if ``task`` has every field that a trained model needs.
        """
        return None

    def texts(self, inputs: str) -> int | None:
        """Returns the number of texts in each example, or None if examples may have any number from 2 on.

        ``inputs`` is a setting of the task: ``single`` (one text), ``packed`` (two texts, joined to one sequence) or
        ``separate`` (a sequence for each text).
        """
        return 1 if inputs == "single" else 2

    def columns(self, name: str, given: ColumnFacts) -> dict[str, Any]:
        """Checks the column settings of a recipe, and returns a dict with the settings to change and their new values.

        The method of this base class changes no setting, so it returns an empty dict. It raises ValueError if the
        recipe has settings that only the type ``multilabel`` may have. Subclasses may override it.

        Args:
            name: The name of the answer type, for messages.
            given: The column settings of the recipe.

        Raises:
            ValueError: If these columns cannot hold the labels of this type.
        """
        return one_label(name, given, instead="Drop it")

    def suits(self, labels: Sequence[SeenColumn], texts: Sequence[SeenColumn]) -> Suits | None:
        """Returns how well this answer type suits columns of a file, or None.

        None means that the answer type does not suit the columns, or that the columns do not show whether it does.

        ``mtbert init`` calls this method to guess the answer type of a task. The method of this base class always
        returns None. Subclasses may override the method.

        Args:
            labels: The columns that may hold the labels: one column, several that belong together, or no column.
            texts: The columns that may hold the texts of the same rows.
        """
        return None

    # Labels ---------------------------------------------------------------------------------------------------

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns a dict with values for the settings that the recipe of a task leaves open, such as ``labels``.

        The values are taken from ``columns``: the label column of the train data and, if there is a dev source, the
        label column of dev.

        Raises:
            ValueError: If the cells cannot be labels of the task.
        """
        return {}

    @abstractmethod
    def read(self, task: TaskFacts, cells: Cells) -> _Labels:
        """Returns the labels in a column of cells.

        A missing label becomes ``nan``. If the task assigns a label to each word, an empty cell becomes an example
        without labels.

        Raises:
            WrongCell: If a cell cannot be a label.
            ValueError: If the task's list of labels has the same label twice.
        """

    def votes(self, task: TaskFacts, cells: Cells) -> Labels | None:
        """Returns the number of votes in each cell, ``[B]``; None if labels do not come from votes."""
        return None

    def targets(self, task: TaskFacts, labels: _Labels) -> _Labels:
        """Returns the labels in the form that losses read: class indices, or scores mapped to [0, 1].

        The shape stays the same.
        """
        return labels

    # Statistics -----------------------------------------------------------------------------------------------

    @abstractmethod
    def distribution(self, task: TaskFacts, labels: _Labels) -> Distribution:
        """Returns the distribution of the labels in one split, for ``mtbert data check``."""

    def doubts(self, task: TaskFacts) -> list[str]:
        """Returns the warnings of ``mtbert data check`` about the task's class names or range, one line each."""
        return []

    def conflicts(self, texts_TB: npt.NDArray[np.int64], rows_B: npt.NDArray[np.int64], labels: _Labels) -> Conflicts:
        """Counts the conflicts among the examples of a split, for ``mtbert data check``.

        A conflict is a text, or a pair of texts, that occurs with different labels. Subclasses may count other
        conflicts.

        Args:
            texts_TB: A number for each text of each example. Equal texts have the same number.
            rows_B: A number from 0 to ``B - 1`` for each example. Two examples have the same number if they have the
                same texts, otherwise different numbers.
            labels: The labels of the examples.
        """
        _, first_B = np.unique(rows_B, return_index=True)
        _, keys_B = np.unique(row_keys(labels), return_inverse=True)
        first_B = first_B[np.unique(rows_B, return_inverse=True)[1]]  # the first example with the same texts
        others = np.flatnonzero(keys_B != keys_B[first_B])
        number = len(np.unique(first_B[others]))
        one, many = ("text has", "texts have") if len(texts_TB) == 1 else ("pair of texts has", "pairs of texts have")
        have = one if number == 1 else many
        return Conflicts(
            number,
            "        with other labels",
            f"{number:,} {have} different labels in different rows, so no answer is right for all of them.",
            (int(first_B[others[0]]), int(others[0])) if number else None,
        )

    def uniform(self, labels: _Labels) -> bool:
        """Returns whether all labels are the same, so that there is nothing to learn."""
        values = np.nan_to_num(all_values(labels), nan=np.inf)
        return bool((values == values[0]).all())

    def occurrences(self, task: TaskFacts, labels: _Labels) -> Array:
        """Returns how often each of the task's classes is a label, ``[K]``.

        If a row can have several labels, returns ``[K, 2]``: how many rows lack each label, and how many rows have the
        label. The setting ``class_weights: balanced`` of a loss needs these numbers.
        """
        raise NotImplementedError(f"Class weights of type '{task.type}' need a method that counts its classes.")

    # Decisions and answers ------------------------------------------------------------------------------------

    @abstractmethod
    def fits(self, task: TaskFacts, decision: Array, labels: _Labels) -> bool:
        """Returns whether ``decision`` has the shape, dtype and values that decisions about some examples must have.

        ``labels`` are the labels of these examples. There is one decision for each example. If the task assigns a label
        to each word, there is one decision for each word instead.
        """

    @abstractmethod
    def collapsed(self, decision: Array) -> bool:
        """Returns whether all or nearly all decisions are the same."""

    def choices(self, task: TaskFacts) -> tuple[str, ...] | None:
        """Returns the names of all possible answers; None if they cannot be listed."""
        return None

    @abstractmethod
    def summary(self, task: TaskFacts) -> str:
        """Returns a short description of the possible labels: the class names, or the range."""

    @abstractmethod
    def tell(self, task: TaskFacts, label: Any) -> float | str:
        """Returns a label or an answer in the form that a report needs.

        Such a form is the index of a class in :meth:`choices`, or a score, or a text.
        """

    def tables(self, task: TaskFacts, decision: Array, labels: _Labels) -> list[Shown | str]:
        """Returns what ``mtbert evaluate`` prints in addition to the scores: a list of tables and of texts."""
        return []

    def details(self, task: TaskFacts, decision: Array, labels: _Labels) -> dict[str, Any]:
        """Returns what ``mtbert evaluate --json`` prints for a task in addition to its scores, as JSON values."""
        return {}
