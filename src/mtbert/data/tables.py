"""Tables, which hold the rows of a source in columns, and the names of the columns that a task reads."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mtbert.columns import CodedColumn, Ints, NumberColumn, TextColumn
from mtbert.data import cache, cells
from mtbert.data.cache import Kept, Spool
from mtbert.messages import few
from mtbert.settings import Settings


class Columns(Settings):
    """The names of the columns that hold the texts, the label and the id of each row.

    In a recipe: ``columns: {text: [sentence1, sentence2], label: similarity, id: id}``.
    """

    text: tuple[str, ...] = Field(default=("text",), description="one or two column names")
    label: str | tuple[str, ...] | None = Field(
        default="label", description="one column; for sets also a list of columns that hold 0 or 1, named as the labels"
    )
    id: str | None = Field(default=None, description="null: rows are numbered from 1")
    separator: str | None = Field(
        default=None,
        min_length=1,
        max_length=10,
        description="between the labels of a set that is written in one cell; null: ; for sets",
    )

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
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"label must name different columns, found {few(self.labels, quoted=True)}.")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the label columns."""
        return () if self.label is None else (self.label,) if isinstance(self.label, str) else self.label

    def as_label(self, value: object) -> str | None:
        """Returns a cell of a label column as text, or None if the label is missing.

        If each label has a column of its own, the text is 0 or 1. If a cell holds a set of labels, the text is a JSON
        list.

        Raises:
            ValueError: If the cell cannot be converted.
        """
        if isinstance(self.label, tuple):
            return cells.as_yes_no(value)
        return cells.as_label(value) if self.separator is None else cells.as_labels(value, self.separator)

    def row_label(self, made: Sequence[str | None]) -> str | None:
        """Returns the label of a row. ``made`` contains the results of :meth:`as_label` for its label columns.

        If each label has a column of its own, the label of the row is a JSON object that leaves out missing labels.
        """
        if not isinstance(self.label, tuple):
            return made[0]
        known = {column: int(cell) for column, cell in zip(self.label, made, strict=True) if cell is not None}
        return json.dumps(known, ensure_ascii=False) if known else None


@dataclass(frozen=True)
class Row:
    """A row of a table, with id, texts and label as strings without leading or trailing space.

    ``line`` is the number of the row's first line in its file, or the number of the row in its data set, counted from
    1. ``file`` is the index of the file among the files of the table.
    """

    line: int
    id: str
    texts: tuple[str, ...]
    label: str | None
    file: int = 0


