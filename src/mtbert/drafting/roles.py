"""Telling the columns of a file apart by their cells and names: texts, labels, ids, and what a recipe cannot use."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mtbert.answers.known import ANSWER_TYPES
from mtbert.answers.seen import SeenColumn, Suits
from mtbert.messages import count, few, shown
from mtbert.numbers import number

GOOD = 0.5  # a type that suits a column at least so well makes it a column of labels
WORDS_OF_A_TEXT = 3  # a column with fewer words, on average, needs another sign to be one of texts
WORDS_OF_A_NAMED_TEXT = 2  # fewer words suffice if the name of the column is one of texts
EVERY_ROW = 20  # different whole numbers in this many rows are ids, not scores
MOST_MARKS, FILLED_NUMBERS = 3, 0.5  # a column of numbers may have so many marks of missing ones, in half of the rows
FILLED = 0.9  # a column of texts with a smaller share of filled rows is no half of a pair
MANY_CLASSES = 20  # more different short texts in a column that is named like texts are texts
FEW_LABELS = 30  # a tenth of rows that is split off as dev often has no label of a column with fewer labels

_TEXT_NAMES = re.compile(
    r"text|sentence|review|body|comment|content|message|tweet|post|document|description|title|headline|question|query"
    r"|answer|premise|hypothesis|utterance|abstract|summary|satz|frage|antwort|beschreibung|titel|nachricht|kommentar"
    r"|phrase|texte|texto"
)
_ID_NAMES = re.compile(
    r"(.*[\W_]|q)?(id|ids|idx|uuid|guid|key|index|nr|nummer)\d*|id[\W_].*|unnamed: 0|\W*|(?-i:.*[a-z]I[dD])",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?[./]\d\d?[./]\d{2,4}([T ].*)?|\d{4}/\d\d?/\d\d?|(19|20)\d\d|\d\d:\d\d(:\d\d)?"
)
_EPOCHS = ((1e8, 5e9), (1e11, 5e12))  # the times from 1973 to 2128, in seconds and milliseconds since 1970
_LINK = re.compile(r"(https?://|www\.)\S+", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_PAIR = re.compile(r"(.*?)[\W_]*(1|2|a|b|one|two|first|second|left|right)", re.IGNORECASE)
_PAIRS = (
    {"premise", "hypothesis"}, {"question", "answer"}, {"query", "document"}, {"query", "passage"},
    {"question", "passage"}, {"question", "sentence"}, {"question", "context"}, {"prompt", "response"},
)  # fmt: skip
# Words in names of columns: those of labels, and those of facts about a row, which seldom are labels.
_LABEL_WORDS = frozenset(
    "label labels class target category gold type kind topic sentiment emotion intent stance polarity rating score "
    "stars tag tags".split()
)
_ROW_WORDS = frozenset(
    "lang language locale country region source split fold file filename genre domain subreddit author user username"
    " annotator rater worker year month date time timestamp utc created updated posted version url path verified vote"
    " votes upvote upvotes downvotes likes ups downs views retweet retweets count counts ratio confidence useful funny"
    " cool price asin sku isbn unclear".split()
)


@dataclass(frozen=True)
class Label:
    """A task that the columns of a file suggest.

    Attributes:
        columns: The columns that hold the labels of the task.
        types: The answer types that suit these columns, the best first, as pairs: the name of the type, and a
            :class:`Suits`, which says how well the type suits.
        name: The name of the task.
    """

    columns: Sequence[SeenColumn]
    types: Sequence[tuple[str, Suits]]
    name: str

    @property
    def best(self) -> Suits:
        """The best answer type's :class:`Suits`: how well the type suits the columns, and which settings it needs."""
        return self.types[0][1]


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


