"""Words of texts: finding them, reading words and tags from cells, and matching words with a tokenizer's pieces.

The splitter is the rule by which a text is split into words. Every user of a model must follow the same rule, so the
splitter named ``unicode`` never changes: every unbroken run of letters, marks, digits, underscores and joiners (U+200C,
U+200D) is a word, and every other character that is not white space is a word of its own. So
``Anna's flat, 2.5 kg`` has the words ``Anna ' s flat , 2 . 5 kg``.

If a file gives words instead of texts, they are joined by single spaces before a tokenizer reads them. A model that was
trained on such words also gets single spaces between the words that the splitter finds in a text. The tokenizer
therefore sees the same text in training and prediction.

Dimension key: W words, P pieces.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mtbert.answers.entities import OUTSIDE
from mtbert.columns import TextColumn, WordColumn
from mtbert.data import cells
from mtbert.messages import count, shown

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

Places = npt.NDArray[np.int64]  # [W, 2] or [P, 2]: first character, and the one after the last
Entity = tuple[int, int, str]  # first character, the one after the last, label

JOINED = "unicode-joined"  # the splitter of a task that was trained on words, joined by single spaces

Finder = Callable[[str], Places]  # finds the words of a text

# Texts -----------------------------------------------------------------------------------------------------


def split(text: str) -> Places:
    """Returns where each word of a text begins and ends, ``[W, 2]``. The rule for words is at the top of this file.

    >>> split("It's 2!").tolist()
    [[0, 2], [2, 3], [3, 4], [5, 6], [6, 7]]
    """
    return _places(place for _, place in _splitter().pre_tokenize_str(text))


@cache
def _splitter() -> "PreTokenizer":
    """Returns the object that splits texts into words."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(r"[\w\u200c\u200d]+|[^\s\w\u200c\u200d]"), "removed", invert=True)


def given(text: str) -> Places:
    """Returns where each word begins and ends in a text whose words are joined by single spaces, ``[W, 2]``."""
    stops = np.cumsum([len(word) + 1 for word in text.split(" ")], dtype=np.int64) - 1
    return np.stack([np.concatenate([[0], stops[:-1] + 1]), stops], 1)


def finder(column: TextColumn) -> Finder:
    """Returns the function that finds the words in the texts of ``column``.

    If these texts are words joined by single spaces, returns the function :func:`given`. Otherwise, returns the
    function :func:`split`.
    """
    return given if isinstance(column, WordColumn) else split


def rewritten(column: TextColumn, splitter: str | None) -> bool:
    """Returns True if all texts of ``column`` must be replaced with their words joined by single spaces, else False."""
    return splitter == JOINED and not isinstance(column, WordColumn)


def as_read(texts: Sequence[TextColumn], splitter: str | None) -> list[TextColumn]:
    """Returns the texts as the tokenizer reads them.

    If ``splitter`` is ``unicode-joined``, the words of each text are joined by single spaces. Otherwise, the texts stay
    as they are.
    """
    return [join_words(column) if rewritten(column, splitter) else column for column in texts]


def join_words(column: TextColumn) -> WordColumn:
    """Returns a column in which each text is replaced by its words, joined by single spaces."""
    if isinstance(column, WordColumn):
        return column
    made = (" ".join(text[first:stop] for first, stop in split(text).tolist()) for text in column)
    return WordColumn.joining(TextColumn.of(made))


def first_pieces(pieces: Places, words: Places) -> npt.NDArray[np.int64]:
    """Returns for each word the index of the first token piece that overlaps it, ``[W]``; -1 if none does.

    Pieces and words are given by character offsets (begin, end) into one text, in ascending order. One piece may
    overlap two words.

    >>> first_pieces(np.array([[0, 2], [2, 4], [4, 5]]), np.array([[0, 4], [4, 5], [6, 7]])).tolist()
    [0, 2, -1]
    """
    found = np.searchsorted(pieces[:, 1], words[:, 0], side="right")
    starts = np.append(pieces[:, 0], np.iinfo(np.int64).max)[found]
    return np.where(starts < words[:, 1], found, -1)


def _places(found: Iterable[tuple[int, int]]) -> Places:
    return np.array(list(found), np.int64).reshape(-1, 2)


# Cells -----------------------------------------------------------------------------------------------------


class Given(str):
    """A text that was made from a list of words, joined by single spaces."""


