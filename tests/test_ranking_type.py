"""The answer type ``ranking``: ranks, scores with those of a random order, answers, and what a recipe may not say.

Dimension key: B examples, C candidates.
"""

import re
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import toy_search

from mtbert import metrics
from mtbert.answers import Judged
from mtbert.batch import Example, Examples
from mtbert.data.labels import labelled_examples
from mtbert.data.measure import shared
from mtbert.data.sources import Source, read
from mtbert.recipe.settings import as_plain, validate_recipe
from mtbert.splits import split_table
from mtbert.studying.results import DevData
from mtbert.studying.type_tables import ranks
from mtbert.task import Task
from mtbert.yaml_files import merge

folder = toy_run.folder

SEARCH = Task.model_validate({"name": "search", "type": "ranking", "inputs": "separate", "head": "cosine"})
LABELS = SEARCH.answer.labels
RIGHT_FIRST = np.array([[1.0, 0, 0]] * 4)
# First, second, last, and as near as one of the wrong ones.
COSINES = torch.tensor([[0.9, 0.1, 0.5], [0.4, -0.2, 0.6], [-0.5, 0.0, 0.2], [0.7, 0.1, 0.7]])
RANKS = [[1, 3, 2], [2, 3, 1], [3, 2, 1], [2, 3, 2]]


def test_ranks_count_from_the_nearest_and_equal_ones_get_the_worst_of_their_ranks():
    assert SEARCH.predicts.decide(COSINES, 0.0).tolist() == RANKS
    assert SEARCH.predicts.decide(torch.zeros(1, 3), 0.0).tolist() == [[3, 3, 3]]


def test_accuracy_and_mrr_are_those_of_the_right_candidate():
    ranks = np.array(RANKS)
    assert metrics.value(SEARCH, "accuracy", ranks, RIGHT_FIRST) == 1 / 4
    assert metrics.value(SEARCH, "mrr", ranks, RIGHT_FIRST) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    right = SEARCH.metric_named("accuracy").right
    assert right is not None
    assert right(ranks, RIGHT_FIRST).tolist() == [True, False, False, False]


@pytest.mark.parametrize("candidates", [2, 3, 4])
def test_the_constant_scores_are_the_means_over_all_orders(candidates: int):
    every = np.array([*permutations(range(1, candidates + 1))])
    labels = np.eye(1, candidates).repeat(len(every), 0)
    for name in ("accuracy", "mrr"):
        expected = metrics.value(SEARCH, name, every, labels)
        assert metrics.baseline(SEARCH, name, labels) == pytest.approx(expected, rel=1e-12)


def test_equal_vectors_for_all_texts_are_a_collapse_and_right_answers_are_none():
    equal, right = np.full((200, 3), 3), np.array([[1, 3, 2]] * 200)
    assert LABELS.collapsed(equal)
    assert not LABELS.collapsed(right)
    assert not LABELS.collapsed(np.concatenate([equal[:150], right[:50]]))


def test_an_answer_names_the_nearest_candidate_and_keeps_the_order_of_equal_ones():
    found = SEARCH.predicts.decode(SEARCH, COSINES[[1, 3]].double(), 0.0)
    assert found == [
        {"first": 3, "ranks": [2, 3, 1], "cosines": [pytest.approx(x) for x in (0.4, -0.2, 0.6)]},
        {"first": 1, "ranks": [1, 3, 2], "cosines": [pytest.approx(x) for x in (0.7, 0.1, 0.7)]},
    ]


def test_an_answer_is_judged_by_the_candidates_before_the_right_one():
    judged = SEARCH.predicts.judge(SEARCH, COSINES.double().numpy(), np.array(RANKS, float), RIGHT_FIRST)
    assert judged.distance_B.tolist() == [0, 1, 2, 1]
    assert judged.wrong_B.tolist() == [False, True, True, True]
    assert judged.loss_B.tolist() == pytest.approx([-0.4, 0.2, 0.7, 0.0])
    assert [LABELS.tell(SEARCH, row) for row in judged.answer] == ["candidate 1", "candidate 3", "candidate 3", "none"]
    assert LABELS.tell(SEARCH, RIGHT_FIRST[0]) == "candidate 1"
    assert np.isnan(judged.p_B).all()


