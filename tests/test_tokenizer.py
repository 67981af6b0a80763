import json
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers

from mtbert.data.tokenizer import CHUNK, load_tokenizer, sequences

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "##ting", "un", "##able", "cafe"),
    *("café", "The", "Ca", "##t", "!", ",", ".", "'", "漢", "字", "漢字", "🙂", "a", "b", "##b", "c", "1", "##2", "é"),
]
TEXTS = [
    "the cat sat",
    "The Cat SATS!",
    "",
    " ",
    "\t\n",
    "café CAFÉ cafe\u0301",
    "漢字, 漢 字",
    "the cat 🙂🙂",
    "[MASK] the [SEP] cat [CLS][PAD]",
    " <mask> the <mask>cat</s> <pad> <s>",
    "unable abb a-b 12 1.2 don't",
    "zero\u200bwidth\u00a0space\ufeff \ufffd \x00 \u00ad",
    "ﬁne ½ Å Ω",
    "a" * 120,
    "   many    spaces   ",
    "'s 're I'll",
]
PAIRS = [(a, b) for a in TEXTS for b in TEXTS[:9]]


def word_piece(folder: Path, **settings: object) -> Path:
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"} | settings))
    return folder


def mpnet(folder: Path) -> Path:
    """Returns a folder with MPNet's words, which are those of BERT between tokens of its own."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *WORDS, "<mask>"]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "mpnet"}')
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MPNetTokenizer"}')
    return folder


def byte_level(folder: Path, **settings: object) -> Path:
    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(TEXTS * 3, vocab_size=320, min_frequency=2, special_tokens=special, show_progress=False)
    trained.save_model(str(folder))
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"} | settings))
    return folder


def unigram(folder: Path) -> Path:
    """Returns a folder with a tokenizer.json like XLM-R's."""
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    plain = [("▁", -2.0), ("▁the", -3.0), ("▁cat", -3.5), ("s", -4.0), ("at", -4.0), ("a", -5.0), ("t", -5.0)]
    last = [("漢", -6.0), ("fi", -6.0), ("<mask>", 0.0)]
    transformers.XLMRobertaTokenizer(vocab=[*special, *plain, *last]).save_pretrained(folder)
    return folder


FOLDERS = {
    "lower": word_piece,
    "cased": lambda folder: word_piece(folder, do_lower_case=False),
    "cased, accents stripped": lambda folder: word_piece(folder, do_lower_case=False, strip_accents=True),
    "lower, accents kept": lambda folder: word_piece(folder, strip_accents=False),
    "Chinese words": lambda folder: word_piece(folder, tokenize_chinese_chars=False),
    "MPNet": mpnet,
    "byte level": byte_level,
    "byte level with a space": lambda folder: byte_level(folder, add_prefix_space=True),
    "unigram": unigram,
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_ids_and_segments_equal_transformers(kind, tmp_path):
    folder = FOLDERS[kind](tmp_path)
    ours, theirs = load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for texts in [(text,) for text in TEXTS] + PAIRS:
        expected = theirs(
            *([text] for text in texts)
        )  # outside a list, transformers would treat "" as a missing second text
        encoding = ours.encode(*texts)
        assert encoding.ids == expected["input_ids"][0], texts
        assert encoding.type_ids == expected.get("token_type_ids", [[0] * len(encoding)])[0], texts


@pytest.mark.parametrize("kind", ["lower", "byte level"])
def test_a_saved_tokenizer_loads_as_it_was(kind, tmp_path):
    ours = load_tokenizer(FOLDERS[kind](tmp_path))
    (tmp_path / "saved").mkdir()
    ours.save(str(tmp_path / "saved" / "tokenizer.json"))
    again = load_tokenizer(tmp_path / "saved")
    assert [again.encode(*pair).ids for pair in PAIRS] == [ours.encode(*pair).ids for pair in PAIRS]


@pytest.mark.real
def test_the_real_minilm_tokenizer_equals_transformers():
    from mtbert.model.download import find_encoder

    folder = find_encoder("demo")
    ours, theirs = load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    rng = random.Random(0)
    noise = [
        "".join(chr(rng.choice([rng.randrange(32, 0x3000), rng.randrange(97, 123)])) for _ in range(30))
        for _ in range(200)
    ]
    for text in [*TEXTS, *noise]:
        assert ours.encode(text, "the end").ids == theirs(text, "the end")["input_ids"], text


def test_stored_truncation_and_padding_are_switched_off(tmp_path):
    tokenizer = load_tokenizer(word_piece(tmp_path))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=10)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert len(load_tokenizer(tmp_path).encode("the cat sat the cat")) == 7


