"""The seam of answer types: every type and head fits the rest, and nothing outside asks a type for its name."""

import ast
import math
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import mtbert
from mtbert.answers import AnswerType
from mtbert.answers.heads import HEADS
from mtbert.answers.known import ANSWER_TYPES
from mtbert.batch import Example, Examples
from mtbert.losses.known import LOSSES
from mtbert.metrics import unit_scale
from mtbert.model import heads
from mtbert.model.native import NativeHead
from mtbert.task import Head, Task

PACKAGE = Path(mtbert.__file__).parent
TYPES = ("classification", "ordinal", "binary", "regression", "multilabel", "ranking")
WITH_LAYERS = tuple(name for name in TYPES if name != "ranking")
WITH_COSINE = ("binary", "regression", "ranking")
OF_LABELS = ("per", "reads_words", "soft")  # what other modules may ask of labels, rarely
FIT = {*product(WITH_LAYERS, ("linear", "mlp", "native")), *product(WITH_COSINE, ("cosine",))}


def task(name: str, head: str = "linear") -> Task:
    labels = {"binary": ("no", "yes"), "regression": None, "ranking": None}.get(name, ("a", "b", "c"))
    limits = (1.0, 5.0) if name == "regression" else None
    inputs = "single" if head == "native" else "separate"
    return Task(name="t", type=name, inputs=inputs, head=Head(kind=head), labels=labels, range=limits)


def asked(source: str) -> Iterator[str]:
    """Yields every comparison of a type or a kind with a string or a constant, such as ``task.type == "binary"``.

    A class may ask for a kind of its own.
    """

    def is_name(node: ast.expr) -> bool:
        text = ast.unparse(node)
        return text.endswith((".type", ".kind", "head_kind.gives")) and "device" not in text and text != "self.kind"

    def is_text(node: ast.expr) -> bool:
        parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
        constants = (isinstance(part, ast.Name) and part.id.isupper() for part in parts)  # as COSINE
        return any(constants) or any(isinstance(p, ast.Constant) and isinstance(p.value, str) for p in parts)

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(is_name, sides)) and any(map(is_text, sides)):
                yield ast.unparse(node)
        if isinstance(node, ast.Match) and is_name(node.subject):
            yield f"match {ast.unparse(node.subject)}"
        if isinstance(node, ast.Constant) and node.value in TYPES:
            yield repr(node.value)


def test_nothing_asks_which_type_a_task_is_or_which_kind_a_head_a_sampler_or_an_aggregation_is():
    files = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "answers"]
    elsewhere = {"transformers.py": ["'regression'"]}  # a value of problem_type in the config.json of transformers
    assert {file.name: found for file in files if (found := list(asked(file.read_text())))} == elsewhere


def branches(source: str) -> Iterator[str]:
    """Yields every condition that depends on what kind of labels a task has, such as ``task.reads_words``.

    Conditions on the needs of a loss are left out: they do not describe the task.
    """
    found: dict[ast.Attribute, None] = {}
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.BoolOp() | ast.UnaryOp() | ast.Compare():
                conditions = [node]
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                conditions = [test]
            case ast.comprehension(ifs=ifs):
                conditions = ifs
            case _:
                continue
        for each in (part for condition in conditions for part in ast.walk(condition)):
            if isinstance(each, ast.Attribute) and each.attr in OF_LABELS:
                found[each] = None
    yield from (told for each in found if not (told := ast.unparse(each)).endswith("needs.soft"))


def test_few_conditions_outside_depend_on_the_kind_of_labels():
    files = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "answers"]
    found = {str(file): each for file in files if (each := [*branches(file.read_text())])}
    assert sum(map(len, found.values())) <= 14, found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("if task.reads_words: pass", ["task.reads_words"]),
        ("x = a if not one.task.soft else b", ["one.task.soft"]),
        ("x = [t for t in tasks if t.answer.soft]", ["t.answer.soft"]),
        ("x = not any(task.reads_words for task in chosen)", ["task.reads_words"]),
        ("x = sorted(tasks, key=lambda task: not task.reads_words)", ["task.reads_words"]),
        ("x = any(task.reads_words and task.takes(1) for task in chosen)", ["task.reads_words"]),
        ("def f(self): return self.answer.labels.per == 'word'", ["self.answer.labels.per"]),
        ("if self.soft and not loss.needs.soft: pass", ["self.soft"]),
        ("x = f'{self.soft} are of classes'", []),
    ],
)
def test_a_condition_on_the_kind_of_labels_is_found_in_any_form(source: str, found: list[str]):
    assert list(branches(source)) == found


