"""The command ``predict`` for any number of files.

Answers are written in parts, so several commands can divide the work.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mtbert.data import streams
from mtbert.messages import clean, count, few, shown, tell, tell_end, warn
from mtbert.part_share import PartShare
from mtbert.progress_bar import LiveBar, bar_line, clock, followed
from mtbert.use import outputs
from mtbert.use.bulk_inputs import InputColumns, check_folder, common_columns, find_inputs, is_pattern
from mtbert.use.input_columns import fitting, id_columns, text_columns
from mtbert.use.inputs import known_task
from mtbert.use.making import Maker, PartPlan
from mtbert.use.part_files import InputFile, Job
from mtbert.use.scorer import Scorer
from mtbert.use.trained import early_model, load_whole, recipe_of, recipe_targets, renamed_texts

PART_ROWS = 50_000


def is_bulk(source: str | None, output: str) -> bool:
    """Returns whether ``predict`` reads many files, or writes a folder of parts."""
    if source is None or source == outputs.STANDARD_OUTPUT:
        return False
    return (
        is_pattern(source)
        or output.endswith("/")
        or (os.path.isdir(output) and Path(output).suffix not in outputs.ANSWERS)
    )


def score_files(
    run: Path,
    pattern: str,
    folder: str,
    console: Console,
    *,
    tasks: Sequence[str] = (),
    overrides: Sequence[str] = (),
    part_rows: int | None = None,
    share: PartShare | None = None,
    ray: str | None = None,
) -> None:
    """Answers the texts of all files that match ``pattern``, and writes the answers into parts in ``folder``.

    Parts that are finished are left as they are.

    Args:
        run: The folder of a run or model.
        pattern: A file name with ``*``, ``?`` or ``[``, or a single file.
        folder: The output folder.
        console: Gets warnings, progress, and a line at the end.
        tasks: The names of the tasks that answer. If it is empty, every task that can read the first file answers.
        overrides: Changes of the recipe, each as ``a.b=c``.
        part_rows: The largest number of rows in a part; None means :data:`PART_ROWS`.
        share: The parts that this command makes; None means all.
        ray: The address of a Ray cluster, or ``local``; None if this process makes the parts.

    Raises:
        ValueError, FileNotFoundError: If the request, the model or an input file cannot be used.
    """
    out = Path(folder)
    found = find_inputs(pattern, out)
    recipe = recipe_of(run, overrides)
    check_folder(out, *recipe_targets(run, recipe))
    with followed(console):
        predictor, model = load_whole(run)
    for line in early_model(predictor, run):
        warn(console, line)
    columns = common_columns(found, [*text_columns(recipe, predictor.tasks), *id_columns(recipe, recipe.tasks)])
    named = [known_task(predictor, recipe, task).name for task in tasks]
    fits = fitting(predictor, recipe, named, columns.name, columns.names, renamed_texts(run, recipe))
    tell(console, fits.notes)
    plan = PartPlan(
        run=run,
        recipe=fits.recipe,
        tasks=tuple(fits.tasks),
        single=len(tasks) == 1,
        columns=columns.names,
        name=columns.name,
        suffix=found[0].suffix,
        folder=out,
        part_rows=PART_ROWS if part_rows is None else part_rows,
        model=model,
        share=share or PartShare(),
    )
    maker = plan.maker(predictor)
    _check_keys(maker, found)
    for key, name in maker.scorer.names.items():
        if key != name:
            warn(console, f"the input has a column {shown(key)}, so the answers to it are in {shown(name)}.")
    maker.parts.begin(_job(plan, maker.scorer, columns))
    progress = _Progress(console, found)
    with progress.bar_shown():
        if ray is not None:
            from mtbert.use import ray_parts

            ray_parts.make_all(plan, maker, found, ray, progress.made)
        else:
            _make_all(maker, found, progress)
    with followed(console):
        _tell(console, maker, found, folder)


def _make_all(maker: Maker, found: Sequence[InputFile], progress: "_Progress") -> None:
    maker.tick = progress.tick
    busy: dict[InputFile, None] = {}
    for given in found:
        progress.begin(given)
        for number in maker.make(given):
            if number is None:
                busy[given] = None
            else:
                progress.made(1)
    for given in busy:  # another command makes a part of these; if it was killed, this one makes the part
        progress.begin(given)
        for _ in maker.make(given, wait=True):
            progress.made(1)


def _check_keys(maker: Maker, found: Sequence[InputFile]) -> None:
    """Checks that each JSON Lines file has the keys that tasks read, before the first text is answered.

    Raises:
        ValueError: If a file lacks a key that tasks read, or already has a key that the output would add.
    """
    for given in found:
        if given.suffix == ".jsonl":
            keys = streams.first_keys(given.name, given.path, maker.scorer.wanted)
            if keys:
                maker.check_columns(given, keys)


def _job(plan: PartPlan, scorer: Scorer, columns: InputColumns) -> Job:
    recipe = plan.recipe
    own = plan.suffix == ".jsonl"  # each line names its columns
    return Job(
        model=plan.model,
        tasks=plan.tasks,
        single=plan.single,
        texts={task: recipe.tasks[task].columns.text for task in plan.tasks},
        ids=tuple(id_columns(recipe, plan.tasks)),
        numbered=scorer.numbered,
        columns=() if own else columns.names,
        types={} if own else dict(zip(columns.names, columns.types, strict=True)),
        names=scorer.names,
        separators={task: recipe.tasks[task].columns.separator for task in plan.tasks},
        part_rows=plan.part_rows,
        suffix=plan.suffix,
    )


def _tell(console: Console, maker: Maker, found: Sequence[InputFile], folder: str) -> None:
    """Prints how many rows and parts of the output are finished.

    If parts are still missing, also prints how many input files have all their parts. Warns about input files without
    rows, and about rows that have no answer because a text is empty.
    """
    rows = parts = complete = 0
    without = dict.fromkeys(maker.scorer.tasks, 0)
    for given in found:
        records = maker.parts.finished(given)
        whole = maker.complete(records)
        complete += whole
        for record in records.values():
            rows, parts = rows + record.rows, parts + (record.rows > 0)
            for task, number in record.without.items():
                without[task] += number
        if whole and not sum(record.rows for record in records.values()):
            warn(console, f"{given.name}: no rows, so no part.")
    empty = [f"{count(number, 'row')} of task {task}" for task, number in without.items() if number]
    if empty:
        warn(console, f"no answer in {', '.join(empty)}, because a text is empty.")
    whose = few(maker.scorer.tasks)
    line = f"{count(rows, 'row')} with the answers of {whose} in {count(parts, 'part')} in {clean(folder)}"
    if complete < len(found):
        line += f"; {complete:,} of {count(len(found), 'file')} are complete"
    tell_end(console, line)


# Progress ----------------------------------------------------------------------------------------------------


class _Progress:
    """Shows on one line how far the work has got, by the bytes of the input files."""

    def __init__(self, console: Console, found: Sequence[InputFile]) -> None:
        self._sizes = [given.path.stat().st_size for given in found]
        self._rows = self._parts = 0
        self._file = 0
        self._share = 0.0  # of the current file
        self._elsewhere: float | None = None  # the share that other processes have made
        self._start: float | None = None  # the share of all input at which this command has begun to answer
        self._since = time.monotonic()
        self._bar = LiveBar(console, self._frame, self._line)

    def bar_shown(self) -> Any:
        """Returns a context manager that shows the bar."""
        return self._bar.shown()

    def begin(self, given: InputFile) -> None:
        """Shows that the work on a file begins."""
        self._file, self._share = given.number, 0.0

    def tick(self, rows: int, share: float) -> None:
        """Shows that more rows are answered. ``share`` is the share of the current file that has been read."""
        if self._start is None:
            self._start = self._done
        self._rows += rows
        self._share = share
        self._bar.moved()

    def made(self, parts: int, rows: int = 0, share: float | None = None) -> None:
        """Adds ``parts`` to the number of finished output files, and updates the display.

        If other processes made these files, ``rows`` is the number of rows in them, and ``share`` is the completed
        share of the whole work. If this process made them, both are left out.
        """
        self._parts += parts
        self._rows += rows
        self._elsewhere = share
        self._bar.moved()

    @property
    def _done(self) -> float:
        if self._elsewhere is not None:
            return self._elsewhere
        before, own = sum(self._sizes[: self._file]), self._sizes[self._file]
        return (before + self._share * own) / max(sum(self._sizes), 1)

    @property
    def _left(self) -> float | None:
        made = self._done - (self._start or 0.0)
        if made <= 0:
            return None
        return (time.monotonic() - self._since) / made * (1 - self._done)

    def _cells(self) -> list[str]:
        rate = self._rows / max(time.monotonic() - self._since, 1e-9)
        return [
            count(self._rows, "row"),
            count(self._parts, "part"),
            f"{rate:,.0f} rows/s",
            f"{clock(self._left)} left",
        ]

    def _line(self) -> str:
        return "  ".join([f"scoring  {self._done:.0%}", *self._cells()])

    def _frame(self) -> Table:
        return bar_line("scoring", self._done, 1, self._cells(), self._bar.console.width)
