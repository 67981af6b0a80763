"""Six recipes that together hold every technique of mtbert, on generated rows and an encoder of width 16."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import toy_run
import toy_search
import toy_table
import toy_words

from mtbert.recipe.settings import validate_recipe
from mtbert.yaml_files import merge

SEPARATE = {"inputs": "separate", "batch_size": 12}
TRAIN = {"shards": 4, "device": "cpu", "lr": 1e-3, "threads": 1, "checkpoint_every": 4, "seed": 5}


@dataclass(frozen=True)
class Toy:
    """A recipe for the program.

    Attributes:
        change: What the recipe changes of its base.
        base: The base: three tasks with files of their own, or one table with missing labels.
        turns: The number of steps in a round.
        memory: For each task whose rows are given from Python, the rows. None if a recipe file names all data.
    """

    change: Mapping[str, Any]
    base: str = "tasks"
    turns: int = 1
    memory: Mapping[str, Any] = field(default_factory=dict)

    def raw(self, folder: Path, steps: int) -> dict[str, Any]:
        """Returns the recipe with at least ``steps`` steps in four epochs, for data in ``folder``."""
        made = toy_run.raw_recipe(folder) if self.base == "tasks" else toy_table.raw_table_recipe(folder)
        if self.memory:
            made = {key: value for key, value in made.items() if key not in ("data", "tasks")} | {"tasks": {}}
        rounds = -(-steps // (4 * self.turns))
        made = merge(made, {"model": {"dropout": 0.1}, "train": TRAIN | {"epochs": 4, "rounds": rounds}})
        made = merge(made, self.change)
        if not self.memory:
            validate_recipe(made, "toy")
        return made


def mood(count: int) -> list[dict[str, Any]]:
    """Returns rows with a text and the votes of three people."""
    labels = ("bad", "fine", "good")
    return [
        {"text": f"{a} film {b} {i % 9}", "votes": [labels[i % 3], labels[i * 7 % 3], labels[(i + 1) % 3]]}
        for i, (a, b) in enumerate((toy_run.WORDS[i % 9], toy_run.WORDS[i * 5 % 21]) for i in range(count))
    ]


def search(count: int) -> list[dict[str, Any]]:
    """Returns rows with a query, the right candidate and two wrong ones."""
    return [dict(zip(toy_search.COLUMNS, row, strict=True)) for row in toy_search.rows(count)]


def tagged(count: int) -> list[dict[str, Any]]:
    """Returns rows with a list of words and a list of their tags."""
    return [{"text": words, "label": tags} for words, tags in toy_words.sentences(count)]


RECIPES: Mapping[str, Toy] = {
    "whole batches": Toy(
        {
            "tasks": {
                "sst": {
                    "losses": [{"kind": "ce", "class_weights": "balanced", "smoothing": 0.1}, "simcse-unsup", "rdrop"],
                    "batch_size": 9,
                },
                "quora": SEPARATE | {"losses": ["bce", "mnrl", "simcse", "smart"], "no_duplicates": True},
                "sts": SEPARATE | {"head": "cosine", "losses": ["mse", "cosent"]},
            },
            "train": {"weighting": "uncertainty", "token_budget": 120, "schedule": "constant", "calibrate": True},
        }
    ),
    "surgery": Toy(
        {
            "tasks": {
                "sst": {"losses": ["ce", {"kind": "smart", "mode": "paper"}]},
                "quora": SEPARATE | {"head": "cosine", "losses": ["cosent"]},
            },
            "model": {"freeze": 0, "pooling": "mean"},
            "train": {
                "aggregation": {"kind": "pcgrad"},
                "conflicts": True,
                "clip": 0.01,
                "layer_decay": 0.8,
                "evaluate_every": 7,
                "patience": 1000,
            },
        }
    ),
    "own tops": Toy(
        {
            "model": {"unshare": 1},
            "tasks": {"quora": SEPARATE | {"losses": ["bce", "mnrl"]}},
            "train": {"aggregation": {"kind": "torchjd", "method": "UPGrad"}, "weighting": "uncertainty", "clip": None},
        }
    ),
    "alternating": Toy(
        {
            "model": {"pal": {"width": 6, "heads": 2}},
            "tasks": {"quora": {"losses": ["bce", "smart"]}},
            "train": {"mode": "alternate", "sampler": {"kind": "temperature"}, "precision": "bf16", "token_budget": 40},
        },
        turns=3,
    ),
    "table": Toy(
        {
            "model": {"lora": {"rank": 2}},
            "tasks": {
                "stars": {"losses": ["ce", "oll", "bregman"]},
                "topics": {"losses": ["asl", "rdrop"]},
                "other": {"type": "binary", "inputs": "separate", "head": "cosine", "losses": ["mnrl"]}
                | {
                    "table": "reviews",
                    "columns": {"text": ["title", "body"], "label": "spam"},
                    "labels": ["no", "yes"],
                },
            },
            "train": {"ema": {"decay": 0.9}, "conflicts": True},
        },
        base="table",
    ),
    "from Python": Toy(
        {
            "tasks": {
                "mood": {"type": "ordinal", "inputs": "single", "labels": ["bad", "fine", "good"], "batch_size": 7}
                | {"columns": {"votes": "votes"}, "losses": ["ce", "oll", "bregman"]},
                "search": {"type": "ranking", "inputs": "separate", "head": "cosine", "losses": ["mnrl"]}
                | {"columns": {"text": list(toy_search.COLUMNS)}, "batch_size": 9, "no_duplicates": True},
                "people": {"type": "tokens", "inputs": "single", "losses": ["ce", "smart"], "batch_size": 6},
            },
            "train": {"mode": "alternate", "sampler": "annealed", "ema": {"decay": 0.8, "predicts": False}},
        },
        turns=3,
        memory={"mood": mood(70), "search": search(60), "people": tagged(50)},
    ),
}

# Started by torchrun in place of ``-m mtbert train``: the rows come from Python.
FROM_PYTHON = """
import json, sys
from pathlib import Path
import mtbert
recipe, rows = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
mtbert.train(recipe, data=rows, out=sys.argv[3])
"""


def write(folder: Path, steps: int) -> dict[str, list[str]]:
    """Writes encoder, data and recipes into ``folder``. Returns what follows ``python`` to start each of the runs."""
    if not (folder / "encoder").exists():
        toy_run.encoder_folder(folder / "encoder")
        toy_run.data_folder(folder / "data")
        toy_table.write_table(folder / "data")
        (folder / "from_python.py").write_text(FROM_PYTHON)
    commands = {}
    for name, toy in RECIPES.items():
        file = folder / f"{name.replace(' ', '-')}.yaml"
        file.write_text(json.dumps(toy.raw(folder, steps)))  # JSON is valid YAML
        commands[name] = ["-m", "mtbert", "train", str(file), "--out"]
        if toy.memory:
            rows = file.with_suffix(".rows")
            rows.write_text(json.dumps(toy.memory))
            commands[name] = [str(folder / "from_python.py"), str(file), str(rows)]
    return commands
