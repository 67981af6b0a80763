"""A cache on disk for arrays that are computed once and memory-mapped later: tables, splits, clusters and tokens.

The name of a file is a digest of everything that its arrays depend on. A file holds the bytes of the arrays, and then a
footer in JSON with the offset and the SHA-256 of each array. Two values follow the footer: one SHA-256 of
the file name and the footer together, and then the length of the footer. A damaged or missing file is written again. If
no file can be written, the arrays are made in memory.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from mtbert import files
from mtbert.progress_bar import progress_of

StoredArray = npt.NDArray[Any]

CACHE_FORMAT = 3  # increased when the format of files changes, or when the same data give other arrays
FEWEST = 1000  # rows that are read and tokenised in a tenth of a second; files for such sets would only fill the disk
UNUSED = 30 * 24 * 3600  # seconds after which an unread file is removed
SETTLED = 2 * 10**9  # nanoseconds; a second change of a file within this time might not alter its times
ENTRY_KINDS = (".table", ".split", ".leaks", ".clusters", ".tokens", ".file")
Dtype = Literal["|u1", "<u2", "<i4", "<i8", "<f2", "<f8"]
ALIGNED = 64  # bytes
LARGEST_FOOTER = 2**26  # bytes: names and digests of 100,000 files
TAIL = 40  # bytes after the footer: its digest and its length
BYTES_AT_ONCE = 2**20  # bytes that are hashed or copied at a time


@dataclass(frozen=True)
class Kept:
    """Named arrays, and notes (small JSON values with names).

    Arrays that were read from a file are memory-mapped and read-only, and ``digests`` holds the SHA-256 of each of
    them.
    """

    arrays: Mapping[str, StoredArray]
    digests: Mapping[str, str]
    notes: Mapping[str, Any]

    def array(self, name: str, *dtypes: str, size: int | None = None) -> StoredArray:
        """Returns the array called ``name`` from the cache file.

        Raises:
            ValueError: If there is no such array, its dtype is not one of ``dtypes``, or its length is not ``size``.
        """
        found = self.arrays.get(name)
        if found is None or found.dtype.str not in dtypes or size not in (None, len(found)):
            raise ValueError(f"{name}: not an array of {size} values of type {' or '.join(dtypes)}.")
        return found


class _Footer(BaseModel):
    """The footer of a file: each array's dtype, offset, size in bytes and SHA-256, and the JSON values called notes."""

    model_config = ConfigDict(strict=True)

    arrays: dict[str, tuple[Dtype, NonNegativeInt, NonNegativeInt, str]]
    notes: dict[str, Any]


