"""The common form of all files and data sets: column names, and numbered records of the columns asked for."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

LARGEST_TABLE = 2**32  # bytes of a table, unpacked

Record = tuple[int, Sequence[object]]


@dataclass(frozen=True)
class Records:
    """Records of a file or data set: a number, and the values of the columns asked for, ``None`` where there is none.

    ``columns`` are all that there are; ``late`` ones are whole only after the last record. ``header`` says where their
    names stand, and ``unit`` what the numbers count, both for messages. ``digest`` gives the SHA-256 of the content
    after the last record, where there is a file.
    """

    columns: Collection[str]
    rows: Iterable[Record]
    unit: str = "line"
    header: str = ""
    late: bool = False
    digest: Callable[[], str] | None = None
