"""Reading tab-separated tables, in which a quote is an ordinary character unless quotes enclose a whole field.

A field is quoted if it begins and ends with a quote and every quote inside it is doubled. A quoted field may contain
tabs and line breaks. Every other field is taken literally: ``"So" it is`` keeps its quotes.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator

from mtbert.data.cells import LONGEST_TEXT

_QUOTED = re.compile(r'"((?:[^"]|"")*+)"(?=\t|\Z)')
_OPEN = re.compile(r'"(?:[^"]|"")*+\Z')
_INSIDE = re.compile(r'(?:[^"]|"")*+')


class BareReturn(ValueError):
    """Raised if a line contains a carriage return that is not at its end. ``line`` is the number of this line."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields a pair for each row: the number of its first line, counted from 1, and its fields.

    The header is the first line. Its number of fields is the right number for all rows.

    Most rows are single lines. A row has several lines if a quoted field contains line breaks. If a field of a line
    begins with a quote that is not closed on the line, the first of these rules that applies is used:

    1. Suppose the quote is an ordinary character. If the line then has the right number of fields, and the next line
       that is not blank (if any) has the right number of fields too, the line is a row.
    2. If the line and the lines up to the closing quote together have the right number of fields, they are a row.
    3. Otherwise, the line is a row, and the quote is an ordinary character.

    If a row has a wrong number of fields, it is split again at every tab, even inside quotes. The new fields are used
    if their number is right. Otherwise, the row is yielded with a wrong number of fields. A blank line is yielded as a
    row with an empty list of fields.

    Raises:
        BareReturn: If a field that is not quoted contains a carriage return.
    """
    source = _Lines(lines)
    width, line = 0, 1
    while (first := source.after(0)) is not None:
        if '"' not in first:
            taken, (fields, _) = 1, _split(_body(first), line)
        else:
            taken, fields = _row(first, source, width, line)
        if len(fields) != width and (body := _body(first)) and body.count("\t") + 1 == width:
            taken, fields = 1, body.split("\t")  # the quotes enclose nothing
        width = width or len(fields)
        yield line, fields
        line += taken
        source.drop(taken)


class _Lines:
    """A queue of lines, which can be looked at before they are removed."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._source = iter(lines)
        self._ahead: deque[str] = deque()

    def after(self, number: int) -> str | None:
        """Returns the line at index ``number`` of the queue; None if there is no such line.

        Index 0 is the next line. The line stays in the queue.
        """
        while len(self._ahead) <= number:
            following = next(self._source, None)
            if following is None:
                return None
            self._ahead.append(following)
        return self._ahead[number]

    def drop(self, number: int) -> None:
        for _ in range(number):
            self._ahead.popleft()


def _row(first: str, source: _Lines, width: int, line: int) -> tuple[int, list[str]]:
    """Returns the number of lines in the row that begins with the line ``first``, and the fields of the row."""
    body, taken = first, 1
    fields, is_open = alone, _ = _split(_body(first), line)
    while width and is_open and not (len(fields) == width and _next_is_row(source, taken, width)):
        more = _closing(source, taken, LONGEST_TEXT - len(body))
        if not more:
            break
        body += "".join(more)
        taken += len(more)
        fields, is_open = _split(_body(body), line)
    return (taken, fields) if len(fields) == width else (1, alone)


def _body(line: str) -> str:
    """Returns a line without its line break."""
    if line.endswith("\n"):
        return line[:-2] if line.endswith("\r\n") else line[:-1]
    return line.removesuffix("\r")


def _split(body: str, line: int) -> tuple[list[str], bool]:
    """Returns the fields of a row, and whether a field begins with a quote that is not closed."""
    if not body:
        return [], False
    if '"' not in body:
        if "\r" in body:
            raise BareReturn(line)
        return body.split("\t"), False
    fields: list[str] = []
    at, is_open = 0, False
    while True:
        quoted = _QUOTED.match(body, at)
        if quoted:
            fields.append(quoted[1].replace('""', '"'))
            at = quoted.end()
        else:
            is_open = is_open or _OPEN.match(body, at) is not None
            end = body.find("\t", at)
            end = len(body) if end < 0 else end
            fields.append(body[at:end])
            if "\r" in fields[-1]:
                raise BareReturn(line)
            at = end
        if at == len(body):
            return fields, is_open
        at += 1


def _next_is_row(source: _Lines, start: int, width: int) -> bool:
    """Returns whether the next line that is not blank has ``width`` fields.

    The search starts at the line with the index ``start``. Returns True if all lines from there on are blank.
    """
    while (following := source.after(start)) is not None:
        if body := _body(following):
            return body.count("\t") + 1 == width
        start += 1
    return True


def _closing(source: _Lines, taken: int, most: int) -> list[str]:
    """Returns the lines that continue a quoted field, up to the line with its closing quote; [] without such a quote.

    The first of these lines is the one at index ``taken`` in ``source``. The search gives up after ``most`` characters.
    """
    lines: list[str] = []
    while most > 0 and (line := source.after(taken + len(lines))) is not None:
        lines.append(line)
        most -= len(line)
        body = _body(line)
        end = _INSIDE.match(body).end()  # type: ignore[union-attr]  # it always matches
        if end < len(body):
            rest = body[end + 1 :]
            return lines if not rest or rest.startswith("\t") else []
    return []
