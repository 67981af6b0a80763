"""Fits numbers on held-out rows: the threshold above which the answer is "yes", and the calibration of probabilities.

A calibration changes predictions, which are logits. Their probabilities then say how often answers are right:

- temperature: ``scale * logits``, with one number for all classes or labels. The order of the logits stays, so no
  answer changes. Source: Guo et al., "On Calibration of Modern Neural Networks", 2017; ``scale`` is 1 divided by their
  temperature.
- Platt: ``scale * logit + bias``. Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999. Unlike in
  that paper, ``scale`` is above 0 here, so that a higher logit never makes "yes" less probable.
- isotonic: a function of the logit that never falls, given by its ``knots`` and linear between them. Source: Zadrozny
  and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", 2002.

All three are fitted to smoothed targets, as Platt's paper does: with ``N`` rows and ``K`` classes, a target ``y``
becomes ``(N * y + 1) / (N + K)``. No probability therefore becomes 1, even if all held-out rows are answered right.
SciPy and scikit-learn are imported only when numbers are fitted.

Dimension key: B examples, K numbers of one answer, Q knots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mtbert.answers.values import Labels

if TYPE_CHECKING:
    from torch import Tensor

FittedName = Literal["threshold", "scale", "bias", "knots"]  # numbers that are fitted on held-out rows
Calibrate = Literal[False, True, "isotonic"]  # the setting train.calibrate
ThresholdFit = Callable[[Labels, Labels], float | Labels]  # takes predictions and labels; returns a number, or [K]

KNOTS = 256  # numbers of an isotonic function; one with more knots is thinned out
LIMITS: Mapping[str, tuple[float, float]] = {"scale": (0.01, 100.0), "bias": (-1e4, 1e4)}  # of what is fitted
FEWEST_ROWS = 5  # a label of a set keeps its threshold if fewer held-out rows have it, or fewer lack it


@dataclass(frozen=True)
class Calibration:
    """A way to calibrate predictions: a function that fits some numbers, and the names of these numbers.

    The function takes the predictions and the labels of held-out rows, and returns the numbers in the order of
    their names.
    """

    names: tuple[FittedName, ...]
    fit: Callable[[Labels, Labels], tuple[Labels, ...]]


@dataclass(frozen=True)
class Fits:
    """The numbers that a run can fit on held-out rows, for one kind of prediction: a threshold and a calibration.

    By default, nothing is fitted.

    Attributes:
        threshold: A function that returns the best threshold for predictions and labels. None if the threshold is
            always 0.
        needed: True if the threshold must be fitted in every run, because 0 is of no use for these predictions. If no
            rows are held out, it is then fitted on train rows. If ``needed`` is false, the threshold is fitted only on
            held-out rows, and it is 0 if there are none.
        calibrations: The calibration for each value of ``train.calibrate``. It is empty if predictions give no
            probabilities.
    """

    threshold: ThresholdFit | None = None
    needed: bool = False
    calibrations: Mapping[Calibrate, Calibration] = field(default_factory=dict)

    def names(self, calibrate: Calibrate, *, held_out: bool) -> tuple[FittedName, ...]:
        """Returns the names of the numbers that a run fits, such as a threshold.

        ``held_out`` says whether the run has held-out rows, which some of these numbers need.
        """
        calibration = self.calibrations.get(calibrate)
        threshold = self.threshold is not None and (held_out or self.needed)
        return (*(("threshold",) if threshold else ()), *(() if calibration is None else calibration.names))


NOTHING_FITTED = Fits()


# Use ----------------------------------------------------------------------------------------------------------


def start(names: Sequence[FittedName], shape: Sequence[int]) -> dict[FittedName, Labels]:
    """Returns a dict from each name in ``names`` to a start value. The start values leave all predictions unchanged.

    Args:
        names: The names of the numbers that a run fits, such as ``threshold``.
        shape: The shape of the prediction for one example.
    """
    logits_Q = np.linspace(-10.0, 10.0, KNOTS)
    values: dict[FittedName, Labels] = {
        "threshold": np.zeros(tuple(shape)),
        "scale": np.array(1.0),
        "bias": np.array(0.0),
        "knots": np.stack([logits_Q, 1 / (1 + np.exp(-logits_Q))]),
    }
    return {name: values[name] for name in names}


def check_fitted(fitted: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raises ValueError if a saved number has a value that fitting never gives, such as a scale outside :data:`LIMITS`.

    The numbers must already be finite and have the right shapes.
    """
    for name, (low, high) in LIMITS.items():
        number = fitted.get(name)
        if number is not None and not low <= number <= high:  # in float32, as it was saved
            raise ValueError(f"{name} must be {low:g} to {high:g}, found {float(number):g}.")
    knots = fitted.get("knots")
    if knots is not None and not ((np.diff(knots) >= 0).all() and 0 < knots[1].min() <= knots[1].max() < 1):
        raise ValueError("knots must rise, with probabilities above 0 and below 1, found others.")


