"""Where the rows of a task are, and how they are read: from files, a hub data set or the generated demo."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from mtbert.data import cells, demo, formats, hub
from mtbert.data.cells import quoted, readable
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


class Source(Settings):
    """Where a table comes from: exactly one of ``path``, ``hub`` and ``generated``.

    A plain string is a path, and a list of strings are several files with the same columns.
    """

    path: str | tuple[str, ...] | None = Field(
        default=None, description=f"a file, or a list of files; each one of {', '.join(formats.SUFFIXES)}"
    )
    hub: str | None = Field(default=None, description="a data set of the Hugging Face hub, or a local folder of one")
    config: str | None = Field(default=None, description="hub only: the configuration, e.g. 'sst2' of 'nyu-mll/glue'")
    split: str | None = Field(
        default=None,
        description="hub: its name of the split; null: of a saved data set without splits; generated: train or dev",
    )
    generated: str | None = Field(default=None, description="a task of the generated demo: sst, quora or sts")
    where: dict[str, Any] | None = Field(
        default=None, description="keep only rows whose columns hold these values: {is_duplicate: 1}"
    )

    @field_validator("path", "hub")
    @classmethod
    def _can_be_a_name(cls, value: Any) -> Any:
        given = value if isinstance(value, tuple) else () if value is None else (value,)
        for name in given:
            if "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
                raise ValueError(f"the name must be UTF-8 text, found {shown(name)}. Rename it.")
        if isinstance(value, tuple) and (not value or len(set(value)) != len(value)):
            raise ValueError(f"a list of files must name each file once, found [{quoted(value)}].")
        return value

    @field_validator("where")
    @classmethod
    def _plain_values(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for column, wanted in (value or {}).items():
            if not isinstance(wanted, str | int | float):
                raise ValueError(
                    f"column {shown(column)} must be given a text, a number, true or false, found {shown(wanted)}."
                )
        return value

    @model_validator(mode="before")
    @classmethod
    def _path_by_default(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | tuple | list) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        given = [key for key in ("path", "hub", "generated") if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"a source needs exactly one of path, hub and generated, found {found}.")
        if self.config is not None and self.hub is None:
            raise ValueError(f"config is for hub data sets, found {shown(self.config)} beside {given[0]}. Drop config.")
        if self.path is not None and self.split is not None:
            raise ValueError(
                f"a file has no splits, found split {shown(self.split)}. Drop split, or name another file."
            )
        if self.generated is not None and self.where is not None:
            raise ValueError("generated rows have no columns to choose by, found where. Drop where.")
        if self.generated is not None and self.split is None:
            raise ValueError("generated needs a split. Add split: train, or split: dev.")
        if self.generated is not None:
            for key, value, known in (
                ("generated", self.generated, ("sst", "quora", "sts")),
                ("split", str(self.split), ("train", "dev")),
            ):
                if value not in known:
                    raise ValueError(
                        f"{key} must be one of {', '.join(known)}, found {shown(value)}.{near(value, known)}"
                    )
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The files, as the recipe names them; none of a data set."""
        return (self.path,) if isinstance(self.path, str) else self.path or ()

    def shares(self, other: "Source") -> bool:
        """Returns whether both would read the same rows, all or some of them."""
        if self.files and other.files:
            return bool(set(self.files) & set(other.files)) and self.where == other.where
        return self == other


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
class Part:
    """A file or data set of a table; ``unit`` is what its rows are counted in."""

    name: str
    digest: str  # the SHA-256 of the file's bytes, or else of the rows
    unit: str = "line"


@dataclass(frozen=True)
class Table:
    """The rows of a source, and the files or the data set that they are in."""

    parts: tuple[Part, ...]
    rows: Sequence[Row]
    warnings: tuple[str, ...] = ()
    column: str = "label"

    @property
    def name(self) -> str:
        """All names, for messages."""
        return _names(self.parts)

    def at(self, row: Row) -> str:
        """Returns where a label stands, for messages: ``sts.csv, line 812, column 'similarity'``."""
        part = self.parts[row.file]
        return cells.place(part.name, part.unit, row.line, self.column)


