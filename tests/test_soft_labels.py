"""Soft labels: how votes and shares become distributions, and how answers are scored against them.

Dimension key: B examples, K classes.
"""

import math
import re

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from tiny import CPU

from mtbert import metrics
from mtbert.answers import YES_NO, WrongCell
from mtbert.answers.known import ANSWER_TYPES
from mtbert.answers.soft import cross_entropies, most_voted
from mtbert.answers.thresholds import most_accurate
from mtbert.data import cells
from mtbert.studying import statistics
from mtbert.task import Head, Task

NAN = math.nan
MOOD = Task(name="m", type="classification", inputs="single", labels=("neg", "neu", "pos"), soft="votes")
STARS = Task(name="o", type="ordinal", inputs="single", labels=("1", "2", "3", "4"), soft="votes")
TOXIC = Task(name="b", type="binary", inputs="single", labels=("no", "yes"), soft="votes")
COSINE = Task(name="k", type="binary", inputs="separate", labels=("0", "1"), head=Head(kind="cosine"), soft="votes")


def shares(task: Task) -> Task:
    return task.model_copy(update={"soft": "shares"})


def drawn(rows: int, classes: int, seed: int = 0) -> np.ndarray:
    """Returns random distributions; in a third of the rows two classes share the most votes."""
    counts = np.random.default_rng(seed).integers(0, 4, (rows, classes)).astype(float)
    counts[:, 0] += 1
    counts[::3, :2] = 5
    return counts / counts.sum(1, keepdims=True)


