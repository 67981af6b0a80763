"""Numbers fitted on held-out rows: the threshold above which an answer is "yes", and the calibration of probabilities.

``thresholds.py`` and ``calibration.py`` have the functions that fit them. Rows are weighted, as in losses: a row of
weight 0 counts for nothing.

Dimension key: B examples, K logits of one example, Q points of a calibration curve (knots).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mtbert.answers.calibration import (
    FEWEST_ROWS,
    ISOTONIC,
    LIMITS,
    PLATT,
    TEMPERATURE_OF_CLASSES,
    TEMPERATURE_OF_LABELS,
    Calibration,
    CalibrationName,
    curve,
)
from mtbert.answers.thresholds import FEWEST_OF_LABEL, best_f1_of_each, most_accurate, rare_labels
from mtbert.answers.values import Labels
from mtbert.messages import count, few

if TYPE_CHECKING:
    from torch import Tensor

FittedName = Literal["threshold"] | CalibrationName  # numbers that are fitted on held-out rows
Calibrate = Literal[False, True, "isotonic"]  # the setting train.calibrate
ThresholdFit = Callable[[Labels, Labels, Labels], float | Labels]  # of predictions, labels and weights; number or [K]


@dataclass(frozen=True)
class Fits:
    """How a run fits the threshold and the calibration for one kind of prediction. By default, it fits neither.

    Attributes:
        threshold: A function that takes the predictions, labels and weights of rows, and returns the best threshold.
            None if the threshold is always 0.
        needed: Whether a run without held-out rows fits the threshold on train rows. If false, a run without held-out
            rows uses the threshold 0.
        calibrations: A dict from values of the setting ``train.calibrate`` to calibrations. It is empty if predictions
            give no probabilities.
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
    values: dict[FittedName, Labels] = {
        "threshold": np.zeros(tuple(shape)),
        "scale": np.array(1.0),
        "bias": np.array(0.0),
        "knots": curve(),
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

    Only operations on tensors are used, so that an exported graph can hold them.

    Args:
        prediction: Logits, ``[B]`` or ``[B, K]``, on the CPU.
        fitted: The fitted numbers of the task's head, by name.
    """
    if "knots" in fitted:
        p_B = _interpolated(prediction.double(), fitted["knots"].double().cpu())
        return (p_B.log() - (-p_B).log1p()).to(prediction.dtype)
    if "scale" in fitted:
        prediction = prediction * fitted["scale"].cpu()
    return prediction + fitted["bias"].cpu() if "bias" in fitted else prediction


def row_weights(rows: int, weights_B: Labels | None) -> Labels:
    """Returns the weights of rows, scaled so that their sum is the effective number of rows.

    The effective number is ``sum(w)**2 / sum(w**2)``. A mean over the weighted rows is as precise as a mean over this
    number of rows with equal weights. Source: Kish, "Survey Sampling", 1965. If ``weights_B`` is None, all rows count
    the same.

    >>> float(row_weights(3, np.array([2.0, 2.0, 0.0])).sum()), float(row_weights(3, None).sum())
    (2.0, 3.0)
    """
    if weights_B is None:
        return np.ones(rows)
    parts_B: Labels = weights_B / (weights_B.max(initial=0.0) or 1.0)  # so that no square overflows
    scaled_B: Labels = parts_B * (parts_B.sum() / max((parts_B**2).sum(), 1.0))
    return scaled_B


def _interpolated(x_B: Tensor, knots_2Q: Tensor) -> Tensor:
    """Returns the linear interpolation between knots at each ``x_B``. Outside the knots, the value is constant.

    Row 0 of ``knots_2Q`` holds the x-coordinates of the knots, in rising order; row 1 holds their y-coordinates.
    """
    x_Q, y_Q = knots_2Q
    # searchsorted would be faster, but it has no counterpart in ONNX.
    before_B = (x_B.unsqueeze(-1) >= x_Q[1:-1]).sum(-1)  # the knot at or before x, but at most the last but one
    x0_B, x1_B, y0_B, y1_B = x_Q[before_B], x_Q[before_B + 1], y_Q[before_B], y_Q[before_B + 1]
    width_B = x1_B - x0_B
    share_B = ((x_B - x0_B) / width_B.where(width_B > 0, 1.0)).clamp(0, 1)
    y_B: Tensor = y0_B + share_B.where(width_B > 0, (x_B >= x0_B).double()) * (y1_B - y0_B)
    return y_B


def fit_numbers(
    fits: Fits,
    names: Sequence[FittedName],
    prediction: Labels,
    labels: Labels,
    weights_B: Labels | None = None,
) -> dict[FittedName, Labels]:
    """Fits a threshold, the parameters of a calibration, or both to held-out rows. Returns the fitted values by name.

    ``names`` says what to fit. ``prediction``, ``labels`` and ``weights_B`` belong to the held-out rows.
    Without weights, all rows count the same. On fewer than ``FEWEST_ROWS`` rows, the calibration changes no prediction.
    """
    import torch

    weights_B = row_weights(len(labels), weights_B)
    counts_B = weights_B > 0
    prediction, labels, weights_B = prediction[counts_B], labels[counts_B], weights_B[counts_B]
    found: dict[FittedName, Labels] = {}
    calibration = next((c for c in fits.calibrations.values() if set(c.names) <= set(names)), None)
    if calibration is not None and weights_B.sum() < FEWEST_ROWS:
        found = start(calibration.names, ())
    elif calibration is not None:
        fitted = zip(calibration.names, calibration.fit(prediction, labels, weights_B), strict=True)
        # Rounded as they will be stored, so that the threshold fits what is compared with it.
        found = {name: np.asarray(number, np.float32).astype(np.float64) for name, number in fitted}
        tensors = {name: torch.from_numpy(number) for name, number in found.items()}
        prediction = calibrated(torch.from_numpy(prediction), tensors).numpy()
    if fits.threshold is not None and "threshold" in names:
        found["threshold"] = np.asarray(fits.threshold(prediction, labels, weights_B), np.float64)
    return found


def doubts(
    fits: Fits,
    calibrate: Calibrate,
    names: Sequence[str] | None,
    labels: Labels,
    weights_B: Labels | None = None,
) -> list[str]:
    """Returns a warning for each threshold or calibration for which too few rows are held out.

    Args:
        fits: The threshold and the calibrations that can be fitted for the predictions of the task.
        calibrate: The setting ``train.calibrate``.
        names: The names of the task's labels.
        labels: The labels of the held-out rows.
        weights_B: The weights of these rows; None if all count the same.
    """
    rows = float(row_weights(len(labels), weights_B).sum())
    held_out = count(len(labels), "held-out row") + (
        "" if weights_B is None else f", worth {rows:.3g} by their weights"
    )
    found = []
    calibration = fits.calibrations.get(calibrate)
    if calibration is not None and rows < FEWEST_ROWS:
        found.append(
            f"{held_out}: a calibration needs {FEWEST_ROWS}, so probabilities stay as they are. Raise "
            "train.held_out, or drop train.calibrate."
        )
    elif calibration is not None and rows < calibration.fewest:
        found.append(
            f"{held_out}: an isotonic function needs {calibration.fewest}, so Platt's method takes its place. Raise "
            "train.held_out, or set train.calibrate: true."
        )
    if fits.needed and rows < FEWEST_ROWS:
        found.append(
            f"{held_out}: with fewer than {FEWEST_ROWS}, the threshold is left to chance. Raise train.held_out."
        )
    if fits.threshold is best_f1_of_each:
        rare = [name for name, is_rare in zip(names or (), rare_labels(labels), strict=True) if is_rare]
        if rare:
            found.append(
                f"{held_out}: fewer than {FEWEST_OF_LABEL} have, or lack, {few(rare, quoted=True)}, so these labels "
                "keep the threshold of a probability of 0.5. Raise train.held_out."
            )
    return found


# What is fitted, for each kind of predictions.
CLASSES = Fits(calibrations={True: TEMPERATURE_OF_CLASSES, "isotonic": TEMPERATURE_OF_CLASSES})
YES_OR_NO = Fits(calibrations={True: PLATT, "isotonic": ISOTONIC})
COSINE_OF_YES_OR_NO = Fits(threshold=most_accurate, needed=True)
SETS = Fits(threshold=best_f1_of_each, calibrations={True: TEMPERATURE_OF_LABELS, "isotonic": TEMPERATURE_OF_LABELS})
