"""Columns of votes, shares and weights: how files and rows from memory with them are read, and recipes name them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtbert.answers.known import ANSWER_TYPES
from mtbert.batch import Examples
from mtbert.data.labels import complete, labelled_examples
from mtbert.data.memory import arrow_table
from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import as_plain, validate_recipe
from mtbert.splits import split_table
from mtbert.task import Task

NAN = np.nan
MOOD = ("neg", "neu", "pos")
VOTES = Columns(votes="ratings", separator=";")
ANNOTATORS = Columns(votes=("a", "b", "c"))
LISTED = Columns(shares="p")
WIDE = Columns(shares=("pos", "neg", "neu"))


def task(columns: Columns, **settings: Any) -> Task:
    soft = None if columns.label_key == "label" else columns.label_key
    return Task(**{"name": "t", "type": "classification", "inputs": "single", "labels": MOOD, "soft": soft} | settings)


def examples(folder: Path, name: str, content: str, columns: Columns, **settings: Any) -> Examples:
    (folder / name).write_text(content)
    return labelled_examples(read(Source(path=name), columns, folder, texts=1), task(columns, **settings))


def refused(folder: Path, name: str, content: str, columns: Columns, **settings: Any) -> str:
    with pytest.raises(ValueError, match=re.escape(name)) as error:
        examples(folder, name, content, columns, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


# Files ------------------------------------------------------------------------------------------------------


def test_votes_in_a_cell_are_a_list_or_joined_names(tmp_path: Path):
    content = 'text,ratings\none,neg;pos;pos;pos\ntwo,"[""neu"", ""neg""]"\nthree,\nfour,"[]"\nfive,neu\n'
    found = examples(tmp_path, "a.csv", content, VOTES)
    assert found.labels.tolist() == [[0.25, 0, 0.75], [0.5, 0.5, 0], [0, 1, 0]]
    assert found.votes is not None
    assert found.votes.tolist() == [4, 2, 1]


def test_votes_of_a_column_for_each_annotator_leave_out_empty_cells(tmp_path: Path):
    content = "text,a,b,c\none,neg,,pos\ntwo,,,\nthree,pos,pos,pos\n"
    found = examples(tmp_path, "a.csv", content, ANNOTATORS)
    assert found.labels.tolist() == [[0.5, 0, 0.5], [0, 0, 1]]
    assert found.votes is not None
    assert found.votes.tolist() == [2, 3]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "memory", "pandas"])
def test_lists_of_shares_are_in_the_order_of_labels(tmp_path: Path, kind: str):
    rows = [{"text": "one", "p": [0.1, 0.2, 0.7]}, {"text": "two", "p": None}, {"text": "three", "p": [1.0, 0.0, 0.0]}]
    name = f"a.{'jsonl' if kind == 'jsonl' else 'parquet'}"
    if kind == "jsonl":
        (tmp_path / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        made = {"parquet": pa.Table.from_pylist, "memory": list, "pandas": pd.DataFrame}[kind](rows)
        pq.write_table(made if kind == "parquet" else arrow_table(made, [LISTED], "rows"), tmp_path / name)
    found = labelled_examples(read(Source(path=name), LISTED, tmp_path, texts=1), task(LISTED))
    assert found.labels.tolist() == [[0.1, 0.2, 0.7], [1, 0, 0]]


def test_a_column_for_each_class_is_a_distribution_by_name(tmp_path: Path):
    content = "text,neg,neu,pos\none,0.1,0.2,0.7\ntwo,,,\nthree,1,0,0\n"
    assert examples(tmp_path, "a.csv", content, WIDE).labels.tolist() == [[0.1, 0.2, 0.7], [1, 0, 0]]


def test_votes_from_memory_are_those_of_a_file(tmp_path: Path):
    rows = [{"text": "one", "ratings": ["pos", "neg"]}, {"text": "two", "ratings": "pos;pos;neu"}]
    pq.write_table(arrow_table(rows, [VOTES], "rows"), tmp_path / "a.parquet")
    found = labelled_examples(read(Source(path="a.parquet"), VOTES, tmp_path, texts=1), task(VOTES))
    np.testing.assert_allclose(found.labels, [[0.5, 0, 0.5], [0, 1 / 3, 2 / 3]])


@pytest.mark.parametrize(
    ("columns", "header", "row", "said"),
    [
        (
            WIDE,
            "neg,neu,pos",
            "0.1,0.2,0.6",
            "'pos, neg, neu': shares must sum to 1, found 0.1, 0.2, 0.6, which sum to",
        ),
        (WIDE, "neg,neu,pos", "0.1,-0.2,1.1", "'neu': a share must be a number that is at least 0, found '-0.2'."),
        (WIDE, "neg,neu,pos", "0.1,,0.9", "'pos, neg, neu': shares must all be given, found none for 'neu'."),
        (LISTED, "p", '"[0.5, 0.5]"', "'p': shares must be 3 numbers, in the order of 'neg', 'neu', 'pos', found 2."),
        (LISTED, "p", "0.5", "'p': shares must be a list of 3 numbers, one for each label, found 0.5."),
        (VOTES, "ratings", "neg;po", "'ratings': the vote 'po' is not one of the classes 'neg', 'neu', 'pos'. Did you"),
        (VOTES, "ratings", "neg pos pos", "'ratings': 'neg pos pos' is read as one vote. Write votes as a;b, or name"),
        (ANNOTATORS, "a,b,c", "neg,neg,x", "'a, b, c': the vote 'x' is not one of the classes"),
    ],
)
def test_a_wrong_label_is_named_by_its_place(tmp_path: Path, columns: Columns, header: str, row: str, said: str):
    good = {"neg,neu,pos": "1,0,0", "p": '"[1, 0, 0]"', "ratings": "neg", "a,b,c": "neg,,"}[header]
    content = f"text,{header}\nyes,{good}\nno,{row}\n"
    assert refused(tmp_path, "a.csv", content, columns).startswith(f"a.csv, line 3, column {said}")


def test_a_vote_that_looks_like_several_is_named_by_its_place_if_the_classes_are_unknown(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,ratings\none,1\ntwo,1 2 2\n")
    table = read(Source(path="a.csv"), VOTES, tmp_path, texts=1)
    free = Task(name="t", type="ordinal", inputs="single", soft="votes")
    said = "a.csv, line 3, column 'ratings': '1 2 2' is read as one vote. Write votes as a;b, or name what stands"
    with pytest.raises(ValueError, match=re.escape(said)):
        complete(free, [table])


def test_a_missing_column_is_named_with_its_key(tmp_path: Path):
    assert (
        "there is no column 'ratings', found 'text', 'rating'. Did you mean 'rating'? Set tasks.TASK.columns.votes."
        in refused(tmp_path, "a.csv", "text,rating\none,neg\n", VOTES)
    )
    assert "there is no column 'w', found 'text', 'label'. Set tasks.TASK.columns.weight." in refused(
        tmp_path, "b.csv", "text,label\none,neg\n", Columns(weight="w")
    )
    with pytest.raises(
        ValueError, match=re.escape("there is no column 'ratings', found 'text'. Set tasks.TASK.columns.votes.")
    ):
        arrow_table([{"text": "a"}], [VOTES], "rows")


def test_a_list_for_a_task_of_one_label_points_to_votes_and_shares(tmp_path: Path):
    row = '{"text": "a", "label": ["neg", "pos"]}'
    said = refused(tmp_path, "a.jsonl", row, Columns().read_by(ANSWER_TYPES["ordinal"]))
    assert said.endswith("drop the row, or use columns.votes, columns.shares or type: multilabel.")
    said = refused(tmp_path, "a.jsonl", row, Columns().read_by(ANSWER_TYPES["regression"]))
    assert said.endswith("the label must be one value, found ['neg', 'pos']. Fix or drop the row.")


def test_a_list_in_a_column_of_one_annotator_is_no_vote(tmp_path: Path):
    said = refused(tmp_path, "a.jsonl", '{"text": "a", "x": ["neg"], "y": "neg"}', Columns(votes=("x", "y")))
    assert said.endswith("column 'x': the vote must be one value, found ['neg']. Fix or drop the row.")


def test_one_number_for_votes_is_refused(tmp_path: Path):
    said = refused(tmp_path, "a.jsonl", '{"text": "a", "ratings": 3}', VOTES)
    assert said == (
        "a.jsonl, line 1, column 'ratings': votes must be a list, found 3. Use columns.label for one label in each row."
    )


# Weights ----------------------------------------------------------------------------------------------------


def test_weights_are_read_as_numbers_and_must_be_there_for_every_row_with_a_label(tmp_path: Path):
    columns = Columns(weight="w")
    found = examples(tmp_path, "a.csv", "text,label,w\none,neg,2.5\ntwo,,\nthree,pos,0\n", columns)
    assert found.weights is not None
    assert found.weights.tolist() == [2.5, 0]
    assert found.take(np.array([1])).weights.tolist() == [0]
    said = refused(tmp_path, "a.csv", "text,label,w\none,neg,2.5\ntwo,pos,\n", columns)
    assert said == ("a.csv, line 3, column 'w': the weight is empty. Give 1 for an ordinary row, or drop the row.")
    said = refused(tmp_path, "a.csv", "text,label,w\none,neg,-1\n", columns)
    assert said.startswith("a.csv, line 2, column 'w': a weight must be a number from 0 to 1e+100, found '-1'.")


def recipe(folder: Path, columns: dict[str, Any], **settings: Any) -> dict[str, Any]:
    one = {"type": "classification", "inputs": "single", "train": "train.csv", "columns": columns}
    return {"tasks": {"t": one | settings}, "data": {"root": str(folder)}}


def rows_with_weights(file: Path, weights: list[Any]) -> None:
    lines = [f"text {i},{MOOD[i % 3]},{weight}" for i, weight in enumerate(weights)]
    file.write_text("\n".join(["text,label,w", *lines]) + "\n")


def test_weights_follow_their_rows_through_the_split_and_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mtbert.data.cache.FEWEST", 10)
    rows_with_weights(tmp_path / "train.csv", list(range(1, 61)))
    settings = validate_recipe(recipe(tmp_path, {"weight": "w"}, dev_fraction=0.2), "r")
    for _ in range(2):  # the second time from the cache
        split = split_table(settings, "t")
        for side in (split.train, split.dev):
            found = side.tasks["t"].examples
            assert found.weights is not None
            assert [f"text {w - 1:.0f}" for w in found.weights] == [e.texts[0] for e in found]


def test_only_train_needs_weights(tmp_path: Path):
    rows_with_weights(tmp_path / "train.csv", [1, 2, 3])
    (tmp_path / "dev.csv").write_text("text,label\none,neg\ntwo,pos\n")
    split = split_table(validate_recipe(recipe(tmp_path, {"weight": "w"}, dev="dev.csv"), "r"), "t")
    assert split.dev.tasks["t"].examples.weights is None


def test_train_rows_must_not_all_have_weight_0(tmp_path: Path):
    rows_with_weights(tmp_path / "train.csv", [0] * 30)
    settings = validate_recipe(recipe(tmp_path, {"weight": "w"}), "r")
    with pytest.raises(
        ValueError, match=re.escape("train.csv, column 'w': all weights of train are 0, so task t learns")
    ):
        split_table(settings, "t")


# Recipes ----------------------------------------------------------------------------------------------------


def settings(columns: dict[str, Any], **others: Any) -> TaskRecipe:
    return validate_recipe(recipe(Path(), columns, **others), "r").tasks["t"]


def test_labels_and_softness_follow_from_the_columns():
    wide = settings({"shares": ["neg", "neu", "pos"]})
    assert (wide.labels, wide.soft, wide.columns.label) == (("neg", "neu", "pos"), "shares", None)
    votes = settings({"votes": "ratings"}, type="ordinal")
    assert (votes.labels, votes.soft, votes.columns.separator) == (None, "votes", None)
    assert (settings({}).soft, settings({}).columns.label) == (None, "label")
    assert [loss.kind for loss in votes.losses] == ["ce"]
    assert (votes.metric, votes.task.soft) == ("accuracy", "votes")


def test_a_saved_recipe_reads_as_before_and_can_be_changed_to_hard_labels():
    made = validate_recipe(recipe(Path(), {"votes": ["a", "b"], "weight": "w"}, labels=["x", "y"]), "r")
    plain = as_plain(made)
    assert "soft" not in plain["tasks"]["t"]
    assert validate_recipe(plain, "r") == made
    plain["tasks"]["t"]["columns"] |= {"votes": None, "label": "z"}
    assert validate_recipe(plain, "r").tasks["t"].soft is None


@pytest.mark.parametrize(
    ("columns", "others", "said"),
    [
        (
            {"label": "x", "votes": "y"},
            {},
            "label, votes are different ways to give a label, found 2. Keep one of them.",
        ),
        ({"votes": "y", "shares": "z"}, {}, "votes, shares are different ways to give a label"),
        ({"votes": "y"}, {"type": "regression"}, "votes are of classes, so type must be 'classification' or 'ordinal'"),
        ({"votes": "y"}, {"type": "multilabel"}, "votes are of classes, so type must be"),
        ({"shares": "p"}, {}, "columns.shares: 'p' holds numbers in the order of labels, found no labels."),
        ({"shares": ["a", "b"]}, {"labels": ["a", "c"]}, "columns.shares and labels must name the same"),
        ({"votes": ["a", "a"]}, {}, "votes must name different columns, found 'a', 'a'."),
        ({"votes": []}, {}, "votes names no column. Name one."),
        (
            {"label": ["a", "b"]},
            {},
            "is for sets of labels, found type 'classification'. Use columns.votes or columns.shar",
        ),
        ({}, {"soft": "votes"}, "soft: 'votes' follows from columns. Drop soft, and set columns.votes or shares."),
        (
            {"votes": "y", "text": ["a", "b"]},
            {"type": "binary", "inputs": "separate", "losses": ["mnrl"]},
            "loss 'mnrl' needs one label for each example, and columns.votes gives a distribution. Use bce, or",
        ),
        (
            {"weight": "w", "text": ["a", "b"]},
            {"type": "binary", "inputs": "separate", "losses": ["bce", "simcse"]},
            "loss 'simcse' compares the examples of a batch with each other, so columns.weight cannot weight them.",
        ),
        (
            {"weight": "w"},
            {"train": {"generated": "sst", "split": "train"}, "type": "ordinal"},
            "generated rows have one label each and no weights, found columns.weight. Drop it.",
        ),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(columns: dict[str, Any], others: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        settings(columns, **others)
    assert "\n" not in str(error.value)


def test_cosines_of_pairs_with_shares_of_yes_may_be_compared_by_cosent():
    made = settings(
        {"shares": "p", "text": ["a", "b"]},
        type="binary",
        labels=["no", "yes"],
        inputs="separate",
        head="cosine",
        losses=["mse", "cosent"],
    )
    assert [loss.kind for loss in made.losses] == ["mse", "cosent"]
