"""The settings of every recipe of the paper, written out, so that a changed default cannot change one unnoticed."""

from collections.abc import Mapping
from typing import Any

import pytest

from mtbert.recipe.files import load_recipe, shipped_recipes
from mtbert.recipe.settings import as_plain

# A task that predicts from one sequence: everything except its type, head and losses.
COMMON = {"pooling": None, "segments": True, "weight": 1.0, "no_duplicates": False}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "sst": COMMON
    | {"type": "ordinal", "inputs": "single", "batch_size": 8, "labels": ["0", "1", "2", "3", "4"], "range": None}
    | {"train.path": "ids-sst-train.csv", "dev.path": "ids-sst-dev.csv", "metric": "accuracy"}
    | {"head": {"kind": "linear", "features": "concat_diff", "hidden": None, "dropout": 0.3}}
    | {"losses": [{"kind": "ce", "weight": 1.0, "smoothing": 0.0, "class_weights": None}]},
    "quora": COMMON
    | {"type": "binary", "inputs": "packed", "batch_size": 16, "labels": ["0", "1"], "range": None}
    | {"train.path": "quora-train.csv", "dev.path": "quora-dev.csv", "metric": "accuracy"}
    | {"head": {"kind": "mlp", "features": "concat_diff", "hidden": None, "dropout": 0.3}}
    | {"losses": [{"kind": "bce", "weight": 1.0, "smoothing": 0.0, "class_weights": None}]},
    "sts": COMMON
    | {"type": "regression", "inputs": "packed", "batch_size": 8, "labels": None, "range": [0.0, 5.0]}
    | {"train.path": "sts-train.csv", "dev.path": "sts-dev.csv", "metric": "pearson"}
    | {"head": {"kind": "linear", "features": "concat_diff", "hidden": None, "dropout": 0.3}}
    | {"losses": [{"kind": "mse", "weight": 25.0}]},
}
MODEL = {
    "path": "demo",
    "pooling": "cls",
    "max_length": 128,
    "dropout": None,
    "pal": None,
    "lora": None,
    "freeze": None,
}
TRAIN = {
    "mode": "alternate",
    "sampler": {"kind": "round_robin"},
    "aggregation": {"kind": "sum"},
    "conflicts": False,
    "weighting": "fixed",
    "rounds": ["min", "min", "min", "max"],
    "epochs": 10,
    "lr": 1e-5,
    "betas": [0.9, 0.999],
    "layer_decay": None,
    "eps": 1e-8,
    "weight_decay": 1e-3,
    "schedule": "constant",
    "warmup": 0.0,
    "clip": None,
    "ema": None,
    "token_budget": None,
    "precision": "auto",
    "evaluate_every": "epoch",
    "patience": None,
    "select": "overall",
}
SMART = {"kind": "smart", "weight": 0.02, "mode": "reference", "steps": 1, "step_size": 1e-3, "noise_std": 1e-5}
SMART |= {"radius": 1e-5, "shared_masks": True}
OLL = {"kind": "oll", "weight": 1.0, "alpha": 1.5}
CE, BCE, MSE = (TASKS[name]["losses"][0] for name in ("sst", "quora", "sts"))
PAL = {"kind": "attention", "width": None, "heads": 6, "shared": None, "dropout": 0.1, "tasks": None}
SEPARATE = {
    f"tasks.{task}.{key}": value
    for task, head in (("quora", "mlp"), ("sts", "linear"))
    for key, value in (
        ("inputs", "separate"),
        ("head", {"kind": head, "features": "concat", "hidden": None, "dropout": 0.3}),
    )
}
COSINE = {"kind": "cosine", "features": "concat", "hidden": None, "dropout": 0.3}
SINGLE = {"train.rounds": 4142}

