"""The answer type for sets of labels: one logit per label. An example may have any number of labels, even none.

A cell is the JSON list of the labels that a row has; ``data/cells.py`` makes it from a list, or from a text with names
and separators. If each label has a column of its own, the cell is a JSON object with the labels whose value is known:
``{"toxic": 1, "threat": 0}``.

Dimension key: B examples, K labels, S seeds, R resamples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtbert.answers import (
    AnswerType,
    Array,
    AsOptions,
    Cells,
    ColumnFacts,
    Distribution,
    FigureName,
    Judged,
    LabelKind,
    Labels,
    Metric,
    PredictionKind,
    Shown,
    TaskFacts,
    WrongCell,
)
from mtbert.answers.class_labels import COLLAPSED_SHARE, MOST_LISTED, ClassLabels, OfClass, scores_of_each, sets, share
from mtbert.answers.columns import check_named
from mtbert.answers.divergence import bernoulli_kl
from mtbert.answers.fitting import SETS, Fits
from mtbert.answers.heads import OUTPUTS
from mtbert.answers.probabilities import METRICS_OF_LABELS, of_labels
from mtbert.messages import LONGEST, clean, shown

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.answers import Tensors

COMMONEST = 10  # pairs of labels that are shown
AS_CLASSES = ClassLabels()  # labels have the names, codes and order that classes have


@dataclass(frozen=True)
class SetLabels(LabelKind[Labels]):
    """Labels ``[B, K]``: 1 for a label that the row has, 0 for one that it lacks, ``nan`` for one that is unknown."""

    figures: tuple[FigureName, ...] = ("by_label", "co_occurrence")
    graded: bool = True
    wrong: str = "A set counts as wrong if one of its labels is wrong or missing."

    def check(self, task: TaskFacts) -> None:
        AS_CLASSES.check(task)

    def missing(self, task: TaskFacts) -> str | None:
        return AS_CLASSES.missing(task)

    def columns(self, name: str, given: ColumnFacts) -> dict[str, Any]:
        check_named(given)
        return {"separator": given.separator or ";"}

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns the labels that occur in train data, sorted as numbers if all are numbers, else alphabetically."""
        return AS_CLASSES.complete(task, [[name for _, name, _ in _named(columns[0])]]) if task.labels is None else {}

    def read(self, task: TaskFacts, cells: Cells) -> Labels:
        labels_BK = np.full((len(cells), len(task.labels or ())), np.nan)
        labels_BK[[cell is not None and cell.startswith("[") for cell in cells]] = 0  # a list is all that a row has
        named = _named(cells)
        try:
            found = AS_CLASSES.read(task, [name for _, name, _ in named]).astype(np.int64)
        except WrongCell as error:
            raise WrongCell(named[error.row][0], str(error)) from None
        labels_BK[[row for row, _, _ in named], found] = [value for _, _, value in named]
        return labels_BK

    def distribution(self, task: TaskFacts, labels: Labels) -> Distribution:
        """Returns how many rows have each label, and statistics of the rows' label sets, such as their mean size."""
        yes_BK, unknown_BK = labels == 1, np.isnan(labels)
        numbers = (
            ("labels of a set", float(yes_BK.sum(1).mean())),
            ("share of empty sets", float((labels == 0).all(1).mean())),
            ("share unknown", float(unknown_BK.mean())),
        )
        counts = tuple(zip(task.labels or (), yes_BK.sum(0).tolist(), strict=True))
        return Distribution("label", counts, numbers, classes=True)

    def doubts(self, task: TaskFacts) -> list[str]:
        """Returns a warning if a label looks like several labels that are joined by an undeclared separator."""
        looking, parts = sets(task.labels or ())
        if not looking:
            return []
        return [
            f"{task.name}: {shown(looking[0])} looks like several labels, of {parts:,} in all. "
            "Set columns.separator to the sign between them."
        ]

    def occurrences(self, task: TaskFacts, labels: Labels) -> Array:
        return np.stack([(labels == 0).sum(0), (labels == 1).sum(0)], 1)

    def fits(self, task: TaskFacts, decision: Array, labels: Labels) -> bool:
        kind = decision.shape == (len(labels), len(task.labels or ())) and decision.dtype == np.int64
        return kind and bool(np.isin(decision, (0, 1)).all())

    def collapsed(self, decision: Array) -> bool:
        """Returns whether the decision is the same set of labels for at least 99% of the examples."""
        return bool(np.unique(decision, axis=0, return_counts=True)[1].max() >= COLLAPSED_SHARE * len(decision))

    def summary(self, task: TaskFacts) -> str:
        return AS_CLASSES.summary(task)

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        """Returns the names of a set's labels, joined by semicolons, each with a question mark if it is unknown."""
        told = [name + "?" * bool(np.isnan(x)) for name, x in zip(task.labels or (), label, strict=True) if x != 0]
        return "; ".join(told) or "none"

    def tables(self, task: TaskFacts, decision: Array, labels: Labels) -> list[Shown | str]:
        names = [clean(label[:LONGEST]) for label in task.labels or ()]
        if len(names) > MOST_LISTED:
            return [f"{task.name}: {len(names):,} labels, too many for a line each here; --json has them all."]
        found: list[Shown | str] = [scores_of_each(task, "label", by_label(task, decision, labels))]
        pairs = tuple((f"{names[i]}, {names[j]}", str(n), str(said)) for i, j, n, said in together(decision, labels))
        if pairs:
            found.append(Shown(("labels", "examples", "answers"), pairs, title=f"{task.name}, commonest pairs"))
        return found

    def details(self, task: TaskFacts, decision: Array, labels: Labels) -> dict[str, Any]:
        names = task.labels or ()
        return {
            "labels": list(names),
            "by_label": [asdict(one) for one in by_label(task, decision, labels)],
            "pairs": [
                {"labels": [names[i], names[j]], "examples": n, "answers": said}
                for i, j, n, said in together(decision, labels)
            ],
        }


