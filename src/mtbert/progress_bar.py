"""The progress bar of every command: live lines on a terminal or in a notebook, an occasional plain line elsewhere."""

import html
import io
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtbert.messages import clean, count

BAR = (6, 20)  # least and most characters of the bar
Tick = Callable[[int], None]
SHORT_WORK = 0.5  # seconds; work that takes less is not shown
SECONDS_BETWEEN_FRAMES = 0.25  # in a notebook; a terminal is drawn by a thread of rich
SECONDS_BEFORE_LINE = 2.0  # in a file, before the first plain line
SECONDS_BETWEEN_LINES = 10.0  # in a file, between later plain lines
STOPPING = "stopping: the state is saved first (interrupt again: stop at once, save nothing)"


class LiveBar:
    """Shows on ``console`` how far some work has got, between :meth:`start` and :meth:`stop`.

    On a terminal or in a notebook, the bar shows the result of ``frame``, and disappears at the end. Any other output,
    such as a file, gets the result of ``line`` now and then, but never the same line twice in a row. A quiet console
    gets nothing. A thread calls ``frame`` and ``line``, so the bar stays up to date even during one long call. The bar
    appears only if the work takes more than ``after`` seconds.
    """

    def __init__(
        self, console: Console, frame: Callable[[], RenderableType], line: Callable[[], str], after: float = 0.0
    ) -> None:
        self.console, self.frame, self.line, self.after = console, frame, line, after
        self.in_notebook = console.is_jupyter
        self.on_terminal = console.is_interactive and not console.is_jupyter
        self.live: Live | None = None
        self.output: Any = None  # the output area of the notebook
        self.next = math.inf  # time of the next frame or line
        self.last_line = ""
        self.said_stopping = False
        self.lock = threading.Lock()  # held while something is drawn
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the bar. Every start must be followed by :meth:`stop`."""
        if self.console.quiet:
            return
        first = self.after if self.on_terminal else SECONDS_BETWEEN_FRAMES if self.in_notebook else None
        self.next = time.monotonic() + (SECONDS_BEFORE_LINE if first is None else max(first, self.after))
        self.said_stopping = False
        self.stopped.clear()
        self.moved()
        self.thread = threading.Thread(target=self._keep_true, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Stops the bar. On a terminal or in a notebook, it disappears."""
        self.stopped.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        self.next = math.inf
        if self.live is not None:
            self.live.stop()
            self.live = None
        if self.output is not None:
            self._draw("")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Returns a context manager that starts the bar, and stops it at the end."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def moved(self) -> None:
        """Updates the progress bar. An update that comes too soon after the previous one is skipped."""
        with self.lock:
            now = time.monotonic()
            if not self.said_stopping and not self.on_terminal and self.next < math.inf and _stopping():
                self.said_stopping = True
                self.console.print(STOPPING, soft_wrap=True)
            if now < self.next:
                return
            if self.on_terminal:
                self.next = math.inf  # a thread of rich draws from here on
                self._go_live()
            elif self.in_notebook:
                self.next = now + SECONDS_BETWEEN_FRAMES
                self._draw(self._text())
            elif (line := self.line()) != self.last_line:
                self.last_line, self.next = line, now + SECONDS_BETWEEN_LINES
                self.console.print(line, soft_wrap=True)

    def _go_live(self) -> None:
        # Standard output may be a file of answers, while the bar is on standard error.
        beside = sys.stdout is not None and sys.stdout.isatty()
        self.live = Live(console=self.console, get_renderable=self._frame, transient=True, redirect_stdout=beside)
        self.live.start()

    def _keep_true(self) -> None:
        with suppress(OSError):  # the reader of the output, such as head, has ended
            while not self.stopped.wait(SECONDS_BETWEEN_FRAMES):
                self.moved()

    def _frame(self) -> RenderableType:
        return Group(self.frame(), Text(STOPPING, no_wrap=True)) if _stopping() else self.frame()

    def _text(self) -> str:
        file = io.StringIO()
        Console(file=file, width=self.console.width, force_jupyter=False, force_terminal=False).print(self.frame())
        return file.getvalue()

    def _draw(self, text: str) -> None:
        # rich's own live display in notebooks needs ipywidgets; this one needs no other package.
        from IPython.display import HTML, display  # type: ignore[import-not-found]

        content = HTML(f"<pre>{html.escape(text)}</pre>" if text else "")
        if self.output is None:
            self.output = display(content, display_id=True)
        else:
            self.output.update(content)


