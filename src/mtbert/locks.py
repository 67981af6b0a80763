"""Locks on folders: only one process at a time works in a folder, even while it is being made, replaced or repaired.

The lock of a folder is a locked file inside the folder. A process that replaces a folder holds the locks of both the
old and the new folder until the old one is gone. No other process can therefore take the lock in between.
"""

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mtbert import files

LOCK = "lock"  # name of the file that the process at work in the folder keeps locked
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # error numbers of file systems without locks
TRIES = 100  # attempts at a lock that other processes keep removing
GLANCE = 0.02  # seconds until a lock is tried again that another process may hold for a moment only


class Held:
    """A folder that this process has locked. :func:`alone` yields it, and :func:`claim_folder` returns it.

    Attributes:
        folder: The path of the folder, without symbolic links.
    """

    def __init__(self, folder: Path, descriptor: int, made: Iterable[Path], *, lasting: bool) -> None:
        self.folder, self._lasting = folder, lasting
        self._descriptor, self._made = descriptor, made

    @property
    def descriptor(self) -> int:
        """The file descriptor of the lock.

        If a child process inherits the descriptor, the folder stays locked until the child has ended, even if this
        process ends earlier.
        """
        return self._descriptor

    def replace(self, fill: Callable[[Path], object]) -> None:
        """Replaces the locked folder with one that ``fill`` writes at a temporary path. The folder stays locked."""
        taken: list[int] = []

        def filled(new: Path) -> None:
            fill(new)
            descriptor = _lock(new)
            assert descriptor is not None  # no other process knows the new folder
            taken.append(descriptor)

        try:
            files.write_folder(self.folder, filled)
        except BaseException:
            for descriptor in taken:
                os.close(descriptor)
            raise
        os.close(self._descriptor)  # only now that the old lock file is gone can no other process take it
        (self._descriptor,) = taken

    def leave(self) -> None:
        """Unlocks the folder, and removes the empty folders that were created in order to lock it."""
        try:
            with suppress(OSError):  # another process may create something there meanwhile
                free = is_free(self.folder)
                if free or not self._lasting:
                    (self.folder / LOCK).unlink()
                if free:
                    _remove(self._made)
        finally:
            os.close(self._descriptor)


@contextmanager
def alone(
    folder: Path,
    command: str,
    *,
    wait: bool = False,
    lasting: bool = True,
    repair: str = "Wait for it, or give another folder.",
) -> Iterator[Held]:
    """Locks ``folder`` during a ``with`` block, so that no other mtbert process works in it at the same time.

    Creates the folder if it does not exist. Cleans up if a process was killed while it was rewriting the folder.

    Args:
        folder: The folder to lock.
        command: The name of the running mtbert command, for the error message.
        lasting: Whether the lock file may stay in the folder, unlocked, for later commands.
        wait: Whether to wait until the other process has finished, instead of raising an error.
        repair: What the user can do if another process is at work there: the end of the error message.

    Raises:
        ValueError: If another process is at work in the folder, or if its file system has no locks.
    """
    place = Path(os.path.realpath(folder))
    made: list[Path] = []
    try:
        taken = next((taken for _ in range(TRIES) if (taken := _take(place, made, wait)) is not None), None)
    except BlockingIOError:
        taken = None
    except ValueError:  # there are no locks
        with suppress(OSError):
            if place in made:
                (place / LOCK).unlink()
            _remove(made)
        raise
    if taken is None:
        raise ValueError(f"{folder}: another mtbert {command} is at work there. {repair}")
    held = Held(place, taken, made, lasting=lasting)
    try:
        files.settle(place)
        yield held
    finally:
        held.leave()


@contextmanager
def claimed(folder: Path, item: str, *, wait: bool = False) -> Iterator[bool]:
    """Claims one item of the work in a folder during a ``with`` block. Yields whether this process has the claim.

    Any number of processes, on any number of machines that share the disk, can claim different items of one folder. All
    claims lie in one file. To claim an item, a process locks one byte of this file. The item's name determines which
    byte. When the process ends, its claims are released.

    Args:
        folder: A folder that exists.
        item: The name of the item.
        wait: Whether to wait while another process has the claim.

    Raises:
        ValueError: If the file system has no locks.
    """
    file = folder / LOCK
    byte = int.from_bytes(hashlib.sha256(os.fsencode(item)).digest()[:7])  # two items rarely share one, and then wait
    with files.naming(file):
        descriptor = _opened(file)
    try:
        free = True
        with _locking(file):
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, byte)
            except (BlockingIOError, PermissionError):  # POSIX allows both errors for a lock that another process holds
                free = False
        yield free
    finally:
        os.close(descriptor)


def claim_folder(folder: Path) -> Held | None:
    """Locks a folder that exists. Returns the locked folder, or None if another process has locked it.

    The caller must release the lock with :meth:`Held.leave`.

    Raises:
        ValueError: If the file system has no locks.
    """
    for left in reversed(range(3)):
        with suppress(BlockingIOError):
            taken = _lock(folder)
            if taken is not None:
                return Held(folder, taken, (), lasting=True)
        if left:  # a process that only looks, with is_locked, has the lock for a moment
            time.sleep(GLANCE)
    return None