@dataclass(frozen=True)
class LabelLogits(PredictionKind[Labels]):
    """Predictions with a logit per label, ``[B, K]``: ``log(p / (1 - p))``, where ``p`` is the label's probability."""

    feeds: tuple[str, ...] = ("logits of labels",)
    loss: str = "bce"
    fits: Fits = SETS

    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        if task.labels is None:
            raise ValueError(f"task {task.name}: the labels are not known yet. Read the train file first.")
        return (len(task.labels),)

    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        return (prediction > threshold).long().numpy()

    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor) -> list[dict[str, Any]]:
        """Returns a dict for each example.

        Its key ``labels`` holds the list of predicted labels. For every label of the task there is a key ``p(LABEL)``
        that holds the probability of the label.
        """
        names = task.labels or ()
        return [
            {"labels": [name for name, x in zip(names, yes_K, strict=True) if x]}
            | {f"p({name})": p for name, p in zip(names, p_K, strict=True)}
            for yes_K, p_K in zip(self.decide(prediction, threshold), prediction.sigmoid().tolist(), strict=True)
        ]

    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        return {"labels": (prediction > threshold).long(), "probabilities": prediction.sigmoid()}

    def options(self, prediction: Labels, labels: Labels) -> AsOptions | None:
        return of_labels(prediction, labels)

    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        """Returns for each example the KL divergence of two predictions, averaged over the labels, ``[B]``.

        Because it is a mean, its scale does not depend on the number of labels.
        """
        return bernoulli_kl(prediction, other, detached=detached).mean(-1)

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        """Returns how wrong each answer is.

        An answer's distance from the truth is its number of wrong labels. Its loss is a sum over all labels.
        """
        from scipy.special import log_expit

        wrong_B = (~np.isnan(labels) & (decision != labels)).sum(1).astype(np.float64)
        return Judged(
            answer=decision,
            p_B=np.exp(log_expit((2 * decision - 1) * prediction).sum(1)),
            distance_B=wrong_B,
            loss_B=-np.nansum(log_expit((2 * labels - 1) * prediction), axis=1),
            wrong_B=wrong_B > 0,
        )


def _named(cells: Cells) -> list[tuple[int, str, int]]:
    """Returns a triple for every label in every cell: the row's index, the label's name, and its value, 1 or 0."""
    found = []
    for row, cell in enumerate(cells):
        made = [] if cell is None else json.loads(cell)
        each = made.items() if isinstance(made, dict) else ((name, 1) for name in made)
        found += [(row, name, value) for name, value in each]
    return found


# Counts -----------------------------------------------------------------------------------------------------


def _counted(decision_BK: Array, labels_BK: Labels) -> tuple[Labels, Labels, Labels]:
    """Returns three arrays of zeros and ones, ``[B, K]``: ``right``, ``said`` and ``given``.

    ``said`` is 1 for each label in the answer, ``given`` for each true label, and ``right`` for each true label in the
    answer. If it is unknown whether a label is true, all three arrays are 0 for it.
    """
    given_BK, said_BK = labels_BK == 1, (decision_BK == 1) & ~np.isnan(labels_BK)
    right, said, given = (part.astype(np.float64) for part in (given_BK & said_BK, said_BK, given_BK))
    return right, said, given


def _shares(labels_BK: Labels) -> Labels:
    """Returns for each label the share of rows that have it, ``[K]``. Rows where this is unknown do not count."""
    return share((labels_BK == 1).sum(0), (~np.isnan(labels_BK)).sum(0))


def by_label(task: TaskFacts, decision_BK: Array, labels_BK: Labels) -> list[OfClass]:
    """Returns each label's precision, recall, F1 and counts of rows, over the rows in which the label is known."""
    right_K, said_K, given_K = (part.sum(0) for part in _counted(decision_BK, labels_BK))
    shares = (share(right_K, said_K), share(right_K, given_K), share(2 * right_K, said_K + given_K))
    return [
        OfClass(label, float(precision), float(recall), float(f1), int(given), int(said))
        for label, precision, recall, f1, given, said in zip(task.labels or (), *shares, given_K, said_K, strict=True)
    ]


