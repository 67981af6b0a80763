"""A study whose task has tags of words, and runs in which tags share a table with classes in every mode."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
import toy_words
import yaml
from rich.console import Console
from toy_study import run_here

from mtbert.recipe.files import load_recipe
from mtbert.storage.predictions import save_predictions
from mtbert.studying import plan
from mtbert.studying.results import read_study
from mtbert.training.start import start_run

STUDY = """
rows:
  plain: toy.yaml
  smooth: {recipe: toy.yaml, set: ['tasks.ner.losses=[{kind: ce, smoothing: 0.2}]'], control: plain}
seeds: [0, 1]
"""


def write(folder: Path, tasks: dict[str, Any], tables: dict[str, Any], **train: Any) -> Path:
    toy_run.set_up(folder)
    toy_words.write(folder / "data", 30)
    raw = toy_run.raw_recipe(folder, **({"lr": 0.01, "epochs": 1} | train))
    (folder / "toy.yaml").write_text(yaml.safe_dump(raw | {"tasks": tasks, "tables": tables}, sort_keys=False))
    return folder


def test_a_study_of_words_compares_rows_on_resampled_texts(tmp_path: Path):
    ner = {"type": "tokens", "inputs": "single", "train": "words.conll", "batch_size": 4, "dev_fraction": 0.4}
    write(tmp_path, {"ner": ner}, {}, epochs=2)
    (tmp_path / "study.yaml").write_text(STUDY)
    run_here(plan.load_study(str(tmp_path / "study.yaml")), tmp_path / "out")
    tables = "\n".join(file.read_text() for file in sorted((tmp_path / "out/tables").glob("*.csv")))
    assert "ner fixed" in tables
    assert "best constant" in tables
    assert (tmp_path / "out/figures/confusion-ner.svg").exists()
    assert "A text counts as wrong if one of its words has a wrong tag." in (tmp_path / "out/report.html").read_text()
    found = read_study(tmp_path / "out")
    predicted = found.runs["plain"][0].predicted["ner"]
    assert predicted.offsets is not None
    moved = predicted.offsets + torch.eye(len(predicted.offsets), dtype=torch.int64)[1]  # words of another text
    lost = predicted.prediction.index_fill(0, torch.tensor([0]), torch.nan)  # of a word that was answered
    kept = next((tmp_path / "out/cells/plain-0").rglob("predictions.safetensors"))
    short = predicted.offsets.bfloat16()
    for change in ({"offsets": moved}, {"offsets": short}, {"prediction": lost}):
        damaged = replace(predicted, **change)
        save_predictions({"ner": damaged}, kept.parent)
        with pytest.raises(ValueError, match="its answers to ner are not to the dev examples that are there now"):
            read_study(tmp_path / "out")


@pytest.mark.parametrize(
    "train",
    [
        {"aggregation": "pcgrad", "conflicts": True},
        {"mode": "alternate", "sampler": "proportional"},
        {"token_budget": 40, "weighting": "uncertainty"},
    ],
    ids=str,
)
def test_tags_share_a_table_in_every_mode(tmp_path: Path, train: dict[str, Any]):
    common = {"inputs": "single", "table": "texts"}
    tasks = {
        "spans": common | {"type": "tokens", "label": "entities", "losses": ["ce", "rdrop"]},
        "topic": common | {"type": "classification", "label": "topic", "losses": ["ce", "smart"]},
        "other": {"type": "tokens", "inputs": "single", "train": "words.conll", "batch_size": 8},
    }
    write(tmp_path, tasks, {"texts": {"train": "texts.jsonl", "batch_size": 8}}, **train)
    start_run(load_recipe(str(tmp_path / "toy.yaml")), tmp_path / "run", Console(quiet=True))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    logged = {key for line in lines for key in line.get("losses", {})}
    assert logged == {"spans.ce", "spans.rdrop", "topic.ce", "topic.smart", "other.ce"}
    assert set(tasks) <= set(lines[-1]["evaluation"])