@dataclass(frozen=True)
class TableFile:
    """A file or data set that a table was read from. ``unit`` is the word before the number of a row in messages."""

    name: str
    digest: str  # the SHA-256 of the file's bytes, or else of the rows
    unit: str = "line"


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of a source in columns, and the files or the data set that they come from.

    Attributes:
        parts: The files, or the data set.
        ids: The id of each row.
        texts: One column for each text of a row.
        labels: The label of each row, as text.
        lines: For each row, the number of its first line in its file, or its row number, counted from 1.
        ends: For each file, the number of rows in this file and all files before it.
        warnings: The warnings from reading.
        column: The name of the label column, for messages.
    """

    parts: tuple[TableFile, ...]
    ids: TextColumn | NumberColumn
    texts: tuple[TextColumn, ...]
    labels: CodedColumn
    lines: Ints
    ends: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    column: str = "label"

    @property
    def name(self) -> str:
        """The names of the files, for messages."""
        return names(self.parts)

    def __len__(self) -> int:
        return len(self.lines)

    def at(self, row: int) -> str:
        """Returns the place of a row's label for messages, such as ``sts.csv, line 812, column 'similarity'``."""
        part = self.parts[self._file(row)]
        return cells.place(part.name, part.unit, int(self.lines[row]), self.column)

    def places(self) -> Ints:
        """Returns a number for each row that identifies its file and line."""
        return np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0)) * 2**40 + self.lines

    @property
    def rows(self) -> list[Row]:
        """The rows as objects, for small tables."""
        return [self.row(i) for i in range(len(self))]

    def row(self, row: int) -> Row:
        texts = tuple(column[row] for column in self.texts)
        return Row(int(self.lines[row]), self.ids[row], texts, self.labels[row], self._file(row))

    def _file(self, row: int) -> int:
        return bisect_right(self.ends, row)

    def keep(self, spool: Spool) -> None:
        """Writes the table into a spool of the cache. Ids and lines that are just consecutive numbers are left out."""
        numbers = self.ids.numbers if isinstance(self.ids, NumberColumn) else None
        counted = numbers is not None and np.array_equal(numbers, np.arange(1, len(self) + 1))
        spool.notes |= {
            "parts": [[part.name, part.digest, part.unit] for part in self.parts],
            "texts": len(self.texts),
            "ids": "texts" if numbers is None else "rows" if counted else "numbers",
            "ends": self.ends,
            "warnings": self.warnings,
            "column": self.column,
            "lines": None,
        }
        if np.all(np.diff(self.lines) == 1):
            spool.notes["lines"] = int(self.lines[0])
        else:
            spool.add("lines", self.lines)
        if isinstance(self.ids, TextColumn):
            _keep(spool, "ids", self.ids)
        elif not counted:
            spool.add("ids", self.ids.numbers)
        for i, column in enumerate(self.texts):
            _keep(spool, f"text {i}", column)
        _keep(spool, "labels", TextColumn.of(self.labels.values))
        spool.add("codes", self.labels.codes)

    @classmethod
    def loaded(cls, kept: Kept) -> Self:
        """Returns the table that :meth:`keep` wrote.

        Raises:
            ValueError: If ``kept`` does not contain a valid table.
        """
        notes = _Notes.model_validate(kept.notes)
        codes = kept.array("codes", "<i4")
        rows, values = len(codes), list(_loaded(kept, "labels"))
        cache.check_within(codes, -1, len(values))
        cache.check_offsets(np.array([0, *notes.ends]), rows)
        ids: TextColumn | NumberColumn
        if notes.ids == "texts":
            ids = _loaded(kept, "ids", rows)
        else:
            ids = NumberColumn(
                kept.array("ids", "<i8", size=rows) if notes.ids == "numbers" else np.arange(1, rows + 1)
            )
        first = notes.lines
        return cls(
            parts=tuple(TableFile(*part) for part in notes.parts),
            ids=ids,
            texts=tuple(_loaded(kept, f"text {i}", rows) for i in range(notes.texts)),
            labels=CodedColumn(values, codes),
            lines=kept.array("lines", "<i8", size=rows) if first is None else np.arange(first, first + rows),
            ends=tuple(notes.ends),
            warnings=tuple(notes.warnings),
            column=notes.column,
        )


class _Notes(BaseModel):
    """The notes that :meth:`Table.keep` writes beside the arrays of a table."""

    model_config = ConfigDict(strict=True)

    parts: list[Annotated[list[str], Field(min_length=3, max_length=3)]]
    texts: Literal[1, 2]
    ids: Literal["texts", "rows", "numbers"]
    ends: list[int]
    warnings: list[str]
    column: str
    lines: Annotated[int, Field(ge=0, lt=2**40)] | None


def _keep(spool: Spool, name: str, column: TextColumn) -> None:
    spool.add(name, column.block)
    spool.add(f"{name} offsets", column.starts)
    spool.add(f"{name} offsets", column.stops[-1:])


def _loaded(kept: Kept, name: str, rows: int | None = None) -> TextColumn:
    block = kept.array(name, "|u1")
    offsets = kept.array(f"{name} offsets", "<i8", size=None if rows is None else rows + 1)
    cache.check_offsets(offsets, len(block))
    return TextColumn.stored(block, offsets, kept.digests[name])


def names(parts: Sequence[TableFile]) -> str:
    return few([part.name for part in parts], most=3)
