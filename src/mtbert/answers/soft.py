"""Soft labels. Each is a distribution over the classes that comes from votes of annotators or from a file.

A task with ``columns.votes`` or ``columns.shares`` has soft labels. They are float64 rows ``[B, K]`` that sum to 1, in
the order of the task's classes. For a yes/no task they are shares of ``yes``, ``[B]``. A missing label is ``nan``.
:func:`with_soft` derives the answer type for soft labels from the answer type for hard labels. Scores, tables and
figures compare an answer with the most voted class. Only the metric ``cross_entropy`` compares a prediction with the
whole distribution.

The most voted class is the class with the largest share. If several classes have this share, the first is taken or, in
an ordinal task, the one nearest to the mean of the distribution. If two are equally near, it is the lower one.

Dimension key: B examples, K classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mtbert.answers import (
    AnswerType,
    Array,
    Cells,
    Conflicts,
    Distribution,
    FigureName,
    LabelKind,
    Labels,
    Metric,
    PredictionKind,
    Shown,
    TaskFacts,
    WrongCell,
)
from mtbert.answers.class_labels import ClassLabels
from mtbert.messages import few, shown
from mtbert.number_cells import NumberCells

NEAR_ONE = 1e-3  # how far from 1 the sum of the shares in a file may be
SAME = 9  # decimals of a distance in classes that count


# Distributions ----------------------------------------------------------------------------------------------


def most_voted(labels: Labels, *, ordered: bool) -> Labels:
    """Returns, for each example, the index of the class with the most votes, ``[B]``; ``nan`` if the label is missing.

    Args:
        labels: The distribution of each example's votes over the classes, ``[B, K]``, or the share of ``yes``, ``[B]``.
        ordered: Whether the classes have an order. If so, and several classes have the most votes, the one nearest to
            the mean of the distribution is taken. If not, the first one is taken.

    >>> most_voted(np.array([[0.4, 0.2, 0.4]]), ordered=False), most_voted(np.array([0.5, 0.6]), ordered=False)
    (array([0.]), array([0., 1.]))
    """
    if labels.ndim == 1:
        return np.where(np.isnan(labels), np.nan, labels > 0.5)
    best_BK = labels == labels.max(1, keepdims=True)
    if ordered:
        classes_K = np.arange(labels.shape[1])
        apart_BK = np.abs(classes_K - (labels @ classes_K)[:, None]).round(SAME)
        found_B = np.where(best_BK, apart_BK, np.inf).argmin(1)
    else:
        found_B = best_BK.argmax(1)
    return np.where(np.isnan(labels[:, 0]), np.nan, found_B)


def over_classes(labels: Labels) -> Labels:
    """Returns ``labels`` as distributions over all classes, ``[B, K]``.

    If ``labels`` holds only the probability of ``yes`` for each row, ``[B]``, the classes are ``no`` and ``yes``.
    """
    return np.stack([1 - labels, labels], 1) if labels.ndim == 1 else labels


def entropies(labels_BK: Labels) -> Labels:
    """Returns the entropy of each distribution, ``[B]``, in nats."""
    from scipy.special import entr

    found: Labels = entr(labels_BK).sum(1)
    return found


def cross_entropies(logits: Labels, labels: Labels) -> Labels:
    """Returns ``-sum_k q_k log p_k`` for each example, ``[B]``, in nats.

    ``q`` is the label, and ``p`` is the prediction. Both arguments are ``[B]`` for a yes/no task, else ``[B, K]``.
    """
    from scipy.special import log_expit, log_softmax

    log_p = log_softmax(logits, axis=1) if logits.ndim == 2 else np.stack([log_expit(-logits), log_expit(logits)], 1)
    found: Labels = -(over_classes(labels) * log_p).sum(1)
    return found


def _cross_entropy(task: TaskFacts, logits: Array, labels: Labels) -> float:
    return float(cross_entropies(logits.astype(np.float64), labels).mean())


def _entropy_of_mean(task: TaskFacts, labels: Labels) -> float:
    return float(entropies(over_classes(labels).mean(0, keepdims=True))[0])


CROSS_ENTROPY = Metric(
    "cross_entropy",
    _cross_entropy,
    constant=_entropy_of_mean,  # the best constant distribution is the mean one
    probabilities=True,
    higher_is_better=False,
)


# Labels -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SoftLabels(LabelKind[Labels]):
    """Labels that are distributions over classes. Their cells hold votes or shares.

    A cell of votes is a JSON list of class names, one for each vote. A cell of shares holds the shares of the classes:
    as a JSON list of numbers in the order of the classes, as a JSON object from class names to numbers, or, for a
    yes/no task, as a single number, which is the share of ``yes``.
    """

    hard: ClassLabels

    @property
    def figures(self) -> tuple[FigureName, ...]:
        return self.hard.figures

    @property
    def graded(self) -> bool:
        return self.hard.graded

    @property
    def wrong(self) -> str:
        return "An answer to soft labels counts as wrong if it is not the most voted class."

    def check(self, task: TaskFacts) -> None:
        self.hard.check(task)

    def missing(self, task: TaskFacts) -> str | None:
        return self.hard.missing(task)

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns ``{"labels": CLASSES}``, where ``CLASSES`` are all classes with a vote in a train row.

        If the recipe names the classes, returns ``{}``.
        """
        votes = [] if task.soft == "shares" else [name for cell in columns[0] if cell for name in json.loads(cell)]
        try:
            return self.hard.complete(task, [votes])
        except ValueError:
            _check_separated(columns[0])
            raise

    def read(self, task: TaskFacts, cells: Cells) -> Labels:
        read = _read_votes if task.soft == "votes" else _read_shares
        labels_BK = read(self.hard, task, cells)
        return labels_BK[:, 1] if self.hard.only == 2 else labels_BK

    def votes(self, task: TaskFacts, cells: Cells) -> Labels | None:
        if task.soft != "votes":
            return None
        return np.array([0 if cell is None else len(json.loads(cell)) for cell in cells], np.float64)

    def distribution(self, task: TaskFacts, labels: Labels) -> Distribution:
        """Returns a summary of the soft labels.

        For each class, the summary contains the number of rows in which the class is the most voted one. It also
        contains two means over all rows: of the largest share in a label, and of the entropy of a label.
        """
        known_BK = over_classes(labels[~np.isnan(labels.reshape(len(labels), -1)[:, 0])])
        return replace(
            self.hard.distribution(task, self.voted(labels)),
            heading="most voted label",
            numbers=(
                ("agreement, mean", float(known_BK.max(1).mean())),
                ("entropy, mean", float(entropies(known_BK).mean())),
            ),
        )

    def doubts(self, task: TaskFacts) -> list[str]:
        return self.hard.doubts(task)

    def conflicts(self, texts_TB: npt.NDArray[np.int64], rows_B: npt.NDArray[np.int64], labels: Labels) -> Conflicts:
        """Returns no conflicts: annotators may disagree, so equal texts may have different labels."""
        return replace(super().conflicts(texts_TB, rows_B, labels), number=0)

    def occurrences(self, task: TaskFacts, labels: Labels) -> Array:
        """Returns for each class the sum of its shares in all labels, ``[K]``."""
        found: Labels = np.nansum(over_classes(labels), axis=0)
        return found

    def fits(self, task: TaskFacts, decision: Array, labels: Labels) -> bool:
        return self.hard.fits(task, decision, labels)

    def collapsed(self, decision: Array) -> bool:
        return self.hard.collapsed(decision)

    def choices(self, task: TaskFacts) -> tuple[str, ...] | None:
        return self.hard.choices(task)

    def summary(self, task: TaskFacts) -> str:
        return self.hard.summary(task)

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        """Returns the index of the class that ``label`` stands for, as a float and never as a str.

        In a yes/no task, ``label`` is the share of ``yes``: above 0.5 gives 1.0, otherwise 0.0. In other tasks, a list
        of shares gives the index of the largest share, and an index is returned as it is.
        """
        is_label = np.ndim(label) == 1 or self.hard.only == 2  # the answers of a yes/no task are shares of yes too
        return self.hard.tell(task, self.voted(np.asarray(label)[None])[0] if is_label else label)

    def tables(self, task: TaskFacts, decision: Array, labels: Labels) -> list[Shown | str]:
        return self.hard.tables(task, decision, self.voted(labels))

    def details(self, task: TaskFacts, decision: Array, labels: Labels) -> dict[str, Any]:
        return self.hard.details(task, decision, self.voted(labels))

    def voted(self, labels: Labels) -> Labels:
        """Returns, for each row, the index of the class with the most votes."""
        return most_voted(labels, ordered=self.hard.ordered)