class Spool:
    """Collects arrays part by part: in temporary files in ``folder`` if it is given, otherwise in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self.notes: dict[str, Any] = {}
        self._folder = folder
        self._dtypes: dict[str, str] = {}
        self._memory: dict[str, bytearray] = {}
        self._files: dict[str, Any] = {}

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, name: str, part: StoredArray) -> None:
        """Appends ``part`` to the array called ``name``. All parts of an array must have the same dtype.

        Raises:
            OSError: If the disk fails.
        """
        written = np.ascontiguousarray(part)
        kind = self._dtypes.setdefault(name, written.dtype.newbyteorder("<").str)
        if kind not in get_args(Dtype) or written.dtype != np.dtype(kind):
            raise TypeError(f"{name}: {written.dtype} beside {kind}")
        if self._folder is None:
            self._memory.setdefault(name, bytearray()).extend(written.tobytes())
            return
        if name not in self._files:
            self._files[name] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # until the spool is left
        self._files[name].write(written.data)

    def kept(self) -> Kept:
        """Returns the arrays that :meth:`add` has collected. This works only if the arrays are in memory."""
        arrays = {name: np.frombuffer(block, self._dtypes[name]) for name, block in self._memory.items()}
        return Kept(arrays, {}, self.notes)

    def copy(self, target: BinaryIO) -> dict[str, list[Any]]:
        """Appends all arrays of this spool to the file ``target``. This works only if the spool keeps them in a folder.

        Returns:
            A dict that maps the name of each array to its dtype, offset, size in bytes and SHA-256.
        """
        found: dict[str, list[Any]] = {}
        for name, source in self._files.items():
            target.write(bytes(-target.tell() % ALIGNED))
            source.seek(0)
            first, digest = target.tell(), hashlib.sha256()
            while part := source.read(BYTES_AT_ONCE):
                digest.update(part)
                target.write(part)
            source.close()
            found[name] = [self._dtypes[name], first, target.tell() - first, digest.hexdigest()]
        return found


def kept(
    kind: str,
    depends_on: Sequence[object],
    make: Callable[[Spool], None],
    check: Callable[[Kept], object],
    *,
    keep: bool = True,
) -> Kept:
    """Returns the arrays that ``make`` produces. If the user's cache folder already holds them, they are read from it.

    Args:
        kind: The kind of data: ``table``, ``split``, ``leaks``, ``clusters``, ``tokens`` or ``file``.
        depends_on: Everything that determines the arrays, as JSON values.
        make: A function that adds the arrays to the :class:`Spool` it is given. It may be called twice.
        check: A function that raises a ValueError if arrays from the cache cannot be used. The arrays are then made
            again.
        keep: Whether to use the cache. If false, the arrays are made in memory.
    """
    if keep:
        with suppress(OSError, ValueError):
            found = look_up(kind, depends_on)
            check(found)
            return found
        with suppress(OSError):
            put(kind, depends_on, make)
            with suppress(ValueError):
                return look_up(kind, depends_on)
    with Spool() as spool:
        make(spool)
        return spool.kept()


def look_up(kind: str, depends_on: Sequence[object]) -> Kept:
    """Returns the arrays in a cache file. The file's name is computed from the arguments.

    Args:
        kind: The kind of data, such as ``tokens``.
        depends_on: Everything that determines the arrays, as JSON values.

    Raises:
        OSError, ValueError: If the file is missing or damaged.
    """
    file = _file(kind, depends_on)
    with files.open_regular(file, 2**63) as opened, progress_of(f"reading {kind} from the cache"):
        end = opened.seek(0, os.SEEK_END)
        if end < TAIL:
            raise ValueError(f"{file}: damaged.")
        opened.seek(end - TAIL)
        tail = opened.read(TAIL)
        length = int.from_bytes(tail[32:], "little")
        if length > min(LARGEST_FOOTER, end - TAIL):
            raise ValueError(f"{file}: damaged.")
        opened.seek(end - TAIL - length)
        footer = opened.read(length)
        if _seal(file, footer) != tail[:32]:
            raise ValueError(f"{file}: damaged.")
        found = _Footer.model_validate_json(footer)
        for _, first, size, digest in found.arrays.values():
            if first + size > end or _hashed(opened, first, size) != digest:
                raise ValueError(f"{file}: damaged.")
        # A plain view, because slicing np.memmap runs Python code, and a batch takes two slices of each sequence.
        whole = np.asarray(np.memmap(opened, np.uint8, "r"))
    with suppress(OSError):  # a read-only folder can be used too
        os.utime(file)
    arrays = {name: whole[first : first + size].view(dtype) for name, (dtype, first, size, _) in found.arrays.items()}
    return Kept(arrays, {name: each[3] for name, each in found.arrays.items()}, found.notes)


def put(kind: str, depends_on: Sequence[object], make: Callable[[Spool], None]) -> None:
    """Writes arrays to a cache file. ``make`` is called with an empty :class:`Spool`, and adds the arrays to it.

    The cache holds either the complete file or none, even if the process is killed or another one writes the same file.

    Raises:
        OSError: If the cache cannot be written.
    """
    file = _file(kind, depends_on)
    file.parent.mkdir(parents=True, exist_ok=True)
    _expire(file.parent)
    with Spool(file.parent) as spool:
        make(spool)
        handle, name = tempfile.mkstemp(file.suffix, dir=file.parent)  # private, because it holds texts
        try:
            with os.fdopen(handle, "wb") as new, progress_of(f"writing {kind} to the cache"):
                footer = json.dumps({"arrays": spool.copy(new), "notes": spool.notes}).encode()
                new.write(footer + _seal(file, footer) + len(footer).to_bytes(8, "little"))
            os.replace(name, file)
        finally:
            Path(name).unlink(missing_ok=True)


def check_within(array: StoredArray, low: int, high: int) -> None:
    """Raises a ValueError unless every value in ``array`` is at least ``low`` and less than ``high``."""
    if len(array) and not low <= int(array.min()) <= int(array.max()) < high:
        raise ValueError(f"values must be from {low} to {high - 1}.")


def check_offsets(offsets: StoredArray, end: int, step: int = 0) -> None:
    """Checks that offsets start at 0, grow by at least ``step`` each time and end at ``end``.

    Raises:
        ValueError: If the offsets break one of these rules.
    """
    if not len(offsets) or (offsets[0], offsets[-1]) != (0, end) or (np.diff(offsets) < step).any():
        raise ValueError(f"offsets must grow from 0 to {end}.")


# Digests of files ------------------------------------------------------------------------------------------

_digests: dict[Path, tuple[list[int], str]] = {}  # of this process, which needs them if the cache cannot be written


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file.

    The digest that :func:`remember` stored is returned if the file's path, size, times and inode are still the same.

    Raises:
        OSError, ValueError: If the file cannot be read.
    """
    if (known := _digests.get(path.absolute())) is not None and known[0] == _stat(path):
        return known[1]
    with suppress(OSError, ValueError):
        notes = look_up("file", [str(path.resolve())]).notes
        if notes.get("stat") == _stat(path) and isinstance(digest := notes.get("sha256"), str):
            return digest
    return files.sha256(path, "")


