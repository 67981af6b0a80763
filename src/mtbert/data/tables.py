"""Tables: a table holds the rows that a task reads from a source. It stores them in columns."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from mtbert.answers import AnswerType
from mtbert.columns import CodedColumn, Ints, NumberColumn, TextColumn
from mtbert.data import cells
from mtbert.messages import few, shown
from mtbert.settings import Settings


class Columns(Settings):
    """The names of the columns that hold the texts, the label and the id of each row.

    In a recipe: ``columns: {text: [sentence1, sentence2], label: similarity, id: id}``.
    """

    text: tuple[str, ...] = Field(
        default=("text",), description="one or two columns; for rankings the query, the right candidate, and wrong ones"
    )
    label: str | tuple[str, ...] | None = Field(
        default="label",
        description="one column; rankings have none; for sets also a list of columns that hold 0 or 1, named as labels",
    )
    id: str | None = Field(default=None, description="null: rows are numbered from 1")
    separator: str | None = Field(
        default=None,
        min_length=1,
        max_length=10,
        description="between the labels of a set that is written in one cell; null: ; for sets",
    )

    words: bool = Field(default=False, description="set by the task's type: whether a label has a tag for each word")

    @field_validator("text", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not self.text or len(set(self.text)) != len(self.text):
            raise ValueError(
                f"text must name one column or several different ones, found {few(self.text, most=4, quoted=True)}."
            )
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"label must name different columns, found {few(self.labels, quoted=True)}.")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the label columns."""
        return () if self.label is None else (self.label,) if isinstance(self.label, str) else self.label

    def read_by(self, answer: AnswerType) -> Self:
        """Returns the columns that a task with this answer type reads, with the defaults of the type.

        Raises:
            ValueError: If the type does not have such columns.
        """
        if answer.candidates:
            if len(self.text) < 3:
                raise ValueError(
                    "text must name the columns of a query, of its right candidate, and of a wrong one or more, found "
                    f"{few(self.text, quoted=True)}. Add a column, or use type: binary for pairs."
                )
            if self.label and "label" in self.model_fields_set:
                raise ValueError(
                    f"label: {shown(self.label)} is not for type '{answer.name}', where the first candidate is right. "
                    "Drop it."
                )
            return self.model_copy(update={"label": ()})
        if self.label == ():
            raise ValueError("label names no column. Name one.")
        if answer.sets:
            return self.model_copy(update={"separator": self.separator or ";"})
        for key, of_sets in (("label", isinstance(self.label, tuple)), ("separator", self.separator is not None)):
            if of_sets:
                found = shown(getattr(self, key))
                raise ValueError(f"{key}: {found} is for sets of labels, found type '{answer.name}'. Drop it.")
        return self.model_copy(update={"words": answer.words})

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
        """Returns the label of a row, or None if it is missing.

        ``made`` holds what :meth:`as_label` returns for each label column. If there are several label columns, the
        label of the row is a JSON object from the name of each column to 0 or 1, without the missing labels. If there
        are no label columns (an empty tuple), the label is the number of texts in the row.
        """
        if not isinstance(self.label, tuple):
            return made[0]
        if not self.label:
            return str(len(self.text))
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
    """A file or data set that a table was read from. ``unit`` is the word that messages put before a row's number."""

    name: str
    digest: str  # the SHA-256 of the file's bytes, or else of the rows
    unit: str = "line"


@dataclass(frozen=True, eq=False)
class Table:
    """The rows that a task reads from a source, stored in columns.

    Attributes:
        parts: The files that the rows come from, or the data set.
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

    @property
    def rows(self) -> list[Row]:
        """The rows as :class:`Row` objects. Use this only for small tables."""
        return [self.row(i) for i in range(len(self))]

    def row(self, row: int) -> Row:
        texts = tuple(column[row] for column in self.texts)
        return Row(int(self.lines[row]), self.ids[row], texts, self.labels[row], self._file(row))

    def _file(self, row: int) -> int:
        return bisect_right(self.ends, row)


def names(parts: Sequence[TableFile]) -> str:
    return few([part.name for part in parts], most=3)
