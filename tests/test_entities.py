"""Entities and their metrics: the numbers that seqeval 1.2.2 printed for random tags, literals, and slow references."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtbert.answers.entities import begin_with_b, by_entity, confusion, entities, is_bio, scheme
from mtbert.metrics import baseline, value
from mtbert.ragged import Ragged
from mtbert.task import Task

# Texts of 1 to 9 random tags, many of which begin an entity with I; "entities" are those of the predictions, with
# places that count a separator between texts.
CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("seqeval_cases.json").read_text())
PLAIN = Task(name="pos", type="tokens", inputs="single", labels=("DET", "NOUN", "VERB"))


def task_of(*tags: str) -> Task:
    types = sorted({tag[2:] for tag in tags if tag != "O"})
    return Task(name="t", type="tokens", inputs="single", labels=("O", *(f"{s}-{t}" for t in types for s in "BI")))


def tagged(task: Task, *texts: str) -> Ragged:
    return Ragged.of([[float((task.labels or ()).index(tag)) for tag in text.split()] for text in texts])


def both(true: list[str], said: list[str]) -> tuple[Task, np.ndarray, Ragged]:
    task = task_of(*" ".join(true + said).split())
    return task, tagged(task, *said).values.astype(np.int64), tagged(task, *true)


@pytest.mark.parametrize("case", CASES)
def test_precision_recall_f1_and_accuracy_are_those_of_seqeval(case: dict[str, Any]):
    task, said, true = both(case["true"], case["pred"])
    for name in ("precision", "recall", "f1", "accuracy"):
        assert value(task, name, said, true) == pytest.approx(case[name], abs=1e-12)
    found = {c.label: [c.precision, c.recall, c.f1, c.examples] for c in by_entity(task, said, true)}
    for name, numbers in case["by"].items():
        assert found[name] == pytest.approx(numbers, abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_entities_are_those_of_seqeval(case: dict[str, Any]):
    task, said, true = both(case["true"], case["pred"])
    known = scheme(task.labels or ())
    found = entities(said, true.offsets, known)
    before = true.owners  # seqeval counts a separator after each text
    listed = [
        [known.types[kind], int(first + before[first]), int(stop - 1 + before[first])]
        for first, stop, kind in zip(found.first, found.stop, found.type, strict=True)
    ]
    assert listed == case["entities"]


def test_an_entity_ends_with_its_text_at_b_and_at_another_type():
    task, said, _ = both([""], ["B-x I-x", "I-x I-y B-y I-y", "", "O I-y I-y O"])
    offsets = tagged(task, "B-x I-x", "I-x I-y B-y I-y", "", "O I-y I-y O").offsets
    found = entities(said, offsets, scheme(task.labels or ()))
    assert found.first.tolist() == [0, 2, 3, 4, 7]
    assert found.stop.tolist() == [2, 3, 4, 6, 9]
    assert found.type.tolist() == [0, 0, 1, 1, 1]


def test_a_type_without_answers_has_shares_of_0_and_so_has_an_empty_text():
    task, said, true = both(["B-x O", "O"], ["O O", "O"])
    assert [value(task, name, said, true) for name in ("precision", "recall", "f1", "accuracy")] == [0, 0, 0, 2 / 3]


def test_a_word_without_an_answer_is_outside_and_a_wrong_plain_tag():
    task, _, true = both(["B-x I-x O"], ["O"])
    said = np.array([1, -1, -1])
    assert value(task, "accuracy", said, true) == 2 / 3
    assert value(task, "f1", said, true) == 0
    tags = tagged(PLAIN, "DET NOUN VERB")
    assert value(PLAIN, "accuracy", np.array([0, -1, 2]), tags) == 2 / 3
    assert value(PLAIN, "precision", np.array([0, -1, 2]), tags) == 1
    assert value(PLAIN, "f1", np.array([0, -1, 2]), tags) == pytest.approx(4 / 5)


def test_with_plain_tags_f1_is_accuracy():
    said, true = np.array([0, 0, 2, 1]), tagged(PLAIN, "DET NOUN", "VERB NOUN")
    assert value(PLAIN, "f1", said, true) == value(PLAIN, "accuracy", said, true) == 0.75


def test_confusion_counts_entities_of_the_same_words_and_those_that_one_side_alone_has():
    task, said, true = both(["B-x I-x O B-y B-x"], ["B-y I-y B-x O B-x"])
    assert confusion(task, said, true) == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert confusion(PLAIN, np.array([0, -1, 1]), tagged(PLAIN, "DET VERB VERB")) == [
        [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]
    ]  # fmt: skip


def test_the_best_constant_is_the_best_tag_for_all_words():
    # B-x everywhere has 4 answers for 3 entities, of which 2 are right; I-x everywhere makes each text one entity.
    task, _, true = both(["B-x B-x O", "B-y"], ["O"])
    assert baseline(task, "f1", true) == pytest.approx(2 * 2 / (4 + 3))
    assert baseline(task, "precision", true) == 0.5
    assert baseline(task, "recall", true) == pytest.approx(2 / 3)
    assert baseline(task, "accuracy", true) == 0.5
    whole, _, one = both(["B-x I-x I-x"], ["O"])
    assert baseline(whole, "f1", one) == 1.0  # I-x


@pytest.mark.parametrize("name", ["f1", "precision", "recall", "accuracy"])
def test_a_resample_of_texts_scores_as_the_texts_that_were_drawn(name: str):
    chosen = CASES[7]
    task, first, true = both(chosen["true"], chosen["pred"])
    second = np.roll(first, 1)
    draws = np.random.default_rng(0).integers(len(true), size=(9, len(true)))
    counts_RB = np.stack([np.bincount(row, minlength=len(true)) for row in draws]).astype(float)
    resampled = task.metric_named(name).resampled
    assert resampled is not None
    found_RS = resampled(task, np.stack([first, second]), true, counts_RB)
    for row, found_S in zip(draws, found_RS, strict=True):
        for said, found in zip((first, second), found_S, strict=True):
            drawn = true.with_values(said)[row]
            assert found == pytest.approx(value(task, name, drawn.values, true[row]))


def test_repair_puts_b_where_an_entity_begins_and_makes_bio_of_iob1():
    task = task_of("B-x", "B-y")
    given = tagged(task, "I-x I-x O I-y B-y I-x", "I-y I-x I-x")
    fixed, wrong = begin_with_b(given.values.astype(np.int64), given.offsets, scheme(task.labels or ()))
    names = [(task.labels or ())[tag] for tag in fixed]
    assert names == ["B-x", "I-x", "O", "B-y", "B-y", "B-x", "B-y", "B-x", "I-x"]
    assert np.flatnonzero(wrong).tolist() == [0, 3, 5, 6, 7]


def test_tags_are_bio_only_if_all_of_them_are():
    assert is_bio(["O", "B-x"])
    assert is_bio(["I-a-b"])
    assert not is_bio(["O"])
    assert not is_bio(["B-x", "DET"])
    assert not is_bio(["B-", "O"])