class WordReader:
    """Reads a column of texts, and the tags of the words in them. All rows must have the same form.

    There are two forms. In the first, a row gives its words, as a list or as a text with white space between them, and
    one tag for each word. In the second, a row gives an ordinary text, and the places of the entities in it.

    Attributes:
        given: Whether the rows have the first form. None until a row has shown which form the rows have.
    """

    def __init__(self) -> None:
        self.given: bool | None = None

    def text(self, value: object) -> str:
        """Returns the text of a cell. Spaces at the ends of the text are kept.

        If the cell is empty or holds only spaces, returns an empty string.
        If ``value`` is a list of words, returns a :class:`Given`: a str that holds the words, joined by single spaces.
        """
        if isinstance(value, list | tuple):
            return Given(as_words(value))
        text = cells.as_text(value)
        return str(value) if text else ""

    def tagged(self, text: str, tags: Sequence[list[str] | list[Entity] | None]) -> tuple[str, list[str | None], int]:
        """Returns a row as a triple: the text, the label cells, and the number of widened entities.

        Each label cell in the triple is None if the cell is empty, and otherwise a JSON list with a tag for each word
        of the text, such as ``["B-PER", "O"]``. An entity that covers a part of a word is widened to the whole word.
        ``tags`` holds the label cells as they were read: each is a list of tags, a list of entities, or None.

        Raises:
            ValueError: If the tags do not fit the words, or if earlier rows give tags in another form.
        """
        known = [each for each in tags if each is not None]
        if not text and not (isinstance(text, Given) and any(known)):  # a row that nothing reads
            return text, [None if each is None else "[]" for each in tags], 0
        given = isinstance(text, Given) or any(isinstance(tag, str) for each in known for tag in each)
        if given or known:
            self._settle(given)
        if not given:
            made = [None if each is None else tags_of([s for s in each if isinstance(s, tuple)], text) for each in tags]
            written = [None if one is None else json.dumps(one[0], ensure_ascii=False) for one in made]
            return text, written, sum(one[1] for one in made if one is not None)
        words = text.split(" ") if isinstance(text, Given) else text.split()
        words = [word for word in words if word]
        for each in known:
            if each and isinstance(each[0], tuple):
                raise ValueError("spans are places in a text, found a list of words. Give the text, or a tag per word.")
            if len(each) != len(words):
                raise ValueError(f"{count(len(each), 'tag')} for {count(len(words), 'word')}. Give one for each word.")
        return " ".join(words), [None if each is None else json.dumps(each, ensure_ascii=False) for each in tags], 0

    def untagged(self, text: str) -> str:
        """Checks the text of a row without tags, and returns the text unchanged.

        Raises:
            ValueError: If ``text`` was made from a list of words (a :class:`Given`) and earlier rows have ordinary
                texts, or the other way round.
        """
        self._settle(isinstance(text, Given))
        return text

    def _settle(self, given: bool) -> None:
        if self.given not in (None, given):
            forms = ("places in texts", "words")
            raise ValueError(f"rows before have {forms[not given]}, found {forms[given]}. Use one form in all rows.")
        self.given = given


def as_words(value: Sequence[object]) -> str:
    """Returns the words of a cell that holds a list, joined by single spaces; an empty text for an empty list.

    Raises:
        ValueError: If a word is not a string, is empty, or holds a space.
    """
    for number, word in enumerate(value, 1):
        if not isinstance(word, str) or not word or " " in word:
            what = "must be a string" if not isinstance(word, str) else "is empty" if not word else "holds a space"
            raise ValueError(f"word {number} {what}, found {shown(word)}. Fix or drop the row.")
    text = " ".join(map(str, value))
    cells.as_text(text)  # for its errors
    return text


def as_tags(value: object) -> list[str] | list[Entity] | None:
    """Returns the labels that a cell holds for the words of a text, as tags or as spans; None if the cell is empty.

    Tags are one per word. The cell holds them as a list of strings or numbers, as such a list in JSON, or as a string
    with white space between the tags. Spans are one per entity. The cell holds them as a list of objects
    ``{"start": 0, "end": 5, "label": "PER"}``, or as such a list in JSON. ``start`` and ``end`` count characters.

    Raises:
        ValueError: If the cell holds neither tags nor spans.
    """
    if not isinstance(value, list | tuple):
        text = cells.as_label(value)
        if text is None:
            return None
        if not text.startswith("["):
            return text.split()
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
    if not isinstance(value, list | tuple):
        raise ValueError(f'{shown(value)} is no list. Write tags as ["O", "B-PER"], or drop the row.')
    if value and all(isinstance(item, Mapping) for item in value):
        return [_span(item, number) for number, item in enumerate(value, 1) if isinstance(item, Mapping)]
    tags = []
    for number, item in enumerate(value, 1):
        tag = None if isinstance(item, Mapping) else cells.as_label(item, "tag")
        if tag is None:
            raise ValueError(f"tag {number} must be a text or a number, found {shown(item)}. Fix or drop the row.")
        tags.append(tag)
    return tags


def as_tag_text(value: object) -> str | None:
    """Returns, as JSON text, the tags or entity spans that a cell holds. :func:`as_tags` can read this text again.

    Returns None if the cell is empty.
    """
    found = as_tags(value)
    spans = [{"start": s[0], "end": s[1], "label": s[2]} if isinstance(s, tuple) else s for s in found or ()]
    return None if found is None else json.dumps(spans, ensure_ascii=False)


def tags_of(spans: Sequence[Entity], text: str) -> tuple[list[str], int]:
    """Returns the BIO tags of a text's words, and how many entities had to be widened to whole words.

    ``spans`` says where each entity begins and ends in the text, and what its type is.

    Raises:
        ValueError: If a span is not in the text, covers no word, or shares a word with another span.
    """
    words = split(text)
    tags, widened = [OUTSIDE] * len(words), 0
    for start, end, label in sorted(spans):
        if not 0 <= start < end <= len(text):
            raise ValueError(f"span {start} to {end} is not in the text, which has {count(len(text), 'character')}.")
        first = int(np.searchsorted(words[:, 1], start, side="right"))
        last = int(np.searchsorted(words[:, 0], end, side="left"))
        if first == last:
            raise ValueError(f"span {start} to {end} holds no word, found {shown(text[start:end])}. Fix or drop it.")
        if any(tag != OUTSIDE for tag in tags[first:last]):
            raise ValueError(f"span {start} to {end} shares a word with the span before it. Keep one of them.")
        tags[first:last] = [f"B-{label}", *[f"I-{label}"] * (last - first - 1)]
        cut = text[start:end].strip()
        widened += text[words[first, 0] : words[last - 1, 1]] != cut
    return tags, widened


def _span(item: Mapping[object, object], number: int) -> Entity:
    start, end, label = item.get("start"), item.get("end"), cells.as_label(item.get("label"), "label of a span")
    if not (isinstance(start, int) and isinstance(end, int)) or isinstance(start, bool) or label is None:
        raise ValueError(
            f'span {number} must be {{"start": 0, "end": 5, "label": "PER"}}, found {shown(dict(item))}. '
            "Fix or drop the row."
        )
    return start, end, label