def read(source: Source, columns: Columns, root: Path, *, texts: int, labelled: bool = True) -> Table:
    """Returns the rows of a source, in order; those of several files one file after the other.

    Args:
        source: Where the rows are; ``generated`` ones have no columns, so ``columns`` is then not looked at.
        columns: The columns to read.
        root: The folder that relative paths start from.
        texts: The number of texts the task reads, 1 or 2.
        labelled: True drops, with one counted warning each, rows without a label and rows with an empty text. False
            (input of a prediction) keeps every row, and no labels; the id column may be missing.

    Raises:
        FileNotFoundError: If there is no such file; the message names the nearest one.
        ValueError: If the content cannot be read, or an unlabelled row has an empty text.
    """
    if source.generated is not None:
        return _generated(source.generated, str(source.split), texts, labelled)
    found = ", ".join(filter(None, (source.config, source.split)))
    names = list(map(readable, source.files or [f"{source.hub} [{found}]" if found else str(source.hub)]))
    if len(columns.text) != texts:
        raise ValueError(
            f"{names[0]}: the task reads {count(texts, 'text')}, but columns.text names {len(columns.text)}: "
            f"{quoted(columns.text)}. Name {texts}, or change the task's inputs."
        )
    if labelled and columns.label is None:
        raise ValueError(f"{names[0]}: labelled rows need a label column, found null. Set columns.label.")
    reader = _Reader(columns, {key: cells.as_label(value) for key, value in (source.where or {}).items()}, labelled)
    parts = []
    for i, name in enumerate(names):
        with _opened(source, i, name, root, reader.wanted) as records:
            seen = len(reader.rows)
            reader.read(i, name, records)
            digest = records.digest() if records.digest is not None else _digest(reader.rows[seen:])
            parts.append(Part(name, digest, records.unit))
    if not reader.chosen:
        raise ValueError(f"{_names(parts)}: no row has {shown(source.where)}. Mend where, or drop it.")
    return Table(tuple(parts), reader.rows, tuple(reader.warnings(parts)), columns.label or "label")


def _opened(source: Source, file: int, name: str, root: Path, wanted: Sequence[str]) -> AbstractContextManager[Records]:
    if source.hub is not None:
        return hub.opened(name, source.hub, source.config, source.split, root, wanted)
    return formats.opened(name, root / source.files[file], wanted)


class _Reader:
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
        wanted = list(self._where.values())
        before = self._records
        for line, values in records.rows:
            self._records += 1
            if self._records > MOST_ROWS:
                raise ValueError(f"{name}: more than {MOST_ROWS:,} rows. Keep fewer.")
            at = partial(cells.place, name, records.unit, line)
            if wanted:
                found = _made(make[end:], values[end:], self.wanted[end:], at)
                if not all(map(cells.same, found, wanted)):
                    continue
            self.chosen += 1
            made = _made(make[:end], values, self.wanted, at)
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

    def warnings(self, parts: Sequence[Part]) -> Iterator[str]:
        """Gives one line for each reason to drop rows, and one for repeated ids.

        Raises:
            ValueError: If no row is left.
        """
        drops = [
            (parts[file].name, f"dropped {count(len(lines), 'row')} {why} (first: {parts[file].unit} {lines[0]})")
            for (file, why), lines in self._dropped.items()
        ]
        if not self.rows:
            name = _names(parts)
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
    """What each of ``make`` makes of its value; an error says where the value stands."""
    made: list[Any] = []
    try:
        for each, value in zip(make, values, strict=False):
            made.append(each(value))
    except ValueError as error:
        raise ValueError(f"{at(columns[len(made)])}: {error}") from None
    return made


def _names(parts: Sequence[Part]) -> str:
    return few([part.name for part in parts], most=3)


def _generated(task: str, split: str, texts: int, labelled: bool) -> Table:
    name = f"generated {task} [{split}]"
    made = demo.examples(task, split)
    rows = [Row(i, e.id, e.texts, cells.as_label(e.label) if labelled else None) for i, e in enumerate(made, 1)]
    if len(made[0].texts) != texts:
        raise ValueError(
            f"{name}: the task reads {count(texts, 'text')}, but the rows hold {len(made[0].texts)}. "
            "Change the task's inputs, or name another generated task."
        )
    return Table((Part(name, _digest(rows), "row"),), rows)


def _digest(rows: Sequence[Row]) -> str:
    content = json.dumps([(row.id, row.texts, row.label) for row in rows], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()