# Cells ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "votes"),
    [
        ([2, "1", 2.0], '["1", "2", "2"]'),
        ("[2, 1, 2]", '["1", "2", "2"]'),
        ("['pos', 'neg']", '["neg", "pos"]'),
        (" pos | neg|pos ", '["neg", "pos", "pos"]'),
        ("pos", '["pos"]'),
        ([True, None, "", NAN], '["true"]'),
        ([], None),
        ("[]", None),
        ("", None),
        (None, None),
        (NAN, None),
    ],
)
def test_a_cell_of_votes_becomes_a_sorted_list_of_labels(cell: object, votes: str | None):
    assert cells.as_votes(cell, "|") == votes
    if votes is not None:
        assert cells.as_votes(votes, "|") == votes  # rows from memory are read twice


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ([0.1, 0.9], "[0.1, 0.9]"),
        ((1, 0), "[1.0, 0.0]"),
        ("[0.1, 0.9]", "[0.1, 0.9]"),
        (0.25, "0.25"),
        ("1e-3", "0.001"),
        ("", None),
        (None, None),
        (NAN, None),
    ],
)
def test_a_cell_of_shares_becomes_a_list_of_numbers_or_a_number(cell: object, found: str | None):
    assert cells.as_shares(cell) == found
    if found is not None:
        assert cells.as_shares(found) == found


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (3, "votes must be a list, found 3. Use columns.label for one label in each row."),
        (False, "votes must be a list, found False. Use columns.label for one label in each row."),
        ([["a"], "b"], "the vote must be one value, found ['a']. Fix or drop the row."),
        ("[a, b]", '\'[a, b]\' is no list. Write it as ["a", "b"], or drop the row.'),
    ],
)
def test_a_cell_that_holds_no_votes_is_refused(cell: object, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        cells.as_votes(cell, ";")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ([0.1, -0.1, 1], "a share must be a number that is at least 0, found -0.1. Fix or drop the row."),
        (["a", 1], "a share must be a number that is at least 0, found 'a'. Fix or drop the row."),
        ([math.inf], "a share must be a number that is at least 0, found inf. Fix or drop the row."),
        ([NAN, 1.0], "a list of shares must hold numbers, found [nan, 1.0]. Fix or drop the row."),
        ([None, 1.0], "a list of shares must hold numbers, found [None, 1.0]. Fix or drop the row."),
        ([], "a list of shares must hold numbers, found []. Fix or drop the row."),
        ([[0.5], 0.5], "the share must be one value, found [0.5]. Fix or drop the row."),
        ("(0.1, 0.9)", "a share must be a number that is at least 0, found '(0.1, 0.9)'. Fix or drop the row."),
        ("pos", "a share must be a number that is at least 0, found 'pos'. Fix or drop the row."),
    ],
)
def test_a_cell_that_holds_no_shares_is_refused(cell: object, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        cells.as_shares(cell)


@pytest.mark.parametrize(
    ("cell", "found"), [("-1", "'-1'"), ("inf", "'inf'"), ([1], "[1]"), ("x", "'x'"), (1e101, "1e+101")]
)
def test_a_weight_is_a_finite_number_that_is_not_negative(cell: object, found: str):
    assert [cells.as_weight(x) for x in (0, "2.5", 1e100, " 1.0 ")] == [0.0, 2.5, 1e100, 1.0]
    assert all(math.isnan(cells.as_weight(x)) for x in (None, "", NAN, "nan"))
    with pytest.raises(ValueError, match=re.escape(f"found {found}.")) as caught:
        cells.as_weight(cell)
    assert ("the weight must be one value, " in str(caught.value)) == isinstance(cell, list)


# Labels -----------------------------------------------------------------------------------------------------


def test_votes_become_the_share_of_each_class_and_of_yes():
    assert MOOD.answer.labels.read(MOOD, ['["neg", "pos", "pos", "pos"]', '["neu"]']).tolist() == [
        [0.25, 0, 0.75],
        [0, 1, 0],
    ]
    np.testing.assert_array_equal(MOOD.answer.labels.read(MOOD, [None, '["neu"]'])[0], [NAN] * 3)
    np.testing.assert_array_equal(TOXIC.answer.labels.read(TOXIC, ['["no", "yes", "no", "no"]', None]), [0.25, NAN])


def test_shares_are_read_in_the_order_of_labels_or_by_name():
    task = shares(MOOD)
    found = task.answer.labels.read(task, ["[0.1, 0.2, 0.7]", '{"pos": 0.5, "neg": 0.5, "neu": 0}', None])
    np.testing.assert_array_equal(found, [[0.1, 0.2, 0.7], [0.5, 0, 0.5], [NAN] * 3])
    coded = task.model_copy(update={"codes": ("c", "a", "b")})
    assert coded.answer.labels.read(coded, ['{"a": 0.25, "b": 0.75, "c": 0.0}']).tolist() == [[0, 0.25, 0.75]]
    yes = shares(TOXIC)
    np.testing.assert_array_equal(yes.answer.labels.read(yes, ["0.25", "[0.75, 0.25]", None]), [0.25, 0.25, NAN])


def test_shares_that_were_rounded_are_scaled_to_sum_to_1():
    task = shares(MOOD)
    (found,) = task.answer.labels.read(task, ["[0.333, 0.333, 0.333]"])
    np.testing.assert_allclose(found, [1 / 3] * 3, rtol=1e-15)


@pytest.mark.parametrize(
    ("task", "cell", "said"),
    [
        (MOOD, '["neg", "post"]', "the vote 'post' is not one of the classes 'neg', 'neu', 'pos'. Did you mean 'pos'?"),
        (shares(MOOD), "[0.5, 0.4, 0.0]", "shares must sum to 1, found 0.5, 0.4, 0.0, which sum to 0.9. Fix or drop"),
        (shares(MOOD), "[0.5, 0.5, 0.002]", "which sum to 1.002."),
        (shares(MOOD), "[0.5, 0.5]", "shares must be 3 numbers, in the order of 'neg', 'neu', 'pos', found 2."),
        (shares(MOOD), "0.7", "shares must be a list of 3 numbers, one for each label, found 0.7."),
        (shares(TOXIC), "1.5", "the share of 'yes' must be at most 1, found 1.5."),
        (
            shares(MOOD),
            '{"neg": 1, "neu": null, "pos": null}',
            "shares must all be given, found none for 'neu', 'pos'.",
        ),
    ],
)
def test_a_cell_that_is_no_distribution_is_named_by_its_row(task: Task, cell: str, said: str):
    with pytest.raises(WrongCell, match=re.escape(said)) as error:
        task.answer.labels.read(task, [None, cell])
    assert error.value.row == 1


def test_the_classes_are_those_that_have_a_vote_in_train():
    open_ = STARS.model_copy(update={"labels": None})
    columns = [['["3", "1"]', None, '["10"]'], ['["7"]']]
    assert open_.answer.labels.complete(open_, columns) == {"labels": ("1", "3", "10")}
    with pytest.raises(ValueError, match=re.escape("type 'ordinal' needs at least 2 classes, found 1: '3'.")):
        open_.answer.labels.complete(open_, [['["3"]']])


def test_soft_labels_are_of_classes():
    with pytest.raises(ValueError, match=re.escape("votes are of classes, so type must be 'classification' or 'ordin")):
        Task(name="t", type="regression", inputs="single", soft="votes")


# Most voted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "first", "nearest"),
    [
        ([0.1, 0.2, 0.7], 2, 2),
        ([0.4, 0.2, 0.4], 0, 0),  # both are as far from the mean, 1
        ([0.4, 0.15, 0.4, 0.05], 0, 2),  # the mean is 1.1
        ([0.3, 0.0, 0.3, 0.2, 0.2], 0, 2),  # the mean is 2
        ([0.4, 0.1, 0.1, 0.4], 0, 0),  # the mean is 1.5, but in float64 it is a little more
        ([NAN, NAN], NAN, NAN),
    ],
)
def test_of_several_most_voted_classes_it_is_the_first_or_the_nearest_to_the_mean(
    label: list[float], first: float, nearest: float
):
    np.testing.assert_array_equal(most_voted(np.array([label]), ordered=False), [first])
    np.testing.assert_array_equal(most_voted(np.array([label]), ordered=True), [nearest])


