"""Scoring one recipe of a study on test files: only once, after the recipe was chosen by its dev scores."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mtbert import files, json_files
from mtbert.messages import shown, warn
from mtbert.studying.held_out_scores import HELD_OUT_FILE, HeldOutScore, HeldOutScores, read_held_out
from mtbert.studying.results import DevData, Results
from mtbert.studying.statistics import Estimate
from mtbert.studying.summary import summarise
from mtbert.use.evaluate import answer_file


def score_held_out(results: Results, row: str | None, tests: Mapping[str, Path], out: Path, console: Console) -> None:
    """Uses test files to score all runs of one recipe of a study, and writes the scores to ``test.json``.

    Args:
        results: The results of the study.
        row: The name of the recipe in the study; None if the user named no recipe, which is an error.
        tests: A dict from the name of each task of the recipe to the path of a labelled test file.
        out: The folder of the study.
        console: Shows which run is being scored on which file.

    Raises:
        ValueError: If the study was scored on test before, if ``row`` is None or not a recipe of the study, if a run
            of the recipe has not ended, if the files do not match the tasks, or if a run has already used one of the
            files. Nothing is written then.
        FileNotFoundError: If a file does not exist. Nothing is written then.
    """
    before = read_held_out(out)
    if before is not None:
        raise ValueError(
            f"{out / HELD_OUT_FILE}: row {before.row} was scored on test before, and a second look would make the test "
            "another dev set. Leave out --test and --row: the report shows these scores."
        )
    if row is None or row not in results.runs:
        raise ValueError(
            f"--row{'' if row is None else ' ' + shown(row)}: --test needs the row to score. "
            f"Give --row {' or --row '.join(results.runs)}."
        )
    unended = [name for name in results.missing if name.startswith(f"{row}, seed ")]
    if unended:
        raise ValueError(
            f"{unended[0]}: has not ended. A row is scored on test only once, so all its seeds must have ended: go on "
            "with the study first."
        )
    runs = results.runs[row]
    answered = next(iter(runs.values())).predicted
    tasks = [name for name in results.dev if name in answered]
    for name in (*tasks, *tests):
        if name not in tasks or name not in tests:
            raise ValueError(
                f"--test: needs a file for each of {', '.join(tasks)}, found {', '.join(tests) or 'none'}."
            )
    repair = "Give --test TASK=FILE with a labelled file."
    digests = {name: files.sha256(file, repair) for name, file in tests.items()}
    seen = {digest: source for run in runs.values() for source, digest in run.record.data.items()}
    for name, digest in digests.items():
        if digest in seen:
            raise ValueError(
                f"--test {name}={tests[name]}: has the same content as {seen[digest]}, which the runs were made with. "
                "Give a file that no run has seen."
            )
    held: dict[str, DevData] = {}
    tested = {}
    for seed, run in runs.items():
        predicted = {}
        for name, file in tests.items():
            console.print(f"{row}, seed {seed}: {name}, {file}", soft_wrap=True)
            data, predicted[name], warnings = answer_file(run.folder, name, str(file))
            for line in () if name in held else warnings:  # the warnings about the file are the same for all runs
                warn(console, line)
            held[name] = replace(results.dev[name], examples=data.examples)
        tested[seed] = replace(run, predicted=predicted)
    outline = results.outline.model_copy(update={"rows": {row: None}, "reference": row})
    found = summarise(replace(results, outline=outline, dev={name: held[name] for name in tasks}, runs={row: tested}))
    record = HeldOutScores(
        row=row,
        seeds=len(runs),
        files=digests,
        scores={name: _score(estimate) for name, estimate in found.rows[row].scores.items()},
    )
    json_files.write_settings(out / HELD_OUT_FILE, record)


def _score(estimate: Estimate) -> HeldOutScore:
    sd = None if math.isnan(estimate.sd) else estimate.sd
    return HeldOutScore(mean=estimate.mean, sd=sd, interval=estimate.interval)