def calibrated(prediction: Tensor, fitted: Mapping[FittedName, Tensor]) -> Tensor:
    """Returns calibrated predictions, on the CPU. If ``fitted`` holds no calibration, returns ``prediction`` itself.

    Args:
        prediction: Logits, ``[B]`` or ``[B, K]``, on the CPU.
        fitted: The fitted numbers of the task's head, by name.
    """
    if "knots" in fitted:
        import torch

        logits_Q, p_Q = fitted["knots"].double().cpu().numpy()
        p_B = np.interp(prediction.double().numpy(), logits_Q, p_Q)
        return torch.from_numpy(np.log(p_B) - np.log1p(-p_B)).to(prediction.dtype)
    if "scale" in fitted:
        prediction = prediction * fitted["scale"].cpu()
    return prediction + fitted["bias"].cpu() if "bias" in fitted else prediction


def fit_numbers(
    fits: Fits, names: Sequence[FittedName], prediction: Labels, labels: Labels
) -> dict[FittedName, Labels]:
    """Fits a threshold and the numbers of a calibration on held-out rows, and returns them as a dict.

    ``names`` says which numbers to fit. ``prediction`` and ``labels`` are those of the held-out rows. The threshold is
    fitted after the calibration, because calibrated predictions are compared with it.
    """
    import torch

    found: dict[FittedName, Labels] = {}
    for calibration in fits.calibrations.values():
        if set(calibration.names) <= set(names):
            fitted = zip(calibration.names, calibration.fit(prediction, labels), strict=True)
            # Rounded as they will be stored, so that the threshold fits what is compared with it.
            found = {name: np.asarray(number, np.float32).astype(np.float64) for name, number in fitted}
            tensors = {name: torch.from_numpy(number) for name, number in found.items()}
            prediction = calibrated(torch.from_numpy(prediction), tensors).numpy()
            break
    if fits.threshold is not None and "threshold" in names:
        found["threshold"] = np.asarray(fits.threshold(prediction, labels), np.float64)
    return found


# Thresholds ---------------------------------------------------------------------------------------------------


def most_accurate(predictions_B: Labels, labels_B: Labels) -> float:
    """Returns the threshold that separates ``yes`` from ``no`` with the fewest errors.

    Labels are shares of ``yes``; a share above 0.5 counts as ``yes``. Predictions are cosines, and the threshold is the
    midpoint of two neighbouring predictions. If several midpoints are equally good, the lowest is returned. The result
    is -2 or 2 if it is best to give all examples the same answer.
    """
    in_order = np.argsort(predictions_B, kind="stable")
    predictions_B, yes_B = predictions_B[in_order], labels_B[in_order] > 0.5
    # The number of right answers if the first i examples are called 0 and the others 1.
    no, yes = np.cumsum(~yes_B), np.cumsum(yes_B[::-1])[::-1]
    right = np.concatenate([[0], no]) + np.concatenate([yes, [0]])
    right[1:-1][predictions_B[:-1] == predictions_B[1:]] = -1  # no threshold separates equal predictions
    edges = np.concatenate(
        [[-2.0], (predictions_B[:-1] + predictions_B[1:]) / 2, [2.0]]
    )  # not 1: rounding gives cosines of 1.0000001
    return float(edges[right.argmax()])


def best_f1_of_each(logits_BK: Labels, labels_BK: Labels) -> Labels:
    """Returns for each label the threshold that gives it the highest F1, ``[K]``.

    Macro F1 is the mean of the F1 of all labels, so no other thresholds give a higher macro F1 on these rows. A
    threshold is the midpoint of two neighbouring logits, or lies 1 below all of them. If several thresholds are equally
    good, the one nearest to 0 is taken, because a logit of 0 stands for a probability of 0.5. A label keeps the
    threshold 0 if fewer than ``FEWEST_ROWS`` rows have it, or if fewer than ``FEWEST_ROWS`` rows lack it. Rows in which
    the label is unknown (``nan``) are left out.
    """
    return np.array([_best_f1(x_B, y_B) for x_B, y_B in zip(logits_BK.T, labels_BK.T, strict=True)])


def _best_f1(logits_B: Labels, labels_B: Labels) -> float:
    known_B = ~np.isnan(labels_B)
    down = np.argsort(-logits_B[known_B], kind="stable")
    logits_B, yes_B = logits_B[known_B][down], labels_B[known_B][down] == 1
    if min(yes_B.sum(), (~yes_B).sum()) < FEWEST_ROWS:
        return 0.0
    # After row i, the first i + 1 rows get the label.
    f1_B = 2 * np.cumsum(yes_B) / (np.arange(1, len(yes_B) + 1) + yes_B.sum())
    f1_B[:-1][logits_B[:-1] == logits_B[1:]] = -1  # no threshold separates equal logits
    edges_B = np.append((logits_B[:-1] + logits_B[1:]) / 2, logits_B[-1] - 1)
    best = np.flatnonzero(f1_B == f1_B.max())
    return float(edges_B[best[np.abs(edges_B[best]).argmin()]])