def test_as_many_votes_for_yes_as_for_no_are_no():
    np.testing.assert_array_equal(most_voted(np.array([0, 0.5, 0.51, 1, NAN]), ordered=False), [0, 0, 1, 1, NAN])


# Metrics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [MOOD, STARS])
def test_accuracy_and_f1_are_against_the_most_voted_class(task: Task):
    labels = drawn(60, len(task.labels or ()))
    decision = np.random.default_rng(1).integers(0, labels.shape[1], 60)
    voted = most_voted(labels, ordered=task.type == "ordinal")
    assert metrics.value(task, "accuracy", decision, labels) == accuracy_score(voted, decision)
    assert metrics.value(task, "macro_f1", decision, labels) == f1_score(voted, decision, average="macro")
    commonest = np.bincount(voted.astype(int)).max() / 60
    assert metrics.baseline(task, "accuracy", labels) == commonest


def test_cross_entropy_is_that_to_the_distribution_and_its_constant_is_the_entropy_of_the_mean():
    labels = drawn(50, 3)
    logits = np.random.default_rng(1).normal(size=(50, 3)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    slow = np.mean([-sum(q[k] * math.log(x[k]) for k in range(3)) for q, x in zip(labels, p, strict=True)])
    assert metrics.value(MOOD, "cross_entropy", logits, labels) == pytest.approx(slow, rel=1e-12)
    mean = labels.mean(0)
    assert metrics.baseline(MOOD, "cross_entropy", labels) == pytest.approx(-np.sum(mean * np.log(mean)), rel=1e-12)
    best = np.broadcast_to(np.log(mean), logits.shape)
    assert metrics.value(MOOD, "cross_entropy", best, labels) == pytest.approx(
        metrics.baseline(MOOD, "cross_entropy", labels)
    )
    assert "cross_entropy" not in MOOD.answer.choosable


def test_cross_entropy_of_shares_of_yes_is_that_of_two_classes_also_for_sure_predictions():
    logits, yes = np.array([0.0, 2.0, 800.0, -800.0]), np.array([0.3, 1.0, 0.25, 0.0])
    two = cross_entropies(np.stack([-logits / 2, logits / 2], 1), np.stack([1 - yes, yes], 1))
    np.testing.assert_allclose(cross_entropies(logits, yes), two, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(two[2:], [600, 0], atol=1e-300)
    assert metrics.value(TOXIC, "cross_entropy", logits, yes) == pytest.approx(two.mean())


def test_a_cosine_has_no_cross_entropy():
    assert [m.name for m in COSINE.metrics] == ["accuracy", "macro_f1", "auc", "average_precision"]
    probabilities = ["ece", "cross_entropy"]  # not nll: cross-entropy is the likelihood of a distribution
    assert [m.name for m in TOXIC.metrics] == ["accuracy", "macro_f1", "auc", "average_precision", *probabilities]


def test_ranks_are_compared_with_the_most_voted_class():
    logits, yes = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.9, 0.2, 0.8])
    assert metrics.value(TOXIC, "auc", logits, yes) == 0.75
    one = np.array([0.9, 0.6, 0.7, 0.8])
    assert metrics.undefined(TOXIC, "auc", logits, one) == (
        "task b: auc where all labels are equal is undefined; reported as 0.5."
    )


