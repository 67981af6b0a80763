"""The splitter, words, tags and spans in cells, and the pieces of words, against literals."""

import re
from typing import Any

import numpy as np
import pytest

from mtbert.columns import TextColumn
from mtbert.data.words import as_tags, as_words, finder, first_pieces, given, join_words, split, tags_of


def words(text: str) -> list[str]:
    return [text[first:stop] for first, stop in split(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Anna's flat, 2.5kg!", ["Anna", "'", "s", "flat", ",", "2", ".", "5kg", "!"]),
        ("a\u00a0b\u3000c\td\ne", ["a", "b", "c", "d", "e"]),
        ("e\u0301t\u00e9 snake_case", ["e\u0301t\u00e9", "snake_case"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("東京 \U0001f600\u200b", ["東京", "\U0001f600", "\u200b"]),
        ("...", [".", ".", "."]),
        ("  ", []),
    ],
)
def test_a_word_is_a_run_of_letters_marks_and_digits_and_each_other_sign_is_one(text: str, found: list[str]):
    assert words(text) == found


def test_given_words_are_parted_by_single_spaces_alone():
    assert given("U.S. a\u00a0b ,").tolist() == [[0, 4], [5, 8], [9, 10]]


def test_a_column_of_texts_is_split_and_joined_and_one_of_words_stays():
    texts = TextColumn.of(["It's  so", "b"])
    found = join_words(texts)
    assert list(found) == ["It ' s so", "b"]
    assert join_words(found) is found
    assert finder(texts) is split
    assert finder(found) is given
    assert finder(found.take(np.array([1]))) is given
    assert finder(found[0:1]) is given
    for text, same in zip(texts, found, strict=True):
        assert words(text) == [same[first:stop] for first, stop in given(same)]


@pytest.mark.parametrize(
    ("pieces", "of_words", "first"),
    [
        ([[0, 2], [2, 4], [4, 5]], [[0, 4], [4, 5]], [0, 2]),
        ([[0, 2], [3, 5]], [[0, 2], [3, 5], [6, 7]], [0, 1, -1]),
        ([[0, 1], [1, 5]], [[0, 1], [2, 5]], [0, 1]),  # a piece that begins with the space before its word
        ([[0, 2]], [[0, 1], [1, 2]], [0, 0]),  # two words in one piece
        ([[0, 1], [0, 1], [2, 3]], [[0, 1], [2, 3]], [0, 2]),  # two pieces of one character
        ([[0, 1], [4, 5]], [[0, 1], [2, 3], [4, 5]], [0, -1, 1]),  # a word that makes no piece
        ([[1, 2]], [[0, 1], [1, 2]], [-1, 0]),  # one whose neighbour begins where it ends
        ([], [[0, 1]], [-1]),
    ],
)
def test_a_word_has_the_first_piece_that_holds_a_part_of_it(pieces: Any, of_words: Any, first: list[int]):
    found = first_pieces(np.array(pieces, np.int64).reshape(-1, 2), np.array(of_words))
    assert found.tolist() == first


def test_words_of_a_cell_are_joined_and_wrong_ones_named():
    assert as_words(["U.S.", "a\u00a0b"]) == "U.S. a\u00a0b"
    assert as_words([]) == ""
    for wrong, said in (
        (["a", 7], "word 2 must be a string, found 7. Fix or drop the row."),
        (["", "a"], "word 1 is empty, found ''."),
        (["New York"], "word 1 holds a space, found 'New York'."),
        (["\ud83d"], "the text holds half a surrogate pair"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            as_words(wrong)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["O", "B-PER"], ["O", "B-PER"]),
        ([0, 3.0, "x"], ["0", "3", "x"]),
        ('["O", "B-PER"]', ["O", "B-PER"]),
        ("O B-PER\tI-PER", ["O", "B-PER", "I-PER"]),
        ([], []),
        ("[]", []),
        ([{"start": 0, "end": 5, "label": "PER", "p": 0.5}], [(0, 5, "PER")]),
        ('[{"start": 0, "end": 5, "label": 1}]', [(0, 5, "1")]),
        (None, None),
        ("", None),
        (float("nan"), None),
    ],
)
def test_a_cell_holds_tags_or_spans(value: object, found: object):
    assert as_tags(value) == found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[O, B]", """'[O, B]' is no list. Write tags as ["O", "B-PER"], or drop the row."""),
        ("[" * 100_000, "is no list"),
        (["O", None], "tag 2 must be a text or a number, found None. Fix or drop the row."),
        (["O", {"start": 0}], "tag 2 must be a text or a number, found {'start': 0}."),
        ([["O"]], "the tag must be one value, found ['O']. Fix or drop the row."),
        ([{"start": 0, "end": "5", "label": "x"}], 'span 1 must be {"start": 0, "end": 5, "label": "PER"}, found'),
        ([{"start": 0, "end": 5}], "span 1 must be"),
        ([{"start": True, "end": 5, "label": "x"}], "span 1 must be"),
    ],
)
def test_a_cell_of_neither_is_refused(value: object, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        as_tags(value)


def test_spans_become_bio_tags_of_the_words_that_they_touch():
    text = " Anna Li lives in Rome-Nord."
    assert words(text) == ["Anna", "Li", "lives", "in", "Rome", "-", "Nord", "."]
    assert tags_of([(18, 27, "LOC"), (1, 8, "PER")], text) == (
        ["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "I-LOC", "O"], 0
    )  # fmt: skip
    # White space at the ends of a span is no part of a word; a part of a word stands for the whole.
    assert tags_of([(0, 9, "PER")], text)[1] == 0
    assert tags_of([(2, 7, "PER"), (17, 20, "LOC")], text) == (
        ["B-PER", "I-PER", "O", "O", "B-LOC", "O", "O", "O"], 2
    )  # fmt: skip
    assert tags_of([], text) == (["O"] * 8, 0)
    assert tags_of([(1, 5, "x"), (6, 8, "x")], text)[0][:2] == ["B-x", "B-x"]


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(0, 4, "x")], "span 0 to 4 is not in the text, which has 3 characters."),
        ([(-1, 1, "x")], "span -1 to 1 is not in the text"),
        ([(1, 1, "x")], "span 1 to 1 is not in the text"),
        ([(1, 2, "x")], "span 1 to 2 holds no word, found ' '. Fix or drop it."),
        ([(0, 3, "x"), (2, 3, "y")], "span 2 to 3 shares a word with the span before it. Keep one of them."),
    ],
)
def test_a_span_that_is_no_place_of_words_is_refused(spans: Any, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        tags_of(spans, "a b")
