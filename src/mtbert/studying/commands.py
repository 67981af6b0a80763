"""The commands ``mtbert study`` and ``mtbert report``. The first carries out a study, the second reports on it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mtbert import files, locks
from mtbert.advice import command_line
from mtbert.json_files import write_settings
from mtbert.messages import count, few, reason, tell_end, warn
from mtbert.part_share import PartShare
from mtbert.progress_bar import followed, progress_of
from mtbert.recipe.files import RECIPE_FILE
from mtbert.splits import check_files
from mtbert.studying import report, results
from mtbert.studying.held_out import score_held_out
from mtbert.studying.held_out_scores import read_held_out
from mtbert.studying.plan import Plan
from mtbert.studying.results import EndedRun, Results
from mtbert.studying.run_processes import run_all
from mtbert.studying.runs import CELLS, lay_out, run_place, run_recipes
from mtbert.training.assemble import check_encoder
from mtbert.use.trained import ask_line


@dataclass(frozen=True)
class EndedStudy:
    """How a command carried out a study.

    Attributes:
        failed: A dict from the name of each failed run to the reason for its failure.
        answer: The first sentences of the report; an empty text if this command did not write the report.
    """

    failed: Mapping[str, str]
    answer: str = ""


def run_study(
    plan: Plan,
    out: Path,
    workers: int,
    console: Console,
    *,
    share: PartShare | None = None,
    wait: bool = True,
) -> EndedStudy:
    """Carries out a study: starts or resumes every run that has not ended, and writes the report.

    Any number of commands, on any number of machines that share the disk, may carry out a study together. Each run is
    trained by one of them, and the last of them writes the report.

    A run uses the number of threads that its recipe gives. If the recipe gives none, the machine's cores are divided
    equally among the workers. This number of threads is fixed when the study begins, and later calls use it again.

    Args:
        plan: The plan of the study.
        out: The folder of the study. It is new, or it comes from an earlier call with the same plan.
        workers: The number of runs that train at the same time.
        console: Shows progress, warnings and tables.
        share: The runs that this command trains, by their places in the plan; None means all.
        wait: Whether to wait at the end for runs that other commands train.

    Raises:
        FileNotFoundError: If an encoder or a data file is missing.
        ValueError: If an encoder cannot be used, if the folder holds something that is not a study, if a run in it was
            made with other settings, or if other commands are at work there with another plan.
        Stopped: After SIGINT or SIGTERM.
    """
    with ExitStack() as stack:
        here = stack.enter_context(_begun(plan, out, workers, os.cpu_count() or 1, console))
        places = {f"{row}, seed {seed}": run_place(out, row, seed) for row, seed in plan.runs}
        wanted = (share or PartShare()).has
        mine = {name: place for number, (name, place) in enumerate(places.items()) if wanted(number)}
        failed = run_all(mine, workers, console, wait=wait)
        failed = {name: why for name, why in failed.items() if not places[name].ended.exists()}
        for name, why in failed.items():
            console.print(f"failed: {name}: {why}", soft_wrap=True)
        answer = ""
        with locks.alone(out, "study", wait=True):
            last = here.only()
            states = {place.folder.name: place.state for name, place in places.items() if name not in failed}
            left = [f"{run} ({state})" for run, state in states.items() if state not in ("ended", "failed")]
            if last and not left:
                found = results.read_study(out)
                if found.runs:
                    answer = _write(found, out, console)
    if left:
        console.print(
            f"{len(left)} of {count(len(places), 'run')} left: {few(left, 5)}. To see all, give --list.", soft_wrap=True
        )
    elif not last:
        console.print(f"all runs have ended; another command writes {out / report.REPORT_FILE}", soft_wrap=True)
    return EndedStudy(failed, answer)


def begin_study(plan: Plan, out: Path, workers: int, console: Console, *, cores: int) -> None:
    """Checks a study and writes its outline and recipes, so that commands on other machines can carry it out.

    Args:
        plan: The plan of the study.
        out: The folder of the study. It is new, or it comes from an earlier call with the same plan.
        workers: The number of runs that a command on another machine trains at the same time.
        console: Shows the size of the study.
        cores: The number of cores of each machine. Where a recipe gives no number of threads, the workers of a machine
            share its cores equally.

    Raises:
        FileNotFoundError, ValueError: As :func:`run_study`.
    """
    with _begun(plan, out, workers, cores, console):
        pass


@contextmanager
def _begun(plan: Plan, out: Path, workers: int, cores: int, console: Console) -> Iterator[locks.Presence]:
    """A context manager that begins a study, and yields a lock.

    By the lock, other commands know that this one is working on the study.
    """
    _check_place(out)  # before a lock is put into a folder of something else
    for row in {row: 0 for row, seed in plan.runs if not run_place(out, row, seed).ended.exists()}:
        check_encoder(plan.rows[row].recipe)
        check_files(plan.rows[row].recipe)
    with ExitStack() as stack:
        with locks.alone(out, "study", wait=True):  # one command at a time begins or ends
            here = stack.enter_context(locks.presence(out / CELLS))
            threads = _lay_out(plan, out, max(1, cores // workers), here)
        console.print(
            f"{count(len(plan.rows), 'row')}, {count(len(plan.seeds), 'seed')}, {workers} at a time, each with "
            f"{' or '.join(map(str, threads))} of {count(cores, 'thread')}",
            soft_wrap=True,
        )
        yield here


def _lay_out(plan: Plan, out: Path, threads: int, here: locks.Presence) -> list[int]:
    """Writes the outline and the recipes of a study, and marks this command as present in the study's folder.

    If other commands are at work in the folder, the outline and the recipes are not written again.

    Args:
        plan: The plan of the study.
        out: The folder of the study.
        threads: The number of threads of a run in a new study, if the recipe of the run gives none.
        here: The mark of this command.

    Returns:
        All numbers of threads that occur in the runs, in ascending order.

    Raises:
        ValueError: If other commands carry out another plan in the folder, or if a run was made with other settings.
    """
    file = out / results.OUTLINE_FILE
    files.settle(file)
    if file.is_file():
        threads = results.read_outline(out).threads
    recipes = run_recipes(plan, out, threads)
    outline = results.outline_of(plan, threads, recipes.values())
    if here.only():
        write_settings(file, outline)
        lay_out(recipes)
    elif not file.is_file() or results.read_outline(out) != outline:
        raise ValueError(
            f"{out}: another mtbert study is at work there, with other rows, seeds, settings or place of the data. "
            "Give the same, wait for it, or give another folder."
        )
    here.share()
    return sorted({recipe.train.threads or threads for recipe in recipes.values()})


def list_runs(plan: Plan, out: Path, share: PartShare | None = None) -> list[str]:
    """Returns a line for each run of a study: the run's number from 1, the name of its recipe, its seed and its state.

    Args:
        plan: The plan of the study.
        out: The folder of the study, which need not exist yet. Nothing is written there.
        share: The runs to list, by their places in the plan; None means all.

    Raises:
        ValueError: If the folder holds something that is not a study.
    """
    _check_place(out)
    width = max(map(len, plan.rows))
    return [
        f"{number + 1:>{len(str(len(plan.runs)))}}  {row:<{width}}  {seed:<{len(str(max(plan.seeds)))}}  "
        f"{run_place(out, row, seed).state}"
        for number, (row, seed) in enumerate(plan.runs)
        if (share or PartShare()).has(number)
    ]


def _check_place(out: Path) -> None:
    """Raises a ValueError if ``out`` holds something that is not a study.

    A study that was killed at its very start is accepted, although it has no ``study.json`` yet.
    """
    found = locks.find_held(out)
    started = {locks.LOCK, *(f".{results.OUTLINE_FILE}.{end}" for end in ("new", "old"))}
    if found is None or (found / results.OUTLINE_FILE).is_file():
        return
    if locks.is_free(found / CELLS):
        started.add(CELLS)
    if not found.is_dir() or not set(os.listdir(found)) <= started:
        raise ValueError(f"{out}: exists and is no study. Give another folder.")


def report_on(path: Path, console: Console, row: str | None = None, test: Mapping[str, Path] | None = None) -> None:
    """Writes a report with tables and figures into the folder of a study or of a single run. Prints the tables.

    Args:
        path: The folder of the study or run.
        console: Shows warnings and the tables.
        row: The name of a recipe of the study. The runs of this recipe are scored on test data before the report is
            written. In each study, only one recipe can be scored on test data, and only once.
        test: A dict from the name of each task of this recipe to the path of a labelled test file.

    Raises:
        FileNotFoundError, ValueError: If the folder holds neither a study nor a run, or if a file is damaged. For a
            study: if no run has ended. For a single run: if dev has not been scored yet, or if another command is at
            work in the folder.
    """
    single = (path / RECIPE_FILE).is_file()
    if not single:
        results.read_outline(path)  # before a lock is put into a folder of something else
    repair = f"Its report can be written when that has ended. Meanwhile: {command_line('watch', path)}"
    # In a study's folder, commands only work for moments.
    with locks.alone(path, "train or report", wait=not single, repair=repair):
        found = results.read_run(path) if single else results.read_study(path)
        if not found.runs:
            raise ValueError(
                f"{path}: no run of this study has ended. Go on with it: "
                f"{command_line('study', 'STUDY', '--out', path)}"
            )
        if test or row is not None:
            with followed(console):
                score_held_out(found, row, test or {}, path, console)
        _write(found, path, console)


def report_at_end(run: Path, console: Console) -> report.Report | None:
    """Writes ``report.html`` into the folder of a run that has just ended, and returns the report.

    If this fails, or Ctrl-C is pressed, a warning says so, and None is returned: the run has ended all the same.
    """
    try:
        with locks.alone(run, "train or report"), followed(console), progress_of("writing the report"):
            made = report.make_report(results.read_run(run))
            report.write_page(made, run)
            return made
    except (Exception, KeyboardInterrupt) as error:
        why = "stopped" if isinstance(error, KeyboardInterrupt) else reason(error)
        warn(
            console,
            f"no report was written ({why}). The run has ended; make its report with: {command_line('report', run)}",
        )
        return None


def _write(found: Results, out: Path, console: Console) -> str:
    """Writes report, tables and figures into ``out``. Prints warnings and tables. Prints and returns the conclusion."""
    for warning in [*found.warnings, *report.undefined_metrics(found)]:
        warn(console, warning)
    with followed(console), progress_of("writing the report"):
        made = report.make_report(found, read_held_out(out))
        report.write_parts(made, out)
        page = report.write_page(made, out)
    for table in made.tables:
        console.print(table.printed())
    console.print(made.conclusion.headline, soft_wrap=True)
    best = _best_run(made)
    asked = None if best is None else ask_line(best.folder, best.recipe)
    following = asked if found.stopped is None else found.stopped.again
    tell_end(console, f"the report is {page}", *([] if following is None else [following]))
    return made.conclusion.headline


def _best_run(made: report.Report) -> EndedRun | None:
    """Returns a run of the recipe with the best mean score; None if no task was scored.

    If the recipe has several runs, returns the run with the first seed.
    """
    summary = made.summary
    means = {name: row.scores[summary.main].mean for name, row in summary.rows.items() if summary.main in row.scores}
    return next(iter(made.results.runs[max(means, key=means.__getitem__)].values())) if means else None