# Calibrations -------------------------------------------------------------------------------------------------


def _temperature(loss: Callable[[Labels, Labels, float], float]) -> Callable[[Labels, Labels], tuple[Labels, ...]]:
    """Returns a function that finds the scale at which ``loss(logits, labels, scale)`` is lowest, within its limits."""

    def fit(logits: Labels, labels: Labels) -> tuple[Labels, ...]:
        from scipy.optimize import minimize_scalar

        found = minimize_scalar(
            lambda log_scale: loss(logits, labels, np.exp(log_scale)),
            bounds=np.log(LIMITS["scale"]),
            method="bounded",
            options={"xatol": 1e-8},
        )
        return (np.exp(found.x),)

    return fit


def class_loss(logits_BK: Labels, labels: Labels, scale: float) -> float:
    """Returns the mean cross-entropy of the logits ``scale * logits_BK`` with the smoothed ``labels``, in nats.

    ``labels`` are indices of classes, ``[B]``, or distributions over classes, ``[B, K]``.
    """
    from scipy.special import log_softmax

    rows, classes = logits_BK.shape
    log_p_BK = log_softmax(scale * logits_BK, axis=1)
    shares_BK = labels if labels.ndim == 2 else np.eye(classes)[labels.astype(np.int64)]
    total_B = ((rows * shares_BK + 1) * log_p_BK).sum(1)
    return -float(total_B.mean()) / float(rows + classes)


def label_loss(logits: Labels, labels: Labels, scale: float, bias: float = 0.0) -> float:
    """Returns the mean cross-entropy of yes/no predictions whose logits are ``scale * logits + bias``, in nats.

    Each element of ``labels`` is the true share of ``yes``, usually 1 or 0, or ``nan`` if it is unknown. Shares are
    smoothed before they are used. ``logits`` and ``labels`` have the same shape, ``[B]`` or ``[B, K]``.
    """
    from scipy.special import log_expit

    known = ~np.isnan(labels)
    logits, labels = scale * logits[known] + bias, labels[known]
    rows = max(len(labels), 1)
    target = (rows * labels + 1) / (rows + 2)
    total = float((target * log_expit(logits) + (1 - target) * log_expit(-logits)).sum())
    return -total / rows


def _platt(logits_B: Labels, labels_B: Labels) -> tuple[Labels, ...]:
    from scipy.optimize import minimize
    from scipy.special import expit

    target_B = (len(labels_B) * labels_B + 1) / (len(labels_B) + 2)

    def loss_and_slope(numbers: Labels) -> tuple[float, Labels]:
        scale, bias = float(np.exp(numbers[0])), float(numbers[1])
        slope_B = expit(scale * logits_B + bias) - target_B
        slope = np.array([scale * (slope_B * logits_B).mean(), slope_B.mean()])
        return label_loss(logits_B, labels_B, scale, bias), slope

    limits = [tuple(np.log(LIMITS["scale"])), LIMITS["bias"]]
    exact = {"ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss_and_slope, [0.0, 0.0], jac=True, bounds=limits, method="L-BFGS-B", options=exact)
    return np.exp(found.x[0]), found.x[1]


def _isotonic(logits_B: Labels, labels_B: Labels) -> tuple[Labels, ...]:
    """Fits a function from logit to probability that never falls, and returns its knots, ``[2, KNOTS]``.

    Row 0 holds logits, and row 1 probabilities. If there are fewer than ``KNOTS`` knots, the last one is repeated.
    """
    from sklearn.isotonic import IsotonicRegression

    target_B = (len(labels_B) * labels_B + 1) / (len(labels_B) + 2)
    found = IsotonicRegression().fit(logits_B, target_B)
    knots_2Q = np.stack([found.X_thresholds_, found.y_thresholds_]).astype(np.float64)
    if knots_2Q.shape[1] > KNOTS:
        knots_2Q = knots_2Q[:, np.linspace(0, knots_2Q.shape[1] - 1, KNOTS).round().astype(np.int64)]
    return (np.pad(knots_2Q, ((0, 0), (0, KNOTS - knots_2Q.shape[1])), mode="edge"),)


TEMPERATURE_OF_CLASSES = Calibration(("scale",), _temperature(class_loss))
TEMPERATURE_OF_LABELS = Calibration(("scale",), _temperature(label_loss))
PLATT = Calibration(("scale", "bias"), _platt)
ISOTONIC = Calibration(("knots",), _isotonic)

# What is fitted, for each kind of predictions.
CLASSES = Fits(calibrations={True: TEMPERATURE_OF_CLASSES, "isotonic": TEMPERATURE_OF_CLASSES})
YES_OR_NO = Fits(calibrations={True: PLATT, "isotonic": ISOTONIC})
COSINE_OF_YES_OR_NO = Fits(threshold=most_accurate, needed=True)
SETS = Fits(threshold=best_f1_of_each, calibrations={True: TEMPERATURE_OF_LABELS, "isotonic": TEMPERATURE_OF_LABELS})
