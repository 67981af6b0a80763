"""The paper's table 5: one row of a study, chosen before, on test files that are looked at once."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mtbert import files as disk
from mtbert import json_files
from mtbert.settings import Settings
from mtbert.study.results import Dev, Results
from mtbert.study.statistics import Estimate
from mtbert.study.summary import summarise
from mtbert.use.evaluate import answer_file

FILE = "test.json"


class Score(Settings):
    """Over the seeds of a row; ``interval`` is that of :class:`Estimate`."""

    mean: float
    sd: float | None  # null for one seed
    interval: tuple[float, float]


class Record(Settings):
    """A row's scores on test. A folder has one such record, for good."""

    row: str
    seeds: int
    files: dict[str, str]  # SHA-256 by task
    scores: dict[str, Score]  # by task, and overall


def score(results: Results, row: str | None, files: Mapping[str, Path], out: Path, console: Console) -> None:
    """Scores all seeds of ``row`` on a labelled file for each task, and records that in ``out``.

    Raises:
        ValueError, FileNotFoundError: If that was done before, a task has no file, there is no such row, or a file
            cannot be read. Nothing is recorded then.
    """
    before = read(out)
    if before is not None:
        raise ValueError(
            f"{out / FILE}: row {before.row} was scored on test before. What is looked at twice is no test any more. "
            "Leave out --test and --row: the report shows what there is."
        )
    if row is None or row not in results.runs:
        raise ValueError(f"--row {row}: --test wants one row to score. Give --row {' or --row '.join(results.runs)}.")
    unended = [name for name in results.missing if name.startswith(f"{row}, seed ")]
    if unended:
        raise ValueError(
            f"{unended[0]}: has not ended, and a row is scored on test once, with all its seeds. "
            "Go on with the study first."
        )
    runs = results.runs[row]
    answered = next(iter(runs.values())).predicted
    tasks = [name for name in results.dev if name in answered]
    for name in (*tasks, *files):
        if name not in tasks or name not in files:
            raise ValueError(
                f"--test: wants a file for each of {', '.join(tasks)}, found {', '.join(files) or 'none'}."
            )
    repair = "Give --test TASK=FILE with a labelled file."
    digests = {name: disk.sha256(file, repair) for name, file in files.items()}
    seen = {digest: source for run in runs.values() for source, digest in run.record.data.items()}
    for name, digest in digests.items():
        if digest in seen:
            raise ValueError(f"--test {name}={files[name]}: is {seen[digest]}, which the runs were made with.")
    held: dict[str, Dev] = {}
    tested = {}
    for seed, run in runs.items():
        predicted = {}
        for name, file in files.items():
            console.print(f"{row}, seed {seed}: {name}, {file}", soft_wrap=True)
            warned = Console(quiet=True) if name in held else console
            data, predicted[name] = answer_file(run.folder, name, str(file), warned)
            held[name] = replace(results.dev[name], examples=data.examples)
        tested[seed] = replace(run, predicted=predicted)
    outline = results.outline.model_copy(update={"rows": {row: None}, "reference": row})
    found = summarise(replace(results, outline=outline, dev={name: held[name] for name in tasks}, runs={row: tested}))
    record = Record(
        row=row,
        seeds=len(runs),
        files=digests,
        scores={name: _score(estimate) for name, estimate in found.rows[row].scores.items()},
    )
    disk.write_text(out / FILE, record.model_dump_json(indent=2) + "\n")


def read(out: Path) -> Record | None:
    """Returns the record that :func:`score` made in ``out``, ``None`` if there is none.

    Raises:
        ValueError: If the record is damaged.
    """
    file = out / FILE
    return json_files.read_settings(file, Record, "Put the old file back.") if file.exists() else None


def _score(estimate: Estimate) -> Score:
    sd = None if math.isnan(estimate.sd) else estimate.sd
    return Score(mean=estimate.mean, sd=sd, interval=estimate.interval)
