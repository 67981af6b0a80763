"""One read of a file gives the columns of all tasks of a table, and gives each task the rows that it can read."""

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from reading import message, table_kept, write

from mtbert.columns import TextColumn
from mtbert.data import cache, formats, kept_table, sources
from mtbert.data.source_table import SourceTable
from mtbert.data.split import grouped_split
from mtbert.data.tables import Columns
from mtbert.recipe.settings import validate_recipe
from mtbert.splits import read_splits

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
    assert "Did you mean 'spam'? Set tasks.TASK.columns.label." in said


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
        found = sources.read_kept(source, ALL, tmp_path, texts=texts)
        assert found.all_warnings == plain.all_warnings
        for i in range(3):
            assert found.table(i).rows == plain.table(i).rows
            assert found.left_out(i) == plain.left_out(i)
    assert isinstance(found.texts[0].block.base, np.ndarray)  # mapped
    other = sources.read_kept(source, [STARS], tmp_path, texts=[1])
    assert [row.label for row in other.table(0).rows] == ["3", "2", "4"]


# Several kinds of rows in one file ------------------------------------------------------------------------------


def rows_by_kind() -> list[dict[str, Any]]:
    words = [{"kind": "ner", "text": ["Ed", f"n{i}"], "label": ["B-PER", "O"]} for i in range(20)]
    votes = [{"kind": "mood", "text": f"a film {i}", "label": ["good", "bad"]} for i in range(20)]
    plain = [{"kind": "yes", "text": f"a film {i}", "label": i % 2} for i in range(10, 30)]
    return [*words, *votes, *plain, {"kind": "other", "text": 7, "label": {"a": 1}}]


def test_rows_of_other_kinds_may_have_cells_of_any_form_and_all_tasks_of_a_file_have_the_same_dev(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows_by_kind())))
    tasks: dict[str, dict[str, Any]] = {
        "ner": {"type": "tokens"},
        "mood": {"type": "classification", "columns": {"votes": "label"}},
        "yes": {"type": "binary"},
    }
    for kind, task in tasks.items():
        task |= {"inputs": "single", "train": {"path": "t.jsonl", "where": {"kind": kind}}, "dev_fraction": 0.3}
    recipe = validate_recipe({"tasks": tasks, "data": {"root": str(tmp_path)}, "train": {"held_out": 0}}, "r")
    found = read_splits(recipe, list(tasks))
    texts = {kind: {side: set(getattr(found[kind], side).texts[0]) for side in ("train", "dev")} for kind in tasks}
    whole = [" ".join(row["text"]) if row["kind"] == "ner" else row["text"] for row in rows_by_kind()[:-1]]
    _, dev = grouped_split([TextColumn.of(whole)], 0.3, 0)
    expected = {whole[i] for i in dev}
    assert 10 < len(expected) < 20
    for kind, sides in texts.items():
        own = {text for text, row in zip(whole, rows_by_kind(), strict=False) if row["kind"] == kind}
        assert (sides["dev"], sides["train"]) == (own & expected, own - expected), kind


def test_a_split_of_a_part_of_a_file_counts_other_rows_that_have_a_label(tmp_path: Path):
    lines = ["id,text,label,kind", *(f"{i},text {i},{'' if i % 4 == 1 else i % 3},{i % 2}" for i in range(40))]
    source = write(tmp_path, "t.csv", "\n".join(lines)).model_copy(update={"where": {"kind": 0}})
    whole = sources.read_all(source, [Columns(id="id")], tmp_path, texts=[1], whole=True)
    part = sources.read_all(source, [Columns(id="id")], tmp_path, texts=[1])
    assert whole.usable.tolist() == [i for i in range(40) if i % 4 != 1]
    assert whole.places()[::2].tolist() == part.places().tolist()
    assert list(whole.texts[0][::2]) == list(part.texts[0])


