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
SENT_ALONG = 0.1  # seconds in which other senders of the first signal, such as timeout, send theirs


class Stopped(Exception):
    """Raised when a command is stopped by a signal. The message says what was kept, and how to go on."""


@contextmanager
def signals(several: bool = False) -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether SIGINT or SIGTERM has arrived. A second signal ends the process at once.

    A signal within one second of the first one does not count as a second signal, because ``timeout`` and some shells
    send the same signal twice. ``several`` says that several processes train together. If ``several`` is true, no
    signal counts as a second signal, because each process may get the same signal twice: from Slurm, and from
    ``torchrun``. ``torchrun`` itself kills processes that do not end within 30 seconds.

    Outside the main thread, where Python cannot catch signals, the function always returns False.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one can catch signals
        yield lambda: False
        return
    asked: float | None = None  # time of the first signal

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked is None:
            asked = time.monotonic()
            # Python handles a signal that arrives during a long computation only when that has ended. A signal that is
            # sent along with this one is handled here, while its time of arrival is known.
            time.sleep(SENT_ALONG)
        elif not several and time.monotonic() - asked > SECOND_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with stopping_shown(lambda: asked is not None):
            yield lambda: asked is not None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
