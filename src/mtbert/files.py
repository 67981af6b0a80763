"""Reading and writing files: the only place that writes at once, locks a folder, or opens what others wrote.

Nothing but regular files is opened, and nothing larger than its kind can be: a pipe would wait for ever, and
``/dev/zero`` has no end. What is written appears whole or not at all; an error of the disk names the file that was
meant, and leaves nothing half-written behind.
"""

import errno
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError
from safetensors import SafetensorError

from mtbert.messages import few, reason
from mtbert.settings import Settings, tuples

LARGEST_JSON = 64 * 2**20  # bytes
DEEPEST_JSON = 100  # levels; what is read is also copied and written again, which takes three frames a level
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk without room

_Settings = TypeVar("_Settings", bound=Settings)

# Reading ---------------------------------------------------------------------------------------------------


def check_regular(file: Path, repair: str) -> None:
    """Sees to it that ``file`` is a regular one, before a library opens it by its name.

    Raises:
        FileNotFoundError: If it is not there; ``repair`` ends the message.
        ValueError: If it cannot be reached, or is a folder, a pipe, a device or a socket.
    """
    with repaired(file, repair):
        _refuse_others(str(file), file.stat())


def open_regular(file: Path, largest: int, name: str = "") -> io.BufferedReader:
    """Returns a regular file of at most ``largest`` bytes, open for reading; messages call it ``name``, or its path.

    Raises:
        OSError: If it cannot be opened; FileNotFoundError if it is not there.
        ValueError: If it is no regular file, or larger.
    """
    # Without waiting: to open a pipe for reading would take until somebody writes to it.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        _refuse_others(name or str(file), found)
        if found.st_size > largest:
            raise ValueError(f"{name or file}: has {found.st_size:,} bytes, and at most {largest:,} are read.")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(file: Path, largest: int) -> bytes:
    """Returns the content of a regular file of at most ``largest`` bytes.

    Raises:
        OSError: If it cannot be opened or read; FileNotFoundError if it is not there.
        ValueError: If it is no regular file, or larger.
    """
    with open_regular(file, largest) as opened, naming(file):
        return opened.read(largest)


def read_json(file: Path, repair: str, largest: int = LARGEST_JSON) -> Any:
    """Returns the value in a JSON file.

    Args:
        file: A regular file of UTF-8.
        repair: What to do about a damaged one; the end of the message.
        largest: Bytes that it may have.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it cannot be read, or is not JSON; the message names it.
    """
    with repaired(file, repair):
        content = read_bytes(file, largest)
    try:
        value = json.loads(content)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 at byte {error.start}. {repair}") from None
    except RecursionError:
        raise ValueError(f"{file}: not JSON that can be read (nested too deep). {repair}") from None
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({reason(error)}). {repair}") from None
    if _deeper(value, DEEPEST_JSON):
        raise ValueError(f"{file}: not JSON that can be read (nested too deep). {repair}")
    return value


def read_settings(file: Path, kind: type[_Settings], repair: str) -> _Settings:
    """Returns the settings in a JSON file.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it cannot be read, or does not hold such settings; the message names file and key.
    """
    value = read_json(file, repair)
    try:
        return kind.model_validate(tuples(value))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{file}: damaged: {where + ': ' if where else ''}{what}. {repair}") from None


def _deeper(value: Any, levels: int) -> bool:
    """Returns whether lists and mappings are nested in more than so many ``levels``."""
    inside = [value]
    for _ in range(levels + 1):
        inside = [
            item
            for outer in inside
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not inside:
            return False
    return True


@contextmanager
def repaired(file: Path, repair: str) -> Iterator[None]:
    """Ends the message of what keeps ``file`` from being opened with ``repair``."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: not there. {repair}") from None
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}). {repair}") from None
    except ValueError as error:
        raise ValueError(f"{error} {repair}") from None


def _refuse_others(name: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise ValueError(f"{name}: {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}, not a file.")


def resolved(place: Path) -> Path:
    """Returns ``place`` as an absolute path without links; one that need not be there.

    Raises:
        ValueError: If links lead round in a circle, or the name cannot be one.
    """
    try:
        return place.resolve()
    except (RuntimeError, OSError, ValueError) as error:  # RuntimeError is the circle
        why = "its links lead round in a circle" if isinstance(error, RuntimeError) else reason(error)
        raise ValueError(f"{few([place])}: cannot be found ({why}). Give another path.") from None


# Writing ---------------------------------------------------------------------------------------------------


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Lets an error of the disk name ``file``, also one that came from safetensors."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(file)) from None
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from None


def check_target(file: Path, repair: str) -> None:
    """Sees to it that :func:`write` can put a file there, before the work that fills it.

    Raises:
        ValueError: If there is no such folder, or nothing may be written in it, or something other than a regular file
            is there; ``repair`` ends the message.
        OSError: If the name is too long.
    """
    if not file.parent.is_dir():
        raise ValueError(f"{file}: must be a file in a folder that is there. Make the folder, or change it.")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{file}: nothing may be written in the folder of this file. {repair}")
    with suppress(FileNotFoundError):
        check_regular(file, repair)
    new, _ = _beside(file)
    with naming(file), suppress(FileNotFoundError):
        new.lstat()


def write_text(file: Path, text: str) -> None:
    """Puts ``text`` in ``file`` at once: killed at any moment, the old content or the new one is there."""
    write(file, lambda new: new.write_bytes(text.encode("utf-8", errors="surrogateescape")))


def write(file: Path, fill: Callable[[Path], object]) -> None:
    """Lets ``fill`` write a file that then takes the place of ``file`` at once.

    Raises:
        OSError: If the disk fails; it names ``file``, which is as it was before.
    """
    new, _ = _beside(file)
    with naming(file):
        try:
            fill(new)
            new.replace(file)
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)


def write_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Lets ``fill`` write a folder that then takes the place of ``folder`` at once.

    Files are synced before the rename. Killed at any moment, either the old or the new content is found by
    :func:`find_folder`.

    Raises:
        OSError: If the disk fails; it names ``folder``, which is as it was before.
    """
    new, old = _beside(folder)
    with naming(folder):
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir(parents=True)
            fill(new)
            for path in (*new.iterdir(), new):
                _sync(path)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def find_folder(folder: Path) -> Path | None:
    """Returns ``folder``, or its last complete content where a kill fell between two renames; ``None`` if neither."""
    _, old = _beside(folder)
    if not folder.exists() and old.exists():
        old.rename(folder)
    return folder if folder.exists() else None


def settle(place: Path) -> None:
    """Finishes what a kill cut off in writing ``place``, a file or folder: afterwards nothing lies beside it."""
    new, old = _beside(place)
    find_folder(place)
    for leftover in (new, old):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _beside(place: Path) -> tuple[Path, Path]:
    return place.with_name(f".{place.name}.new"), place.with_name(f".{place.name}.old")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# One process at a time --------------------------------------------------------------------------------------


@contextmanager
def alone(folder: Path, command: str) -> Iterator[None]:
    """Keeps a second ``mtbert COMMAND`` out of ``folder`` while this one writes there.

    Raises:
        ValueError: If another is at work there.
    """
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"{folder}: another mtbert {command} is at work there. Wait for it, or give another --out."
        ) from None