@pytest.mark.parametrize("numbered", [True, False])
def test_the_chosen_rows_of_a_whole_table_are_those_that_are_read_alone(tmp_path: Path, numbered: bool):
    content = "id,text,label,w,kind\nx,a,1,2,0\ny,b,2,bad,1\n,,,,1\nz,c,3,4,0\nx,d,3,,1\nz,e,,1,0\nx,f,2,0.5,0\n"
    write(tmp_path, "u.csv", content.replace("x,a", "v,a").replace("z,c,", "z,,"))
    found = write(tmp_path, "t.csv", content)
    source = found.model_copy(update={"path": ("t.csv", "u.csv"), "where": {"kind": 0}})
    columns = [
        Columns(id=None if numbered else "id"),
        Columns(id=None if numbered else "id", label="label", weight="w"),
    ]
    part = sources.read_all(source, columns, tmp_path, texts=[1, 1])
    whole = sources.read_all(source, columns, tmp_path, texts=[1, 1], whole=True)
    again = kept_table.loaded_table(table_kept(whole), columns)
    assert (len(whole), len(part)) == (14, 8)
    for chosen in (whole.chosen, again.chosen):
        assert chosen.all_warnings == part.all_warnings
        assert chosen.ends == part.ends == (4, 8)
        for i in range(2):
            assert chosen.table(i).rows == part.table(i).rows
            assert chosen.left_out(i) == part.left_out(i)
        assert chosen.table(1).weights is not None
        assert list(chosen.table(1).weights or ()) == ["2.0", "4.0", "0.5", "2.0", "0.5"]
    assert again.usable.tolist() == whole.usable.tolist() == [0, 1, 3, 4, 6, 7, 8, 11, 13]
    assert len(part.warnings) == (0 if numbered else 1)


def test_the_digest_of_a_hub_data_set_is_that_of_the_chosen_rows_and_of_numbers_as_text(tmp_path: Path):
    rows = [{"text": f"t{i}", "a": i / 4, "b": 1 - i / 4, "w": i % 2, "kind": i % 3} for i in range(5)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set")
    source = sources.Source(hub="set", where={"kind": 0})
    columns = [Columns(shares=("a", "b"), weight="w"), Columns(label="a")]
    written = [
        ["1", ["t0"], '{"a": 0.0, "b": 1.0}', "0.0"], ["4", ["t3"], '{"a": 0.75, "b": 0.25}', "1.0"],
    ]  # fmt: skip
    plain = [["1", ["t0"], "0"], ["4", ["t3"], "0.75"]]
    parts = "".join(json.dumps(each, separators=(",", ":")) for each in (written, plain))
    for whole in (True, False):
        table = sources.read_all(source, columns, tmp_path, texts=[1, 1], whole=whole)
        assert len(table) == (5 if whole else 2)
        assert table.parts[0].digest == hashlib.sha256(parts.encode()).hexdigest()


@pytest.mark.parametrize("cached", [True, False])
def test_a_file_of_which_a_task_reads_some_rows_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
):
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "FEWEST", 1 if cached else 10**6)
    opened: list[str] = []
    open_file = formats.opened
    monkeypatch.setattr(formats, "opened", lambda name, *more: opened.append(name) or open_file(name, *more))
    lines = ["text,label,kind", *(f"text {i},{i % 3},{i % 2}" for i in range(40))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    (tmp_path / "d.csv").write_text("\n".join(lines))
    source = {"path": "t.csv", "where": {"kind": 1}}
    for dev, reads in ({}, ["t.csv"]), ({"dev": {"path": "d.csv", "where": {"kind": 1}}}, ["t.csv", "d.csv"]):
        task: dict[str, Any] = {"type": "classification", "inputs": "single", "train": source, **dev}
        recipe = validate_recipe({"tasks": {"a": task}, "data": {"root": str(tmp_path)}}, "r")
        for again in (False, True):
            opened.clear()
            found = read_splits(recipe, ["a"])["a"]
            assert opened == ([] if cached and again else reads)
            assert all(int(text.split()[1]) % 2 for text in (*found.train.texts[0], *found.dev.texts[0]))


def test_one_column_and_a_list_of_one_column_are_read_in_their_own_ways(tmp_path: Path):
    apart = (Columns(votes="label"), Columns(votes=("label",)))
    source = write(tmp_path, "t.csv", "text,label\na,x;y\n")
    table = sources.read_all(source, apart, tmp_path, texts=[1, 1])
    assert [table.table(i).labels[0] for i in range(2)] == ['["x", "y"]', '["x;y"]']
    assert apart[0].reads != apart[1].reads
