"""The answers of each type to what others ask its labels: texts, columns, votes, conflicts, counts of classes."""

import re
from typing import Any

import numpy as np
import pytest

from mtbert.answers.known import ANSWER_TYPES
from mtbert.data.tables import Columns
from mtbert.ragged import Ragged
from mtbert.task import Task

NAN = float("nan")
NAMES = {"binary": ("no", "yes"), "regression": None, "ranking": None, "tokens": ("O", "B-x", "I-x")}
# Two rows with the texts "a", "b" and one each with "b", "a" and "a", "c".
TEXTS = np.array([[0, 0, 1, 0], [1, 1, 0, 2]])
ROWS = np.array([0, 0, 1, 2])


def task(type_: str, **more: Any) -> Task:
    head, inputs = ("cosine", "separate") if type_ == "ranking" else ("linear", "single")
    labels = NAMES.get(type_, ("a", "b", "c"))
    return Task(**{"name": "t", "type": type_, "inputs": inputs, "head": head, "labels": labels} | more)


def conflicts(asked: Task, labels: Any) -> int:
    return asked.answer.labels.conflicts(TEXTS, ROWS, labels).number


# Texts and columns ------------------------------------------------------------------------------------------


def test_inputs_say_how_many_texts_an_example_has_unless_it_is_a_ranking():
    inputs = ("single", "packed", "separate")
    for name, answer in ANSWER_TYPES.items():
        expected = [None] * 3 if name == "ranking" else [1, 2, 2]
        assert [answer.labels.texts(each) for each in inputs] == expected


def test_only_tags_are_labels_of_words():
    assert {name for name, answer in ANSWER_TYPES.items() if answer.labels.per == "word"} == {"tokens"}
    assert task("tokens").reads_words
    assert not task("binary").reads_words


@pytest.mark.parametrize(
    ("type_", "given", "label", "separator"),
    [
        ("binary", {"label": "y"}, "y", None),
        ("ordinal", {"votes": "v", "separator": "|"}, None, "|"),
        ("multilabel", {}, "label", ";"),
        ("multilabel", {"separator": ","}, "label", ","),
        ("multilabel", {"label": ("a", "b")}, ("a", "b"), ";"),
        ("ranking", {"text": ("q", "r", "w")}, (), None),
        ("tokens", {"label": "tags"}, "tags", None),
    ],
)
def test_a_type_settles_the_columns_of_its_labels(type_: str, given: dict[str, Any], label: Any, separator: str | None):
    found = Columns(**given).read_by(ANSWER_TYPES[type_])
    assert (found.label, found.separator, found.words) == (label, separator, type_ == "tokens")


