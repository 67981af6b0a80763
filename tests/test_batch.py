"""The layout of batches: every value of a small batch, computed by hand."""

import math

import numpy as np
import pytest
import torch
from tiny import CPU, dataset

from mtbert.batch import Dataset, Example, Examples, Sequences
from mtbert.collate import collate
from mtbert.task import Task

SINGLE = Task(name="one", type="ordinal", inputs="single", labels=("a", "b", "c"))
PACKED = Task(name="packed", type="binary", inputs="packed", labels=("no", "yes"))
PAIR = Task(name="two", type="regression", inputs="separate", range=(1.0, 10.0))


def flat(*sequences: list[int], segments: list[int] | None = None) -> Sequences:
    ids = np.array([i for s in sequences for i in s], dtype=np.int32)
    marks = np.zeros_like(ids) if segments is None else np.array(segments, dtype=np.int32)
    return Sequences(ids, marks, np.cumsum([0, *map(len, sequences)]))


def test_spans_lie_in_the_order_given_and_are_sorted_by_length_inside():
    examples = Examples.of(Example(f"s{i}", ("x",), i % 3) for i in range(4))
    one = Dataset.whole(SINGLE, examples, (flat([10, 11, 12], [20], [30, 31], [40]),))
    sentences = flat([50, 51, 52], [60]), flat([70, 71], [80, 81])
    two = Dataset.whole(PAIR, Examples.of([Example("p0", ("x", "y"), 10.0), Example("p1", ("x", "y"), 1.0)]), sentences)
    batch = collate([(two, np.array([1, 0])), (one, np.array([0, 3, 2]))], CPU)
    assert batch.ids_N.tolist() == [60, 80, 81, 70, 71, 50, 51, 52, 40, 30, 31, 10, 11, 12]
    assert batch.positions_N.tolist() == [0, 0, 1, 0, 1, 0, 1, 2, 0, 0, 1, 0, 1, 2]
    assert batch.layout.offsets == (0, 1, 3, 5, 8, 9, 11, 14)
    span = batch.layout.spans["two"]
    assert (span.first, span.last, span.start, span.stop) == (0, 4, 0, 8)
    assert batch.places["two"].order_S.tolist() == [0, 3, 1, 2]  # first texts of p1 and p0, then the second ones
    span = batch.layout.spans["one"]
    assert (span.first, span.last, span.start, span.stop) == (4, 7, 8, 14)
    assert batch.places["one"].order_S.tolist() == [2, 0, 1]
    assert {name: labels.tolist() for name, labels in batch.labels.items()} == {
        "two": [0.0, 1.0],
        "one": [0.0, 0.0, 2.0],
    }
    assert batch.example_ids == {"two": ("p1", "p0"), "one": ("s0", "s3", "s2")}
    assert list(batch.layout.spans) == ["two", "one"]


def test_segments_travel_with_their_tokens():
    data = Dataset.whole(
        PACKED,
        Examples.of([Example("a", ("x", "y"), 1), Example("b", ("x", "y"), 0)]),
        (flat([1, 2, 3], [4, 5], segments=[0, 0, 1, 0, 1]),),
    )
    batch = collate([(data, np.array([0, 1]))], CPU)
    assert batch.ids_N.tolist() == [4, 5, 1, 2, 3]
    assert batch.segments_N.tolist() == [0, 1, 0, 0, 1]
    assert (batch.ids_N.dtype, batch.segments_N.dtype, batch.positions_N.dtype) == (torch.int64,) * 3


def test_sequences_of_one_length_keep_their_order():
    lengths = [3, 2] * 100
    batch = collate([(dataset(SINGLE, lengths), np.arange(200))], CPU)
    by_length = sorted(range(200), key=lambda i: lengths[i])
    assert batch.places["one"].order_S[by_length].tolist() == list(range(200))


@pytest.mark.parametrize(("score", "target"), [(1.0, 0.0), (10.0, 1.0), (5.5, 0.5), (3.25, 0.25)])
def test_scores_are_mapped_from_their_range_to_0_and_1(score, target):
    batch = collate([(dataset(PAIR, [1], [1], labels=[score]), np.arange(1))], CPU)
    assert batch.labels["two"].tolist() == [target]
    assert batch.labels["two"].dtype == torch.float32


def test_a_row_without_a_label_gets_nan():
    batch = collate([(dataset(PAIR, [1, 1], [1, 1], labels=[None, 1.0]), np.arange(2))], CPU)
    first, second = batch.labels["two"].tolist()
    assert math.isnan(first)
    assert second == 0.0


def test_the_lengths_of_a_separate_pair_add_up():
    assert dataset(PAIR, [1, 5], [2, 7]).lengths.tolist() == [3, 12]


def test_a_batch_for_a_gpu_is_copied_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch):
    pinned, copies = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    real = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, to, **how: copies.append((str(to), how)) or real(x, CPU))
    data = Dataset.whole(SINGLE, Examples.of([Example("s0", ("x",), 1.0)]), (flat([10, 11]),), clusters=np.array([[0]]))
    collate([(data, np.array([0]))], torch.device("cuda"))
    assert [x.tolist() for x in pinned] == [[0], [1.0], [[0]], [[10, 11], [0, 0], [0, 1]]]
    assert copies == 4 * [("cuda", {"non_blocking": True})]


def test_rows_in_columns_give_examples_slices_and_a_choice_of_rows():
    rows = [Example("a", ("x", "y"), 2.0), Example("b", ("z", "w"), None), Example("c", ("", "v"), 0.0)]
    columns = Examples.of(rows)
    assert list(columns) == rows
    assert (columns[-1], list(columns[1:])) == (rows[2], rows[1:])
    np.testing.assert_array_equal(columns.labels, [2.0, np.nan, 0.0])
    taken = columns.take(np.array([2, 0]))
    assert list(taken) == [rows[2], rows[0]]
    assert taken.labels.dtype == np.float64
    with pytest.raises(IndexError):
        columns[3]


def test_labels_of_a_batch_are_fractions_of_the_range_and_nan_where_there_are_none():
    rows = [Example("a", ("x", "y"), 10.0), Example("b", ("x", "y"), None), Example("c", ("x", "y"), 5.5)]
    sentences = flat([1], [2], [3]), flat([4], [5], [6])
    labels = collate([(Dataset.whole(PAIR, Examples.of(rows), sentences), np.arange(3))], CPU).labels["two"]
    torch.testing.assert_close(labels, torch.tensor([1.0, float("nan"), 0.5]), equal_nan=True, rtol=0, atol=0)
