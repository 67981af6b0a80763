"""One cell of a table as a text, a label or an id; whatever cannot be one is refused where it stands."""

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from mtbert.messages import clean, few, shown

LONGEST = 2**22  # characters of a text, and of a line of a file; War and Peace has three millions


def place(name: str, unit: str, number: int, column: str) -> str:
    """Returns where a cell stands, for messages: ``sts.csv, line 812, column 'similarity'``."""
    return f"{name}, {unit} {number}, column {shown(column)}"


def quoted(names: Sequence[str]) -> str:
    """Returns the first names in quotes, safe to print: ``'a', 'b' and 3 more``."""
    return few(names, quoted=True)


def as_text(value: object) -> str:
    """Returns a text without outer space; empty where there is nothing.

    Raises:
        ValueError: If it is no string, too long, or no text that could be written as UTF-8.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"the text must be a string, found {shown(value)}. Quote it, or drop the row.")
    if len(value) > LONGEST:
        raise ValueError(f"the text has {len(value):,} characters, and at most {LONGEST:,} are read. Cut it.")
    return _utf8("text", value).strip()


def as_label(value: object) -> str | None:
    """Returns a label as text; ``None`` where it is missing: nothing, or not a number."""
    if isinstance(value, list | tuple | dict | bytes):
        raise ValueError(f"the label must be one value, found {shown(value)}. Fix or drop the row.")
    text = "" if value is None else _utf8("label", str(value)).strip()
    if isinstance(value, bool):
        text = text.lower()
    return None if text == "" or (len(text) == 3 and text.lower() == "nan") else whole(text)


def as_id(value: object) -> str:
    """Returns an id as text, empty where there is none."""
    if isinstance(value, list | tuple | dict | bytes):
        raise ValueError(f"the id must be one value, found {shown(value)}. Fix or drop the row.")
    return "" if value is None else _utf8("id", str(value)).strip()


@lru_cache(maxsize=1024)  # most labels come again
def whole(text: str) -> str:
    """Returns ``1`` for ``1.0``, which is how class 1 comes out of a table that once had an empty cell."""
    return str(int(text.partition(".")[0])) if re.fullmatch(r"[+-]?[0-9]{1,15}\.0+", text) else text


def number(text: str) -> float | None:
    """Returns a finite number; ``None`` where ``text`` is not one."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) and "_" not in text else None


def same(found: str | None, wanted: str | None) -> bool:
    """Returns whether two labels are the same text, the same number, or the same truth value in any case."""
    if found is None or wanted is None or found == wanted:
        return found == wanted
    numbers = number(found), number(wanted)
    return numbers[0] == numbers[1] is not None or (wanted in ("true", "false") and found.lower() == wanted)


def readable(name: str) -> str:
    """Returns the name of a file or data set, safe to print."""
    return clean(name[:1000])


def check_name(name: str) -> None:
    """Raises ValueError unless a recipe, which is UTF-8 text, can hold the name of a file or folder.

    Raises:
        ValueError: If it cannot.
    """
    if "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        raise ValueError(f"the name must be UTF-8 text, found {shown(name)}. Rename it.")


def _utf8(what: str, text: str) -> str:
    try:
        if not text.isascii():
            text.encode("utf-8")
    except UnicodeEncodeError:  # half a character, from a \ud83d escape of JSON; a tokenizer cannot read it
        raise ValueError(f"the {what} holds half a surrogate pair. Fix or drop the row.") from None
    return text
