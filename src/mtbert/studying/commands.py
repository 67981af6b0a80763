"""The commands ``mtbert study``, which runs a study in a folder, and ``mtbert report``, which writes its report."""

import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from mtbert import files, locks
from mtbert.messages import count, warn
from mtbert.prepare import check_files
from mtbert.recipe.files import RECIPE_FILE
from mtbert.studying import report, results
from mtbert.studying.held_out import score_held_out
from mtbert.studying.plan import Plan
from mtbert.studying.results import Results
from mtbert.studying.runs import lay_out, run_all, run_place, run_recipes


def run_study(plan: Plan, out: Path, workers: int, console: Console) -> dict[str, str]:
    """Runs all runs of a plan that have not ended, and writes the report.

    Args:
        plan: The study.
        out: Its folder, new or from an earlier call with the same plan.
        workers: Number of runs at the same time.
        console: Shows progress, warnings and the tables.

    Returns:
        The reason for each failed run, by the name of the run.

    A run uses as many threads as its recipe says. Without a number there, the machine's cores are shared among the
    workers, as they were when the study began.

    Raises:
        FileNotFoundError, ValueError: If the folder holds something else, a run in it was made with other settings, or
            another process runs a study there.
        Stopped: After SIGINT or SIGTERM.
    """
    _check_place(out)  # before a lock is put into a folder of something else
    for row, seed in plan.runs:
        if not run_place(out, row, seed).ended.exists():
            check_files(plan.rows[row].seeded(seed))
    with locks.alone(out, "study"):
        return _run(plan, out, workers, console)


def _run(plan: Plan, out: Path, workers: int, console: Console) -> dict[str, str]:
    files.settle(out / results.OUTLINE_FILE)
    begun = (out / results.OUTLINE_FILE).is_file()
    threads = results.read_outline(out).threads if begun else max(1, (os.cpu_count() or 1) // workers)
    recipes = run_recipes(plan, out, threads)
    results.write_outline(plan, out, threads)
    lay_out(recipes)
    each = sorted({recipe.train.threads or threads for recipe in recipes.values()})
    console.print(
        f"{count(len(plan.rows), 'row')}, {count(len(plan.seeds), 'seed')}, {workers} at a time, each with "
        f"{' or '.join(map(str, each))} of {os.cpu_count()} threads",
        soft_wrap=True,
    )
    named = {f"{row}, seed {seed}": run_place(out, row, seed) for row, seed in plan.runs}
    failed = run_all(named, workers, console)
    for name, why in failed.items():
        console.print(f"failed: {name}: {why}", soft_wrap=True)
    found = results.read_study(out)
    if found.runs:
        _write(found, out, console)
    return failed


def _check_place(out: Path) -> None:
    """Raises ValueError if ``out`` holds something other than a study, or one that was killed at its start."""
    found = locks.find_held(out)
    started = {locks.LOCK, *(f".{results.OUTLINE_FILE}.{end}" for end in ("new", "old"))}
    if found is None or (found / results.OUTLINE_FILE).is_file():
        return
    if not found.is_dir() or not set(os.listdir(found)) <= started:
        raise ValueError(f"{out}: exists and is no study. Give another folder.")


def report_on(path: Path, console: Console, row: str | None = None, test: Mapping[str, Path] | None = None) -> None:
    """Writes the report of a study or of one run into its folder, with tables and figures, and prints the tables.

    Args:
        path: The folder of the study or run.
        console: Shows warnings and the tables.
        row: The row to score on test first, which can be done only once.
        test: A labelled test file for each task.

    Raises:
        FileNotFoundError, ValueError: If the folder holds neither, no run has ended, or a file in it is damaged.
    """
    found = results.read_run(path) if (path / RECIPE_FILE).is_file() else results.read_study(path)
    if not found.runs:
        raise ValueError(f"{path}: no run of this study has ended. Go on with it: mtbert study STUDY --out {path}")
    if test or row is not None:
        score_held_out(found, row, test or {}, path, console)
    _write(found, path, console)


def _write(found: Results, out: Path, console: Console) -> None:
    """Writes tables, figures and the report into ``out`` and prints the tables."""
    for warning in [*found.warnings, *report.undefined_metrics(found)]:
        warn(console, warning)
    for table in report.write_report(found, out):
        console.print(table.printed())
    console.print(f"report: {out / report.REPORT_FILE}", soft_wrap=True)
