"""Running a study into a folder, and writing what it says."""

import os
from pathlib import Path

from rich.console import Console

from mtbert.study import cells, results, tables
from mtbert.study.plan import Plan
from mtbert.study.results import Results
from mtbert.study.summary import summarise


def run(plan: Plan, out: Path, workers: int, console: Console) -> dict[str, str]:
    """Runs what has not ended yet of ``plan`` into ``out``, and writes its tables.

    Returns why runs failed, by their name. The threads of a run are those of its recipe, else the machine's cores
    shared among the workers, as they were when the study began.

    Raises:
        ValueError, FileNotFoundError: If ``out`` is something else, or was run with other settings.
        Stopped: After SIGINT or SIGTERM.
    """
    if out.exists() and not (out / results.FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists and is no study. Give another --out.")
    begun = (out / results.FILE).is_file()
    threads = results.read_outline(out).threads if begun else max(1, (os.cpu_count() or 1) // workers)
    laid_out = cells.lay_out(plan, out, threads)
    results.write_outline(plan, out, threads)
    console.print(
        f"{len(plan.variants)} rows, {len(plan.seeds)} seeds, {workers} at a time with {threads} threads each",
        soft_wrap=True,
    )
    failed = cells.run_all(laid_out, workers, console)
    for name, why in failed.items():
        console.print(f"failed: {name}: {why}", soft_wrap=True)
    found = results.read_study(out)
    if found.runs:
        write(found, out, console)
    return failed


def write(found: Results, out: Path, console: Console) -> None:
    """Writes the tables into ``out`` and prints them."""
    summary = summarise(found)
    (out / "tables").mkdir(exist_ok=True)
    for warning in found.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    for table in tables.tables(found, summary):
        table.write(out / "tables")
        console.print(table.printed())
