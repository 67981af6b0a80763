"""Training reads again what ``mtbert review`` asks a person to write, in every form that labels can have."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_run
import yaml
from commands import Mtbert
from rich.console import Console

from mtbert.recipe.files import load_recipe
from mtbert.splits import split_table
from mtbert.training.start import start_run

ABC = ["a", "b", "c"]
OF = {"inputs": "single", "table": "t"}
TASKS: dict[str, dict[str, Any]] = {
    "class": {"type": "classification", "labels": ABC, "label": "class"},
    "coded": {"type": "ordinal", "labels": {"1": "low", "2": "high"}, "label": "coded"},
    "spam": {"type": "binary", "labels": ["no", "yes"], "label": "spam"},
    "votes": {"type": "ordinal", "labels": ABC, "columns": {"votes": "votes"}},
    "bars": {"type": "classification", "labels": ABC, "columns": {"votes": "bars", "separator": "|"}},
    "annotators": {"type": "classification", "labels": ABC, "columns": {"votes": ["v1", "v2"]}},
    "shares": {"type": "classification", "labels": ABC, "columns": {"shares": "shares"}},
    "toxic": {"type": "binary", "labels": ["no", "yes"], "columns": {"shares": "toxic"}},
    "mood": {"type": "classification", "labels": ["neg", "pos"], "columns": {"shares": ["neg", "pos"]}},
    "set": {"type": "multilabel", "labels": ABC, "columns": {"label": "set", "separator": ","}},
    "parts": {"type": "multilabel", "columns": {"label": ["food", "staff"]}},
    "tags": {"type": "tokens", "label": "tags"},
    "score": {"type": "regression", "range": [0, 5], "label": "score"},
}
# Labels of a row of train, and for each task what the command says, what a person writes, and what training reads.
ROW: dict[str, Any] = {"class": "a", "coded": 1, "spam": "no", "votes": ["a", "b"], "bars": "a|b", "v1": "a", "v2": "b"}
ROW |= {
    "shares": [0.5, 0.25, 0.25],
    "toxic": 0.5,
    "neg": 0.5,
    "pos": 0.5,
    "set": "a,b",
    "food": 1,
    "staff": 0,
    "score": 2,
}
THIRD = 1 / 3
ASKED: dict[str, tuple[str, dict[str, str], float | list[float]]] = {
    "class": ("'class': a, b, c.", {"class": "b"}, 1),
    "coded": ("'coded': 1 for low, 2 for high.", {"coded": "2"}, 1),
    "spam": ("'spam': no, yes.", {"spam": "yes"}, 1),
    "votes": ("'votes' the votes with ';' between them: a, b, c.", {"votes": "b;b;c"}, [0, 2 * THIRD, THIRD]),
    "bars": ("'bars' the votes with '|' between them: a, b, c.", {"bars": "b|b|c"}, [0, 2 * THIRD, THIRD]),
    "annotators": ("'v1', 'v2' a vote each: a, b, c.", {"v1": "c", "v2": "b"}, [0, 0.5, 0.5]),
    "shares": (
        "'shares' the list of the shares of a, b, c, which sum to 1: [1, 0, 0] if all is a.",
        {"shares": "[1, 0, 0]"},
        [1, 0, 0],
    ),
    "toxic": (
        "'toxic' the list of the shares of no, yes, which sum to 1: [1, 0] if all is no.",
        {"toxic": "[1, 0]"},
        0,
    ),
    "mood": ("'neg', 'pos' the share of each, which sum to 1 in a row.", {"neg": "0.25", "pos": "0.75"}, [0.25, 0.75]),
    "set": (
        "'set' the labels of the row with ',' between them, or [] if it has none: a, b, c.",
        {"set": "c,a"},
        [1, 0, 1],
    ),
    "parts": (
        "'food', 'staff' 1 for a label that the row has, and 0 for one that it lacks.",
        {"food": "0", "staff": "1"},
        [0, 1],
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over one table that a task with each form of label reads, and a pool of two rows."""
    folder = tmp_path_factory.mktemp("labels")
    toy_run.encoder_folder(folder / "encoder")
    rows = [
        ROW | {"text": f"{one} {other}", "tags": ["O", "B-x"]}
        for one in toy_run.WORDS[:4]
        for other in "film cat".split()
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "dev.jsonl").write_text(json.dumps(ROW | {"text": "how why", "tags": ["O", "B-x"]}))
    (folder / "pool.csv").write_text("text\nnew plot\nold plot\n")
    raw = {
        "data": {"root": str(folder)},
        "model": {"path": str(folder / "encoder"), "max_length": 24},
        "tables": {"t": {"train": ["rows.jsonl"], "dev": "dev.jsonl"}},
        "tasks": {name: OF | task for name, task in TASKS.items()},
        "train": {"epochs": 1, "rounds": 1, "threads": 1, "precision": "fp32", "held_out": 0},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    start_run(load_recipe(str(folder / "mine.yaml")), folder / "run", Console(quiet=True))
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("task", ASKED)
def test_what_a_person_is_asked_to_write_is_read_by_training(
    mtbert: Mtbert, folder: Path, tmp_path: Path, task: str, suffix: str
):
    said, written, expected = ASKED[task]
    out = tmp_path / f"out{suffix}"
    done = mtbert("review", folder / "run", "--task", task, "--input", folder / "pool.csv", "--output", out)
    assert done.err.splitlines()[-1] == f"done: 2 rows to label in {out}. Write into {said}"
    lines = out.read_text().splitlines()
    rows = list(csv.DictReader(lines)) if suffix == ".csv" else list(map(json.loads, lines))
    rows[0] |= written  # the other one stays without a label
    with out.open("w", newline="") as opened:
        if suffix == ".csv":
            writer = csv.DictWriter(opened, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            opened.write("\n".join(map(json.dumps, rows)))
    recipe = load_recipe(str(folder / "mine.yaml"), [f"tables.t.train=[rows.jsonl, {out}]"])
    train = split_table(recipe, "t").train.tasks
    assert list(train[task].examples.texts[0])[8:] == [rows[0]["text"]]
    np.testing.assert_allclose(train[task].examples.labels[8], expected)
    assert all(len(side.examples) == 8 for name, side in train.items() if name != task)


@pytest.mark.parametrize("task", ["tags", "score"])
def test_labels_without_a_probability_are_not_asked_for(mtbert: Mtbert, folder: Path, tmp_path: Path, task: str):
    said = mtbert(
        "review", folder / "run", "--task", task, "--input", folder / "pool.csv", "--output", tmp_path / "o.csv"
    ).mistake
    assert said.startswith(f"task {task}: type '{TASKS[task]['type']}' with head 'linear' gives no probability")
