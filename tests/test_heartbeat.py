"""A process that hangs ends the others with one line, and one that is slow, has left, or has not begun does not."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import toy_run
from test_processes import SILENT, contents, train
from torch.distributed import FileStore
from toy_processes import in_processes

from mtbert import api
from mtbert.processes import ALONE, Connected, Processes
from mtbert.recipe.settings import validate_recipe
from mtbert.training import heartbeat
from mtbert.training.heartbeat import heartbeats
from mtbert.training.run import Run
from mtbert.training.start import start_run

folder = toy_run.shared_folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives up a process after 4 seconds. With less, a busy machine would be taken for one that hangs."""
    monkeypatch.setattr(heartbeat, "EVERY", 0.4)
    monkeypatch.setattr(heartbeat, "MISSED", 10)


def test_a_stopped_process_ends_the_others_with_one_line_and_the_run_resumes(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], quick: None
):
    raw, out = toy_run.raw_recipe(folder, shards=4, checkpoint_every=3), tmp_path / "run"

    def work(together: Processes) -> str:
        real = Run.step

        def step(run: Run) -> Any:
            if run.done == 5 and together.rank == 2:
                os.kill(os.getpid(), signal.SIGSTOP)
            return real(run)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "step", step)
            return train(raw, out, together)

    found = in_processes(4, work, stopped=2)
    assert isinstance(found[2], EOFError)
    # They end without an answer, or because one of them has ended.
    assert all(isinstance(each, EOFError) or each.startswith("Lost: step 6: ") for each in found), found
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("mtbert: ")] == [
        f"mtbert: step 6: rank 2 of this run has not answered for 4 seconds. Go on with: mtbert train --resume {out}"
    ]
    assert in_processes(2, lambda p: train(raw, out, p)) == ["done"] * 2
    in_processes(1, lambda p: train(raw, tmp_path / "whole", p))
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("place", ["mtbert.api.join_run", "mtbert.training.join.assemble"], ids=["connect", "prepare"])
def test_a_process_stopped_before_the_first_step_ends_the_others_with_one_line(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], quick: None, place: str
):
    raw, out = toy_run.raw_recipe(folder, shards=4), tmp_path / "run"

    def work(together: Processes) -> str:
        assert isinstance(together, Connected)

        def stop(*_: Any, **__: Any) -> None:
            while together.beat(0)[1] == 0:  # a process that has not begun cannot be missed
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGSTOP)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mtbert.api.connect", lambda: together)
            if together.rank == 1:
                patch.setattr(place, stop)
            return str(api.train(raw, out=out))

    found = in_processes(2, work, stopped=1)
    assert [type(each) for each in found] == [EOFError] * 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("mtbert: ")]
    assert lines == ["mtbert: rank 1 of this run has not answered for 4 seconds. Give the same command again."]


def test_beats_are_missed_in_a_row_by_a_process_that_takes_part():
    # in turn: beats, misses one more, begins late, has left, beats again
    found = heartbeat._missed([0, 3, 5, 5, 5], [4, 4, 0, 9, 9], [5, 4, 0, 0, 10])
    assert found == [0, 4, 0, 0, 0]


def test_a_process_takes_part_from_its_first_beat_until_it_leaves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heartbeat, "EVERY", 0.05)

    def work(together: Processes) -> list[bool]:
        assert isinstance(together, Connected)
        found = []
        for _ in range(2):  # a script may train twice
            found.append(together.beat(0)[together.rank] == 0)
            with heartbeats(together):
                while together.beat(0)[together.rank] < 3:
                    time.sleep(0.01)
            found.append(together.beat(0)[together.rank] == 0)
        return found

    assert in_processes(2, work) == [[True] * 4] * 2


def test_a_process_that_cannot_hear_the_others_ends(capfd: pytest.CaptureFixture[str], quick: None):
    def work(together: Processes) -> str:
        assert isinstance(together, Connected)
        cut, real = time.monotonic() + 1.0, together.beat

        def beat(number: int) -> list[int]:
            if time.monotonic() > cut:
                time.sleep(100)  # as over a network that is cut
            return real(number)

        together.beat = beat  # type: ignore[method-assign]
        with heartbeats(together):
            time.sleep(100)
        return "ended"

    assert [type(each) for each in in_processes(2, work)] == [EOFError] * 2
    assert "of this run has not answered" in capfd.readouterr().err


def test_a_beat_does_not_wait_for_the_store_by_which_the_processes_are_connected(tmp_path: Path):
    class Busy:
        def clone(self) -> FileStore:
            return FileStore(str(tmp_path / "store"))

    assert Connected(Busy(), 0, 2).beat(1) == [1, 0]  # type: ignore[arg-type]


def test_a_process_that_failed_and_then_hangs_ends_the_others(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], quick: None
):
    @contextmanager
    def tracker(*_: Any) -> Iterator[Any]:
        def broken(*_: Any) -> None:
            raise ValueError("broken")

        try:
            yield broken
        finally:
            time.sleep(100)  # as one that cannot reach its server

    def work(together: Processes) -> Any:
        if not together.first:
            return train({}, tmp_path, together)
        recipe = validate_recipe(toy_run.raw_recipe(folder, shards=2), "toy")
        with heartbeats(together):
            return start_run(recipe, tmp_path / "run", SILENT, track=tracker, processes=together)

    assert [type(each) for each in in_processes(2, work)] == [EOFError] * 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("mtbert: ")]
    again = f"mtbert train --resume {tmp_path / 'run'}"
    assert lines == [f"mtbert: step 2: rank 0 of this run has not answered for 4 seconds. Go on with: {again}"]


def test_a_process_that_ended_with_an_error_still_counts_as_one_that_takes_part(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)

    def work(together: Processes) -> list[int]:
        assert isinstance(together, Connected)
        with pytest.raises(ValueError, match="wrong"), heartbeats(together):
            while together.beat(0)[together.rank] < 2:
                time.sleep(0.01)
            raise ValueError("wrong")
        first = together.beat(0)[together.rank]
        time.sleep(0.05)
        return [first > 1, together.beat(1)[together.rank] - first]

    assert in_processes(2, work) == [[True, 0]] * 2


def test_the_line_names_torchrun_if_that_has_ended(capfd: pytest.CaptureFixture[str], quick: None):
    def work(together: Processes) -> str:
        assert isinstance(together, Connected)
        real, calls = together.beat, [0]

        def beat(number: int) -> list[int]:
            calls[0] += 1
            if calls[0] > 3:
                raise RuntimeError("Connection reset")
            return real(number)

        together.beat = beat  # type: ignore[method-assign]
        with heartbeats(together):
            time.sleep(100)
        return "ended"

    assert [type(each) for each in in_processes(2, work)] == [EOFError] * 2
    printed = capfd.readouterr().err
    assert "mtbert: torchrun has not answered for 4 seconds. Give the same command again." in printed
    assert "rank" not in printed


def test_a_process_that_trains_alone_has_no_thread_for_it():
    before = threading.active_count()
    with heartbeats(ALONE):
        assert threading.active_count() == before
