"""The rows that one task reads, stored column by column, and the settings that say which columns the task reads."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from mtbert.answers import AnswerType
from mtbert.cell_columns import CellColumn
from mtbert.columns import Ints, NumberColumn, TextColumn
from mtbert.data import cells
from mtbert.data.cell_groups import SHARE, WEIGHT, ZERO_ONE, CellGroup, NumberForm
from mtbert.messages import few
from mtbert.number_cells import NumberCells
from mtbert.settings import Dropped, Settings


class Columns(Settings):
    """The names of the columns that hold the texts, the label, the id and the weight of each row.

    In a recipe: ``columns: {text: [sentence1, sentence2], label: similarity, id: id}``. In place of ``label``, a task
    with soft labels has ``votes`` or ``shares``.
    """

    text: tuple[str, ...] = Field(
        default=("text",), description="one or two columns; for rankings the query, the right candidate, and wrong ones"
    )
    label: str | tuple[str, ...] | None = Field(
        default="label",
        description="one column; rankings have none; for sets also a list of columns that hold 0 or 1, named as labels",
    )
    votes: str | tuple[str, ...] | None = Field(
        default=None,
        description="in place of label, the labels of several annotators: a column of lists, or a list of columns, one "
        "for each annotator",
    )
    shares: str | tuple[str, ...] | None = Field(
        default=None,
        description="in place of label, a distribution: a column of lists in the order of labels, or a list of columns "
        "that are named as the labels; for yes/no also a column with the share of yes",
    )
    weight: str | None = Field(default=None, description="how much each train row counts in the losses; null: the same")
    id: str | None = Field(default=None, description="null: rows are numbered from 1")
    separator: str | None = Field(
        default=None,
        min_length=1,
        max_length=10,
        description="between the labels of a set, or the votes, that are written in one cell; null: ;",
    )
    # Set by the type of the task: whether words have labels, and advice about a cell with several labels.
    _words: bool = PrivateAttr(default=False)
    _of_lists: str = PrivateAttr(default="")

    dropped: ClassVar = {"words": Dropped(ignored=(False,), instead="It follows from the task's type. Drop it.")}

    @model_validator(mode="before")
    @classmethod
    def _one_truth(cls, value: Any) -> Any:
        """Replaces the default of ``label`` by None if ``votes`` or ``shares`` is given.

        Raises a ValueError if more than one of the three is given.
        """
        if not isinstance(value, Mapping):
            return value
        given = [key for key in ("label", "votes", "shares") if value.get(key) is not None]
        if len(given) > 1:
            raise ValueError(f"{few(given)} are different ways to give a label, found {len(given)}. Keep one of them.")
        return {**value, "label": None} if given and given != ["label"] else value

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
        if not self.labels and self.label_key != "label":
            raise ValueError(f"{self.label_key} names no column. Name one.")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"{self.label_key} must name different columns, found {few(self.labels, quoted=True)}.")
        return self

    @property
    def words(self) -> bool:
        """Whether the labels are tags of words. This follows from the task's type, see :meth:`read_by`."""
        return self._words

    @property
    def label_key(self) -> Literal["label", "votes", "shares"]:
        """The setting that gives the names of the label columns: ``label``, ``votes`` or ``shares``."""
        return "votes" if self.votes is not None else "shares" if self.shares is not None else "label"

    @property
    def truth(self) -> str | tuple[str, ...] | None:
        """The name of the label column or, if the recipe gives a list, the names of the label columns."""
        return self.votes or self.shares or self.label

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the label columns."""
        return () if self.truth is None else (self.truth,) if isinstance(self.truth, str) else self.truth

    @property
    def lists(self) -> bool:
        """Whether a cell of a label column may hold a list."""
        return isinstance(self.truth, str) and (self.label_key != "label" or self.separator is not None)

    @property
    def reads(self) -> tuple[object, ...]:
        """Everything that determines which cells are read and how, as JSON values."""
        return self.text, self.id, [(each.key, each.names, each.form, each.words_of) for each in self.groups]

    @property
    def groups(self) -> tuple[CellGroup, ...]:
        """The groups of columns that are read together: the label columns, and the weight column if there is one."""
        # Without label columns, the label is the number of texts.
        form = (isinstance(self.truth, tuple), self.separator) if self.labels else len(self.text)
        words_of = self.text[0] if self.words else None
        label = CellGroup(self.label_key, self.labels, form, words_of, self.as_label, self.row_label, self._number_form)
        if self.weight is None:
            return (label,)
        return label, CellGroup("weight", (self.weight,), None, None, WEIGHT.text, lambda made: made[0], WEIGHT)

    @property
    def unweighted(self) -> Self:
        """A copy of these settings without the column of weights, which only training reads."""
        return self.model_copy(update={"weight": None})

    def read_by(self, answer: AnswerType) -> Self:
        """Returns a copy of these column settings for a task with the answer type ``answer``.

        In the copy, the defaults of this type are filled in.

        Raises:
            ValueError: If a task of this type cannot have these columns.
        """
        made = self.model_copy(update=answer.labels.columns(answer.name, self))
        made._words, made._of_lists = answer.labels.per == "word", answer.labels.of_lists
        return made

    @property
    def _number_form(self) -> NumberForm | None:
        """The :class:`NumberForm` by which the label columns are read; None if their cells are read as text."""
        if not self.truth or isinstance(self.truth, str) or self.votes is not None:
            return None
        return ZERO_ONE if self.shares is None else SHARE

    def as_label(self, value: object) -> str | None:
        """Returns a cell of a label column as text, or None if the label is missing.

        The form of the text depends on the column settings:

        - with ``label``, one column: a label, or for sets of labels a JSON list of labels,
        - with ``label``, several columns: 1 if the set contains the label that gives the column its name, otherwise 0,
        - with ``votes``, one column: a JSON list of labels,
        - with ``votes``, several columns: the label that one annotator gave,
        - with ``shares``, one column: a JSON list of numbers, or one number,
        - with ``shares``, several columns: one number.

        Raises:
            ValueError: If the cell cannot be converted.
        """
        if self._number_form is not None:
            return self._number_form.text(value)
        if self.votes is not None:
            several = isinstance(self.truth, tuple)
            return cells.as_label(value, "vote") if several else cells.as_votes(value, self.separator or ";")
        if self.shares is not None:
            return cells.as_shares(value)
        if self.separator is None:
            return cells.as_label(value, of_lists=self._of_lists)
        return cells.as_labels(value, self.separator)

    def row_label(self, made: Sequence[str | None]) -> str | None:
        """Returns the label of a row, or None if the row has no label.

        ``made`` holds the row's cell in each label column, as text. An empty cell is None. If there are several label
        columns, the form of the label depends on the column settings:

        - with ``votes``: a JSON list,
        - with ``shares``: a JSON object that maps each column to its number, or to null if the cell is empty,
        - with ``label``: a JSON object that maps each column whose cell is not empty to its number.

        A ranking has no label columns. The label of its rows is the number of texts in the row.
        """
        if not isinstance(self.truth, tuple):
            return made[0]
        if not self.truth:
            return str(len(self.text))
        if all(cell is None for cell in made):
            return None
        if self.votes is not None:
            return cells.as_votes(made, ";")
        found = {column: cell and json.loads(cell) for column, cell in zip(self.truth, made, strict=True)}
        known = {column: number for column, number in found.items() if number is not None or self.shares is not None}
        return json.dumps(known, ensure_ascii=False)


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
    """A file or data set from which a table was read. ``unit`` is the word that messages put before a row's number."""

    name: str
    digest: str  # the SHA-256 of the file's bytes, or else of the rows
    unit: str = "line"


