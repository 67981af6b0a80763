"""Facts about the columns of a file, from which an answer type judges whether they can hold labels of that type.

``mtbert init`` looks at a file that no recipe describes yet. For each answer type, ``mtbert init`` finds out how well
the type suits the columns of the file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mtbert.messages import LONGEST, count, shown
from mtbert.numbers import number

MOST_KINDS = 200  # more different values are no classes
ROWS_OF_A_CLASS = 2  # fewer rows per value, on average, are no classes
WORDS_OF_A_CLASS = 5  # values with more words, on average, are texts
CLOSE = 0.41  # a type whose degree is less than this below the best one is worth a question to the user

_ANY_LABEL = re.compile(
    r"(gold[\W_]*)?(labels?|class|target|category|gold|y)([\W_]*(ids?|idx|index|codes?))?", re.IGNORECASE
)
_LABELS = {"label", "labels", "class", "target", "category", "gold"}
_CODES = {"id", "ids", "idx", "index", "code", "codes"}


@dataclass(frozen=True)
class SeenColumn:
    """The cells of a column, in the rows that were read.

    An empty cell is None. A text or a number is a str without spaces at its ends. A list is a list. Any other value,
    such as a dict, is kept unchanged.
    """

    name: str
    cells: Sequence[object]

    @cached_property
    def filled(self) -> Sequence[object]:
        """The cells that are not empty."""
        return [cell for cell in self.cells if cell is not None]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each str occurs in the cells. If any cell holds something else, the counter is empty.

        Empty cells are ignored.
        """
        texts = [cell for cell in self.filled if isinstance(cell, str)]
        return Counter(texts) if len(texts) == len(self.filled) else Counter()

    @cached_property
    def lists(self) -> Sequence[list[object]]:
        """The cells that are not empty, if each of them is a list; otherwise an empty list."""
        found = [cell for cell in self.filled if isinstance(cell, list)]
        return found if len(found) == len(self.filled) else []

    @cached_property
    def items(self) -> Counter[str]:
        """How often each item occurs, if all cells are lists of texts or numbers; otherwise empty.

        Empty cells are ignored.
        """
        found = [item for cell in self.lists for item in cell]
        plain = all(isinstance(item, str | int | float) for item in found)
        return Counter(map(str, found)) if plain else Counter()

    @cached_property
    def words(self) -> Sequence[int]:
        """The number of words in each cell: the items of a list, or the parts of a text that spaces separate."""
        return [len(c) if isinstance(c, list) else len(c.split()) if isinstance(c, str) else 0 for c in self.cells]

    @cached_property
    def mean_words(self) -> float:
        """The mean number of words of the cells that are not empty; 0 if all are empty."""
        return sum(self.words) / max(len(self.filled), 1)

    @cached_property
    def numbers(self) -> Sequence[float]:
        """The distinct numbers in the cells, in ascending order. The list is empty if any cell is not a number."""
        found = [number(text) for text in self.counts]
        known = sorted({x for x in found if x is not None})
        return known if None not in found else []

    @cached_property
    def whole(self) -> bool:
        """Whether all cells are whole numbers."""
        return bool(self.numbers) and all(x.is_integer() for x in self.numbers)

    @cached_property
    def dense(self) -> bool:
        """Whether all cells are whole numbers of a short scale such as 1 to 5, with few gaps."""
        numbers = self.numbers
        return self.whole and 3 <= len(numbers) <= 11 and numbers[-1] - numbers[0] < 2 * len(numbers)

    @cached_property
    def codes(self) -> bool:
        """Whether the cells are most likely class indices.

        Either the name of the column says so, as ``class_index`` does. Or the distinct values are whole numbers from 0
        with few gaps, such as 0, 1, 2 and 4, and the column has a name that is usual for labels.
        """
        if not self.whole or len(self.numbers) < 3 or not self.classes:
            return False
        counts_from_0 = self.numbers[0] == 0 and self.numbers[-1] < 2 * len(self.numbers)
        labels = self.named_any_label or not _LABELS.isdisjoint(self.name_words)
        return not _CODES.isdisjoint(self.name_words) or (counts_from_0 and labels)

    @cached_property
    def classes(self) -> Sequence[str]:
        """The different values, if they are few and short enough to be classes; otherwise an empty list."""
        few_rows = len(self.filled) < ROWS_OF_A_CLASS * len(self.counts)
        if few_rows or not 2 <= len(self.counts) <= MOST_KINDS or self.mean_words > WORDS_OF_A_CLASS:
            return []
        return sorted(self.counts) if max(map(len, self.counts)) <= LONGEST else []

    @cached_property
    def name_words(self) -> Sequence[str]:
        """The words of the column's name, in lower case.

        >>> SeenColumn("questionType_2", []).name_words
        ['question', 'type']
        """
        return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name).lower())

    @property
    def named_any_label(self) -> bool:
        """Whether the column has a general name such as ``label``, which does not say what kind of labels it holds."""
        return bool(_ANY_LABEL.fullmatch(self.name.strip()))

    def told(self) -> str:
        """Returns the different values in short form: ``5 whole numbers, 1 to 5``, or ``2 values, 'no' and 'yes'``.

        >>> SeenColumn("stars", ["1", "5", "2", "5"]).told()
        '3 whole numbers, 1 to 5'
        """
        if len(self.numbers) > 2:
            kind = "whole number" if self.whole else "number"
            return f"{count(len(self.numbers), kind)}, {self.numbers[0]:g} to {self.numbers[-1]:g}"
        *first, last = [shown(value, 30) for value in sorted(self.counts)[:3]]
        more = ", ..." if len(self.counts) > 3 else ""
        joined = f", {last}" if more else f" and {last}"
        return f"{count(len(self.counts), 'value')}, {', '.join(first)}{joined}{more}"


@dataclass(frozen=True)
class Suits:
    """How well an answer type suits some columns, and what a recipe then says about them.

    Attributes:
        degree: How well, from 0 to 1. The type with the highest degree is guessed. If the user is asked for the
            type, the choices are all types whose degree differs from the highest degree by less than ``CLOSE``.
        because: What the columns hold, such as ``5 whole numbers, 1 to 5``.
        when: The condition under which this type is right, though another suits better: ``if they have an order``.
        settings: Settings of the task that this type needs here, such as ``labels``.
        notes: A comment for each of these settings, by its key.
    """

    degree: float
    because: str
    when: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> Mapping[str, Any]:
        """The setting ``columns`` that the task needs; empty if it needs none."""
        found: Mapping[str, Any] = self.settings.get("columns", {})
        return found