def _read_votes(hard: ClassLabels, task: TaskFacts, cells: Cells) -> Labels:
    """Returns the share of each class in the votes of each cell, ``[B, K]``."""
    votes = [(row, name) for row, cell in enumerate(cells) if cell is not None for name in json.loads(cell)]
    try:
        classes = hard.read(task, [name for _, name in votes]).astype(np.int64)
    except WrongCell as error:
        _check_separated(cells)
        raise error.moved(votes[error.row][0], "the vote ") from None
    counts_BK = np.zeros((len(cells), len(task.labels or ())))
    np.add.at(counts_BK, (np.array([row for row, _ in votes], np.int64), classes), 1)
    return _scaled(counts_BK)


def _check_separated(cells: Cells) -> None:
    """Raises :class:`WrongCell` for the first cell that seems to have the wrong separator, such as ``1 2 2``."""
    for row, cell in enumerate(cells):
        votes = [] if cell is None else json.loads(cell)
        if len(votes) == 1 and len(re.split(r"[\s,;|/]+", votes[0].strip())) > 1:
            said = f"{shown(votes[0])} is read as one vote. Write votes as a;b, or name what stands between them"
            raise WrongCell(row, f"{said} in columns.separator.")


def _read_shares(hard: ClassLabels, task: TaskFacts, cells: Cells) -> Labels:
    """Returns the share that each cell gives to each class, ``[B, K]``. The shares in a cell are scaled to sum to 1."""
    hard.read(task, ())  # refuses labels that are written alike
    shares_BK = np.zeros((len(cells), len(task.labels or ())))
    left: Iterable[int] = range(len(cells))
    if isinstance(cells, NumberCells):
        numbers_BK = cells.numbers.astype(np.float64, copy=False)
        shares_BK = np.nan_to_num(numbers_BK[:, [*map(cells.names.index, task.codes or task.labels or ())]])
        # Rows that seem to be no distribution are read again below, one by one, for the error.
        left = np.flatnonzero(cells.given & ~_is_distribution(numbers_BK)).tolist()
    for row in left:
        cell = cells[row]
        if cell is not None:
            try:
                shares_BK[row] = _distribution(hard, task, json.loads(cell))
            except ValueError as error:
                raise WrongCell(row, f"{error} Fix or drop the row.") from None
    return _scaled(shares_BK)


