"""Each answer type's labels, decisions, answers for people, and measures of wrongness, against literals."""

import re

import numpy as np
import pytest
import torch

from mtbert.answers import Judged, WrongCell
from mtbert.answers.thresholds import most_accurate
from mtbert.task import Head, Task

CLASSES = Task(name="c", type="classification", inputs="single", labels=("a", "b", "c"), codes=("0", "1", "2"))
STARS = Task(name="o", type="ordinal", inputs="single", labels=("1", "2", "3"))
YES_NO = Task(name="b", type="binary", inputs="single", labels=("no", "yes"))
COSINE = Task(name="k", type="binary", inputs="separate", labels=("no", "yes"), head=Head(kind="cosine"))
SCORES = Task(name="s", type="regression", inputs="single", range=(1.0, 5.0))
LOG = np.log


def judged(task: Task, prediction: list[object], decision: list[float], labels: list[float]) -> Judged:
    return task.predicts.judge(task, np.array(prediction), np.array(decision), np.array(labels))


def logits(*p: float) -> list[float]:
    return [float(LOG(x)) for x in p]


# Labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "cells", "labels"),
    [
        (CLASSES, ["2", None, "0"], [2.0, np.nan, 0.0]),
        (STARS, ["3", "1", None], [2.0, 0.0, np.nan]),
        (YES_NO, ["yes", "no", None], [1.0, 0.0, np.nan]),
        (SCORES, ["1", None, "4.5"], [1.0, np.nan, 4.5]),
    ],
)
def test_a_column_becomes_labels_with_nan_where_a_cell_is_empty(task: Task, cells: list[str], labels: list[float]):
    np.testing.assert_array_equal(task.answer.labels.read(task, cells), labels)


@pytest.mark.parametrize(
    ("task", "cells", "row", "said"),
    [
        (CLASSES, ["1", "b"], 1, "'b' is not one of the classes '0', '1', '2'."),
        (YES_NO, [None, "no", "no.", "x"], 2, "'no.' is not one of the classes 'no', 'yes'. Did you mean 'no'?"),
        (SCORES, ["1", "5.1"], 1, "5.1 is outside the task's range. Give 1 to 5, or leave the cell empty."),
        (SCORES, ["n/a"], 0, "'n/a' is not a number. Give 1 to 5, or leave the cell empty."),
    ],
)
def test_the_first_cell_that_is_no_label_is_named_by_its_row(task: Task, cells: list[str], row: int, said: str):
    with pytest.raises(WrongCell, match=re.escape(said)) as error:
        task.answer.labels.read(task, cells)
    assert error.value.row == row


def test_a_range_that_follows_from_the_data_names_the_column_of_a_wrong_score():
    free = SCORES.model_copy(update={"range": None})
    assert free.answer.labels.complete(free, [["3", None], ["-1", "2"]]) == {"range": (-1.0, 3.0)}
    assert SCORES.answer.labels.complete(SCORES, [["9"]]) == {}
    with pytest.raises(WrongCell) as error:
        free.answer.labels.complete(free, [["3", "4"], ["1", "2", "x"]])
    assert (error.value.column, error.value.row) == (1, 2)


def test_losses_get_class_indices_and_scores_between_0_and_1():
    labels = np.array([1.0, 2.0, np.nan])
    np.testing.assert_array_equal(CLASSES.answer.labels.targets(CLASSES, labels), labels)
    np.testing.assert_array_equal(SCORES.answer.labels.targets(SCORES, labels), [0.0, 0.25, np.nan])


def test_labels_are_told_in_a_few_words_and_so_is_what_counts_as_wrong():
    tasks = (CLASSES, YES_NO, SCORES, Task(name="s", type="regression", inputs="single"))
    assert [task.answer.labels.summary(task) for task in tasks] == ["a, b, c", "no, yes", "1 to 5", "0 to 1"]
    far = "A score counts as wrong if it is more than 10% of the range away from its label."
    assert [task.answer.labels.wrong for task in tasks] == ["", "", far, far]


def test_a_model_must_know_its_classes():
    bare = {name: Task(name="t", type=name, inputs="single") for name in ("ordinal", "binary", "regression")}
    assert {name: t.answer.labels.missing(t) for name, t in bare.items()} == {
        "ordinal": "labels",
        "binary": "labels",
        "regression": None,
    }
    assert CLASSES.answer.labels.missing(CLASSES) is None


@pytest.mark.parametrize(
    ("task", "decision", "fits"),
    [
        (CLASSES, np.array([0, 2]), True),
        (CLASSES, np.array([0, 3]), False),
        (CLASSES, np.array([-1, 0]), False),
        (CLASSES, np.array([0.0, 2.0]), False),
        (CLASSES, np.array([0, 1, 2]), False),
        (SCORES, np.array([-0.5, 7.0]), True),
        (SCORES, np.array([0.5, np.nan]), False),
        (SCORES, np.array([0, 1]), False),
        (SCORES, np.array([[0.5], [0.5]]), False),
    ],
)
def test_decisions_fit_by_their_shape_type_and_values(task: Task, decision: np.ndarray, fits: bool):
    assert task.answer.labels.fits(task, decision, np.zeros(2)) is fits


