"""A toy run whose three tasks read one table, with labels missing here and there, and the same tasks with own files.

A file of a task's own has the rows of the table that have its label, in the same order.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import toy_run

from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.yaml_files import merge

ROWS = 36
TASKS = ("stars", "yes", "score")  # of the table
NAME = "reviews"
HALF = 0.5  # of the labels are missing
TABLE = {"batch_size": 7, "columns": {"id": "id"}}


def files(folder: Path) -> Path:
    """Adds to a toy set-up tables with two texts and three labels in each row, and returns its folder."""
    for missing in (0.0, HALF):
        rng = np.random.default_rng(7)
        header, rows = "id,one,other,stars,yes,score", []
        for i in range(ROWS):
            texts = [" ".join(rng.choice(toy_run.WORDS, rng.integers(2, 9))) for _ in range(2)]
            rows.append([f"r{i}", *texts, str(i % 5), str(int(rng.random() < 0.6)), str(i % 11 / 2)])
        kept = rng.random((ROWS, 3)) >= missing
        kept[np.arange(ROWS), rng.integers(3, size=ROWS)] |= ~kept.any(1)
        for row, has in zip(rows, kept, strict=True):
            row[3:] = [label if found else "" for label, found in zip(row[3:], has, strict=True)]
        for name, chosen in ((NAME, rows), *((TASKS[k], [row for row in rows if row[3 + k]]) for k in range(3))):
            file = folder / f"data/{name}-{missing}.csv"
            file.write_text("\n".join([header, *map(",".join, chosen)]) + "\n")
    return folder


def raw_recipe(folder: Path, *, missing: float, alike: bool, pairs: bool) -> dict[str, Any]:
    """Returns a recipe without dropout for the three tasks and for ``sts``. The task ``sts`` has a file of its own."""
    tasks: dict[str, dict[str, Any]] = {
        "stars": {"type": "ordinal", "labels": ["0", "1", "2", "3", "4"], "losses": ["ce", "oll"]},
        "yes": {"type": "binary", "labels": ["0", "1"], "weight": 0.7},
        "score": {"type": "regression", "range": [0, 5], "pooling": "mean", "losses": [{"kind": "mse", "weight": 3.0}]},
    }
    raw = toy_run.raw_recipe(folder, clip=None)
    raw["model"]["dropout"] = 0.0
    head = {"head": {"kind": "linear", "dropout": 0.0}}
    for name in TASKS:
        columns = {"text": ["one", "other"] if pairs else "one", "label": name}
        tasks[name] |= head | {"inputs": "separate" if pairs else "single", "columns": columns}
        own = f"{name}-{missing}.csv"
        tasks[name] |= {"table": NAME} if alike else TABLE | {"train": own, "dev": own}
        tasks[name]["columns"] = columns if alike else columns | TABLE["columns"]
    whole = f"{NAME}-{missing}.csv"
    raw["tables"] = {NAME: TABLE | {"train": whole, "dev": whole}} if alike else {}
    raw["tasks"] = tasks | {"sts": raw["tasks"]["sts"] | head}
    return raw


def run_of(
    folder: Path,
    change: Mapping[str, Any] | None = None,
    *,
    missing: float = 0.0,
    alike: bool = True,
    pairs: bool = False,
    double: bool = True,
) -> Run:
    """Returns a run in which the three tasks read one table. If ``alike`` is false, each reads a file of its own.

    Args:
        folder: The toy set-up of :func:`files`.
        change: Changes the recipe.
        missing: The share of the labels that are missing.
        alike: Whether the tasks share their rows.
        pairs: Whether the tasks take pairs.
        double: Whether the model computes in float64.
    """
    raw = raw_recipe(folder, missing=missing, alike=alike, pairs=pairs)
    made = assemble(validate_recipe(merge(raw, change or {}), "toy"))
    if double:
        made.model.double()
    with torch.no_grad():
        for weight in made.model.heads.parameters():
            weight.mul_(20)  # so that predictions and gradients differ
    return made.run()
