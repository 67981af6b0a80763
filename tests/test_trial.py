"""Foreign tokenizers: each fault is found when a model is loaded, or at the first text that shows it."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from foreign import NO_FILES, refused, replace_by

from mtbert.data import trial
from mtbert.data.tokenizer import load_tokenizer, sequences

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "q", "##q"]
FETCH = "Fetch the model again."


def chain(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def template(*single: object, pair: tuple[object, ...] = (), ids: tuple[int, ...] = (2,)) -> dict[str, Any]:
    special = {"c": {"id": "c", "ids": list(ids), "tokens": ["[CLS]"] * len(ids)}}
    return {"type": "TemplateProcessing", "single": list(single), "pair": list(pair), "special_tokens": special}


CLS, A, B = (
    {"SpecialToken": {"id": "c", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
    {"Sequence": {"id": "B", "type_id": 1}},
)
PLAIN = {"type": "WordLevel", "vocab": {"the": 0}, "unk_token": "[UNK]"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a valid tokenizer.json, made from a vocabulary."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    load_tokenizer(tmp_path).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "vocab.txt").unlink()
    return tmp_path


def change(folder: Path, **parts: object) -> Path:
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))
    return file


FAULTS = {
    "an empty vocabulary": (
        {"model": PLAIN | {"vocab": {}}, "added_tokens": []},
        "fails on a short text (WordLevel error: Missing [UNK]",
    ),
    "no unknown token": ({"model": PLAIN, "added_tokens": []}, "fails on a short text (WordLevel error: Missing [UNK]"),
    "no unknown piece": (
        {"model": {"type": "Unigram", "unk_id": None, "vocab": [["t", -1.0]], "byte_fallback": False}},
        "fails on a short text (",
    ),
    "an id beyond the vocabulary": (
        {"post_processor": template(CLS, A, pair=(CLS, A, B), ids=(4_000_000_000,))},
        "gives the id 4000000000, but its vocabulary ends at 8.",
    ),
    "an id beyond the vocabulary for pairs": (
        {"post_processor": template(A, pair=(CLS, A, B), ids=(9,))},
        "gives the id 9, but its vocabulary ends at 8.",
    ),
    "a segment beyond all": (
        {"post_processor": template(CLS, {"Sequence": {"id": "A", "type_id": 4_000_000_000}}, pair=(CLS, A, B))},
        "gives the segment 4000000000, but a text has two at most.",
    ),
    "an empty template": ({"post_processor": template()}, "gives no token for a text, but 0 tokens of its own."),
    "a template without the text": (
        {"post_processor": template(CLS, pair=(CLS, A, B))},
        "gives no token for a text, but 1 token of its own.",
    ),
    "a template without the second text": (
        {"post_processor": template(CLS, A, pair=(CLS, A))},
        "gives no token for one of the two texts of a pair, but ",
    ),
    "a template that repeats the text": (
        {"post_processor": template(*[A] * 1000, pair=(CLS, A, B))},
        "makes 28,000 tokens of 87 characters.",
    ),
    "a template without end": (
        {"post_processor": template(*[A] * 100_000, pair=(CLS, A, B))},
        "has a post_processor of 3,600,",
    ),
    "an unknown special token": (
        {"post_processor": template({"SpecialToken": {"id": "x", "type_id": 0}}, A, pair=(CLS, A, B))},
        "fails on a short text (no entry found for key).",
    ),
    "a text that doubles": (
        {"normalizer": chain(*[replace("a", "aa")] * 40)},
        "makes more than 100 characters per character of 'a'.",
    ),
    "a rare sign that doubles": (
        {"normalizer": chain(*[replace("☃", "☃☃")] * 40)},
        "makes more than 100 characters per character of '☃'.",
    ),
    "an expression that doubles": (
        {"normalizer": chain(*[replace("(?=☃)", "☃", "Regex")] * 40)},
        "makes more than 100 characters per character of '(?=☃)'.",
    ),
    "a prefix again and again": (
        {"normalizer": chain(*[{"type": "Prepend", "prepend": "x" * 300}] * 2)},
        "makes more than 100 characters per character of 'a'.",
    ),
    "bytes of bytes": (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}] * 40}},
        "makes more than 100 characters per character of ",
    ),
    "a long content": (
        {"normalizer": replace("a", "b" * 10**6)},
        "has a step before the tokens of 1,000,0",
    ),
    "many steps": (
        {"normalizer": chain(*[replace("x", "y")] * 300)},
        "has 300 steps before the tokens, but at most 256 are run.",
    ),
    "an expression that backtracks": (
        {"normalizer": replace("(a+)+$", "b", "Regex")},
        "fails on a short text (Onig: Regex search error: retry-limit-in-match over).",
    ),
    "an expression that backtracks at a split": (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        "fails on a short text (Onig: Regex search error: retry-limit-in-match over).",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_when_the_tokenizer_is_loaded(fault: str, folder: Path, capfd: pytest.CaptureFixture[str]):
    parts, said = FAULTS[fault]
    file = change(folder, **parts)
    start = time.monotonic()
    refused(ValueError, folder, f"{file}: this tokenizer {said}", FETCH, load=load_tokenizer)
    assert time.monotonic() - start < 5
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "Precompiled: Error("),
        ({"normalizer": replace("(", "b", "Regex")}, "Oniguruma error"),
        ({"model": 3}, "not a tokenizer ("),
        ({"added_tokens": [{"id": 10**12}]}, "not a tokenizer ("),
    ],
)
def test_a_file_that_is_not_a_tokenizer_is_refused(
    parts: dict[str, Any], said: str, folder: Path, capfd: pytest.CaptureFixture[str]
):
    file = change(folder, **parts)
    refused(ValueError, folder, f"{file}: not a tokenizer (", said, FETCH, load=load_tokenizer)
    assert capfd.readouterr().err == ""


def test_a_file_nested_too_deep_is_refused(folder: Path):
    (folder / "tokenizer.json").write_text('{"model":' * 100_000)
    refused(ValueError, folder, "tokenizer.json: not a tokenizer (", "recursion limit exceeded", load=load_tokenizer)


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json"])
def test_tokenizer_files_that_are_not_regular_files_are_refused(name: str, kind: str, folder: Path):
    (folder / "tokenizer.json").unlink()
    if name == "tokenizer_config.json":
        (folder / "vocab.txt").write_text("\n".join(WORDS))
    if name in ("vocab.json", "merges.txt"):
        (folder / "vocab.json").write_text("{}")
        (folder / "merges.txt").write_text("")
    replace_by(folder / name, kind)
    refused(ValueError, folder, f"{folder / name}: {kind}, not a file. {FETCH}", load=load_tokenizer)


def test_a_vocabulary_is_read_up_to_a_size(folder: Path):
    os.truncate(folder / "tokenizer.json", 9 * 10**9)
    refused(ValueError, folder, "tokenizer.json: has 9,000,000,000 bytes, but at most 134,217,728", load=load_tokenizer)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").touch()
    os.truncate(folder / "vocab.txt", 40 * 10**6)
    refused(ValueError, folder, "vocab.txt: has 40,000,000 bytes, but at most 33,554,432", FETCH, load=load_tokenizer)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deep"),
        ("[]", "must be a mapping, found []."),
        ('{"do_lower_case": "no"}', "do_lower_case must be true or false, found 'no'."),
        ('{"do_lower_case": null}', "do_lower_case must be true or false, found None."),
        ('{"strip_accents": 1}', "strip_accents must be true or false, found 1."),
        ('{"tokenize_chinese_chars": [1e300]}', "tokenize_chinese_chars must be true or false, found [1e+300]."),
        ('{"add_prefix_space": "\\u001b[2J"}', r"add_prefix_space must be true or false, found '\x1b[2J'."),
    ],
)
def test_options_of_a_wrong_type_are_refused(text: str, said: str, folder: Path):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text(text)
    refused(ValueError, folder, f"{folder}/tokenizer_config.json: ", said, FETCH, load=load_tokenizer)


def test_options_may_have_other_keys_and_strip_accents_may_be_null(folder: Path):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text('{"strip_accents": null, "model_max_length": 1e30, "x": [1]}')
    assert load_tokenizer(folder).encode("THE cat").ids == [2, 5, 6, 3]


# Later texts ---------------------------------------------------------------------------------------


def test_a_text_without_a_token_is_named(folder: Path):
    file = change(folder, post_processor=None)
    tokenizer = load_tokenizer(folder)
    with pytest.raises(ValueError, match="must give 1 to 9 tokens, but gives 0 for ") as error:
        sequences(tokenizer, [("the cat",), ("\u200b",)], 9, segments=True)
    assert str(error.value).startswith(f"{file}: ")
    assert r"gives 0 for '\u200b'." in str(error.value)
    assert tokenizer.truncation is None


def test_a_text_with_more_tokens_than_fit_is_named(folder: Path):
    change(folder, post_processor=template(CLS, A, A, pair=(CLS, A, B)))
    with pytest.raises(ValueError, match=r"tokenizer\.json: .* must give 1 to 4 tokens, but gives 7 for 'the the the'"):
        sequences(load_tokenizer(folder), [("the the the",)], 4, segments=True)


def test_an_expression_that_fails_only_on_some_texts_is_named_when_it_fails(folder: Path):
    file = change(folder, normalizer=replace("(ж+)+$", "b", "Regex"))
    tokenizer = load_tokenizer(folder)
    with pytest.raises(ValueError, match=r"fails on a text \(Onig: Regex search error") as error:
        sequences(tokenizer, [("ж" * 40 + "!",)], 9, segments=True)
    assert str(error.value).startswith(f"{file}: this tokenizer ")
    assert tokenizer.truncation is None


def test_a_panic_does_not_hide_a_request_of_the_user_to_stop():
    with pytest.raises(KeyboardInterrupt):
        trial.cause(KeyboardInterrupt())


def test_standard_error_is_back_after_a_trial(capfd: pytest.CaptureFixture[str]):
    with trial.muted():
        os.write(2, b"hidden\n")
    with pytest.raises(ZeroDivisionError), trial.muted():
        _ = 1 / 0
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_standard_error_is_back_after_two_trials_at_once(capfd: pytest.CaptureFixture[str]):
    first_left, second_entered = threading.Event(), threading.Event()

    def second() -> None:
        with trial.muted():
            second_entered.set()
            first_left.wait(5)

    thread = threading.Thread(target=second)
    with trial.muted():
        thread.start()
        second_entered.wait(0.2)  # times out, because the second must wait for the first
    first_left.set()
    thread.join()
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_a_trial_needs_no_standard_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", None)  # as in a process that started with it closed
    with trial.muted():
        ran = True
    assert ran
