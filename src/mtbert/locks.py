"""A folder in which one process works at a time, also while it is made, replaced, or put in order after a kill.

A folder's lock is a file in it. Who replaces a folder holds the locks of the old one and of the new one until the old
one is gone; so whoever takes a lock that is on the disk is alone.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mtbert import files

LOCK = "lock"  # the file in a folder that the process at work there holds
TRIES = 100  # at a lock that other processes remove again and again


class Held:
    """A folder whose lock this process holds; :func:`alone` makes it."""

    def __init__(self, folder: Path, descriptor: int, made: Iterable[Path]) -> None:
        self.folder = folder
        self._descriptor = descriptor
        self._made = sorted(set(made), reverse=True)  # a folder before its parent

    def replace(self, fill: Callable[[Path], object]) -> None:
        """Lets ``fill`` write a folder that takes the place of the held one at once, and is held without a gap."""
        taken: list[int] = []

        def filled(new: Path) -> None:
            fill(new)
            descriptor = _lock(new)
            assert descriptor is not None  # nobody else knows the folder
            taken.append(descriptor)

        try:
            files.write_folder(self.folder, filled)
        except BaseException:
            for descriptor in taken:
                os.close(descriptor)
            raise
        os.close(self._descriptor)  # not before the old lock is gone: else another process could still take it
        (self._descriptor,) = taken

    def leave(self) -> None:
        """Gives the lock back; where nothing was put into the folder, what was made for it goes."""
        try:
            with suppress(OSError):  # another process may put something there
                if is_free(self.folder):
                    (self.folder / LOCK).unlink()
                    for folder in self._made:
                        folder.rmdir()
        finally:
            os.close(self._descriptor)


@contextmanager
def alone(folder: Path, command: str, *, wait: bool = False) -> Iterator[Held]:
    """Keeps a second ``mtbert COMMAND`` out of ``folder`` while this one works there.

    The folder is made if it is not there, and what a kill left of its replacement is put in order. With ``wait`` the
    work of another process there is waited for.

    Raises:
        ValueError: If another is at work there.
    """
    place = Path(os.path.realpath(folder))
    made: list[Path] = []
    try:
        taken = next((taken for _ in range(TRIES) if (taken := _take(place, made, wait)) is not None), None)
    except BlockingIOError:
        taken = None
    if taken is None:
        raise ValueError(f"{folder}: another mtbert {command} is at work there. Wait for it, or give another --out.")
    held = Held(place, taken, made)
    try:
        files.settle(place)
        yield held
    finally:
        held.leave()


def find_held(folder: Path) -> Path | None:
    """Returns where ``folder`` is, also where a kill cut off its replacement; ``None`` if nowhere."""
    found = files.find_folder(folder)
    return found if found == folder or (found and (found / LOCK).exists()) else None


def is_free(folder: Path) -> bool:
    """Returns whether ``folder`` is not there, or holds nothing but a lock."""
    found = find_held(folder)
    return found is None or (found.is_dir() and set(os.listdir(found)) <= {LOCK})


def _take(place: Path, made: list[Path], wait: bool) -> int | None:
    """Returns a descriptor with the lock of ``place``, made or put back first; ``None`` if it was removed meanwhile.

    Raises:
        BlockingIOError: If another process holds the lock.
    """
    with suppress(FileNotFoundError):
        found = find_held(place)
        if found not in (None, place):  # another process is between two renames, or was killed there
            taken = _lock(found, wait)
            return taken if taken is None or _put_back(found, place, taken) else None
        missing = [path for path in (place, *place.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
        return _lock(place, wait)
    return None


def _put_back(found: Path, place: Path, taken: int) -> bool:
    """Renames ``found``, whose lock is held, to ``place``; False, without the lock, if another process was first."""
    try:
        found.rename(place)
    except OSError as error:
        os.close(taken)
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _lock(folder: Path, wait: bool = False) -> int | None:
    """Returns a descriptor with the lock of ``folder``; ``None`` if another process removed it meanwhile.

    Raises:
        BlockingIOError: If another process holds the lock.
    """
    file = folder / LOCK
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        with files.naming(file):
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
