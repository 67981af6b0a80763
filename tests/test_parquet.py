"""Tables in Parquet files: only the requested columns are read, and every mistake is one line."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import ONE, message, refusal

from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns, Row


def test_parquet_is_read_and_its_rows_are_counted(tmp_path: Path):
    data = {"id": [7, 8, 9], "s": ["a", " b", "c"], "t": ["d", "e", "f"], "y": [0.0, None, 3.25]}
    pq.write_table(pa.table(data), tmp_path / "a.parquet")
    found = read(Source(path="a.parquet"), Columns(text=("s", "t"), label="y", id="id"), tmp_path, texts=2)
    assert found.rows == [Row(1, "7", ("a", "d"), "0"), Row(3, "9", ("c", "f"), "3.25")]
    assert found.warnings == ("a.parquet: dropped 1 row without a label in column 'y' (first: row 2).",)
    assert found.at(1) == "a.parquet, row 3, column 'y'"


def test_a_broken_parquet_is_one_line(tmp_path: Path):
    assert refusal(tmp_path, "a.parquet", "text,label\na,1\n").startswith("a.parquet: not a Parquet file (")


def test_columns_that_are_not_needed_are_not_read(tmp_path: Path):
    when = pa.array([2**62, None], pa.timestamp("us"))  # Python cannot represent this date
    table = pa.table({"text": ["a", "b"], "label": [1, 2], "when": when, "when.text": when})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read(Source(path="a.parquet"), ONE, tmp_path, texts=1)
    assert [row.texts for row in found.rows] == [("a",), ("b",)]
    said = message(ValueError, read, Source(path="a.parquet"), Columns(text="text", label="when"), tmp_path, texts=1)
    assert said.startswith("a.parquet, column 'when': holds a value that cannot be read (")


def test_a_column_that_unpacks_to_an_absurd_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mtbert.data.parquet.LARGEST_TABLE", 10_000)
    table = pa.table({"text": ["a", "b"], "label": [1, 2], "more": ["x" * 20_000, "y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert len(read(Source(path="a.parquet"), ONE, tmp_path, texts=1).rows) == 2
    said = message(ValueError, read, Source(path="a.parquet"), Columns(text="more"), tmp_path, texts=1)
    assert said.startswith("a.parquet: the columns read unpack to 20,")


def test_rows_of_several_batches_and_groups_keep_their_numbers(tmp_path: Path):
    values = [f"t{i}" for i in range(1000)]
    pq.write_table(pa.table({"text": values, "label": values}), tmp_path / "a.parquet", row_group_size=300)
    rows = read(Source(path="a.parquet"), ONE, tmp_path, texts=1).rows
    assert rows == [Row(i + 1, str(i + 1), (f"t{i}",), f"t{i}") for i in range(1000)]
