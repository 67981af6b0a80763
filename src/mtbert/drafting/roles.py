"""Telling the columns of a file apart by their cells and names: texts, labels, ids, and what a recipe cannot use."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mtbert.answers.known import ANSWER_TYPES
from mtbert.answers.seen import SeenColumn, Suits
from mtbert.messages import count, shown

GOOD = 0.5  # a type that suits a column at least so well makes it a column of labels
WORDS_OF_A_TEXT = 3  # a column with fewer words, on average, needs another sign to be one of texts
EVERY_ROW = 20  # different whole numbers in this many rows are ids, not scores
FILLED = 0.9  # a column of texts with a smaller share of filled rows is no half of a pair

_TEXT_NAMES = re.compile(
    r"text|sentence|review|body|comment|content|message|tweet|post|document|description|title|headline|question|query"
    r"|answer|premise|hypothesis|utterance|abstract|summary|satz|frage|antwort|beschreibung|titel|nachricht|kommentar"
    r"|phrase|texte|texto"
)
_ID_NAMES = re.compile(
    r"(.*[\W_]|q)?(id|ids|uuid|guid|key|index|nr|nummer)\d*|id[\W_].*|unnamed: 0|\W*|(?-i:.*[a-z]I[dD])", re.IGNORECASE
)
_DATE = re.compile(
    r"\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?[./]\d\d?[./]\d{2,4}([T ].*)?|\d{4}/\d\d?/\d\d?|(19|20)\d\d|\d\d:\d\d(:\d\d)?"
)
_LINK = re.compile(r"(https?://|www\.)\S+", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_PAIR = re.compile(r"(.*?)[\W_]*(1|2|a|b|one|two|first|second|left|right)", re.IGNORECASE)
_PAIRS = ({"premise", "hypothesis"}, {"question", "answer"}, {"query", "document"}, {"query", "passage"})


@dataclass(frozen=True)
class Label:
    """One task: its columns of labels, the answer types that suit them (best first), and its name."""

    columns: Sequence[SeenColumn]
    types: Sequence[tuple[str, Suits]]
    name: str


@dataclass(frozen=True)
class ColumnRoles:
    """The columns of a file, sorted by their roles.

    Attributes:
        columns: All columns, in the order of the file.
        texts: The columns of texts, in the order of the file.
        labels: Tasks, each with its columns of labels.
        doubtful: Tasks from columns that can hold labels, but probably do not.
        id: The column of ids, if there is one.
        unused: The other columns, each with the reason why it is not used.
    """

    columns: Sequence[SeenColumn]
    texts: Sequence[SeenColumn]
    labels: Sequence[Label]
    doubtful: Sequence[Label]
    id: SeenColumn | None
    unused: Sequence[tuple[SeenColumn, str]]


def roles(columns: Sequence[SeenColumn]) -> ColumnRoles:
    """Returns the most likely role of each column of a file."""
    unused = [(column, why) for column in columns if (why := _unusable(column))]
    rest = [column for column in columns if column not in [each for each, _ in unused]]
    ids = [column for column in rest if _is_id(column)]
    named = sorted(ids, key=lambda column: not _ID_NAMES.fullmatch(column.name))
    unused += [(column, "different in every row, as ids are") for column in named[1:]]
    # A column without a name is one that pandas adds: the number of the row.
    id_ = next((column for column in named[:1] if column.name.strip()), None)
    rest = [column for column in rest if column not in ids]
    texts = list(filter(_is_text, rest))
    texts = [column for column in texts if not any(map(_words_of, _labels([column], texts)))]
    rest = [column for column in rest if column not in texts]
    lists = [column for column in rest if column.lists]  # words of a text, if another column has a tag for each
    found = _labels(rest, [*texts, *lists])
    words = {text for label in found for text in _words_of(label)}
    found = [label for label in found if label.columns[0].name not in words]
    texts = [column for column in columns if column in texts or column.name in words]
    labels = [label for label in found if label.types[0][1].degree >= GOOD]
    if any(label.columns[0].named_any_label for label in labels):
        labels = [label for label in labels if label.columns[0].named_any_label]
    doubtful = [label for label in found if label not in labels]
    labels = _together(labels, texts)
    if not labels and (types := suited([], texts)):
        labels, doubtful = [Label([], types, "")], []
    if not labels:
        labels, doubtful = doubtful[:1], doubtful[1:]
    known = [column for label in (*labels, *doubtful) for column in label.columns] + texts
    unused += [(column, _no_label(column)) for column in rest if column not in known]
    return ColumnRoles(columns, texts, labels, doubtful, id_, unused)


def suited(labels: Sequence[SeenColumn], texts: Sequence[SeenColumn]) -> list[tuple[str, Suits]]:
    """Returns a pair for each answer type that suits ``labels``, best first: the type's name, and its :class:`Suits`.

    ``labels`` are one or more label columns of a file, and ``texts`` are its columns that may hold texts. A
    :class:`Suits` says how well the type suits ``labels``, and which settings a recipe needs for the type.
    """
    others = [text for text in texts if text not in labels]
    found = [(name, suits) for name, answer in ANSWER_TYPES.items() if (suits := answer.labels.suits(labels, others))]
    return sorted(found, key=lambda each: -each[1].degree)


def is_pair(first: SeenColumn, second: SeenColumn) -> bool:
    """Returns whether the names of two columns say that they hold a pair, such as ``question1`` and ``question2``."""
    names = [first.name.strip().lower(), second.name.strip().lower()]
    numbered = [_PAIR.fullmatch(name) for name in names]
    if all(numbered) and len({match and match[1] for match in numbered}) == 1:
        return True
    return set(names) in _PAIRS


def _labels(columns: Sequence[SeenColumn], texts: Sequence[SeenColumn]) -> list[Label]:
    """Returns a task for each column that at least one answer type can read as labels."""
    return [Label([column], types, column.name) for column in columns if (types := suited([column], texts))]


def _together(labels: Sequence[Label], texts: Sequence[SeenColumn]) -> list[Label]:
    """Merges the tasks of label columns that hold the same values, if one answer type suits these columns together.

    Returns all tasks, merged or unchanged.
    """
    found = list(labels)
    alike: dict[frozenset[str], list[Label]] = {}
    for label in labels:
        alike.setdefault(frozenset(label.columns[0].counts), []).append(label)
    for group in alike.values():
        columns = [column for label in group for column in label.columns]
        types = suited(columns, texts) if len(columns) > 1 else []
        if types and types[0][1].degree >= GOOD:
            found[found.index(group[0])] = Label(columns, types, "labels")
            found = [label for label in found if label not in group]
    return found


def _words_of(label: Label) -> list[str]:
    """If a task labels each word, returns a list with the name of its text column; otherwise an empty list."""
    columns = label.types[0][1].settings.get("columns")
    text = columns.get("text") if isinstance(columns, dict) else None
    return [text] if isinstance(text, str) else []


def _is_text(column: SeenColumn) -> bool:
    if not column.counts or column.numbers or (column.classes and not _TEXT_NAMES.search(column.name.lower())):
        return False
    return bool(
        column.mean_words >= WORDS_OF_A_TEXT
        or _TEXT_NAMES.search(column.name.lower())
        or (len(column.counts) > len(column.filled) / 2 and not column.named_any_label)
    )


def _is_id(column: SeenColumn) -> bool:
    rows = len(column.cells)
    if len(column.counts) < rows or rows < 2 or column.mean_words != 1:
        return False
    if column.numbers:
        in_order = [float(str(cell)) for cell in column.cells] == list(column.numbers)
        return column.whole and (bool(_ID_NAMES.fullmatch(column.name)) or in_order or rows >= EVERY_ROW)
    digits = sum(any(c.isdigit() for c in name) for name in column.counts)
    return bool(_ID_NAMES.fullmatch(column.name)) or digits > rows / 2


def _unusable(column: SeenColumn) -> str:
    """Returns why a column can be neither texts nor labels nor ids; an empty text if it may be."""
    values = [str(cell) for cell in column.filled]
    if not values:
        return "empty"
    if len(column.counts) == 1 and len(values) > 1:
        return f"the same value in every row, {shown(values[0], 30)}"
    if column.counts and all(map(_DATE.fullmatch, column.counts)):
        return "dates or times"
    if column.counts and all(map(_LINK.fullmatch, column.counts)):
        return "links"
    if column.counts and all(map(_DECIMAL_COMMA.fullmatch, column.counts)):
        return "numbers with a decimal comma; write 3.5, not 3,5"
    if _ID_NAMES.fullmatch(column.name) and len(column.counts) < len(column.cells) and column.counts:
        return "ids that repeat"
    return ""


def _no_label(column: SeenColumn) -> str:
    if column.counts:
        return f"{count(len(column.counts), 'different value')} in {count(len(column.filled), 'row')}, so no classes"
    return "neither texts nor labels"
