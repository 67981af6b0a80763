"""Reading all columns of a file, for commands that copy the columns into their output."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtbert.data import formats


@dataclass(frozen=True)
class Whole:
    """A file's column names, and its rows in the order in which :func:`mtbert.data.sources.read` returns them."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, object]]


def read_whole(name: str, path: Path, wanted: Sequence[str]) -> Whole:
    """Returns all columns and rows of a file. If several columns have the same name, only the last of them is kept.

    Args:
        name: The name of the file in messages.
        path: The path of the file.
        wanted: Columns that the file should have. They help to detect the separator of columns.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read.
    """
    with formats.opened(name, path, wanted, every=True) as records:
        rows = [dict(zip(records.columns, values, strict=True)) for _, values in records.rows]
        return Whole(tuple(dict.fromkeys(records.columns)), rows)


def read_columns(name: str, path: Path, wanted: Sequence[str]) -> Collection[str]:
    """Returns the names of a file's columns. The arguments are those of :func:`read_whole`.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read.
    """
    with formats.opened(name, path, wanted) as records:
        if records.late:
            deque(records.rows, maxlen=0)
        return records.columns
