"""Thresholds, fitted on held-out rows, against slow references and literals.

Dimension key: B examples, K labels of a set.
"""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit

from mtbert.answers.thresholds import best_f1_of_each, most_accurate, rare_labels


def f1(yes_B: np.ndarray, given_B: np.ndarray, weights_B: np.ndarray) -> float:
    right, both = weights_B @ (yes_B & given_B), weights_B @ yes_B + weights_B @ given_B
    return float(2 * right / both) if both else 0.0


def edges_of(x_B: np.ndarray) -> list[float]:
    return [*((a + b) / 2 for a, b in pairwise(np.unique(x_B))), x_B.min() - 1]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_each_label_gets_the_threshold_of_its_best_f1(seed: int, weighted: bool):
    rng = np.random.default_rng(seed)
    logits_BK = np.round(rng.normal(0, 1, (40, 3)), 1)  # rounded, so that some are equal
    labels_BK = (rng.random((40, 3)) < expit(logits_BK - 1)).astype(float)
    labels_BK[rng.random((40, 3)) < 0.1] = np.nan
    weights_B = rng.uniform(0.1, 5, 40) if weighted else np.ones(40)
    for k, threshold in enumerate(best_f1_of_each(logits_BK, labels_BK, weights_B)):
        known_B = ~np.isnan(labels_BK[:, k])
        x_B, given_B, w_B = logits_BK[known_B, k], labels_BK[known_B, k] == 1, weights_B[known_B]
        if min(given_B.sum(), (~given_B).sum()) < 5:
            assert threshold == 0
            continue
        best = max(f1(x_B > t, given_B, w_B) for t in (-9.0, *x_B))
        assert f1(x_B > threshold, given_B, w_B) == pytest.approx(best)
        as_good = [t for t in edges_of(x_B) if f1(x_B > t, given_B, w_B) == pytest.approx(best)]
        assert abs(threshold) == pytest.approx(min(map(abs, as_good)))


def test_a_label_that_few_rows_have_or_lack_keeps_a_probability_of_one_half():
    x_BK = np.linspace(-3, -1, 10)[:, None].repeat(3, 1)
    four, five = np.arange(10) >= 6, np.arange(10) >= 5
    labels_BK = np.stack([four, ~four, five], 1).astype(float)
    thresholds = best_f1_of_each(x_BK, labels_BK, np.ones(10))
    assert thresholds[:2].tolist() == [0, 0]
    assert -3 < thresholds[2] < -1
    assert rare_labels(labels_BK).tolist() == [True, True, False]
    assert rare_labels(np.where(np.arange(10)[:, None] == 9, np.nan, labels_BK)).tolist() == [True, True, True]


def test_a_threshold_that_is_as_good_up_to_rounding_counts_as_equally_good():
    """Sums of 0.1 or 0.3 in another order differ in their last bits."""
    cosines_B, labels_B = np.arange(12) / 12, np.array([0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1.0])
    assert most_accurate(cosines_B, labels_B, np.full(12, 0.1)) == most_accurate(cosines_B, labels_B, np.ones(12))
    logits_BK, labels_BK = (np.arange(12) - 5.5)[:, None], np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1.0])[:, None]
    assert best_f1_of_each(logits_BK, labels_BK, np.full(12, 0.3)).tolist() == [3.0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_no_other_threshold_of_a_cosine_makes_fewer_errors(seed: int, weighted: bool):
    rng = np.random.default_rng(seed)
    cosines_B = np.round(rng.uniform(-1, 1, 30), 1)
    yes_B = rng.random(30) < expit(3 * cosines_B)
    weights_B = rng.uniform(0.1, 5, 30) if weighted else np.ones(30)
    threshold = most_accurate(cosines_B, yes_B.astype(float), weights_B)

    def right(threshold: float) -> float:
        return float(weights_B @ ((cosines_B > threshold) == yes_B))

    tried = [-2.0, *sorted(edges_of(cosines_B)), 2.0]
    best = max(map(right, tried))
    assert threshold == pytest.approx(next(t for t in tried if right(t) == pytest.approx(best)))
