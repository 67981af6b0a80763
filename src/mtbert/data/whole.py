"""A file with all of its columns as they are, for commands that carry them over into what they write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtbert.data import formats


@dataclass(frozen=True)
class Whole:
    """The names of all columns, and the rows in the order in which :func:`sources.read` gives them."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, object]]


def read(name: str, path: Path, wanted: Sequence[str]) -> Whole:
    """Returns everything in a file called ``name`` in messages; of columns with one name the last.

    ``wanted`` are the columns that the file was read for: they tell what separates its columns.

    Raises:
        FileNotFoundError, ValueError: If it cannot be read.
    """
    with formats.opened(name, path, wanted, every=True) as records:
        rows = [dict(zip(records.columns, values, strict=True)) for _, values in records.rows]
        return Whole(tuple(dict.fromkeys(records.columns)), rows)
