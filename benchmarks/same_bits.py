"""Trains three short runs with the sources of two checkouts, and compares every bit of the results.

    python -m benchmarks.same_bits OTHER_CHECKOUT
    python -m benchmarks.same_bits OTHER_CHECKOUT --only lora --threads 2

Use it for changes of the code that must not change results: compare with a checkout of the commit before. The runs use
generated sentences and the packaged encoder; together they take about two minutes on two cores. Each run is a process
of its own with the ``src`` of its checkout, so nothing of mtbert is imported here. Both versions must know all keys of
the recipes.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import deserialize

HERE = Path(__file__).resolve().parent.parent
FOLDERS = ("best", "last")
# Earlier versions saved a threshold for every cosine head, but the answers of task sts are scores, which read none.
UNREAD = "for_sts.threshold"  # in last/, names of the model and of its averaged weights stand before it
METRICS = "metrics.jsonl"


# Recipes -----------------------------------------------------------------------------------------------------

PAIR = {"columns": {"text": ["sentence1", "sentence2"], "label": "score"}, "dev_fraction": 0.02, "batch_size": 8}
SST: dict[str, Any] = {
    "type": "ordinal",
    "inputs": "single",
    "train": {"generated": "sst", "split": "train"},
    "labels": ["0", "1", "2", "3", "4"],
    "dev_fraction": 0.02,
    "batch_size": 8,
}
QUORA: dict[str, Any] = PAIR | {
    "type": "binary",
    "train": {"generated": "quora", "split": "train"},
    "labels": ["0", "1"],
}
STS: dict[str, Any] = PAIR | {
    "type": "regression",
    "train": {"generated": "sts", "split": "train"},
    "range": [0, 5],
}
TRAIN: dict[str, Any] = {"lr": 1e-4, "precision": "fp32", "device": "cpu", "seed": 3}

# Each run does little work but takes many paths of the code; all of them use dropout.
RECIPES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "surgery": (
        "joint with surgery",
        {
            "tasks": {
                "sst": SST | {"inputs": "single", "losses": ["ce", {"kind": "oll", "alpha": 2.0}]},
                "quora": QUORA
                | {
                    "inputs": "separate",
                    "head": "cosine",
                    "losses": ["cosent", {"kind": "mnrl", "scale": 5.0}],
                    "no_duplicates": True,
                },
                "sts": STS | {"inputs": "packed", "losses": ["mse", "rdrop"], "weight": 3.0},
            },
            "model": {"pooling": "cls", "max_length": 32, "dropout": 0.1},
            "train": TRAIN
            | {
                "mode": "joint",
                "aggregation": {"kind": "pcgrad"},
                "conflicts": True,
                "weighting": "uncertainty",
                "layer_decay": 0.9,
                "token_budget": 300,  # fewer than a step has, so that steps are split
                "rounds": 4,
                "epochs": 2,
            },
        },
    ),
    "pal": (
        "alternating with PAL and SMART",
        {
            "tasks": {
                "sst": SST | {"head": "mlp", "losses": ["ce", "smart"]},
                "quora": QUORA
                | {
                    "inputs": "separate",
                    "head": {"kind": "linear", "features": "concat_diff_product"},
                    "losses": ["bce", "simcse"],
                },
                "sts": STS | {"inputs": "packed", "pooling": "cls", "losses": ["mse", {"kind": "smart", "steps": 2}]},
            },
            "model": {"pooling": "mean", "max_length": 32, "dropout": 0.1, "freeze": 1, "pal": {"kind": "attention"}},
            "train": TRAIN
            | {
                "mode": "alternate",
                "sampler": {"kind": "temperature", "temperature": 3.0},
                "clip": 0.5,
                "evaluate_every": 2,
                "rounds": 4,
                "epochs": 1,
            },
        },
    ),
    "lora": (
        "EMA with LoRA",
        {
            "tasks": {
                "sst": SST | {"losses": ["ce", "bregman"]},
                "quora": QUORA | {"inputs": "packed", "head": {"kind": "mlp", "hidden": 24}, "metric": "macro_f1"},
                "sts": STS | {"inputs": "separate", "head": "cosine", "losses": ["mse", "cosent"]},
            },
            "model": {"pooling": "cls", "max_length": 32, "lora": {"rank": 4, "alpha": 8.0}},
            "train": TRAIN
            | {
                "lr": 1e-3,
                "ema": {"decay": 0.9, "predicts": True},
                "schedule": "constant",
                "clip": None,
                "checkpoint_every": 3,
                "select": "mean",
                "rounds": 4,
                "epochs": 2,
            },
        },
    ),
}


# Training ----------------------------------------------------------------------------------------------------


def train(recipe: Path, checkouts: Mapping[Path, Path]) -> None:
    """Trains ``recipe`` into each of several folders, each with the sources of its own checkout, all at the same time.

    Raises:
        SystemExit: If a run fails; the message ends with the last lines that the run printed.
    """
    started = {out: _start(recipe, out, checkout) for out, checkout in checkouts.items()}
    printed = {out: process.communicate()[0] for out, process in started.items()}
    for out, process in started.items():
        if process.returncode:
            last = "\n".join(printed[out].splitlines()[-10:])
            raise SystemExit(f"{recipe.stem}: training with {checkouts[out]} ended with {process.returncode}:\n{last}")


def _start(recipe: Path, out: Path, checkout: Path) -> subprocess.Popen[str]:
    own = {"PYTHONPATH": str(checkout / "src"), "MTBERT_CACHE": str(out.with_name(f"{out.name}-cache"))}
    command = [sys.executable, "-m", "mtbert", "train", str(recipe), "--out", str(out)]
    if (checkout / "src/mtbert/recipe/train_settings.py").is_file():  # earlier versions hold no train rows out
        command += ["--set", "train.held_out=0"]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=os.environ | own, cwd=recipe.parent, text=True, **both)


# Comparing ---------------------------------------------------------------------------------------------------


class Difference(Exception):
    """Raised when two runs are not equal; the message names the place and both values."""


@dataclass(frozen=True)
class Equal:
    """The amount of data in two runs that was compared and found equal."""

    tensors: int
    lines: int
    added: tuple[str, ...]  # numbers that only our metrics have
    dropped: tuple[str, ...] = ()  # thresholds named UNREAD that only their run has


def compare(ours: Path, theirs: Path) -> Equal:
    """Compares the tensors of ``best/`` and ``last/``, and the lines of the metrics, of two finished runs.

    A number that only our metrics have is not a difference, because a newer version may log more. A missing one is.
    A tensor that only one run has is a difference, unless it is a threshold named ``UNREAD`` that only their run has.
    All tensors that both runs have are compared first.

    Raises:
        Difference: At the first difference.
    """
    added: dict[str, None] = {}
    here, there = _lines(ours), _lines(theirs)
    for number, (a, b) in enumerate(zip(here, there, strict=False), 1):
        for key in b:
            if a.get(key) != b[key]:
                raise Difference(f"{METRICS}, line {number}: {key}: {a.get(key)} here, {b[key]} there")
        added |= dict.fromkeys(key for key in a if key not in b)
    lines = len(here)
    if lines != len(there):
        raise Difference(f"{METRICS}: {lines} lines here, {len(there)} there")
    tensors = 0
    alone: list[str] = []
    dropped: dict[str, None] = {}
    files = _stored(ours)
    if files != _stored(theirs):
        raise Difference(f"files: {', '.join(files)} here, {', '.join(_stored(theirs))} there")
    for name in files:
        saved, other = (dict(deserialize((run / name).read_bytes())) for run in (ours, theirs))
        both = saved.keys() & other.keys()
        for key in sorted(both):
            if saved[key] != other[key]:
                raise Difference(f"{name}: {key}: {_difference(saved[key], other[key])}")
        dropped |= dict.fromkeys(key for key in other if key.endswith(UNREAD) and key not in saved)
        alone += [f"{name}: {key}: is only here" for key in sorted(saved.keys() - both)]
        alone += [f"{name}: {key}: is only there" for key in sorted(other.keys() - both - dropped.keys())]
        tensors += len(both)
    if alone:
        raise Difference("; ".join(alone))
    if not (tensors and lines):
        raise Difference(f"found {tensors} tensors and {lines} lines, so nothing was compared")
    return Equal(tensors, lines, tuple(added), tuple(dropped))


def _lines(run: Path) -> list[dict[str, str]]:
    """Returns the lines of a run's metrics: the numbers by their path, as exact text."""
    return [dict(_flat(json.loads(line))) for line in (run / METRICS).read_text().splitlines()]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, json.dumps(value)


