"""The runs of a study: where they are, and running those that have not ended.

``cells/ROW-SEED/`` in a study's folder has ``recipe.yaml``, ``log.txt`` (what the run printed), ``run/`` (a run as
``mtbert train`` makes it) and, once that has come to its end, ``ended.json``.
"""

import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from mtbert import files
from mtbert.progress_bar import LiveBar, bar_line
from mtbert.recipe.files import RECIPE_FILE, change_run_recipe, dump_recipe, load_run_recipe
from mtbert.recipe.settings import Recipe
from mtbert.settings import Settings
from mtbert.study.plan import Plan
from mtbert.training.stopping import Stopped, signals

GUESS = 2 * 1024**3  # bytes of a worker, before one has been seen
LOOK = 0.2  # seconds between looks at the workers
STEPS = re.compile(rb"step (\d+)/(\d+)")


class EndRecord(Settings):
    """The content of ``ended.json``, which a run leaves when it has ended."""

    seconds: float  # of training alone


@dataclass(frozen=True)
class RunPlace:
    """The folder of one run of a study."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / RECIPE_FILE

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def ended(self) -> Path:
        return self.folder / "ended.json"

    @property
    def share(self) -> float:
        """How much of the run is done, as its log last said: 0 to 1."""
        said = STEPS.findall(self.log.read_bytes()[-4000:]) if self.log.exists() else []
        return int(said[-1][0]) / int(said[-1][1]) if said else 0.0

    def tidy(self) -> None:
        """Drops what only training needs of a run that has ended: ``best/`` predicts, ``last/`` goes."""
        if self.ended.exists() and (self.run / "best").exists():
            shutil.rmtree(self.run / "last", ignore_errors=True)

    @property
    def last_words(self) -> str:
        """The last line of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def run_place(out: Path, row: str, seed: int) -> RunPlace:
    """The place of a row's run with a seed in the study at ``out``."""
    return RunPlace(out / "cells" / f"{row}-{seed}")


def run_recipes(plan: Plan, out: Path, threads: int) -> dict[RunPlace, Recipe]:
    """The recipe of every run of the study in ``out``; those that do not say use ``threads`` threads.

    Raises:
        ValueError: If a run that has begun there was made with other settings.
    """
    found = {}
    for row, seed in plan.runs:
        recipe = plan.rows[row].seeded(seed)
        if recipe.train.threads is None:
            recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"threads": threads})})
        one = run_place(out, row, seed)
        begun = one.run / RECIPE_FILE
        if begun.is_file() and load_run_recipe(begun).placeless() != recipe.placeless():
            raise ValueError(
                f"{one.folder}: was run with other settings. Give another --out, rename the row, or remove the folder."
            )
        found[one] = recipe
    return found


def lay_out(wanted: Mapping[RunPlace, Recipe]) -> None:
    """Makes the folder of every run, with its recipe; of runs that have begun, the place of their data may move."""
    for one, recipe in wanted.items():
        one.folder.mkdir(parents=True, exist_ok=True)
        one.tidy()  # a kill may have come between a run's end and that
        files.write_text(one.recipe, dump_recipe(recipe))
        begun = one.run / RECIPE_FILE
        if begun.is_file():
            change_run_recipe(begun, {"data": {"root": recipe.data.root}})


def run_all(cells: Mapping[str, RunPlace], workers: int, console: Console) -> dict[str, str]:
    """Runs every cell that has not ended, ``workers`` at a time while memory lasts.

    Returns why runs failed, by their name; one that fails does not keep the others from going on.

    Raises:
        Stopped: After SIGINT or SIGTERM, when all workers have saved what they had.
    """
    waiting = deque(name for name, cell in cells.items() if not cell.ended.exists())
    already = len(cells) - len(waiting)
    if already:
        console.print(f"{already} of {len(cells)} runs have ended before")
    begun = {name: cells[name].share for name in waiting}
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed: dict[str, str] = {}
    with _Shown(console, cells, begun) as shown, signals() as stopping:
        try:
            while waiting or running:
                while waiting and len(running) < workers and _room(list(running.values())):
                    name = waiting.popleft()
                    running[name] = _start(cells[name])
                    shown.started(name)
                time.sleep(LOOK)
                for name, process in list(running.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    _end(running.pop(name))
                    if code < 0:
                        failed[name] = f"killed by signal {-code}" + (
                            ": was there enough memory?" if code == -9 else ""
                        )
                    elif code or not cells[name].ended.exists():
                        failed[name] = cells[name].last_words
                    shown.ended(name, failed.get(name))
                shown.moved(running)
                if stopping():
                    raise Stopped
        except Stopped:
            left = len(waiting) + len(running)
            raise Stopped(f"stopped with {left} of {len(cells)} runs to go. Go on with the same command.") from None
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                _end(process)
    return failed


def _start(cell: RunPlace) -> subprocess.Popen[bytes]:
    with cell.log.open("ab") as log:
        # A session of its own: Ctrl-C reaches the study alone, which stops its workers; its end closes their input.
        return subprocess.Popen(
            [sys.executable, "-m", "mtbert.study.worker", str(cell.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _room(running: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Whether memory is left for one more worker like the largest of those running; one always may."""
    if not running:
        return True
    sizes = [psutil.Process(p.pid).memory_info().rss for p in running if p.poll() is None]
    return bool(psutil.virtual_memory().available > max([GUESS, *sizes]))


class _Shown:
    """Shows which runs go on, and how much time is left."""

    BETWEEN = 60.0  # seconds between lines
    LOOK = 1.0  # seconds between looks at the logs of the runs

    def __init__(self, console: Console, cells: Mapping[str, RunPlace], begun: dict[str, float]) -> None:
        self.console, self.cells, self.begun = console, cells, begun
        self.done = dict.fromkeys(cells.keys() - begun.keys(), 1.0) | begun
        self.since = self.looked = time.monotonic()
        self.running: list[str] = []
        self.bar = LiveBar(console, self._frame, self._line, self.BETWEEN)

    def __enter__(self) -> "_Shown":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def started(self, name: str) -> None:
        self.console.print(f"{name}: {'goes on' if self.begun[name] else 'starts'}")

    def ended(self, name: str, why: str | None) -> None:
        self.done[name] = 1.0
        said = "ended" if why is None else f"failed: {why}"
        count = sum(share == 1 for share in self.done.values())
        self.console.print(f"{name}: {said}  ({count} of {len(self.cells)}, {self._left()})", soft_wrap=True)

    def moved(self, running: Iterable[str]) -> None:
        """Looks at the logs of the ``running`` ones, but not more often than once in ``LOOK`` seconds."""
        now = time.monotonic()
        if now - self.looked < self.LOOK:
            return
        self.looked, self.running = now, list(running)
        self.done |= {name: max(self.done[name], self.cells[name].share) for name in self.running}
        self.bar.moved()

    def _line(self) -> str:
        return f"{'  '.join(f'{name} {self.done[name]:.0%}' for name in self.running)}  {self._left()}"

    def _frame(self) -> Table:
        return bar_line("study", sum(self.done.values()), len(self.cells), [self._line()], self.console.width)

    def _left(self) -> str:
        """By what was done since the start; a run counts as one, whatever it takes."""
        now = sum(self.done[name] - share for name, share in self.begun.items())
        if all(share == 1 for share in self.done.values()):
            return "all ended"
        if now <= 0:
            return "time left unknown"
        left = (time.monotonic() - self.since) / now * (len(self.done) - sum(self.done.values()))
        return f"about {left / 3600:.1f} h left" if left > 5400 else f"about {left / 60:.0f} min left"
