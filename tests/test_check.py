"""The data check: each figure against a literal, each warning when it is due and only then."""

import io
from dataclasses import replace

import numpy as np
from rich.console import Console

from mtbert.batch import Dataset, Example, Sequences
from mtbert.data.check import Overlap, TaskData, measure, report, shared, warnings
from mtbert.task import Task

SCORES = Task(name="sim", type="regression", inputs="packed", range=(0.0, 5.0))
GRADES = Task(name="mood", type="ordinal", inputs="single", labels=("bad", "so [b]so[/b]", "good"))


def rows(*texts_and_labels: tuple[object, ...]) -> list[Example]:
    return [
        Example(str(i), tuple(map(str, each[:-1])), float(str(each[-1]))) for i, each in enumerate(texts_and_labels)
    ]


def dataset(task: Task, examples: list[Example], lengths: list[int] | None = None, cut: int = 0) -> Dataset:
    offsets = np.concatenate([[0], np.cumsum(lengths or [3] * len(examples))])
    nothing = np.zeros(offsets[-1], np.int32)
    return Dataset(task, examples, (Sequences(nothing, nothing, offsets),), cut)


def mood(train: list[Example], dev: list[Example]) -> TaskData:
    return TaskData(GRADES, dataset(GRADES, train), dataset(GRADES, dev), 8, 2.5)


def shown(*tasks: TaskData) -> tuple[list[str], str]:
    out = io.StringIO()
    found = report(tasks, 64, Console(file=out, width=80))
    return found, out.getvalue()


CLEAN = mood(rows(("a", 0), ("b", 1), ("c", 2), ("d", 2)), rows(("e", 0), ("f", 1), ("g", 2)))


def test_shared_counts_pairs_in_any_order_and_case_and_single_texts():
    a = rows(("a", "b", 1), ("c", "d", 1), ("x", "x", 0))
    b = rows(("B ", "A", 0), ("c", "e", 1), ("e", "f", 1), ("x", "y", 1), ("C", "d", 1), ("c", "d", 0))
    assert shared(a, b) == Overlap(examples=3, texts=5)
    assert shared(b, a) == Overlap(examples=2, texts=3)


def test_shared_counts_a_repeated_text_as_a_pair_of_its_own():
    assert shared(rows(("x", "x", 1)), rows(("x", 1))) == Overlap(examples=0, texts=1)


def test_lengths_are_percentiles_that_occur():
    lengths = [*range(1, 100), 500]
    many = dataset(GRADES, rows(*((f"t{i}", i % 3) for i in range(100))), lengths, cut=7)
    found = measure(TaskData(GRADES, many, many, 8, 1.0))
    assert found.train.tokens == (51, 91, 500, 500)
    assert found.train.cut == 7


def test_both_sequences_of_a_separate_pair_are_counted():
    task = SCORES.model_copy(update={"inputs": "separate"})
    one = dataset(task, rows(("a", "b", 1)), [4])
    pair = Dataset(task, one.examples, one.sequences * 2, 0)
    assert measure(TaskData(task, pair, pair, 8, 1.0)).dev.tokens == (8, 8, 8, 8)


def test_classes_are_counted_in_their_order_also_absent_ones():
    found = measure(mood(rows(("a", 2), ("b", 0), ("c", 2)), rows(("d", 0))))
    assert found.train.labels == (("bad", 1), ("so [b]so[/b]", 0), ("good", 2))
    assert found.dev.labels == (("bad", 1), ("so [b]so[/b]", 0), ("good", 0))
    assert warnings(found, 64) == [
        "mood, train: no example of class 'so [b]so[/b]'.",
        "mood, dev: no example of class 'so [b]so[/b]'.",
        "mood, dev: no example of class 'good'.",
    ]


def test_scores_are_a_histogram_over_the_range_of_the_task():
    data = dataset(SCORES, rows(("a", "b", 0), ("c", "d", 0.49), ("e", "f", 0.5), ("g", "h", 3)))
    part = measure(TaskData(SCORES, data, data, 8, 1.0)).train
    assert part.labels[:2] == (("0 to 0.5", 2), ("0.5 to 1", 1))
    assert part.labels[9] == ("4.5 to 5", 0)
    assert sum(count for _, count in part.labels) == 4
    assert part.scores == (0.9975, 0.0, 3.0)