def _stored(run: Path) -> list[str]:
    return sorted(str(file.relative_to(run)) for part in FOLDERS for file in (run / part).glob("*.safetensors"))


def _difference(a: dict[str, Any], b: dict[str, Any]) -> str:
    for what in ("dtype", "shape"):
        if a[what] != b[what]:
            return f"{what} {a[what]} here, {b[what]} there"
    if a["dtype"] in ("F32", "F64"):
        kind = "f" if a["dtype"] == "F32" else "d"
        here, there = (memoryview(bytes(tensor["data"])).cast(kind) for tensor in (a, b))
        differ = [i for i, (x, y) in enumerate(zip(here, there, strict=True)) if x != y]
        if differ:
            first = differ[0]
            return f"{len(differ)} of {len(here)} values, the first {here[first]!r} here, {there[first]!r} there"
    return "other bits of the same values" if a["dtype"] in ("F32", "F64") else "other values"


# The command -------------------------------------------------------------------------------------------------


def main() -> None:
    """Prints a line for each run; exits with 1 at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT")
    parser.add_argument("--only", choices=list(RECIPES), action="append", help="one of the runs; may be repeated")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU, in every run (default: 1)")
    chosen = parser.parse_args()
    other = chosen.other.resolve()
    if not (other / "src/mtbert").is_dir():
        parser.error(f"{chosen.other}: has no src/mtbert. Give the root of a checkout.")
    for key in chosen.only or RECIPES:
        name, recipe = RECIPES[key]
        with TemporaryDirectory() as work:
            file = Path(work) / f"{key}.yaml"
            # JSON is valid YAML, and every version reads its numbers in the same way.
            file.write_text(json.dumps(recipe | {"train": recipe["train"] | {"threads": chosen.threads}}, indent=1))
            ours, theirs = Path(work) / "ours", Path(work) / "theirs"
            train(file, {ours: HERE, theirs: other})
            try:
                found = compare(ours, theirs)
            except Difference as difference:
                raise SystemExit(f"{name}: {difference}") from None
        sides = {"only here": found.added, "only there": found.dropped}
        alone = "".join(f" ({side}: {', '.join(names)})" for side, names in sides.items() if names)
        print(f"{name}: {found.tensors} tensors and {found.lines} lines of metrics equal{alone}", flush=True)


if __name__ == "__main__":
    main()
