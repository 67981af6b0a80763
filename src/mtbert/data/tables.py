"""Rows of a table: which columns hold what, and how cells become rows or are dropped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from mtbert.data import cells
from mtbert.data.cells import quoted
from mtbert.data.records import Records
from mtbert.messages import count, few, near, shown
from mtbert.settings import Settings

MOST_ROWS = 20_000_000  # that fit in a large machine's memory


class Columns(Settings):
    """Which columns hold what; ``columns: {text: [sentence1, sentence2], label: similarity, id: id}``."""

    text: tuple[str, ...] = Field(default=("text",), description="one or two column names")
    label: str | None = "label"
    id: str | None = Field(default=None, description="null: rows are numbered from 1")

    @field_validator("text", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if len(self.text) not in (1, 2) or len(set(self.text)) != len(self.text):
            raise ValueError(
                f"text must name one column or two different ones, found {few(self.text, most=4, quoted=True)}."
            )
        return self


@dataclass(frozen=True)
class Row:
    """One row as written: stripped texts and label.

    ``line`` is its first line, or its number from 1, in the file (or data set) of that number in its table.
    """

    line: int
    id: str
    texts: tuple[str, ...]
    label: str | None
    file: int = 0


@dataclass(frozen=True)
class TableFile:
    """A file or data set of a table; ``unit`` is what its rows are counted in."""

    name: str
    digest: str  # the SHA-256 of the file's bytes, or else of the rows
    unit: str = "line"


@dataclass(frozen=True)
class Table:
    """The rows of a source, and the files or the data set that they are in."""

    parts: tuple[TableFile, ...]
    rows: Sequence[Row]
    warnings: tuple[str, ...] = ()
    column: str = "label"

    @property
    def name(self) -> str:
        """All names, for messages."""
        return names(self.parts)

    def at(self, row: Row) -> str:
        """Returns where a label stands, for messages: ``sts.csv, line 812, column 'similarity'``."""
        part = self.parts[row.file]
        return cells.place(part.name, part.unit, row.line, self.column)


class Reader:
    """Makes rows of the records of one file after the other, and keeps what it drops."""

    def __init__(self, columns: Columns, where: dict[str, str | None], labelled: bool) -> None:
        self.rows: list[Row] = []
        self.chosen = 0  # records that ``where`` lets in
        self._columns, self._where, self._labelled = columns, where, labelled
        self._keys = [("text", column) for column in columns.text]
        self._keys += [("label", columns.label)] if labelled and columns.label is not None else []
        self._keys += [("id", columns.id)] if columns.id is not None else []
        self._keys += [("where", column) for column in where]
        self.wanted = [column for _, column in self._keys]
        self._dropped: dict[tuple[int, str], list[int]] = {}  # lines, by file and reason
        self._records = 0

    def read(self, file: int, name: str, records: Records) -> None:
        """Adds the rows of a file.

        Raises:
            ValueError: If a column is missing, a cell cannot be what it should be, or there are no rows.
        """
        has_id = self._columns.id is not None and (self._labelled or self._columns.id in records.columns)
        self._check_columns(name, records, has_id)
        texts, end = len(self._columns.text), len(self._keys) - len(self._where)
        make = [_MAKE[key] for key, _ in self._keys]
        chosen_by, make = make[end:], make[:end]
        wanted = list(self._where.values())
        before, line = self._records, 0

        def at(column: str) -> str:
            return cells.place(name, records.unit, line, column)

        for line, values in records.rows:
            self._records += 1
            if self._records > MOST_ROWS:
                raise ValueError(f"{name}: more than {MOST_ROWS:,} rows. Keep fewer.")
            if wanted:
                found = _made(chosen_by, values[end:], self.wanted[end:], at)
                if not all(map(cells.same, found, wanted)):
                    continue
            self.chosen += 1
            made = _made(make, values, self.wanted, at)
            given = tuple(made[:texts])
            label = made[texts] if self._labelled else None
            if self._labelled and label is None:
                self._drop(file, f"without a label in column {shown(self._columns.label)}", line)
            elif self._labelled and "" in given:
                self._drop(file, "with an empty text", line)
            elif "" in given:
                raise ValueError(
                    f"{at(self.wanted[given.index('')])}: the text is empty. Give a text, or drop the row."
                )
            elif has_id and made[-1] == "":
                raise ValueError(
                    f"{at(self.wanted[end - 1])}: the id is empty. Give one, or number the rows with columns.id: null."
                )
            else:
                self.rows.append(Row(line, made[-1] if has_id else str(self._records), given, label, file))
        if self._records == before:
            raise ValueError(f"{name}: a header but no rows. Add rows.")

    def warnings(self, parts: Sequence[TableFile]) -> Iterator[str]:
        """Gives one line for each reason to drop rows, and one for repeated ids.

        Raises:
            ValueError: If no row is left.
        """
        drops = [
            (parts[file].name, f"dropped {count(len(lines), 'row')} {why} (first: {parts[file].unit} {lines[0]})")
            for (file, why), lines in self._dropped.items()
        ]
        if not self.rows:
            name = names(parts)
            raise ValueError(f"{name}: no usable row; {', '.join(drop for _, drop in drops)}. Check the file.")
        yield from (f"{name}: {drop}." for name, drop in drops)
        first: dict[str, Row] = {}
        repeated = [row for row in self.rows if first.setdefault(row.id, row) is not row]
        if repeated:
            part = parts[repeated[0].file]
            example = f"{shown(repeated[0].id)}, {part.unit} {repeated[0].line}"
            yield f"{part.name}: {count(len(repeated), 'row')} with an id used before (first: {example})."

    def _drop(self, file: int, why: str, line: int) -> None:
        self._dropped.setdefault((file, why), []).append(line)

    def _check_columns(self, name: str, records: Records, has_id: bool) -> None:
        for key, column in self._keys:
            found = list(records.columns).count(column)
            if not found and not (key == "id" and not has_id):
                hint = near(column, records.columns)
                raise ValueError(
                    f"{name}{records.header}: there is no column {shown(column)}, found {quoted(records.columns)}."
                    f"{hint} Set {key if key == 'where' else f'columns.{key}'}."
                )
            if found > 1:
                raise ValueError(
                    f"{name}{records.header}: {found} columns are named {shown(column)}. Rename all but one."
                )


_MAKE: dict[str, Callable[[object], Any]] = {
    "text": cells.as_text,
    "label": cells.as_label,
    "id": cells.as_id,
    "where": cells.as_label,
}


def _made(
    make: Sequence[Callable[[object], Any]],
    values: Sequence[object],
    columns: Sequence[str],
    at: Callable[[str], str],
) -> list[Any]:
    """Returns each value as its function in ``make`` converts it; an error says where the value stands."""
    made: list[Any] = []
    try:
        for each, value in zip(make, values, strict=False):
            made.append(each(value))
    except ValueError as error:
        raise ValueError(f"{at(columns[len(made)])}: {error}") from None
    return made


def names(parts: Sequence[TableFile]) -> str:
    return few([part.name for part in parts], most=3)
