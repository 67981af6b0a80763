"""The runs of a study: the paths of their files, and the processes that carry them out.

Each run has a folder ``cells/ROW-SEED/``, where ROW is the name of a recipe in the study. In this folder,
``recipe.yaml`` is the recipe of the run, ``log.txt`` holds everything that the run printed, and ``run/`` is the folder
that training makes. Once the run has ended, ``ended.json`` is there too.
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
from mtbert.recipe.files import RECIPE_FILE, change_run_recipe, dump_recipe
from mtbert.recipe.identity import same_settings
from mtbert.recipe.settings import Recipe
from mtbert.settings import Settings
from mtbert.studying.plan import Plan
from mtbert.training.signals import Stopped, signals

GUESS = 2 * 1024**3  # bytes that a worker is assumed to need while none is running
LOOK = 0.2  # seconds between looks at the workers
STEPS = re.compile(rb"step (\d+)/(\d+)")


class EndRecord(Settings):
    """The content of ``ended.json``, a file that is written when a run has ended."""

    seconds: float  # seconds of training steps


@dataclass(frozen=True)
class RunPlace:
    """The folder of one run of a study, and the paths of the files in it."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """Returns the path of the recipe that the run is started with."""
        return self.folder / RECIPE_FILE

    @property
    def log(self) -> Path:
        """Returns the path of the log, which holds everything that the run printed."""
        return self.folder / "log.txt"

    @property
    def run(self) -> Path:
        """Returns the path of the folder that ``mtbert train`` makes for the run."""
        return self.folder / "run"

    @property
    def ended(self) -> Path:
        """Returns the path of ``ended.json``, which exists only once the run has ended."""
        return self.folder / "ended.json"

    @property
    def share(self) -> float:
        """Returns the completed share of the run, 0 to 1, according to the last step in its log."""
        said = STEPS.findall(self.log.read_bytes()[-4000:]) if self.log.exists() else []
        return int(said[-1][0]) / int(said[-1][1]) if said else 0.0

    def tidy(self) -> None:
        """Removes the folder ``last/`` of a run that has ended, because only training needs it; ``best/`` stays."""
        if self.ended.exists() and (self.run / "best").exists():
            shutil.rmtree(self.run / "last", ignore_errors=True)

    @property
    def last_words(self) -> str:
        """Returns the last line that the run printed. If the run failed, this line says why."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def run_place(out: Path, row: str, seed: int) -> RunPlace:
    """Returns the paths of a run's files. ``out`` is the study's folder, and ``row`` is the name of a recipe in it."""
    return RunPlace(out / "cells" / f"{row}-{seed}")


def run_recipes(plan: Plan, out: Path, threads: int) -> dict[RunPlace, Recipe]:
    """Returns a dict with all runs of a plan. It maps the :class:`RunPlace` of a run to the run's recipe.

    Args:
        plan: The plan of the study.
        out: The folder of the study.
        threads: The number of threads for each run whose recipe gives no such number.

    Raises:
        ValueError: If one of the runs has already begun in the folder with other settings.
    """
    found = {}
    for row, seed in plan.runs:
        recipe = plan.rows[row].seeded(seed)
        if recipe.train.threads is None:
            recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"threads": threads})})
        one = run_place(out, row, seed)
        begun = one.run / RECIPE_FILE
        if begun.is_file() and not same_settings(begun, recipe):
            raise ValueError(
                f"{one.folder}: was run with other settings. Give another folder, rename the row, or remove the folder."
            )
        found[one] = recipe
    return found


def lay_out(wanted: Mapping[RunPlace, Recipe]) -> None:
    """Makes the folder of every run and writes the run's recipe to ``recipe.yaml`` in this folder.

    If a run has already begun, training has made a second file, ``run/recipe.yaml``. In the second file, only
    ``data.root`` is updated.
    """
    for one, recipe in wanted.items():
        one.folder.mkdir(parents=True, exist_ok=True)
        one.tidy()  # the process may have been killed between the run's end and this
        files.write_text(one.recipe, dump_recipe(recipe))
        begun = one.run / RECIPE_FILE
        if begun.is_file():
            change_run_recipe(begun, {"data": {"root": recipe.data.root}})