def _is_distribution(numbers_BK: Labels) -> npt.NDArray[np.bool_]:
    """Returns for each row whether its numbers sum to nearly 1, ``[B]``. Nothing else is checked."""
    with np.errstate(over="ignore"):
        found: npt.NDArray[np.bool_] = np.abs(numbers_BK.sum(1) - 1) < 0.999 * NEAR_ONE
    return found


def _distribution(
    hard: ClassLabels, task: TaskFacts, given: float | list[float] | dict[str, float | None]
) -> Sequence[float]:
    """Returns the share that a cell gives to each class, in the order of the classes. The sum is nearly 1.

    Raises:
        ValueError: If the cell does not hold a distribution over the classes.
    """
    names = task.labels or ()
    if isinstance(given, float):
        if hard.only != 2:
            raise ValueError(f"shares must be a list of {len(names)} numbers, one for each label, found {given:g}.")
        if given > 1:
            raise ValueError(f"the share of {shown(names[1])} must be at most 1, found {given:g}.")
        return 1 - given, given
    if isinstance(given, dict):
        known = {name: share for name, share in given.items() if share is not None}
        empty = [name for name in given if name not in known]
        if empty:
            raise ValueError(f"shares must all be given, found none for {few(empty, quoted=True)}.")
        given = [known[name] for name in task.codes or names]
    if len(given) != len(names):
        of = few(names, quoted=True)
        raise ValueError(f"shares must be {len(names)} numbers, in the order of {of}, found {len(given)}.")
    if abs(sum(given) - 1) > NEAR_ONE:
        raise ValueError(f"shares must sum to 1, found {few(given)}, which sum to {sum(given):.6g}.")
    return given


def _scaled(parts_BK: Labels) -> Labels:
    """Returns the array with every row divided by its sum. A row of zeros becomes a row of ``nan``."""
    sums_B1 = parts_BK.sum(1, keepdims=True)
    found: Labels = np.divide(parts_BK, sums_B1, out=np.full(parts_BK.shape, np.nan), where=sums_B1 > 0)
    return found


# The type ---------------------------------------------------------------------------------------------------


def with_soft(
    hard: AnswerType, labels: SoftLabels, predictions: Mapping[str, PredictionKind[Labels]] | None = None
) -> AnswerType:
    """Returns a copy of the answer type ``hard`` that can also read soft labels (distributions over classes).

    The field ``soft`` of the copy is a second answer type, for tasks with soft labels. The second answer type equals
    ``hard``, except that it has the given ``labels``, the given ``predictions`` (if they are not None), and metrics for
    soft labels.
    """
    soft = replace(
        hard,
        labels=labels,
        metrics=(*(_against_most_voted(m, labels.voted) for m in hard.metrics if m.soft), CROSS_ENTROPY),
        predictions=predictions or hard.predictions,
    )
    return replace(hard, soft=soft)


def _against_most_voted(metric: Metric, voted: Callable[[Labels], Labels]) -> Metric:
    """Returns a copy of ``metric`` for soft labels. The copy compares each answer with the most voted class."""
    right, resampled = metric.right, metric.resampled
    return replace(
        metric,
        value=lambda task, answers, labels: metric.value(task, answers, voted(labels)),
        constant=lambda task, labels: metric.constant(task, voted(labels)),
        undefined=lambda answers, labels: metric.undefined(answers, voted(labels)),
        right=None if right is None else lambda answers, labels: right(answers, voted(labels)),
        resampled=None if resampled is None else lambda t, a, labels, counts: resampled(t, a, voted(labels), counts),
    )
