"""Rows from memory: data frames, Arrow tables, data sets and lists of dicts, checked and written as Parquet files.

The type of a caller's object is recognised by its name, so that pandas, polars and datasets need not be imported here.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from mtbert import files
from mtbert.data import cells, hub
from mtbert.data.mistakes import NoColumn
from mtbert.data.tables import Columns
from mtbert.data.words import Given, WordReader, as_tag_text
from mtbert.messages import clean, few, near, reason, shown

FOLDER = "data"  # in the folder of a run
SPLITS = ("train", "dev", "test")
KINDS = "a pandas or polars DataFrame, a datasets.Dataset, a pyarrow Table or a list of dicts"
_VALUES = (str, int, float, Decimal, date, type(None))  # types of a cell; bool is an int, datetime a date
_MISSING = ("NAType", "NaTType")  # types of missing values in pandas, besides nan


@dataclass(frozen=True)
class MemoryRows:
    """Rows that were given in memory, as Arrow tables.

    Attributes:
        tables: The tables. The key of a table is the path of the file that it is written to, relative to the run's
            folder.
        names: The name of each table in messages, with the same keys as ``tables``.
        indexes: The index of each table that was a pandas DataFrame, with the same keys. Messages then give the index
            label of a row beside its number.
    """

    tables: Mapping[str, Any]
    names: Mapping[str, str]
    indexes: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def written(self, run: Path) -> Iterator[Path | None]:
        """Writes the tables that were given in memory into a temporary folder beside ``run``, as Parquet files.

        This is a context manager: it yields the folder and removes it at the end. If there are no tables, it yields
        None.
        """
        if not self.tables:
            yield None
            return
        import pyarrow.parquet as pq

        place = run.with_name(f".{run.name}.rows")
        rmtree(place, ignore_errors=True)
        try:
            with files.naming(run / FOLDER):
                (place / FOLDER).mkdir(parents=True)
                for file, table in self.tables.items():
                    pq.write_table(table, place / file)
            yield place
        finally:
            rmtree(place, ignore_errors=True)

    @contextmanager
    def named(self) -> Iterator[None]:
        """A context manager that applies :meth:`renamed` to the message of a ValueError that is raised inside it."""
        try:
            yield
        except ValueError as error:
            raise ValueError(self.renamed(str(error))) from None

    def renamed(self, text: str) -> str:
        """Returns ``text`` with phrases such as ``data of task a, dev`` in place of the paths of files.

        Words before a path that the phrase would repeat, such as ``task a:``, are left out.

        >>> MemoryRows({}, {"a.parquet": "data of task a, dev"}).renamed("task a: a.parquet: dropped 1 row.")
        'data of task a, dev: dropped 1 row.'
        """
        named = [file for file in self.names if file in text]
        if len(named) == 1:
            index = self.indexes.get(named[0])
            text = re.sub(r"\brow (\d+)\b", lambda row: f"row {row[1]}{index_label(index, int(row[1]))}", text)
        for file in named:
            name = self.names[file]
            owner = name.removeprefix("data of ").partition(",")[0]  # which the name says already
            text = text.replace(f"{owner}: {file}", name).replace(file, name)
        return text


NO_ROWS = MemoryRows({}, {})


def index_of(rows: Any) -> Any:
    """Returns the index of a pandas DataFrame or Series; None for anything else."""
    return rows.index if type(rows).__module__.partition(".")[0] == "pandas" else None


def index_label(index: Any, number: int) -> str:
    """Returns the index label of a row for messages, such as ``, index 'a'``. If there is no index, returns ``""``.

    Args:
        index: The index of a pandas DataFrame or Series, or None.
        number: The number of the row, counted from 1.
    """
    label = [] if index is None else index[number - 1 : number].tolist()
    return f", index {shown(label[0])}" if label else ""


def by_split(name: str, given: Any) -> dict[str, Any]:
    """Returns a dict from split to the rows that a caller gave for it. Rows given without a split are train rows.

    Raises:
        ValueError: If ``given`` is an empty dict, or has a key that is not in ``SPLITS``.
    """
    if not isinstance(given, Mapping):
        return {"train": given}
    for split in given:
        if split not in SPLITS:
            hint = near(str(split), SPLITS, f"Give rows, or a dict of {few(SPLITS)}.")
            raise ValueError(f"data of {name}: there is no split {shown(split)}.{hint}")
    if not given:
        raise ValueError(f"data of {name}: no split. Give rows, or a dict of {few(SPLITS)}.")
    return {**given}


def file_of(name: str, split: str) -> str:
    """Returns the path of the file that holds the rows of a split, relative to the run's folder."""
    return f"{FOLDER}/{name}-{split}.parquet"


def name_of(kind: str, name: str, split: str) -> str:
    """Returns a name for the rows of a split, such as ``data of task sst, dev``. ``kind`` is ``task`` or ``table``."""
    return f"data of {kind} {name}" if split == "train" else f"data of {kind} {name}, {split}"