def test_an_answer_type_has_no_flags():
    assert {field.name for field in fields(AnswerType)} == {"name", "labels", "metrics", "predictions", "soft"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('task.type == "ordinal"', ["task.type == 'ordinal'", "'ordinal'"]),
        ('x = settings.head.kind in ("cosine", "mlp")', ["settings.head.kind in ('cosine', 'mlp')"]),
        ('train.aggregation.kind != "sum"', ["train.aggregation.kind != 'sum'"]),
        ("x = task.head_kind.gives != COSINE", ["task.head_kind.gives != COSINE"]),
        ("match task.type:\n case other: ...", ["match task.type"]),
        ('{"binary": 1}[task.type]', ["'binary'"]),
        ('device.type == "cuda" or error["type"] == "missing" or task.type == other.type', []),
        ('self.kind == "attention"', []),
    ],
)
def test_a_question_for_a_type_is_found_in_any_form(source: str, found: list[str]):
    assert list(asked(source)) == found


def test_the_tables_list_the_types_and_the_heads():
    assert tuple(ANSWER_TYPES) == (*TYPES, "tokens")
    assert tuple(HEADS) == ("linear", "mlp", "cosine", "native")
    said = "Input should be 'classification', 'ordinal', 'binary', 'regression', 'multilabel', 'ranking' or 'tokens'"
    with pytest.raises(ValidationError, match=said):
        Task(name="t", type="scores", inputs="single")
    with pytest.raises(ValidationError, match="Input should be 'linear', 'mlp', 'cosine' or 'native'"):
        Head(kind="dot")


@pytest.mark.parametrize(("name", "head"), [*product(TYPES, HEADS)])
def test_a_type_and_a_head_fit_or_are_refused(name: str, head: str):
    if (name, head) not in FIT:
        said = f"head '{head}' gives one number, so type must be 'binary' or 'regression', found '{name}'"
        said = f"type 'ranking' needs head 'cosine', found '{head}'. Use head: cosine." if name == "ranking" else said
        with pytest.raises(ValidationError, match=said):
            task(name, head)
        return
    given = task(name, head)
    made = heads.build_head(given, 4, 0, NativeHead(names=("out",)))
    prediction = made((torch.ones(2, 4), torch.ones(2, 4)), None).detach()
    shape = [1 if number == -1 else number for number in given.predicts.shape(given)]  # one candidate
    assert prediction.shape == (2, *shape)
    assert len(given.predicts.decide(prediction, 0.5)) == 2
    assert given.predicts.divergence(prediction, prediction).tolist() == [0, 0]
    default = LOSSES.classes[given.predicts.loss]
    assert set(default.needs.reads) & set(given.predicts.feeds)  # type: ignore[attr-defined]


def test_what_a_loss_reads_some_type_feeds():
    fed = {name for answer in ANSWER_TYPES.values() for kind in answer.predictions.values() for name in kind.feeds}
    read = {name for loss in LOSSES.classes.values() for name in loss.needs.reads}  # type: ignore[attr-defined]
    assert read <= fed
    assert read == {
        "logits",
        "ordered logits",
        "logit",
        "logits of labels",
        "score",
        "cosine",
        "yes/no labels",
        "candidates",
    }


def test_metrics_of_one_name_have_one_scale_and_the_first_can_be_chosen():
    scales = {(metric.name, metric.lowest) for answer in ANSWER_TYPES.values() for metric in answer.metrics}
    assert len({name for name, _ in scales}) == len(scales)
    assert all(answer.metrics[0].name == answer.choosable[0] for answer in ANSWER_TYPES.values())
    assert (unit_scale("spearman", 0.0), unit_scale("auc", 0.0), unit_scale("unheard", 0.25)) == (0.5, 0.0, 0.25)


def test_figures_of_a_report_are_known_by_their_names():
    found = {name: answer.labels.figures for name, answer in ANSWER_TYPES.items()}
    assert found == {
        "classification": ("confusion",),
        "ordinal": ("confusion", "distances"),
        "binary": ("confusion",),
        "regression": ("similarity",),
        "multilabel": ("by_label", "co_occurrence"),
        "ranking": ("ranks",),
        "tokens": ("confusion",),
    }


def test_an_example_with_several_labels_has_a_tuple_and_one_with_none_of_them_has_no_label():
    examples = Examples.of([Example("a", ("x",), (1.0, math.nan)), Example("b", ("y",), None)])
    np.testing.assert_array_equal(examples.labels, [[1.0, math.nan], [math.nan, math.nan]])
    first, second = examples
    np.testing.assert_array_equal(first.label, [1.0, math.nan])
    assert second.label is None
