import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mtbert import prepare
from mtbert.batch import Dataset, Example, Examples, Rows, Sequences
from mtbert.collate import collate
from mtbert.columns import TextColumn, TextTuples
from mtbert.data import cache
from mtbert.data.tokenizer import sequences
from mtbert.recipe.settings import validate_recipe
from mtbert.task import Task

DAY = 24 * 3600
WORDS = ["[UNK]", "[CLS]", "[SEP]", "a", "b", "ab", "c", "bc"]
Texts = Sequence[tuple[str, ...]]


def words(*more: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*WORDS, *more])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


TOKENIZER = words()
# 1,000 pairs; of the last one, 6 + 1 words and 3 special tokens, 8 tokens are kept.
PAIRS: Texts = [("a b", "c")] * 998 + [("ab", "c"), ("a b c a b c", "b")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/data"


def columns(texts: Texts) -> TextTuples:
    return TextTuples([TextColumn.of(column) for column in zip(*texts, strict=True)])


def kept(texts: Texts = PAIRS, tokenizer: Tokenizer = TOKENIZER) -> tuple[Sequences, Rows]:
    return sequences(tokenizer, columns(texts), 8, True, keep=True)


def made(texts: Texts = PAIRS) -> tuple[Sequences, Rows]:
    """The same tokens, with nothing looked for in the cache, or left there."""
    return sequences(TOKENIZER, columns(texts), 8, True)


def never(*_: object) -> None:
    raise AssertionError("tokenised again")


def equal(found: tuple[Sequences, Rows], expected: tuple[Sequences, Rows]) -> None:
    for name in ("ids", "segments", "offsets"):
        one, other = getattr(found[0], name), getattr(expected[0], name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found[1], expected[1])


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_a_second_reading_gives_the_same_tokens_without_a_tokenizer(folder: Path, monkeypatch: pytest.MonkeyPatch):
    expected = made()
    equal(kept(), expected)
    monkeypatch.setattr("mtbert.data.tokenizer._tokens", never)
    again = kept()
    equal(again, expected)
    found, cut = again
    assert (found.offsets[:3].tolist(), found.offsets[-1], cut.tolist()) == ([0, 6, 12], 998 * 6 + 5 + 8, [999])
    assert (found.ids[:6].tolist(), found.segments[:6].tolist()) == ([1, 3, 4, 2, 6, 2], [0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize("texts", [[("a",)] * 1000, [("", "")] * 1000, [("a", "b"), ("a b c a b c a b", "c")] * 500])
def test_all_kinds_of_texts_come_back_as_they_were(texts: Texts, folder: Path):
    for segments in (True, False):
        for _ in range(2):
            given = TOKENIZER, columns(texts), 8, segments
            equal(sequences(*given, keep=True), sequences(*given))
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("highest", [2**16 - 1, 2**16, 70_000])
def test_ids_of_a_large_vocabulary_come_back(highest: int, folder: Path):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": highest}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for _ in range(2):
        found, _ = kept([("a", "b")] * 1000, tokenizer)
        assert found.ids.tolist() == [1, highest] * 1000


@pytest.mark.parametrize(
    "changed",
    [
        {"texts": [PAIRS[-1], *PAIRS[:-1]]},
        {"texts": [*PAIRS[:998], ("a", "bc"), PAIRS[-1]]},
        {"texts": [*PAIRS[:998], ("abc", ""), PAIRS[-1]]},
        {"texts": [*PAIRS[:998], ('ab", "c', ""), PAIRS[-1]]},
        {"texts": PAIRS[:-1] + PAIRS[:1]},
        {"texts": [*PAIRS, ("a", "b")]},
        {"max_length": 9},
        {"segments": False},
        {"tokenizer": words("new")},
    ],
    ids=["order", "split point", "one text", "quotes", "a text", "one more", "max_length", "segments", "vocabulary"],
)
def test_the_key_covers_everything_that_the_tokens_depend_on(changed: dict[str, Any], folder: Path):
    usual = {"tokenizer": TOKENIZER, "texts": PAIRS, "max_length": 8, "segments": True}
    for given in (usual, usual | changed):
        asked = given | {"texts": columns(given["texts"])}
        equal(sequences(**asked, keep=True), sequences(**asked))
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(("module", "name", "value"), [(tokenizers, "__version__", "9.9"), (cache, "CACHE_FORMAT", 99)])
def test_another_version_makes_new_tokens(
    module: object, name: str, value: object, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    kept()
    monkeypatch.setattr(module, name, value)
    kept()
    assert len(list(folder.iterdir())) == 2


def test_kept_tokens_are_mapped_read_only_and_make_batches(folder: Path):
    examples = Examples.of(Example(str(i), texts, 1.0) for i, texts in enumerate(PAIRS))
    task = Task(name="t", type="binary", inputs="packed", labels=("0", "1"))
    new, old = (Dataset.whole(task, examples, (kept()[0],)) for _ in range(2))
    for array in (old.sequences[0].ids, old.sequences[0].segments):
        assert type(array) is np.ndarray  # np.memmap makes slices ten times slower
        assert not array.flags.writeable
        while isinstance(array.base, np.ndarray):
            array = array.base
        assert isinstance(array, np.memmap)
    rows = np.array([999, 0, 998])
    one, other = (collate([(data, rows)], torch.device("cpu")) for data in (new, old))
    assert other.ids_N.tolist() == [1, 5, 2, 6, 2, 1, 3, 4, 2, 6, 2, 1, 3, 4, 6, 3, 2, 4, 2]
    assert torch.equal(one.segments_N, other.segments_N)
    assert one.layout.offsets == other.layout.offsets == (0, 5, 11, 19)


def flipped(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:20],
        lambda whole: whole[:32],
        lambda whole: whole[:-1],
        lambda whole: whole[:-8],
        lambda whole: whole + bytes(8),
        lambda whole: bytes(len(whole)),
        lambda whole: flipped(whole, 0),
        lambda whole: flipped(whole, 32),
        lambda whole: flipped(whole, 40),
        lambda whole: flipped(whole, len(whole) // 2),
        lambda whole: b"not ours" * 1000,
    ],
)
def test_a_damaged_file_is_replaced(damage, folder: Path, monkeypatch: pytest.MonkeyPatch):
    kept()
    expected = made()
    file = only_file(folder)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    equal(kept(), expected)
    assert only_file(folder).read_bytes() == whole
    monkeypatch.setattr("mtbert.data.tokenizer._tokens", never)
    equal(kept(), expected)


def test_a_file_under_the_name_of_another_is_replaced(folder: Path):
    kept()
    first = only_file(folder)
    whole = first.read_bytes()
    other: Texts = [("b a", "c"), *PAIRS[1:]]  # as many texts and tokens
    kept(other)
    (second,) = set(folder.iterdir()) - {first}
    second.rename(first)
    equal(kept(), made())
    assert first.read_bytes() == whole


def test_a_folder_that_cannot_be_created_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "file"))
    equal(kept(), made())


@pytest.mark.parametrize("step", ["TemporaryFile", "mkstemp", "fdopen", "replace"])
def test_a_full_or_forbidden_folder_is_no_error_and_is_left_clean(
    step: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.os if step in ("fdopen", "replace") else cache.tempfile, step, full)
    equal(kept(), made())
    assert list(folder.iterdir()) == []


def test_a_folder_that_can_only_be_read_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    expected = kept()
    monkeypatch.setattr(cache.os, "utime", forbidden)
    monkeypatch.setattr("mtbert.data.tokenizer._tokens", never)
    equal(kept(), expected)


def test_tokens_are_kept_from_1000_texts_on(folder: Path):
    kept(PAIRS[1:])
    assert not folder.exists()
    kept(PAIRS)
    assert only_file(folder).stat().st_mode & 0o077 == 0


def test_two_writers_at_once_and_a_kill_before_the_rename_leave_one_whole_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    expected = made()
    sources: list[str] = []
    replace = os.replace

    def second_in_between(source: str, target: Path) -> None:
        sources.append(source)
        if len(sources) == 1:
            equal(kept(), expected)
        replace(source, target)

    def killed(source: str, target: Path) -> None:
        raise Killed

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Killed):
        kept()
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(os, "replace", second_in_between)
    equal(kept(), expected)
    assert len(set(sources)) == 2
    only_file(folder)
    monkeypatch.setattr("mtbert.data.tokenizer._tokens", never)
    equal(kept(), expected)