def test_repeated_examples_are_counted_in_the_same_order_only_and_conflicts_once():
    train = rows(("a", "b", 1), ("b", "a", 2), ("A", "b", 1), ("c", "d", 0), ("c", "d", 4), ("c", "D", 4))
    data = TaskData(SCORES, dataset(SCORES, train), dataset(SCORES, rows(("e", "f", 0))), 8, 1.0)
    part = measure(data).train
    assert (part.repeated, part.conflicts) == (3, 1)
    said = "sim, train: 1 repeated with different labels, of which one is right at most."
    assert warnings(measure(data), 64) == [said]


def test_what_dev_shares_with_train_is_warned_of():
    train = rows(("a", "b", 1), ("c", "d", 1), ("c", "i", 2), ("c", "j", 2))
    dev = rows(("b", "a", 0), ("c", "e", 1), ("e", "f", 1), ("g", "h", 1))
    found = measure(TaskData(SCORES, dataset(SCORES, train), dataset(SCORES, dev), 8, 1.0))
    assert warnings(found, 64) == [
        "sim, dev: 1 of 4 examples (25.0%) repeat a train example, so dev looks better than it is.",
        "sim, dev: 2 of 4 examples (50.0%) have a text of a train example. A grouped split keeps them apart.",
    ]


def test_a_dev_text_that_another_task_trains_on_is_warned_of():
    other = mood(rows(("x", 0), ("y", 1), ("E", 2)), rows(("u", 0), ("v", 1), ("w", 2)))
    named = replace(other, task=GRADES.model_copy(update={"name": "grades"}))
    said, _ = shown(CLEAN, named)
    assert said == [
        "mood, dev: 1 of 3 examples (33.3%) have a text that task grades trains on. Keep such texts out of its train."
    ]


def test_a_single_text_is_warned_of_once():
    found = measure(mood(rows(("a", 0), ("b", 1), ("c", 2)), rows(("A", 0), ("e", 1), ("f", 2))))
    said = "mood, dev: 1 of 3 examples (33.3%) repeat a train example, so dev looks better than it is."
    assert warnings(found, 64) == [said]


def test_cut_examples_are_warned_of_above_one_in_a_hundred():
    examples = rows(*((f"t{i}", i % 3) for i in range(100)))
    dev = dataset(GRADES, rows(("x", 0), ("y", 1), ("z", 2)))
    few, more = (TaskData(GRADES, dataset(GRADES, examples, cut=cut), dev, 8, 1.0) for cut in (1, 2))
    assert warnings(measure(few), 64) == []
    assert warnings(measure(more), 64) == ["mood, train: 2 of 100 examples (2.0%) are cut to 64 tokens."]


def test_the_warnings_of_reading_come_first():
    data = TaskData(GRADES, CLEAN.train, dataset(GRADES, rows(("x", 0), ("y", 1))), 8, 1.0, ("m.csv: dropped 1 row.",))
    found, text = shown(data, CLEAN)
    assert found == ["m.csv: dropped 1 row.", "mood, dev: no example of class 'good'."]
    assert "warning  m.csv: dropped 1 row." in text


def test_a_report_fits_80_columns_and_shows_names_as_they_are():
    found, text = shown(CLEAN)
    assert found == []
    lines = [line.split() for line in text.splitlines()]
    assert all(len(line) <= 80 for line in text.splitlines())
    assert ["examples", "4", "3"] in lines
    assert ["passes,", "8", "at", "a", "time", "2.50"] in lines
    assert ["so", "[b]so[/b]", "1", "25.0%", "█████", "1", "33.3%", "███████"] in lines
    assert text.endswith("Nothing to warn about.\n")


def test_many_classes_with_long_names_still_fit():
    task = Task(name="topic", type="classification", inputs="single", labels=tuple(f"{'x' * 90}{i}" for i in range(30)))
    train = dataset(task, rows(*((f"t{i}", i % 30) for i in range(3000)), ("last", 29)))
    dev = dataset(task, rows(*((f"d{i}", i) for i in range(30))))
    found, text = shown(TaskData(task, train, dev, 8, 1.0))
    assert found == []
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "10 smaller ones" in text
    first = next(line for line in text.splitlines() if "xxx" in line)
    assert first.split()[0] == "x" * 19 + "…"
    assert "101" in first  # the largest class, though the last by name
