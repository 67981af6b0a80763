"""A process that hangs ends the others with one line, and one that is slow, has left, or has not begun does not.

It takes seconds until a process counts as one that hangs, so all of these groups of processes run at the same time.
"""

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import toy_run
from test_processes import SILENT, contents, train
from torch.distributed import FileStore
from toy_processes import in_groups, in_processes

from mtbert import api
from mtbert.processes import ALONE, Connected, Processes
from mtbert.recipe.settings import validate_recipe
from mtbert.training import heartbeat
from mtbert.training.heartbeat import heartbeats
from mtbert.training.run import Run
from mtbert.training.start import start_run

folder = toy_run.shared_folder
Act = Callable[[Connected, dict[str, Any], Path], Any]


def hangs_in_a_step(together: Connected, raw: dict[str, Any], out: Path) -> str:
    real = Run.step

    def step(run: Run) -> Any:
        if run.done == 5 and together.rank == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "step", step)
        return train(raw, out, together)


def hangs_in(place: str) -> Act:
    def act(together: Connected, raw: dict[str, Any], out: Path) -> str:
        def stop(*_: Any, **__: Any) -> None:
            while together.beat(0)[1] == 0:  # a process that has not begun cannot be missed
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGSTOP)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mtbert.api.connect", lambda: together)
            if together.rank == 1:
                patch.setattr(place, stop)
            return str(api.train(raw, out=out))

    return act


def fails_and_hangs(together: Connected, raw: dict[str, Any], out: Path) -> Any:
    @contextmanager
    def tracker(*_: Any) -> Iterator[Any]:
        def broken(*_: Any) -> None:
            raise ValueError("broken")

        try:
            yield broken
        finally:
            time.sleep(100)  # as one that cannot reach its server

    if not together.first:
        return train({}, out, together)
    with heartbeats(together):
        return start_run(validate_recipe(raw, "toy"), out, SILENT, track=tracker, processes=together)


def loses_the_store(act: Callable[[], object]) -> Act:
    """Calls ``act`` before each heartbeat after the third one."""

    def wait(together: Connected, *_: Any) -> str:
        real, calls = together.beat, itertools.count(1)

        def beat(number: int) -> list[int]:
            if next(calls) > 3:
                act()
            return real(number)

        together.beat = beat  # type: ignore[method-assign]
        with heartbeats(together):
            time.sleep(100)
        return "ended"

    return wait


def reset() -> None:
    raise RuntimeError("Connection reset")


def does_not_begin(together: Connected, *_: Any) -> str:
    heartbeat.EVERY, heartbeat.LATE, heartbeat.GIVEN_UP = 0.2, 5, 2.5
    if together.rank < 2:
        together._store.set(f"here {together.rank}", "")
        together._store.wait(["here 0", "here 1"])
        with heartbeats(together):
            together.any(False)
    return "did not begin"


def outlives_the_other(together: Connected, *_: Any) -> str:
    heartbeat.EVERY = 0.1
    with heartbeats(together):
        together.any(False)
        heartbeat.LATE, heartbeat.GIVEN_UP = 1, 0.5
        time.sleep(1.5 if together.first else 0)
    return "ended"


# By name: the number of processes, what they do, and the one that is killed at the end, because it cannot end itself.
GROUPS: Mapping[str, tuple[int, Act, int | None]] = {
    "step": (4, hangs_in_a_step, 2),
    "connect": (2, hangs_in("mtbert.api.join_run"), 1),
    "prepare": (2, hangs_in("mtbert.training.join.assemble"), 1),
    "failed": (2, fails_and_hangs, 0),
    "network": (2, loses_the_store(lambda: time.sleep(100)), None),  # it is cut
    "torchrun": (2, loses_the_store(reset), None),
    "late": (4, does_not_begin, None),
    "left": (2, outlives_the_other, None),
}


@dataclass(frozen=True)
class Ended:
    """The end of a group: what its processes returned, the lines that mtbert printed, and the folder of the run."""

    found: list[Any]
    lines: list[str]
    out: Path


