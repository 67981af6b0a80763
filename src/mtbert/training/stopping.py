"""Stopping on a signal: the step is finished, the state is saved, and then the run ends."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SECOND_SIGNAL = 1.0  # seconds after the first; an earlier one counts as the same


class Stopped(Exception):
    """Raised when a signal asked the run to stop; its state is on disk."""


@contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGINT or SIGTERM came; a second one ends the process at once.

    A second one within a second counts as the same: ``timeout`` and some shells send one to the process and one to its
    group.
    """
    asked: float | None = None  # when

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        now = time.monotonic()
        if asked is None:
            asked = now
        elif now - asked > SECOND_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked is not None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
