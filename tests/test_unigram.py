"""Folders with a SentencePiece model give the ids of the SentencePiece library, and of transformers."""

import itertools
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sentencepiece
import tokenizers
import toy_spm
import transformers
from toy_spm import BRACKETS, TAGS, oracle, trained

from mtbert.data.tokenizer import load_tokenizer
from mtbert.data.words import first_pieces, split

ODD = tuple(toy_spm.odd_texts(10_000))
SPECIAL = re.compile("|".join(map(re.escape, (*BRACKETS, *TAGS))))


def load(path: Path, model: bytes, family: str = "deberta", **files: object) -> tokenizers.Tokenizer:
    return load_tokenizer(toy_spm.folder(path, model, family, **files))


def ids(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


MODELS: dict[str, dict[str, Any]] = {
    "nmt_nfkc": {},
    "nfkc": {"rule": "nfkc"},
    "no table": {"rule": "identity"},
    "bytes": {"byte_fallback": True, "vocab_size": 416},
    "all spaces count": {"remove_extra_whitespaces": False},
    "no dummy prefix": {"add_dummy_prefix": False},
    "pieces of several words": {"split_by_whitespace": False},
    "user's own pieces": {"user_defined_symbols": ("<own>", "mit", "a▁b", "é!")},
}


@pytest.mark.parametrize("kind", MODELS)
def test_ids_equal_those_of_sentencepiece(kind: str, tmp_path: Path):
    model = trained(**MODELS[kind])
    ours, theirs = load(tmp_path, model), oracle(model)
    number = 10_000 if kind == "nmt_nfkc" else 2000
    texts = [text for text in ODD[:number] if not SPECIAL.search(text)]
    texts += ["a<own>b", "<own> mitmi", "a b a  b", "é!", "<0x41>"]
    differ = [text for text in texts if ids(ours, text) != theirs.encode(text)]
    why: Counter[str] = Counter()
    for text in differ:
        made, normal = ours.normalizer.normalize_str(text), theirs.normalize(text)
        if made == normal:  # the library compares sums of scores in float64, SentencePiece in float32
            mine, other = (sum(map(theirs.get_score, found)) for found in (ids(ours, text), theirs.encode(text)))
            assert mine == pytest.approx(other, abs=1e-3), ascii(text)
            why["two ways to cut the text are equally likely"] += 1
        elif made:
            assert unicodedata.normalize("NFD", made) == unicodedata.normalize("NFD", normal), ascii(text)
            why["a mark stands behind a letter that is composed already"] += 1
        else:  # SentencePiece keeps the space that it puts before every text
            assert (normal, kind) == ("▁", "all spaces count"), ascii(text)
            why["all characters of the text are removed"] += 1
    assert len(texts) > 0.99 * number
    assert all(found <= 0.01 * number for found in why.values()), why


SPELT = ["［ＣＬＳ］ mi", "mi［ＵＮＫ］", "mi ＜０ｘ４１＞", "mi <0x41>", "a ［ＳＥＰ］ b", "＜＜／ｓ＞ ［［ＰＡＤ］］"]


@pytest.mark.parametrize("kind", MODELS)
def test_replaced_characters_spell_neither_special_tokens_nor_bytes(kind: str, tmp_path: Path):
    ours, theirs = load(tmp_path, trained(**MODELS[kind])), oracle(trained(**MODELS[kind]))
    for text in SPELT:
        found = ids(ours, text)
        if kind == "bytes":
            assert found == theirs.encode(text), text
        assert without_repeated(3, found) == theirs.encode(text), text


def without_repeated(unknown: int, found: list[int]) -> list[int]:
    """Returns the ids with one unknown token where several stand side by side."""
    return [i for before, i in itertools.pairwise([-1, *found]) if (before, i) != (unknown, unknown)]


def test_in_a_pair_replaced_characters_end_no_segment(tmp_path: Path):
    tokens = load(tmp_path, trained()).encode("a ［ＳＥＰ］ b", "mi").tokens
    assert tokens.count("[SEP]") == 2


PREPARED = {
    "a\u0302\u0300 α\u0313\u0300\u0345": "▁ầ▁ᾂ",  # a letter with two and three marks
    "\u1112\u1161\u11ab か\u3099 ｶﾞ \u09c7\u09be": "▁한▁が▁ガ▁\u09cb",
    "½\u0301 x\u0651\u064e ª\u0301": "▁1⁄2\u0301▁x\u0651\u064e▁á",  # a mark of a replaced letter; marks in their order
    "ﬁ\u200b①\u3000Ａ\r\n\x01b": "▁fi▁1▁A▁b",
    "  a ▁ ▁ ": "▁a",
    "▁ a": "▁a",
    "\x01\u200b ▁": "",
}


@pytest.mark.parametrize("text", PREPARED, ids=ascii)
def test_characters_and_spaces_are_replaced_as_sentencepiece_does(text: str, tmp_path: Path):
    assert load(tmp_path, trained()).normalizer.normalize_str(text) == PREPARED[text]
    assert oracle(trained()).normalize(text) == PREPARED[text]


def test_without_a_table_a_written_space_mark_counts_as_a_space_at_the_end_alone(tmp_path: Path):
    model = trained(rule="identity")
    ours, theirs = load(tmp_path, model), oracle(model)
    for text, prepared in {
        "a ▁ ▁": "▁a",
        "▁ a": "▁▁▁a",
        "a ▁ b": "▁a▁▁▁b",
        " ▁": "",
        "½\u0301 ﬁ": "▁½\u0301▁ﬁ",
    }.items():
        assert ours.normalizer.normalize_str(text) == prepared == theirs.normalize(text)


def plain_texts(number: int, special: tuple[str, ...]) -> list[str]:
    """Returns texts of words, punctuation, white space and special tokens, which every library normalises alike."""
    rng = random.Random(1)
    parts = [*toy_spm.SYLLABLES, *" " * 20, "\n", "\t", "  ", "🙂", "ab", ",", *special]
    return ["".join(rng.choice(parts) for _ in range(rng.randrange(30))) for _ in range(number)]


FAMILIES = {"deberta": BRACKETS, "xlm-r": TAGS, "camembert": (*TAGS, "<unk>NOTUSED")}


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_segments_equal_transformers(family: str, tmp_path: Path):
    ours = load(tmp_path, trained("deberta" if family == "deberta" else "xlm-r"), family)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = plain_texts(1000, FAMILIES[family])
    # transformers has no table of characters for DeBERTa, so only some odd texts are the same behind it.
    normalizer, space = theirs.backend_tokenizer.normalizer, " " if family == "deberta" else None
    odd = [
        text
        for text in ODD[:3000]
        if ours.normalizer.normalize_str(text) == joined(normalizer.normalize_str(text), space)
    ]
    assert len(odd) > 500
    for text in [*texts, *odd]:
        assert ours.encode(text).ids == theirs(text)["input_ids"], ascii(text)
    for pair in itertools.pairwise(texts):
        encoding, expected = ours.encode(*pair), theirs(*([text] for text in pair))
        assert encoding.ids == expected["input_ids"][0], pair
        assert encoding.type_ids == expected.get("token_type_ids", [[0] * len(encoding)])[0], pair


def joined(text: str, space: str | None) -> str:
    return "".join(f"▁{word}" for word in text.split(space) if word)


@pytest.mark.parametrize(("family", "shift"), [("xlm-r", 1), ("camembert", 4)])
def test_ids_of_xlm_r_and_camembert_are_shifted_ids_of_sentencepiece(family: str, shift: int, tmp_path: Path):
    model = trained("xlm-r")
    ours, theirs = load(tmp_path, model, family), oracle(model)
    texts = [text for text in ODD[:3000] if not SPECIAL.search(text)]
    same = [text for text in texts if ours.normalizer.normalize_str(text) == theirs.normalize(text)]
    assert len(same) > 2_900
    spelt = "mi ＜／ｓ＞ ＜ｍａｓｋ＞ ＜ｐａｄ＞ ＜ｓ＞NOTUSED ＜ｕｎｋ＞"
    plain = [i + shift if i else 3 for i in theirs.encode(spelt)]
    assert without_repeated(3, ids(ours, spelt)) == plain
    expected = [[i + shift if i else 3 for i in theirs.encode(text)] for text in same]
    assert sum(ids(ours, text) != found for text, found in zip(same, expected, strict=True)) < 15  # equally likely ones
    assert ours.encode("ka", "to").tokens == ["<s>", "▁ka", "</s>", "</s>", "▁to", "</s>"]
    assert [ours.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")] == {
        "xlm-r": [0, 1, 2, 3, 161],
        "camembert": [5, 1, 6, 3, 164],
    }[family]


# Places of words ---------------------------------------------------------------------------------------------


def test_the_first_token_of_each_word_is_that_of_sentencepiece(tmp_path: Path):
    model = trained()
    ours, theirs = load(tmp_path, model), oracle(model)
    checked = 0
    for text in ODD[:3000]:
        if SPECIAL.search(text) or ids(ours, text) != theirs.encode(text):
            continue
        # SentencePiece gives removed characters to a neighbour, and a replaced one to the last of its pieces.
        words = np.array([(a, b) for a, b in split(text) if theirs.normalize(text[a:b]) == "▁" + text[a:b]])
        if len(words):
            encoding = ours.encode(text, add_special_tokens=False)
            found = first_pieces(np.array(encoding.offsets, np.int64).reshape(-1, 2), words)
            assert found.tolist() == first_pieces(places(theirs, text), words).tolist(), ascii(text)
            checked += len(words)
    assert checked > 5_000


def places(theirs: sentencepiece.SentencePieceProcessor, text: str) -> npt.NDArray[np.int64]:
    """Returns where each piece begins and ends in a text, in characters; SentencePiece counts bytes."""
    pieces, content = theirs.encode(text, return_type="proto").pieces, text.encode()
    ends = [(len(content[: piece.begin].decode()), len(content[: piece.end].decode())) for piece in pieces]
    return np.array(ends, np.int64).reshape(-1, 2)
