"""Reading Parquet files, a few rows at a time and only the wanted columns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from mtbert.data.records import LARGEST_TABLE, Record
from mtbert.messages import reason, shown

BATCH = 256  # rows read at once; few, because a row may hold megabytes of text


def parquet_records(name: str, file: BinaryIO, wanted: Sequence[str] | None) -> tuple[Sequence[str], Iterator[Record]]:
    """Returns a pair: the names of all columns of a Parquet file, and an iterator over its rows.

    Each row holds the values of the ``wanted`` columns, or of all columns if ``wanted`` is None.

    Raises:
        ValueError: If the file is not a Parquet file, or if the columns to read are too large.
    """
    table = parquet_file(name, file)
    with parquet_errors(name):
        columns = list(table.schema_arrow.names)
        asked = columns if wanted is None else wanted
        size = sum(
            group.column(i).total_uncompressed_size
            for group in map(table.metadata.row_group, range(table.metadata.num_row_groups))
            for i in range(group.num_columns)
            if any(f"{group.column(i).path_in_schema}.".startswith(f"{column}.") for column in asked)
        )
    if size > LARGEST_TABLE:
        raise ValueError(
            f"{name}: the columns read unpack to {size:,} bytes, but at most {LARGEST_TABLE:,} are read. "
            "Keep fewer rows."
        )
    found = [column for column in asked if column in columns]

    def rows() -> Iterator[Record]:
        number = 0
        with parquet_errors(name):
            for batch in table.iter_batches(batch_size=BATCH, columns=list(dict.fromkeys(found)), use_threads=False):
                # Column by column, so that the error for a value that Python cannot represent names its column.
                values = {column: cell_values(name, column, batch.column(column)) for column in batch.schema.names}
                nothing = [None] * batch.num_rows
                for row in zip(*(values.get(column, nothing) for column in asked), strict=True):
                    number += 1
                    yield number, row

    return columns, rows()


def parquet_file(name: str, file: BinaryIO, buffer: int = 0) -> Any:
    """Returns an open Parquet file as a ``pyarrow.parquet.ParquetFile``.

    If ``buffer`` is not 0, columns are read in parts of this number of bytes, so that a large row group needs little
    memory.
    """
    import pyarrow.parquet as pq

    with parquet_errors(name):
        return pq.ParquetFile(file, buffer_size=buffer)


def cell_values(name: str, column: str, array: Any) -> list[object]:
    """Returns the values of an Arrow array as Python objects.

    Error messages say that the values are from the column ``column`` of the file ``name``.
    """
    try:
        return list(array.to_pylist())
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{name}, column {shown(column)}: holds a value that cannot be read ({reason(error)}). Write it as text."
        ) from None


@contextmanager
def parquet_errors(name: str) -> Iterator[None]:
    """A context manager that turns an error from reading the Parquet file ``name`` into a one-line ValueError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: not a Parquet file ({reason(error)}). Write it again.") from None
