"""Reading and writing files: the only place that writes at once, and the rules for opening what others wrote.

Nothing but regular files is opened, and nothing larger than its kind can be: a pipe would wait for ever, and
``/dev/zero`` has no end. What is written appears whole or not at all; an error of the disk names the file that was
meant, and leaves nothing half-written behind.
"""

import errno
import hashlib
import io
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from mtbert.messages import clean, few, reason, shown

LARGEST_HEADER = 8 * 2**20  # bytes of the names and shapes in a safetensors file: 140,000 tensors
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk without room

# Reading ---------------------------------------------------------------------------------------------------


def check_regular(file: Path, repair: str) -> None:
    """Raises ValueError unless ``file`` is a regular one, before a library opens it by its name.

    Raises:
        FileNotFoundError: If it is not there; ``repair`` ends the message.
        ValueError: If it cannot be reached, or is a folder, a pipe, a device or a socket.
    """
    with repaired(file, repair):
        _refuse_others(str(file), file.stat())


def check_safetensors(file: Path, repair: str) -> None:
    """Raises ValueError unless ``file`` is a regular one whose header is at most ``LARGEST_HEADER`` bytes.

    A name and its shape take 60 bytes here and a kilobyte once read.

    Raises:
        FileNotFoundError: If it is not there; ``repair`` ends the message.
        ValueError: If it cannot be read, is no file, or has more.
    """
    check_regular(file, repair)
    with repaired(file, repair), open(file, "rb") as opened:
        names = int.from_bytes(opened.read(8), "little")
    if names > LARGEST_HEADER:
        raise ValueError(
            f"{file}: not a whole safetensors file (its names take {names:,} bytes, at most {LARGEST_HEADER:,} are "
            f"read). {repair}"
        )


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


def sha256(file: Path, repair: str) -> str:
    """Returns the SHA-256 of a regular file of any size, in hex digits.

    Raises:
        FileNotFoundError: If it is not there; ``repair`` ends the message.
        ValueError: If it cannot be read, or is a folder, a pipe, a device or a socket.
    """
    with repaired(file, repair), open_regular(file, sys.maxsize) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def repaired(file: Path, repair: str) -> Iterator[None]:
    """Turns an error of opening ``file`` into one line that ends with ``repair``."""
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


def check_out(folder: Path) -> Path:
    """Returns ``folder`` if a command can write there, as far as its name and its links tell.

    Raises:
        ValueError: If its name is not UTF-8, which no terminal can show, or it is a link that leads nowhere.
    """
    if clean(str(folder)) != str(folder):  # also the bytes that are not UTF-8
        raise ValueError(f"--out {shown(str(folder))}: has characters that cannot be shown. Give another --out.")
    if os.path.islink(folder) and not os.path.exists(folder):
        raise ValueError(f"--out {folder}: a link to a place that is not there. Remove it, or give another --out.")
    return folder


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
    """Raises an error unless :func:`write` can put a file there, before the work that fills it.

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


def write_output(content: bytes) -> None:
    """Writes all of ``content`` to standard output.

    Raises:
        OSError: If the disk behind it fails.
    """
    # With PYTHONUNBUFFERED its buffer is the bare file, which writes what there is room for and says how much that was.
    rest = memoryview(content)
    while rest:
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.flush()


def link(file: Path, new: Path) -> None:
    """Makes ``new`` another name of ``file``, or a copy where the file system has no links."""
    try:
        os.link(file, new)
    except OSError:
        shutil.copyfile(file, new)


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
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            new.rename(folder)
        except BaseException:
            settle(folder)
            raise
        _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def find_folder(folder: Path) -> Path | None:
    """Returns where the last complete content of ``folder`` is, ``None`` if nowhere.

    That is beside it where a kill fell between the two renames of :func:`write_folder`, or while another process is
    there: only who writes in the folder may move it back (:func:`settle`).
    """
    _, old = _beside(folder)
    return next((place for place in (folder, old) if place.exists()), None)


def meant(folder: Path) -> Path:
    """Returns the place whose content is in ``folder``, which :func:`find_folder` found, as people know it."""
    name = re.fullmatch(r"\.(.+)\.old", folder.name)
    return folder.with_name(name[1]) if name else folder


def settle(place: Path) -> None:
    """Finishes what a kill cut off in writing ``place``, a file or folder: afterwards nothing lies beside it."""
    new, old = _beside(place)
    if not place.exists() and old.exists():
        old.rename(place)
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
