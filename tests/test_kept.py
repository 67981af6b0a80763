"""A run keeps the columns, splits, clusters and tokens of its tables, and notices a changed file."""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_run

from mtbert.batch import Dataset
from mtbert.data import cache, formats, sources
from mtbert.data.sources import Source
from mtbert.data.tables import Columns, Table
from mtbert.data.tokenizer import load_tokenizer
from mtbert.prepare import Prepared, prepare
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.splits import file_digests

ROWS = 1200
COLUMNS = Columns(text=("first", "second"), label="same", id="id")
WORDS = toy_run.WORDS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table, an encoder and an empty cache; the table was changed a while ago."""
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))
    toy_run.encoder_folder(tmp_path / "encoder")
    write(tmp_path)
    return tmp_path


def write(folder: Path, rows: int = ROWS, word: str = "cat", name: str = "pairs.csv") -> Path:
    """Rows of two texts. The first row lacks a label, the second row lacks a text, and two ids come twice."""
    lines = ["id,first,second,same,lang"]
    for i in range(rows):
        texts = (f"the {WORDS[i % 17]} {i // 4} {word}", "" if i == 1 else f"é {i // 4}")
        lines.append(f"r{i // 2 if i < 4 else i},{texts[0]},{texts[1]},{'' if i == 0 else i % 2},{'ab'[i % 2]}")
    file = folder / name
    file.write_text("\n".join(lines))
    os.utime(file, (10**9, 10**9))
    return file


def recipe_of_pairs(folder: Path, **changed: Any) -> Recipe:
    task = {
        "type": "binary",
        "inputs": "separate",
        "train": "pairs.csv",
        "dev_fraction": 0.2,
        "columns": {"id": "id", "text": ["first", "second"], "label": "same"},
        "batch_size": 2,
        "no_duplicates": True,
    }
    raw = toy_run.raw_recipe(folder)
    raw["data"]["root"], raw["tasks"] = str(folder), {"pair": task | changed}
    return validate_recipe(raw, "toy")


def prepared(folder: Path, **changed: Any) -> Prepared:
    return prepare(recipe_of_pairs(folder, **changed), load_tokenizer(folder / "encoder"))["pair"]


def files(folder: Path) -> list[str]:
    return sorted(file.suffix for file in (folder / "cache/data").glob("*"))


def never(*_: object, **__: object) -> None:
    raise AssertionError("made again")


def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a digest be remembered also for a file that was written a moment ago."""
    monkeypatch.setattr(cache, "SETTLED", -(10**12))


def forbid_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "opened", never)
    monkeypatch.setattr("mtbert.data.tokenizer._tokens", never)
    monkeypatch.setattr("mtbert.data.draw.grouped_split", never)
    monkeypatch.setattr("mtbert.prepare.clusters", never)


