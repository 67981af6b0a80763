"""Child processes that a test forks, and that can be killed for real at any of their file operations."""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

FORK = multiprocessing.get_context("fork")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "fcntl.flock")


class Child:
    """A child process that runs ``act``; :meth:`said` waits for its end."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._answer, theirs = FORK.Pipe(duplex=False)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of forking a process with threads, which are idle here
            self.process: BaseProcess = FORK.Process(target=_run, args=(act, theirs))
            self.process.start()
        theirs.close()

    @property
    def ended(self) -> bool:
        """Whether the process has ended, or was killed."""
        return not self.process.is_alive()

    def said(self) -> str:
        """Waits for the end and returns ``done``, ``killed``, or the message of the error."""
        self.process.join(60)
        assert self.process.exitcode is not None, "hangs"
        return "killed" if self.process.exitcode == -signal.SIGKILL else str(self._answer.recv())


def killed(act: Callable[[], object], operation: int) -> bool:
    """Runs ``act`` in a child process that is killed just before its file operation number ``operation`` (from 0).

    Returns whether it was killed; False if it ended before that operation.
    """

    def counted() -> object:
        left = operation

        def count() -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        def hear(event: str, arguments: tuple[object, ...]) -> None:
            if event in CHANGES or (event == "open" and _writes(arguments)):
                count()

        real = os.fsync
        os.fsync = lambda descriptor: (count(), real(descriptor))[1]
        sys.addaudithook(hear)
        return act()

    said = Child(counted).said()
    assert said in ("done", "killed"), said
    return said == "killed"


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _run(act: Callable[[], object], answer: Connection) -> None:
    try:
        act()
    except BaseException as error:
        answer.send(f"{type(error).__name__}: {error}")
    else:
        answer.send("done")