def test_a_file_unread_for_30_days_is_removed_when_another_is_written(folder: Path):
    folder.mkdir(parents=True)
    for name, days in (("old.tokens", 31), ("new.tokens", 29), ("not-ours.csv", 99)):
        (folder / name).write_text("")
        os.utime(folder / name, (time.time() - days * DAY,) * 2)
    older = folder.parent / "tokens"
    older.mkdir()
    (older / "older.tokens").write_text("")
    os.utime(older / "older.tokens", (0, 0))
    (folder / "folder.tokens").mkdir()
    os.utime(folder / "folder.tokens", (0, 0))
    kept()
    (written,) = (p.name for p in folder.iterdir() if len(p.stem) == 64)
    assert {p.name for p in folder.iterdir()} == {written, "new.tokens", "not-ours.csv", "folder.tokens"}
    assert list(older.iterdir()) == []


def test_reading_a_file_makes_it_new(folder: Path):
    kept()
    file = only_file(folder)
    os.utime(file, (0, 0))
    kept()
    assert file.stat().st_mtime > time.time() - DAY
    kept(PAIRS[::-1])
    assert file.exists()


@pytest.mark.parametrize(
    ("set_", "expected"),
    [
        ({"MTBERT_CACHE": "a", "XDG_CACHE_HOME": "b"}, "a/data"),
        ({"MTBERT_CACHE": "~/a"}, "home/a/data"),
        ({"MTBERT_CACHE": "", "XDG_CACHE_HOME": "b"}, "b/mtbert/data"),
        ({"XDG_CACHE_HOME": ""}, "home/.cache/mtbert/data"),
        ({}, "home/.cache/mtbert/data"),
    ],
)
def test_the_cache_is_a_folder_of_the_user(
    set_: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("MTBERT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": str(tmp_path / "home")} | set_).items():
        monkeypatch.setenv(name, value)
    kept()
    assert only_file(tmp_path / expected).suffix == ".tokens"


def test_tokens_of_a_recipe_are_kept_and_those_of_a_prediction_are_not(folder: Path):
    task = Task(name="t", type="binary", inputs="separate", labels=("0", "1"))
    examples = Examples.of(Example(str(i), texts, None) for i, texts in enumerate(PAIRS))
    prepare.tokenize(task, examples, TOKENIZER, 8)
    assert not folder.exists()
    settings = {
        "data": {"root": "."},
        "model": {"path": "unused"},
        "tasks": {
            "sts": {
                "type": "regression",
                "inputs": "separate",
                "train": {"generated": "sts", "split": "train"},
                "dev": {"generated": "sts", "split": "dev"},
                "columns": {"text": ["sentence1", "sentence2"]},
            }
        },
    }
    made = [prepare.prepare(validate_recipe(settings, "toy"), TOKENIZER)["sts"] for _ in range(2)]
    assert len(list(folder.iterdir())) == 2  # one for each text of the 1,600 train rows, none for the 300 of dev
    assert len(made[0].train) == 1600
    for one, other in zip(made[0].train.sequences, made[1].train.sequences, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        assert not other.ids.flags.writeable
