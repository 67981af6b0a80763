"""The base class :class:`PredictionKind`. Its subclasses give a meaning to the numbers that a head returns.

Dimension key: B examples, K classes (or candidates) to choose from, N known labels, counted over all examples. An
example can have several labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy.typing as npt

from mtbert.answers.fitting import NOTHING_FITTED, Fits
from mtbert.answers.values import AnyLabels, AsOptions, Judged, Labels, TaskFacts

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = dict[str, Tensor]

_Labels = TypeVar("_Labels", bound=AnyLabels)


class PredictionKind(ABC, Generic[_Labels]):
    """The half of an answer type that is about predictions: it gives a meaning to the numbers that a head returns.

    Predictions are tensors ``[B, *shape]``, where ``shape`` is what the method :meth:`shape` returns. All methods take
    predictions that have been calibrated.
    """

    @property
    @abstractmethod
    def feeds(self) -> tuple[str, ...]:
        """The names of the values that losses can read from predictions, such as ``logits``; see ``Needs.reads``."""

    @property
    @abstractmethod
    def loss(self) -> str:
        """The kind of the default loss, such as ``ce``."""

    @property
    def start(self) -> float:
        """The value that the bias of the head's last layer has before training."""
        return 0.0

    @property
    def gaussian(self) -> bool:
        """Whether the predictions are scores with a Gaussian likelihood, rather than logits.

        Learned task weights depend on this.
        """
        return False

    @property
    def fits(self) -> Fits:
        """How a run fits the threshold and the calibration for this kind of prediction. By default, it fits neither."""
        return NOTHING_FITTED

    @property
    def gives_probability(self) -> bool:
        """Whether a prediction gives the probability of the answer. It is false for scores, cosines and tags of words.

        If it is false, a run cannot calibrate the predictions.
        """
        return bool(self.fits.calibrations)

    @abstractmethod
    def shape(self, task: TaskFacts) -> tuple[int, ...]:
        """Returns the shape of the prediction for one example; ``()`` for a single number.

        -1 stands for the number of candidates that a row has.

        Raises:
            ValueError: If the shape depends on the task's labels, and these are not known yet.
        """

    @abstractmethod
    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        """Returns the decision that follows from each calibrated prediction, ``[B]`` or ``[B, K]``.

        Decisions are class indices (int64), a 0 or 1 for each label (int64), ranks of candidates (int64), or scores
        (float64). In a score, 0 and 1 stand for the ends of the task's range. Scores below 0 or above 1 are possible.
        """

    @abstractmethod
    def decode(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor) -> list[dict[str, Any]]:
        """Returns a readable answer for each example: a dict of texts, numbers, None, or lists of these."""

    @abstractmethod
    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        """Returns the answers as tensors, by the names that they have in an exported model (see docs/export.md).

        The method uses only operations on tensors, so that exporters can trace it. If ``clamped`` is false, a score may
        lie outside the task's range.
        """

    def options(self, prediction: Labels, labels: _Labels) -> AsOptions | None:
        """Returns a pair: log-probabilities of K possible answers, ``[N, K]``, and indices of the right ones, ``[N]``.

        Each example has one row for each of its known labels. ``N`` is the number of all these rows. If the predictions
        give no probabilities, returns None.
        """
        return None

    @abstractmethod
    def divergence(self, prediction: Tensor, other: Tensor, *, detached: bool = False) -> Tensor:
        """Returns the divergence between two predictions for each example, ``[B]``, in float32 or higher precision.

        ``detached`` changes only the gradient, not the value. :mod:`mtbert.answers.divergence` says how.
        """

    @abstractmethod
    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: _Labels) -> Judged:
        """Returns a :class:`Judged`, which says how wrong the answer to each example is.

        The arguments ``prediction`` and ``decision`` are float64 arrays.
        """