def roles(columns: Sequence[SeenColumn], *, has_dev: bool = False) -> ColumnRoles:
    """Returns the most likely role of each column of a file.

    If ``has_dev`` is false, there is no dev file, and dev is taken from the rows of this file. A column with few filled
    cells is then less likely to be chosen as a label column.
    """
    unused = [(column, why) for column in columns if (why := _unusable(column))]
    rest = [column for column in columns if column not in [each for each, _ in unused]]
    ids = [column for column in rest if _is_id(column)]
    named = sorted(ids, key=lambda column: not _ID_NAMES.fullmatch(column.name))
    unused += [(column, "different in every row, as ids are") for column in named[1:]]
    # A column without a name is one that pandas adds: the number of the row.
    id_ = next((column for column in named[:1] if column.name.strip()), None)
    rest = [column for column in rest if column not in ids]
    texts = _texts(rest)
    texts = [column for column in texts if not any(map(_words_of, _labels([column], texts)))]
    rest = [column for column in rest if column not in texts]
    lists = [column for column in rest if column.lists]  # words of a text, if another column has a tag for each
    found = _labels(rest, [*texts, *lists])
    words = {text for label in found for text in _words_of(label)}
    found = [label for label in found if label.columns[0].name not in words]
    texts = [column for column in columns if column in texts or column.name in words]
    renamed = list(_renamed(found))
    unused += [(label.columns[0], f"{kept.name} in other words") for label, kept in renamed]
    found = [label for label in found if label not in [each for each, _ in renamed]]
    labels = [label for label in found if label.columns[0].named_any_label]
    labels = labels or [label for label in found if _is_likely_label(label, split_off=not has_dev)]
    doubtful = [label for label in found if label not in labels]
    labels = _together(labels, texts)
    if not labels and (types := suited([], texts)):
        labels, doubtful = [Label([], types, "")], []
    if not labels and not doubtful:
        perhaps = [*(column for column, _ in unused), *([id_] if id_ else [])]
        doubtful = _labels(list(filter(_is_perhaps_label, perhaps)), texts)
        taken = [label.columns[0] for label in doubtful]
        unused = [each for each in unused if each[0] not in taken]
        id_ = None if id_ in taken else id_
    if not labels and doubtful:
        labels = [max(doubtful, key=lambda label: len(label.columns[0].filled))]
        doubtful = [label for label in doubtful if label not in labels]
    known = [column for label in (*labels, *doubtful) for column in label.columns] + texts
    named_unused = [column for column, _ in unused]
    unused += [(column, _no_label(column)) for column in rest if column not in [*known, *named_unused]]
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
    """Returns a task for each column in ``columns`` that at least one answer type can read as labels.

    Each task is described by a :class:`Label`. ``texts`` are the columns that may hold the texts of the tasks.
    """
    return [Label([column], types, column.name) for column in columns if (types := suited([column], texts))]


def _together(labels: Sequence[Label], texts: Sequence[SeenColumn]) -> list[Label]:
    """Returns the tasks in ``labels``, after merging tasks whose label columns have the same set of values.

    Each :class:`Label` describes a task. For example, three tasks whose label columns contain only ``0`` and ``1``
    become one task with three label columns. Tasks are merged only if an answer type suits the merged task well.
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
    """Returns ``[NAME]`` if the task's labels are about the words in the text column ``NAME``, otherwise ``[]``."""
    text = label.best.columns.get("text")
    return [text] if isinstance(text, str) else []


def is_likely_text(column: SeenColumn) -> bool:
    """Returns whether the name of a column, or the mean length of its cells, suggests that the column holds texts."""
    return column.mean_words >= WORDS_OF_A_TEXT or _named_text(column)


def _named_text(column: SeenColumn) -> bool:
    return bool(_TEXT_NAMES.search(column.name.lower())) and _LABEL_WORDS.isdisjoint(column.name_words)


def _texts(columns: Sequence[SeenColumn]) -> list[SeenColumn]:
    """Returns the columns that probably hold texts.

    A column whose values repeat like classes is included only if its name is that of a text column, such as ``title``,
    and no other column clearly holds texts.
    """
    maybe = [column for column in columns if column.counts and not column.numbers]
    found = [
        column
        for column in maybe
        if not column.classes
        and (is_likely_text(column) or (len(column.counts) > len(column.filled) / 2 and not column.named_any_label))
    ]
    repeated = [column for column in maybe if column.classes and _named_text(column)]
    if any(map(is_likely_text, found)):
        repeated = [c for c in repeated if len(c.counts) > MANY_CLASSES or c.mean_words >= WORDS_OF_A_NAMED_TEXT]
    return [column for column in columns if column in found or column in repeated]


def _renamed(labels: Sequence[Label]) -> Iterator[tuple[Label, Label]]:
    """Yields pairs of tasks whose label columns hold the same classes in different words: ``0`` and ``negative``.

    Each :class:`Label` stands for a task. The first task of a pair can be dropped, and the second should be kept. The
    task to keep is the one whose label column has a general name, such as ``label``. If both or neither of the columns
    have a general name, the task to keep is the one that comes earlier in ``labels``.
    """
    kept: list[Label] = []
    for label in sorted(labels, key=lambda label: not label.columns[0].named_any_label):
        (column,) = label.columns
        same = next((other for other in kept if _differ_in_words(column, other.columns[0])), None)
        if same:
            yield label, same
        else:
            kept.append(label)


