"""A toy run in this process, and the gradients of one step."""

from pathlib import Path
from typing import Any

import torch
import toy_run
from rich.console import Console

from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.yaml_files import merge

SILENT = Console(quiet=True)


def make(folder: Path, **train: Any) -> Run:
    settings = validate_recipe(toy_run.raw_recipe(folder, **train), "toy")
    return assemble(settings).run()


def gradients(run: Run) -> dict[str, torch.Tensor]:
    """Returns the gradients of one step; the recipe must not clip them."""
    run.step()
    return {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}


def without_dropout(folder: Path) -> dict[str, Any]:
    raw = toy_run.raw_recipe(folder, clip=None)
    raw["model"]["dropout"] = 0.0
    for task in raw["tasks"].values():
        task["head"] = {"kind": "linear", "dropout": 0.0}
    return raw


def run_of(raw: dict[str, Any], **train: Any) -> Run:
    settings = validate_recipe(merge(raw, {"train": train}), "toy")
    made = assemble(settings)
    made.model.double()
    return made.run()
