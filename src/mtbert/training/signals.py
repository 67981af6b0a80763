"""Stopping a run by SIGINT or SIGTERM: the run finishes its current step, saves its state, and ends."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mtbert.progress_bar import stopping_shown

SECOND_SIGNAL = 1.0  # seconds; a signal sooner than this after the first one counts as the same signal


class Stopped(Exception):
    """Raised when a run ends because of a signal, after its state has been saved."""


@contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether SIGINT or SIGTERM has arrived. A second signal ends the process at once.

    A signal within one second of the first one does not count as a second signal, because ``timeout`` and some shells
    send the same signal twice. Outside the main thread, where Python cannot catch signals, the function always returns
    False.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one can catch signals
        yield lambda: False
        return
    asked: float | None = None  # time of the first signal

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
        with stopping_shown(lambda: asked is not None):
            yield lambda: asked is not None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
