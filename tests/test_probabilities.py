"""Negative log-likelihood and expected calibration error, against literals and a slow reference.

Dimension key: B examples, K numbers of one answer.
"""

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from mtbert import metrics
from mtbert.answers.probabilities import calibration_error, of_classes, of_labels, reliability
from mtbert.task import Head, Task

CLASSES = Task(name="c", type="classification", inputs="single", labels=("a", "b", "c"))
YES_NO = Task(name="b", type="binary", inputs="single", labels=("no", "yes"))
TOPICS = Task(name="t", type="multilabel", inputs="single", labels=("x", "y"))
COSINE = Task(name="k", type="binary", inputs="separate", labels=("no", "yes"), head=Head(kind="cosine"))
SCORES = Task(name="s", type="regression", inputs="single", range=(1.0, 5.0))


def logits(p: float) -> float:
    return math.log(p / (1 - p))


def slow_error(p_BK: np.ndarray, labels_B: np.ndarray) -> float:
    """Returns the expected calibration error, bin by bin and row by row."""
    total = 0.0
    for m in range(15):
        rows = [b for b, p_K in enumerate(p_BK) if m / 15 < max(p_K) <= (m + 1) / 15]
        if rows:
            confidence = sum(max(p_BK[b]) for b in rows) / len(rows)
            accuracy = sum(float(p_BK[b].argmax() == labels_B[b]) for b in rows) / len(rows)
            total += len(rows) / len(p_BK) * abs(accuracy - confidence)
    return total


def test_the_calibration_error_of_a_literal_case():
    # 0.9 and 0.91 share the bin from 13/15 to 14/15: accuracy 0.5, confidence 0.905. 0.6 lies on the edge of two bins,
    # and belongs to the lower one, from 8/15 to 9/15, like 0.55: accuracy 1, confidence 0.575.
    prediction_B = np.array([logits(p) for p in (0.9, 0.91, 0.55, 0.4)])
    labels_B = np.array([1.0, 0.0, 1.0, 0.0])
    found = metrics.value(YES_NO, "ece", prediction_B, labels_B)
    assert found == pytest.approx((abs(0.5 - 0.905) + abs(1.0 - 0.575)) / 2)


def test_a_confidence_on_the_edge_of_a_bin_belongs_to_the_lower_bin():
    log_p_NK = np.log(np.array([[0.2, 0.8], [0.79, 0.21], [0.19, 0.81]]))
    counts = reliability(log_p_NK, np.array([0, 0, 1])).counts
    assert counts[11:13].tolist() == [2, 1]  # (11/15, 12/15] and (12/15, 13/15]


@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_is_that_of_the_slow_reference(seed: int):
    rng = np.random.default_rng(seed)
    logits_BK, labels_B = rng.normal(0, 2, (50, 3)), rng.integers(3, size=50).astype(float)
    p_BK = np.exp(logits_BK) / np.exp(logits_BK).sum(1, keepdims=True)
    assert metrics.value(CLASSES, "ece", logits_BK, labels_B) == pytest.approx(slow_error(p_BK, labels_B))


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_is_that_of_scikit_learn(seed: int):
    rng = np.random.default_rng(seed)
    logits_BK, labels_B = rng.normal(0, 2, (50, 3)), rng.integers(3, size=50).astype(float)
    p_BK = np.exp(logits_BK) / np.exp(logits_BK).sum(1, keepdims=True)
    assert metrics.value(CLASSES, "nll", logits_BK, labels_B) == pytest.approx(
        log_loss(labels_B, p_BK, labels=[0, 1, 2])
    )
    yes_B = (labels_B > 0).astype(float)
    p_B = 1 / (1 + np.exp(-logits_BK[:, 0]))
    assert metrics.value(YES_NO, "nll", logits_BK[:, 0], yes_B) == pytest.approx(log_loss(yes_B, p_B))


def test_a_set_is_a_question_for_each_label_that_is_known():
    prediction_BK = np.array([[logits(0.8), logits(0.3)], [logits(0.6), logits(0.9)]])
    labels_BK = np.array([[1.0, 0.0], [0.0, np.nan]])
    expected = -(math.log(0.8) + math.log(0.7) + math.log(0.4)) / 3
    assert metrics.value(TOPICS, "nll", prediction_BK, labels_BK) == pytest.approx(expected)
    # 0.8, 0.7 and 0.6 lie in three bins; the answers are right, right and wrong.
    assert metrics.value(TOPICS, "ece", prediction_BK, labels_BK) == pytest.approx((0.2 + 0.3 + 0.6) / 3)


def test_the_constant_is_the_frequency_of_each_answer():
    labels_B = np.array([0.0, 0.0, 0.0, 1.0])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert metrics.baseline(YES_NO, "nll", labels_B) == pytest.approx(entropy)
    assert metrics.baseline(YES_NO, "ece", labels_B) == 0
    assert str(metrics.baseline(CLASSES, "nll", np.zeros(5))) == "0.0"  # no minus before it
    labels_BK = np.array([[0.0, 1.0], [0.0, np.nan], [0.0, np.nan], [1.0, 1.0]])
    assert metrics.baseline(TOPICS, "nll", labels_BK) == pytest.approx(entropy * 4 / 6)


def test_only_heads_that_give_probabilities_have_these_metrics_and_no_recipe_may_choose_them():
    for task in (CLASSES, YES_NO, TOPICS):
        assert [metric.name for metric in task.metrics[-2:]] == ["nll", "ece"]
        assert all(metric.probabilities for metric in task.metrics[-2:])
        assert not set(task.answer.choosable) & {"nll", "ece"}
    for task in (COSINE, SCORES):
        assert not {metric.name for metric in task.metrics} & {"nll", "ece"}
        with pytest.raises(KeyError):
            task.metric_named("ece")


def test_probabilities_of_huge_logits_stay_finite():
    for options, given, label in ((of_classes, [[1e30, -1e30]], [0.0]), (of_labels, [1e30], [1.0])):
        assert calibration_error(*options(np.array(given), np.array(label))) == 0
    assert metrics.value(YES_NO, "nll", np.array([1000.0]), np.array([0.0])) == 1000
    assert str(metrics.value(YES_NO, "nll", np.array([1000.0]), np.array([1.0]))) == "0.0"
