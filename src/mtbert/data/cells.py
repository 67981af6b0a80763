"""Conversion of a table's cells to texts, labels and ids.

If a cell cannot be converted, a ValueError gives the reason. The caller adds the place of the cell to the message.
"""

import json
import math
from ast import literal_eval
from collections.abc import Sequence

from mtbert.messages import clean, few, shown
from mtbert.numbers import number, without_point

LARGEST_WEIGHT = 1e100  # sums of weights stay finite
LONGEST_TEXT = 2**22  # characters in a text, or in a line of a file; War and Peace has three million


def place(name: str, unit: str, number: int, column: str) -> str:
    """Returns the place of a cell for messages, such as ``sts.csv, line 812, column 'similarity'``."""
    return f"{name}, {unit} {number}, column {shown(column)}"


def quoted(names: Sequence[str]) -> str:
    """Returns names in quotes for a message, such as ``'a', 'b' and 3 more``."""
    return few(names, quoted=True)


def as_text(value: object) -> str:
    """Returns the text in a cell, without leading and trailing space. None gives an empty string.

    Raises:
        ValueError: If the cell is not a string, is too long, or cannot be encoded as UTF-8.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"the text must be a string, found {shown(value)}. Quote it, or drop the row.")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"the text has {len(value):,} characters, but at most {LONGEST_TEXT:,} are read. Cut it.")
    return _utf8("text", value).strip()


def as_label(value: object, what: str = "label", of_lists: str = "") -> str | None:
    """Returns the label in a cell as a string. If the label is missing (an empty cell or nan), returns None.

    In error messages, ``what`` names the value. If the value is a list, the message ends with ``of_lists``, which
    is advice such as ``use type: multilabel``.

    Raises:
        ValueError: If the cell holds more than one value, or cannot be encoded as UTF-8.
    """
    if isinstance(value, list | tuple | dict | bytes):
        repair = f", or {of_lists}" if of_lists and isinstance(value, list | tuple) else ""
        raise ValueError(f"the {what} must be one value, found {shown(value)}. Fix or drop the row{repair}.")
    text = "" if value is None else _utf8(what, _written(what, value)).strip()
    if isinstance(value, bool):
        text = text.lower()
    return None if text == "" or (len(text) == 3 and text.lower() == "nan") else without_point(text)


def is_given(value: object) -> bool:
    """Returns whether a cell of a label column holds anything, right or wrong."""
    try:
        return as_label(value) is not None
    except ValueError:  # it holds something, such as a list
        return True


def as_labels(value: object, separator: str) -> str | None:
    """Returns the labels in a cell as a JSON list without duplicates, or None if the cell is empty or nan.

    The cell holds a list, a list written as text in JSON or Python syntax, or labels separated by ``separator``.

    Raises:
        ValueError: If the cell holds none of these, or if one of its labels is empty, is not a single value, or cannot
            be encoded as UTF-8.
    """
    if not isinstance(value, list | tuple):
        text = as_label(value)
        if text is None:
            return None
        value = listed(text) if text.startswith("[") else [part for part in text.split(separator) if part.strip()]
        if not text.startswith("[") and not value:
            raise ValueError(f"{shown(text)} names no label. Write [] for an empty set, or leave the cell empty.")
    names = [as_label(item, "label of a set") for item in value]
    if None in names:
        raise ValueError(f"a label of a set must not be empty, found {shown(value)}. Fix or drop the row.")
    return json.dumps(list(dict.fromkeys(names)), ensure_ascii=False)


def as_votes(value: object, separator: str) -> str | None:
    """Returns the votes in a cell as a sorted JSON list of labels, or None if there is no vote.

    The cell holds a list, a list written as text in JSON or Python syntax, or labels separated by ``separator``. Empty
    votes are left out.

    Raises:
        ValueError: If the cell holds none of these, or if a vote is not a single value or cannot be encoded as UTF-8.
    """
    if isinstance(value, bool | int | float) and value == value:
        raise ValueError(f"votes must be a list, found {shown(value)}. Use columns.label for one label in each row.")
    if not isinstance(value, list | tuple):
        text = as_label(value) or ""
        value = listed(text) if text.startswith("[") else text.split(separator)
    votes = [vote for item in value if (vote := as_label(item, "vote")) is not None]
    return json.dumps(sorted(votes), ensure_ascii=False) if votes else None


def as_share(value: object) -> float:
    """Returns the number in a cell that gives the share of one class; ``nan`` if the cell is empty or nan.

    Raises:
        ValueError: If the cell holds anything but a number that is at least 0.
    """
    share = _number("share", value)
    if share is None or share < 0:
        raise ValueError(f"a share must be a number that is at least 0, found {shown(value)}. Fix or drop the row.")
    return share


def as_shares(value: object) -> str | None:
    """Returns the soft label in a cell as JSON text; None for an empty cell.

    The JSON text is a list with the share of each class, or one number, the share of ``yes``. The cell holds a list of
    numbers, the text of such a list in JSON or Python syntax, or one number.

    Raises:
        ValueError: If the cell holds none of these, or if a number is missing or less than 0.
    """
    if isinstance(value, str) and value.strip().startswith("["):
        value = listed(value.strip())
    if not isinstance(value, list | tuple):
        share = as_share(value)
        return None if math.isnan(share) else json.dumps(share)
    shares = list(map(as_share, value))
    if not shares or any(map(math.isnan, shares)):
        raise ValueError(f"a list of shares must hold numbers, found {shown(value)}. Fix or drop the row.")
    return json.dumps(shares)


def as_weight(value: object) -> float:
    """Returns the weight that a cell holds; ``nan`` if the cell is empty or nan.

    Raises:
        ValueError: If the cell holds anything but a number from 0 to ``LARGEST_WEIGHT``.
    """
    weight = _number("weight", value)
    if weight is None or weight < 0 or weight > LARGEST_WEIGHT:
        raise ValueError(
            f"a weight must be a number from 0 to {LARGEST_WEIGHT:g}, found {shown(value)}. Fix or drop the row."
        )
    return weight


def as_yes_no(value: object) -> float:
    """Returns 0 for a cell that holds 0 or false, 1 for 1 or true, and ``nan`` for an empty cell or nan.

    Raises:
        ValueError: If the cell holds anything else.
    """
    text = as_label(value)
    if text is None:
        return math.nan
    found = _YES_NO.get(text.lower())
    if found is None:
        raise ValueError(f"must be 0, 1 or empty, found {shown(value)}. Fix or drop the row.")
    return found


_YES_NO = {"0": 0.0, "false": 0.0, "1": 1.0, "true": 1.0}


def _number(what: str, value: object) -> float | None:
    """Returns the finite number in a cell; ``nan`` if the cell is empty or nan, None if it holds something else.

    ``what`` is the word for the value in messages.

    Raises:
        ValueError: If the cell holds more than one value, or cannot be encoded as UTF-8.
    """
    if value is None or value == "":
        return math.nan
    if type(value) is str or type(value) is float:  # nearly all cells; what follows them reads everything else
        try:
            found = float(value)
        except ValueError:
            pass
        else:
            written = str(value)
            if (0 < found < math.inf or (found == 0 and "-" not in written)) and "_" not in written:
                return found
    text = as_label(value, what)
    return math.nan if text is None else number(text)


def listed(text: str) -> list[object]:
    """Returns the list that a text describes, in JSON or as Python writes it.

    Raises:
        ValueError: If the text describes no list.
    """
    for parse in (json.loads, literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    raise ValueError(f'{shown(text)} is no list. Write it as ["a", "b"], or drop the row.')


def as_id(value: object) -> str:
    """Returns the id in a cell as a string. None gives an empty string.

    Raises:
        ValueError: If the cell holds more than one value, or cannot be encoded as UTF-8.
    """
    if isinstance(value, list | tuple | dict | bytes):
        raise ValueError(f"the id must be one value, found {shown(value)}. Fix or drop the row.")
    return "" if value is None else _utf8("id", _written("id", value)).strip()


def same(found: str | None, wanted: str | None) -> bool:
    """Returns whether two labels are equal as text or as numbers.

    If ``wanted`` is ``true`` or ``false``, it does not matter whether ``found`` is in upper or lower case.
    """
    if found is None or wanted is None or found == wanted:
        return found == wanted
    numbers = number(found), number(wanted)
    return numbers[0] == numbers[1] is not None or (wanted in ("true", "false") and found.lower() == wanted)


def readable(name: str) -> str:
    """Returns the name of a file or data set in a form that is safe to print."""
    return clean(name[:1000])


def check_name(name: str) -> None:
    """Checks the name of a file or folder, and raises a ValueError if a recipe cannot contain it.

    A recipe is UTF-8 text, so the name must be UTF-8 text too.
    """
    if "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        raise ValueError(f"the name must be UTF-8 text, found {shown(name)}. Rename it.")


def _written(what: str, value: object) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        raise ValueError(f"the {what} is too long a number. Give it as text, or drop the row.") from None


def _utf8(what: str, text: str) -> str:
    try:
        if not text.isascii():
            text.encode("utf-8")
    except UnicodeEncodeError:  # half a character, from a JSON escape such as \ud83d; tokenizers cannot read it
        raise ValueError(f"the {what} holds half a surrogate pair. Fix or drop the row.") from None
    return text


def any_text(value: object) -> str:
    """Returns a cell's text or, if it is a list, its words joined by spaces; an empty string for any other value."""
    try:
        return as_text(" ".join(map(str, value)) if isinstance(value, list | tuple) else value)
    except ValueError:
        return ""