def remember(path: Path, digest: str) -> None:
    """Stores the SHA-256 of a file for :func:`file_digest`: in this process, and in the cache for all others.

    Nothing is stored if the file changed in the last two seconds. Another change so soon afterwards might leave the
    file's timestamps the same, and :func:`file_digest` would miss the change.

    Raises:
        OSError: If the cache cannot be written.
    """
    stat = _stat(path)
    if max(stat[1:3]) + SETTLED < time.time_ns():
        _digests[path.absolute()] = stat, digest
        put("file", [str(path.resolve())], lambda spool: spool.notes.update(stat=stat, sha256=digest))


def _stat(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


# Files of the cache ----------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Returns the folder of the cache: in ``MTBERT_CACHE`` if it is set, otherwise in the user's folder of caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("MTBERT_CACHE") or f"{caches}/mtbert")) / "data"


def _file(kind: str, depends_on: Sequence[object]) -> Path:
    return cache_folder() / f"{hashlib.sha256(json.dumps([CACHE_FORMAT, *depends_on]).encode()).hexdigest()}.{kind}"


def _expire(folder: Path) -> None:
    """Removes all cache files that no run has read for 30 days.

    Some of them were left behind by killed processes or by older versions of mtbert.
    """
    for other in (*folder.iterdir(), *(folder.parent / "tokens").glob("*.tokens")):
        with suppress(OSError):
            if other.suffix in ENTRY_KINDS and time.time() - other.stat().st_mtime > UNUSED:
                other.unlink()


def _seal(file: Path, footer: bytes) -> bytes:
    """Returns the SHA-256 of a cache file's name and footer together, which reveals damage to either."""
    return hashlib.sha256(file.name.encode() + footer).digest()


def _hashed(opened: BinaryIO, first: int, size: int) -> str:
    opened.seek(first)
    digest, left = hashlib.sha256(), size
    while left and (part := opened.read(min(left, BYTES_AT_ONCE))):
        digest.update(part)
        left -= len(part)
    return digest.hexdigest()
