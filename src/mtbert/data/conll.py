"""Reading CoNLL files: a word and its tags on each line, and a blank line between texts.

The fields of a line are separated by tabs, or by spaces if the first line has no tab. The first field is the word. It
goes to the column ``text``. The last field is the word's tag. It goes to the column ``label``. Any field between these
two goes to the column whose name is the number of the field, counted from 1. Each text becomes one record, and each of
its values is a list with one item per word. Lines that begin with ``-DOCSTART-`` are skipped.
"""

from collections.abc import Iterator, Sequence

from mtbert.data.plain import Text
from mtbert.data.records import Record
from mtbert.messages import count

DOCUMENT = "-DOCSTART-"


def conll_records(
    name: str, text: Text, wanted: Sequence[str], *, every: bool
) -> tuple[Sequence[str], Iterator[Record]]:
    """Returns a pair: the names of all columns, and a record for each text.

    A record contains the number of the text's first line, and the text's values in the ``wanted`` columns. If ``every``
    is true, it contains the values in all columns.

    Raises:
        ValueError: If the file is empty. Iterating over the records also raises it, if a line has more or fewer fields
            than the first line.
    """
    lines = _fields(text)
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{name}: the file is empty. Give a word and its tag on each line.")
    fields = len(first[1])
    columns = ["text", *map(str, range(2, fields)), "label"][:fields]
    asked = columns if every else wanted
    at = [columns.index(column) if column in columns else None for column in asked]

    def rows() -> Iterator[Record]:
        start, words = first[0], [first[1]]
        before = first[0]
        for number, found in lines:
            if len(found) != fields:
                raise ValueError(
                    f"{name}, line {number}: {count(len(found), 'field')}, but line {first[0]} has {fields}. Give each "
                    "word and its tags a line, and a blank line after each text."
                )
            if number > before + 1:  # lines without fields between
                yield start, [None if i is None else [word[i] for word in words] for i in at]
                start, words = number, []
            words.append(found)
            before = number
        yield start, [None if i is None else [word[i] for word in words] for i in at]

    return columns, rows()


def _fields(text: Text) -> Iterator[tuple[int, list[str]]]:
    """Yields a pair for each line that has a word: the number of the line, and its fields."""
    tabs: bool | None = None
    for line in text:
        stripped = line.strip("\r\n \t")
        if not stripped or stripped.startswith(DOCUMENT):
            continue
        tabs = "\t" in stripped if tabs is None else tabs
        fields = stripped.split("\t") if tabs else stripped.split(" ")
        yield text.line, [field.strip(" ") for field in fields] if tabs else [field for field in fields if field]
