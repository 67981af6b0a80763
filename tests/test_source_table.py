"""One read of a file gives the columns of all tasks of a table, and each task the rows that it can read."""

from pathlib import Path

import numpy as np
import pytest
from reading import message, write

from mtbert.data import cache, sources
from mtbert.data.source_table import SourceTable
from mtbert.data.tables import Columns

CSV = """id,title,body,stars,spam,film,pet
a,,one,3,no,1,0
b,T2,two,,,,
c,T3,,1,,0,
d,T4,four,2,yes,,
e,,five,,no,,1
f,,six,,,1,1
"""
STARS = Columns(text="body", label="stars", id="id")
SPAM = Columns(text="body", label="spam", id="id")
TOPICS = Columns(text=("title", "body"), label=("film", "pet"), id="id")
ALL = (STARS, SPAM, TOPICS)


def read(folder: Path, content: str = CSV, columns: tuple[Columns, ...] = ALL) -> SourceTable:
    source = write(folder, "t.csv", content)
    return sources.read_all(source, columns, folder, texts=[len(each.text) for each in columns])


def test_each_task_reads_the_rows_with_its_label_and_all_of_its_texts(tmp_path: Path):
    table = read(tmp_path, CSV + "g,T7,seven,4,,1,0\n")
    stars, spam, topics = (table.table(i) for i in range(3))
    assert [(row.id, row.texts, row.label) for row in stars.rows] == [
        ("a", ("one",), "3"),
        ("d", ("four",), "2"),
        ("g", ("seven",), "4"),
    ]
    assert [(row.id, row.label) for row in spam.rows] == [("a", "no"), ("d", "yes"), ("e", "no")]
    assert [(row.id, row.texts, row.label) for row in topics.rows] == [("g", ("T7", "seven"), '{"film": 1, "pet": 0}')]
    assert table.usable.tolist() == [0, 3, 4, 6]
    assert [reads.tolist() for reads in map(np.flatnonzero, table.reads)] == [[0, 3, 6], [0, 3, 4], [6]]


def test_texts_and_labels_that_several_tasks_read_are_held_once(tmp_path: Path):
    again = Columns(text="title", label="stars", id="id")
    table = read(tmp_path, columns=(STARS, SPAM, again))
    assert (len(table.texts), len(table.labels)) == (2, 2)
    assert [(reading.texts, reading.labels) for reading in table.readings] == [((0,), 0), ((0,), 1), ((1,), 0)]


def test_a_row_that_no_task_reads_is_dropped_and_counted_once(tmp_path: Path):
    table = read(tmp_path, CSV + "g,T7,seven,4,,1,0\n")
    assert table.all_warnings == (
        "t.csv: dropped 1 row without a label in columns 'stars', 'spam', 'film', 'pet' (first: line 3).",
        "t.csv: dropped 2 rows with an empty text (first: line 4).",
    )
    assert [table.left_out(i) for i in range(3)] == [
        (),
        (),
        ("t.csv: left out 2 rows with an empty text (first: line 2).",),
    ]


def test_places_of_labels_are_those_in_the_file(tmp_path: Path):
    assert read(tmp_path).table(1).at(2) == "t.csv, line 6, column 'spam'"


def test_a_table_of_several_files_counts_the_rows_of_each(tmp_path: Path):
    write(tmp_path, "u.csv", CSV)
    source = write(tmp_path, "t.csv", CSV).model_copy(update={"path": ("t.csv", "u.csv")})
    table = sources.read_all(source, [STARS, SPAM], tmp_path, texts=[1, 1]).table(0)
    assert table.ends == (2, 4)
    assert table.at(2) == "u.csv, line 2, column 'stars'"
    assert [line.partition(":")[0] for line in table.warnings] == ["t.csv", "t.csv", "u.csv", "u.csv", "u.csv"]


def test_a_task_without_any_label_and_a_table_without_any_are_refused(tmp_path: Path):
    nothing = "id,title,body,stars,spam,film,pet\na,t,one,,no,,\nb,,two,,no,1,\n"
    table = read(tmp_path, nothing)
    said = message(ValueError, table.table, 0)
    assert said == "t.csv: no usable row; all of them have no label in column 'stars'. Check the file."
    said = message(ValueError, table.table, 2)
    assert said == "t.csv: no usable row; all of them have an empty text. Check the file."
    said = message(ValueError, read, tmp_path, "id,title,body,stars,spam,film,pet\na,t,one,,,,\n")
    assert said.startswith("t.csv: no usable row; dropped 1 row without a label in columns 'stars', 'spam', 'film'")


def test_a_missing_label_column_is_refused_with_the_nearest_name(tmp_path: Path):
    said = message(ValueError, read, tmp_path, CSV, (STARS, Columns(text="body", label="spams", id="id")))
    assert "t.csv, line 1: there is no column 'spams'" in said
    assert "Did you mean 'spam'? Set columns.label." in said


def test_an_empty_id_is_refused_only_in_a_row_that_a_task_reads(tmp_path: Path):
    assert read(tmp_path, CSV.replace("b,T2", ",T2").replace("f,,", ",,")).table(0).ids[1] == "d"
    said = message(ValueError, read, tmp_path, CSV.replace("e,,", ",,"))
    assert said.startswith("t.csv, line 6, column 'id': the id is empty.")


def test_an_id_counts_as_repeated_only_among_rows_that_a_task_reads(tmp_path: Path):
    assert not read(tmp_path, CSV.replace("b,T2", "a,T2")).warnings
    assert read(tmp_path, CSV.replace("e,,", "d,,")).warnings == (
        "t.csv: 1 row with an id used before (first: 'd', line 6).",
    )


def test_a_table_from_the_cache_is_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "FEWEST", 1)
    source = write(tmp_path, "t.csv", CSV + "g,T7,seven,4,,1,0\n")
    texts = [1, 1, 2]
    plain = sources.read_all(source, ALL, tmp_path, texts=texts)
    for _ in range(2):
        found = sources.read_kept(source, ALL, tmp_path, texts=texts, afresh=False)
        assert found.all_warnings == plain.all_warnings
        for i in range(3):
            assert found.table(i).rows == plain.table(i).rows
            assert found.left_out(i) == plain.left_out(i)
    assert isinstance(found.texts[0].block.base, np.ndarray)  # mapped
    other = sources.read_kept(source, [STARS], tmp_path, texts=[1], afresh=False)
    assert [row.label for row in other.table(0).rows] == ["3", "2", "4"]
