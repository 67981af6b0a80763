"""Batches of tasks that share the rows of a table: every value by hand, and each task's part as a batch of its own."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny import CPU, model
from torch import Tensor

from mtbert.batch import Dataset, Example, Examples, Sequences, StepBatch, TaskRows
from mtbert.collate import collate, only, share_rows
from mtbert.model.settings import Pal
from mtbert.task import Task

ONE = Task(name="one", type="ordinal", inputs="single", labels=("a", "b", "c"))
MEAN = Task(name="mean", type="regression", inputs="single", range=(0, 1), pooling="mean")
TWO = Task(name="two", type="binary", inputs="single", labels=("no", "yes"))
OTHER = Task(name="other", type="binary", inputs="single", labels=("no", "yes"))
PAIR = Task(name="pair", type="binary", inputs="separate", labels=("no", "yes"))
SCORE = Task(name="score", type="regression", inputs="separate", range=(0, 5), head={"kind": "cosine"})


def flat(*sequences: list[int]) -> Sequences:
    ids = np.array([i for s in sequences for i in s], dtype=np.int32)
    return Sequences(ids, np.zeros_like(ids), np.cumsum([0, *map(len, sequences)]))


TABLE = (flat([10, 11, 12], [20], [30, 31], [40, 41, 42, 43], [50]),)
TEXTS = (flat([10, 11, 12], [20], [30, 31]), flat([15], [25, 26], [35, 36, 37, 38]))


def labelled(task: Task, sequences: tuple[Sequences, ...], labels: dict[int, float]) -> Dataset:
    """Returns the data set of a task that has a label in some rows of a table; ids are ``r`` and the row."""
    examples = Examples.of(Example(f"r{row}", ("x",) * task.texts, label) for row, label in labels.items())
    return Dataset(task, examples, sequences, np.array([*labels]))


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers)


def sequences_of(batch: StepBatch) -> list[list[int]]:
    bounds = batch.layout.offsets
    return [batch.ids_N[a:b].tolist() for a, b in pairwise(bounds)]


def read_by(batch: StepBatch, name: str) -> list[list[int]]:
    """Returns the tokens of the sequences that a task reads, in the order of its examples."""
    place = batch.places[name]
    first = batch.layout.spans[place.span].first
    return [sequences_of(batch)[first + i] for i in place.order.tolist()]


def test_tasks_of_one_table_share_a_span_that_has_each_of_their_rows_once():
    one = labelled(ONE, TABLE, {0: 1, 2: 0, 3: 2})
    two = labelled(TWO, TABLE, {1: 1, 2: 0, 3: 1, 4: 0})
    alone = labelled(OTHER, (flat([60, 61], [70]),), {0: 1, 1: 0})
    batch = collate([(one, rows(2, 0)), (alone, rows(1)), (two, rows(3, 2, 0))], CPU)
    assert batch.readers == {"one": ("one", "two"), "other": ("other",)}
    # Rows 3 and 0 of the first task, then 4 and 1 of the second, which has row 3 too: sorted by length.
    assert sequences_of(batch) == [[50], [20], [10, 11, 12], [40, 41, 42, 43], [70]]
    assert batch.positions_N.tolist() == [0, 0, 0, 1, 2, 0, 1, 2, 3, 0]
    assert {name: labels.tolist() for name, labels in batch.labels.items()} == {
        "one": [2, 1],
        "two": [0, 1, 1],
        "other": [0],
    }
    assert batch.example_ids == {"one": ("r3", "r0"), "two": ("r4", "r3", "r1"), "other": ("r1",)}
    assert read_by(batch, "one") == [[40, 41, 42, 43], [10, 11, 12]]
    assert read_by(batch, "two") == [[50], [40, 41, 42, 43], [20]]
    assert read_by(batch, "other") == [[70]]
    assert batch.places["one"].tokens_M.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert batch.places["other"].tokens_M is None


def test_a_row_that_is_drawn_twice_is_encoded_twice_as_in_a_file_of_its_own():
    one, two = labelled(ONE, TABLE, {0: 1, 1: 0, 2: 0}), labelled(TWO, TABLE, {1: 1, 2: 0})
    batch = collate([(one, rows(1, 2, 1)), (two, rows(0, 1, 0))], CPU)
    assert sequences_of(batch) == [[20], [20], [30, 31]]
    assert read_by(batch, "one") == read_by(batch, "two") == [[20], [30, 31], [20]]
    once = collate([(one, rows(2, 0)), (two, rows(0, 0))], CPU)
    assert sequences_of(once) == [[20], [20], [30, 31], [10, 11, 12]]
    assert sorted(once.places["two"].order.tolist()) == [0, 1]


def test_both_texts_of_a_separate_pair_are_found_among_the_rows_of_a_table():
    pair, score = labelled(PAIR, TEXTS, {0: 1, 1: 0, 2: 1}), labelled(SCORE, TEXTS, {1: 4, 2: 5})
    batch = collate([(pair, rows(0, 2)), (score, rows(1, 0))], CPU)
    assert read_by(batch, "pair") == [[10, 11, 12], [30, 31], [15], [35, 36, 37, 38]]
    assert read_by(batch, "score") == [[30, 31], [20], [35, 36, 37, 38], [25, 26]]


def test_tasks_that_are_apart_or_read_other_columns_have_spans_of_their_own():
    data = [labelled(task, TABLE, {0: 0, 1: 1}) for task in (ONE, TWO, OTHER)]
    equal = Dataset(MEAN, data[0].examples, (TABLE[0],), rows(0, 1))
    parts = [(d, rows(0, 1)) for d in (*data, equal)]
    readers = {"one": ("one", "other"), "two": ("two",), "mean": ("mean",)}
    assert collate(parts, CPU, lambda name: name == "two").readers == readers


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_tasks_part_is_the_batch_that_it_would_have_alone(name: str):
    one, two = labelled(ONE, TABLE, {0: 1, 2: 0, 3: 2}), labelled(TWO, TABLE, {1: 1, 2: 0, 3: 1, 4: 0})
    before = labelled(OTHER, (flat([60, 61]),), {0: 1})
    parts: dict[str, TaskRows] = {"one": (one, rows(2, 0)), "two": (two, rows(3, 2, 0, 1))}
    part = only(collate([(before, rows(0)), *parts.values()], CPU), name)
    alone = collate([parts[name]], CPU)
    assert part.layout == alone.layout
    for key in ("ids_N", "segments_N", "positions_N"):
        assert getattr(part, key).tolist() == getattr(alone, key).tolist()
    assert part.readers == {name: (name,)}
    assert part.places[name].order.tolist() == part.places[name].order_S.tolist() == alone.places[name].order.tolist()
    assert part.places[name].tokens_M is None
    assert part.labels.keys() == part.example_ids.keys() == {name}


def test_rows_of_a_table_become_the_examples_that_have_a_label_in_the_order_drawn():
    some, every = labelled(TWO, TABLE, {1: 1, 3: 0, 4: 1}), labelled(ONE, TABLE, dict.fromkeys(range(5), 0.0))
    assert some.among(rows(4, 0, 3, 4, 2)).tolist() == [2, 1, 2]
    assert some.among(rows(0, 2)).tolist() == []
    assert every.among(rows(4, 0, 3)).tolist() == [4, 0, 3]
    assert (some.size, len(some), some.lengths.tolist()) == (5, 3, [1, 4, 1])


def test_examples_are_cut_at_chosen_rows_and_tasks_without_any_are_left_out():
    one, two = labelled(ONE, TABLE, {0: 1, 2: 0, 3: 2}), labelled(TWO, TABLE, {1: 1, 3: 1})
    (span,) = share_rows([(one, rows(2, 0, 1)), (two, rows(1, 0))])
    assert span.rows.tolist() == [3, 0, 2, 1]
    assert span.lengths().tolist() == [4, 3, 2, 1]
    cut = [[(d.task.name, e.tolist()) for d, e in span.cut(rows(*chosen))] for chosen in ([0, 1], [2], [3, 0])]
    assert cut == [[("one", [2, 0]), ("two", [1])], [("one", [1])], [("two", [0, 1]), ("one", [2])][::-1]]


# The model -------------------------------------------------------------------------------------------------


def outputs(tasks: Sequence[Task], parts: Sequence[TaskRows], adapters: Pal | None = None) -> dict[str, list[Tensor]]:
    made = model(*tasks, layers=2, adapters=adapters).double()
    found = made(collate(parts, CPU, made.apart))
    return {name: [out.embeddings_MD, out.first_SD, *out.vectors, out.prediction] for name, out in found.items()}


@pytest.mark.parametrize("adapted", [None, "two", "one"])
def test_each_task_gets_what_it_would_get_alone(adapted: str | None):
    adapters = adapted and Pal(kind="attention", width=4, heads=2, tasks=(adapted,))
    tasks = (ONE, MEAN, TWO, PAIR, SCORE)
    parts = [
        (labelled(ONE, TABLE, {0: 1, 2: 0, 3: 2}), rows(2, 0)),
        (labelled(MEAN, TABLE, {0: 1, 1: 0, 4: 0.5}), rows(1, 2, 0)),
        (labelled(TWO, TABLE, {1: 1, 2: 0, 3: 1}), rows(0, 1, 2)),
        (labelled(PAIR, TEXTS, {0: 1, 1: 0, 2: 1}), rows(0, 2)),
        (labelled(SCORE, TEXTS, {1: 4, 2: 5}), rows(1, 0)),
    ]
    together = outputs(tasks, parts, adapters)
    assert len(together) == 5
    for part in parts:
        name = part[0].task.name
        for ours, alone in zip(together[name], outputs(tasks, [part], adapters)[name], strict=True):
            torch.testing.assert_close(ours, alone, rtol=1e-12, atol=1e-12)


def test_tasks_that_read_the_same_rows_get_the_very_same_vectors():
    made = model(ONE, TWO)
    data = [labelled(task, TABLE, {0: 1, 1: 0, 4: 0}) for task in (ONE, TWO)]
    found = made(collate([(d, rows(2, 1)) for d in data], CPU))
    assert torch.equal(found["one"].vectors[0], found["two"].vectors[0])
    assert found["one"].vectors[0].data_ptr() == found["two"].vectors[0].data_ptr()
