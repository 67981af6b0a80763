"""The display of ``mtbert watch``: how far a run or the runs of a study are. It reads logs, and changes nothing."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mtbert import files, locks
from mtbert.advice import call
from mtbert.environment import ENVIRONMENT_FILE
from mtbert.messages import clean
from mtbert.progress_bar import clock
from mtbert.recipe.files import RECIPE_FILE, load_run_recipe
from mtbert.studying.results import read_outline
from mtbert.studying.runs import RunPlace, run_place
from mtbert.training import history
from mtbert.training.best import BestSoFar
from mtbert.training.timings import LARGEST_LOG, TIMINGS, StepTime

LOOK_EVERY = 2.0  # seconds between looks
BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-=+*%#"  # the second without Unicode
WIDEST = 60  # characters of a small plot
RECENT = 200  # steps from which the time left is estimated
PAUSE = 600.0  # seconds without a step after which a run counts as stopped and resumed
SMOOTH = 20  # values of a loss whose mean is shown
QUIET = 60.0  # seconds without a new line after which that is said

_Line = TypeVar("_Line")
_Look = Callable[[], tuple[list[str], bool]]  # the lines to show, and whether everything has ended


def watch_folder(path: Path, console: Console) -> None:
    """Shows on ``console`` how far a run or a study has got.

    A terminal is updated until the run or study has ended, or until Ctrl-C is pressed. Any other output, such as a
    file, gets the present state once.

    Raises:
        FileNotFoundError, ValueError: If the folder holds neither a run nor a study.
    """
    is_run = all((path / name).is_file() for name in (RECIPE_FILE, ENVIRONMENT_FILE))
    look = _run_look(path, console) if is_run else _study_look(path, console)
    lines, ended = look()
    if not console.is_terminal or ended:
        for line in lines:
            console.print(line, soft_wrap=True)
        return
    with suppress(KeyboardInterrupt), Live(_text(lines), console=console, auto_refresh=False) as live:
        while not ended:
            time.sleep(LOOK_EVERY)
            lines, ended = look()
            live.update(_text(lines), refresh=True)


def _text(lines: Sequence[str]) -> Text:
    return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")


# A run -----------------------------------------------------------------------------------------------------


class Tail(Generic[_Line]):
    """The lines of a file that another process writes. Each look reads only what is new."""

    def __init__(self, file: Path, parse: Callable[[bytes], _Line]) -> None:
        self.file, self.parse = file, parse
        self._lines: list[_Line] = []
        self._place = (0, 0)  # the inode of the file, and the number of bytes read
        self.written = 0.0  # when the file was last written, in seconds since 1970

    def look(self) -> list[_Line]:
        """Returns all whole lines so far, without damaged ones. A file that was cut or replaced is read again."""
        try:
            self._read()
        except FileNotFoundError:  # not written yet, or taken away
            self._lines, self._place = [], (0, 0)
        return self._lines

    def _read(self) -> None:
        with files.open_regular(self.file, LARGEST_LOG) as opened:
            found, (inode, read) = os.fstat(opened.fileno()), self._place
            self.written = found.st_mtime
            if found.st_ino != inode or found.st_size < read:
                self._lines, read = [], 0
            opened.seek(read)
            content = opened.read(found.st_size - read)
            whole = content[: content.rfind(b"\n") + 1]
            self._place = (found.st_ino, read + len(whole))
            for text in whole.splitlines():
                with suppress(ValueError):
                    self._lines.append(self.parse(text))


class WatchedRun:
    """A run that is watched: its recipe, and what it has logged so far."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._begin()
        self.steps: list[history.Line] = []
        self.evaluations: list[history.Line] = []
        self.timings: list[StepTime] = []

    def _begin(self) -> None:
        """Reads the recipe of the run. The next :meth:`look` will read the logs of the run from their first line."""
        self._of = (self.run / RECIPE_FILE).stat().st_ino
        self.recipe = load_run_recipe(self.run / RECIPE_FILE)
        self._metrics = Tail(self.run / history.METRICS, history.parse_line)
        self._timings = Tail(self.run / TIMINGS, StepTime.model_validate_json)

    def look(self) -> None:
        """Reads what the run has logged since the last look.

        If the folder now holds a new run, reads the recipe and the whole log of the new run.
        """
        with suppress(FileNotFoundError):  # the folder is being replaced
            if (self.run / RECIPE_FILE).stat().st_ino != self._of:
                self._begin()
        lines = self._metrics.look()
        self.steps = [line for line in lines if "evaluation" not in line]
        self.evaluations = [line for line in lines if "evaluation" in line]
        self.timings = self._timings.look()

    @property
    def written(self) -> float:
        """When the run logged its last line, in seconds since 1970."""
        return self._metrics.written

    @property
    def done(self) -> int:
        """The number of steps so far."""
        return int(self.steps[-1]["step"]) if self.steps else 0

    @property
    def total(self) -> int | None:
        """The number of steps of the whole run; None if the log does not say it."""
        return self.timings[-1].of if self.timings else None

    @property
    def ended(self) -> bool:
        """Whether dev was scored after the last step, or the run was stopped by ``train.patience``."""
        if not self.evaluations or self.evaluations[-1]["step"] != self.done:
            return False
        patience, so_far = self.recipe.train.patience, BestSoFar()
        for line in self.evaluations:
            so_far.count(history.selected(line, self.recipe))
        return self.done == self.total or (patience is not None and so_far.since >= patience)

    @property
    def left(self) -> float | None:
        """The estimated number of seconds until the end, scoring of dev included; None if it cannot be estimated."""
        at = [line.at for line in self.timings[-RECENT:] if line.at is not None]
        since = max((i + 1 for i in range(len(at) - 1) if at[i + 1] - at[i] > PAUSE), default=0)
        at = at[since:]
        if self.total is None or len(at) < 2:
            return None
        return (at[-1] - at[0]) / (len(at) - 1) * max(0, self.total - self.done)


