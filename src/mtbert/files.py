"""Functions that read files safely, whoever made them, and functions that write files and folders atomically.

Only regular files up to a size limit are read: a pipe would block for ever, and ``/dev/zero`` never ends. A file or
folder is written whole or not at all. An error from the disk names the file that the caller wanted to read or write.
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
from mtbert.progress_bar import progress_of

LARGEST_HEADER = 8 * 2**20  # bytes of the names and shapes in a safetensors file: about 140,000 tensors
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # error numbers that mean that the disk has no room left

# Reading ---------------------------------------------------------------------------------------------------


def check_regular(file: Path, repair: str) -> None:
    """Checks that ``file`` is a regular file, before another library opens it by its name.

    Every error message ends with ``repair``, which says what the user can do.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be reached, or is a folder, a pipe, a device or a socket.
    """
    with repaired(file, repair):
        _refuse_others(str(file), file.stat())


def check_safetensors(file: Path, repair: str) -> None:
    """Checks that ``file`` is a regular file, and that its header has at most ``LARGEST_HEADER`` bytes.

    The header lists the name and shape of each tensor. Each entry takes about 60 bytes in the file, but a kilobyte in
    memory, so a huge header could exhaust the memory. Every error message ends with ``repair``, which says what the
    user can do.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, is not a regular file, or has a larger header.
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
    """Opens ``file`` for reading, if it is a regular file of at most ``largest`` bytes.

    Args:
        file: The file to open.
        largest: The largest accepted size, in bytes.
        name: The name of the file in error messages. If it is empty, messages use the path.

    Raises:
        FileNotFoundError: If the file does not exist.
        OSError: If the file cannot be opened.
        ValueError: If the file is not a regular file, or is too large.
    """
    # O_NONBLOCK: otherwise opening a pipe would block until another process writes to it.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        _refuse_others(name or str(file), found)
        if found.st_size > largest:
            raise ValueError(f"{name or file}: has {found.st_size:,} bytes, but at most {largest:,} are read.")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(file: Path, largest: int) -> bytes:
    """Returns the content of a regular file of at most ``largest`` bytes.

    Raises:
        FileNotFoundError: If the file does not exist.
        OSError: If the file cannot be opened or read.
        ValueError: If the file is not a regular file, or is too large.
    """
    with open_regular(file, largest) as opened, naming(file):
        # Python reserves memory for all bytes that it is asked to read.
        return opened.read(os.fstat(opened.fileno()).st_size)


def sha256(file: Path, repair: str) -> str:
    """Returns the SHA-256 of a regular file of any size, as a hexadecimal string.

    Every error message ends with ``repair``, which says what the user can do.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, or is a folder, a pipe, a device or a socket.
    """
    with repaired(file, repair), open_regular(file, sys.maxsize) as opened, progress_of(f"hashing {file}"):
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def repaired(file: Path, repair: str) -> Iterator[None]:
    """A context manager that turns an error from reading ``file`` into a one-line message for the user.

    The message ends with ``repair``, which says what the user can do.

    Raises:
        FileNotFoundError: If reading raises a FileNotFoundError.
        ValueError: If reading raises another OSError, or a ValueError.
    """
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
    """Returns ``place`` as an absolute path without symbolic links. The path does not have to exist.

    Raises:
        ValueError: If the links form a loop, or if the path is not valid.
    """
    try:
        return place.resolve()
    except (RuntimeError, OSError, ValueError) as error:  # a loop of links is a RuntimeError
        why = "its links form a loop" if isinstance(error, RuntimeError) else reason(error)
        raise ValueError(f"{few([place])}: cannot be found ({why}). Give another path.") from None


def check_out(folder: Path) -> Path:
    """Returns ``folder`` unchanged, after checking that it can be used as an output folder.

    Raises:
        ValueError: If the name has characters that a terminal cannot show, if the folder is a broken link, or if it is
            the working folder, which could not be replaced.
    """
    if clean(str(folder)) != str(folder):  # this includes bytes that are not UTF-8
        raise ValueError(f"{shown(str(folder))}: has characters that cannot be shown. Give another folder.")
    if os.path.islink(folder) and not os.path.exists(folder):
        raise ValueError(f"{folder}: a link to a place that does not exist. Remove it, or give another folder.")
    if resolved(folder) == resolved(Path()):
        raise ValueError(f"{folder}: the working folder. Give another one, or go to another folder.")
    return folder