# Flat sequences ------------------------------------------------------------------------------------


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(word_piece(tmp_path))


def test_sequences_lie_one_after_the_other(tokenizer):
    found, cut = sequences(tokenizer, [("the cat", "sat"), ("a", "")], 20, segments=True)
    assert found.ids.tolist() == [2, 5, 6, 3, 7, 3, 2, 25, 3, 3]
    assert found.segments.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1]
    assert found.offsets.tolist() == [0, 6, 10]
    assert (found.ids.dtype, found.segments.dtype, found.offsets.dtype) == (np.int32, np.int32, np.int64)
    assert cut.tolist() == []


def test_segments_can_be_left_out(tokenizer):
    found, _ = sequences(tokenizer, [("the cat", "sat")], 20, segments=False)
    assert found.segments.tolist() == [0, 0, 0, 0, 0, 0]


def test_the_longer_text_is_cut_first_and_cut_examples_are_counted(tokenizer):
    texts = [
        ("the " * 9, "cat cat"),
        ("the", "cat"),
        ("the", "cat " * 9),
        ("the " * 9, "cat " * 9),
        ("the", "cat " * 3),
    ]
    found, cut = sequences(tokenizer, texts, 7, segments=True)
    assert cut.tolist() == [0, 2, 3]
    assert found.lengths.tolist() == [7, 5, 7, 7, 7]
    words = [[WORDS[i] for i in found.ids[a:b]] for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    assert words[0] == ["[CLS]", "the", "the", "[SEP]", "cat", "cat", "[SEP]"]
    assert words[2] == ["[CLS]", "the", "[SEP]", "cat", "cat", "cat", "[SEP]"]
    assert words[3] == ["[CLS]", "the", "the", "[SEP]", "cat", "cat", "[SEP]"]


@pytest.mark.parametrize("kind", ["lower", "byte level", "unigram"])
def test_cut_ids_equal_transformers_for_texts_without_outer_space(kind, tmp_path):
    folder = FOLDERS[kind](tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    found, cut = sequences(load_tokenizer(folder), PAIRS, 9, segments=True)
    left, right = ([pair[i].strip() for pair in PAIRS] for i in (0, 1))
    expected = theirs(left, right, truncation="longest_first", max_length=9)["input_ids"]
    assert found.ids.tolist() == [i for ids in expected for i in ids]
    assert cut.tolist() == [i for i, ids in enumerate(theirs(left, right)["input_ids"]) if len(ids) > 9]


def test_a_single_text_is_cut_at_max_length_and_the_tokenizer_is_left_as_it_was(tokenizer):
    found, cut = sequences(tokenizer, [("the cat sat the cat",)], 4, segments=True)
    assert (found.ids.tolist(), cut.tolist()) == ([2, 5, 6, 3], [0])
    assert tokenizer.truncation is None


def test_chunks_do_not_change_the_result(tokenizer):
    texts = [("the " * (i % 5),) for i in range(2 * CHUNK + 1)]
    found, _ = sequences(tokenizer, texts, 20, segments=True)
    assert found.lengths.tolist() == [i % 5 + 2 for i in range(2 * CHUNK + 1)]


def test_segments_are_those_of_their_tokens_also_where_the_first_chunk_has_none(tokenizer):
    found, _ = sequences(tokenizer, [("the",)] * CHUNK + [("the", "cat")], 20, segments=True)
    assert found.segments.tolist() == [0] * (3 * CHUNK) + [0, 0, 0, 1, 1]


def test_no_texts_give_no_sequences(tokenizer):
    found, cut = sequences(tokenizer, [], 20, segments=True)
    assert (len(found), found.ids.tolist(), found.offsets.tolist(), cut.tolist()) == (0, [], [0], [])


def test_a_max_length_without_room_for_text_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"max_length must leave room .* 3 special tokens, found 3\."):
        sequences(tokenizer, [("the", "cat")], 3, segments=True)
    with pytest.raises(ValueError, match=r"2 special tokens, found 2\."):
        sequences(tokenizer, [("the",)], 2, segments=True)


# Refusals ------------------------------------------------------------------------------------------


def test_a_folder_without_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}: no tokenizer.json, no vocab.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no vocab.json with merges.txt"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(("name", "text"), [("tokenizer.json", "{"), ("tokenizer.json", '{"model": 3}')])
def test_a_broken_tokenizer_file_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"^{tmp_path / name}: not a tokenizer \(.+\)\. Fetch the model again\.$"):
        load_tokenizer(tmp_path)


