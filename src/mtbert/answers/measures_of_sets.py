"""Metrics of answers that are sets of labels, and the counts that they are made from.

Rows in which a label is unknown do not count for this label.

Dimension key: B examples, K labels, S seeds, R resamples.
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt

from mtbert.answers import Array, Labels, Metric, TaskFacts
from mtbert.answers.class_labels import OfClass, share

COMMONEST = 10  # pairs of labels that are shown


def _counted(decision_BK: Array, labels_BK: Labels) -> tuple[Labels, Labels, Labels]:
    """Returns three arrays of zeros and ones, ``[B, K]``: ``right``, ``said`` and ``given``.

    ``said`` is 1 where the label is in the answer. ``given`` is 1 where the label is true. ``right`` is 1 where both
    hold. Where it is unknown whether a label is true, all three arrays are 0.
    """
    given_BK, said_BK = labels_BK == 1, (decision_BK == 1) & ~np.isnan(labels_BK)
    right, said, given = (part.astype(np.float64) for part in (given_BK & said_BK, said_BK, given_BK))
    return right, said, given


def _shares(labels_BK: Labels) -> Labels:
    """Returns for each label the share of rows with the label, ``[K]``. Rows in which it is unknown do not count."""
    return share((labels_BK == 1).sum(0), (~np.isnan(labels_BK)).sum(0))


def by_label(task: TaskFacts, decision_BK: Array, labels_BK: Labels) -> list[OfClass]:
    """Returns a list with the precision, recall and F1 of each label, and with two counts of rows for the label.

    One is the number of rows whose true labels include the label. The other is the number of rows whose answers include
    the label. Rows in which the label is unknown are left out of all numbers.
    """
    right_K, said_K, given_K = (part.sum(0) for part in _counted(decision_BK, labels_BK))
    shares = (share(right_K, said_K), share(right_K, given_K), share(2 * right_K, said_K + given_K))
    return [
        OfClass(label, float(precision), float(recall), float(f1), int(given), int(said))
        for label, precision, recall, f1, given, said in zip(task.labels or (), *shares, given_K, said_K, strict=True)
    ]


def together(decision_BK: Array, labels_BK: Labels) -> list[tuple[int, int, int, int]]:
    """Returns the pairs of labels that most often occur together in the truth, the most frequent pair first.

    Each pair comes as four integers: the index of one label, the index of the other label, the number of rows whose
    true labels include both, and the number of rows whose answers include both.
    """
    _, said_BK, given_BK = _counted(decision_BK, labels_BK)
    given_KK, said_KK = given_BK.T @ given_BK, said_BK.T @ said_BK
    pairs = sorted(combinations(range(len(given_KK)), 2), key=lambda pair: -given_KK[pair])[:COMMONEST]
    return [(i, j, int(given_KK[i, j]), int(said_KK[i, j])) for i, j in pairs if given_KK[i, j]]


# Metrics ----------------------------------------------------------------------------------------------------


def _f1_resampled(decision_SBK: Array, labels_BK: Labels, counts_RB: Labels, *, micro: bool) -> Labels:
    """Returns F1 for each resample and seed, ``[R, S]``: micro F1 if ``micro`` is true, else macro F1.

    In a resample where a label is neither true nor answered anywhere, its F1 is 0.
    """
    found = []
    for decision_BK in decision_SBK:
        parts = [counts_RB @ part for part in _counted(decision_BK, labels_BK)]
        right, said, given = (part.sum(1, keepdims=True) for part in parts) if micro else parts
        found.append(share(2 * right, said + given).mean(1))
    return np.stack(found, 1)


def _f1(decision_BK: Array, labels_BK: Labels, *, micro: bool) -> float:
    once_1B = np.ones((1, len(labels_BK)))
    return float(_f1_resampled(decision_BK[None], labels_BK, once_1B, micro=micro)[0, 0])


def _best_micro_f1(labels_BK: Labels) -> float:
    """Returns the micro F1 of the best constant answer, which consists of the most frequent labels."""
    known_K, given_K = (~np.isnan(labels_BK)).sum(0), (labels_BK == 1).sum(0)
    by_share_K = np.argsort(-_shares(labels_BK), kind="stable")
    said, right = known_K[by_share_K].cumsum(), given_K[by_share_K].cumsum()
    return float(share(2 * right, said + given_K.sum()).max())


def _right(decision_BK: Array, labels_BK: Labels) -> npt.NDArray[np.bool_]:
    right_B: npt.NDArray[np.bool_] = ((decision_BK == labels_BK) | np.isnan(labels_BK)).all(1)
    return right_B


def _exact_match(task: TaskFacts, decision_BK: Array, labels_BK: Labels) -> float:
    return float(_right(decision_BK, labels_BK).mean())


def _commonest(labels_BK: Labels) -> Labels:
    """Returns an array ``[B, K]`` in which each row is the most common set of labels.

    A missing value in ``labels_BK`` counts as the most common value of its label.
    """
    mostly_K = _shares(labels_BK) > 0.5
    sets, counts = np.unique(np.where(np.isnan(labels_BK), mostly_K, labels_BK), axis=0, return_counts=True)
    return np.broadcast_to(sets[counts.argmax()], labels_BK.shape)


def average_precisions(prediction_BK: Array, labels_BK: Labels) -> list[float]:
    """Returns the average precision of each label, or 0 for a label that is 1 in no row.

    Rows in which the label is unknown (``nan``) are left out.
    """
    from sklearn.metrics import average_precision_score

    found = []
    for prediction_B, labels_B in zip(prediction_BK.T, labels_BK.T, strict=True):
        known_B = ~np.isnan(labels_B)
        some = (labels_B == 1).any()
        found.append(float(average_precision_score(labels_B[known_B], prediction_B[known_B])) if some else 0.0)
    return found


MICRO_F1 = Metric(
    "micro_f1",
    lambda task, decision, labels: _f1(decision, labels, micro=True),
    constant=lambda task, labels: _best_micro_f1(labels),
    resampled=lambda task, decisions, labels, counts: _f1_resampled(decisions, labels, counts, micro=True),
)
MACRO_F1 = Metric(
    "macro_f1",
    lambda task, decision, labels: _f1(decision, labels, micro=False),
    constant=lambda task, labels: _f1(np.ones(labels.shape), labels, micro=False),  # yes to all; no gives 0
    resampled=lambda task, decisions, labels, counts: _f1_resampled(decisions, labels, counts, micro=False),
)
EXACT_MATCH = Metric(
    "exact_match",
    _exact_match,
    constant=lambda task, labels: _exact_match(task, _commonest(labels), labels),
    right=_right,
)
AVERAGE_PRECISION = Metric(
    "average_precision",
    lambda task, prediction, labels: float(np.mean(average_precisions(prediction, labels))),
    constant=lambda task, labels: float(_shares(labels).mean()),  # that of equal numbers for all
    undefined=lambda answers, labels: None if (labels == 1).any() else "average_precision where all sets are empty",
    ranks=True,
)
