"""Measures a training step of three tasks that read one table against the same tasks with a file each.

    python -m benchmarks.tables --pairs 10

The texts are generated, and the encoder is the packaged MiniLM, in float32. A batch holds 32 rows of the table. On the
other side, the batch of a task holds as many rows of its own file as there are rows with its label among 32 rows of the
table, so both sides see equally many labels. They train in turn, with all labels and with half of them missing, in a
plain joint step and with gradient surgery (PCGrad). Times are CPU times of one thread, which other work on the machine
changes little.
"""

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.timing import Measure, Paired, paired, timed
from mtbert.data.demo import examples
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

TASKS: dict[str, dict[str, Any]] = {
    "stars": {"type": "ordinal", "labels": ["0", "1", "2", "3", "4"]},
    "yes": {"type": "binary", "labels": ["no", "yes"]},
    "score": {"type": "regression", "range": [0, 5]},
}
ROWS = 32


def write(folder: Path, missing: float) -> dict[str, int]:
    """Writes ``table.csv``, and a file for each task with the rows of the table that have its label.

    Returns the number of rows in a batch of each file.
    """
    draws = np.random.default_rng(0)
    rows = [
        [
            example.id,
            example.texts[0],
            f"{example.label:.0f}",
            draws.choice(["no", "yes"]),
            f"{draws.uniform(0, 5):.2f}",
        ]
        for example in examples("sst", "train")
    ]
    kept = draws.random((len(rows), 3)) >= missing
    kept[np.arange(len(rows)), draws.integers(3, size=len(rows))] |= ~kept.any(1)
    for row, has in zip(rows, kept, strict=True):
        row[2:] = [label if found else "" for label, found in zip(row[2:], has, strict=True)]
    files = {"table": rows} | {name: [row for row in rows if row[2 + k]] for k, name in enumerate(TASKS)}
    for name, chosen in files.items():
        lines = [",".join(["id", "text", *TASKS]), *(",".join(f'"{cell}"' for cell in row) for row in chosen)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return {name: round(ROWS * len(chosen) / len(rows)) for name, chosen in files.items()}


def make(folder: Path, batches: Mapping[str, int], aggregation: str, *, table: bool) -> Run:
    """Returns a run of the three tasks, on one table or on a file each, with batches of these sizes."""

    def source(name: str) -> dict[str, Any]:
        columns = {"id": "id", "text": "text"}
        return {"train": f"{name}.csv", "dev": f"{name}.csv", "batch_size": batches[name], "columns": columns}

    def task(name: str) -> dict[str, Any]:
        own = {"table": "table"} if table else source(name)
        return {**TASKS[name], **own, "inputs": "single", "columns": own.get("columns", {}) | {"label": name}}

    raw = {
        "data": {"root": str(folder)},
        "tables": {"table": source("table")} if table else {},
        "tasks": {name: task(name) for name in TASKS},
        "train": {"rounds": 10**6, "epochs": 1, "aggregation": aggregation, "precision": "fp32", "device": "cpu"},
    }
    return assemble(validate_recipe(raw, "tables")).run()


def compare(folder: Path, batches: Mapping[str, int], aggregation: str, pairs: int) -> tuple[Paired, list[float]]:
    """Returns the times of steps on the table (ours) and on files (theirs), and the mean tokens of both."""
    tokens: list[list[int]] = [[], []]

    def measure(side: int) -> Measure:
        run = make(folder, batches, aggregation, table=side == 0)
        return timed(lambda: tokens[side].append(run.step().tokens), time.process_time)

    found = paired(measure(0), measure(1), pairs)
    return found, [float(np.mean(counts)) for counts in tokens]


def line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Prints a table in Markdown: tokens and milliseconds of a step, and how many times faster the table is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(line(["labels", "step", "tokens, table", "tokens, files", "table", "files", "faster", "spread"]))
    for missing, aggregation in itertools.product((0.0, 0.5), ("sum", "pcgrad")):
        with TemporaryDirectory() as work:
            batches = write(Path(work), missing)
            found, tokens = compare(Path(work), batches, aggregation, chosen.pairs)
        gain, spread = found.gain()
        times = [f"{1e3 * np.median(side):.0f} ms" for side in (found.ours, found.theirs)]
        kind = "joint" if aggregation == "sum" else "joint, surgery"
        labels = "all" if not missing else "half missing"
        print(line([labels, kind, *(f"{n:,.0f}" for n in tokens), *times, f"{gain:.2f}", f"{spread:.2f}"]), flush=True)


if __name__ == "__main__":
    main()
