"""The processes that carry out the runs of a study, and the claims by which several commands share the runs.

A command claims a run by locking the run's folder. The process that trains the run inherits the lock, so the run stays
claimed until this process has ended too, even if the command is killed. Other commands pass over the run meanwhile.
"""

import math
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil
from rich.console import Console
from rich.table import Table

from mtbert import locks
from mtbert.advice import same_again
from mtbert.progress_bar import LiveBar, bar_line
from mtbert.studying.runs import RunPlace
from mtbert.training.signals import Stopped, signals

GUESS = 2 * 1024**3  # bytes that a worker is assumed to need while none is running
LOOK = 0.2  # seconds between looks at the workers
LOOK_ELSEWHERE = 0.05  # seconds between looks at runs of other commands, for each of these runs
LEAST = 0.05  # of a run; with less work done, the time left is not estimated, because the first steps are slow


def run_all(places: Mapping[str, RunPlace], workers: int, console: Console, *, wait: bool = True) -> dict[str, str]:
    """Starts or resumes every run that has not ended, each in its own process. A failure stops no other run.

    Other commands may train runs of the same study at the same time. No run is trained by two commands at once. If a
    command is killed, another command can resume the runs of the killed command.

    Args:
        places: A dict from run name to the folder of the run and the paths of its files.
        workers: The largest number of runs that train at the same time. If memory is short, fewer runs train.
        console: Shows the progress.
        wait: Whether to wait at the end for runs that other commands train.

    Returns:
        A dict from the name of each failed run to the reason for its failure.

    Raises:
        Stopped: After SIGINT or SIGTERM, once all workers have saved their state.
    """
    waiting = [name for name, place in places.items() if not place.ended.exists()]
    already = len(places) - len(waiting)
    if already:
        console.print(f"{already} of {len(places)} runs had ended before")
    begun = {name: places[name].share for name in waiting}
    with _Shown(console, places, begun) as shown, signals() as stopping:
        return _Crew(places, workers, shown, stopping, deque(waiting)).carry_out(wait=wait)


def stop_workers(seconds: float) -> None:
    """Stops all workers of this process, and waits at most ``seconds`` seconds for the workers to save their runs."""
    workers = psutil.Process().children()
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.terminate()
    psutil.wait_procs(workers, timeout=seconds)


@dataclass(frozen=True)
class _Worker:
    """A process that trains a run.

    The process and the command that started it both hold the lock on the run's folder.
    """

    process: subprocess.Popen[bytes]
    held: locks.Held

    def end(self) -> None:
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.held.leave()


@dataclass
class _Crew:
    """The training processes that a command has started, and the names of its waiting, running and failed runs."""

    places: Mapping[str, RunPlace]
    workers: int
    shown: "_Shown"
    stopping: Callable[[], bool]
    waiting: deque[str]
    elsewhere: list[str] = field(default_factory=list)  # other commands train them
    running: dict[str, _Worker] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def carry_out(self, *, wait: bool) -> dict[str, str]:
        next_look = 0.0
        try:
            while self.waiting or self.running or self.elsewhere:
                while self.waiting and self._free():
                    name = self.waiting.popleft()
                    if not self._take(name):
                        self.elsewhere.append(name)
                if self.elsewhere and not self.waiting and time.monotonic() >= next_look:
                    self.elsewhere = [name for name in self.elsewhere if not (self._free() and self._take(name))]
                    next_look = time.monotonic() + LOOK_ELSEWHERE * len(self.elsewhere)
                    if not (wait or self.running):
                        break
                time.sleep(LOOK)
                for name, worker in list(self.running.items()):
                    code = worker.process.poll()
                    if code is not None:
                        self._ended(name, code)
                self.shown.moved(self.running)
                if self.stopping():
                    raise Stopped
        except Stopped:
            left = len(self.waiting) + len(self.running) + len(self.elsewhere)
            raise Stopped(f"stopped with {left} of {len(self.places)} runs to go. {same_again()}") from None
        finally:
            for worker in self.running.values():
                worker.process.terminate()
            for worker in self.running.values():
                worker.end()
        return self.failed

    def _free(self) -> bool:
        return len(self.running) < self.workers and _room([worker.process for worker in self.running.values()])

    def _take(self, name: str) -> bool:
        """Starts a worker for the run ``name`` if the run still has to be trained.

        - If another command trains the run, starts no worker and returns False.
        - If the run has ended or failed, starts no worker and returns True.
        - Otherwise, starts a worker and returns True.
        """
        place = self.places[name]
        held = None if place.ended.exists() else locks.claim_folder(place.folder)
        if held is None and not place.ended.exists():
            return False
        if held is not None:
            try:
                why = place.why_failed
                if why is None and not place.ended.exists():
                    self.running[name] = _Worker(_start(place, held), held)
                    self.shown.started(name)
                    return True
                if why is not None:
                    self.failed[name] = why
            finally:
                if name not in self.running:
                    held.leave()
        self.shown.ended(name, self.failed.get(name))
        return True

    def _ended(self, name: str, code: int) -> None:
        self.running.pop(name).end()
        place = self.places[name]
        if code < 0:
            hint = ": was there enough memory?" if code == -9 else ""
            self.failed[name] = f"killed by signal {-code}{hint}"
        elif code or not place.ended.exists():
            self.failed[name] = place.last_words
        self.shown.ended(name, self.failed.get(name))


