"""Recipes and models that do not fit a tag for each word: each is one line that says what does not fit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mtbert.answers.known import ANSWER_TYPES
from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import as_plain, validate_recipe
from mtbert.storage.card import Card
from mtbert.task import Task


def task(**given: Any) -> TaskRecipe:
    return validate_recipe(
        {"tasks": {"t": {"type": "tokens", "inputs": "single", "train": "x.conll"} | given}}, "r"
    ).tasks["t"]


def test_a_task_reads_words_and_its_default_loss_and_metric_are_those_of_tags():
    found = task()
    assert found.columns.words
    assert ([loss.kind for loss in found.losses], found.metric) == (["ce"], "f1")
    assert [loss.kind for loss in task(losses=["ce", "smart", "rdrop"]).losses] == ["ce", "smart", "rdrop"]
    assert not task(type="classification").columns.words
    assert task(labels={"0": "O", "1": "B-x", "2": "I-x"}).labels == ("O", "B-x", "I-x")


@pytest.mark.parametrize("kind", ["classification", "multilabel", "tokens"])
def test_words_are_no_setting_because_the_type_says_it(kind: str):
    with pytest.raises(ValueError, match=re.escape("words: True is no setting any more. It follows from the task's")):
        task(type=kind, columns={"words": True})
    found = validate_recipe({"tasks": {"t": {"type": kind, "inputs": "single", "train": "x.conll"}}}, "r")
    assert "words" not in as_plain(found)["tasks"]["t"]["columns"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"inputs": "packed"},
            "type 'tokens' labels the words of one text; with two it would be unclear which words the",
        ),
        ({"inputs": "separate"}, "So inputs must be 'single', found 'separate'. Use inputs: single."),
        ({"pooling": "mean"}, "type 'tokens' reads a state for each word, found 'mean'. Drop pooling."),
        ({"head": "cosine"}, "head 'cosine' compares two vectors"),
        (
            {"losses": ["ce", "simcse-unsup"]},
            "loss 'simcse-unsup' needs vectors of texts, which type 'tokens' has not.",
        ),
        ({"losses": ["mnrl"]}, "loss 'mnrl' needs"),
        (
            {"losses": ["bce"]},
            "loss 'bce' needs one logit for two classes, which type 'tokens' with head 'linear' does",
        ),
        ({"losses": ["oll"]}, "loss 'oll' needs an order of the classes"),
        ({"losses": ["asl"]}, "loss 'asl' needs one logit for each label of a set"),
        ({"losses": ["mse"]}, "loss 'mse' needs a score"),
        (
            {"metric": "macro_f1"},
            "metric 'macro_f1' does not fit type 'tokens'. Use f1 or precision or recall or accuracy.",
        ),
        ({"range": [0, 1]}, "range is for regression"),
        ({"columns": {"separator": ";"}}, "separator: ';' is for sets of labels, found type 'tokens'. Drop it."),
        ({"labels": ["O", "B-x"]}, "labels in BIO are O, and B- and I- of each type, found no I-x. Add it."),
        ({"splitter": "spaces"}, "tasks.t.splitter: must be 'unicode' or 'unicode-joined', found"),
        (
            {"type": "classification", "splitter": "unicode"},
            "splitter is for labels of words, found type 'classification'",
        ),
    ],
)
def test_a_recipe_that_does_not_fit_words_is_refused(given: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        task(**given)


def test_generated_rows_have_no_words(tmp_path: Path):
    with pytest.raises(
        ValueError, match=re.escape("generated sst [dev]: its rows have no labels of words. Name a file")
    ):
        read(Source(generated="sst", split="dev"), Columns().read_by(ANSWER_TYPES["tokens"]), tmp_path, texts=1)


def test_a_model_must_know_its_splitter():
    known = Task(name="t", type="tokens", inputs="single", labels=("a", "b"))
    card = {"format": 1, "pooling": "cls", "max_length": 8, "tasks": {"t": known}}
    with pytest.raises(ValueError, match="tasks: 't' has no splitter"):
        Card.model_validate(card)
    told = json.loads(known.model_copy(update={"splitter": "unicode"}).model_dump_json())
    told["labels"] = tuple(told["labels"])
    assert Card.model_validate(card | {"tasks": {"t": told}}).tasks["t"].splitter == "unicode"
