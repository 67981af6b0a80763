"""The first token of each word in its sequence: literals, the library's own alignment, cuts, and the cache."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import test_tokenizer
from tokenizers import Tokenizer

from mtbert.columns import TextColumn, TextTuples
from mtbert.data.tokenizer import load_tokenizer, sequences
from mtbert.data.words import Finder, given, join_words, split
from mtbert.ragged import Ragged

KINDS: dict[str, Callable[[Path], Path]] = {
    "word_piece": test_tokenizer.word_piece,
    "byte_level": test_tokenizer.byte_level,
    "unigram": test_tokenizer.unigram,
}


def found(tokenizer: Tokenizer, texts: list[str], words: Finder = split, max_length: int = 200) -> Ragged:
    made, _ = sequences(tokenizer, [(text,) for text in texts], max_length, segments=True, words=words)
    assert made.words is not None
    return made.words


def of_library(tokenizer: Tokenizer, text: str, places: np.ndarray) -> list[int]:
    """Returns for each word the first token that the library finds for one of its characters."""
    encoding = tokenizer.encode(text)
    tokens = [[encoding.char_to_token(i) for i in range(first, stop)] for first, stop in places.tolist()]
    return [min((each for each in one if each is not None), default=-1) for one in tokens]


def test_places_count_special_tokens_and_skip_later_pieces(tmp_path: Path):
    tokenizer = load_tokenizer(test_tokenizer.word_piece(tmp_path))
    # [CLS] un ##able the cat ! \u200b gives no piece [SEP]
    words = found(tokenizer, ["unable the\u200b cat!", "\u200b", "cat"])
    assert [words[i].tolist() for i in range(3)] == [[1, 3, -1, 4, 5], [-1], [1]]


@pytest.mark.parametrize("kind", KINDS)
def test_first_tokens_are_those_of_the_library(kind: str, tmp_path: Path):
    tokenizer = load_tokenizer(KINDS[kind](tmp_path))
    texts = [text for text in test_tokenizer.TEXTS if text.strip()]
    words = found(tokenizer, texts)
    for i, text in enumerate(texts):
        assert words[i].tolist() == of_library(tokenizer, text.strip(), split(text.strip())), text
    joined = list(join_words(TextColumn.of(texts)))
    words = found(tokenizer, joined, given)
    for i, text in enumerate(joined):
        assert words[i].tolist() == of_library(tokenizer, text, given(text)), text


def test_words_behind_the_cut_have_no_token(tmp_path: Path):
    tokenizer = load_tokenizer(test_tokenizer.word_piece(tmp_path))
    for length in range(3, 9):
        whole, cut = (found(tokenizer, ["unable the cat sat"], max_length=n)[0] for n in (99, length))
        assert cut.tolist() == [place if place < length - 1 else -1 for place in whole.tolist()]


def test_words_from_the_cache_are_the_same_and_depend_on_how_they_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mtbert.data.cache.FEWEST", 1)
    tokenizer = load_tokenizer(test_tokenizer.word_piece(tmp_path))
    texts = TextTuples([TextColumn.of(["unable the-cat", "sat"])])

    def read(words: Finder | None) -> Ragged | None:
        return sequences(tokenizer, texts, 20, segments=True, keep=True, words=words)[0].words

    for _ in range(2):
        one, other, none = (read(words) for words in (split, given, None))
        assert one is not None
        assert other is not None
        assert one.values.tolist() == [1, 3, 4, 5, 1]
        assert other.values.tolist() == [1, 3, 1]
        assert none is None
    assert len(list((tmp_path / "cache/data").glob("*.tokens"))) == 3
