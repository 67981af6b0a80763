"""The common form in which all files and data sets are read: column names and numbered records."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from mtbert.messages import shown

LARGEST_TABLE = 2**32  # most bytes of an uncompressed table

Record = tuple[int, Sequence[object]]


@dataclass(frozen=True)
class Records:
    """The records of a file or data set, and the names of its columns.

    Attributes:
        columns: The names of all columns.
        rows: For each record, its number and its values in the wanted columns. A missing value is None.
        unit: The word that messages put before the number of a record: ``line``, ``row`` or ``item``.
        header: A text that messages put after the file's name, to say where the column names are: ``", line 1"``.
        late: Whether ``columns`` is incomplete until the last record has been read.
        digest: A function that returns the SHA-256 of the file. Call it after the last record has been read. For a data
            set, it is None.
        reached: A function that returns how many bytes of the file have been read so far. For a data set, and for a
            Parquet file, it is None.
    """

    columns: Collection[str]
    rows: Iterable[Record]
    unit: str = "line"
    header: str = ""
    late: bool = False
    digest: Callable[[], str] | None = None
    reached: Callable[[], int] | None = None


def check_names(where: str, columns: Sequence[str]) -> None:
    """Raises ValueError if two columns have the same name. ``where`` names the file in the message."""
    for column in columns:
        if (found := columns.count(column)) > 1:
            raise ValueError(f"{where}: {found} columns are named {shown(column)}. Rename all but one.")
