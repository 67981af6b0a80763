"""The command ``predict`` for any number of files. Answers are written in parts, which several commands can share."""

import glob
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mtbert import files
from mtbert.data import streams
from mtbert.files import resolved
from mtbert.messages import clean, count, few, shown, tell_end, warn
from mtbert.part_share import PartShare
from mtbert.progress_bar import LiveBar, bar_line, clock, followed
from mtbert.recipe.settings import Recipe
from mtbert.use import outputs
from mtbert.use.inputs import fitting, id_columns, text_columns
from mtbert.use.making import Maker, PartPlan, check_has, model_digest
from mtbert.use.part_files import RECORDS, InputFile, Job
from mtbert.use.predictor import Predictor, load
from mtbert.use.trained import early_model, recipe_of, recipe_targets

PART_ROWS = 50_000
MAGIC = "*?["  # a file name with one of these is a pattern


def is_bulk(source: str | None, output: str) -> bool:
    """Returns whether ``predict`` reads many files, or writes a folder of parts."""
    if source is None or source == outputs.STANDARD_OUTPUT:
        return False
    pattern = any(sign in source for sign in MAGIC) and not os.path.lexists(source)
    return pattern or output.endswith("/") or (os.path.isdir(output) and Path(output).suffix not in outputs.ANSWERS)


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
        tasks: The tasks that answer. If it is empty, all tasks answer whose text columns are in the first file.
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
    _check_folder(out, *recipe_targets(run, recipe))
    with followed(console):
        predictor = load(run)
    for line in early_model(predictor, run):
        warn(console, line)
    columns = _columns(found, [*text_columns(recipe, predictor.tasks), *id_columns(recipe, recipe.tasks)])
    names = list(tasks)
    if not names:
        names, warnings = fitting(predictor, recipe, found[0].name, columns)
        for line in warnings:
            warn(console, line)
    plan = PartPlan(
        run=run,
        overrides=tuple(overrides),
        tasks=tuple(names),
        single=len(tasks) == 1,
        columns=columns,
        name=found[0].name,
        suffix=found[0].suffix,
        folder=out,
        part_rows=PART_ROWS if part_rows is None else part_rows,
    )
    for task in names:
        known = recipe.tasks.get(predictor.task(task).name)
        check_has(found[0], columns, known.columns.text if known is not None else ())
    maker = plan.maker(share or PartShare(), predictor)
    for key, name in maker.scorer.names.items():
        if key != name:
            warn(console, f"the input has a column {shown(key)}, so the answers to it are in {shown(name)}.")
    with followed(console):
        maker.parts.begin(_job(plan, recipe, predictor))
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


def _job(plan: PartPlan, recipe: Recipe, predictor: Predictor) -> Job:
    assert predictor.folder is not None  # it was loaded from there
    return Job(
        model=model_digest(files.find_folder(predictor.folder) or predictor.folder),
        tasks=plan.tasks,
        single=plan.single,
        texts={task: recipe.tasks[task].columns.text for task in plan.tasks},
        ids=tuple(id_columns(recipe, plan.tasks)),
        part_rows=plan.part_rows,
        suffix=plan.suffix,
    )


def _tell(console: Console, maker: Maker, found: Sequence[InputFile], folder: str) -> None:
    """Prints how many rows and parts there are now, and what is missing."""
    rows = parts = complete = 0
    without = dict.fromkeys(maker.scorer.tasks, 0)
    for given in found:
        records = maker.parts.finished(given)
        complete += maker.complete(records)
        for record in records.values():
            rows, parts = rows + record.rows, parts + (record.rows > 0)
            for task, number in record.without.items():
                without[task] += number
        if complete and not sum(record.rows for record in records.values()):
            warn(console, f"{given.name}: no rows, so no part.")
    empty = [f"{count(number, 'row')} of task {task}" for task, number in without.items() if number]
    if empty:
        warn(console, f"no answer in {', '.join(empty)}, because a text is empty.")
    whose = few(maker.scorer.tasks)
    line = f"{count(rows, 'row')} with the answers of {whose} in {count(parts, 'part')} in {clean(folder)}"
    if complete < len(found):
        line += f"; {complete:,} of {count(len(found), 'file')} are complete"
    tell_end(console, line)


