"""Reading a file with all of its columns, for commands that copy them into their output."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtbert.data import formats


@dataclass(frozen=True)
class Whole:
    """All columns of a file, and its rows in the order of :func:`mtbert.data.sources.read`."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, object]]


def read_whole(name: str, path: Path, wanted: Sequence[str]) -> Whole:
    """Returns everything in a file. If several columns have the same name, only the last of them is kept.

    Args:
        name: What messages call the file.
        path: The file.
        wanted: Columns that the file should have; they help to detect what separates its columns.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read.
    """
    with formats.opened(name, path, wanted, every=True) as records:
        rows = [dict(zip(records.columns, values, strict=True)) for _, values in records.rows]
        return Whole(tuple(dict.fromkeys(records.columns)), rows)


def read_columns(name: str, path: Path, wanted: Sequence[str]) -> Collection[str]:
    """Returns the names of the columns of a file; ``wanted`` ones are as in :func:`read_whole`.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read.
    """
    with formats.opened(name, path, wanted) as records:
        if records.late:
            deque(records.rows, maxlen=0)
        return records.columns
