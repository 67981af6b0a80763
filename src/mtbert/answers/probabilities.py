"""Measures of probabilities: negative log-likelihood, and expected calibration error with its bins.

All answers are brought into one form: questions with options. One array holds the log-probabilities of the options,
``[N, K]``, and another array holds the index of each question's true option, ``[N]``. An example with a class is one
question with ``K`` options. A yes/no example is one question with 2 options. In an example with a set of labels, every
known label is one question with 2 options. The confidence of an answer is the probability of the most probable option.
The answer is right if the most probable option is true.

Dimension key: B examples, N questions, K options or labels, M bins.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtbert.answers import Array, AsOptions, Labels, Metric, TaskFacts

BINS = 15  # of equal width, from 0 to 1


def of_classes(logits_BK: Array, labels_B: Labels) -> AsOptions:
    """Returns the log-probabilities of the classes, ``[B, K]``, and the indices of the true classes, ``[B]``."""
    from scipy.special import log_softmax

    return log_softmax(logits_BK.astype(np.float64), axis=1), labels_B.astype(np.int64)


def of_labels(logits: Array, labels: Labels) -> AsOptions:
    """Returns the log-probabilities of the answers "no" and "yes", ``[N, 2]``, and the true answers, 0 or 1, ``[N]``.

    ``N`` is the number of known labels. ``logits`` and ``labels`` are both ``[B]`` or both ``[B, K]``.
    """
    from scipy.special import log_expit

    known = ~np.isnan(labels)
    logits_N = logits[known].astype(np.float64)
    return np.stack([log_expit(-logits_N), log_expit(logits_N)], 1), labels[known].astype(np.int64)


@dataclass(frozen=True)
class Reliability:
    """How often answers are right, depending on their confidence.

    There are ``M`` bins, and all arrays are ``[M]``. Bin ``m`` holds the answers with a confidence in
    ``(m / M, (m + 1) / M]``. For an empty bin, ``confidence`` and ``accuracy`` are 0.
    """

    counts: npt.NDArray[np.int64]
    confidence: Labels  # mean confidence
    accuracy: Labels  # share of right answers


def reliability(log_p_NK: Labels, true_N: npt.NDArray[np.int64]) -> Reliability:
    """Returns the bins of a reliability diagram for N questions that have K options each.

    ``log_p_NK`` holds the log-probabilities of the options. ``true_N`` holds the index of the true option.
    """
    confidence_N = np.exp(log_p_NK.max(1))
    bin_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts_M = np.bincount(bin_N, minlength=BINS)
    sums = (np.bincount(bin_N, x_N, BINS) for x_N in (confidence_N, log_p_NK.argmax(1) == true_N))
    return Reliability(counts_M, *(sum_M / np.maximum(counts_M, 1) for sum_M in sums))


def calibration_error(log_p_NK: Labels, true_N: npt.NDArray[np.int64]) -> float:
    """Returns the expected calibration error, from 0 to 1.

    The confidence of a prediction is the probability of the chosen option. Predictions are sorted by their confidence
    into ``BINS`` bins of equal width. The error is the distance between a bin's mean confidence and its share of right
    answers, averaged over the bins. The weight of a bin in the average is the number of predictions in the bin.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    bins = reliability(log_p_NK, true_N)
    return float(bins.counts @ np.abs(bins.accuracy - bins.confidence)) / max(len(true_N), 1)


def negative_log_likelihood(log_p_NK: Labels, true_N: npt.NDArray[np.int64]) -> float:
    """Returns the mean of ``-log p`` in nats, where ``p`` is the probability that was predicted for the true option."""
    # Not -mean: if every probability is 1, that is -0.0.
    return 0.0 - float(np.take_along_axis(log_p_NK, true_N[:, None], 1).mean()) if len(true_N) else 0.0


def _entropy(true_N: npt.NDArray[np.int64]) -> float:
    p_K = np.bincount(true_N) / max(len(true_N), 1)
    return 0.0 - float(sum(p * np.log(p) for p in p_K if p > 0))


def _best_constant(labels: Labels) -> float:
    """Returns the negative log-likelihood of the best prediction that is the same for all examples.

    The predicted probability of a class or label is the share of the examples that have the class or label.
    """
    if labels.ndim == 1:
        return _entropy(labels.astype(np.int64))
    known_K = (~np.isnan(labels)).sum(0)
    each_K = [_entropy(x_B[~np.isnan(x_B)].astype(np.int64)) for x_B in labels.T]
    return float(known_K @ each_K / max(known_K.sum(), 1))


def _metrics(options: Callable[[Array, Labels], AsOptions]) -> tuple[Metric, ...]:
    """Returns the two metrics of probabilities, ``nll`` and ``ece``. A recipe cannot choose them as a task's metric.

    The baseline of each metric is its value for the best constant prediction, in which the probability of each class is
    the frequency of the class. The baseline of ``ece`` is 0, the best possible value, although a constant prediction
    cannot tell classes apart. Score tables therefore do not show the baseline of ``ece``.
    """

    def nll(task: TaskFacts, prediction: Array, labels: Labels) -> float:
        return negative_log_likelihood(*options(prediction, labels))

    def ece(task: TaskFacts, prediction: Array, labels: Labels) -> float:
        return calibration_error(*options(prediction, labels))

    def constant(task: TaskFacts, labels: Labels) -> float:
        return _best_constant(labels)

    return (
        # For soft labels, cross-entropy with the whole distribution takes the place of the likelihood of one class.
        Metric("nll", nll, constant, probabilities=True, soft=False, higher_is_better=False),
        Metric("ece", ece, lambda task, labels: 0.0, probabilities=True, beside_constant=False, higher_is_better=False),
    )


METRICS_OF_CLASSES = _metrics(of_classes)
METRICS_OF_LABELS = _metrics(of_labels)
