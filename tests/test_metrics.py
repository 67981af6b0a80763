"""Metrics and aggregates against literals."""

import numpy as np
import pytest

from mtbert.metrics import aggregate, aggregates, baseline, collapsed, names, score
from mtbert.task import Task

CLASSES = Task(name="c", type="ordinal", inputs="single", labels=("a", "b", "c"))
SCORES = Task(name="s", type="regression", inputs="single", range=(0, 5))


def test_each_type_has_its_metrics_the_default_first():
    assert (names(CLASSES), names(SCORES)) == (("accuracy", "macro_f1"), ("pearson", "spearman"))


def test_macro_f1_is_the_mean_over_the_classes_there_are():
    found = score(CLASSES, np.array([0, 0, 1, 1, 0]), np.array([0.0, 0.0, 0.0, 1.0, 2.0]))
    # Class 0: precision 2/3, recall 2/3. Class 1: 1/2 and 1. Class 2 is never said.
    assert found == {"accuracy": 0.6, "macro_f1": pytest.approx((2 / 3 + 2 / 3 + 0) / 3)}


def test_correlations_against_literals():
    found = score(SCORES, np.array([1.0, 2.0, 3.0, 10.0]), np.array([1.0, 3.0, 2.0, 4.0]))
    # Deviations (-3, -2, -1, 6) and (-1.5, 0.5, -0.5, 1.5): 13 / sqrt(50 * 5).
    assert found == {"pearson": pytest.approx(13 / np.sqrt(250)), "spearman": pytest.approx(0.8)}


@pytest.mark.parametrize(
    ("predicted", "labels"),
    [([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]), ([1.0], [2.0])],
)
def test_the_correlation_with_a_constant_is_0_with_a_warning(predicted, labels):
    with pytest.warns(UserWarning, match=r"^task s: correlation with a constant is undefined; reported as 0\.$"):
        assert score(SCORES, np.array(predicted), np.array(labels)) == {"pearson": 0.0, "spearman": 0.0}


def test_the_baseline_is_the_most_frequent_class_or_no_correlation():
    labels = np.array([2.0, 0.0, 2.0, 1.0])
    assert baseline(CLASSES, "accuracy", labels) == 0.5
    assert baseline(CLASSES, "macro_f1", labels) == pytest.approx((2 / 3) / 3)
    assert baseline(SCORES, "pearson", labels) == 0.0


@pytest.mark.parametrize(
    ("predicted", "expected"), [([1] * 99 + [0], True), ([1] * 98 + [0] * 2, False), ([0] * 50 + [1] * 50, False)]
)
def test_a_task_of_classes_is_collapsed_when_99_percent_are_one(predicted, expected):
    assert collapsed(CLASSES, np.array(predicted)) is expected


@pytest.mark.parametrize(("step", "expected"), [(0.0, True), (0.0015, True), (0.0025, False), (1.0, False)])
def test_scores_are_collapsed_when_they_hardly_differ(step, expected):
    assert collapsed(SCORES, 0.5 + step * np.array([0, 1, 0, 1])) is expected


@pytest.mark.parametrize(
    ("sst", "quora", "sts", "overall"), [(0.505, 0.900, 0.809, 0.770), (0.519, 0.899, 0.868, 0.784)]
)
def test_the_overall_score_is_that_of_the_papers_table_4(sst, quora, sts, overall):
    scores = {"sst": ("accuracy", sst), "quora": ("accuracy", quora), "sts": ("pearson", sts)}
    assert round(aggregate("overall", scores), 3) == overall
    assert aggregate("mean", scores) == pytest.approx((sst + quora + sts) / 3)
    assert aggregate("sts", scores) == sts


def test_a_rank_correlation_is_mapped_too():
    assert aggregate("overall", {"s": ("spearman", -1.0), "c": ("macro_f1", 0.5)}) == 0.25


def test_the_aggregates_are_two_and_each_task():
    assert aggregates(["a", "b"]) == ("overall", "mean", "a", "b")
