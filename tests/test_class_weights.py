"""Balanced class weights from recipe to run: they follow from train, and a run with them resumes bitwise."""

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import toy_run
import yaml
from rich.console import Console

from mtbert.recipe.files import load_recipe
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run

SILENT = Console(quiet=True)
# 6, 3 and 3 rows of train for three classes; 8 and 4 for two
STARS = ["low"] * 6 + ["middle"] * 3 + ["high"] * 3
YES = ["no"] * 8 + ["yes"] * 4


def set_up(folder: Path, stars: Any = "balanced", yes: Any = "balanced") -> str:
    """Writes a recipe with a task of classes and a yes/no task that have these class weights."""
    toy_run.encoder_folder(folder / "encoder")
    return write(folder, stars, yes)


def write(folder: Path, stars: Any, yes: Any, name: str = "mine.yaml") -> str:
    lines = [f"a {text},{star},{y}" for text, star, y in zip(toy_run.WORDS, STARS, YES, strict=False)]
    (folder / "train.csv").write_text("\n".join(["text,star,yes", *lines]) + "\n")
    (folder / "dev.csv").write_text(
        "text,star,yes\na dog,low,yes\na cat,low,yes\nthe dog,low,no\n"
    )  # other shares than train's
    both = {"inputs": "single", "train": "train.csv", "dev": "dev.csv", "batch_size": 5}
    raw = {
        "model": {"path": str(folder / "encoder"), "max_length": 16},
        "tasks": {
            "stars": both
            | {"type": "classification", "columns": {"label": "star"}, "labels": ["low", "middle", "high"]}
            | {"losses": [{"kind": "ce", "class_weights": stars}]},
            "yes": both
            | {"type": "binary", "columns": {"label": "yes"}, "labels": ["no", "yes"]}
            | {"losses": [{"kind": "bce", "class_weights": yes}]},
        },
        "train": {"epochs": 2, "lr": 1e-3, "threads": 1, "precision": "fp32"},
    }
    (folder / name).write_text(yaml.safe_dump(raw))
    return str(folder / name)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_balanced_weights_train_as_the_same_numbers_do_and_resume_bitwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    balanced = load_recipe(set_up(tmp_path))
    console = Console(record=True, width=200, file=io.StringIO())
    start_run(balanced, tmp_path / "balanced", console)
    said = console.export_text()
    assert "task stars, loss ce: balanced class weights: low 0.6667, middle 1.333, high 1.333" in said
    assert "task yes, loss bce: balanced class weights: no 0.75, yes 1.5" in said
    kept = load_recipe(str(tmp_path / "balanced/recipe.yaml"))
    assert [t.losses[0].class_weights for t in kept.tasks.values()] == ["balanced", "balanced"]

    numbers = load_recipe(write(tmp_path, [12 / 18, 12 / 9, 12 / 9], [12 / 16, 12 / 8], "numbers.yaml"))
    start_run(numbers, tmp_path / "numbers", SILENT)
    plain = load_recipe(write(tmp_path, None, None, "plain.yaml"))
    start_run(plain, tmp_path / "plain", SILENT)
    assert metrics(tmp_path / "balanced") == metrics(tmp_path / "numbers") != metrics(tmp_path / "plain")

    real = Run.step

    def step(self: Run) -> Any:
        if self.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", step)
        with pytest.raises(Stopped):
            start_run(balanced, tmp_path / "stopped", SILENT)
    resume_run(tmp_path / "stopped", SILENT)
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "balanced")
    for file in ("model.safetensors", "heads.safetensors"):
        assert (tmp_path / "stopped/last" / file).read_bytes() == (tmp_path / "balanced/last" / file).read_bytes()


def test_a_class_without_rows_in_train_is_named_before_a_folder_is_made(tmp_path: Path):
    settings = load_recipe(set_up(tmp_path), [r'tasks.stars.labels=[low, middle, high, "higher\a", highest]'])
    said = (
        r"^task stars: class_weights: balanced needs rows of every class in train, found none of 'higher\\x07', "
        r"'highest'\. Add rows, drop the label, or give the weights as a list\.$"
    )
    with pytest.raises(ValueError, match=said):
        start_run(settings, tmp_path / "run", SILENT)
    assert not (tmp_path / "run").exists()
