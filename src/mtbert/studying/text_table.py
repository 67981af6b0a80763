"""A table of text that can be printed on a terminal and written as Markdown, CSV and LaTeX."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd
from rich import table

EMPTY = ""  # a cell without a value


class NumberCell(str):
    """The text of a cell that shows numbers. A CSV file has each of the numbers in a column of its own.

    Attributes:
        numbers: The numbers as texts, such as ``{"": "0.91", "sd": "0.02"}``. In a table's column ``f1``, the number
            with the key ``""`` goes to the CSV column ``f1``, and the number with the key ``"sd"`` goes to ``f1 sd``.
    """

    numbers: Mapping[str, str]

    def __new__(cls, text: str, numbers: Mapping[str, str]) -> Self:
        """Returns a cell that shows ``text``."""
        made = super().__new__(cls, text)
        made.numbers = numbers
        return made


def counted(number: int) -> NumberCell:
    """Returns a cell with a whole number, such as ``1,200``; a CSV file has ``1200``."""
    return NumberCell(f"{number:,}", {"": str(number)})


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are text. The text of a cell is the same on a terminal, in Markdown and in LaTeX."""

    name: str  # the name of its files
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def printed(self) -> table.Table:
        """Returns the table as a ``rich`` table, which a terminal can show."""
        printed = table.Table(title=self.title, caption="\n".join(self.notes) or None, caption_justify="left")
        for i, column in enumerate(self.columns):
            # On a narrow terminal a number is folded, not cut.
            printed.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for row in self.rows:
            printed.add_row(*row)
        return printed

    def write(self, folder: Path) -> None:
        """Writes the table into ``folder``, as ``NAME.md``, ``NAME.csv`` and ``NAME.tex``."""
        frame = pd.DataFrame(list(self.rows), columns=list(self.columns), dtype=str)
        notes = "".join(f"\n{note}\n" for note in self.notes)
        # A number stays as it is written: 0.4500 does not become 0.45.
        markdown = frame.to_markdown(index=False, disable_numparse=True)
        latex = frame.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
        caption = " ".join((f"{self.title}.", *self.notes))
        written = {
            "md": f"**{self.title}**\n\n{markdown}\n{notes}",
            "csv": self._split().to_csv(index=False, lineterminator="\n"),
            "tex": latex.to_latex(hrules=True, caption=_latex(caption), label=f"tab:{self.name}"),
        }
        for ending, text in written.items():
            (folder / f"{self.name}.{ending}").write_text(text, encoding="utf-8")

    def _split(self) -> pd.DataFrame:
        """Returns the table as a data frame in which each number has a cell of its own.

        If the cells of a column show several numbers, the column is split. For example, a column ``accuracy`` with
        means and standard deviations becomes the columns ``accuracy`` and ``accuracy sd``. All other columns stay
        whole.
        """
        frame: dict[str, list[str]] = {}
        for i, column in enumerate(self.columns):
            cells = [row[i] for row in self.rows]
            split = [cell.numbers if isinstance(cell, NumberCell) else {"": cell} for cell in cells]
            for end in dict.fromkeys(end for numbers in split for end in numbers):
                frame[f"{column} {end}".strip()] = [numbers.get(end, EMPTY) for numbers in split]
        return pd.DataFrame(frame, dtype=str)


def if_seeds(by_row: Mapping[str, Sized], words: str, otherwise: str = "") -> str:
    """Returns ``words`` if any recipe has runs with several seeds. If no recipe has, returns ``otherwise``."""
    return words if any(len(runs) > 1 for runs in by_row.values()) else otherwise


def _latex(text: str) -> str:
    return "".join({"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$"}.get(c, c) for c in text)
