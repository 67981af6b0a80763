"""A task reads the same tokens in training, evaluation and prediction, whichever other tasks are asked with it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy_run
import yaml
from rich.console import Console
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from mtbert import load, scoring
from mtbert.batch import Dataset
from mtbert.prepare import prepare
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe
from mtbert.training.start import start_run
from mtbert.use import evaluate, inputs
from mtbert.use.predictor import Predictor

TEXTS = ["  Ed's dog. ", "a cat's cap\t", " It is so.", "\n we  see Ed", "no dog here", "old  hat "]
SPLIT = ["Ed ' s dog .", "a cat ' s cap", "It is so .", "we see Ed", "no dog here", "old hat"]  # the words of TEXTS
OTHERS = ["so it's", "1, 2", "a", " b", "c ", "d"]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over a table of texts with places, and a table of lists of words, each with a task of classes beside."""
    folder = tmp_path_factory.mktemp("tokens")
    toy_run.encoder_folder(folder / "encoder")
    (folder / "data").mkdir()
    spans = [[{"start": t.index("s"), "end": t.index("s") + 1, "label": "x"}] if "s" in t else [] for t in TEXTS]
    rows = [{"text": t, "spans": s, "kind": "ab"[i % 2]} for i, (t, s) in enumerate(zip(TEXTS, spans, strict=True))]
    write(folder / "data/places.jsonl", rows)
    words = [text.split() for text in SPLIT]
    rows = [
        {"text": w, "other": o, "tags": ["x", *"y" * (len(w) - 1)], "kind": "ab"[i % 2]}
        for i, (w, o) in enumerate(zip(words, OTHERS, strict=True))
    ]
    write(folder / "data/lists.jsonl", rows)
    classes = {"type": "classification", "inputs": "single", "label": "kind"}
    pair = {"type": "classification", "inputs": "packed", "columns": {"text": ["text", "other"], "label": "kind"}}
    tags = {"type": "tokens", "inputs": "single"}
    raw = {
        "data": {"root": str(folder / "data")},
        "model": {"path": str(folder / "encoder"), "max_length": 30},
        "tables": {n: {"train": f"{n}.jsonl", "dev": f"{n}.jsonl"} for n in ("places", "lists")},
        "tasks": {
            "spans": tags | {"table": "places", "label": "spans"},
            "kind": classes | {"table": "places"},
            "tags": tags | {"table": "lists", "label": "tags"},
            "topic": classes | {"table": "lists"},
            "pair": pair | {"table": "lists"},
        },
        "train": {"epochs": 1, "rounds": 1, "threads": 1, "precision": "fp32"},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    start_run(load_recipe(str(folder / "mine.yaml")), folder / "run", Console(quiet=True))
    return folder


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    return load_recipe(str(folder / "mine.yaml"))


@pytest.fixture
def predictor(folder: Path) -> Predictor:
    """The trained model with a tokenizer whose tokens are characters, so that tokens spell what it was given."""
    characters = Tokenizer(models.WordLevel({chr(i): i for i in range(128)}, unk_token="?"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return replace(load(folder / "run"), tokenizer=characters)


def spelt(data: Dataset) -> list[str]:
    """Returns the tokens of each example, one after the other."""
    (made,) = data.sequences
    return ["".join(map(chr, made.ids[made.offsets[i] : made.offsets[i + 1]])) for i in data.rows]


def test_a_task_beside_places_reads_texts_without_outer_space(
    folder: Path, recipe: Recipe, predictor: Predictor, tmp_path: Path
):
    wanted = [text.strip() for text in TEXTS]
    made = prepare(recipe, predictor.tokenizer)
    assert spelt(made["kind"].train) == spelt(made["spans"].train) == wanted
    assert made["kind"].train.sequences is made["spans"].train.sequences
    file = str(folder / "data/places.jsonl")
    for task in ("kind", "spans"):
        assert spelt(inputs.labelled(predictor, recipe, task, file, {})[0]) == wanted
    plain = str(write(tmp_path / "plain.jsonl", [{"text": text} for text in TEXTS]))
    for tasks in (["kind"], ["spans"], ["kind", "spans"], ["spans", "kind"]):
        assert [spelt(one) for one in inputs.unlabelled(predictor, recipe, tasks, plain)[0]] == [wanted] * len(tasks)
        assert [spelt(one) for one in predictor.read_together(tasks, TEXTS)] == [wanted] * len(tasks)


def test_a_task_beside_lists_of_words_reads_words_with_single_spaces(
    folder: Path, recipe: Recipe, predictor: Predictor, tmp_path: Path
):
    joined = ["so it ' s", "1 , 2", "a", "b", "c", "d"]
    wanted = {"tags": SPLIT, "topic": SPLIT, "pair": [a + b for a, b in zip(SPLIT, joined, strict=True)]}
    made = prepare(recipe, predictor.tokenizer)
    assert {task: spelt(made[task].train) for task in wanted} == wanted
    assert made["topic"].train.sequences is made["tags"].train.sequences
    pairs = list(zip(TEXTS, OTHERS, strict=True))
    plain = str(write(tmp_path / "plain.jsonl", [{"text": a, "other": b} for a, b in pairs]))
    for file in (plain, str(folder / "data/lists.jsonl")):
        for tasks in (["topic"], ["tags"], ["pair"], ["topic", "tags", "pair"], ["pair", "tags", "topic"]):
            found, _, _ = inputs.unlabelled(predictor, recipe, tasks, file)
            assert {one.task.name: spelt(one) for one in found} == {task: wanted[task] for task in tasks}, file
    for task, file in (("topic", folder / "data/lists.jsonl"), ("pair", folder / "data/lists.jsonl")):
        assert spelt(inputs.labelled(predictor, recipe, task, str(file), {})[0]) == wanted[task]
    for tasks in (["topic"], ["topic", "tags"]):
        assert [spelt(one) for one in predictor.read_together(tasks, TEXTS)] == [SPLIT] * len(tasks)
    assert spelt(predictor.read("pair", pairs)) == wanted["pair"]


def test_a_labelled_file_of_texts_is_read_as_training_read_words(recipe: Recipe, predictor: Predictor, tmp_path: Path):
    rows = [{"text": text, "kind": "a"} for text in TEXTS]
    data, _ = inputs.labelled(predictor, recipe, "topic", str(write(tmp_path / "gold.jsonl", rows)), {})
    assert spelt(data) == SPLIT


def test_words_of_a_cell_without_tags_are_joined_as_those_with_tags(predictor: Predictor, tmp_path: Path):
    rows = 'text,tags,kind\n" Ed  \'s dog ",,a\nEd  sees,x y,b\n"  no   dog ",,a\n'
    (tmp_path / "cells.csv").write_text(rows)
    columns = {"tables": {"t": {"train": str(tmp_path / "cells.csv"), "dev": str(tmp_path / "cells.csv")}}}
    tasks: dict[str, Any] = {"kind": {"type": "classification", "inputs": "single", "table": "t", "label": "kind"}}
    tasks["tags"] = {"type": "tokens", "inputs": "single", "table": "t", "label": "tags", "labels": ["x", "y"]}
    file = tmp_path / "cells.yaml"
    file.write_text(yaml.safe_dump(columns | {"tasks": tasks}))
    made = prepare(load_recipe(str(file)), predictor.tokenizer)
    assert spelt(made["kind"].train) == ["Ed 's dog", "Ed sees", "no dog"]


def test_places_in_answers_are_those_of_the_text_as_it_was_given(folder: Path):
    (answer,) = load(folder / "run").predict("tags", ["  Ed's\tdog "])
    assert answer["words"] == ["Ed", "'", "s", "dog"]
    model = load(folder / "run")
    data = model.read_together(["spans"], ["  Ed's\tdog "])[0]
    assert data.examples.texts[0][0] == "  Ed's\tdog "
    assert data.words(data.rows) is not None
    assert data.words(data.rows).values.tolist() == [1, 2, 3, 4]  # type: ignore[union-attr]


def test_dev_is_evaluated_with_the_tokens_of_training(
    folder: Path, recipe: Recipe, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Dataset] = []
    monkeypatch.setattr(evaluate, "as_trained", lambda path, overrides: (predictor, recipe))
    monkeypatch.setattr(scoring, "predict_and_decide", lambda model, data: seen.extend(data) or {})
    evaluate.score_run(folder / "run", "dev", None)
    trained = prepare(recipe, predictor.tokenizer)
    assert {one.task.name: spelt(one) for one in seen} == {name: spelt(made.train) for name, made in trained.items()}
    assert spelt(seen[3]) == SPLIT


def test_an_empty_text_moves_no_answer_to_another_row(folder: Path, recipe: Recipe, tmp_path: Path):
    rows = [{"text": "", "other": "a"}, {"text": " Ed's", "other": ""}, {"text": "no dog", "other": "b"}]
    file = str(write(tmp_path / "gaps.jsonl", rows))
    model = load(folder / "run")
    data, _, warnings = inputs.unlabelled(model, recipe, ["tags", "pair"], file)
    assert [list(one.examples.texts[0]) for one in data] == [[" Ed's", "no dog"], ["no dog"]]
    answers = model.answers_together(data)
    assert [row["tags"] and row["tags"]["words"] for row in answers] == [None, ["Ed", "'", "s"], ["no", "dog"]]
    assert [row["pair"] is None for row in answers] == [True, True, False]
    assert warnings[0].text.endswith(
        "no answer in 1 row of task tags, 2 rows of task pair, because a text is empty (first: line 1)."
    )
