import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from rich.console import Console
from tiny import model

from mtbert.recipe.files import load_recipe
from mtbert.task import Task
from mtbert.training.profile import _exclusive, product_rate
from mtbert.training.start import start_run


@dataclass
class Range:
    microseconds: float

    def elapsed_us(self) -> float:
        return self.microseconds


class Event:
    def __init__(self, name: str, microseconds: float, cpu_parent: Any = None) -> None:
        self.name, self.time_range, self.cpu_parent = name, Range(microseconds), cpu_parent


def test_a_part_inside_another_is_counted_once_and_losses_include_what_they_run():
    encoder = Event("mtbert.encoder", 100.0)
    product = Event("aten::mm", 60.0, encoder)
    heads = Event("mtbert.heads", 30.0, product)
    losses = Event("mtbert.losses", 50.0)
    again = Event("mtbert.encoder", 40.0, losses)
    found = _exclusive([encoder, product, heads, losses, again])
    assert found == {"encoder": 70.0, "heads": 30.0, "losses": 50.0}


def test_a_profile_is_printed_once_and_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    settings = load_recipe(str(toy_run.set_up(tmp_path)), ["train.rounds=30", "train.epochs=1"])
    console = Console(width=120, force_terminal=False)
    start_run(settings, tmp_path / "plain", console)
    unprofiled = capfd.readouterr().out
    start_run(settings, tmp_path / "profiled", console, profile=True)
    said, errors = capfd.readouterr()
    assert errors == ""
    assert "mean of 20 steps" not in unprofiled
    assert said.count("mean of 20 steps, cpu") == 1
    shares = {name: float(share) for name, share in re.findall(r"│ (\w+) +│ +[\d.]+ │ +([\d.]+)% │", said)}
    parts = ["data", "encoder", "heads", "losses", "backward", "optimizer", "rest"]
    assert list(shares) == [*parts, "step"]
    assert sum(shares[name] for name in parts) == pytest.approx(100, abs=0.5)
    assert all(0 < shares[name] < 100 for name in parts)
    assert "aten::" in said
    rows = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("plain", "profiled")]
    assert rows[0] == rows[1]
    tokens = [int(n) for n in re.findall(rb'"tokens": (\d+)', rows[1])][5:25]
    assert f"{sum(tokens) / 20:,.0f} tokens a step, " in said


@pytest.mark.parametrize(
    ("rounds", "said"),
    [(3, "mean of 4 steps, cpu"), (1, "--profile measures steps from number 6 on, but there was none")],
)
def test_a_short_run_is_profiled_as_far_as_it_goes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], rounds: int, said: str
):
    settings = load_recipe(
        str(toy_run.set_up(tmp_path)), [f"train.rounds={rounds}", "train.epochs=1", "train.mode=alternate"]
    )
    start_run(settings, tmp_path / "short", Console(width=120, force_terminal=False), profile=True)
    assert capfd.readouterr().out.count(said) == 1


def test_the_product_rate_counts_two_operations_for_each_pair(monkeypatch: pytest.MonkeyPatch):
    ticks = iter([0.0, 0.1, 0.2, 0.7, 0.8, 1.0, 9.0])  # end; loop, begun, done: 0.5 s; loop, ...
    monkeypatch.setattr("mtbert.training.profile.time.perf_counter", lambda: next(ticks, 9.0))
    assert product_rate(torch.device("cpu"), torch.float32, seconds=0.3) == pytest.approx(2 * 2048**3 / 0.5)


@pytest.mark.parametrize(("pooling", "expected"), [("mean", 2 * 600), ("cls", 600 + 216)])
def test_the_last_layer_counts_as_far_as_every_token_goes_through_it(pooling: str, expected: int):
    # Width 8, intermediate width 16: a layer is 8 * 24 + 24, then 8 * 8 + 8, 8 * 16 + 16, 16 * 8 + 8 and two norms.
    single = Task(name="one", type="regression", inputs="single")
    assert model(single, pooling=pooling, layers=2).multiplied == expected