def run_all(places: Mapping[str, RunPlace], workers: int, console: Console) -> dict[str, str]:
    """Starts or resumes every run that has not ended, each in its own process. A failure stops no other run.

    Args:
        places: A dict from run name to the folder of the run and the paths of its files.
        workers: The largest number of runs that train at the same time. If memory is short, fewer runs train.
        console: Shows the progress.

    Returns:
        A dict from the name of each failed run to the reason for its failure.

    Raises:
        Stopped: After SIGINT or SIGTERM, once all workers have saved their state.
    """
    waiting = deque(name for name, place in places.items() if not place.ended.exists())
    already = len(places) - len(waiting)
    if already:
        console.print(f"{already} of {len(places)} runs had ended before")
    begun = {name: places[name].share for name in waiting}
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed: dict[str, str] = {}
    with _Shown(console, places, begun) as shown, signals() as stopping:
        try:
            while waiting or running:
                while waiting and len(running) < workers and _room(list(running.values())):
                    name = waiting.popleft()
                    running[name] = _start(places[name])
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
                    elif code or not places[name].ended.exists():
                        failed[name] = places[name].last_words
                    shown.ended(name, failed.get(name))
                shown.moved(running)
                if stopping():
                    raise Stopped
        except Stopped:
            left = len(waiting) + len(running)
            raise Stopped(f"stopped with {left} of {len(places)} runs to go. Go on with the same command.") from None
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                _end(process)
    return failed


def _start(place: RunPlace) -> subprocess.Popen[bytes]:
    with place.log.open("ab") as log:
        # In a new session, Ctrl-C reaches only the study, which then stops its workers. Their standard input ends when
        # the study does.
        return subprocess.Popen(
            [sys.executable, "-m", "mtbert.studying.worker", str(place.folder)],
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
    """Returns whether there is memory for another worker. The first worker may always start.

    A new worker is assumed to need as much memory as the largest running one, and at least ``GUESS`` bytes.
    """
    if not running:
        return True
    sizes = [psutil.Process(p.pid).memory_info().rss for p in running if p.poll() is None]
    return bool(psutil.virtual_memory().available > max([GUESS, *sizes]))


class _Shown:
    """Shows which runs are in progress, and how much time is left."""

    BETWEEN = 60.0  # seconds between lines
    LOOK = 1.0  # seconds between looks at the logs of the runs

    def __init__(self, console: Console, places: Mapping[str, RunPlace], begun: dict[str, float]) -> None:
        self.console, self.places, self.begun = console, places, begun
        self.done = dict.fromkeys(places.keys() - begun.keys(), 1.0) | begun
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
        self.console.print(f"{name}: {said}  ({count} of {len(self.places)}, {self._left()})", soft_wrap=True)

    def moved(self, running: Iterable[str]) -> None:
        """Shows the progress of the runs that are named in ``running``.

        The progress is read from their logs, at most once every ``LOOK`` seconds.
        """
        now = time.monotonic()
        if now - self.looked < self.LOOK:
            return
        self.looked, self.running = now, list(running)
        self.done |= {name: max(self.done[name], self.places[name].share) for name in self.running}
        self.bar.moved()

    def _line(self) -> str:
        return f"{'  '.join(f'{name} {self.done[name]:.0%}' for name in self.running)}  {self._left()}"

    def _frame(self) -> Table:
        return bar_line("study", sum(self.done.values()), len(self.places), [self._line()], self.console.width)

    def _left(self) -> str:
        """Returns a text with the estimated time left. The estimate assumes that all runs take equally long."""
        now = sum(self.done[name] - share for name, share in self.begun.items())
        if all(share == 1 for share in self.done.values()):
            return "all ended"
        if now <= 0:
            return "time left unknown"
        left = (time.monotonic() - self.since) / now * (len(self.done) - sum(self.done.values()))
        return f"about {left / 3600:.1f} h left" if left > 5400 else f"about {left / 60:.0f} min left"
