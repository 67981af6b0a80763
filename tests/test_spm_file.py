"""The file of a SentencePiece model: what is read, and one line for each file that is damaged or not supported."""

import random
import struct
import time
from pathlib import Path

import pytest
import toy_spm
from foreign import refused
from toy_spm import trained

from mtbert.data import spm_file
from mtbert.data.spm_file import read_spm
from mtbert.data.tokenizer import load_tokenizer

FETCH = "Fetch the model again."
CONVERT = "Such models are not read: save the tokenizer as tokenizer.json, and copy that file beside the weights."


# A writer of the wire format, from its description -----------------------------------------------------------


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 + 128]) + varint(number // 128)


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number * 8) + varint(value)
    return varint(number * 8 + 2) + varint(len(value)) + value


def piece(text: str | bytes, score: float = 0.0, kind: int | None = None) -> bytes:
    content = text.encode() if isinstance(text, str) else text
    inside = field(1, content) + varint(2 * 8 + 5) + struct.pack("<f", score)
    return field(1, inside + (b"" if kind is None else field(3, kind)))


SPECIAL = piece("[PAD]", 0, 3) + piece("[CLS]", 0, 3) + piece("[SEP]", 0, 3) + piece("[UNK]", 0, 2)
PIECES = SPECIAL + piece("▁", -1) + piece("a", -2.5) + piece("▁ab", -3, 4)
TRAINER, NORMALIZER = field(2, field(3, 1)), field(3, field(1, b"identity"))
WHOLE = PIECES + TRAINER + NORMALIZER


def written(folder: Path, content: bytes) -> Path:
    toy_spm.folder(folder, content)
    return folder / "spm.model"


def test_pieces_and_settings_are_read(tmp_path: Path):
    found = read_spm(written(tmp_path, WHOLE))
    assert found.pieces == ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "▁", "a", "▁ab"]
    assert found.scores == [0, 0, 0, 0, -1, -2.5, -3]
    assert found.kinds == [3, 3, 3, 2, 1, 1, 4]
    assert (found.unknown, found.byte_fallback, found.table) == (3, False, b"")
    assert (found.dummy_prefix, found.fewer_spaces) == (True, True)
    content = PIECES + field(2, field(40, 2**64 - 1)) + field(3, field(1, b"nfkc") + field(2, b"table") + field(4, 0))
    found = read_spm(written(tmp_path, content + field(5, b"") + field(99, 1) + varint(98 * 8 + 1) + bytes(8)))
    assert (found.table, found.dummy_prefix, found.fewer_spaces) == (b"table", True, False)
    assert not read_spm(written(tmp_path, PIECES + TRAINER + field(3, field(3, 0)))).dummy_prefix


def test_the_file_that_sentencepiece_writes_is_read_as_it_says(tmp_path: Path):
    model = trained(byte_fallback=True, vocab_size=416)
    found, theirs = read_spm(written(tmp_path, model)), toy_spm.oracle(model)
    assert found.pieces == [theirs.id_to_piece(i) for i in range(len(theirs))]
    assert found.scores == [theirs.get_score(i) for i in range(len(theirs))]
    assert [kind == 6 for kind in found.kinds] == [theirs.is_byte(i) for i in range(len(theirs))]
    assert (found.unknown, found.byte_fallback) == (3, True)
    assert found.table in model
    assert len(found.table) > 200_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no settings, so it may be cut off."),
        (PIECES, "it has no settings, so it may be cut off."),
        (PIECES + TRAINER, "it has no settings, so it may be cut off."),
        (WHOLE + TRAINER, "it has two parts with settings of one kind."),
        (WHOLE[:-1], "it is cut off."),
        (b"version https://git-lfs.github.com/spec/v1", "it has a field of the unknown form 6."),
        (b"\x0a" + b"\xff" * 10 + b"\x01", "it has a number of more than 64 bits."),
        (field(1, 3) + WHOLE, "it has a field of a wrong type."),
        (field(1, field(1, 3)) + WHOLE, "it has a piece 0 that has a field of a wrong type."),
        (field(1, field(1, b"a") + field(2, 1)) + WHOLE, "it has a piece 0 that has a score of a wrong type."),
        (PIECES + field(1, b"\x0a\x05ab") + WHOLE, "it has a piece 7 that is cut off."),
        (WHOLE + piece(""), "it has a piece 7 that is empty."),
        (WHOLE + piece(b"\xff\x1b[2J"), r"it has a piece 7 that is not UTF-8: b'\xff\x1b[2J'."),
        (WHOLE + piece("b", float("nan")), "it has a piece 7 that has the score nan."),
        (WHOLE + piece("b", float("-inf")), "it has a piece 7 that has the score -inf."),
        (WHOLE + piece("b", 0, 7), "it has a piece 7 that has the unknown kind 7."),
        (WHOLE + piece("a"), "it has the piece 'a' twice."),
        (WHOLE + piece("<unk>", 0, 2), "it must have one piece for unknown characters, found 2."),
        (SPECIAL + TRAINER + NORMALIZER, "it has no piece that occurs in texts."),
        (WHOLE + piece("<0x00>", 0, 6), "it must have 0 pieces for bytes, found 1."),
        (PIECES + field(2, field(35, 1)) + NORMALIZER, "it must have 256 pieces for bytes, found 0."),
    ],
)
def test_a_damaged_file_is_one_line(content: bytes, said: str, tmp_path: Path):
    file = written(tmp_path, content)
    refused(ValueError, tmp_path, f"{file}: not a whole SentencePiece model: {said} {FETCH}", load=load_tokenizer)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PIECES + field(2, field(3, 2)) + NORMALIZER, "must have the type unigram, found BPE."),
        (PIECES + field(2, field(3, 9)) + NORMALIZER, "must have the type unigram, found 9."),
        (PIECES + field(2, field(24, 1)) + NORMALIZER, "puts spaces behind words (treat_whitespace_as_suffix)."),
        (PIECES + TRAINER + field(3, field(5, 0)), "keeps spaces as they are (escape_whitespaces)."),
        (WHOLE + piece("b", 0, 5), "marks pieces as unused, such as 'b'."),
        (
            PIECES + TRAINER + field(3, field(1, b"nmt_nfkc_cf") + field(2, b"table")),
            "must replace characters by nmt_nfkc or nfkc, found 'nmt_nfkc_cf'.",
        ),
    ],
)
def test_a_model_that_is_not_supported_is_one_line(content: bytes, said: str, tmp_path: Path):
    file = written(tmp_path, content)
    refused(ValueError, tmp_path, f"{file}: this SentencePiece model {said} {CONVERT}", load=load_tokenizer)