# Each row: its tasks, and what differs from paper/base.
ROWS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "base": (
        "sst quora sts",
        {"train.mode": "joint", "train.rounds": "min", "train.epochs": 3, "train.lr": 5e-5, "train.clip": 1.0}
        | {"train.schedule": "linear", "train.warmup": 0.1},
    ),
    "paper/base": ("sst quora sts", {}),
    "paper/base-joint": ("sst quora sts", {"train.mode": "joint"}),
    "paper/surgery": (
        "sst quora sts",
        {"train.mode": "joint", "train.aggregation": {"kind": "pcgrad"}, "train.conflicts": True},
    ),
    "paper/annealed": ("sst quora sts", {"train.sampler": {"kind": "annealed"}}),
    "paper/pal": ("sst quora sts", {"model.pal": PAL}),
    "paper/pal-annealed": ("sst quora sts", {"model.pal": PAL, "train.sampler": {"kind": "annealed"}}),
    "paper/smart": (
        "sst quora sts",
        {"tasks.sst.losses": [CE, SMART], "tasks.quora.losses": [BCE, SMART], "tasks.sts.losses": [MSE, SMART]},
    ),
    "paper/smart-ceoll": (
        "sst quora sts",
        {"tasks.sst.losses": [CE, OLL, SMART], "tasks.quora.losses": [BCE, SMART], "tasks.sts.losses": [MSE, SMART]},
    ),
    "paper/loss-ce": ("sst", SINGLE),
    "paper/loss-oll": ("sst", SINGLE | {"tasks.sst.losses": [OLL]}),
    "paper/loss-ceoll": ("sst", SINGLE | {"tasks.sst.losses": [CE, OLL]}),
    "paper/se-base": ("sst quora sts", SEPARATE),
    "paper/se-mnrl": (
        "sst quora sts",
        SEPARATE | {"tasks.quora.losses": [BCE, {"kind": "mnrl", "weight": 1.0, "scale": 20.0, "symmetric": False}]},
    ),
    "paper/se-simcse": (
        "sst quora sts",
        SEPARATE | {"tasks.quora.losses": [BCE, {"kind": "simcse", "weight": 1.0, "temperature": 0.1}]},
    ),
    "paper/se-cosine": (
        "sst quora sts",
        SEPARATE
        | {"tasks.quora.head": COSINE, "tasks.quora.losses": [{"kind": "mse", "weight": 1.0}]}
        | {"tasks.sts.head": COSINE, "tasks.sts.losses": [{"kind": "mse", "weight": 1.0}]}
        | {"train.held_out": 0.0},
    ),
    "paper/single-sst": ("sst", SINGLE),
    "paper/single-quora": ("quora", SINGLE),
    "paper/single-sts": ("sts", SINGLE),
}


def at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value[key]
    return value


def test_every_row_is_pinned():
    assert sorted(ROWS) == sorted(name for name in shipped_recipes() if name == "base" or name.startswith("paper/"))


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_the_papers_protocol_in_every_setting(name: str):
    tasks, changes = ROWS[name]
    raw = as_plain(load_recipe(name))
    assert list(raw["tasks"]) == tasks.split()
    expected = {f"model.{key}": value for key, value in MODEL.items()} | {f"train.{k}": v for k, v in TRAIN.items()}
    expected |= {f"tasks.{task}.{key}": value for task in tasks.split() for key, value in TASKS[task].items()}
    expected |= changes
    assert {path: at(raw, path) for path in expected} == expected
    # A new setting that is not written out above is at least not what distinguishes a row.
    base, known = (
        as_plain(load_recipe("paper/base")),
        {path.split(".")[1] for path in expected if path.startswith("train.")},
    )
    assert {k: v for k, v in raw["train"].items() if k not in known} == {
        k: v for k, v in base["train"].items() if k not in known
    }


def test_a_task_of_a_row_reads_the_columns_of_its_file():
    columns = {
        name: {key: task["columns"][key] for key in ("text", "label", "id")}
        for name, task in as_plain(load_recipe("paper/base"))["tasks"].items()
    }
    assert columns == {
        "sst": {"text": ["sentence"], "label": "sentiment", "id": "id"},
        "quora": {"text": ["sentence1", "sentence2"], "label": "is_duplicate", "id": "id"},
        "sts": {"text": ["sentence1", "sentence2"], "label": "similarity", "id": "id"},
    }
