"""Metrics and aggregates against literals."""

import numpy as np
import pytest

from mtbert.answers.class_labels import OfClass, by_class, confusion
from mtbert.metrics import aggregate, aggregates, baseline, undefined, value
from mtbert.task import Task

CLASSES = Task(name="c", type="ordinal", inputs="single", labels=("a", "b", "c"))
YES_NO = Task(name="b", type="binary", inputs="single", labels=("no", "yes"))
SCORES = Task(name="s", type="regression", inputs="single", range=(0, 5))


def test_each_type_has_its_metrics_the_default_first():
    assert CLASSES.answer.choosable == ("accuracy", "macro_f1")
    assert YES_NO.answer.choosable == ("accuracy", "macro_f1", "auc", "average_precision")
    assert SCORES.answer.choosable == ("pearson", "spearman")


def test_errors_and_likelihoods_are_reported_but_cannot_be_chosen_because_lower_is_better():
    found = [tuple(metric.name for metric in task.answer.metrics) for task in (SCORES, CLASSES, YES_NO)]
    measured = [(*task.answer.choosable, "nll", "ece") for task in (CLASSES, YES_NO)]
    assert found == [("pearson", "spearman", "mae"), *measured]


# Class 0: precision 2/3, recall 2/3. Class 1: 1/2 and 1. Class 2 is never an answer.
SAID, TRUE = np.array([0, 0, 1, 1, 0]), np.array([0.0, 0.0, 0.0, 1.0, 2.0])


def test_macro_f1_is_the_mean_over_the_classes_there_are():
    assert value(CLASSES, "accuracy", SAID, TRUE) == 0.6
    assert value(CLASSES, "macro_f1", SAID, TRUE) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_each_class_has_precision_recall_f1_and_its_counts_of_examples_and_of_answers():
    third = pytest.approx(2 / 3)
    assert by_class(CLASSES, SAID, TRUE) == [
        OfClass("a", precision=third, recall=third, f1=third, examples=3, answers=3),
        OfClass("b", precision=0.5, recall=1.0, f1=third, examples=1, answers=2),
        OfClass("c", precision=0.0, recall=0.0, f1=0.0, examples=1, answers=0),
    ]


def test_a_class_without_an_example_keeps_its_place_in_the_counts():
    assert [c.examples for c in by_class(CLASSES, np.array([1, 2]), np.array([2.0, 2.0]))] == [0, 0, 2]


def test_the_confusion_matrix_has_a_row_for_each_label_and_a_column_for_each_answer():
    assert confusion(CLASSES, SAID, TRUE) == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_ranks_read_the_raw_numbers_and_not_what_they_decide():
    raw_B, labels_B = np.array([-1.0, -3.0, 4.0, 0.5, -2.0]), np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    # By falling logit: yes, no, yes, yes, no. 4 of 6 pairs of a yes and a no are in order, and the precisions at
    # the three yeses are 1, 2/3 and 3/4.
    assert value(YES_NO, "auc", raw_B, labels_B) == pytest.approx(4 / 6)
    assert value(YES_NO, "average_precision", raw_B, labels_B) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


@pytest.mark.parametrize(("label", "precision"), [(0.0, 0.0), (1.0, 1.0)])
def test_ranks_of_equal_labels_are_those_of_a_constant_with_a_warning(label, precision):
    raw_B, labels_B = np.array([1.0, -2.0, 3.0]), np.full(3, label)
    said = "task b: auc where all labels are equal is undefined; reported as 0.5."
    assert (value(YES_NO, "auc", raw_B, labels_B), undefined(YES_NO, "auc", raw_B, labels_B)) == (0.5, said)
    said = f"task b: average_precision where all labels are equal is undefined; reported as {precision:g}."
    assert value(YES_NO, "average_precision", raw_B, labels_B) == precision
    assert undefined(YES_NO, "average_precision", raw_B, labels_B) == said
    assert undefined(YES_NO, "accuracy", raw_B, labels_B) is None
    assert undefined(YES_NO, "auc", raw_B, np.array([0.0, 1.0, 1.0])) is None


def test_correlations_against_literals():
    scores_B, labels_B = np.array([1.0, 2.0, 3.0, 10.0]), np.array([1.0, 3.0, 2.0, 4.0])
    # Deviations (-3, -2, -1, 6) and (-1.5, 0.5, -0.5, 1.5): 13 / sqrt(50 * 5).
    assert value(SCORES, "pearson", scores_B, labels_B) == pytest.approx(13 / np.sqrt(250))
    assert value(SCORES, "spearman", scores_B, labels_B) == pytest.approx(0.8)


def test_the_mean_error_is_that_of_the_clamped_answers_in_the_range_of_the_task():
    task = SCORES.model_copy(update={"range": (1.0, 5.0)})
    answers_B, labels_B = np.array([0.5, 0.0, 1.5, -2.0]), np.array([2.0, 1.0, 5.0, 2.0])
    # Answers 3, 1, 5 and 1.
    assert value(task, "mae", answers_B, labels_B) == (1 + 0 + 0 + 1) / 4


@pytest.mark.parametrize(
    ("predicted", "labels"),
    [([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]), ([1.0], [2.0])],
)
def test_the_correlation_with_a_constant_is_0_with_a_warning(predicted, labels):
    for metric in ("pearson", "spearman"):
        assert value(SCORES, metric, np.array(predicted), np.array(labels)) == 0.0
        said = undefined(SCORES, metric, np.array(predicted), np.array(labels))
        assert said == "task s: correlation with a constant is undefined; reported as 0."
    assert undefined(SCORES, "mae", np.array(predicted), np.array(labels)) is None


def test_the_baseline_is_the_best_constant_answer():
    labels = np.array([2.0, 0.0, 2.0, 1.0])
    assert baseline(CLASSES, "accuracy", labels) == 0.5
    assert baseline(CLASSES, "macro_f1", labels) == pytest.approx((2 / 3) / 3)
    assert baseline(SCORES, "pearson", labels) == 0.0
    assert baseline(YES_NO, "auc", np.array([1.0, 0.0, 0.0, 0.0])) == 0.5
    assert baseline(YES_NO, "average_precision", np.array([1.0, 0.0, 0.0, 0.0])) == 0.25
    assert baseline(SCORES, "mae", np.array([0.0, 1.0, 5.0])) == pytest.approx(5 / 3)  # always 1, not the mean 2


@pytest.mark.parametrize(
    ("predicted", "expected"), [([1] * 99 + [0], True), ([1] * 98 + [0] * 2, False), ([0] * 50 + [1] * 50, False)]
)
def test_a_task_of_classes_is_collapsed_when_99_percent_are_one(predicted, expected):
    assert CLASSES.answer.labels.collapsed(np.array(predicted)) is expected


@pytest.mark.parametrize(("step", "expected"), [(0.0, True), (0.0015, True), (0.0025, False), (1.0, False)])
def test_scores_are_collapsed_when_they_hardly_differ(step, expected):
    assert SCORES.answer.labels.collapsed(0.5 + step * np.array([0, 1, 0, 1])) is expected


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


def test_a_name_that_is_no_aggregate_is_no_mean():
    with pytest.raises(KeyError, match="sst"):
        aggregate("sst", {"sts": ("pearson", 0.5)})


def test_the_aggregates_are_two_and_each_task():
    assert aggregates(["a", "b"]) == ("overall", "mean", "a", "b")