_askers: list[Callable[[], bool]] = []  # each says whether a signal has asked the work to stop


@contextmanager
def stopping_shown(asked: Callable[[], bool]) -> Iterator[None]:
    """Returns a context manager in which every bar says that the work is stopping, once ``asked()`` is true."""
    _askers.append(asked)
    try:
        yield
    finally:
        _askers.remove(asked)


def _stopping() -> bool:
    return any(asked() for asked in _askers)


_follower: ContextVar[Console | None] = ContextVar("_follower", default=None)


@contextmanager
def followed(console: Console) -> Iterator[None]:
    """Returns a context manager that shows on ``console`` the progress of all work that calls :func:`progress_of`."""
    before = _follower.set(console)
    try:
        yield
    finally:
        _follower.reset(before)


@contextmanager
def progress_of(what: str, total: int | None = None, unit: str = "row") -> Iterator[Tick]:
    """Returns a context manager that shows the progress of some work. Outside of :func:`followed`, it shows nothing.

    Work that takes less than :data:`SHORT_WORK` seconds is not shown.

    Args:
        what: The work, such as ``tokenising``.
        total: The number of units in the work; None if it is not known.
        unit: The noun for one unit.

    Returns:
        A context manager that yields a function. The caller gives this function the number of units that were done
        since the last call. If the work has no units to count, the caller need not call the function. If other work
        begins inside the ``with`` block, only the outer work is shown.
    """
    console = _follower.get()
    if console is None:
        yield lambda _: None
        return
    work = _Work(console, clean(what), total, unit)
    before = _follower.set(None)
    try:
        with work.bar.shown():
            yield work.tick
    finally:
        _follower.reset(before)


class _Work:
    """The progress of one piece of work."""

    def __init__(self, console: Console, what: str, total: int | None, unit: str) -> None:
        self.console, self.what, self.total, self.unit = console, what, total, unit
        self.done = 0
        self.begun = time.monotonic()
        self.bar = LiveBar(console, self._frame, self._line, SHORT_WORK)

    def tick(self, units: int) -> None:
        """Adds ``units`` to the number of units that are done."""
        self.done += units
        self.bar.moved()

    def _cells(self) -> list[str]:
        passed = time.monotonic() - self.begun
        if self.total is None:
            return [*([count(self.done, self.unit)] if self.done else []), clock(passed)]
        left = passed / self.done * (self.total - self.done) if self.done else None
        return [f"{self.done:,}/{count(self.total, self.unit)}", f"{clock(left)} left"]

    def _line(self) -> str:
        return "  ".join([self.what, *self._cells()])

    def _frame(self) -> RenderableType:
        if self.total is None:
            return Text(self._line(), no_wrap=True)
        return bar_line(self.what, self.done, self.total, self._cells(), self.console.width)


def bar_line(first: str, done: float, total: float, rest: Sequence[str], width: int, last: str = "") -> Table:
    """Returns one line of at most ``width`` characters: the text ``first``, a bar, the texts ``rest``, and ``last``.

    The bar shows ``done`` out of ``total``. If there is too little room, ``last`` is omitted. If there is still no room
    for the shortest bar (``BAR[0]`` characters), the bar is omitted too.
    """
    cells = [first, *rest]
    room = width - sum(len(cell) + 2 for cell in cells)
    if last and room >= BAR[0] + 2 + len(last):
        cells.append(last)
        room -= len(last) + 2
    bar = [ProgressBar(total=max(total, 1), completed=done, width=min(BAR[1], room))] if room >= BAR[0] else []
    line = Table.grid(padding=(0, 2, 0, 0))
    texts = [Text(cell, no_wrap=True) for cell in cells]
    line.add_row(texts[0], *bar, *texts[1:])
    return line


def clock(seconds: float | None) -> str:
    """Returns a duration as text: ``3:05`` is minutes and seconds, and ``2:03:05`` also has hours.

    >>> clock(185), clock(7385), clock(None)
    ('3:05', '2:03:05', '-:--')
    """
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