def test_a_file_of_another_kind_or_size_is_one_line(tmp_path: Path):
    file = tmp_path / "spm.model"
    file.mkdir()
    refused(ValueError, tmp_path, f"{file}: a folder, not a file. {FETCH}", load=load_tokenizer)
    file.rmdir()
    with file.open("wb") as opened:
        opened.truncate(2**24 + 1)
    refused(ValueError, tmp_path, f"{file}: has 16,777,217 bytes, but at most 16,777,216", FETCH, load=load_tokenizer)


def test_too_many_pieces_and_too_much_text_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = written(tmp_path, WHOLE)
    monkeypatch.setattr(spm_file, "MOST_TEXT", len("[PAD][CLS][SEP][UNK]▁a▁ab".encode()) - 1)
    refused(
        ValueError, file, f"{file}: not a whole", "it has pieces of 29 bytes in total, more than 28.", load=read_spm
    )
    monkeypatch.setattr(spm_file, "MOST_PIECES", 6)
    refused(ValueError, file, f"{file}: not a whole", f"it has more than 6 pieces. {FETCH}", load=read_spm)


def test_a_table_of_long_strings_is_one_line(tmp_path: Path):
    model = trained()
    table = read_spm(written(tmp_path, model)).table
    long = table + b"a" * 1000 + b"\0"
    content = PIECES + TRAINER + field(3, field(1, b"nmt_nfkc") + field(2, long))
    said = f"this tokenizer has a table that replaces characters by up to 1,000 bytes. {FETCH}"
    refused(ValueError, tmp_path, f"{written(tmp_path, content)}: {said}", load=load_tokenizer)


@pytest.mark.parametrize("content", [WHOLE, trained()], ids=["every byte", "some bytes"])
def test_a_file_that_is_cut_off_is_one_line(content: bytes, tmp_path: Path):
    file = written(tmp_path, content)
    whole = read_spm(file)
    ends = range(len(content)) if content == WHOLE else random.Random(0).sample(range(len(content)), 60)
    for end in ends:
        file.write_bytes(content[:end])
        refused(ValueError, file, f"{file}: not a whole SentencePiece model: it ", FETCH, load=read_spm)
    file.write_bytes(content.removesuffix(b"\x2a\x00"))  # an empty denormalizer, which nobody needs
    assert read_spm(file) == whole


@pytest.mark.parametrize("rule", ["identity", "nmt_nfkc"])
def test_with_random_bytes_changed_a_file_loads_or_is_one_line(rule: str, tmp_path: Path):
    content = trained(rule=rule)
    rng, began = random.Random(0), time.monotonic()
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 10])):
            changed[rng.randrange(min(len(changed), rng.choice([50, 3000, 10**6])))] = rng.randrange(256)
        file = written(tmp_path, bytes(changed))
        try:
            tokenizer = load_tokenizer(tmp_path)
        except ValueError:
            refused(ValueError, tmp_path, f"{file}: ", load=load_tokenizer)
        else:
            tokenizer.encode("able ka to mi 漢字, a\u0301 ½ A")
    assert time.monotonic() - began < 60
