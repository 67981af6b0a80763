"""Clusters of texts and batches without repeats: literal cases and random ones."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from mtbert.batch import Example, Examples
from mtbert.data.clusters import clusters, spread


def examples(*rows: tuple[str, ...], labels: Sequence[float | None] | None = None) -> Examples:
    """Returns one example per row, a pair or a single text; each letter is a text."""
    labels = labels if labels is not None else [None] * len(rows)
    return Examples.of(Example(str(i), texts, label) for i, (texts, label) in enumerate(zip(rows, labels, strict=True)))


def groups(numbers: npt.NDArray[np.int64]) -> list[list[int]]:
    """Returns the same partition, numbered in order of first appearance."""
    seen: dict[int, int] = {}
    return [[seen.setdefault(n, len(seen)) for n in row] for row in numbers.tolist()]


def column(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)[:, None]


def batches(order: npt.NDArray[np.int64], size: int) -> list[list[int]]:
    return order.reshape(-1, size).tolist()


# Clusters ------------------------------------------------------------------------------------------


def test_equal_texts_share_a_number_wherever_they_stand():
    found = clusters(examples(("a", "b"), ("b", "c"), ("d", "d"), ("A", "a ")), positives=False)
    assert groups(found) == [[0, 1], [1, 2], [3, 3], [4, 5]]
    assert found.dtype == np.int64


def test_single_texts_have_one_column():
    for positives in (False, True):
        found = clusters(examples(("a",), ("b",), ("a",), labels=[1, 1, 0]), positives)
        assert groups(found) == [[0], [1], [0]]


def test_positive_pairs_link_their_texts_in_chains():
    rows = [("a", "b"), ("c", "d"), ("b", "c"), ("e", "a"), ("f", "g"), ("g", "h")]
    found = clusters(examples(*rows, labels=[1, 1, 1, 0, 1, None]), positives=True)
    assert groups(found) == [[0, 0], [0, 0], [0, 0], [1, 0], [2, 2], [2, 3]]


def test_without_positives_nothing_is_linked():
    pairs = examples(("a", "b"), ("b", "c"), labels=[1, 1])
    assert groups(clusters(pairs, positives=False)) == [[0, 1], [1, 2]]
    unlabelled = examples(("a", "b"), ("b", "c"), labels=[0, None])
    assert groups(clusters(unlabelled, positives=True)) == [[0, 1], [1, 2]]


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_the_transitive_closure(seed):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(40, size=(30, 2)).tolist()
    labels = rng.integers(2, size=30).tolist()
    found = clusters(examples(*[(str(a), str(b)) for a, b in pairs], labels=labels), positives=True)
    # The slow reference: marks spread along positive pairs until nothing changes.
    mark = list(range(40))
    for _ in range(40):
        for (a, b), label in zip(pairs, labels, strict=True):
            if label:
                mark[a] = mark[b] = min(mark[a], mark[b])
    assert groups(found) == groups(np.array([[mark[a], mark[b]] for a, b in pairs]))


# Batches -------------------------------------------------------------------------------------------


def test_an_order_without_repeats_stays_and_is_cut():
    order = np.array([4, 2, 0, 1, 3])
    assert spread(order, column(0, 1, 2, 3, 4), 2).tolist() == [4, 2, 0, 1]
    assert spread(order, column(0, 1, 0, 1, 0), 1).tolist() == order.tolist()


def test_a_row_that_must_wait_comes_first_into_the_next_batch():
    #           cluster of row 0  1  2  3  4  5
    found = spread(np.arange(6), column(7, 7, 7, 8, 9, 5), 2)
    assert batches(found, 2) == [[0, 3], [1, 4], [2, 5]]


def test_when_nothing_else_is_left_repeats_are_let_in():
    assert batches(spread(np.arange(4), column(1, 2, 3, 3), 2), 2) == [[0, 1], [2, 3]]
    found = spread(np.arange(6), column(7, 7, 7, 7, 7, 8), 2)
    assert batches(found, 2) == [[0, 5], [1, 2], [3, 4]]


def test_the_rows_that_the_cut_drops_are_those_that_had_to_wait():
    assert spread(np.arange(5), column(1, 1, 1, 2, 3), 2).tolist() == [0, 3, 1, 4]


def test_the_texts_of_a_row_may_share_a_cluster_and_either_of_them_can_make_it_wait():
    pairs = np.array([[1, 1], [2, 1], [3, 2], [3, 3], [4, 5], [6, 7]])
    assert batches(spread(np.arange(6), pairs, 2), 2) == [[0, 2], [1, 3], [4, 5]]


def test_a_batch_is_full_although_more_rows_wait():
    pairs = [[1, 2], [3, 4], [1, 11], [2, 12], [3, 13], [4, 14], [5, 6], [14, 20], [21, 22], [23, 24]]
    # Four rows wait behind the first batch of three; row 7 must not meet row 5, the last of them.
    assert batches(spread(np.arange(10), np.array(pairs), 3), 3) == [[0, 1, 6], [2, 3, 4], [5, 8, 9]]


def test_fewer_rows_than_a_batch_are_refused():
    with pytest.raises(
        ValueError, match=r"^3 rows do not fill one batch of 8\. Lower batch_size, or give more rows\.$"
    ):
        spread(np.arange(3), column(0, 1, 2), 8)


@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("seed", range(40))
def test_a_batch_repeats_a_cluster_only_if_every_row_left_would(seed, texts):
    rng = np.random.default_rng(seed)
    rows, size = int(rng.integers(1, 200)), int(rng.integers(1, 12))
    rows = max(rows, size)
    # Between a few large clusters and almost none.
    numbers = rng.integers(1 + rng.integers(2 * rows), size=(rows + 5, texts))
    order = rng.permutation(rows + 5)[:rows]
    found = spread(order, numbers, size)
    assert len(found) == rows // size * size
    assert len(set(found.tolist())) == len(found)
    assert set(found.tolist()) <= set(order.tolist())
    for first in range(0, len(found), size):
        count = Counter(c for row in found[first : first + size] for c in set(numbers[row].tolist()))
        if max(count.values()) > 1:
            left = set(order.tolist()) - set(found[: first + size].tolist())
            assert all(count.keys() & set(numbers[row].tolist()) for row in left)


@pytest.mark.parametrize("seed", range(10))
def test_no_batch_repeats_a_cluster_that_is_rare(seed):
    rng = np.random.default_rng(seed)
    # 40 batches of 8 from 400 rows, clusters of two: rows that wait at the end are cut off.
    numbers = rng.permutation(np.repeat(np.arange(200), 2))[:, None]
    for batch in batches(spread(rng.permutation(400)[:325], numbers, 8), 8):
        assert len(set(numbers[batch, 0].tolist())) == 8
