"""Tables separated by tabs as people write them: a quote is a character like others, unless it encloses a field.

A field is quoted where it begins and ends with a quote, and every quote between them is doubled; such a field may hold
tabs and line breaks, as programs write them. Everything else is taken as it stands: ``"So" it is`` is a text.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator

from mtbert.data.cells import LONGEST_TEXT

_QUOTED = re.compile(r'"((?:[^"]|"")*+)"(?=\t|\Z)')
_OPEN = re.compile(r'"(?:[^"]|"")*+\Z')
_INSIDE = re.compile(r'(?:[^"]|"")*+')


class BareReturn(ValueError):
    """A carriage return that ends no line, in line ``line``."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Gives the fields of each row, and the number of its first line, from 1; a blank line has no fields.

    The first row is the header: its number of fields decides where a quote at the beginning of a field could enclose
    more than the line. What can be rows of that number without quotes is taken as such.

    Raises:
        BareReturn: If a field that is not quoted holds a carriage return.
    """
    source = _Lines(lines)
    width, line = 0, 1
    while (first := source.after(0)) is not None:
        if '"' not in first:
            taken, (fields, _) = 1, _split(_body(first), line)
        else:
            taken, fields = _row(first, source, width, line)
        if len(fields) != width and (body := _body(first)) and body.count("\t") + 1 == width:
            taken, fields = 1, body.split("\t")  # quotes that only seem to enclose something
        width = width or len(fields)
        yield line, fields
        line += taken
        source.drop(taken)


class _Lines:
    """Lines that can be looked at before they are taken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._source = iter(lines)
        self._ahead: deque[str] = deque()

    def after(self, number: int) -> str | None:
        """Returns the line after the next ``number`` ones; ``None`` behind the last."""
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
    """How many lines the row takes that begins with ``first``, and its fields."""
    body, taken = first, 1
    fields, is_open = alone, _ = _split(_body(first), line)
    while width and is_open and not (len(fields) == width and _row_of_its_own(source, taken, width)):
        more = _closing(source, taken, LONGEST_TEXT - len(body))
        if not more:
            break
        body += "".join(more)
        taken += len(more)
        fields, is_open = _split(_body(body), line)
    return (taken, fields) if len(fields) == width else (1, alone)


def _body(line: str) -> str:
    """The line without its end."""
    if line.endswith("\n"):
        return line[:-2] if line.endswith("\r\n") else line[:-1]
    return line.removesuffix("\r")


def _split(body: str, line: int) -> tuple[list[str], bool]:
    """The fields of a row, and whether the last begins with a quote that nothing closes."""
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


def _row_of_its_own(source: _Lines, taken: int, width: int) -> bool:
    """Whether the next line that is not blank has as many fields as the header, or there is none."""
    while (following := source.after(taken)) is not None:
        if body := _body(following):
            return body.count("\t") + 1 == width
        taken += 1
    return True


def _closing(source: _Lines, taken: int, most: int) -> list[str]:
    """The lines up to the one that closes the open quote, of at most ``most`` characters; none if it does not come."""
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
