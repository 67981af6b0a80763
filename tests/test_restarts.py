"""A run under torchrun: processes that it restarts continue the run that they began, and no other one."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_run
from test_processes import train
from torch.distributed import HashStore
from toy_processes import in_processes

from mtbert import api, locks, processes
from mtbert.processes import ALONE, Processes
from mtbert.scores import Scores
from mtbert.training import session

Launch = Callable[..., Processes]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Makes this process the only one that a torchrun has started, as often as ``restarts`` says and once more."""

    def started(torchrun: HashStore, restarts: int, most: int = 3) -> Processes:
        rendezvous = sys.modules["torch.distributed.rendezvous"]
        monkeypatch.setattr(rendezvous, "rendezvous", lambda *_, **__: iter([(torchrun, 0, 1)]))
        monkeypatch.setattr(processes, "_connected", None)
        names = {"RUN_ID": "none", "RESTART_COUNT": str(restarts), "MAX_RESTARTS": str(most)}
        for name, value in names.items():
            monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
        monkeypatch.setenv("WORLD_SIZE", "1")
        return processes.connect()

    return started


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends each run where its first step would be."""
    monkeypatch.setattr(session, "lead", lambda run, *_: Scores(run.recipe, {}, "dev", ()))


def launch_of(run: Path) -> str | None:
    found: str | None = json.loads((run / "environment.json").read_text())["launch"]
    return found


def test_all_starts_by_one_torchrun_have_its_mark_and_those_by_another_one_do_not(start: Launch):
    first, other = HashStore(), HashStore()
    seen = [start(first, 0), start(first, 1), start(other, 1)]
    assert len({each.launch for each in seen}) == 2
    assert seen[0].launch == seen[1].launch is not None
    assert [each.restarted for each in seen] == [False, True, True]
    assert start(first, 0, most=0) is ALONE  # nothing is restarted, so torchrun need not be asked


def test_overwrite_replaces_an_old_run_once_and_a_restart_continues_the_new_one(
    toy: Path, run_copy: Path, start: Launch, untrained: None
):
    here, left = HashStore(), run_copy / "left"

    def trained(restarts: int, torchrun: HashStore = here) -> bool:
        """Returns whether the run was continued, and not replaced."""
        left.touch()
        start(torchrun, restarts)
        api.train(toy / "toy.yaml", out=run_copy, overwrite=True)
        return left.exists()

    assert not trained(0)
    assert not trained(0)  # a script trains twice
    assert trained(1)
    assert not trained(1, HashStore())  # the old run is there still: processes were killed before they replaced it
    assert not trained(2)  # the run is that of the other torchrun now
    assert trained(3)


def test_a_restart_does_not_continue_an_old_run_that_was_to_be_left_alone(toy: Path, run_copy: Path, start: Launch):
    for restarts in (0, 1):
        start(HashStore(), restarts)
        with pytest.raises(
            ValueError, match=rf"^{run_copy}: exists\. Go on with: mtbert\.train\(resume='{run_copy}'\)"
        ):
            api.train(toy / "toy.yaml", out=run_copy)


def test_a_restart_continues_only_a_run_of_the_same_recipe(toy: Path, run_copy: Path, start: Launch, untrained: None):
    here = HashStore()
    start(here, 0)
    api.train(toy / "toy.yaml", out=run_copy, overwrite=True)
    start(here, 1)
    with pytest.raises(ValueError, match=f"^{run_copy}: exists."):
        api.train(toy / "toy.yaml", out=run_copy, changes={"train.seed": 5})
    api.train(toy / "toy.yaml", out=run_copy)


def test_if_a_process_is_lost_before_the_run_is_in_its_folder_the_command_must_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    toy_run.set_up(tmp_path)
    monkeypatch.setattr(locks.Held, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    raw = toy_run.raw_recipe(tmp_path, shards=2)
    found = in_processes(2, lambda together: train(raw, tmp_path / "run", together))
    assert found[1] == "Lost: one of the 2 processes of this run was lost. Give the same command again."


def test_a_run_is_made_longer_once_and_a_restart_continues_it(run_copy: Path, start: Launch, untrained: None):
    here, said = HashStore(), "^epochs 3: the run is planned for 3."
    launch = start(here, 0).launch
    assert launch_of(run_copy) is None
    api.train(resume=run_copy, epochs=3)
    assert launch_of(run_copy) == launch
    with pytest.raises(ValueError, match=said):
        api.train(resume=run_copy, epochs=3)
    start(here, 1)
    api.train(resume=run_copy, epochs=3)
    start(HashStore(), 1)
    with pytest.raises(ValueError, match=said):
        api.train(resume=run_copy, epochs=3)
