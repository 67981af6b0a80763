"""Packs the answers that the runs of a study gave on dev into one small file, and prints the study's tables from it.

    python -m benchmarks.answers pack studies/quick benchmarks/results/quick.npz
    python -m benchmarks.answers tables benchmarks/results/quick.npz --data FOLDER

The file contains no texts and no labels. They come from the data, which must be the data that the runs were scored on.

Dimension key: B examples.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from mtbert import splits
from mtbert.environment import RunRecord
from mtbert.recipe.settings import as_plain, validate_recipe
from mtbert.settings import Settings, tuples
from mtbert.storage.predictions import Predicted
from mtbert.studying import results, tables
from mtbert.studying.results import EndedRun, Outline, Results
from mtbert.studying.summary import summarise

META = "study"  # name of the array that holds everything except the answers, as JSON


class Run(Settings):
    """A run without its answers; its answers to a task are the array ``row/seed/task``."""

    row: str
    seed: int
    recipe: dict[str, Any]
    record: RunRecord
    seconds: float
    tasks: dict[str, tuple[int, ...]]  # shape of an example's prediction: one number per class, or a single one


class Study(Settings):
    """A study without its answers."""

    outline: Outline
    missing: tuple[str, ...]
    runs: tuple[Run, ...]


def pack(study: Results, file: Path) -> None:
    """Writes the answers of all ended runs into ``file``; the same answers give the same bytes.

    Raises:
        ValueError: If the metric of a task needs the order of the examples by their logits. The logits are not kept.
    """
    for name, dev in study.dev.items():
        if dev.scored_by.ranks:
            raise ValueError(f"task {name}: metric {dev.metric} reads logits, and answers alone are packed.")
    arrays: dict[str, npt.NDArray[Any]] = {}
    runs = []
    for one in (one for by_seed in study.runs.values() for one in by_seed.values()):
        dumped = as_plain(one.recipe)
        dumped["data"]["root"] = None  # the folder of the data is private
        tasks = {name: tuple(predicted.prediction.shape[1:]) for name, predicted in one.predicted.items()}
        runs.append(Run(row=one.row, seed=one.seed, recipe=dumped, record=one.record, seconds=one.seconds, tasks=tasks))
        for task, predicted in one.predicted.items():
            if predicted.offsets is not None:
                raise ValueError(f"task {task}: its answers are tags of words, which are not packed.")
            decided_B = predicted.decision.numpy()
            small = np.uint8 if decided_B.dtype == np.int64 else np.float32  # classes; scores as the model gave them
            arrays[f"{one.row}/{one.seed}/{task}"] = decided_B.astype(small)
    meta = Study(outline=study.outline, missing=tuple(study.missing), runs=tuple(runs))
    arrays[META] = np.frombuffer(meta.model_dump_json().encode(), np.uint8)
    np.savez_compressed(file, **arrays)


def unpack(file: Path, data: Path) -> Results:
    """Returns the study in ``file``, without the logs of its runs; its dev data are read from the folder ``data``.

    Raises:
        ValueError, FileNotFoundError: If the data cannot be read, or differ from those that the runs were scored on.
    """
    runs: dict[str, dict[int, EndedRun]] = {}
    with np.load(file, allow_pickle=False) as arrays:
        study = Study.model_validate(tuples(json.loads(arrays[META].tobytes())))
        for run in study.runs:
            settings = validate_recipe(run.recipe | {"data": {"root": str(data)}}, f"{file}, {run.row}")
            answers = {
                name: _predicted(arrays[f"{run.row}/{run.seed}/{name}"], shape) for name, shape in run.tasks.items()
            }
            one = EndedRun(run.row, run.seed, settings, run.record, answers, None, [], run.seconds, Path())
            runs.setdefault(run.row, {})[run.seed] = one
    _check(one for by_seed in runs.values() for one in by_seed.values())
    return results.gather(study.outline, runs, study.missing)


def _predicted(small_B: npt.NDArray[Any], shape: tuple[int, ...]) -> Predicted:
    decided_B = torch.from_numpy(small_B.astype(np.int64 if small_B.dtype == np.uint8 else np.float64))
    return Predicted(torch.full((len(decided_B), *shape), torch.nan), decided_B)  # raw predictions are not in the file


def _check(runs: Iterable[EndedRun]) -> None:
    """Raises ValueError if the data differ from those that the first run of each task was scored on.

    :func:`results.gather` checks that the runs agree with each other.
    """
    first = {name: run for run in reversed(list(runs)) for name in run.predicted}
    for name, run in first.items():
        for part in splits.read_split(run.recipe, name).parts:
            if part.digest != run.record.data.get(part.name):
                raise ValueError(f"{part.name}: not the data that the runs were scored on. Give their folder.")


def main() -> None:
    """Packs a study, or prints the tables of a packed one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write a study's answers into one file")
    packing.add_argument("study", type=Path, help="the folder of mtbert study")
    packing.add_argument("file", type=Path)
    printing = commands.add_parser("tables", help="print the tables of a packed study")
    printing.add_argument("file", type=Path)
    printing.add_argument("--data", type=Path, required=True, help="folder of the data")
    chosen = parser.parse_args()
    if chosen.command == "pack":
        pack(results.read_study(chosen.study), chosen.file)
        return
    study = unpack(chosen.file, chosen.data)
    console = Console()
    for table in tables.study_tables(study, summarise(study)):
        console.print(table.printed())


if __name__ == "__main__":
    main()
