"""Reading tables in which commas, semicolons or tabs separate the columns and the first line names the columns."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain

from mtbert.data import tabs
from mtbert.data.cells import LONGEST_TEXT
from mtbert.data.plain import Text
from mtbert.data.records import Record
from mtbert.messages import count


def separated_records(
    name: str, suffix: str, text: Text, wanted: Sequence[str], every: bool
) -> tuple[int, Sequence[str], Iterator[Record]]:
    """Returns three values: the line number of the header, the names of all columns, and an iterator over the rows.

    A row holds the values of the ``wanted`` columns, or of all columns if ``every`` is true.

    Raises:
        ValueError: If there is no header. The iterator also raises it if a row is damaged.
    """
    csv.field_size_limit(LONGEST_TEXT)  # applies to the whole csv module, whose own limit is too low for long texts
    lines = iter(text)
    blank = 0
    for top in lines:
        if top.strip():
            break
        blank += 1
    else:
        raise ValueError(f"{name}: the file is empty. Give a header line and rows.")
    sign = _separator(top, wanted)
    fields = _fields(name, suffix, sign, chain([top], lines), blank)
    header_line, header = next(fields)
    columns = [field.strip() for field in header]
    return header_line, columns, _whole(name, sign, columns, fields, columns if every else wanted)


def _separator(top: str, wanted: Sequence[str]) -> str:
    """Returns the character that separates the columns: a tab, a comma or a semicolon.

    The header is split at each of them in turn. The character that finds the most columns of ``wanted`` is returned.
    """

    def found(sign: str) -> int:
        with suppress(csv.Error):  # the error is raised when the row is read again
            header = [field.strip() for field in next(csv.reader([top], delimiter=sign), [])]
            return sum(column in header for column in wanted)
        return 0

    return max((sign for sign in "\t,;" if sign in top), key=found, default="\t")


def _fields(name: str, suffix: str, sign: str, lines: Iterator[str], blank: int) -> Iterator[tuple[int, list[str]]]:
    """Yields a pair per row: the number of its first line, and its fields. A blank line is a row with no fields."""
    first = next(lines)
    line = blank + 1
    try:
        if sign == "\t" and ("\t" in first or suffix != ".csv"):
            yield from ((blank + number, fields) for number, fields in tabs.rows(chain([first], lines)))
            return
        reader = csv.reader(chain([first], lines), delimiter=sign, strict=True)
        for fields in reader:
            yield line, fields
            line = blank + reader.line_num + 1
    except tabs.BareReturn as error:
        raise _bare_return(name, blank + error.line) from None
    except csv.Error as error:
        if "new-line character" in str(error):
            raise _bare_return(name, line) from None
        if "field limit" in str(error):
            what = f"a field of more than {LONGEST_TEXT:,} characters"
        else:
            what = str(error).replace("\t", "\\t")
        raise ValueError(
            f'{name}, line {line}: not a row of CSV ({what}). Close every quote, and write a quote inside one as "".'
        ) from None


def _bare_return(name: str, line: int) -> ValueError:
    return ValueError(
        f"{name}, line {line}: a carriage return (\\r) stands inside the row and ends no line. Quote the text that "
        "holds it, or replace it by a space."
    )


def _whole(
    name: str, sign: str, columns: Sequence[str], fields: Iterator[tuple[int, list[str]]], wanted: Sequence[str]
) -> Iterator[Record]:
    """Yields a pair for each row: the number of its first line, and its values in the ``wanted`` columns.

    Raises:
        ValueError: If a row has more or fewer fields than the header.
    """
    at = [columns.index(column) if column in columns else None for column in wanted]
    blanks: list[Record] = []  # blank lines of a one-column file, which are empty texts if another row follows
    for line, row in fields:
        if len(row) == len(columns):
            if blanks:
                yield from blanks
                blanks.clear()
            yield line, [None if i is None else row[i] for i in at]
        elif not row:
            # A blank line is ignored, but in a file with one column it is an empty text.
            if len(columns) == 1:
                blanks.append((line, [None if i is None else "" for i in at]))
        else:
            word = {"\t": "tab", ",": "comma", ";": "semicolon"}[sign]
            raise ValueError(
                f"{name}, line {line}: {count(len(row), 'field')}, but the header has {len(columns)}. "
                f"Quote a text that holds a {word}, or fix the row."
            )
