"""The progress bar of every command: live lines on a terminal or in a notebook, an occasional plain line elsewhere."""

import html
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

BAR = (6, 20)  # least and most characters of the bar
SECONDS_BETWEEN_FRAMES = 0.25  # in a notebook; a terminal is drawn by a thread


class LiveBar:
    """Shows on ``console`` how far some work has got, between :meth:`start` and :meth:`stop`.

    On a terminal or in a notebook, the bar shows the result of ``frame``, and disappears at the end. Any other output,
    such as a file, gets the result of ``line``, at most once every ``seconds`` seconds. A quiet console gets nothing.
    """

    def __init__(
        self, console: Console, frame: Callable[[], RenderableType], line: Callable[[], str], seconds: float
    ) -> None:
        self.console, self.frame, self.line, self.seconds = console, frame, line, seconds
        self.in_notebook = console.is_jupyter and not console.quiet
        on_terminal = console.is_interactive and not console.is_jupyter and not console.quiet
        self.live = Live(console=console, get_renderable=frame, transient=True) if on_terminal else None
        self.output: Any = None  # the output area of the notebook
        self.since = time.monotonic()  # time of the last frame or line

    def start(self) -> None:
        """Starts the bar. Every start must be followed by :meth:`stop`."""
        if self.live is not None:
            self.live.start()
        self.since = time.monotonic()

    def stop(self) -> None:
        """Stops the bar. On a terminal or in a notebook, it disappears."""
        if self.live is not None:
            self.live.stop()
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
        now = time.monotonic()
        wait = SECONDS_BETWEEN_FRAMES if self.in_notebook else self.seconds
        if self.live is not None or now - self.since < wait:
            return
        self.since = now
        if self.in_notebook:
            self._draw(self._text())
        else:
            self.console.print(self.line(), soft_wrap=True)

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