def _run_look(path: Path, console: Console) -> _Look:
    run = WatchedRun(path)

    def look() -> tuple[list[str], bool]:
        run.look()
        return run_lines(run, console.width, bars_for(console), time.time()), run.ended

    return look


def run_lines(run: WatchedRun, width: int, bars: str, now: float) -> list[str]:
    """Returns the lines that show a run: its progress, its losses and its dev scores, each with a small plot.

    Args:
        run: The run, whose log has been read by :meth:`WatchedRun.look`.
        width: The number of columns of the terminal.
        bars: The characters of a plot, the lowest first.
        now: The present time, in seconds since 1970.
    """
    if not run.steps:
        return [f"{clean(str(run.run))}: no step yet"]
    of = f" of {run.total:,} ({run.done / run.total:.0%})" if run.total else ""
    lines = [
        clean(str(run.run)),
        f"step {run.done:,}{of}, {_state(run, now)}",
    ]  # a terminal cuts a long path, not the state
    last = run.steps[-1]
    parts = [f"learning rate {last['lr']:.2e}"] if "lr" in last else []
    seconds = sum(line.seconds for line in run.timings[-RECENT:])
    if seconds:
        tokens = sum(line.get("tokens", 0) for line in run.steps[-RECENT:])
        parts.append(f"{tokens / seconds:,.0f} tokens/s")
    if run.timings and run.timings[-1].memory is not None:
        parts.append(f"{run.timings[-1].memory / 2**30:.2f} GiB")
    lines.append("  ".join(parts))
    losses: dict[str, list[float]] = {}
    for line in run.steps:
        for name, value in line.get("losses", {}).items():
            losses.setdefault(name, []).append(value)
    lines += _plots(f"losses, mean of the last {SMOOTH}", losses, width, bars, SMOOTH)
    scores: dict[str, list[float]] = {}
    for line in run.evaluations:
        for task, found in history.task_scores(line).items():
            metric = run.recipe.tasks[task].metric
            scores.setdefault(f"{task} {metric}", []).append(found.metrics[metric])
        scores.setdefault(run.recipe.train.select, []).append(history.selected(line, run.recipe))
    best = history.best(run.evaluations, run.recipe)
    title = "dev" if best is None else f"dev, best at step {best['step']:,}"
    return lines + _plots(title, scores, width, bars)


