"""The grouped split: no text on both sides, whole groups, and the requested share where possible."""

import random

import pytest

from mtbert.columns import TextColumn
from mtbert.data.split import Inseparable, grouped_split, split_by_rows

Columns = list[TextColumn]


def pairs(*rows: tuple[str, ...]) -> Columns:
    return [TextColumn.of(column) for column in zip(*rows, strict=True)]


def sides(texts: Columns, fraction: float, seed: int) -> tuple[set[int], set[int]]:
    train, dev = grouped_split(texts, fraction, seed)
    return set(train.tolist()), set(dev.tolist())


def test_a_chain_of_shared_texts_stays_together():
    rows = pairs(("a", "b"), ("p", "q"), ("C ", "d"), ("x", "y"), ("B", " c"), ("q", "r"))
    for seed in range(20):
        train, dev = sides(rows, 0.5, seed)
        for group in ({0, 2, 4}, {1, 5}, {3}):
            assert group <= train or group <= dev


def test_no_text_is_on_both_sides_of_a_random_graph_and_no_example_is_lost():
    draw = random.Random(0)
    rows = pairs(*((f"t{draw.randrange(400)}", f"T{draw.randrange(400)}") for _ in range(150)))
    for seed in range(10):
        train, dev = grouped_split(rows, 0.3, seed)
        texts = [{column[i].casefold() for i in side for column in rows} for side in (train, dev)]
        assert not texts[0] & texts[1]
        assert sorted([*train, *dev]) == list(range(150))


def test_dev_has_its_share_exactly_where_no_text_is_shared():
    rows = pairs(*((f"t{i}",) for i in range(200)))
    for seed in range(5):
        assert len(grouped_split(rows, 0.1, seed)[1]) == 20


def test_a_giant_group_stays_in_train():
    rows = pairs(*(("hub", f"t{i}") for i in range(60)), *((f"s{i}", f"s{i}") for i in range(40)))
    for seed in range(20):
        train, dev = sides(rows, 0.25, seed)
        assert len(dev) == 25
        assert set(range(60)) <= train


def test_dev_is_as_near_its_share_as_groups_allow():
    groups = pairs(*((f"g{i // 6}", f"t{i}") for i in range(60)))  # ten of six
    assert len(grouped_split(groups, 0.25, 0)[1]) == 12
    assert len(grouped_split(groups, 0.28, 0)[1]) == 18
    assert len(grouped_split(groups, 0.01, 0)[1]) == 6


def test_the_smaller_of_two_groups_is_dev_when_neither_fits():
    rows = pairs(("a",), ("b",), ("a",), ("b",), ("a",))
    for seed in range(5):
        assert sides(rows, 0.1, seed) == ({0, 2, 4}, {1, 3})
        assert sides(rows, 0.99, seed)[0]


def test_each_side_keeps_the_order_and_the_seed_decides():
    rows = pairs(*((f"t{i}",) for i in range(50)))
    train, dev = grouped_split(rows, 0.4, 3)
    assert train.tolist() == sorted(train)
    assert dev.tolist() == sorted(dev)
    assert sides(rows, 0.4, 3) == (set(train), set(dev))
    assert sides(rows, 0.4, 4) != (set(train), set(dev))


def test_an_impossible_split_is_refused():
    with pytest.raises(Inseparable, match=r"chains of shared texts link all 3 rows\.$"):
        grouped_split(pairs(("a", "b"), ("b", "c"), ("c", "A")), 0.5, 0)
    with pytest.raises(Inseparable, match="all 0 rows"):
        grouped_split([TextColumn.of([])], 0.5, 0)
    with pytest.raises(ValueError, match="needs two rows at least, found 1"):
        split_by_rows(1, 0.5, 0)
    for fraction in (0.0, 1.0, -0.2, float("nan")):
        with pytest.raises(ValueError, match=f"between 0 and 1, found {fraction:g}"):
            grouped_split(pairs(("a",), ("b",)), fraction, 0)
        with pytest.raises(ValueError, match=f"between 0 and 1, found {fraction:g}"):
            split_by_rows(9, fraction, 0)


@pytest.mark.parametrize(("rows", "fraction", "dev"), [(10, 0.3, 3), (10, 0.01, 1), (10, 0.99, 9), (2, 0.5, 1)])
def test_a_split_by_rows_has_its_share_and_a_row_on_each_side(rows: int, fraction: float, dev: int):
    found = [split_by_rows(rows, fraction, seed) for seed in range(20)]
    for sides in found:
        assert len(sides[1]) == dev
        assert sorted([*sides[0], *sides[1]]) == list(range(rows))
        assert all(side.tolist() == sorted(side) for side in sides)
    assert len({tuple(side.tolist()) for _, side in found}) > 1  # the seed decides


def test_a_text_in_any_column_ties_rows_together_and_empty_texts_tie_none():
    rows = [("a", "x", ""), ("", "b", ""), ("", "X", ""), ("c", "", "a"), ("", "", "")]
    columns = [TextColumn.of(texts) for texts in zip(*rows, strict=True)]
    for seed in range(20):
        _, dev = grouped_split(columns, 0.3, seed)
        assert {0, 2, 3} <= set(dev.tolist()) or {0, 2, 3}.isdisjoint(dev.tolist())
        assert dev.tolist() in ([1], [4], [1, 4])