def together(decision_BK: Array, labels_BK: Labels) -> list[tuple[int, int, int, int]]:
    """Returns four numbers for each of the pairs of labels that occur together most often.

    They are the indices of the two labels, the number of rows with both, and the number of answers with both.
    """
    _, said_BK, given_BK = _counted(decision_BK, labels_BK)
    given_KK, said_KK = given_BK.T @ given_BK, said_BK.T @ said_BK
    pairs = sorted(combinations(range(len(given_KK)), 2), key=lambda pair: -given_KK[pair])[:COMMONEST]
    return [(i, j, int(given_KK[i, j]), int(said_KK[i, j])) for i, j in pairs if given_KK[i, j]]


# Metrics ----------------------------------------------------------------------------------------------------


def _f1_resampled(decision_SBK: Array, labels_BK: Labels, counts_RB: Labels, *, micro: bool) -> Labels:
    """Returns F1 for each resample and seed, ``[R, S]``: micro F1 if ``micro`` is true, else macro F1.

    A label that occurs in no row and no answer has F1 0.
    """
    found = []
    for decision_BK in decision_SBK:
        parts = [counts_RB @ part for part in _counted(decision_BK, labels_BK)]
        right, said, given = (part.sum(1, keepdims=True) for part in parts) if micro else parts
        found.append(share(2 * right, said + given).mean(1))
    return np.stack(found, 1)


def _f1(decision_BK: Array, labels_BK: Labels, *, micro: bool) -> float:
    once_1B = np.ones((1, len(labels_BK)))
    return float(_f1_resampled(decision_BK[None], labels_BK, once_1B, micro=micro)[0, 0])


def _best_micro_f1(labels_BK: Labels) -> float:
    """Returns the micro F1 of the best constant answer, which consists of the most frequent labels."""
    known_K, given_K = (~np.isnan(labels_BK)).sum(0), (labels_BK == 1).sum(0)
    by_share_K = np.argsort(-_shares(labels_BK), kind="stable")
    said, right = known_K[by_share_K].cumsum(), given_K[by_share_K].cumsum()
    return float(share(2 * right, said + given_K.sum()).max())


def _right(decision_BK: Array, labels_BK: Labels) -> npt.NDArray[np.bool_]:
    right_B: npt.NDArray[np.bool_] = ((decision_BK == labels_BK) | np.isnan(labels_BK)).all(1)
    return right_B


def _exact_match(task: TaskFacts, decision_BK: Array, labels_BK: Labels) -> float:
    return float(_right(decision_BK, labels_BK).mean())


def _commonest(labels_BK: Labels) -> Labels:
    """Returns an array ``[B, K]`` in which each row is the most common set of labels.

    A missing value in ``labels_BK`` counts as the most common value of its label.
    """
    mostly_K = _shares(labels_BK) > 0.5
    sets, counts = np.unique(np.where(np.isnan(labels_BK), mostly_K, labels_BK), axis=0, return_counts=True)
    return np.broadcast_to(sets[counts.argmax()], labels_BK.shape)


def average_precisions(prediction_BK: Array, labels_BK: Labels) -> list[float]:
    """Returns the average precision of each label, over the rows in which it is known; 0 if no row has the label."""
    from sklearn.metrics import average_precision_score

    found = []
    for prediction_B, labels_B in zip(prediction_BK.T, labels_BK.T, strict=True):
        known_B = ~np.isnan(labels_B)
        some = (labels_B == 1).any()
        found.append(float(average_precision_score(labels_B[known_B], prediction_B[known_B])) if some else 0.0)
    return found


MICRO_F1 = Metric(
    "micro_f1",
    lambda task, decision, labels: _f1(decision, labels, micro=True),
    constant=lambda task, labels: _best_micro_f1(labels),
    resampled=lambda task, decisions, labels, counts: _f1_resampled(decisions, labels, counts, micro=True),
)
MACRO_F1 = Metric(
    "macro_f1",
    lambda task, decision, labels: _f1(decision, labels, micro=False),
    constant=lambda task, labels: _f1(np.ones(labels.shape), labels, micro=False),  # yes to all; no gives 0
    resampled=lambda task, decisions, labels, counts: _f1_resampled(decisions, labels, counts, micro=False),
)
EXACT_MATCH = Metric(
    "exact_match",
    _exact_match,
    constant=lambda task, labels: _exact_match(task, _commonest(labels), labels),
    right=_right,
)
AVERAGE_PRECISION = Metric(
    "average_precision",
    lambda task, prediction, labels: float(np.mean(average_precisions(prediction, labels))),
    constant=lambda task, labels: float(_shares(labels).mean()),  # that of equal numbers for all
    undefined=lambda answers, labels: None if (labels == 1).any() else "average_precision where all sets are empty",
    ranks=True,
)

MULTILABEL = AnswerType(
    "multilabel",
    SetLabels(),
    (MICRO_F1, MACRO_F1, EXACT_MATCH, AVERAGE_PRECISION, *METRICS_OF_LABELS),
    {OUTPUTS: LabelLogits()},
)
