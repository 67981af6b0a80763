"""The common form of all files and data sets: column names, and numbered records with the wanted columns."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

LARGEST_TABLE = 2**32  # most bytes of an uncompressed table

Record = tuple[int, Sequence[object]]


@dataclass(frozen=True)
class Records:
    """The records of a file or data set, and the names of its columns.

    Attributes:
        columns: The names of all columns of the file.
        rows: For each record its number, and its values in the wanted columns, None for a missing value.
        unit: What the numbers count, for messages.
        header: The place of the column names, for messages.
        late: Whether ``columns`` is complete only after the last record.
        digest: Returns the SHA-256 of the file, after the last record; None for a data set.
    """

    columns: Collection[str]
    rows: Iterable[Record]
    unit: str = "line"
    header: str = ""
    late: bool = False
    digest: Callable[[], str] | None = None
