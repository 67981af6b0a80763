"""Sets of labels as an answer type: labels, answers, metrics with the best constant, against literals and references.

Dimension key: B examples, K labels.
"""

import json
import re
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from mtbert import metrics
from mtbert.answers import WrongCell
from mtbert.answers.measures_of_sets import together
from mtbert.task import Task

NAN = np.nan
TOPICS = Task(name="t", type="multilabel", inputs="single", labels=("art", "money", "sport"))
LABELS = TOPICS.answer.labels
# Art is right, money is wrong once each way, sport is never said.
SAID = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
GIVEN = np.array([[1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=float)


def drawn(rows: int = 200, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns logits, decisions and labels of random sets. The share ``missing`` of the labels is unknown."""
    rng = np.random.default_rng(0)
    logits_BK = rng.normal(size=(rows, 3))
    labels_BK = (rng.random((rows, 3)) < (0.5, 0.2, 0.05)).astype(float)
    labels_BK[rng.random((rows, 3)) < missing] = NAN
    return logits_BK, (logits_BK > 0.3).astype(int), labels_BK


# Labels -------------------------------------------------------------------------------------------------


def test_a_list_is_all_that_a_row_has_and_an_object_says_what_is_known():
    cells = ['["sport", "art"]', "[]", None, '{"art": 0, "sport": 1}', "{}"]
    expected = [[1, 0, 1], [0, 0, 0], [NAN, NAN, NAN], [0, NAN, 1], [NAN, NAN, NAN]]
    np.testing.assert_array_equal(LABELS.read(TOPICS, cells), expected)


def test_the_labels_follow_from_all_sets_of_train_alone():
    free = TOPICS.model_copy(update={"labels": None})
    columns = [['["b", "a"]', None, '["a", "c"]', "[]"], ['["z"]']]
    assert LABELS.complete(free, columns) == {"labels": ("a", "b", "c")}
    assert LABELS.complete(free, [['["10"]', '["9", "2"]']]) == {"labels": ("2", "9", "10")}
    assert LABELS.complete(TOPICS, columns) == {}
    assert (LABELS.missing(free), LABELS.missing(TOPICS)) == ("labels", None)
    with pytest.raises(ValueError, match="type 'multilabel' needs at least 2 classes, found 1: 'a'"):
        LABELS.complete(free, [['["a"]', "[]"]])


def test_a_name_that_is_no_label_is_told_with_its_row_and_the_nearest():
    said = "'spot' is not one of the classes 'art', 'money', 'sport'. Did you mean 'sport'?"
    with pytest.raises(WrongCell, match=re.escape(said)) as error:
        LABELS.read(TOPICS, ['["art", "money"]', None, '["art", "spot"]'])
    assert error.value.row == 2
    coded = Task(name="t", type="multilabel", inputs="single", labels={"0": "no", "1": "yes"})
    np.testing.assert_array_equal(LABELS.read(coded, ['["1"]']), [[0, 1]])


@pytest.mark.parametrize(
    ("decision", "fits"),
    [
        (SAID, True),
        (SAID[:3], False),
        (SAID[:, :2], False),
        (SAID * 2, False),
        (-SAID, False),
        (SAID.astype(float), False),
        (SAID[:, 0], False),
    ],
)
def test_decisions_fit_by_their_shape_type_and_values(decision: np.ndarray, fits: bool):
    assert LABELS.fits(TOPICS, decision, np.zeros((4, 3))) is fits


def test_answers_have_collapsed_where_nearly_all_are_the_same_set():
    same = np.tile([1, 0, 1], (200, 1))
    assert LABELS.collapsed(same)
    same[:2, 1] = 1
    assert LABELS.collapsed(same)
    same[2, 1] = 1
    assert not LABELS.collapsed(same)
    assert not LABELS.collapsed(SAID)


def test_the_distribution_counts_the_rows_of_each_label_and_how_full_the_sets_are():
    found = LABELS.distribution(TOPICS, np.array([[1, 1, 0], [0, 0, 0], [0, NAN, NAN], [1, 0, 0]]))
    assert found.counts == (("art", 2), ("money", 1), ("sport", 0))
    assert found.numbers == (("labels of a set", 0.75), ("share of empty sets", 0.25), ("share unknown", 2 / 12))
    assert found.classes


def test_names_that_hold_another_separator_are_doubted():
    of = Task(name="t", type="multilabel", inputs="single", labels=("a", "b", "a|b"))
    assert LABELS.doubts(of) == [
        "t: 'a|b' looks like several labels, of 2 in all. Set tasks.t.columns.separator to the sign between them."
    ]
    assert LABELS.doubts(TOPICS) == []


def test_a_set_is_told_by_its_names_with_a_question_mark_where_nobody_knows():
    told = [LABELS.tell(TOPICS, np.array(row)) for row in ([1, 0, 1], [0, 0, 0], [0, NAN, 1])]
    assert told == ["art; sport", "none", "money?; sport"]
    assert LABELS.choices(TOPICS) is None


# Answers ------------------------------------------------------------------------------------------------


def test_people_get_the_list_of_labels_and_the_probability_of_each():
    logits_BK = torch.tensor([[np.log(3), -np.log(4), 0.0], [-1.0, -1.0, -1.0]])
    one, none = TOPICS.predicts.decode(TOPICS, logits_BK, 0.0)
    assert list(one) == ["labels", "p(art)", "p(money)", "p(sport)"]
    assert one == {"labels": ["art"], "p(art)": 0.75, "p(money)": pytest.approx(0.2), "p(sport)": 0.5}
    assert none["labels"] == []


def test_a_set_is_as_wrong_as_it_has_wrong_labels_and_as_probable_as_all_of_them_together():
    p = np.array([[0.75, 0.2, 0.4], [0.5, 0.9, 0.1]])
    decision, labels = np.array([[1, 0, 0], [0, 1, 0]], float), np.array([[1, 1, 1], [NAN, 1, NAN]])
    found = TOPICS.predicts.judge(TOPICS, np.log(p / (1 - p)), decision, labels)
    np.testing.assert_allclose(found.p_B, [0.75 * 0.8 * 0.6, 0.5 * 0.9 * 0.9])
    np.testing.assert_allclose(found.loss_B, [-np.log(0.75 * 0.2 * 0.4), -np.log(0.9)])
    assert (found.distance_B.tolist(), found.wrong_B.tolist()) == ([2.0, 0.0], [True, False])
    np.testing.assert_array_equal(found.answer, decision)


def test_the_divergence_is_the_mean_over_labels():
    a, b = torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[0.0, -2.0, 1.0]])
    sigmoid = 1 / (1 + np.exp(-2.0))
    assert TOPICS.predicts.divergence(a, b).tolist() == pytest.approx([(2 * sigmoid - 1) * 4 / 3])


# Metrics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("micro_f1", 2 * 3 / (4 + 6)),
        ("macro_f1", (1.0 + 0.5 + 0.0) / 3),
        ("exact_match", 0.25),
    ],
)
def test_metrics_of_four_sets(metric: str, value: float):
    assert metrics.value(TOPICS, metric, SAID, GIVEN) == pytest.approx(value)


def test_without_missing_labels_the_metrics_are_those_of_scikit_learn():
    logits_BK, decision_BK, labels_BK = drawn()
    for name in ("micro", "macro"):
        expected = f1_score(labels_BK, decision_BK, average=name, zero_division=0.0)
        assert metrics.value(TOPICS, f"{name}_f1", decision_BK, labels_BK) == pytest.approx(expected)
    expected = average_precision_score(labels_BK, logits_BK, average="macro")
    assert metrics.value(TOPICS, "average_precision", logits_BK, labels_BK) == pytest.approx(expected)


def test_missing_labels_have_no_part_in_any_metric():
    logits_BK, decision_BK, labels_BK = drawn(missing=0.5)
    of_label = [(logits_BK[k, i], decision_BK[k, i], y) for k, i in np.ndindex(200, 3) if (y := labels_BK[k, i]) >= 0]
    known = [~np.isnan(labels_BK[:, i]) for i in range(3)]
    each = [f1_score(labels_BK[known[i], i], decision_BK[known[i], i]) for i in range(3)]
    assert metrics.value(TOPICS, "macro_f1", decision_BK, labels_BK) == pytest.approx(np.mean(each))
    expected = f1_score([y for _, _, y in of_label], [said for _, said, _ in of_label])
    assert metrics.value(TOPICS, "micro_f1", decision_BK, labels_BK) == pytest.approx(expected)
    ranked = [average_precision_score(labels_BK[known[i], i], logits_BK[known[i], i]) for i in range(3)]
    assert metrics.value(TOPICS, "average_precision", logits_BK, labels_BK) == pytest.approx(np.mean(ranked))
    rows = [
        all(np.isnan(y) or y == x for x, y in zip(*row, strict=True))
        for row in zip(decision_BK, labels_BK, strict=True)
    ]
    assert metrics.value(TOPICS, "exact_match", decision_BK, labels_BK) == pytest.approx(np.mean(rows))


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("metric", ["micro_f1", "macro_f1"])
def test_no_constant_set_has_a_higher_f1_than_the_constant_answer(metric: str, missing: float):
    for labels_BK in (drawn(missing=missing)[2], np.where(drawn(missing=missing)[2] == 1, 0.0, 1.0)):
        every = [np.tile(one, (200, 1)) for one in product((0, 1), repeat=3)]
        best = max(metrics.value(TOPICS, metric, one, labels_BK) for one in every)
        assert metrics.baseline(TOPICS, metric, labels_BK) == pytest.approx(best)


def test_the_constant_set_has_the_labels_with_the_largest_share_of_the_rows_that_know_them():
    labels_BK = np.zeros((40, 3))
    labels_BK[:5, 0], labels_BK[5:, 0], labels_BK[:6, 1] = 1, NAN, 1
    # The first label alone: 5 right of 5 said, of 11 given.
    assert metrics.baseline(TOPICS, "micro_f1", labels_BK) == pytest.approx(10 / 16)


def test_the_constant_of_exact_match_is_the_commonest_set_and_of_average_precision_the_share_of_yes():
    labels_BK = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 1], [0, 0, 0]], float)
    assert metrics.baseline(TOPICS, "exact_match", labels_BK) == 0.5
    assert metrics.baseline(TOPICS, "average_precision", labels_BK) == pytest.approx((0.75 + 0 + 0.5) / 3)
    # Most know that the first label is there, so those that do not know it have the same set.
    unknown = np.array([[1, 1, 0]] * 2 + [[NAN, 1, 0]] * 3 + [[0, 0, 0]])
    assert metrics.baseline(TOPICS, "exact_match", unknown) == pytest.approx(5 / 6)


def test_where_all_sets_are_empty_average_precision_is_undefined_and_f1_is_0():
    empty, none = np.zeros((4, 3)), np.zeros((4, 3), int)
    assert metrics.undefined(TOPICS, "average_precision", SAID, empty) == (
        "task t: average_precision where all sets are empty is undefined; reported as 0."
    )
    assert [metrics.value(TOPICS, m, none, empty) for m in ("micro_f1", "macro_f1", "exact_match")] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("metric", ["micro_f1", "macro_f1"])
def test_f1_on_resampled_rows_is_that_of_the_rows_drawn(metric: str):
    _, first_BK, labels_BK = drawn(30, missing=0.2)
    second_BK = 1 - first_BK
    rows_RB = np.random.default_rng(1).integers(30, size=(5, 30))
    counts_RB = np.stack([np.bincount(rows, minlength=30) for rows in rows_RB]).astype(float)
    resampled = TOPICS.metric_named(metric).resampled
    assert resampled is not None
    found_RS = resampled(TOPICS, np.stack([first_BK, second_BK]), labels_BK, counts_RB)
    slow_RS = [
        [metrics.value(TOPICS, metric, one[rows], labels_BK[rows]) for one in (first_BK, second_BK)] for rows in rows_RB
    ]
    np.testing.assert_allclose(found_RS, slow_RS)


# Tables -------------------------------------------------------------------------------------------------


def test_evaluate_shows_each_label_and_the_commonest_pairs():
    by_label, pairs = LABELS.tables(TOPICS, SAID, GIVEN)
    assert by_label.rows == (
        ("art", "1.0000", "1.0000", "1.0000", "2", "2"),
        ("money", "0.5000", "0.5000", "0.5000", "2", "2"),
        ("sport", "0.0000", "0.0000", "0.0000", "2", "0"),
    )
    assert pairs.rows == (("art, money", "1", "1"), ("art, sport", "1", "0"), ("money, sport", "1", "0"))
    alone = LABELS.tables(TOPICS, SAID, np.eye(4, 3))
    assert [part.title for part in alone] == ["t, by label"]


def test_the_commonest_pairs_come_first_and_ten_are_shown():
    given = np.array([[1, 1, 0], [1, 0, 1], [1, 0, 1]], float)
    assert together(np.ones((3, 3), int), given) == [(0, 2, 2, 3), (0, 1, 1, 3)]
    assert len(together(np.ones((2, 9), int), np.ones((2, 9)))) == 10


def test_evaluate_as_json_has_the_same_in_plain_values():
    found = json.loads(json.dumps(LABELS.details(TOPICS, SAID, GIVEN)))
    assert found["by_label"][1] == {
        "label": "money", "precision": 0.5, "recall": 0.5, "f1": 0.5, "examples": 2, "answers": 2
    }  # fmt: skip
    assert found["pairs"][0] == {"labels": ["art", "money"], "examples": 1, "answers": 1}


def test_more_labels_than_fit_a_screen_are_left_to_json():
    many = Task(name="t", type="multilabel", inputs="single", labels=tuple(map(str, range(31))))
    found = LABELS.tables(many, np.ones((2, 31), int), np.ones((2, 31)))
    assert found == ["t: 31 labels, too many for a line each here; --json has them all."]