@pytest.mark.parametrize(
    ("type_", "given", "said"),
    [
        ("binary", {"label": ()}, "label names no column. Name one."),
        ("multilabel", {"label": ()}, "label names no column. Name one."),
        ("tokens", {"label": ()}, "label names no column. Name one."),
        (
            "ordinal",
            {"label": ("a", "b")},
            "label: ['a', 'b'] is for sets of labels, found type 'ordinal'. Use columns.votes or columns.shares.",
        ),
        ("tokens", {"label": ("a", "b")}, "label: ['a', 'b'] is for sets of labels, found type 'tokens'. Drop it."),
        ("regression", {"separator": "|"}, "separator: '|' is for sets of labels, found type 'regression'. Drop it."),
        (
            "binary",
            {"votes": ("a", "b"), "separator": "|"},
            "separator: '|' is for sets of labels, found type 'binary'. Drop it.",
        ),
        ("tokens", {"weight": "w"}, "weight: weights are of rows, and type 'tokens' has a label for each word."),
        ("ranking", {"text": ("q", "r")}, "and of a wrong one or more, found 'q', 'r'. Add a column, or use type: bin"),
        ("ranking", {"text": ("q", "r", "w"), "label": "y"}, "label: 'y' is not for type 'ranking', where the first"),
    ],
)
def test_columns_that_cannot_hold_the_labels_of_a_type_are_refused(type_: str, given: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        Columns(**given).read_by(ANSWER_TYPES[type_])


# Labels -----------------------------------------------------------------------------------------------------


def test_votes_are_counted_where_labels_come_from_votes():
    cells = ['["a", "a", "b"]', '["c"]', None]
    voted = task("classification", soft="votes")
    assert voted.answer.labels.votes(voted, cells).tolist() == [3.0, 1.0, 0.0]
    shared, plain = task("classification", soft="shares"), task("classification")
    assert shared.answer.labels.votes(shared, ["[1.0, 0.0, 0.0]"]) is None
    assert plain.answer.labels.votes(plain, ["a"]) is None


@pytest.mark.parametrize(
    ("asked", "labels", "found"),
    [
        (task("classification"), np.array([0.0, 2.0, 2.0, NAN]), [1, 0, 2]),
        (task("ordinal"), np.array([0.0, 1.0, 1.0]), [1, 2, 0]),
        (task("binary"), np.array([1.0, 1.0]), [0, 2]),
        (task("ordinal", soft="votes"), np.array([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]), [0.75, 1.25, 0.0]),
        (task("binary", soft="votes"), np.array([0.25, 0.75, NAN]), [1.0, 1.0]),
        (task("multilabel"), np.array([[1.0, 0.0, NAN], [1.0, 1.0, 0.0]]), [[0, 2], [1, 1], [1, 0]]),
        (task("tokens"), Ragged.of([[0, 1], [], [2, 0, 0]]), [3, 1, 1]),
    ],
)
def test_classes_are_counted_for_balanced_weights(asked: Task, labels: Any, found: list[Any]):
    assert asked.answer.labels.occurrences(asked, labels).tolist() == found


def test_scores_and_rankings_have_no_classes_to_count():
    for asked in (task("regression"), task("ranking")):
        with pytest.raises(NotImplementedError, match=f"type '{asked.type}'"):
            asked.answer.labels.occurrences(asked, np.zeros(2))


@pytest.mark.parametrize(
    ("asked", "same", "different"),
    [
        (task("classification"), [1.0, 1.0], [1.0, 0.0]),
        (task("multilabel"), [[1.0, NAN, 0.0]] * 2, [[1.0, NAN, 0.0], [1.0, 0.0, 0.0]]),
        (task("ordinal", soft="votes"), [[0.5, 0.5, 0.0]] * 2, [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]),
    ],
)
def test_labels_are_uniform_if_all_are_the_same(asked: Task, same: Any, different: Any):
    assert asked.answer.labels.uniform(np.array(same))
    assert not asked.answer.labels.uniform(np.array(different))


def test_tags_are_uniform_if_all_words_have_the_same_and_rankings_never_are():
    tags, ranked = task("tokens").answer.labels, task("ranking").answer.labels
    assert tags.uniform(Ragged.of([[1, 1], [], [1]]))
    assert not tags.uniform(Ragged.of([[1, 1], [2]]))
    assert not ranked.uniform(np.array([[1.0, 0.0]] * 3))


# Conflicts --------------------------------------------------------------------------------------------------


def test_the_same_texts_with_different_labels_are_a_conflict():
    assert conflicts(task("classification"), np.array([0.0, 1.0, 2.0, 2.0])) == 1
    assert conflicts(task("classification"), np.array([0.0, 0.0, 1.0, 2.0])) == 0
    assert conflicts(task("multilabel"), np.array([[1.0, 0, 0], [1.0, 1, 0], [0, 0, 0], [0, 0, 0]])) == 1
    assert conflicts(task("tokens"), Ragged.of([[0, 1], [0, 2], [0], [0]])) == 1
    assert conflicts(task("tokens"), Ragged.of([[0, 1], [0, 1], [0], [0]])) == 0
    found = task("classification").answer.labels.conflicts(TEXTS, ROWS, np.array([0.0, 1.0, 2.0, 2.0]))
    assert found.heading.strip() == "with other labels"
    assert found.warning == (
        "1 pair of texts has different labels in different rows, so no answer is right for all of them."
    )
    assert found.first == (0, 1)
    same = task("classification").answer.labels.conflicts(TEXTS, ROWS, np.array([0.0, 0.0, 1.0, 2.0]))
    assert (same.number, same.first) == (0, None)


def test_soft_labels_of_the_same_texts_may_differ():
    assert conflicts(task("ordinal", soft="votes"), np.eye(4, 3)) == 0


def test_a_wrong_candidate_that_is_right_for_the_same_query_is_a_conflict():
    # One of the first row's wrong candidates, 2, is the right one of the second row; the third has another query.
    texts = np.array([[0, 0, 5], [1, 2, 1], [2, 3, 2], [4, 4, 4]])
    found = task("ranking").answer.labels.conflicts(texts, np.arange(3), np.eye(1, 3).repeat(3, 0))
    assert (found.number, found.heading) == (1, "wrong ones that are right")
    assert found.warning == "1 of 3 examples (33.3%) have a wrong candidate that is right for the same query."


# Predictions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "gives"),
    [
        (task("classification"), True),
        (task("ordinal", soft="votes"), True),
        (task("binary"), True),
        (task("binary", head="cosine", inputs="separate"), False),
        (task("regression"), False),
        (task("multilabel"), True),
        (task("ranking"), False),
        (task("tokens"), False),
    ],
)
def test_logits_of_texts_give_the_probability_of_a_whole_answer(asked: Task, gives: bool):
    assert asked.predicts.gives_probability is gives
    assert any(metric.probabilities for metric in asked.metrics) is gives