def test_the_report_gets_indices_of_classes_and_rounded_scores():
    assert (STARS.answer.labels.choices(STARS), STARS.answer.labels.tell(STARS, 2.0)) == (("1", "2", "3"), 2.0)
    assert (SCORES.answer.labels.choices(SCORES), SCORES.answer.labels.tell(SCORES, 1 / 3)) == (None, 0.3333)


# Predictions -------------------------------------------------------------------------------------------


def test_people_get_a_class_with_probabilities_a_cosine_or_a_score_in_the_range():
    (three,) = CLASSES.predicts.decode(CLASSES, torch.tensor([logits(0.2, 0.5, 0.3)]), 0.0)
    assert list(three) == ["label", "p(a)", "p(b)", "p(c)"]
    assert list(three.values()) == ["b", pytest.approx(0.2), pytest.approx(0.5), pytest.approx(0.3)]
    (two,) = YES_NO.predicts.decode(YES_NO, torch.tensor(logits(0.25 / 0.75)), 0.0)
    assert two == {"label": "no", "p(no)": pytest.approx(0.75), "p(yes)": pytest.approx(0.25)}
    cosines = COSINE.predicts.decode(COSINE, torch.tensor([0.5, 0.75]), 0.6)
    assert cosines == [{"label": "no", "cosine": 0.5}, {"label": "yes", "cosine": 0.75}]
    scores = SCORES.predicts.decode(SCORES, torch.tensor([0.25, 1.5, -1.0]), 0.0)
    assert scores == [{"score": 2.0}, {"score": 5.0}, {"score": 1.0}]


def test_decisions_are_indices_and_unclamped_scores():
    assert CLASSES.predicts.decide(torch.tensor([[0.0, 2.0, 1.0]]), 0.0).tolist() == [1]
    assert COSINE.predicts.decide(torch.tensor([0.59, 0.61]), 0.6).tolist() == [0, 1]
    found = SCORES.predicts.decide(torch.tensor([1.5, -1.0]), 0.0)
    assert (found.tolist(), found.dtype) == ([1.5, -1.0], np.float64)


@pytest.mark.parametrize(
    ("cosines", "labels", "threshold"),
    [
        ([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], 0.4),
        ([0.9, 0.1, 0.6, 0.2], [1, 0, 1, 0], 0.4),
        ([0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1], 0.3),  # equal cosines are not parted; the first best gap
        ([0.1, 0.2], [1, 1], -2.0),
        ([0.1, 0.2], [0, 0], 2.0),
    ],
)
def test_the_best_threshold_is_the_middle_of_the_first_best_gap(cosines: list, labels: list, threshold: float):
    assert most_accurate(np.array(cosines), np.array(labels, float), np.ones(len(labels))) == pytest.approx(threshold)


def test_a_wrong_class_costs_the_surprise_of_its_label():
    found = judged(CLASSES, [logits(0.2, 0.5, 0.3), logits(0.2, 0.5, 0.3)], [1.0, 1.0], [2.0, 1.0])
    assert found.p_B.tolist() == pytest.approx([0.5, 0.5])
    assert found.loss_B.tolist() == pytest.approx([-LOG(0.3), -LOG(0.5)])
    assert (found.distance_B.tolist(), found.wrong_B.tolist()) == ([1.0, 0.0], [True, False])
    yes = judged(YES_NO, logits(0.25 / 0.75), [0.0], [1.0])
    assert (yes.p_B.tolist(), yes.loss_B.tolist()) == (pytest.approx([0.75]), pytest.approx([-LOG(0.25)]))


def test_a_wrong_cosine_costs_its_way_beyond_what_parts_the_answers():
    # 0.2 and 0.4 were called no and 0.8 yes, so 0.6 parts them.
    found = judged(COSINE, [0.2, 0.4, 0.8], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    assert found.loss_B.tolist() == pytest.approx([-0.4, 0.2, -0.2])
    assert (np.isnan(found.p_B).all(), found.wrong_B.tolist()) == (True, [False, True, False])


def test_a_score_is_wrong_beyond_a_tenth_of_the_range():
    found = judged(SCORES, [0.5, 0.5, 9.0], [0.5, 0.5, 9.0], [3.39, 3.41, 5.0])
    assert found.answer.tolist() == [3.0, 3.0, 5.0]
    assert found.distance_B.tolist() == pytest.approx([0.39, 0.41, 0.0])
    assert found.wrong_B.tolist() == [False, True, False]
