"""Using a model from Python: which values count as texts, what is refused, and the repr of a predictor."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import model
from tokenizers import Tokenizer, models, pre_tokenizers

import mtbert
from mtbert.task import Task
from mtbert.use.predictor import Predictor

ONE = Task(name="one", type="ordinal", inputs="single", labels=("bad", "so so", "good"))
PAIR = Task(name="pair", type="regression", inputs="separate", range=(1, 5))
TEXTS = ["the first", "a second text", "third"]
PAIRS = [("a", "b c"), ("d e f", "g")]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *" ".join([*TEXTS, "b c d e f g terrible"]).split()]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return Predictor(model(ONE, PAIR), tokenizer)


def texts_of(data: Any) -> list[tuple[str, ...]]:
    return [example.texts for example in data.examples]


def test_a_bare_string_is_one_text(predictor):
    assert texts_of(predictor.read("one", " terrible ")) == [(" terrible ",)]
    (answer,) = predictor.predict("one", "terrible")
    assert answer == predictor.predict("one", ["terrible"])[0]
    assert predictor.vectors("one", "terrible").shape == (1, 8)


def test_a_tuple_of_two_strings_is_one_pair_and_only_for_a_task_of_pairs(predictor):
    assert texts_of(predictor.read("pair", ("a", "b c"))) == [("a", "b c")]
    assert texts_of(predictor.read("one", ("a", "b c"))) == [("a",), ("b c",)]
    assert predictor.vectors("pair", ("a", "b c")).shape == (1, 2, 8)
    assert predictor.predict("pair", ("a", "b c")) == predictor.predict("pair", [("a", "b c")])


def frame(column: str) -> pd.Series:
    return pd.DataFrame({"text": TEXTS}, index=[7, 5, 3])[column]


@pytest.mark.parametrize(
    "given",
    [
        lambda: TEXTS,
        lambda: tuple(TEXTS),
        lambda: (text for text in TEXTS),
        lambda: np.array(TEXTS),
        lambda: np.array(TEXTS, dtype=object),
        lambda: frame("text"),
        lambda: dict.fromkeys(TEXTS).keys().__iter__(),
        lambda: [[text] for text in TEXTS],
    ],
    ids=["list", "tuple", "generator", "array", "array of objects", "column", "iterator", "lists of one"],
)
def test_any_sequence_of_texts_is_read_in_its_order(predictor, given: Callable[[], Any]):
    found = predictor.read("one", given())
    assert texts_of(found) == [(text,) for text in TEXTS]
    assert [type(e.texts[0]) for e in found.examples] == [str] * 3


def rows() -> Iterator[tuple[str, str]]:
    yield from PAIRS


@pytest.mark.parametrize(
    "given",
    [
        lambda: PAIRS,
        lambda: [list(p) for p in PAIRS],
        rows,
        lambda: np.array(PAIRS),
        lambda: zip(*zip(*PAIRS, strict=True), strict=True),
    ],
    ids=["tuples", "lists", "generator", "array", "zip"],
)
def test_any_sequence_of_pairs_is_read_in_its_order(predictor, given: Callable[[], Any]):
    assert texts_of(predictor.read("pair", given())) == PAIRS


@pytest.mark.parametrize("nothing", [[], (), np.array([]), iter(())], ids=["list", "tuple", "array", "iterator"])
def test_no_texts_give_no_answers(predictor, nothing):
    assert predictor.predict("one", nothing) == []
    assert predictor.vectors("one", []).shape == (0, 8)
    assert predictor.vectors("pair", []).shape == (0, 2, 8)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "texts must be a sequence, found NoneType. Give a list of texts."),
        (3, "texts must be a sequence, found int."),
        (b"terrible", "texts must be a sequence, found bytes."),
        ({"text": "terrible"}, "texts must be a sequence, found dict."),
        ({"terrible"}, "texts must be a sequence, found set."),
        (np.array("terrible"), "texts must be a sequence, found ndarray."),
        (pd.DataFrame({"text": TEXTS}), 'texts must not be a whole DataFrame. Give its column, as frame["text"].'),
    ],
    ids=["none", "number", "bytes", "mapping", "set", "array of no dimension", "frame"],
)
def test_anything_but_a_sequence_of_texts_is_a_type_error(predictor, given, said):
    for ask in (predictor.predict, predictor.vectors):
        with pytest.raises(TypeError, match=re.escape(f"task one: {said}")):
            ask("one", given)


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        ("one", ["a", None], "task one, text 2: must be text, found None."),
        ("one", ["a", float("nan")], "task one, text 2: must be text, found nan."),
        ("one", [b"a"], "task one, text 1: must be text, found b'a'."),
        ("one", [{"text": "a"}], "task one, text 1: must be text, found {'text': 'a'}."),
        ("one", [("a", "b")], "task one, text 1: takes 1 text, found 2: ('a', 'b')."),
        ("one", ["a", " \n"], "task one, text 2: must be UTF-8 text and not empty, found ' \\n'."),
        ("one", ["\ud83d"], "task one, text 1: must be UTF-8 text and not empty, found '\\ud83d'."),
        ("one", ["\x1b[2J" * 50 + "\ud83d"], "found '" + "\\x1b[2J" * 10 + "..."),
        ("pair", "terrible", "task pair, text 1: takes 2 texts, found 1: 'terrible'."),
        ("pair", ["a", "b"], "task pair, text 1: takes 2 texts, found 1: 'a'."),
        ("pair", [("a", None)], "task pair, text 1: must be UTF-8 text and not empty, found ('a', None)."),
        ("pair", [("a", "b"), None], "task pair, text 2: must be a pair of texts, found None."),
        ("\x1b[2J", ["a"], "task \\x1b[2J: this model has no such task. Use one or pair."),
    ],
)  # fmt: skip
def test_an_item_that_is_not_a_text_is_named_by_its_place(predictor, task, given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        predictor.predict(task, given)


def test_a_predictor_says_in_five_lines_what_it_is(predictor, tmp_path):
    said = repr(dataclasses.replace(predictor, folder=tmp_path / "best", step=1200))
    size = sum(p.numel() for p in predictor.model.encoder.parameters())
    assert said.splitlines() == [
        f"mtbert predictor of {tmp_path / 'best'}, step 1,200",
        "  tasks      one (ordinal, single), pair (regression, separate)",
        f"  encoder    bert, 1 layers, width 8, {size:,} parameters",
        "  device     cpu",
        "  precision  float32",
    ]
    assert repr(predictor).splitlines()[0] == "mtbert predictor of a model in memory"


def test_a_loaded_predictor_knows_its_folder_and_its_step(toy):
    loaded = mtbert.load(toy / "run")
    assert (loaded.folder, loaded.step) == (toy / "run/best", 2)
    assert mtbert.load(toy / "run/last").folder == toy / "run/last"


def test_answers_that_are_not_finite_are_an_error(predictor):
    broken = Predictor(model(ONE, seed=1), predictor.tokenizer)
    with torch.no_grad():
        list(broken.model.head("one").parameters())[-1].fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"^task one: 1 of 1 answers are not finite \(first: id '0'\)"):
        broken.predict("one", "terrible")


def test_the_version_is_that_of_the_installed_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", mtbert.__version__)
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        mtbert.laod  # noqa: B018 - asked for to fail