def _state(run: WatchedRun, now: float) -> str:
    if run.ended:
        return "ended"
    quiet = now - run.written
    most = "at most " if run.recipe.train.patience is not None else ""
    left = f"{most}about {clock(run.left)} left" if run.left is not None else "time left unknown"
    if quiet < QUIET:
        return left
    why = "busy, perhaps with dev" if locks.is_locked(run.run) else f"stopped; go on: {call('train', resume=run.run)}"
    return f"{left}, no new line for {clock(quiet)}: {why}"


def _plots(title: str, values: dict[str, list[float]], width: int, bars: str, last: int = 1) -> list[str]:
    """Returns lines of text: an empty line, the title, and one line for each series in ``values``.

    The line of a series shows its name, the mean of its last ``last`` values, and a small plot of all its values. If
    ``values`` is empty, returns an empty list.
    """
    if not values:
        return []
    names = {name: clean(name)[: max(8, width // 3)] for name in values}
    longest = max(map(len, names.values()))
    room = max(0, min(WIDEST, width - longest - 13))
    lines = [
        f"{names[name]:{longest}} {np.mean(found[-last:]):9.4f}  {sparkline(found, room, bars)}"
        for name, found in values.items()
    ]
    return ["", title, *(f" {line}".rstrip() for line in lines)]


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> str:
    """Returns a plot of at most ``width`` characters; with more values, each character is the mean of several.

    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7], width=8)
    '▁▂▃▄▅▆▇█'
    >>> sparkline([1, 3, 5, 7], width=2)
    '▁█'
    """
    if not values or width < 1:
        return ""
    means = np.array([part.mean() for part in np.array_split(np.array(values, np.float64), min(width, len(values)))])
    low, high = means.min(), means.max()
    shares = (means - low) / (high - low) if high > low else np.full(len(means), 0.5)
    return "".join(bars[min(int(share * len(bars)), len(bars) - 1)] for share in shares)


def bars_for(console: Console) -> str:
    """Returns the characters from which plots are drawn, the lowest bar first. The console can print all of them."""
    return BARS if console.encoding.lower().startswith("utf") else PLAIN_BARS


# A study ---------------------------------------------------------------------------------------------------


def _study_look(path: Path, console: Console) -> _Look:
    outline = read_outline(path)
    places = {f"{row}, seed {seed}": run_place(path, row, seed) for row in outline.rows for seed in outline.seeds}
    runs: dict[str, WatchedRun] = {}

    def look() -> tuple[list[str], bool]:
        ended = sum(place.ended.is_file() for place in places.values())
        longest = max(map(len, places))
        lines = [f"{clean(str(path))}: {ended} of {len(places)} runs have ended"]
        for name, place in places.items():
            if name not in runs and (place.run / RECIPE_FILE).is_file():
                runs[name] = WatchedRun(place.run)
            lines.append(
                f" {clean(name):{longest}}  {_cell_line(place, runs.get(name), bars_for(console), time.time())}"
            )
        return lines, ended == len(places)

    return look


def _cell_line(place: RunPlace, run: WatchedRun | None, bars: str, now: float) -> str:
    """Returns a text about a run of a study: its state, its newest dev score, and a small plot of its dev scores."""
    state: str = place.state
    if state == "failed":
        return clean(f"failed: {place.why_failed}")
    if run is None:
        return state
    run.look()
    if state != "ended" and run.steps:
        share = f"{run.done / run.total:.0%}" if run.total else f"step {run.done:,}"
        state += f" {share}" + (f", {_state(run, now)}" if state == "training" else "")
    scores = [history.selected(line, run.recipe) for line in run.evaluations]
    if not scores:
        return state
    return f"{state}  {run.recipe.train.select} {scores[-1]:.4f}  {sparkline(scores, WIDEST // 3, bars)}"
