"""Groups of columns whose cells are read together, as the label or the weight of a row."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mtbert.cell_columns import GrowingCells
from mtbert.data import cells
from mtbert.number_cells import GrowingNumbers, NumberType


@dataclass(frozen=True)
class NumberForm:
    """How the cells of a column are read as numbers, and how numbers are written as JSON text.

    Attributes:
        read: A function that returns the number in a cell; ``nan`` if the cell is empty.
        write: A function that writes a number.
        dtype: A type that holds these numbers exactly, and also ``nan``.
    """

    read: Callable[[object], float]
    write: Callable[[float], str] = json.dumps
    dtype: NumberType = "<f8"

    def text(self, value: object) -> str | None:
        """Returns the number in a cell as JSON text, or None if the cell is empty.

        Raises:
            ValueError: If the cell holds anything but a valid number.
        """
        return self.written(self.read(value))

    def written(self, number: float) -> str | None:
        """Returns ``number`` as JSON text, or None if it is ``nan``."""
        return None if math.isnan(number) else self.write(number)


SHARE, WEIGHT = NumberForm(cells.as_share), NumberForm(cells.as_weight)
ZERO_ONE = NumberForm(cells.as_yes_no, "{:.0f}".format, "<f2")


@dataclass(frozen=True)
class CellGroup:
    """One or more columns that together give the label or the weight of each row.

    The cells of a row are converted and joined to one string. Two equal groups make the same string from the same row.

    Attributes:
        key: The field of :class:`Columns` that names the columns.
        names: The names of the columns.
        form: Anything else that affects the string, such as the separator between labels in a cell.
        words_of: The column of texts whose words are tagged, if the cells hold tags; otherwise None.
        convert: A function that converts a cell to a string. It returns None for an empty cell.
        join: A function that makes one string from the converted cells of a row. It returns None if the row has no
            label or weight.
        numbers: How cells are read and stored as numbers, if every cell of the group holds a number; otherwise None.
    """

    key: Literal["label", "votes", "shares", "weight"]
    names: tuple[str, ...]
    form: object
    words_of: str | None
    convert: Callable[[object], str | None] = field(compare=False)
    join: Callable[[Sequence[str | None]], str | None] = field(compare=False)
    numbers: NumberForm | None = field(default=None, compare=False)

    def written(self, numbers: Sequence[float]) -> str | None:
        """Returns the text that stands for ``numbers``, one number for each column of this group; None for no text.

        An empty cell is ``nan`` in ``numbers``.
        """
        assert self.numbers is not None
        return self.join(list(map(self.numbers.written, numbers)))

    def growing(self) -> GrowingCells | GrowingNumbers:
        """Returns an empty column, to be filled with this group's cells."""
        form = self.numbers
        return GrowingCells() if form is None else GrowingNumbers(self.names, self.written, form.dtype)
