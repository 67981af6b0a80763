"""Losses and gradients that are not finite: what a run reports, and what it keeps."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from rich.console import Console
from toy_steps import make

from mtbert.losses.classification import CrossEntropy
from mtbert.recipe.files import load_recipe
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run

SILENT = Console(quiet=True)
folder = toy_run.folder


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_by_name_and_leaves_the_weights(
    value: float, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make(folder)
    run.step()
    before = {n: p.clone() for n, p in run.model.named_parameters()}
    monkeypatch.setattr(CrossEntropy, "__call__", lambda self, p: 0 * p.out.prediction.sum() + value)
    with pytest.raises(
        FloatingPointError, match=rf"step 2: loss sst\.ce is {value} for examples s\d+, s\d+, s\d+, s\d+\."
    ):
        run.step()
    assert all(torch.equal(p, before[n]) for n, p in run.model.named_parameters())


def test_the_examples_with_bad_predictions_are_the_ones_named(folder: Path):
    run = make(folder)
    with torch.no_grad():
        run.model.encoder.word_embedding.weight[12] = math.nan  # the word 'plot'
    with pytest.raises(FloatingPointError) as error:
        for _ in range(9):
            run.step()
    named = str(error.value).split("for examples ")[1].split(". ")[0].split(", ")
    rows = {e.id: e for d in run.data.values() for e in d.train.examples}
    word = toy_run.WORDS[12 - 5]
    assert named
    assert all(any(word in text.split() for text in rows[name].texts) for name in named)


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make(folder)
    before = {n: p.clone() for n, p in run.model.named_parameters()}
    # At 0 its value is finite, but its derivative is not.
    monkeypatch.setattr(CrossEntropy, "__call__", lambda self, p: (p.out.prediction.sum() * 0).abs().sqrt())
    with pytest.raises(FloatingPointError, match=r"step 1: the gradient of .*sst\.ce.* is (nan|inf)"):
        run.step()
    assert all(torch.equal(p, before[n]) for n, p in run.model.named_parameters())


def test_a_failed_run_keeps_its_last_good_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch):
    settings = load_recipe(str(folder / "toy.yaml"), ["train.checkpoint_every=3"])
    real = CrossEntropy.__call__
    calls = 0

    def fifth_is_nan(self: CrossEntropy, p: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(self, p) * (math.nan if calls == 5 else 1.0)

    monkeypatch.setattr(CrossEntropy, "__call__", fifth_is_nan)
    with pytest.raises(FloatingPointError, match=r"step 5.*last good checkpoint.*last"):
        start_run(settings, folder / "run", SILENT)
    monkeypatch.undo()
    assert json.loads((folder / "run/last/state.json").read_text())["done"] == 3
    resume_run(folder / "run", SILENT)
