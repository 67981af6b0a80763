"""Lists of words that several tasks of a table read: every task reads them after training, alone and with others."""

import json
from pathlib import Path

import commands
import pytest
import toy_run
import toy_words
import yaml
from commands import Mtbert
from rich.console import Console

from mtbert import load
from mtbert.recipe.files import load_recipe
from mtbert.training.start import start_run

mtbert = commands.mtbert


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of a table with lists of words, which a task with tags, a task of classes and a pair task read."""
    folder = tmp_path_factory.mktemp("lists")
    toy_run.encoder_folder(folder / "encoder")
    (folder / "data").mkdir()
    rows = [
        {"words": words, "tags": tags, "topic": "AB"[i % 2], "other": f"{' '.join(words[::-1])} {i}"}
        for i, (words, tags) in enumerate(toy_words.sentences(40))
    ]
    (folder / "data/lists.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pool = [{"words": ["old", *row["words"], "new"], "other": row["other"]} for row in rows[:8]]
    (folder / "pool.jsonl").write_text("\n".join(map(json.dumps, pool)))
    of_table = {"table": "lists", "inputs": "single"}
    pair = {"inputs": "packed", "columns": {"text": ["words", "other"], "label": "topic"}}
    raw = {
        "data": {"root": str(folder / "data")},
        "model": {"path": str(folder / "encoder"), "max_length": 24},
        "tables": {"lists": {"train": "lists.jsonl", "columns": {"text": "words"}}},
        "tasks": {
            "tags": of_table | {"type": "tokens", "label": "tags"},
            "topic": of_table | {"type": "classification", "label": "topic"},
            "pair": of_table | {"type": "classification"} | pair,
        },
        "train": {"epochs": 1, "threads": 1, "precision": "fp32"},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    start_run(load_recipe(str(folder / "mine.yaml")), folder / "run", Console(quiet=True))
    return folder


def test_a_task_of_classes_reads_lists_of_words_as_its_table_does(mtbert: Mtbert, words: Path, tmp_path: Path):
    alone, together = tmp_path / "alone.jsonl", tmp_path / "together.jsonl"
    given = ("predict", words / "run", "--input", words / "pool.jsonl")
    assert mtbert(*given, "--task", "topic", "--output", alone).code == 0
    done = mtbert(*given, "--output", together)
    assert done.code == 0, done
    found = [[json.loads(line) for line in file.read_text().splitlines()] for file in (alone, together)]
    texts = [" ".join(row["words"]) for row in found[0]]
    assert [row["label"] for row in found[0]] == [row["topic"]["label"] for row in found[1]]
    assert [row["p(A)"] for row in found[0]] == pytest.approx([row["topic"]["p(A)"] for row in found[1]], abs=1e-3)
    answers = load(words / "run").predict("topic", texts)
    assert [row["p(A)"] for row in found[0]] == pytest.approx([answer["p(A)"] for answer in answers], abs=1e-3)
    assert all({"tags", "topic", "pair"} <= row.keys() for row in found[1])
    done = mtbert("evaluate", words / "run", "--split", words / "data/lists.jsonl", "--task", "topic", "--json")
    assert json.loads(done.out)["tasks"]["topic"]["examples"] == 40
