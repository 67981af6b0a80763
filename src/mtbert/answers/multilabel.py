"""The answer type for sets of labels: one logit per label. An example may have any number of labels, even none.

Here, a cell is a JSON text with all labels of one row. There are two forms:

- If one column of the file holds the labels, the cell is a JSON list of the labels that the row has, such as
  ``["toxic", "threat"]``. ``data/cells.py`` makes the cell from a list, or from a text with names and separators.
- If each label has a column of its own, with 1 for yes and 0 for no, one cell is made from all these columns. The cell
  is a JSON object, such as ``{"toxic": 1, "threat": 0}``. A label whose column is empty in this row is left out.

Dimension key: B examples, K labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    PredictionKind,
    Shown,
    TaskFacts,
    WrongCell,
)
from mtbert.answers.class_labels import COLLAPSED_SHARE, MOST_LISTED, ClassLabels, odd_names, scores_of_each, sets
from mtbert.answers.columns import check_named
from mtbert.answers.divergence import bernoulli_kl
from mtbert.answers.fitting import SETS, Fits
from mtbert.answers.heads import OUTPUTS
from mtbert.answers.measures_of_sets import AVERAGE_PRECISION, EXACT_MATCH, MACRO_F1, MICRO_F1, by_label, together
from mtbert.answers.probabilities import METRICS_OF_LABELS, of_labels
from mtbert.answers.seen import MOST_KINDS, ROWS_OF_A_CLASS, SeenColumn, Suits
from mtbert.messages import LONGEST, clean, count, few, shown
from mtbert.number_cells import NumberCells

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.answers.prediction_kind import Tensors

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

    def suits(self, labels: Sequence[SeenColumn], texts: Sequence[SeenColumn]) -> Suits | None:
        if len(labels) > 2 and all(
            column.counts and column.counts.keys() <= {"0", "1", "true", "false"} for column in labels
        ):
            columns = {"label": [column.name for column in labels]}
            return Suits(0.8, f"{len(labels)} columns of 0 and 1", "if a row may have several", {"columns": columns})
        if len(labels) != 1:
            return None
        (column,) = labels
        when, lists = "if a row may have several labels", column.lists
        if 2 <= len(column.items) <= MOST_KINDS and all(len(set(cell)) == len(cell) for cell in lists):
            because = (
                f"lists of {count(len(column.items), 'different label')}, {few(sorted(column.items), 3, quoted=True)}"
            )
            return Suits(0.85, because, when)
        looking, parts = sets(list(column.counts))
        sign = next((sign for sign in ";|," if any(sign in name for name in looking)), None)
        rare = len(column.filled) < ROWS_OF_A_CLASS * parts
        if sign is None or rare or parts > MOST_KINDS or any(len(cell) > LONGEST for cell in looking):
            return None
        because = f"{parts} different labels, with {shown(sign)} between them, as in {shown(looking[0])}"
        return Suits(0.8, because, when, {"columns": {"label": column.name, "separator": sign}})

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns ``{"labels": ...}`` with the labels that occur in train, or ``{}`` if the recipe names the labels.

        The labels are sorted as numbers if all of them are numbers, else alphabetically.
        """
        return AS_CLASSES.complete(task, [[name for _, name, _ in _named(columns[0])]]) if task.labels is None else {}

    def read(self, task: TaskFacts, cells: Cells) -> Labels:
        labels_BK = np.full((len(cells), len(task.labels or ())), np.nan)
        if isinstance(cells, NumberCells):  # the recipe makes sure that each column is named as a label
            labels_BK[:, AS_CLASSES.read(task, cells.names).astype(np.int64)] = cells.numbers
            return labels_BK
        labels_BK[[cell is not None and cell.startswith("[") for cell in cells]] = 0  # a list is all that a row has
        named = _named(cells)
        try:
            found = AS_CLASSES.read(task, [name for _, name, _ in named]).astype(np.int64)
        except WrongCell as error:
            raise error.moved(named[error.row][0]) from None
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
        """Returns warnings about labels that look like several labels, or like typing errors or missing values."""
        looking, parts = sets(task.labels or ())
        if not looking:
            return odd_names(task)
        return [
            *odd_names(task),
            f"{task.name}: {shown(looking[0])} looks like several labels, of {parts:,} in all. "
            f"Set tasks.{task.name}.columns.separator to the sign between them.",
        ]

    def occurrences(self, task: TaskFacts, labels: Labels) -> Array:
        return np.stack([(labels == 0).sum(0), (labels == 1).sum(0)], 1)

    def fits(self, task: TaskFacts, decision: Array, labels: Labels) -> bool:
        kind = decision.shape == (len(labels), len(task.labels or ())) and decision.dtype == np.int64
        return kind and bool(np.isin(decision, (0, 1)).all())

    def collapsed(self, decision: Array) -> bool:
        """Returns whether one set of labels is the answer to at least 99% of the examples."""
        return bool(np.unique(decision, axis=0, return_counts=True)[1].max() >= COLLAPSED_SHARE * len(decision))

    def summary(self, task: TaskFacts) -> str:
        return AS_CLASSES.summary(task)

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        """Returns the names in a set of labels, joined by semicolons; ``none`` if there are no names.

        ``label`` holds a number for each name in ``task.labels``: 1 if the set contains the name, 0 if not, and ``nan``
        if that is unknown. A name with ``nan`` is returned with a question mark, as in ``sports; music?``.
        """
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
        """Returns a dict ``{"labels": [LABEL, ...], "p(LABEL)": P, ...}`` for each example.

        Every label of the task has a probability, whether it is predicted or not.
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
        """Returns for each example the symmetric KL divergence of two predictions, averaged over the labels."""
        return bernoulli_kl(prediction, other, detached=detached).mean(-1)

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        """Returns how wrong each answer is.

        The field ``distance_B`` is the number of wrong labels in each answer. The field ``loss_B`` is the sum of the
        cross-entropies of the labels in each answer. Both fields leave out labels whose truth is unknown.
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


MULTILABEL = AnswerType(
    "multilabel",
    SetLabels(),
    (MICRO_F1, MACRO_F1, EXACT_MATCH, AVERAGE_PRECISION, *METRICS_OF_LABELS),
    {OUTPUTS: LabelLogits()},
)
