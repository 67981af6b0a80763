"""The data check: each number against a literal, and each warning exactly when it is due."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tokenizers import Tokenizer, models
from toy_run import encoder_folder

from mtbert import messages
from mtbert.answers.class_labels import sets
from mtbert.batch import Dataset, Example, Examples, Sequences
from mtbert.data.check import report_on_data, warnings
from mtbert.data.measure import Overlap, TaskData, Tokens, count_tokens, measure, shared, unknown_id
from mtbert.data.tokenizer import load_tokenizer
from mtbert.prepare import tokenize
from mtbert.task import Task

SCORES = Task(name="sim", type="regression", inputs="packed", range=(0.0, 5.0))
GRADES = Task(name="mood", type="ordinal", inputs="single", labels=("bad", "so [b]so[/b]", "good"))


def rows(*texts_and_labels: tuple[object, ...]) -> list[Example]:
    return [
        Example(str(i), tuple(map(str, each[:-1])), float(str(each[-1]))) for i, each in enumerate(texts_and_labels)
    ]


def overlap(a: list[Example], b: list[Example]) -> Overlap:
    return shared(Examples.of(a), Examples.of(b))


def dataset(task: Task, examples: list[Example], lengths: list[int] | None = None, cut: int = 0) -> Dataset:
    offsets = np.concatenate([[0], np.cumsum(lengths or [3] * len(examples))])
    nothing = np.zeros(offsets[-1], np.int32)
    return Dataset.whole(task, Examples.of(examples), (Sequences(nothing, nothing, offsets),), np.arange(cut))


def of(task: Task, train: Dataset, dev: Dataset, *read: str, passes: float = 1.0, unknown: int = 0) -> TaskData:
    tokens = Tokens(train.lengths, unknown), Tokens(dev.lengths, 0)
    return TaskData(task, train, dev, 8, passes, tokens, read)


def mood(train: list[Example], dev: list[Example]) -> TaskData:
    return of(GRADES, dataset(GRADES, train), dataset(GRADES, dev), passes=2.5)


def filler(name: str, classes: int = 3, each: int = 5) -> list[Example]:
    """Returns enough examples of every class, with texts that occur nowhere else."""
    return rows(*((f"{name} {i} {k}", k) for i in range(each) for k in range(classes)))


def shown(*tasks: TaskData) -> tuple[list[str], str]:
    out = io.StringIO()
    found = report_on_data(tasks, 64)
    found.show(Console(file=out, width=80))
    return list(found.warnings), out.getvalue()


CLEAN = mood(filler("train") + rows(("d", 2)), filler("dev"))


def test_shared_counts_pairs_in_any_order_and_case_and_single_texts():
    a = rows(("a", "b", 1), ("c", "d", 1), ("x", "x", 0))
    b = rows(("B ", "A", 0), ("c", "e", 1), ("e", "f", 1), ("x", "y", 1), ("C", "d", 1), ("c", "d", 0))
    assert overlap(a, b) == Overlap(examples=3, texts=5)
    assert overlap(b, a) == Overlap(examples=2, texts=3)


def test_shared_counts_a_repeated_text_as_a_pair_of_its_own():
    assert overlap(rows(("x", "x", 1)), rows(("x", 1))) == Overlap(examples=0, texts=1)


def test_lengths_are_percentiles_that_occur():
    lengths = [*range(1, 100), 500]
    many = dataset(GRADES, rows(*((f"t{i}", i % 3) for i in range(100))), lengths, cut=7)
    found = measure(of(GRADES, many, many))
    assert found.train.tokens == (51, 91, 500, 500)
    assert found.train.cut == 7


def test_both_sequences_of_a_separate_pair_are_counted():
    task = SCORES.model_copy(update={"inputs": "separate"})
    one = dataset(task, rows(("a", "b", 1)), [4])
    pair = Dataset.whole(task, one.examples, one.sequences * 2)
    assert measure(of(task, pair, pair)).dev.tokens == (8, 8, 8, 8)


def test_classes_are_counted_in_order_and_absent_ones_too():
    found = measure(mood(rows(("a", 2), ("b", 0), ("c", 2)), rows(("d", 0))))
    assert found.train.labels.counts == (("bad", 1), ("so [b]so[/b]", 0), ("good", 2))
    assert found.dev.labels.counts == (("bad", 1), ("so [b]so[/b]", 0), ("good", 0))
    assert warnings(found, 64) == [
        "mood, train: no example of class 'so [b]so[/b]'.",
        "mood, train: few examples of 'bad' (1), 'good' (2): too few to learn from.",
        "mood, dev: no example of 2 classes: 'so [b]so[/b]', 'good'.",
        "mood, dev: few examples of 'bad' (1): too few to score.",
    ]


def test_scores_are_a_histogram_over_the_range_of_the_task():
    data = dataset(SCORES, rows(("a", "b", 0), ("c", "d", 0.49), ("e", "f", 0.5), ("g", "h", 3)))
    part = measure(of(SCORES, data, data)).train
    assert part.labels.counts[:2] == (("0 to 0.5", 2), ("0.5 to 1", 1))
    assert part.labels.counts[9] == ("4.5 to 5", 0)
    assert sum(count for _, count in part.labels.counts) == 4
    assert part.labels.numbers == (("mean", 0.9975), ("lowest", 0.0), ("highest", 3.0))


def test_repeated_examples_are_counted_in_the_same_order_only_and_conflicts_once():
    train = rows(("a", "b", 1), ("b", "a", 2), ("A", "b", 1), ("c", "d", 0), ("c", "d", 4), ("c", "D", 4))
    data = of(SCORES, dataset(SCORES, train), dataset(SCORES, rows(("e", "f", 0))))
    part = measure(data).train
    assert (part.repeated, part.conflicts.number) == (3, 1)
    (said,) = warnings(measure(data), 64)
    assert said.startswith("sim, train: 1 pair of texts has different labels in different rows, so no answer is")
    assert "rows 3 and 4, with labels 0.0 and 4.0, have 'c' and 'd'." in said


def test_texts_shared_by_dev_and_train_cause_a_warning():
    train = rows(("a", "b", 1), ("c", "d", 1), ("c", "i", 2), ("c", "j", 2))
    dev = rows(("b", "a", 0), ("c", "e", 1), ("e", "f", 1), ("g", "h", 1))
    found = measure(of(SCORES, dataset(SCORES, train), dataset(SCORES, dev)))
    assert warnings(found, 64) == [
        "sim, dev: 1 of 4 examples (25.0%) repeat a train example, so dev looks better than it is.",
        "sim, dev: 2 of 4 examples (50.0%) have a text that is in train too, so scores on dev may be too good.",
    ]


def test_a_dev_text_that_another_task_trains_on_causes_a_warning():
    other = mood([*filler("other"), *rows(("Dev 0 0", 2))], filler("more"))
    named = replace(other, task=GRADES.model_copy(update={"name": "grades"}))
    said, _ = shown(CLEAN, named)
    assert said == [
        "mood, dev: 1 of 15 examples (6.7%) have a text that task grades trains on. Keep such texts out of its train."
    ]


def test_a_single_text_causes_one_warning():
    found = measure(mood([*filler("a"), *rows(("x", 0))], [*filler("b"), *rows(("X", 0))]))
    said = "mood, dev: 1 of 16 examples (6.2%) repeat a train example, so dev looks better than it is."
    assert warnings(found, 64) == [said]


def test_more_than_one_cut_example_in_a_hundred_causes_a_warning():
    examples = rows(*((f"t{i}", i % 3) for i in range(100)))
    dev = dataset(GRADES, filler("dev"))
    few, more = (of(GRADES, dataset(GRADES, examples, cut=cut), dev) for cut in (1, 2))
    assert warnings(measure(few), 64) == []
    assert warnings(measure(more), 64) == ["mood, train: 2 of 100 examples (2.0%) are cut to 64 tokens."]


def test_the_warnings_of_reading_come_first():
    dev = [e for e in filler("x") if e.label != 2]
    data = of(GRADES, CLEAN.train, dataset(GRADES, dev), "m\x1b.csv: dropped 1 row.")
    found, text = shown(data, replace(CLEAN, train=dataset(GRADES, filler("y"))))
    assert found == ["m\x1b.csv: dropped 1 row.", "mood, dev: no example of class 'good'."]
    assert "warning: m\\x1b.csv: dropped 1 row.\n" in text


def test_a_report_fits_80_columns_and_shows_names_as_they_are():
    found, text = shown(CLEAN)
    assert found == []
    lines = [line.split() for line in text.splitlines()]
    assert all(len(line) <= 80 for line in text.splitlines())
    assert ["examples", "16", "15"] in lines
    assert ["each", "is", "seen", "in", "training", "2", "times"] in lines
    assert ["batch", "size", "8"] in lines
    _, text = shown(replace(CLEAN, may_end_early=True))
    assert "at most 2 times" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert ["so", "[b]so[/b]", "5", "31.2%", "████████", "5", "33.3%", "█████████"] in lines
    assert text.endswith("Nothing to warn about.\n")


def test_class_names_cannot_move_the_cursor():
    task = GRADES.model_copy(update={"labels": ("a\x1b[2J", "b\rmtbert: all is well", "c\n")})
    data = of(task, dataset(task, rows(("x", 0))), dataset(task, rows(("y", 1))))
    _, text = shown(data)
    assert "\x1b" not in text
    assert "\r" not in text
    assert r"a\x1b[2J" in text
    assert r"mood, train: no example of 2 classes: 'b\rmtbert: all is well', 'c\n'." in text


def test_many_classes_with_long_names_still_fit():
    task = Task(name="topic", type="classification", inputs="single", labels=tuple(f"{'x' * 90}{i}" for i in range(30)))
    train = dataset(task, rows(*((f"t{i}", i % 30) for i in range(3000)), ("last", 29)))
    dev = dataset(task, rows(*((f"d{i}", i % 30) for i in range(150))))
    found, text = shown(of(task, train, dev))
    assert found == []
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "10 smaller ones" in text
    first = next(line for line in text.splitlines() if "xxx" in line)
    assert first.split()[0] == "x" * 20
    assert text.count(f"  {'x' * 17}...") == 20  # 60 characters in three lines
    assert "101" in first  # the largest class, which comes last by name


def test_a_title_and_a_name_that_are_too_long_for_a_line_are_wrapped():
    names = ("a rather long name of one class", "another one")
    task = Task(name="t" * 70, type="classification", inputs="single", labels=names)
    _, text = shown(of(task, dataset(task, rows(("x", 0), ("y", 1))), dataset(task, rows(("z", 1)))))
    lines = text.splitlines()
    assert [line.strip() for line in lines[:2]] == ["t" * 70, "classification, single"]
    first = next(i for i, line in enumerate(lines) if line.startswith("  a rather long name  "))
    assert lines[first + 1].strip() == "of one class"


# --- warnings before training ---


def classes(*labels: str, type_: str = "classification", codes: tuple[str, ...] | None = None) -> list[str]:
    task = Task(name="t", type=type_, inputs="single", labels=labels, codes=codes)
    train, dev = (dataset(task, filler(name, len(labels))) for name in ("train", "dev"))
    return warnings(measure(of(task, train, dev)), 64)


def test_rare_classes_are_named_with_their_counts():
    task = GRADES.model_copy(update={"labels": ("a", "b", "c")})
    many = [Example(f"{i}", (f"t{i}",), float(i % 2)) for i in range(1000)]
    rare = [Example(f"r{i}", (f"r{i}",), 2.0) for i in range(16)]
    for number, said in ((16, ["'c' (16)"]), (17, [])):
        train = [*many, *rare, Example("last", ("last",), 2.0)][: 1000 + number]
        found = warnings(measure(of(task, dataset(task, train), dataset(task, filler("dev")))), 64)
        assert found == [f"mood, train: few examples of {each}: too few to learn from." for each in said]
    dev = filler("dev", each=4)
    found = warnings(measure(of(task, dataset(task, filler("train")), dataset(task, dev))), 64)
    assert found == ["mood, dev: few examples of 'a' (4), 'b' (4), 'c' (4): too few to score."]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (("a", "b", "a;b"), (["a;b"], 2)),
        (("a|b", "a", "b", "c"), (["a|b"], 3)),
        (("['a', 'b']", "['a']", "['b']"), (["['a', 'b']"], 2)),
        (('["a", "b"]', '["c", "d"]'), (['["a", "b"]', '["c", "d"]'], 4)),
        (("a, b", "b, c", "a, c"), (["a, b", "b, c", "a, c"], 3)),
        (("1 2 2", "1 1", "2"), (["1 2 2", "1 1"], 2)),
        (("-1 2", "2  -1", "[2 2]"), (["-1 2", "2  -1", "[2 2]"], 2)),
        (("very good", "good", "very bad"), ([], 0)),
        (("90 210", "10 115"), ([], 0)),
        (("Washington, DC", "Seattle, WA", "Tacoma, WA"), ([], 0)),
        (("sci-fi, or fantasy", "crime", "love"), ([], 0)),
        (("a", "b"), ([], 0)),
    ],
)
def test_labels_that_are_sets_are_recognised(labels: tuple[str, ...], found: tuple[list[str], int]):
    assert sets(labels) == found
    said = [warning for warning in classes(*labels) if "look like sets" in warning]
    example = messages.shown(found[0][0]) if found[0] else ""
    assert said == [
        f"t: labels look like sets of labels, as {example} does: {len(labels)} classes are made of {found[1]} parts. "
        "A row has one label here; for sets use type: multilabel, for votes of annotators columns.votes."
    ] * bool(found[0])


def test_classes_that_are_numbers_without_names_cause_a_warning():
    said = 't: the classes are numbers, 1, 2, 3, and so will be the answers. Name them: labels: {"1": NAME, "2": NAME}.'
    assert classes("1", "2", "3") == [said]
    assert classes("low", "high", codes=("1", "2")) == []
    assert classes("1", "2", "3", type_="ordinal") == []
    assert classes("0", "1", type_="binary") == []
    assert classes("1", "2", type_="binary") == [said.replace("1, 2, 3", "1, 2")]
    assert classes("1", "two") == []


def test_classes_that_differ_only_in_case_or_mark_missing_values_cause_a_warning():
    assert classes("Spam", "ham", "spam") == [
        "t: the labels 'Spam', 'spam' differ only in case, and are different classes. Write them alike in the file, if "
        "they are the same."
    ]
    missing = "'N/A' is a label like any other. If it marks rows without a label, leave their cells empty."
    assert classes("N/A", "good") == [f"t: {missing}"]
    assert classes("none", "good") == []
    task = Task(name="s", type="multilabel", inputs="single", labels=("a", "A", "null"))
    assert [line.partition(" ")[2][:20] for line in task.answer.labels.doubts(task)] == [
        "the labels 'a', 'A' ",
        "'null' is a label li",
    ]


def test_a_rare_class_that_looks_like_a_frequent_one_may_be_a_typing_error():
    def rare(name: str) -> str:
        task = GRADES.model_copy(update={"labels": ("negative", "positive", name, "chapter1")})
        train = [Example(f"{i}", (f"t{i}",), float(i % 2)) for i in range(40)]
        train += [Example("r", ("r",), 2.0), *(Example(f"w{i}", (f"w{i}",), 3.0) for i in range(9))]
        found = warnings(measure(of(task, dataset(task, train), dataset(task, filler("dev", 4)))), 64)
        return found[0].removeprefix(f"mood, train: few examples of '{name}' (1): too few to learn from.")

    assert rare("negatve") == " Is 'negatve' a misspelt 'negative'?"
    assert rare("chapter2") == rare("relative") == ""


def test_scores_that_differ_in_their_last_digits_have_a_histogram():
    task = SCORES.model_copy(update={"range": (1.0, 1.0 + 2**-50)})
    data = dataset(task, rows(*((f"a{i}", f"b{i}", 1 + i * 2**-52) for i in range(5))))
    part = measure(of(task, data, data)).train
    assert sum(count for _, count in part.labels.counts) == 5
    assert part.labels.counts[0][0].startswith("1 to 1")
    wide = SCORES.model_copy(update={"range": (-1e100, 1e100)})
    data = dataset(wide, rows(("a", "b", -1e100), ("c", "d", 1e100)))
    part = measure(of(wide, data, data)).train
    assert [count for _, count in part.labels.counts] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert part.labels.numbers == (("mean", 0.0), ("lowest", -1e100), ("highest", 1e100))


# --- tokens ---


def tokenised(tmp_path: Path, task: Task, *texts: tuple[str, ...], max_length: int) -> Tokens:
    tokenizer = load_tokenizer(encoder_folder(tmp_path / "encoder"))
    data = tokenize(
        task, Examples.of(Example(str(i), each, 0.0) for i, each in enumerate(texts)), tokenizer, max_length
    )
    return count_tokens(tokenizer, data, max_length, unknown_id(tokenizer))


def test_lengths_are_those_before_the_cut(tmp_path: Path):
    texts = [("the dog",), ("the dog runs",), (" ".join(["dog"] * 100),), ("cat " * 3000,)]
    found = tokenised(tmp_path, GRADES, *texts, max_length=5)
    assert found.lengths.tolist() == [4, 5, 102, 3002]


@pytest.mark.parametrize(("inputs", "special"), [("packed", 3), ("separate", 4)])
def test_lengths_of_pairs_are_those_of_both_texts(tmp_path: Path, inputs: str, special: int):
    task = SCORES.model_copy(update={"inputs": inputs})
    found = tokenised(tmp_path, task, ("dog " * 50, "cat"), ("dog", "cat " * 7), ("dog", "cat"), max_length=8)
    assert found.lengths.tolist() == [51 + special, 8 + special, 2 + special]


def test_texts_that_the_vocabulary_does_not_know_are_counted_and_cause_a_warning(tmp_path: Path):
    texts = [("the dog runs fine",), ("the dog runs 狗",), ("the dog runs fine 狗",), ("狗在跑",), ("狗 " * 100,)]
    found = tokenised(tmp_path, GRADES, *texts, max_length=12)
    assert found.unknown == 3  # one in four, and all; one in five is not more than a fifth
    train = dataset(GRADES, filler("train"))
    said = warnings(measure(of(GRADES, train, dataset(GRADES, filler("dev")), unknown=3)), 64)
    assert said == [
        "mood, train: 3 of 15 examples (20.0%) are to more than 20% unknown tokens. Use an encoder for their language."
    ]


def test_a_vocabulary_of_bytes_knows_every_text(tmp_path: Path):
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    data = tokenize(GRADES, Examples.of([Example("0", ("ab",), 0.0)]), tokenizer, 8)
    assert count_tokens(tokenizer, data, 8, unknown_id(tokenizer)).unknown == 0
