"""Reading tables in JSON: one object on each line, or one array of objects."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import NoReturn

from mtbert.data.cells import LONGEST_TEXT
from mtbert.data.plain import Text
from mtbert.data.records import Record
from mtbert.messages import reason, shown

MOST_COLUMNS = 1000  # most columns that are remembered for messages
SPACE = re.compile(r"[ \t\r\n]*")


def each_line(name: str, text: Text) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields a pair for each line that is not blank: the number of the line, and the JSON object on it."""
    for line in text:
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}, line {text.line}: not JSON ({reason(error)}). {_repair(name)}") from None
        yield text.line, found if isinstance(found, dict) else _refused(f"{name}, line {text.line}", found)


def array(name: str, text: Text) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields each object of a JSON array together with its number, which is counted from 1.

    Each object is decoded as soon as it has been read.
    """
    decode = json.JSONDecoder().raw_decode
    part = 2**20
    rest, at, lines, ended = "", 0, 0, False  # undecoded text starts at rest[at]; lines counts the lines before rest

    def more() -> bool:
        nonlocal rest, at, lines, ended
        lines += rest.count("\n", 0, at)
        # At least doubled, so that a long object is not parsed too often.
        new = "" if ended else text.part(max(part, len(rest) - at))
        rest, at, ended = rest[at:] + new, 0, ended or not new
        return not ended

    def sign() -> str:
        """Returns the next character that is not white space, or an empty string at the end of the text."""
        nonlocal at
        while True:
            at = SPACE.match(rest, at).end()  # type: ignore[union-attr]  # it always matches
            if at < len(rest) or not more():
                return rest[at : at + 1]

    def wrong(what: str, index: int) -> ValueError:
        line = lines + rest.count("\n", 0, index) + 1
        return ValueError(f"{name}, line {line}: not JSON ({what}). {_repair(name)}")

    def item() -> object:
        nonlocal at
        while True:
            try:
                found, at = decode(rest, at)
                return found
            except json.JSONDecodeError as error:
                if len(rest) - at > LONGEST_TEXT:
                    raise wrong(f"or an item of more than {LONGEST_TEXT:,} characters", at) from None
                index = error.pos - at
                if not more():
                    raise wrong(error.msg, index) from None
            except (ValueError, RecursionError) as error:
                raise wrong(reason(error), at) from None

    sign()
    at += 1  # the opening bracket
    number = 0
    following = "]" if sign() == "]" else ","
    at += following == "]"
    while following == ",":
        number += 1
        sign()
        found = item()
        yield number, found if isinstance(found, dict) else _refused(f"{name}, item {number}", found)
        following = sign()
        if following not in (",", "]"):
            raise wrong("Expecting ',' or ']'", at)
        at += 1
    if sign():
        raise wrong("more after the end of the list", at)


def whole_objects(
    name: str, objects: Iterator[tuple[int, dict[str, object]]]
) -> tuple[Collection[str], Sequence[Record]]:
    """Returns a pair: all column names, and all records. To know all columns, it first reads all objects."""
    kept = list(objects)
    if not kept:
        raise ValueError(f"{name}: the file is empty. {_repair(name)}")
    columns = dict.fromkeys(chain.from_iterable(record for _, record in kept))
    return columns, [(number, [record.get(column) for column in columns]) for number, record in kept]


def keep(
    name: str, objects: Iterator[tuple[int, dict[str, object]]], wanted: Sequence[str], *, may_be_empty: bool = False
) -> tuple[Collection[str], Iterator[Record]]:
    """Returns a pair: the column names, and an iterator over the records with the values of the ``wanted`` columns.

    The column names are complete only after all records have been read from the iterator. If ``objects`` yields nothing
    and ``may_be_empty`` is false, the iterator raises a ValueError.
    """
    columns: dict[str, None] = {}

    def rows() -> Iterator[Record]:
        number = None
        for number, record in objects:
            if not record.keys() <= columns.keys():  # rarely true, because most objects have the names of earlier ones
                columns.update(dict.fromkeys(record if len(columns) < MOST_COLUMNS else record.keys() & set(wanted)))
            yield number, [*map(record.get, wanted)]
        if number is None and not may_be_empty:
            raise ValueError(f"{name}: the file is empty. {_repair(name)}")

    return columns, rows()


def _repair(name: str) -> str:
    lines = name.lower().endswith((".jsonl", ".jsonl.gz"))
    return "Give one object per line." if lines else "Give a list of objects, or one object per line."


def _refused(where: str, found: object) -> NoReturn:
    raise ValueError(f"{where}: must be a JSON object, found {shown(found)}. Give one object per row.")
