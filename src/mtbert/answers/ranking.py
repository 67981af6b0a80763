"""The answer type for rankings: each row of a file holds a query and its candidates.

A file has text columns in this order: the query, the right candidate, and one or more wrong candidates. A file has no
label column. A head gives each candidate a number, and these numbers order the candidates.

Dimension key: B examples, C candidates of an example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtbert.answers import (
    CANDIDATES,
    AnswerType,
    Array,
    Cells,
    ColumnFacts,
    Conflicts,
    Distribution,
    FigureName,
    Judged,
    LabelKind,
    Labels,
    Metric,
    PredictionKind,
    Shown,
    TaskFacts,
)
from mtbert.answers.class_labels import COLLAPSED_SHARE
from mtbert.answers.divergence import squared_error
from mtbert.answers.heads import COSINE
from mtbert.answers.seen import SeenColumn, Suits
from mtbert.messages import few, shown

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.answers.prediction_kind import Tensors

_Ints = npt.NDArray[np.int64]

MOST_RANKS = 10  # ranks that are listed
# Beginnings of the names of columns with a query, with its right candidate, and with a wrong one.
_QUERY, _RIGHT, _WRONG = (
    ("query", "anchor", "question"),
    ("pos", "right", "answer", "relevant"),
    ("neg", "wrong", "hard"),
)


@dataclass(frozen=True)
class RightFirst(LabelKind[Labels]):
    """Labels ``[B, C]``: 1 for the right candidate, which is the first, and 0 for all others."""

    figures: tuple[FigureName, ...] = ("ranks",)
    graded: bool = True
    wrong: str = "A ranking counts as wrong if a wrong candidate is as near to the query as the right one."

    def check(self, task: TaskFacts) -> None:
        given = [key for key in ("labels", "codes", "range") if getattr(task, key) is not None]
        if given:
            raise ValueError(f"type 'ranking' has no {given[0]}: the first candidate is right. Drop {given[0]}.")

    def texts(self, inputs: str) -> int | None:
        return None

    def columns(self, name: str, given: ColumnFacts) -> dict[str, Any]:
        if len(given.text) < 3:
            raise ValueError(
                "text must name the columns of a query, of its right candidate, and of a wrong one or more, found "
                f"{few(given.text, quoted=True)}. Add a column, or use type: binary for pairs."
            )
        if given.label and "label" in given.model_fields_set:
            raise ValueError(
                f"label: {shown(given.label)} is not for type '{name}', where the first candidate is right. Drop it."
            )
        return {"label": ()}

    def suits(self, labels: Sequence[SeenColumn], texts: Sequence[SeenColumn]) -> Suits | None:
        query, right, wrong = (
            [c.name for c in texts if c.name.lower().startswith(k)] for k in (_QUERY, _RIGHT, _WRONG)
        )
        if labels or len(query) != 1 or len(right) != 1 or not wrong:
            return None
        columns = {"text": [*query, *right, *wrong]}
        settings = {"inputs": "separate", "head": "cosine", "columns": columns, "no_duplicates": True}
        return Suits(0.9, "a query, its right candidate and a wrong one, by their names", "", settings)

    def read(self, task: TaskFacts, cells: Cells) -> Labels:
        texts = [int(cell) for cell in cells if cell is not None]
        labels_BC = np.full((len(cells), max(texts, default=2) - 1), np.nan)
        labels_BC[[cell is not None for cell in cells]] = 0
        labels_BC[:, 0] += 1
        return labels_BC

    def distribution(self, task: TaskFacts, labels: Labels) -> Distribution:
        """Returns a summary of a split: the number of candidates in each row, the number of rows, and two scores.

        The scores are the accuracy and the MRR to expect if the candidates are ranked at random.
        """
        number = labels.shape[1]
        chance = (("accuracy by chance", _chance(1, number)), ("mrr by chance", _chance(number, number)))
        return Distribution("rows with", ((f"{number} candidates", len(labels)),), chance)

    def conflicts(self, texts_TB: _Ints, rows_B: _Ints, labels: Labels) -> Conflicts:
        """Returns the number of rows with a conflict, and a warning about these rows.

        The texts of a row are a query, its right candidate, and its wrong candidates. A row has a conflict if one of
        its wrong candidates is the right candidate in the same row, or in another row with the same query.
        """
        query_B, *candidates = texts_TB
        right_B, *wrong = (query_B * (texts_TB.max() + 1) + candidate_B for candidate_B in candidates)
        number, rows = int(np.isin(wrong, right_B).any(0).sum()), len(query_B)
        share = f"{number:,} of {rows:,} examples ({number / rows:.1%})"
        warning = f"{share} have a wrong candidate that is right for the same query."
        return Conflicts(number, "wrong ones that are right", warning)

    def uniform(self, labels: Labels) -> bool:
        return False  # all labels are the same by definition

    def fits(self, task: TaskFacts, decision: Array, labels: Labels) -> bool:
        kind = decision.shape == labels.shape and decision.dtype == np.int64
        return kind and bool(((decision >= 1) & (decision <= decision.shape[1])).all())

    def collapsed(self, decision: Array) -> bool:
        """Returns whether at least 99% of the examples have all their candidates equally near to the query."""
        return bool((decision == decision.shape[1]).all(1).mean() >= COLLAPSED_SHARE)

    def summary(self, task: TaskFacts) -> str:
        return "the first candidate"

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        """Returns the candidate for which ``label`` has a 1, as text such as ``candidate 2``; ``none`` without a 1.

        ``label`` has one number for each candidate of a row. It is either the true label of the row, in which only the
        right candidate has a 1, or the model's answer. An answer holds the ranks of the candidates. If the best
        candidates are tied, no candidate has rank 1. The result is always a str.
        """
        return ", ".join(f"candidate {i + 1}" for i in np.flatnonzero(np.asarray(label) == 1)) or "none"

    def tables(self, task: TaskFacts, decision: Array, labels: Labels) -> list[Shown | str]:
        rank_B = right_rank(decision, labels)
        counts = Counter(rank_B.tolist())
        rows = [(str(rank), counts[rank]) for rank in range(1, min(labels.shape[1], MOST_RANKS) + 1)]
        rows += [(f"over {MOST_RANKS}", int((rank_B > MOST_RANKS).sum()))] if labels.shape[1] > MOST_RANKS else []
        shares = tuple((name, str(n), f"{n / len(rank_B):.1%}") for name, n in rows)
        return [Shown(("rank of the right one", "examples", "share"), shares, title=f"{task.name}, by rank")]

    def details(self, task: TaskFacts, decision: Array, labels: Labels) -> dict[str, Any]:
        counts = np.bincount(right_rank(decision, labels), minlength=labels.shape[1] + 1)
        return {"candidates": labels.shape[1], "ranks": counts[1:].tolist()}


@dataclass(frozen=True)
class Cosines(PredictionKind[Labels]):
    """Predictions ``[B, C]``: for each candidate, the cosine between its vector and the vector of the query."""

    feeds: tuple[str, ...] = (CANDIDATES,)
    loss: str = "mnrl"

    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        return (-1,)  # as many as a row has candidates

    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        """Returns the ranks of candidates, ``[B, C]``; the best is 1. Tied candidates get the worst of their ranks."""
        ranks_BC: _Ints = (prediction[:, None] >= prediction[:, :, None]).sum(-1).numpy()
        return ranks_BC

    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor) -> list[dict[str, Any]]:
        """Returns for each example a dict about its candidates, with the keys ``first``, ``ranks`` and ``cosines``.

        ``first`` is the number of the best candidate. ``ranks`` lists the rank of each candidate. Numbers and ranks
        count from 1. ``cosines`` lists the cosine of each candidate.

        If two candidates have equal cosines, the earlier candidate gets the better rank. In :meth:`decide`, both
        candidates get the worse rank.
        """
        order_BC = prediction.argsort(dim=1, descending=True, stable=True)
        ranks_BC = order_BC.argsort(dim=1) + 1
        return [
            {"first": order[0] + 1, "ranks": ranks, "cosines": cosines}
            for order, ranks, cosines in zip(order_BC.tolist(), ranks_BC.tolist(), prediction.tolist(), strict=True)
        ]

    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        return {"cosines": prediction}

    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        """Returns the mean squared difference of two predictions over the candidates of each example, ``[B]``."""
        return squared_error(prediction, other, detached=detached).mean(-1)

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        """Returns a :class:`Judged`, which says how wrong the answer to each example is.

        The field ``distance_B`` is the number of wrong candidates that rank before the right one. The field ``loss_B``
        is the highest cosine of a wrong candidate, minus the cosine of the right one.
        """
        rank_B = right_rank(decision, labels)
        nearest_B = np.where(labels == 1, -np.inf, prediction).max(1)
        return Judged(
            answer=(decision == 1).astype(np.float64),
            p_B=np.full(len(labels), np.nan),
            distance_B=(rank_B - 1).astype(np.float64),
            loss_B=nearest_B - prediction[labels == 1],
            wrong_B=rank_B > 1,
        )


def right_rank(ranks_BC: Array, labels_BC: Labels) -> _Ints:
    """Returns the rank of the right candidate in each example, ``[B]``. The best rank is 1."""
    rank_B: _Ints = ranks_BC[labels_BC == 1].astype(np.int64)
    return rank_B


def _chance(ranks: int, candidates: int) -> float:
    """Returns the mean of ``1 / rank`` of the right candidate over all possible orders of the candidates.

    ``candidates`` is the number of candidates. A rank greater than ``ranks`` contributes 0 to the mean, and not
    ``1 / rank``.
    """
    return sum(1 / rank for rank in range(1, ranks + 1)) / candidates


def _right(ranks_BC: Array, labels_BC: Labels) -> npt.NDArray[np.bool_]:
    right_B: npt.NDArray[np.bool_] = right_rank(ranks_BC, labels_BC) == 1
    return right_B


# An answer that does not depend on the texts leaves the candidates in a random order.
ACCURACY = Metric(
    "accuracy",
    lambda task, ranks_BC, labels_BC: float(_right(ranks_BC, labels_BC).mean()),
    constant=lambda task, labels_BC: _chance(1, labels_BC.shape[1]),
    right=_right,
)
MRR = Metric(
    "mrr",
    lambda task, ranks_BC, labels_BC: float((1 / right_rank(ranks_BC, labels_BC)).mean()),
    constant=lambda task, labels_BC: _chance(labels_BC.shape[1], labels_BC.shape[1]),
)

RANKING = AnswerType("ranking", RightFirst(), (ACCURACY, MRR), {COSINE: Cosines()})