def test_broken_settings_are_named(tmp_path):
    word_piece(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'tokenizer_config.json'}: not JSON \(.+\)"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_without_special_tokens_is_named(tmp_path):
    (tmp_path / "vocab.txt").write_text("[CLS]\nthe\ncat\n")
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'vocab.txt'}: has no \[SEP\] among 3 tokens"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_without_the_special_tokens_of_mpnet_is_named(tmp_path):
    (tmp_path / "vocab.txt").write_text("[CLS]\n[SEP]\n[UNK]\n<s>\n")
    (tmp_path / "config.json").write_text('{"model_type": "mpnet"}')
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'vocab.txt'}: has no </s> among 4 tokens"):
        load_tokenizer(tmp_path)


def test_broken_merges_are_named(tmp_path):
    byte_level(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nqqqq zzzz\n")
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'vocab.json'}: not a vocabulary for merges.txt \(.+\)"):
        load_tokenizer(tmp_path)


def wrapped(tokenizer, processor):
    made = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    made.post_processor = processor
    return made


PROCESSORS = {
    "its own": lambda t: t.post_processor,
    "none": lambda t: None,
    "bert": lambda t: tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "roberta": lambda t: tokenizers.processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2), False, False),
    "second text first": lambda t: tokenizers.processors.TemplateProcessing(
        single="$A [SEP]", pair="[CLS] $B:1 [SEP]:1 $A", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    ),
    "two steps": lambda t: tokenizers.processors.Sequence(
        [tokenizers.processors.ByteLevel(), tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))]
    ),
}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_texts_are_truncated_as_the_library_truncates_them(processor: str, tokenizer):
    tokenizer = wrapped(tokenizer, PROCESSORS[processor](tokenizer))
    rng = random.Random(0)
    words = ["the", "cat", "sat", "unable", "[SEP]", "[CLS]", "b", "", "漢"]

    def text(most: int) -> str:
        return " ".join(rng.choices(words, k=rng.randrange(most)))

    texts = [(text(12),) for _ in range(150)] + [(text(12), text(12)) for _ in range(300)]
    texts = [given for given in texts if tokenizer.encode(*given).ids]
    for most in (5, 6, 8, 9):
        found, cut = sequences(tokenizer, texts, most, segments=True)
        library = wrapped(tokenizer, tokenizer.post_processor)
        library.enable_truncation(most, strategy="longest_first")
        expected = [library.encode(*given) for given in texts]
        assert found.ids.tolist() == [i for encoding in expected for i in encoding.ids]
        assert found.segments.tolist() == [i for encoding in expected for i in encoding.type_ids]
        assert cut.tolist() == [i for i, encoding in enumerate(expected) if encoding.overflowing]
        assert tokenizer.truncation is None


def test_a_template_that_repeats_a_text_is_refused_if_the_text_is_too_long(tokenizer):
    twice = tokenizers.processors.TemplateProcessing(single="[CLS] $A $A", special_tokens=[("[CLS]", 2)])
    tokenizer = wrapped(tokenizer, twice)
    assert sequences(tokenizer, [("the cat",)], 5, segments=False)[0].ids.tolist() == [2, 5, 6, 5, 6]
    with pytest.raises(ValueError, match="must give 1 to 4 tokens, but gives 5 for 'the cat'"):
        sequences(tokenizer, [("the cat",)], 4, segments=False)