@dataclass(frozen=True, eq=False)
class Table:
    """The rows that a task reads from a source, stored in columns.

    Attributes:
        parts: The files, or the data set, that the rows come from.
        ids: The id of each row.
        texts: One column for each text of a row.
        labels: The label of each row, as text.
        lines: For each row, the number by which messages name the row, such as 812 in ``line 812``.
        ends: For each file, the number of rows in this file and all files before it.
        warnings: The warnings from reading.
        column: The name of the label column, for messages.
        weights: The weight of each row; None if the task has no weights.
        weight_column: The name of the column of weights, for messages.
    """

    parts: tuple[TableFile, ...]
    ids: TextColumn | NumberColumn
    texts: tuple[TextColumn, ...]
    labels: CellColumn
    lines: Ints
    ends: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    column: str = "label"
    weights: NumberCells | None = None
    weight_column: str = "weight"

    @property
    def name(self) -> str:
        """The names of the files that the table was read from, as one text for messages."""
        return names(self.parts)

    def __len__(self) -> int:
        return len(self.lines)

    def at(self, row: int, column: str | None = None) -> str:
        """Returns a text that tells the user where a row's label is: ``sts.csv, line 812, column 'similarity'``.

        If ``column`` is given, the text tells where the row's cell in that column is.
        """
        part = self.parts[self._file(row)]
        return cells.place(part.name, part.unit, int(self.lines[row]), column or self.column)

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
