"""Columns of labels: numbers are stored as numbers. Many different texts are stored one after the other, unchanged."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reading import message, table_kept, write

from mtbert import cell_columns
from mtbert.cell_columns import CodedColumn, GrowingCells, TextCells
from mtbert.data import cells, kept_table, labels, sources
from mtbert.data.labels import labelled_examples, repair_warnings
from mtbert.data.source_table import SourceTable
from mtbert.data.tables import Columns, Table
from mtbert.number_cells import NumberCells
from mtbert.ragged import Ragged
from mtbert.task import Task

WIDE = Columns(shares=("pos", "neg", "neu"), weight="w")
TOPICS = Columns(label=("film", "pet"))
MOOD = ("neg", "neu", "pos")
SHARES = """text,pos,neg,neu,w
one,0.1,0.2,0.7,2
two,,,,1
three,1e-1, 0.30 ,6_0,0.5
three,1e-1, 0.30 ,.6,0.50
four,nan,NaN,,3
five,1.0,0,0.0,0
six,0.3333,0.3333,0.3335,1e100
"""


def task(kind: str, columns: Columns, **settings: Any) -> Task:
    soft = None if columns.label_key == "label" else columns.label_key
    return Task(**{"name": "t", "type": kind, "inputs": "single", "soft": soft} | settings)


def read(folder: Path, content: str, columns: Columns) -> SourceTable:
    return sources.read_all(write(folder, "t.csv", content), [columns], folder, texts=[1])


def as_texts(table: Table) -> Table:
    return replace(table, labels=CodedColumn.of(table.labels))


# Numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("0.25", 0.25),
        (" 1e-3 ", 0.001),
        (".5", 0.5),
        ("1.0", 1.0),
        ("0", 0.0),
        ("-0.0", 0.0),
        (-0.0, 0.0),
        (0.1, 0.1),
        (3, 3.0),
        ("٣", 3.0),
        (10**20, 1e20),
    ],
)
def test_a_share_is_the_number_that_its_text_describes(cell: object, number: float):
    found = cells.as_share(cell)
    assert (type(found), found, math.copysign(1, found)) == (float, number, 1)


def test_an_empty_share_is_nan():
    assert all(math.isnan(cells.as_share(cell)) for cell in (None, "", "  ", "nan", " NaN ", math.nan))


@pytest.mark.parametrize("cell", ["1_0", "0_0", "inf", math.inf, "+nan", "1e999", True, "x", "-0.1", -0.1])
def test_what_is_no_share_is_refused(cell: object):
    assert message(ValueError, cells.as_share, cell).startswith("a share must be a number that is at least 0, found ")


def test_numbers_give_the_labels_and_texts_that_their_texts_give(tmp_path: Path):
    table = read(tmp_path, SHARES.replace("three,1e-1, 0.30 ,6_0,0.5\n", ""), WIDE).table(0)
    assert isinstance(table.labels, NumberCells)
    assert list(table.labels) == [
        '{"pos": 0.1, "neg": 0.2, "neu": 0.7}',
        '{"pos": 0.1, "neg": 0.3, "neu": 0.6}',
        '{"pos": 1.0, "neg": 0.0, "neu": 0.0}',
        '{"pos": 0.3333, "neg": 0.3333, "neu": 0.3335}',
    ]
    found = labelled_examples(table, task("classification", WIDE, labels=MOOD))
    expected = labelled_examples(as_texts(table), task("classification", WIDE, labels=MOOD))
    assert found.labels.tobytes() == expected.labels.tobytes()
    assert found.labels[1].tolist() == [0.3 / (0.3 + 0.6 + 0.1), 0.6 / (0.3 + 0.6 + 0.1), 0.1 / (0.3 + 0.6 + 0.1)]
    assert found.weights is not None
    assert found.weights.tolist() == [2, 0.5, 0, 1e100]


def test_a_cell_that_is_no_number_is_named(tmp_path: Path):
    said = message(ValueError, read, tmp_path, SHARES, WIDE)
    assert said.startswith("t.csv, line 4, column 'neu': a share must be a number that is at least 0, found '6_0'.")
    said = message(ValueError, read, tmp_path, SHARES.replace("0.7,2", "0.7,-2"), WIDE)
    assert said.startswith("t.csv, line 2, column 'w': a weight must be a number from 0 to 1e+100, found '-2'.")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0.1,,0.9", "line 3, column 'pos, neg, neu': shares must all be given, found none for 'neg'. Fix or drop"),
        ("0.1,0.2,0.3", "line 3, column 'pos, neg, neu': shares must sum to 1, found 0.2, 0.3, 0.1, which sum to 0.6."),
        ("0,0,0", "line 3, column 'pos, neg, neu': shares must sum to 1, found 0.0, 0.0, 0.0, which sum to 0."),
        ("1e308,1e308,0", "line 3, column 'pos, neg, neu': shares must sum to 1, found 1e+308, 0.0, 1e+308, which sum"),
        ("0.3,0.3,0.40101", "line 3, column 'pos, neg, neu': shares must sum to 1, found 0.3, 0.40101, 0.3, which sum"),
    ],
)
def test_shares_that_are_no_distribution_are_named(tmp_path: Path, row: str, said: str):
    table = read(tmp_path, f"text,pos,neg,neu,w\none,0,1,0,1\ntwo,{row},1\nthree,9,9,9,1\n", WIDE).table(0)
    for each in (table, as_texts(table)):
        found = message(ValueError, labelled_examples, each, task("classification", WIDE, labels=MOOD))
        assert found.startswith(f"t.csv, {said}")


def test_a_share_sum_at_the_edge_of_what_is_allowed_is_read(tmp_path: Path):
    table = read(tmp_path, "text,pos,neg,neu,w\none,0.3,0.3,0.400999999,1\n", WIDE).table(0)
    assert len(labelled_examples(table, task("classification", WIDE, labels=MOOD))) == 1


def test_columns_of_zeros_and_ones_are_sets_of_labels(tmp_path: Path):
    content = "text,film,pet\none,1,0\ntwo,,\nthree,TRUE,\nfour,0.0,false\n"
    table = read(tmp_path, content, TOPICS).table(0)
    assert isinstance(table.labels, NumberCells)
    assert table.labels.numbers.dtype == np.float16  # a set of many labels takes two bytes a label and row
    assert list(table.labels) == ['{"film": 1, "pet": 0}', '{"film": 1}', '{"film": 0, "pet": 0}']
    for given in (("film", "pet"), ("pet", "film"), ("other", "pet", "film")):
        found = labelled_examples(table, task("multilabel", TOPICS, labels=given))
        expected = labelled_examples(as_texts(table), task("multilabel", TOPICS, labels=given))
        np.testing.assert_array_equal(found.labels, expected.labels, strict=True)
    assert found.labels[0].tolist()[1:] == [0, 1]


# Many different texts ---------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_columns, "MOST_CODED", 3)
    monkeypatch.setattr(labels, "READ_AT_ONCE", 2)


def test_a_column_with_many_different_texts_holds_them_one_after_the_other(few: None):
    for size in range(8):
        written = [None if i % 3 == 1 else f"zwölf {i}" for i in range(size)]
        growing = GrowingCells()
        for first in range(0, size, 2):
            growing.extend(written[first : first + 2])
        column = growing.column()
        assert (list(column), list(column[1:4])) == (written, written[1:4])
        assert column.given.tolist() == [cell is not None for cell in written]
        assert isinstance(column, TextCells) == (size > 5)
        rows = np.arange(size)[::-2]
        assert list(column.take(rows)) == written[::-2]


def test_labels_of_many_different_texts_are_those_of_a_few(tmp_path: Path, few: None):
    scores = ["1.50", "", "2", "nan", "3.25", "1.50", "0", "1e1", "4"]
    content = "text,label\n" + "".join(f"a,{score}\n" for score in scores)
    table = read(tmp_path, content, Columns()).table(0)
    assert isinstance(table.labels, TextCells)
    found = labelled_examples(table, task("regression", Columns()))
    assert found.labels.tolist() == [1.5, 2, 3.25, 1.5, 0, 10, 4]
    said = message(ValueError, labelled_examples, table, task("regression", Columns(), range=(0, 5)))
    assert said.startswith("t.csv, line 9, column 'label': 1e1 is outside the task's range.")


def test_votes_of_many_different_texts_are_counted(tmp_path: Path, few: None):
    columns = Columns(votes="votes")
    rows = ["a;b", "a", "b;b;b", "a;a;b", "a;b;b;b", "b"]
    table = read(tmp_path, "text,votes\n" + "".join(f"x,{row}\n" for row in rows), columns).table(0)
    assert isinstance(table.labels, TextCells)
    for each in (table, as_texts(table)):
        found = labelled_examples(each, task("classification", columns, labels=("a", "b")))
        assert found.votes is not None
        assert found.votes.tolist() == [2, 1, 3, 3, 4, 1]
        assert found.labels[:, 0].tolist() == [0.5, 1, 0, 2 / 3, 0.25, 0]


def test_tags_of_many_different_texts_are_read_and_repaired(tmp_path: Path, few: None):
    tagged = task("tokens", Columns(), labels=("O", "B-X", "I-X"), splitter="unicode")
    columns = Columns().read_by(tagged.answer)
    rows = [("a b", "O O"), ("c", "I-X"), ("d e f", "B-X I-X O"), ("g h", "O I-X"), ("i", "B-X"), ("j", "O")]
    lines = [json.dumps({"text": text.split(), "label": tags.split()}) for text, tags in rows]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    table = sources.read(sources.Source(path="t.jsonl"), columns, tmp_path, texts=1)
    assert isinstance(table.labels, TextCells)
    found = labelled_examples(table, tagged).labels
    assert isinstance(found, Ragged)
    assert [row.tolist() for row in found] == [[0, 0], [1], [1, 2, 0], [0, 1], [1], [0]]
    assert repair_warnings(table, tagged) == (
        "t.jsonl: 2 tags with I- where an entity begins, read as B- (first: line 2).",
    )


# In the cache -----------------------------------------------------------------------------------------------


def test_numbers_and_texts_are_kept_as_they_were(tmp_path: Path, few: None):
    scores = Columns(label="pos", weight="w")
    for columns, content in ((WIDE, SHARES.replace("6_0", ".6")), (scores, SHARES)):
        made = read(tmp_path, content, columns)
        again = kept_table.loaded_table(table_kept(made), [columns])
        assert list(map(type, again.labels)) == list(map(type, made.labels))
        for found, expected in zip(again.labels, made.labels, strict=True):
            assert list(found) == list(expected)
    assert isinstance(made.labels[0], TextCells)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("numbers 0", np.full(20, 0.5)),
        ("numbers 0", np.full(21, -0.5)),
        ("numbers 0", np.full(21, np.inf)),
        ("numbers 0", np.full(21, 1, np.int64)),
        ("numbers 0", np.full(21, 1, np.float16)),
        ("others 0", np.full(7, 2, np.uint8)),
        ("others 1", np.full(6, 1, np.uint8)),
    ],
)
def test_numbers_and_masks_that_cannot_be_are_refused(tmp_path: Path, name: str, array: Any):
    source = write(tmp_path, "t.csv", SHARES.replace("6_0", ".6")).model_copy(update={"where": {"text": "three"}})
    found = table_kept(sources.read_all(source, [WIDE], tmp_path, texts=[1], whole=True))
    kept_table.loaded_table(found, [WIDE])
    assert (found.arrays["numbers 0"].size, found.arrays["others 0"].size) == (21, 7)
    found.arrays[name] = array  # type: ignore[index]
    with pytest.raises(ValueError, match=r"."):
        kept_table.loaded_table(found, [WIDE])
