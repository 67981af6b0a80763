"""The recipes in ``examples/`` train for a step on rows of the form that their data sets have on the hub."""

import re
from pathlib import Path
from typing import Any

import datasets
import pytest
import toy_run

import mtbert
from mtbert.recipe.files import load_recipe

FOLDER = Path(__file__).parent.parent / "examples"
RECIPES = sorted(FOLDER.glob("*.yaml"))
TEXT = datasets.Value("string")
SCORE = datasets.Value("float32")
# The columns of each data set, as its page on the hub shows them.
FEATURES: dict[str, dict[str, Any]] = {
    "google-research-datasets/go_emotions": {
        "text": TEXT,
        "labels": datasets.List(datasets.ClassLabel(names=["joy", "anger", "neutral"])),
        "id": TEXT,
    },
    "mteb/banking77": {"text": TEXT, "label": datasets.Value("int64"), "label_text": TEXT},
    "google/civil_comments": {"text": TEXT, "toxicity": SCORE, "insult": SCORE, "threat": SCORE},
    "sentence-transformers/all-nli": {"anchor": TEXT, "positive": TEXT, "negative": TEXT},
    "stanfordnlp/snli": {
        "premise": TEXT,
        "hypothesis": TEXT,
        "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]),
    },
}


def stand_in(name: str, config: str | None = None, *, split: str) -> datasets.Dataset:
    """Returns 120 rows with the columns of a data set of the hub."""
    features = FEATURES[name]

    def cell(feature: Any, column: str, i: int) -> Any:
        if isinstance(feature, datasets.List):
            return [i % 3] if i % 4 else [0, 2]
        if isinstance(feature, datasets.ClassLabel):
            return i % 3
        if feature == SCORE:
            return i % 5 / 4
        if column == "label_text":
            return ["card_arrival", "lost_card"][i % 2]
        return i if column == "label" else f"{split} {column} {i} {toy_run.WORDS[i % len(toy_run.WORDS)]}"

    columns = {key: [cell(feature, key, i) for i in range(120)] for key, feature in features.items()}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_its_question_and_its_licences_in_two_lines(path: Path):
    question, data, third = path.read_text().splitlines()[:3]
    assert question.startswith("# ")
    assert re.match(r"# Data: .*(?:CC|Apache)", data), data
    assert not third.startswith("#")
    named = {task.train.hub for task in load_recipe(str(path)).tasks.values()}
    assert named <= FEATURES.keys()
    assert all(name in data for name in named) or "those of" in data


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_on_rows_of_that_form(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datasets.load_dataset", stand_in)
    encoder = toy_run.encoder_folder(tmp_path / "encoder", num_hidden_layers=3, max_position_embeddings=160)
    small = {"model.path": str(encoder), "train.rounds": 2, "train.epochs": 1, "train.threads": 1}
    run = mtbert.train(str(path), out=tmp_path / "run", changes=small)
    tasks = load_recipe(str(path)).tasks
    assert set(run.scores.keys()) == set(tasks)


def test_the_page_of_examples_names_each_of_them():
    page = (FOLDER / "README.md").read_text()
    files = [path.relative_to(FOLDER) for path in (*RECIPES, *(FOLDER / "notebooks").glob("*.ipynb"))]
    assert len(files) == 8
    assert [str(path) for path in files if f"({path})" not in page] == []
