"""The metrics for tasks with classes and for tasks with scores.

They use scikit-learn and SciPy, which are imported on first use.

Dimension key: B examples, S seeds, R resamples.
"""

import numpy as np
import numpy.typing as npt

from mtbert.answers import Array, Labels, Metric, TaskFacts


def _right(decision_B: Array, labels_B: Labels) -> npt.NDArray[np.bool_]:
    right_B: npt.NDArray[np.bool_] = decision_B == labels_B
    return right_B


def _accuracy(task: TaskFacts, decision_B: Array, labels_B: Labels) -> float:
    return float(np.mean(_right(decision_B, labels_B)))


def _macro_f1(task: TaskFacts, decision_B: Array, labels_B: Labels) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels_B, decision_B, average="macro", zero_division=0.0))


def _auc(task: TaskFacts, prediction_B: Array, labels_B: Labels) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels_B, prediction_B))


def _average_precision(task: TaskFacts, prediction_B: Array, labels_B: Labels) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels_B, prediction_B))


def _pearson(task: TaskFacts, scores_B: Array, labels_B: Labels) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(scores_B, labels_B).statistic)


def _spearman(task: TaskFacts, scores_B: Array, labels_B: Labels) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(scores_B, labels_B).statistic)


def _mae(task: TaskFacts, scores_B: Array, labels_B: Labels) -> float:
    from sklearn.metrics import mean_absolute_error

    low, high = task.range or (0.0, 1.0)
    # Clamped as answers are: no answer lies outside the range.
    return float(mean_absolute_error(labels_B, low + (high - low) * np.clip(scores_B, 0, 1)))


def _most_frequent(labels_B: Labels) -> Labels:
    found, counts = np.unique(labels_B, return_counts=True)
    return np.full_like(labels_B, found[counts.argmax()])


def _one_label(name: str, prediction_B: Array, labels_B: Labels) -> str | None:
    return f"{name} where all labels are equal" if np.ptp(labels_B) == 0 else None


def _constant(scores_B: Array, labels_B: Labels) -> str | None:
    constant = len(labels_B) < 2 or np.ptp(scores_B) == 0 or np.ptp(labels_B) == 0
    return "correlation with a constant" if constant else None


def _pearson_resampled(task: TaskFacts, x_SB: Array, y_B: Labels, counts_RB: Labels) -> Labels:
    """Returns a float64 array with the Pearson correlation for each resample and seed, ``[R, S]``.

    A correlation is 0 if the scores or the labels in the resample are constant. ``counts_RB`` says how often each
    resample contains each example.
    """
    weights_RB = counts_RB / len(y_B)
    x_SB = x_SB.astype(np.float64)
    x_SB = x_SB - x_SB.mean(1, keepdims=True)  # so that the moments lose no digits
    y_B = y_B - y_B.mean()
    mean_x_RS, mean_y_R1 = weights_RB @ x_SB.T, (weights_RB @ y_B)[:, None]
    covariance_RS = weights_RB @ (x_SB * y_B).T - mean_x_RS * mean_y_R1
    variance_RS = (weights_RB @ (x_SB**2).T - mean_x_RS**2) * ((weights_RB @ y_B**2)[:, None] - mean_y_R1**2)
    return np.divide(covariance_RS, np.sqrt(variance_RS), out=np.zeros_like(covariance_RS), where=variance_RS > 1e-24)


ACCURACY = Metric(
    "accuracy",
    _accuracy,
    constant=lambda task, labels_B: _accuracy(task, _most_frequent(labels_B), labels_B),
    right=_right,
)
MACRO_F1 = Metric(
    "macro_f1",
    _macro_f1,
    constant=lambda task, labels_B: _macro_f1(task, _most_frequent(labels_B), labels_B),
)
AUC = Metric(
    "auc",
    _auc,
    constant=lambda task, labels_B: 0.5,
    undefined=lambda prediction_B, labels_B: _one_label("auc", prediction_B, labels_B),
    ranks=True,
)
AVERAGE_PRECISION = Metric(
    "average_precision",
    _average_precision,
    constant=lambda task, labels_B: float(np.mean(labels_B == 1)),  # the value if all predictions are equal
    undefined=lambda prediction_B, labels_B: _one_label("average_precision", prediction_B, labels_B),
    ranks=True,
)
# A correlation with a constant counts as 0.
PEARSON = Metric(
    "pearson",
    _pearson,
    constant=lambda task, labels_B: 0.0,
    undefined=_constant,
    lowest=-1.0,
    resampled=_pearson_resampled,
)
SPEARMAN = Metric("spearman", _spearman, constant=lambda task, labels_B: 0.0, undefined=_constant, lowest=-1.0)
MAE = Metric(
    "mae",
    _mae,
    constant=lambda task, labels_B: float(np.mean(np.abs(labels_B - np.median(labels_B)))),
    higher_is_better=False,
)