def test_evaluate_counts_the_ranks_of_the_right_candidate():
    (table,) = LABELS.tables(SEARCH, np.array(RANKS), RIGHT_FIRST)
    assert not isinstance(table, str)
    assert table.rows == (("1", "1", "25.0%"), ("2", "2", "50.0%"), ("3", "1", "25.0%"))
    assert LABELS.details(SEARCH, np.array(RANKS), RIGHT_FIRST) == {"candidates": 3, "ranks": [1, 2, 1]}
    many = np.arange(1, 13)[None].repeat(12, 0)
    (table,) = LABELS.tables(
        SEARCH, np.array([np.roll(row, i) for i, row in enumerate(many)]), np.eye(1, 12).repeat(12, 0)
    )
    assert not isinstance(table, str)
    assert [row[:2] for row in table.rows][-2:] == [("10", "1"), ("over 10", "2")]


@pytest.mark.parametrize(
    ("decision", "fits"),
    [
        (np.array([[1, 2], [2, 1]]), True),
        (np.array([[0, 2], [2, 1]]), False),
        (np.array([[1, 3], [2, 1]]), False),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), False),
        (np.array([[1, 2]]), False),
        (np.array([[1, 2, 3], [3, 2, 1]]), False),
        (np.array([1, 1]), False),
    ],
)
def test_decisions_are_ranks(decision: np.ndarray, fits: bool):
    assert LABELS.fits(SEARCH, decision, np.eye(1, 2).repeat(2, 0)) is fits


def test_the_table_of_ranks_joins_those_after_the_third():
    labels = np.eye(1, 5).repeat(4, 0)
    examples = of(*[("q", "a", "b", "c", "d", "e")] * 4)
    dev = DevData(SEARCH, "accuracy", 9, Examples(examples.ids, examples.texts, labels))
    unknown = np.full(4, np.nan)
    judged = Judged(labels, unknown, np.array([0.0, 3, 4, 2]), unknown, np.zeros(4, bool))
    table = ranks(dev, {"mine": [judged]})
    assert table.columns == ("row", "1st", "2nd", "3rd", "later")
    assert table.rows[0] == ("random order", "20.0%", "20.0%", "20.0%", "40.0%")
    assert table.rows[1] == ("mine", "25.0%", "0.0%", "25.0%", "50.0%")


# Data -----------------------------------------------------------------------------------------------


def test_every_row_with_all_texts_has_a_label_and_the_others_are_dropped_and_counted(tmp_path: Path):
    toy_search.write(tmp_path / "a.csv", [("q1", "a", "b"), ("q2", "", "b"), ("q3", "c", ""), ("q4", "d", "e")])
    columns = validate_recipe(toy_search.raw_recipe(toy(tmp_path)), "toy").tasks["search"].columns
    columns = columns.model_copy(update={"text": ("query", "right", "wrong")})
    table = read(Source(path="a.csv"), columns, tmp_path, texts=None)
    assert table.warnings == ("a.csv: dropped 2 rows with an empty text (first: line 3).",)
    examples = labelled_examples(table, SEARCH)
    assert [*examples] == [
        Example(f"{i}", texts, (1.0, 0.0)) for i, texts in ((1, ("q1", "a", "b")), (4, ("q4", "d", "e")))
    ]


def toy(folder: Path) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    return folder


def of(*rows: tuple[str, ...]) -> Examples:
    return Examples.of(Example(f"{i}", row, (1.0, *[0.0] * (len(row) - 2))) for i, row in enumerate(rows))


