"""Valid tasks, and the one sentence that says why a task is not valid."""

import re

import pytest
from pydantic import ValidationError

from mtbert.settings import tuples
from mtbert.task import Head, Task

TASK = {"name": "t", "type": "classification", "inputs": "single"}
COSINE = {"name": "t", "type": "binary", "inputs": "separate", "head": "cosine"}


def task(base: dict = TASK, **changes: object) -> Task:
    return Task.model_validate(base | changes)


def test_a_head_by_name_equals_a_head_by_mapping():
    assert task(head="mlp") == task(head={"kind": "mlp"})
    assert task(head="mlp").head == Head(kind="mlp", features="concat_diff", hidden=None, dropout=0.3)


@pytest.mark.parametrize(("inputs", "texts", "sequences"), [("single", 1, 1), ("packed", 2, 1), ("separate", 2, 2)])
def test_a_packed_pair_is_two_texts_in_one_sequence(inputs, texts, sequences):
    assert task(inputs=inputs).texts == texts
    assert len(task(inputs=inputs).packed(("a", "b")[:texts])) == sequences


def test_lists_become_tuples_at_any_depth():
    assert tuples({"a": [1, [2, {"b": [3]}]], "c": "d"}) == {"a": (1, (2, {"b": (3,)})), "c": "d"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lables": ("a", "b")}, "unknown key 'lables'. Did you mean 'labels'?"),
        ({"head": {"hiden": 3}}, "unknown key 'hiden'. Did you mean 'hidden'?"),
        ({"head": {"zzz": 3}}, "unknown key 'zzz'. Known keys: kind, features, hidden, dropout."),
        ({"labels": ("a", "b", "a")}, "labels must differ from each other, found 'a', 'b', 'a'."),
        ({"labels": ("a",)}, "type 'classification' needs at least 2 labels, found 1."),
        ({"type": "binary", "labels": ("a", "b", "c")}, "type 'binary' needs exactly 2 labels, found 3."),
        ({"type": "regression", "labels": ("a", "b")}, "labels are for classes; a regression task has a range."),
        ({"range": (0, 5)}, "range is for regression; a task of classes has labels."),
        ({"type": "regression", "range": (5, 0)}, "range must be [lowest, highest], found [5, 0]."),
        ({"type": "regression", "range": (2, 2)}, "range must be [lowest, highest], found [2, 2]."),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(changes, said):
    with pytest.raises(ValidationError, match=re.escape(said)):
        task(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": "packed"}, "inputs must be 'separate', found 'packed'. Use inputs: separate, or head: linear."),
        ({"inputs": "single"}, "inputs must be 'separate', found 'single'."),
        ({"type": "ordinal"}, "type must be 'binary' or 'regression', found 'ordinal'. Use head: linear."),
        ({"type": "classification"}, "type must be 'binary' or 'regression', found 'classification'."),
        ({"pooling": "cls"}, "head 'cosine' compares means over tokens, found pooling 'cls'. Use pooling: mean."),
    ],
)
def test_a_cosine_needs_two_means_and_one_number(changes, said):
    assert task(COSINE).head.kind == task(COSINE, type="regression", pooling="mean").head.kind == "cosine"
    with pytest.raises(ValidationError, match=re.escape(said)):
        task(COSINE, **changes)


@pytest.mark.parametrize("name", ["a b", "", "a.b", "-a", "a/b", "é"])
def test_a_name_is_fit_for_files_and_keys(name):
    assert task(name="a-B_3").name == "a-B_3"
    with pytest.raises(ValidationError, match="name"):
        task(name=name)
