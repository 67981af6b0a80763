"""The benchmark of tables: both sides see the same labels."""

import csv
from pathlib import Path

import pytest

from benchmarks.tables import ROWS, TASKS, write


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_a_file_of_a_tasks_own_has_the_rows_of_the_table_that_have_its_label(tmp_path: Path, missing: float):
    batches = write(tmp_path, missing)
    with (tmp_path / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 1600
    assert all(any(row[task] for task in TASKS) for row in table)
    assert batches["table"] == ROWS
    for task in TASKS:
        with (tmp_path / f"{task}.csv").open() as file:
            assert list(csv.DictReader(file)) == [row for row in table if row[task]]
        assert batches[task] == (32 if not missing else {"stars": 18, "yes": 17, "score": 18}[task])