# Writing ---------------------------------------------------------------------------------------------------


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """A context manager that puts the path ``file`` into every OSError that is raised inside it.

    An I/O error from safetensors is replaced by an OSError with this path.
    """
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
    """Checks that :func:`write` can write ``file``, before the work that produces its content.

    Some of the error messages end with ``repair``, which says what the user can do.

    Raises:
        ValueError: If the folder of the file does not exist or is not writable, or if the name is taken by something
            that is not a regular file.
        OSError: If the name is too long.
    """
    if not file.parent.is_dir():
        raise ValueError(f"{file}: must be a file in a folder that exists. Make the folder, or give another file.")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{file}: the folder of this file is not writable. {repair}")
    with suppress(FileNotFoundError):
        check_regular(file, repair)
    new, _ = _beside(file)
    with naming(file), suppress(FileNotFoundError):
        new.lstat()


def write_text(file: Path, text: str) -> None:
    """Writes ``text`` to ``file`` atomically: a kill at any moment leaves either the old content or the new one."""
    write(file, lambda new: new.write_bytes(text.encode("utf-8", errors="surrogateescape")))


def write_new(file: Path, text: str) -> None:
    """Writes ``text`` to a new file.

    Raises:
        FileExistsError: If the name is taken.
        OSError: If the disk fails. The file is then removed.
    """
    with naming(file), open(file, "x", encoding="utf-8") as opened:
        try:
            opened.write(text)
            opened.flush()
        except BaseException:
            file.unlink(missing_ok=True)
            raise


def write(file: Path, fill: Callable[[Path], object]) -> None:
    """Replaces ``file`` atomically by a file that ``fill`` writes.

    ``fill`` is called with a temporary path. The file that it writes there is then renamed to ``file``.

    Raises:
        OSError: If the disk fails. The error names ``file``, whose content is unchanged.
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
        OSError: If standard output cannot be written, for example because it goes to a file on a full disk.
    """
    # With PYTHONUNBUFFERED, sys.stdout.buffer is the raw file: one write may take only a part of the bytes.
    rest = memoryview(content)
    while rest:
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.flush()


def link(file: Path, new: Path) -> None:
    """Makes ``new`` a hard link to ``file``, or a copy of ``file`` if the file system has no hard links."""
    try:
        os.link(file, new)
    except OSError:
        shutil.copyfile(file, new)


def write_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Replaces ``folder`` by a folder that ``fill`` writes.

    ``fill`` is called with the path of an empty temporary folder. What it writes there is synced to the disk, and then
    the temporary folder is renamed to ``folder``. Even if the process is killed meanwhile, :func:`find_folder` finds
    either the complete old content or the complete new content.

    Raises:
        OSError: If the disk fails. The error names ``folder``, whose content is unchanged.
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
    """Returns the path where the last complete content of ``folder`` lies; None if there is none.

    Usually, this is ``folder`` itself. It is a temporary path beside ``folder`` while :func:`write_folder` swaps
    folders, or if the process was killed during the swap. Only the process that writes in ``folder`` may move the
    content back (:func:`settle`).
    """
    return next((place for place in (folder, _beside(folder)[1]) if place.exists()), None)


def meant(folder: Path) -> Path:
    """Returns the proper path of ``folder``. For ``runs/.best.old`` and for ``runs/best``, it is ``runs/best``.

    :func:`write_folder` moves the old content of a folder to a temporary path such as ``runs/.best.old``, and
    :func:`find_folder` may return this temporary path.
    """
    name = re.fullmatch(r"\.(.+)\.old", folder.name)
    return folder.with_name(name[1]) if name else folder


def settle(place: Path) -> None:
    """Cleans up after a process was killed while it was writing ``place``, a file or a folder.

    If the folder ``place`` is missing, its old content is moved back. All temporary files and folders are removed.
    """
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
    if place.name in ("", ".."):  # "." and "..", which have no name of their own
        place = resolved(place)
        if not place.name:
            raise ValueError(f"{place}: the root of all folders. Give another path.")
    return place.with_name(f".{place.name}.new"), place.with_name(f".{place.name}.old")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