def _differ_in_words(first: SeenColumn, second: SeenColumn) -> bool:
    """Returns whether two columns hold the same classes in different words.

    For example, all rows that have ``0`` in one column have ``negative`` in the other column, and all rows that have
    ``1`` have ``positive``. Returns False if the names of the two columns are not alike.
    """
    alike = second.named_any_label or not set(first.name_words).isdisjoint(second.name_words)
    a, b = first.counts, second.counts
    if not alike or not first.classes or len(a) != len(b) or a.keys() == b.keys():
        return False
    return len(set(zip(first.cells, second.cells, strict=True)) - {(None, None)}) == len(a)


def _is_likely_label(label: Label, *, split_off: bool) -> bool:
    (column,) = label.columns
    few = split_off and len(column.filled) < FEW_LABELS <= len(column.cells)
    return label.best.degree >= GOOD and not few and not _is_about_rows(column)


def _is_about_rows(column: SeenColumn) -> bool:
    """Returns whether the name of a column says that it holds a fact about the row, such as its author or a time."""
    return not _ROW_WORDS.isdisjoint(column.name_words)


def _is_perhaps_label(column: SeenColumn) -> bool:
    """Returns whether a column can hold the labels if no better column exists.

    The column must hold at least two different numbers, and must not look like a column of ids. For example, the
    numbers 1, 2, 3 in the first three rows look like ids.
    """
    return len(column.numbers) > 1 and not _ID_NAMES.fullmatch(column.name) and not _counts_rows(column)


def _counts_rows(column: SeenColumn) -> bool:
    """Returns whether the numbers in a column increase from each row to the next. Empty cells are ignored."""
    return [float(str(cell)) for cell in column.filled] == list(column.numbers)


def _is_id(column: SeenColumn) -> bool:
    rows = len(column.cells)
    if len(column.counts) < rows or rows < 2 or column.mean_words != 1 or column.named_any_label:
        return False
    if column.numbers:
        ids = bool(_ID_NAMES.fullmatch(column.name))
        return column.whole and (ids or _counts_rows(column) or (rows >= EVERY_ROW and not _is_about_rows(column)))
    digits = sum(any(c.isdigit() for c in name) for name in column.counts)
    return bool(_ID_NAMES.fullmatch(column.name)) or digits > rows / 2


def _unusable(column: SeenColumn) -> str:
    """Returns the reason why a column can hold neither texts nor labels nor ids; "" if there is no such reason."""
    values = [str(cell) for cell in column.filled]
    if not values:
        return "empty"
    if len(column.counts) == 1 and len(values) > 1:
        return f"the same value in every row, {shown(values[0], 30)}"
    if column.counts and not column.named_any_label and all(map(_DATE.fullmatch, column.counts)):
        return "dates or times"
    seconds = column.whole and any(low <= column.numbers[0] <= column.numbers[-1] <= high for low, high in _EPOCHS)
    if seconds and not column.named_any_label and _is_about_rows(column):
        return "dates or times"
    if column.counts and all(map(_LINK.fullmatch, column.counts)):
        return "links"
    if column.counts and all(map(_DECIMAL_COMMA.fullmatch, column.counts)):
        return "numbers with a decimal comma; write 3.5, not 3,5"
    if (marks := _but_for(column)) and not column.classes:
        return f"numbers, but for {marks}; leave such cells empty"
    repeats = column.counts and len(column.counts) < len(column.cells)
    of_classes = column.named_any_label or (column.classes and not _LABEL_WORDS.isdisjoint(column.name_words))
    if repeats and _ID_NAMES.fullmatch(column.name) and not of_classes:
        return "ids that repeat"
    return ""


def _but_for(column: SeenColumn) -> str:
    """Returns the values of a column that are not numbers, as text such as ``'n/a' in 3 rows``.

    If all values are numbers, or if many of them are not numbers, returns an empty text.
    """
    others = [text for text in column.counts if number(text) is None]
    marked = sum(column.counts[text] for text in others)
    if not 1 <= len(others) <= MOST_MARKS or marked > len(column.filled) * (1 - FILLED_NUMBERS):
        return ""
    return f"{few(others, quoted=True)} in {count(marked, 'row')}"


def _no_label(column: SeenColumn) -> str:
    if column.counts:
        return f"{count(len(column.counts), 'different value')} in {count(len(column.filled), 'row')}, so no classes"
    return "neither texts nor labels"
