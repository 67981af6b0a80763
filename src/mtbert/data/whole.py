"""A file with all of its columns as they are, for commands that carry them over into what they write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtbert.data import sources


@dataclass(frozen=True)
class Whole:
    """The names of all columns, and the rows in the order in which :func:`sources.read` gives them."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, object]]


def read(name: str, path: Path) -> Whole:
    """Returns everything in a file called ``name`` in messages; of columns with one name the last.

    Raises:
        FileNotFoundError, ValueError: If it cannot be read.
    """
    raw = sources._parse(name, path.suffix.lower(), sources._bytes(name, path))
    return Whole(tuple(dict.fromkeys(raw.columns)), [record for _, record in raw.records])