@pytest.fixture(scope="module")
def ended(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """The ends of all groups of processes in :data:`GROUPS`. A process is given up after 4 seconds.

    With less, a busy machine would be taken for one that hangs.
    """
    place = tmp_path_factory.mktemp("hanging")
    raw = toy_run.raw_recipe(folder, shards=4, checkpoint_every=3)

    def work(name: str, act: Act) -> Callable[[Processes], Any]:
        def acts(together: Processes) -> Any:
            assert isinstance(together, Connected)
            heartbeat.EVERY, heartbeat.MISSED = 0.4, 10
            sys.stderr = (place / f"{name}.log").open("a", encoding="utf-8")
            return act(together, raw, place / name)

        return acts

    groups = [(size, work(name, act)) for name, (size, act, _) in GROUPS.items()]
    hanging = [(group, rank) for group, (_, _, rank) in enumerate(GROUPS.values()) if rank is not None]
    ended = {}
    for name, found in zip(GROUPS, in_groups(groups, hanging), strict=True):
        lines = (place / f"{name}.log").read_text(encoding="utf-8").splitlines()
        ended[name] = Ended(found, [line for line in lines if line.startswith("mtbert: ")], place / name)
    return ended


def test_a_stopped_process_ends_the_others_with_one_line_and_the_run_resumes(
    folder: Path, tmp_path: Path, ended: dict[str, Ended]
):
    found, lines, out = ended["step"].found, ended["step"].lines, ended["step"].out
    assert isinstance(found[2], EOFError)
    # They end without an answer, or because one of them has ended.
    assert all(isinstance(each, EOFError) or each.startswith("Lost: step 6: ") for each in found), found
    again = f"Go on with: mtbert.train(resume='{out}')"
    assert lines == [f"mtbert: step 6: rank 2 of this run has not answered for 4 seconds. {again}"]
    raw = toy_run.raw_recipe(folder, shards=4, checkpoint_every=3)
    assert in_processes(2, lambda p: train(raw, out, p)) == ["done"] * 2
    in_processes(1, lambda p: train(raw, tmp_path / "whole", p))
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", ["connect", "prepare"])
def test_a_process_stopped_before_the_first_step_ends_the_others_with_one_line(ended: dict[str, Ended], name: str):
    assert [type(each) for each in ended[name].found] == [EOFError] * 2
    said = "mtbert: rank 1 of this run has not answered for 4 seconds. Give the same command again."
    assert ended[name].lines == [said]


def test_a_process_that_failed_and_then_hangs_ends_the_others(ended: dict[str, Ended]):
    found, lines, out = ended["failed"].found, ended["failed"].lines, ended["failed"].out
    assert [type(each) for each in found] == [EOFError] * 2
    again = f"Go on with: mtbert.train(resume='{out}')"
    assert lines == [f"mtbert: step 2: rank 0 of this run has not answered for 4 seconds. {again}"]


def test_a_process_that_cannot_hear_the_others_ends(ended: dict[str, Ended]):
    assert [type(each) for each in ended["network"].found] == [EOFError] * 2
    assert "of this run has not answered" in "".join(ended["network"].lines)


def test_the_line_names_torchrun_if_that_has_ended(ended: dict[str, Ended]):
    assert [type(each) for each in ended["torchrun"].found] == [EOFError] * 2
    said = "mtbert: torchrun has not answered for 4 seconds. Give the same command again."
    assert set(ended["torchrun"].lines) == {said}


def test_a_process_that_does_not_begin_is_named_now_and_then_and_given_up_in_the_end(ended: dict[str, Ended]):
    assert [type(each) for each in ended["late"].found] == [EOFError, EOFError, str, str]
    late = "mtbert: rank 2, rank 3: not begun after"
    assert ended["late"].lines == [
        f"{late} 1 seconds. The others wait.",
        f"{late} 2 seconds. The others wait.",
        f"{late} 3 seconds. Give the same command again.",
    ]


def test_a_process_that_has_left_is_not_late(ended: dict[str, Ended]):
    assert ended["left"].found == ["ended"] * 2
    assert ended["left"].lines == []


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


def test_a_beat_does_not_wait_for_the_store_by_which_the_processes_are_connected(tmp_path: Path):
    class Busy:
        def clone(self) -> FileStore:
            return FileStore(str(tmp_path / "store"))

    assert Connected(Busy(), 0, 2).beat(1) == [1, 0]  # type: ignore[arg-type]


def test_a_process_that_ended_with_an_error_can_still_say_why_and_counts_as_one_that_takes_part(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)

    def work(together: Processes) -> list[int]:
        assert isinstance(together, Connected)
        with pytest.raises(ValueError, match="wrong"), heartbeats(together):
            while together.beat(0)[together.rank] < 2:
                time.sleep(0.01)
            raise ValueError("wrong")
        os.kill(os.getpid(), signal.SIGTERM)  # as torchrun does as soon as another process has ended
        first = together.beat(0)[together.rank]
        time.sleep(0.05)
        return [first > 1, together.beat(1)[together.rank] - first]

    assert in_processes(2, work) == [[True, 0]] * 2


def test_a_process_that_trains_alone_has_no_thread_for_it():
    before = threading.active_count()
    with heartbeats(ALONE):
        assert threading.active_count() == before
