"""The answer type for yes/no questions.

The model gives one number for each example: a logit, or the cosine of two vectors. The answer is yes if this number is
above a threshold.

Dimension key: B examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtbert.answers import YES_NO, AnswerType, AsOptions, Judged, Labels, PredictionKind, TaskFacts
from mtbert.answers.class_labels import ClassLabels, class_answer
from mtbert.answers.classification import with_probabilities
from mtbert.answers.divergence import bernoulli_kl, squared_error
from mtbert.answers.fitting import COSINE_OF_YES_OR_NO, YES_OR_NO, Fits
from mtbert.answers.heads import COSINE, OUTPUTS
from mtbert.answers.measures import ACCURACY, AUC, AVERAGE_PRECISION, MACRO_F1
from mtbert.answers.probabilities import METRICS_OF_LABELS, of_labels
from mtbert.answers.seen import SeenColumn, Suits
from mtbert.answers.soft import SoftLabels, cross_entropies, most_voted, with_soft

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.answers.prediction_kind import Tensors


@dataclass(frozen=True)
class Logit(PredictionKind[Labels]):
    """Predictions with one logit per example, ``[B]``: ``log(p / (1 - p))``, for a probability ``p`` of ``yes``."""

    feeds: tuple[str, ...] = ("logit", YES_NO)
    loss: str = "bce"
    fits: Fits = YES_OR_NO

    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        return ()

    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        return (prediction > threshold).long().numpy()

    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor) -> list[dict[str, Any]]:
        """Returns a dict for each example.

        In this dict, the key ``label`` holds the chosen class. For both classes there is a key ``p(CLASS)`` that holds
        the probability of the class.
        """
        import torch

        chosen = class_answer(task, self.decide(prediction, threshold))
        return with_probabilities(task, chosen, torch.stack([-prediction / 2, prediction / 2], -1))

    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        import torch

        logits_B2 = torch.stack([-prediction / 2, prediction / 2], -1)
        return {"label": (prediction > threshold).long(), "probabilities": logits_B2.softmax(-1)}

    def options(self, prediction: Labels, labels: Labels) -> AsOptions | None:
        return of_labels(prediction, most_voted(labels, ordered=False))

    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        return bernoulli_kl(prediction, other, detached=detached)

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        from scipy.special import log_expit

        distance_B = np.abs(decision - most_voted(labels, ordered=False))
        return Judged(
            answer=decision,
            p_B=np.exp(log_expit((2 * decision - 1) * prediction)),
            distance_B=distance_B,
            loss_B=cross_entropies(prediction, labels),
            wrong_B=distance_B > 0,
        )


@dataclass(frozen=True)
class ThresholdCosine(PredictionKind[Labels]):
    """Predictions with one cosine per example, ``[B]``, from -1 to 1.

    A cosine above the threshold means yes. The threshold is fitted on held-out rows.
    """

    feeds: tuple[str, ...] = ("cosine", YES_NO)
    loss: str = "mse"
    gaussian: bool = True
    fits: Fits = COSINE_OF_YES_OR_NO

    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        return ()

    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        return (prediction > threshold).long().numpy()

    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor) -> list[dict[str, Any]]:
        """Returns a dict for each example: ``label`` is the chosen class, and ``cosine`` is the predicted cosine.

        There are no probabilities, because a cosine gives none.
        """
        chosen = class_answer(task, self.decide(prediction, threshold))
        return [{"label": label, "cosine": float(x)} for label, x in zip(chosen, prediction, strict=True)]

    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        return {"label": (prediction > threshold).long(), "cosine": prediction}

    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        return squared_error(prediction, other, detached=detached)

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Labels) -> Judged:
        distance_B = np.abs(decision - most_voted(labels, ordered=False))
        return Judged(
            answer=decision,
            p_B=np.full(len(prediction), np.nan),
            distance_B=distance_B,
            loss_B=-(2 * labels - 1) * (prediction - _between(prediction, decision)),
            wrong_B=distance_B > 0,
        )


def _between(cosine_B: Labels, decision_B: Labels) -> float:
    """Returns the midpoint between the largest cosine with decision 0 and the smallest cosine with decision 1.

    If all decisions are 1, returns the smallest cosine. If all decisions are 0, returns the largest cosine.
    """
    no, yes = cosine_B[decision_B == 0], cosine_B[decision_B == 1]
    if not len(no) or not len(yes):
        return float(yes.min() if len(yes) else no.max())
    return float(no.max() + yes.min()) / 2


YES = ("1", "yes", "y", "true", "t", "positive", "pos", "ja", "oui", "si", "sí", "sim")


def _suits(column: SeenColumn) -> Suits | None:
    if len(column.classes) != 2:
        return None
    one, other = (name.lower() for name in column.classes)
    denied = {one if one.endswith(other) else other if other.endswith(one) else None}  # such as no match beside match
    no, yes = sorted(column.classes, key=lambda name: (name.lower() not in denied, name.lower() in YES))
    return Suits(0.9, column.told(), "for yes or no", {"labels": [no, yes]}, {"labels": "the second is the yes"})


_LABELS = ClassLabels(only=2, suits_column=_suits)
BINARY = with_soft(
    AnswerType(
        "binary",
        _LABELS,
        (ACCURACY, MACRO_F1, AUC, AVERAGE_PRECISION, *METRICS_OF_LABELS),
        {OUTPUTS: Logit(), COSINE: ThresholdCosine()},
    ),
    SoftLabels(_LABELS),
    {OUTPUTS: Logit(feeds=("logit",)), COSINE: ThresholdCosine(feeds=("cosine",))},  # a share is neither yes nor no
)