def same(one: Dataset, other: Dataset) -> None:
    assert list(one.examples) == list(other.examples)
    assert one.truncated == other.truncated
    np.testing.assert_array_equal(one.clusters, other.clusters)
    for a, b in zip(one.sequences, other.sequences, strict=True):
        for name in ("ids", "segments", "offsets"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize(
    "changed", [{}, {"train": {"path": "pairs.csv", "where": {"lang": "a"}}, "labels": ["0", "1"]}]
)
def test_a_second_start_reads_splits_and_tokenises_nothing_and_has_the_same_data(
    changed: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    if changed:
        write(folder, 2 * ROWS + 100)
    settle_at_once(monkeypatch)
    monkeypatch.setattr(cache, "FEWEST", 10**9)
    plain = prepared(folder, **changed)
    assert files(folder) == []
    monkeypatch.setattr(cache, "FEWEST", 200)
    first = prepared(folder, **changed)
    forbid_everything(monkeypatch)
    again = prepared(folder, **changed)
    for found in (first, again):
        assert (found.task, found.table.warnings, found.table.digests) == (
            plain.task,
            plain.table.warnings,
            plain.table.digests,
        )
        same(found.train, plain.train)
        same(found.dev, plain.dev)
    assert len(plain.table.warnings) >= 1 + (not changed)


def test_what_is_kept_is_told_by_kind(folder: Path, monkeypatch: pytest.MonkeyPatch):
    settle_at_once(monkeypatch)
    monkeypatch.setattr(cache, "FEWEST", 200)
    prepared(folder)
    assert files(folder) == [".clusters", ".file", ".split", ".table", *[".tokens"] * 4]


def read(folder: Path, source: Source | None = None, columns: Columns = COLUMNS) -> Table:
    found = source or Source(path="pairs.csv")
    return sources.read_kept(found, [columns], folder, texts=[len(columns.text)]).table(0)


def test_a_table_from_the_cache_says_where_its_labels_stand(folder: Path):
    expected = sources.read(Source(path="pairs.csv"), COLUMNS, folder, texts=2)
    read(folder)
    table = read(folder)
    assert isinstance(table.texts[0].block.base, np.ndarray)  # mapped
    assert (table.rows, table.parts, table.column) == (expected.rows, expected.parts, "same")
    assert table.at(0) == "pairs.csv, line 4, column 'same'"
    assert table.warnings == (
        "pairs.csv: dropped 1 row without a label in column 'same' (first: line 2).",
        "pairs.csv: dropped 1 row with an empty text (first: line 3).",
        "pairs.csv: 1 row with an id used before (first: 'r1', line 5).",
    )


def test_several_files_keep_their_names_and_places(folder: Path):
    write(folder, 600, name="more.csv")
    both = Source(path=("more.csv", "pairs.csv"))
    expected = sources.read(both, COLUMNS, folder, texts=2)
    for _ in range(2):
        table = read(folder, both)
        assert (table.rows, table.parts, table.ends) == (expected.rows, expected.parts, expected.ends)
    assert table.at(598) == "pairs.csv, line 4, column 'same'"


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        (Source(path="copy.csv"), COLUMNS),
        (Source(path=("pairs.csv", "copy.csv")), COLUMNS),
        (Source(path="pairs.csv", where={"lang": "a"}), COLUMNS),
        (Source(path="pairs.csv"), Columns(text=("second", "first"), label="same", id="id")),
        (Source(path="pairs.csv"), Columns(text=("first", "second"), label="lang", id="id")),
        (Source(path="pairs.csv"), Columns(text=("first", "second"), label="same")),
        (Source(path="pairs.csv"), Columns(text=("first",), label="same")),
    ],
)
def test_another_name_choice_or_column_is_another_table(
    source: Source, columns: Columns, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache, "FEWEST", 100)
    write(folder, name="copy.csv")
    read(folder)
    expected = sources.read(source, columns, folder, texts=len(columns.text))
    for _ in range(2):
        table = read(folder, source, columns)
        assert (table.rows, table.parts) == (expected.rows, expected.parts)
    assert files(folder).count(".table") == 2


def test_a_changed_file_is_read_again_although_its_size_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch):
    settle_at_once(monkeypatch)
    before = read(folder)
    write(folder, word="dog")
    after = read(folder)
    assert (before.texts[0][0], after.texts[0][0]) == ("the cat cat", "the cat dog") or before.texts[0][
        0
    ] != after.texts[0][0]
    assert before.parts[0].digest != after.parts[0].digest


def test_a_file_is_hashed_again_when_asked_although_nothing_seems_to_have_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    settle_at_once(monkeypatch)
    monkeypatch.setattr(cache, "_stat", lambda path: [1, 2, 3, 4, 5])
    before = prepared(folder)
    write(folder, word="dog")
    assert (
        prepared(folder).table.digests == before.table.digests
    )  # as if path, size, times and inode were those of before
    assert list(prepared(folder).train.examples.texts[0]) == list(before.train.examples.texts[0])
    found = file_digests(recipe_of_pairs(folder))
    assert found == {"pairs.csv": hashlib.sha256((folder / "pairs.csv").read_bytes()).hexdigest()}
    assert found != before.table.digests


def test_the_digest_of_a_file_that_changed_a_moment_ago_is_not_remembered(folder: Path):
    read(folder)
    assert files(folder) == [".table"]
    stat = cache._stat(folder / "pairs.csv")
    assert max(stat[1:3]) > time.time_ns() - 60 * 10**9  # of the inode's change: no user can set it back


def test_small_tables_are_not_kept(folder: Path):
    write(folder, 990)
    prepared(folder)
    assert not (folder / "cache").exists()


def test_a_damaged_table_is_made_anew(folder: Path):
    expected = read(folder).rows
    (file,) = (folder / "cache/data").glob("*.table")
    content = bytearray(file.read_bytes())
    for at in (0, len(content) // 2, len(content) - 200, len(content) - 1):
        damaged = content.copy()
        damaged[at] ^= 1
        file.unlink()
        file.write_bytes(damaged)
        assert read(folder).rows == expected
        assert file.read_bytes() == content


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(folder: Path, monkeypatch: pytest.MonkeyPatch):
    expected = prepared(folder)
    (folder / "blocked").write_text("")
    monkeypatch.setenv("MTBERT_CACHE", str(folder / "blocked"))
    found = prepared(folder)
    same(found.train, expected.train)
    same(found.dev, expected.dev)
    assert found.table.warnings == expected.table.warnings


def test_a_file_that_changes_while_it_is_read_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch):
    hashed = cache.file_digest
    monkeypatch.setattr(cache, "file_digest", lambda path, **asked: hashed(path, **asked).replace("0", "1"))
    read(folder)
    assert files(folder) == []