def is_locked(folder: Path) -> bool:
    """Returns whether a process has locked ``folder``. Writes nothing.

    Raises:
        ValueError: If the file system has no locks.
    """
    file = folder / LOCK
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        with _locking(file):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Presence:
    """Marks that a process works in a folder in which other processes may work too. :func:`presence` yields it.

    Two processes must not call :meth:`only` or :meth:`share` at the same time. To ensure this, callers hold a common
    lock.
    """

    def __init__(self, file: Path, descriptor: int) -> None:
        self._file, self._descriptor = file, descriptor

    def only(self) -> bool:
        """Tries to take the lock for this process alone, and returns whether it succeeded.

        If another process holds the lock, alone or shared, returns False, and this process no longer has a shared lock.
        """
        try:
            with _locking(self._file):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            return False
        return True

    def share(self) -> None:
        """Takes the lock as a shared one: other processes can hold it at the same time."""
        with _locking(self._file):
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)


@contextmanager
def presence(folder: Path) -> Iterator[Presence]:
    """Yields a :class:`Presence`, with which this process can mark that it works in ``folder``.

    If the folder does not exist, it is created. There is no mark until :meth:`Presence.only` or :meth:`Presence.share`
    is called. The mark is removed at the end of the ``with`` block or of the process.
    """
    file = folder / LOCK
    with files.naming(file):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(file)
    try:
        yield Presence(file, descriptor)
    finally:
        os.close(descriptor)


def find_held(folder: Path) -> Path | None:
    """Returns the path where the content of ``folder`` lies now; None if there is no content.

    While another process replaces the folder, this path may be a temporary one beside ``folder``.
    """
    found = files.find_folder(folder)
    return found if found == folder or (found and (found / LOCK).exists()) else None


def is_free(folder: Path) -> bool:
    """Returns whether ``folder`` does not exist, is empty, or contains only a lock file."""
    found = find_held(folder)
    return found is None or (found.is_dir() and set(os.listdir(found)) <= {LOCK})


def _remove(made: Iterable[Path]) -> None:
    """Removes empty folders that :func:`_take` created."""
    for folder in sorted(set(made), reverse=True):  # each folder before its parent
        folder.rmdir()


def _take(place: Path, made: list[Path], wait: bool) -> int | None:
    """Locks the folder ``place`` and returns the file descriptor of the lock.

    Returns None if another process removes or moves the folder or its lock file meanwhile. If another process holds the
    lock and ``wait`` is true, waits for the lock.

    If the folder does not exist, the folder and its missing parents are created and added to ``made``. But if a killed
    process has left the folder under a temporary name, the folder is renamed to ``place`` instead.

    Raises:
        BlockingIOError: If another process holds the lock and ``wait`` is false.
    """
    with suppress(FileNotFoundError):
        found = find_held(place)
        if found not in (None, place):  # another process is between its two renames, or was killed there
            taken = _lock(found, wait)
            return taken if taken is None or _put_back(found, place, taken) else None
        missing = [path for path in (place, *place.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
        return _lock(place, wait)
    return None


def _put_back(found: Path, place: Path, taken: int) -> bool:
    """Renames the locked folder ``found`` to ``place``, and returns whether the rename succeeded.

    The rename fails if another process moves ``found`` or creates ``place`` first. If the rename fails, the lock is
    released: ``taken``, the file descriptor of the lock, is closed. If the rename succeeds, the lock is kept.

    Raises:
        OSError: If the rename fails for another reason. The lock is released in this case too.
    """
    try:
        found.rename(place)
    except OSError as error:
        os.close(taken)
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


@contextmanager
def _locking(file: Path) -> Iterator[None]:
    """A context manager for a call that locks ``file``. Error messages name the file or its folder.

    Raises:
        ValueError: If the file system does not support locks.
        BlockingIOError: If another process holds the lock.
        OSError: If locking fails for another reason.
    """
    try:
        with files.naming(file):
            yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ValueError(
            f"{file.parent}: the file system of this folder has no locks ({error.strerror}), so two commands could "
            f"write there at once. Give a folder on another disk, or mount this one with locks."
        ) from None


def _opened(file: Path) -> int:
    """Opens a lock file, which is created if it does not exist, and returns its file descriptor."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def _lock(folder: Path, wait: bool = False) -> int | None:
    """Locks ``folder`` and returns the lock's file descriptor; None if another process removed the lock file meanwhile.

    If another process holds the lock and ``wait`` is true, the function waits until the lock is free.

    Raises:
        BlockingIOError: If ``wait`` is false and another process holds the lock.
        ValueError: If the file system has no locks.
    """
    file = folder / LOCK
    descriptor = _opened(file)
    try:
        with _locking(file):
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