def _start(place: RunPlace, held: locks.Held) -> subprocess.Popen[bytes]:
    with place.log.open("ab") as log:
        # In a new session, Ctrl-C reaches only the study, which then stops its workers. Their standard input ends when
        # the study does.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "mtbert.studying.worker", str(place.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(held.descriptor,),
        )


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

    LOOK = 1.0  # seconds between looks at the logs of the runs

    def __init__(self, console: Console, places: Mapping[str, RunPlace], begun: dict[str, float]) -> None:
        self.console, self.places, self.begun = console, places, begun
        self.done = dict.fromkeys(places.keys() - begun.keys(), 1.0) | begun
        self.since = self.looked = time.monotonic()
        self.started_at: dict[str, float] = {}  # the times at which runs were started here
        self.running: list[str] = []
        self.bar = LiveBar(console, self._frame, self._line)

    def __enter__(self) -> "_Shown":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def started(self, name: str) -> None:
        self.started_at[name] = time.monotonic()
        self.console.print(f"{name}: {'goes on' if self.places[name].share else 'starts'}")

    def ended(self, name: str, why: str | None) -> None:
        self.done[name] = 1.0
        said = "ended" if why is None else f"failed: {why}"
        count = sum(share == 1 for share in self.done.values())
        known = ", ".join(filter(None, [f"{count} of {len(self.places)}", self._left()]))
        self.console.print(f"{name}: {said}  ({known})", soft_wrap=True)

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
        return "  ".join(filter(None, [*(f"{name} {self.done[name]:.0%}" for name in self.running), self._left()]))

    def _frame(self) -> Table:
        return bar_line("study", sum(self.done.values()), len(self.places), [self._line()], self.console.width)

    def _left(self) -> str:
        """Returns a text with the estimated time left; an empty text if too little work is done to estimate it."""
        if all(share == 1 for share in self.done.values()):
            return "all ended"
        left = self._seconds_left()
        if left is None:
            return ""
        if left > 5400:
            return f"about {left / 3600:.1f} h left"
        return f"about {left / 60:.0f} min left" if left > 90 else f"about {10 * math.ceil(left / 10)} s left"

    def _seconds_left(self) -> float | None:
        """Returns the estimated seconds until all runs have ended, or None if too little is done to estimate them.

        If the speed of every unfinished run is known, the run that needs the longest decides. Otherwise, all runs are
        taken to be equally long.
        """
        now, left = time.monotonic(), {name: 1 - share for name, share in self.done.items() if share < 1}
        if left.keys() <= self.started_at.keys():
            made = {name: 1 - self.begun[name] - left[name] for name in left}
            if min(made.values()) >= LEAST:
                return max((now - self.started_at[name]) / made[name] * left[name] for name in left)
        made_of_all = sum(self.done[name] - share for name, share in self.begun.items())
        return (now - self.since) / made_of_all * sum(left.values()) if made_of_all >= LEAST else None