@pytest.mark.parametrize(
    "rows",
    [
        [(f"q{i // 2}", f"p{i}", "the same", f"p{(i + 5) % 40}") for i in range(40)],
        [(f"q{i}", f"p{i // 2}", f"w{i}", f"p{(i + 5) % 20}") for i in range(40)],
    ],
)
def test_wrong_candidates_link_no_rows_of_a_split_and_right_ones_and_queries_do(tmp_path: Path, rows: list[Any]):
    raw = toy_search.raw_recipe(toy(tmp_path), dev=None, dev_fraction=0.25)
    toy_search.write(tmp_path / "data/search.csv", rows)
    split = split_table(validate_recipe(raw, "toy"), "search")
    train, dev = (
        {int(example.id) - 1 for example in side.tasks["search"].examples} for side in (split.train, split.dev)
    )
    assert (len(train), len(dev)) == (30, 10)
    assert {row // 2 for row in train}.isdisjoint(row // 2 for row in dev)


def test_two_rankings_of_a_table_have_their_own_numbers_of_candidates(tmp_path: Path):
    raw = toy_search.raw_recipe(toy(tmp_path))
    (search,) = raw["tasks"].values()
    raw["tables"] = {"all": {key: search.pop(key) for key in ("train", "dev", "batch_size")}}
    search["table"] = "all"
    raw["tasks"]["fewer"] = search | {"columns": {"text": ["query", "right", "wrong"]}}
    toy_search.write(tmp_path / "data/search.csv", [*toy_search.rows(20), ("q", "r", "w", "")])
    split = split_table(validate_recipe(raw, "toy"), "all")
    found = {name: side.examples.labels for name, side in split.train.tasks.items()}
    assert {name: labels.shape for name, labels in found.items()} == {"search": (20, 3), "fewer": (21, 2)}
    assert all(labels.sum() == labels[:, 0].sum() == len(labels) for labels in found.values())


def test_wrong_candidates_of_train_may_be_in_dev():
    train, dev = of(("q1", "a", "w"), ("q2", "b", "v")), of(("q3", "c", "w"), ("q4", "a", "x"), ("q2", "b", "z"))
    found = shared(train, dev)
    assert (found.examples, found.texts) == (1, 2)


# Recipes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"inputs": "packed"},
            "compares two vectors, so inputs must be 'separate', found 'packed'. Use inputs: separate.",
        ),
        ({"inputs": "single"}, "so inputs must be 'separate', found 'single'. Use inputs: separate."),
        ({"head": "linear"}, "type 'ranking' needs head 'cosine', found 'linear'. Use head: cosine."),
        ({"head": "mlp", "inputs": "packed"}, "type 'ranking' needs head 'cosine', found 'mlp'. Use head: cosine."),
        ({"losses": ["mse"]}, "loss 'mse' needs a score or a cosine, which type 'ranking' with"),
        ({"losses": ["mnrl", "cosent"]}, "loss 'cosent' needs a cosine, from head: cosine, which type 'ranking'"),
        ({"losses": ["bce"]}, "loss 'bce' needs"),
        ({"columns": {"text": ["query", "right"]}}, "and of a wrong one or more, found 'query', 'right'."),
        ({"columns": {"text": ["query", "right", "right"]}}, "different ones, found 'query', 'right', 'right'."),
        ({"columns": {"label": "best"}}, "label: 'best' is not for type 'ranking', where the first"),
        ({"labels": ["no", "yes"]}, "type 'ranking' has no labels: the first candidate is right. Drop labels."),
        ({"range": [0, 1]}, "type 'ranking' has no range: the first candidate is right. Drop range."),
        ({"metric": "auc"}, "metric 'auc' does not fit type 'ranking'. Use accuracy or mrr."),
        ({"type": "binary", "losses": ["mse"]}, "takes 2 text columns, found 'query', 'right', 'wrong', 'worse'."),
    ],
)
def test_what_a_ranking_cannot_be_is_one_line_when_the_recipe_is_read(folder: Path, change: dict[str, Any], said: str):
    raw = toy_search.raw_recipe(folder)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        validate_recipe(merge(raw, {"tasks": {"search": change}}), "toy")
    assert len(str(error.value).splitlines()) == 1


def test_a_label_of_another_type_must_name_a_column(folder: Path):
    raw = toy_run.raw_recipe(folder)
    with pytest.raises(ValueError, match=re.escape("tasks.sst.columns: label names no column. Name one.")):
        validate_recipe(merge(raw, {"tasks": {"sst": {"columns": {"label": []}}}}), "toy")


def test_the_recipe_of_a_ranking_is_read_again_as_it_was_written(folder: Path):
    recipe = validate_recipe(toy_search.raw_recipe(folder), "toy")
    assert recipe.tasks["search"].columns.label == ()
    assert validate_recipe(as_plain(recipe), "again") == recipe