def arrow_table(rows: Any, each: Sequence[Columns], name: str) -> Any:
    """Returns an Arrow table with the columns of ``rows`` that one or several tasks read.

    Args:
        rows: Rows in one of the forms that ``KINDS`` lists. They are not changed.
        each: For each task, the names of the columns that hold texts, label and id.
        name: The name of the rows in messages.

    Raises:
        TypeError: If the rows have another form.
        ValueError: If there are no rows, if a column is missing or occurs twice, or if a cell is not a single value.
    """
    import pyarrow as pa

    found, size, values = _columns(rows, name)
    if not size:
        raise ValueError(f"{name}: no rows. Add rows.")
    wanted = _wanted(each)
    for column, (key, _) in wanted.items():
        if column not in found:
            raise NoColumn(
                name, f"columns.{key}", column, found, [str(other) for other in found if other not in wanted]
            )
        if found.count(column) > 1:
            raise ValueError(f"{name}: {found.count(column)} columns are named {shown(column)}. Rename all but one.")
    index = index_of(rows)
    return pa.table(
        {column: _arrow(key, column, values(column), name, reader, index) for column, (key, reader) in wanted.items()}
    )


def _wanted(each: Sequence[Columns]) -> dict[str, tuple[str, Columns]]:
    """Returns a dict from column name to a pair, for every column that a task reads.

    The pair contains the recipe's key for the column, such as ``text`` or ``id``, and the :class:`Columns` of a task
    that reads the column. If several tasks read the same texts, a task that labels each word is preferred. If several
    tasks read the same labels, a task without lists of labels is preferred.
    """
    words_first = sorted(each, key=lambda columns: not columns.words)
    found = [(column, ("text", columns)) for columns in words_first for column in columns.text]
    plain_first = sorted(each, key=lambda columns: columns.lists)
    found += [
        (name, (group.key, columns)) for columns in plain_first for group in columns.groups for name in group.names
    ]
    found += [(columns.id, ("id", columns)) for columns in each if columns.id is not None]
    wanted: dict[str, tuple[str, Columns]] = {}
    for column, read in found:
        wanted.setdefault(column, read)
    return wanted


def column_names(rows: Any, name: str) -> list[Any]:
    """Returns the names of the columns of ``rows``, such as a DataFrame or a list of dicts.

    ``name`` is the name by which an error message calls the rows.

    Raises:
        TypeError: If the rows have a form that ``KINDS`` does not list.
    """
    return _columns(rows, name)[0]


def _columns(rows: Any, name: str) -> tuple[list[Any], int, Any]:
    """Returns a triple: the names of the columns, the number of rows, and a function.

    The function takes the name of a column, and returns the column's values.
    """
    import pyarrow as pa

    library, kind = type(rows).__module__.partition(".")[0], type(rows).__name__
    if (library, kind) == ("pandas", "DataFrame"):
        return list(rows.columns), len(rows), lambda column: _from_pandas(rows[column])
    if (library, kind) == ("polars", "DataFrame"):
        rows = rows.to_arrow()
    elif (library, kind) == ("datasets", "Dataset"):
        table, classes = rows.with_format("arrow")[:], hub.class_names(rows.features)

        def values(column: str) -> Any:
            found = table.column(column)
            return hub.named(found.to_pylist(), classes[column]) if column in classes else found

        return table.column_names, table.num_rows, values
    if isinstance(rows, pa.Table):
        return rows.column_names, rows.num_rows, rows.column
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise TypeError(f"{name}, row {number}: must be a dict, found {shown(row)}. Give a list of dicts.")
        names = list(dict.fromkeys(column for row in rows for column in row))
        return names, len(rows), lambda column: [row.get(column) for row in rows]
    raise TypeError(f"{name}: must be {KINDS}, found {clean(f'{library}.{kind}')}. Convert it.")


def _from_pandas(series: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):  # values of several types
        return [None if nothing is True else value for value, nothing in zip(series, series.isna(), strict=True)]


def _arrow(key: str, column: str, values: Any, name: str, columns: Columns, index: Any) -> Any:
    """Returns a column as an Arrow array. Each cell is checked, unless the column's type rules out invalid cells."""
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        if is_text or (key != "text" and any(is_one(values.type) for is_one in numbers)):
            return values
        try:
            values = values.to_pylist()
        except (ValueError, OverflowError) as error:
            why = f"holds a value that cannot be read ({reason(error)}). Write it as text."
            raise ValueError(f"{name}, column {shown(column)}: {why}") from None
    make: dict[str, Callable[[object], Any]] = {"text": cells.as_text, "id": cells.as_id}
    make |= {group.key: group.convert for group in columns.groups}
    lists = key == columns.label_key and columns.lists
    if columns.words and key != "id":
        make, lists = {"text": WordReader().text, "label": as_tag_text}, True
    one = "a string" if key == "text" else "one value"
    must = f"{one} or a list" if lists else one
    made = []
    for number, given in enumerate(values, 1):
        value = _plain(given)
        try:
            # The function that reads labels knows what to say about a list of them.
            if not (isinstance(value, _VALUES) or ((lists or key == "label") and isinstance(value, list))):
                raise ValueError(f"the {key} must be {must}, found {shown(given)}. Fix or drop the row.")
            made.append(make[key](value))
        except ValueError as error:
            place = f"{name}, row {number}{index_label(index, number)}, column {shown(column)}"
            raise ValueError(f"{place}: {error}") from None
    if key == "text" and any(isinstance(text, Given) for text in made):
        # An empty text has no words, whether it was an empty list or an empty cell.
        return pa.array([text.split(" ") if text else [] for text in made], pa.large_list(pa.large_string()))
    return pa.array(made, pa.large_string())


def _plain(value: Any) -> Any:
    """Converts a cell: NumPy values become Python values, tuples become lists, and missing values become None."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    missing = type(value).__name__ in _MISSING or (isinstance(value, float) and value != value)
    return None if missing else value