# What is asked -----------------------------------------------------------------------------------------------


def find_inputs(pattern: str, folder: Path) -> list[InputFile]:
    """Returns the files that match ``pattern``, sorted by name.

    Parts in ``folder``, the output folder of an earlier call, are left out.

    Raises:
        ValueError, FileNotFoundError: If no file matches, if an input file lies in the output folder, if two files
            would have parts of the same name, or if the files have different endings.
    """
    option = f"--input '{clean(pattern)}'"
    if os.path.lexists(pattern):
        if os.path.isdir(pattern):
            raise ValueError(f"{option}: a folder. Give a pattern for the files in it, such as 'FOLDER/*.parquet'.")
        root, paths = Path(pattern).parent, [Path(pattern)]
    else:
        fixed = pattern[: min(pattern.index(sign) for sign in MAGIC if sign in pattern)]
        root = Path(fixed[: fixed.rfind("/") + 1])
        paths = sorted(path for name in glob.glob(pattern, recursive=True) if not (path := Path(name)).is_dir())
    real = resolved(folder)
    inside = [path for path in paths if resolved(path).is_relative_to(real)]
    if inside and not (folder / RECORDS).is_dir():
        raise ValueError(
            f"--output {clean(str(folder))}: holds input files, such as '{clean(str(inside[0]))}'. Give another folder."
        )
    paths = [path for path in paths if path not in inside]
    if not paths:
        raise FileNotFoundError(f"{option}: no file matches. Check the pattern, and put it in quotes.")
    found = [InputFile(path, path.relative_to(root), number) for number, path in enumerate(paths)]
    stems: dict[Path, InputFile] = {}
    for given in found:
        if clean(str(given.path)) != str(given.path):
            raise ValueError(f"{given.name}: its name has characters that cannot be shown. Rename it.")
        if given.suffix not in outputs.ANSWERS:
            raise ValueError(
                f"{given.name}: files to score in parts end in {few(outputs.ANSWERS)}. Change the pattern."
            )
        if given.suffix != found[0].suffix:
            raise ValueError(
                f"{given.name}: ends in {given.suffix}, but {found[0].name} in {found[0].suffix}. Score files of one "
                "kind at a time."
            )
        other = stems.setdefault(given.place.with_name(given.stem), given)
        if other is not given:
            raise ValueError(f"{given.name}: its parts would have the names of those of {other.name}. Rename one.")
    return found


def _check_folder(folder: Path, home: Path, reads: dict[Path, str]) -> None:
    """Checks that parts may be written into the output folder.

    Args:
        folder: The folder.
        home: The folder of the run or model.
        reads: Files and folders that must not be overwritten, each with a phrase that says what it is.
    """
    files.check_out(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {folder}: a file. With a pattern as --input, give a folder.")
    outputs.check_place(f"--output {folder}", resolved(folder) / "part", home, reads)


def _columns(found: Sequence[InputFile], wanted: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of the first file, after checking that all other files can be read and have the same columns.

    JSON lines files need not have the same columns, because each line names its own columns.
    """
    first = found[0]
    with streams.opened_stream(first.name, first.path, wanted) as stream:
        columns, types = stream.columns, stream.types
    for given in found[1:]:
        if first.suffix == ".jsonl":
            streams.top_columns(given.name, given.path, wanted)
            continue
        with streams.opened_stream(given.name, given.path, wanted) as stream:
            for column in dict.fromkeys((*columns, *stream.columns)):
                if (column in columns) != (column in stream.columns):
                    both = (given, first) if column in stream.columns else (first, given)
                    raise ValueError(
                        f"{both[0].name}: has a column {shown(column)}, but {both[1].name} has none. {_ALIKE}"
                    )
            if columns != stream.columns:
                raise ValueError(f"{given.name}: has the columns of {first.name} in another order. {_ALIKE}")
            for column, one, other in zip(columns, types, stream.types, strict=True):
                if one != other:
                    raise ValueError(
                        f"{given.name}, column {shown(column)}: is of type {other}, but {one} in {first.name}. {_ALIKE}"
                    )
    return columns


_ALIKE = "All files must have the same columns, or be scored into folders of their own."


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
        """Counts ``parts`` more output files as finished, and updates the display.

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
