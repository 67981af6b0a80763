"""The log of a run's time and memory."""

import time
from pathlib import Path

import pytest
import torch
import toy_run
from children import Child
from rich.console import Console

from mtbert.recipe.files import load_recipe
from mtbert.studying.costs import cost_table
from mtbert.studying.results import read_run
from mtbert.training import timings
from mtbert.training.start import start_run
from mtbert.training.timings import TIMINGS, peak_memory, read_timings, total_seconds

folder = toy_run.shared_folder
CPU = torch.device("cpu")


def test_repeated_steps_count_once_and_damaged_lines_do_not(tmp_path: Path):
    lines = [
        '{"step": 1, "seconds": 1.0}',
        '{"step": 2, "seconds": 5.0}',
        '{"step": 2, "seconds": 2.0, "of": 9}',
        '{"step": 4, "seconds": NaN}',
        '{"step": "5", "seconds": 1.0}',
        "[" * 100_000,
        '{"step": 3, "se',
    ]
    (tmp_path / TIMINGS).write_text("\n".join(lines))
    found = read_timings(tmp_path / TIMINGS)
    assert [(line.step, line.seconds, line.of) for line in found] == [(1, 1.0, None), (2, 2.0, 9)]
    assert total_seconds(found) == 3.0
    assert read_timings(tmp_path / "none") == []


def test_a_run_logs_how_many_steps_it_will_have_its_memory_and_the_time_of_day(folder: Path):
    before = time.time()
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", Console(quiet=True))
    found = read_timings(folder / "run" / TIMINGS)
    assert {line.of for line in found} == {len(found)}
    assert [line.step for line in found] == [*range(1, len(found) + 1)]
    assert all(before - 1 < line.at < time.time() + 1 for line in found if line.at)
    assert sum(line.at is not None for line in found) == len(found)
    # torch alone takes more than 100 MB; a wrong unit would give a thousandth or a thousand times as much.
    assert 1e8 < found[-1].memory < 1e11
    results = read_run(folder / "run")
    (row,) = cost_table(results).rows
    assert row[:2] == ("run", str(len(found)))
    assert float(row[3]) == pytest.approx(len(found) / total_seconds(found), rel=0.02, abs=0.006)
    assert row[5] == f"{found[-1].memory / 2**30:.2f} GiB"


def test_the_memory_is_the_peak_of_this_program_not_of_the_one_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t    9000 kB\nVmHWM:\t    1234 kB\nVmRSS:\t    1000 kB\n")
    monkeypatch.setattr(timings, "STATUS", status)
    assert peak_memory(CPU) == 1234 * 1024
    for other in ("", "VmRSS:\t    1000 kB\n"):  # systems that do not say
        status.write_text(other)
        assert 1e8 < peak_memory(CPU) < 1e11
    status.unlink()
    assert 1e8 < peak_memory(CPU) < 1e11


def test_the_memory_grows_with_what_is_used():
    def used() -> None:
        before = peak_memory(CPU)
        torch.ones(2**26)  # 256 MiB, far more than memory that the process may have free before
        grown = peak_memory(CPU) - before
        assert 2**27 <= grown < 2**29, grown

    assert Child(used).said() == "done"  # a new process, whose peak is what it has now
