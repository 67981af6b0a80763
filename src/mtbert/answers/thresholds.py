"""Functions that find thresholds on held-out rows. A prediction above the threshold means "yes".

Each function takes predictions, labels, and a weight for each row. Weights are above 0, and only their ratios matter.

Dimension key: B examples, K labels that a task may assign.
"""

import numpy as np
import numpy.typing as npt

from mtbert.answers.values import Labels

FEWEST_OF_LABEL = 5  # a label of a set keeps its threshold if fewer held-out rows have it, or fewer lack it
EQUAL = 1e-12  # the largest relative difference of two equal sums of weights, which differ by rounding


def most_accurate(predictions_B: Labels, labels_B: Labels, weights_B: Labels) -> float:
    """Returns the threshold between ``no`` and ``yes`` at which wrongly answered examples have the least total weight.

    Labels are shares of ``yes``; a share above 0.5 counts as ``yes``. Predictions are cosines, and the threshold is the
    midpoint of two neighbouring predictions. If several midpoints are equally good, the lowest is returned. The result
    is -2 or 2 if it is best to give all examples the same answer.
    """
    in_order = np.argsort(predictions_B, kind="stable")
    predictions_B, weights_B, yes_B = predictions_B[in_order], weights_B[in_order], labels_B[in_order] > 0.5
    # The weight of right answers if the first i examples are called 0 and the others 1.
    no, yes = np.cumsum(weights_B * ~yes_B), np.cumsum((weights_B * yes_B)[::-1])[::-1]
    right = np.concatenate([[0], no]) + np.concatenate([yes, [0]])
    right[1:-1][predictions_B[:-1] == predictions_B[1:]] = -1  # no threshold separates equal predictions
    edges = np.concatenate(
        [[-2.0], (predictions_B[:-1] + predictions_B[1:]) / 2, [2.0]]
    )  # not 1: rounding gives cosines of 1.0000001
    return float(edges[_best(right)[0]])


def best_f1_of_each(logits_BK: Labels, labels_BK: Labels, weights_B: Labels) -> Labels:
    """Returns for each label the threshold that gives it the highest F1, ``[K]``.

    These thresholds also give the highest macro F1. If several thresholds are equally good, the one nearest to 0 is
    taken. A label that :func:`rare_labels` marks keeps the threshold 0. Unknown labels (``nan``) do not count.
    """
    rare_K = rare_labels(labels_BK)
    columns = zip(logits_BK.T, labels_BK.T, rare_K, strict=True)
    return np.array([0.0 if rare else _best_f1(x_B, y_B, weights_B) for x_B, y_B, rare in columns])


def rare_labels(labels_BK: Labels) -> npt.NDArray[np.bool_]:
    """Returns a mask of the rare labels, ``[K]``.

    The column of a rare label has fewer than ``FEWEST_OF_LABEL`` ones, or fewer than ``FEWEST_OF_LABEL`` zeros.
    """
    fewest_K = np.minimum((labels_BK == 1).sum(0), (labels_BK == 0).sum(0))
    return np.asarray(fewest_K < FEWEST_OF_LABEL)


def _best_f1(logits_B: Labels, labels_B: Labels, weights_B: Labels) -> float:
    known_B = ~np.isnan(labels_B)
    down = np.argsort(-logits_B[known_B], kind="stable")
    logits_B, weights_B, yes_B = logits_B[known_B][down], weights_B[known_B][down], labels_B[known_B][down] == 1
    # After row i, the first i + 1 rows get the label.
    given_B = weights_B * yes_B
    f1_B = 2 * np.cumsum(given_B) / (np.cumsum(weights_B) + given_B.sum())
    f1_B[:-1][logits_B[:-1] == logits_B[1:]] = -1  # no threshold separates equal logits
    edges_B = np.append((logits_B[:-1] + logits_B[1:]) / 2, logits_B[-1] - 1)
    best = _best(f1_B)
    return float(edges_B[best[np.abs(edges_B[best]).argmin()]])


def _best(scores: Labels) -> npt.NDArray[np.int64]:
    """Returns all indices at which ``scores`` has its maximum. Differences due to rounding are ignored."""
    return np.flatnonzero(scores >= scores.max() * (1 - EQUAL))
