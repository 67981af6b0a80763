"""The answer type for classes without an order: one logit per class.

Dimension key: B examples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from mtbert.answers import AnswerType, AnyLabels, AsOptions, Judged, Labels, PredictionKind, TaskFacts
from mtbert.answers.class_labels import ClassLabels, class_answer
from mtbert.answers.divergence import symmetric_kl
from mtbert.answers.fitting import CLASSES, Fits
from mtbert.answers.heads import OUTPUTS
from mtbert.answers.measures import ACCURACY, MACRO_F1
from mtbert.answers.probabilities import METRICS_OF_CLASSES, of_classes
from mtbert.answers.seen import MOST_KINDS, SeenColumn, Suits
from mtbert.answers.soft import SoftLabels, cross_entropies, most_voted, with_soft
from mtbert.messages import count

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.answers.prediction_kind import Tensors

_Labels = TypeVar("_Labels", bound=AnyLabels)


@dataclass(frozen=True)
class OneLogitPerClass(PredictionKind[_Labels], Generic[_Labels]):
    """Predictions with one logit per class, ``[B, K]`` or, for words, ``[W, K]``."""

    feeds: tuple[str, ...] = ("logits",)
    loss: str = "ce"

    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        if task.labels is None:
            raise ValueError(f"task {task.name}: the labels are not known yet. Read the train file first.")
        return (len(task.labels),)

    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        return prediction.argmax(-1).numpy()

    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor) -> list[dict[str, Any]]:
        """Returns a dict for each example.

        In this dict, the key ``label`` holds the most probable class. For every class there is a key ``p(CLASS)`` that
        holds the probability of the class.
        """
        chosen = class_answer(task, self.decide(prediction, threshold))
        return with_probabilities(task, chosen, prediction)

    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        return {"label": prediction.argmax(-1), "probabilities": prediction.softmax(-1)}

    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        return symmetric_kl(prediction, other, detached=detached)


@dataclass(frozen=True)
class Logits(OneLogitPerClass[Labels]):
    """Predictions for texts: one logit per class, ``[B, K]``."""

    fits: Fits = CLASSES
    ordered: bool = False  # whether the classes have an order

    def options(self, prediction: Labels, labels: Labels) -> AsOptions | None:
        return of_classes(prediction, labels if labels.ndim == 1 else most_voted(labels, ordered=self.ordered))

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        from scipy.special import log_softmax

        log_p_BK = log_softmax(prediction, axis=1)
        soft = labels.ndim == 2
        distance_B = np.abs(decision - (most_voted(labels, ordered=self.ordered) if soft else labels))
        return Judged(
            answer=decision,
            p_B=np.exp(_pick(log_p_BK, decision)),
            distance_B=distance_B,
            loss_B=cross_entropies(prediction, labels) if soft else -_pick(log_p_BK, labels),
            wrong_B=distance_B > 0,
        )


def with_probabilities(task: TaskFacts, chosen: list[str], logits_BK: Tensor) -> list[dict[str, Any]]:
    """Returns a dict ``{"label": LABEL, "p(CLASS)": P, ...}`` for each example.

    The labels are those in ``chosen``. The probabilities of all classes are computed from ``logits_BK``.
    """
    return [
        {"label": label} | {f"p({name})": float(p) for name, p in zip(task.labels or (), p_K, strict=True)}
        for label, p_K in zip(chosen, logits_BK.softmax(-1), strict=True)
    ]


def _pick(values_BK: Labels, indices_B: Labels) -> Labels:
    picked: Labels = np.take_along_axis(values_BK, indices_B.astype(int)[:, None], 1)[:, 0]
    return picked


def _suits(column: SeenColumn) -> Suits | None:
    if 2 <= len(column.items) <= MOST_KINDS and any(len(set(cell)) < len(cell) for cell in column.lists):
        because = f"lists that name a label twice, as votes do, of {count(len(column.items), 'label')}"
        return Suits(0.5, because, "if the lists are votes", {"columns": {"votes": column.name}})
    if not column.classes:
        return None
    if len(column.classes) == 2:
        return Suits(0.4, column.told(), "")
    if not column.numbers:
        return Suits(0.7, column.told(), "if they have no order")
    if column.codes:
        first, second = (f"{x:g}" for x in column.numbers[:2])
        sign = "as codes begin" if column.numbers[0] == 0 else "codes by the name"
        because = f'{column.told()}, {sign} (name them: labels: {{"{first}": NAME, "{second}": NAME, ...}})'
        return Suits(0.6, because, "if the numbers are codes")
    return Suits(0.3, column.told(), "if they have no order")


_LABELS = ClassLabels(suits_column=_suits)
CLASSIFICATION = with_soft(
    AnswerType("classification", _LABELS, (ACCURACY, MACRO_F1, *METRICS_OF_CLASSES), {OUTPUTS: Logits()}),
    SoftLabels(_LABELS),
)
