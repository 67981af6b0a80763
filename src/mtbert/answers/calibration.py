"""Calibrations: functions that are fitted on held-out rows, and then change all logits of a task.

After calibration, answers with a probability of 0.8 should be right in about 8 of 10 cases. The calibrations are:

- temperature: ``scale * logits``, with one number for all classes or labels. The order of the logits does not
  change, so no answer changes. Source: Guo et al., "On Calibration of Modern Neural Networks", 2017; ``scale`` is 1
  divided by their temperature.
- Platt: ``scale * logit + bias``. Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999. Unlike in
  that paper, ``scale`` is above 0 here, so that a higher logit never makes "yes" less probable.
- isotonic: a non-decreasing function of the logit. Its points, the ``knots``, are connected by straight lines. Source:
  Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", 2002. With fewer
  than ``FEWEST_ISOTONIC`` rows, the knots lie on the curve of Platt's method instead.

Two things keep ``scale`` near 1 and ``bias`` near 0 if there are few rows. First, targets are smoothed, as if one more
label were spread evenly over the classes: with ``K`` classes (2 for yes and no), a target ``y`` becomes
``(N * y + 1 / K) / (N + 1)``. ``N`` is the sum of the weights of all known labels. (Platt's paper adds one label for
each class.) Second, ``log(scale)`` and ``bias`` have normal priors with mean 0. ``docs/recipes.md`` has the
measurements behind both.

Rows have weights above 0, ``[B]``. A label has the weight of its row.

SciPy and scikit-learn are imported only when numbers are fitted.

Dimension key: B examples, K classes or labels, Q knots.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mtbert.answers.values import Labels

CalibrationName = Literal["scale", "bias", "knots"]
_Loss = Callable[[Labels, Labels, Labels, float], float]  # of logits, labels, weights of rows, and a scale

KNOTS = 256  # numbers of an isotonic function; one with more knots is thinned out
LIMITS: Mapping[str, tuple[float, float]] = {"scale": (0.01, 100.0), "bias": (-1e4, 1e4)}
PRIOR = {"scale": 0.5, "bias": 1.0}  # standard deviations of log(scale) and of bias
FEWEST_ROWS = 10  # nothing is calibrated on fewer held-out rows
FEWEST_ISOTONIC = 300


@dataclass(frozen=True)
class Calibration:
    """A way to calibrate predictions: a function that fits some numbers, and the names of these numbers.

    ``fit`` takes the predictions, labels and weights of held-out rows, and returns the numbers in the order of
    ``names``. ``fewest`` is the number of rows that ``fit`` needs at least.
    """

    names: tuple[CalibrationName, ...]
    fit: Callable[[Labels, Labels, Labels], tuple[Labels, ...]]
    fewest: int = FEWEST_ROWS


def curve(scale: float = 1.0, bias: float = 0.0) -> Labels:
    """Returns points of the curve ``sigmoid(scale * logit + bias)``, ``[2, KNOTS]``.

    Row 0 holds the logits of the points, and row 1 their probabilities. From the first point to the last, the value of
    ``scale * logit + bias`` goes from -10 to 10 in equal steps.
    """
    calibrated_Q = np.linspace(-10.0, 10.0, KNOTS)
    return np.stack([(calibrated_Q - bias) / scale, 1 / (1 + np.exp(-calibrated_Q))])


def class_loss(logits_BK: Labels, labels: Labels, weights_B: Labels, scale: float) -> float:
    """Returns the sum of the cross-entropies of the logits ``scale * logits_BK`` with the labels, in nats.

    The sum is weighted by ``weights_B``. ``labels`` are indices of classes, ``[B]``, or distributions over classes,
    ``[B, K]``. An index stands for a distribution with the share 1 for its class. Before the cross-entropies are
    computed, each share ``y`` is smoothed to ``(N * y + 1 / K) / (N + 1)``, where ``N`` is the sum of ``weights_B``.
    """
    from scipy.special import log_softmax

    rows, classes = weights_B.sum(), logits_BK.shape[1]
    log_p_BK = log_softmax(scale * logits_BK, axis=1)
    shares_BK = labels if labels.ndim == 2 else np.eye(classes)[labels.astype(np.int64)]
    return -float(weights_B @ ((rows * shares_BK + 1 / classes) * log_p_BK).sum(1) / (rows + 1))


def label_loss(logits: Labels, labels: Labels, weights_B: Labels, scale: float, bias: float = 0.0) -> float:
    """Returns the sum of the cross-entropies of yes/no predictions with the logits ``scale * logits + bias``, in nats.

    Each element of ``labels`` is the true share of ``yes``, usually 1 or 0, or ``nan`` if it is unknown. Shares are
    smoothed before they are used. ``logits`` and ``labels`` have the same shape, ``[B]`` or ``[B, K]``.
    """
    from scipy.special import log_expit

    known = ~np.isnan(labels)
    weights = np.broadcast_to(weights_B.reshape(-1, *[1] * (labels.ndim - 1)), labels.shape)[known]
    logits, target = scale * logits[known] + bias, _smoothed(labels[known], weights)
    return -float(weights @ (target * log_expit(logits) + (1 - target) * log_expit(-logits)))


def _smoothed(labels_N: Labels, weights_N: Labels) -> Labels:
    rows: float = weights_N.sum()
    target_N: Labels = (rows * labels_N + 0.5) / (rows + 1)
    return target_N


def _temperature(loss: _Loss) -> Callable[[Labels, Labels, Labels], tuple[Labels, ...]]:
    """Returns a function that fits the scale by which logits are multiplied.

    It minimises the sum of ``loss`` and a prior that keeps the scale near 1.
    """

    def fit(logits: Labels, labels: Labels, weights_B: Labels) -> tuple[Labels, ...]:
        from scipy.optimize import minimize_scalar

        found = minimize_scalar(
            lambda log_scale: (
                loss(logits, labels, weights_B, np.exp(log_scale)) + (log_scale / PRIOR["scale"]) ** 2 / 2
            ),
            bounds=np.log(LIMITS["scale"]),
            method="bounded",
            options={"xatol": 1e-8},
        )
        return (np.exp(found.x),)

    return fit


def _platt(logits_B: Labels, labels_B: Labels, weights_B: Labels) -> tuple[Labels, ...]:
    from scipy.optimize import minimize
    from scipy.special import expit

    target_B, sd = _smoothed(labels_B, weights_B), np.array([PRIOR["scale"], PRIOR["bias"]])
    rows = weights_B.sum()

    def loss_and_slope(numbers: Labels) -> tuple[float, Labels]:
        scale, bias = float(np.exp(numbers[0])), float(numbers[1])
        slope_B = weights_B * (expit(scale * logits_B + bias) - target_B)
        slope = np.array([scale * (slope_B @ logits_B), slope_B.sum()]) + numbers / sd**2
        loss = label_loss(logits_B, labels_B, weights_B, scale, bias) + ((numbers / sd) ** 2).sum() / 2
        return loss / rows, slope / rows

    limits = [tuple(np.log(LIMITS["scale"])), LIMITS["bias"]]
    exact = {"ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss_and_slope, [0.0, 0.0], jac=True, bounds=limits, method="L-BFGS-B", options=exact)
    return np.exp(found.x[0]), found.x[1]


def _isotonic(logits_B: Labels, labels_B: Labels, weights_B: Labels) -> tuple[Labels, ...]:
    """Fits a function from logit to probability that never falls. Returns a tuple with one array, ``[2, KNOTS]``.

    The array holds the knots of the function: their logits in row 0, and their probabilities in row 1. If the function
    has fewer than ``KNOTS`` knots, the last knot is repeated.
    """
    from sklearn.isotonic import IsotonicRegression

    if weights_B.sum() < FEWEST_ISOTONIC:
        return (curve(*map(float, _platt(logits_B, labels_B, weights_B))),)
    found = IsotonicRegression().fit(logits_B, _smoothed(labels_B, weights_B), sample_weight=weights_B)
    knots_2Q = np.stack([found.X_thresholds_, found.y_thresholds_]).astype(np.float64)
    if knots_2Q.shape[1] > KNOTS:
        knots_2Q = knots_2Q[:, np.linspace(0, knots_2Q.shape[1] - 1, KNOTS).round().astype(np.int64)]
    return (np.pad(knots_2Q, ((0, 0), (0, KNOTS - knots_2Q.shape[1])), mode="edge"),)


TEMPERATURE_OF_CLASSES = Calibration(("scale",), _temperature(class_loss))
TEMPERATURE_OF_LABELS = Calibration(("scale",), _temperature(label_loss))
PLATT = Calibration(("scale", "bias"), _platt)
ISOTONIC = Calibration(("knots",), _isotonic, FEWEST_ISOTONIC)
