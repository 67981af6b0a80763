"""A hyperparameter search over the toy set-up, and imitated runs that only report a score."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import toy_run
import yaml
from rich.console import Console

from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation
from mtbert.training.trackers import Tracker

SILENT = Console(quiet=True)
RANGES: dict[str, Any] = {
    "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "train.epochs": {"low": 1, "high": 2},
    "tasks.sst.losses": [["ce"], ["ce", "oll"]],
}


def ranged(folder: Path, ranges: Mapping[str, Any] = RANGES, **train: Any) -> str:
    """Writes a recipe with ranges, based on the toy's; its dev files do not exist, so that reading them fails."""
    raw = toy_run.raw_recipe(folder, **train) | {"tune": ranges}
    for task in raw["tasks"].values():
        task["dev"] = "not-there.csv"
    path = folder / "ranged.yaml"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


def trials(out: Path) -> list[dict[str, Any]]:
    return pd.read_csv(out / "trials.csv").to_dict("records")


def put_scores(monkeypatch: pytest.MonkeyPatch, scores_of: Callable[[int], list[float]]) -> None:
    """Replaces training by runs that only report a score at each of their steps."""

    def start(_: Recipe, out: Path, console: Console, *, track: Tracker) -> None:
        scores = scores_of(int(out.parent.name))
        of_sst = [Evaluation({"accuracy": score}, {}, False, 1) for score in scores]
        lines = [{"step": i + 1, "evaluation": {"sst": asdict(found)}} for i, found in enumerate(of_sst)]
        out.mkdir(exist_ok=True)
        with track(out, {"steps": len(scores)}) as log:
            for i, score in enumerate(scores):
                log(i + 1, {"aggregates/overall": score})
        (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    monkeypatch.setattr("mtbert.studying.trial_run.start_run", start)