def test_resampled_accuracy_equals_the_slow_one():
    labels = drawn(30, 4)
    answers = np.random.default_rng(1).integers(0, 4, (2, 30))
    found = statistics.resample(STARS, "accuracy", answers, labels, 20)
    hard = STARS.model_copy(update={"soft": None})
    np.testing.assert_array_equal(
        found, statistics.resample(hard, "accuracy", answers, most_voted(labels, ordered=True), 20)
    )


# Shown ------------------------------------------------------------------------------------------------------


def test_an_answer_is_judged_by_the_most_voted_class_and_its_loss_by_the_distribution():
    logits = np.log([[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25]])
    labels = np.array([[0.3, 0.0, 0.3, 0.4], [0.5, 0, 0.5, 0]])
    found = STARS.predicts.judge(STARS, logits, np.array([0.0, 2.0]), labels)
    assert (found.distance_B.tolist(), found.wrong_B.tolist()) == ([3, 2], [True, True])
    np.testing.assert_allclose(found.p_B, [0.5, 0.25])
    np.testing.assert_allclose(found.loss_B, [math.log(2) * (0.3 + 0.3 * 3 + 0.4 * 3), math.log(4)])


def test_judging_yes_and_no_by_shares_equals_the_hard_judgement_where_all_agree():
    logits, decision, labels = np.array([3.0, -1.0, 0.5]), np.array([1.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0])
    for task in (TOXIC, COSINE):
        hard = task.model_copy(update={"soft": None})
        one, two = (t.predicts.judge(t, logits, decision, labels) for t in (task, hard))
        for field in ("distance_B", "wrong_B", "loss_B"):
            np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    half = TOXIC.predicts.judge(TOXIC, np.zeros(1), np.zeros(1), np.array([0.5]))
    assert (half.distance_B[0], half.loss_B[0]) == (0, pytest.approx(math.log(2)))


def test_labels_and_answers_are_shown_as_classes():
    kind = STARS.answer.labels
    assert kind.tell(STARS, np.array([0.0, 0.2, 0.5, 0.3])) == 2.0
    assert kind.tell(STARS, 3.0) == 3.0
    assert [TOXIC.answer.labels.tell(TOXIC, x) for x in (0.2, 0.7, 1.0)] == [0.0, 1.0, 1.0]
    labels, decision = np.array([[1, 0, 0], [0.2, 0.8, 0], [0.2, 0.2, 0.6]]), np.array([0, 1, 1])
    assert MOOD.answer.labels.details(MOOD, decision, labels)["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    hard = MOOD.model_copy(update={"soft": None})
    voted = np.array([0.0, 1.0, 2.0])
    assert MOOD.answer.labels.tables(MOOD, decision, labels) == hard.answer.labels.tables(hard, decision, voted)


def test_data_check_counts_most_voted_labels_and_tells_how_much_annotators_agree():
    found = MOOD.answer.labels.distribution(MOOD, np.array([[0.5, 0, 0.5], [0, 0.25, 0.75], [NAN, NAN, NAN]]))
    assert found.counts == (("neg", 1), ("neu", 0), ("pos", 1))
    names, (agreement, entropy) = zip(*found.numbers, strict=True)
    assert names == ("agreement, mean", "entropy, mean")
    assert agreement == 0.625
    assert entropy == pytest.approx((math.log(2) + 0.25 * math.log(4) + 0.75 * math.log(4 / 3)) / 2)
    yes = TOXIC.answer.labels.distribution(TOXIC, np.array([0.5, 0.75]))
    assert yes.counts == (("no", 1), ("yes", 1))
    assert yes.numbers[0][1] == 0.625


def test_a_threshold_is_fitted_to_the_most_voted_class():
    assert most_accurate(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 0.45, 0.55, 0.9]), np.ones(4)) == pytest.approx(
        0.25
    )


def test_a_share_of_yes_is_not_a_yes():
    for task in (TOXIC, COSINE):
        assert YES_NO not in task.predicts.feeds
        assert set(task.predicts.feeds) == set(task.model_copy(update={"soft": None}).predicts.feeds) - {YES_NO}


def test_soft_types_decide_and_decode_as_hard_ones():
    for name in ("classification", "ordinal", "binary"):
        hard = ANSWER_TYPES[name]
        assert hard.soft is not None
        assert hard.soft.soft is None
        assert hard.soft.choosable == hard.choosable
    assert MOOD.predicts.decide(torch.tensor([[0.1, 0.3, 0.2]], device=CPU), 0.0).tolist() == [1]
