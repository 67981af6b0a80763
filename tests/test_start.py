"""The start of a run: it is exclusive and atomic, whenever a kill comes and however many starts there are at once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy_run
from children import FORK, Child, killed
from rich.console import Console

from mtbert import files, locks
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run

folder = toy_run.folder

SILENT = Console(quiet=True)
BUSY = "another mtbert train is at work there. Wait for it, or give another folder."
BEGUN = ["environment.json", "lock", "recipe.yaml"]


@pytest.fixture
def short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set-up in which a run stops before its first step."""
    monkeypatch.setattr("mtbert.training.session.lead", lambda *_: {})
    return folder


def settings(folder: Path, *changes: str) -> Recipe:
    return load_recipe(str(folder / "toy.yaml"), ["train.epochs=1", "train.rounds=2", *changes])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def seed(run: Path) -> int:
    return load_recipe(str(run / "recipe.yaml")).train.seed


def everything(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


# Two at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("before", ["nothing", "empty", "run"])
def test_one_of_three_starts_at_once_begins_and_the_others_name_the_folder(
    short: Path, monkeypatch: pytest.MonkeyPatch, before: str, attempt: int
):
    out = short / "runs" / "new"
    if before == "empty":
        out.mkdir(parents=True)
    if before == "run":
        start_run(settings(short, "train.seed=7"), out, SILENT)
    together, others_ended = FORK.Barrier(3), FORK.Event()
    monkeypatch.setattr("mtbert.training.session.lead", lambda *_: others_ended.wait(60))

    def start() -> None:
        together.wait(60)
        start_run(settings(short), out, SILENT, overwrite=before == "run")

    children = [Child(start) for _ in range(3)]
    wait_until(lambda: sum(child.ended for child in children) == 2 and names(out) == BEGUN)
    with pytest.raises(ValueError, match="new: another mtbert train is at work there"):
        resume_run(out, SILENT)
    others_ended.set()
    assert sorted(child.said() for child in children) == [*[f"ValueError: {out}: {BUSY}"] * 2, "done"]
    assert names(out) == BEGUN
    assert names(out.parent) == ["new"]
    assert seed(out) == 0


def test_a_start_is_refused_before_anything_is_read(short: Path):
    with (
        locks.alone(short / "run", "train"),
        pytest.raises(ValueError, match=f"run: {BUSY}"),
    ):
        start_run(settings(short, "tasks.sst.train=gone.csv"), short / "run", SILENT)


def test_one_of_two_commands_at_once_trains_and_the_other_exits_with_2(folder: Path):
    out = folder / "run"
    words = ["train", folder / "toy.yaml", "--out", out, "--set", "train.epochs=5000"]
    command = [sys.executable, "-c", "from mtbert.cli import main; main()", *map(str, words)]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    wait_until(lambda: any(process.poll() is not None for process in both))
    first, other = sorted(both, key=lambda process: process.poll() is None)
    assert first.communicate()[1] == f"mtbert: {out}: {BUSY}\n"
    assert first.returncode == 2
    wait_until(lambda: (out / "timings.jsonl").exists() and bool((out / "timings.jsonl").read_bytes()))
    other.send_signal(signal.SIGTERM)
    other.communicate()
    assert other.returncode == 130
    assert "last" in names(out)


def test_a_lock_that_was_removed_while_another_waited_for_it_is_not_held(tmp_path: Path, monkeypatch):
    """The second process opens the lock, but locks it only after the first has removed the lock and the folder."""
    first = locks.alone(tmp_path / "run", "train")
    first.__enter__()
    real = locks.fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(locks.fcntl, "flock", real)
        first.__exit__(None, None, None)
        assert not (tmp_path / "run").exists()
        real(descriptor, how)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    with (
        locks.alone(tmp_path / "run", "train"),
        pytest.raises(ValueError, match="run: another mtbert train"),
        locks.alone(tmp_path / "run", "train"),
    ):
        pass


def test_a_folder_is_held_without_a_gap_while_it_is_replaced(tmp_path: Path, monkeypatch):
    out = tmp_path / "run"
    said: list[str] = []
    inside = False

    def attempt() -> None:
        nonlocal inside
        if not inside:
            inside = True
            try:
                with locks.alone(out, "train"):
                    said.append("held")
            except ValueError as error:
                said.append(str(error))
            inside = False

    with locks.alone(out, "train") as held:
        (out / "old").write_text("x")
        for owner, name in ((Path, "rename"), (files.shutil, "rmtree"), (os, "fsync"), (os, "unlink"), (os, "close")):
            real = getattr(owner, name)
            monkeypatch.setattr(owner, name, lambda *a, real=real, **o: (attempt(), real(*a, **o), attempt())[1])
        held.replace(lambda new: (new / "new").write_text("x"))
        monkeypatch.undo()
        attempt()
    assert len(said) > 12
    assert set(said) == {f"{out}: {BUSY}"}
    assert names(out) == ["lock", "new"]
    assert names(tmp_path) == ["run"]


# Kills -----------------------------------------------------------------------------------------------------

OPERATIONS = 60  # more than a start has


def check_killed_start(folder: Path, begin: Callable[[], object], seeds: set[int]) -> None:
    """Kills ``begin`` at each of its file operations; afterwards an expected run exists, and can resume or be replaced.

    Args:
        folder: Contains ``runs/`` and the initial ``runs/new``; both are restored before each kill.
        begin: Starts the run with seed 1 in ``runs/new``.
        seeds: The seeds of the runs that may exist after a kill; 0 means no run.
    """
    runs, before = folder / "runs", folder / "before"
    runs.mkdir(exist_ok=True)
    shutil.copytree(runs, before)
    found, seen = set(), set()
    for operation in range(OPERATIONS):
        shutil.rmtree(runs)
        shutil.copytree(before, runs)
        if not killed(begin, operation):
            break
        there = locks.find_held(runs / "new")
        left = seed(there) if there is not None and not locks.is_free(runs / "new") else 0
        found.add(left)
        layout = (left, *names(runs), *(path.name for run in runs.iterdir() for path in run.iterdir()))
        if layout in seen:  # such kills differ only in the leftovers of a folder that is being removed
            continue
        seen.add(layout)
        if left:
            resume_run(runs / "new", SILENT)
            assert names(runs) == ["new"], operation
            assert seed(runs / "new") == left
            assert not [name for name in names(runs / "new") if name.startswith(".")]
            if left == 7:
                assert everything(runs / "new") == everything(before / "new"), operation
        start_run(settings(folder, "train.seed=1"), runs / "new", SILENT, overwrite=True)
        assert (names(runs), names(runs / "new"), seed(runs / "new")) == (["new"], BEGUN, 1), operation
    else:
        raise AssertionError("more operations than are killed here")
    assert operation > 8
    assert found == seeds


def test_a_kill_at_any_moment_of_a_start_leaves_nothing_or_the_run(short: Path):
    def begin() -> None:
        start_run(settings(short, "train.seed=1"), short / "runs/new", SILENT)

    check_killed_start(short, begin, {0, 1})


def test_a_kill_at_any_moment_of_an_overwriting_start_leaves_the_old_run_or_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    start_run(settings(folder, "train.seed=7"), folder / "runs/new", SILENT)
    monkeypatch.setattr("mtbert.training.session.lead", lambda *_: {})

    def begin() -> None:
        start_run(settings(folder, "train.seed=1"), folder / "runs/new", SILENT, overwrite=True)

    check_killed_start(folder, begin, {7, 1})


# Mistakes --------------------------------------------------------------------------------------------------


def test_a_start_that_fails_leaves_no_new_folder_and_no_lock(folder: Path):
    for change in ("tasks.sst.train=gone.csv", "model.max_length=4000", "train.device=mps"):
        with pytest.raises((ValueError, FileNotFoundError)):
            start_run(settings(folder, change), folder / "a/b/run", SILENT)
        assert names(folder) == ["data", "encoder", "toy.yaml"]
    (folder / "a/run").mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        start_run(settings(folder, "tasks.sst.train=gone.csv"), folder / "a/run", SILENT)
    assert names(folder / "a") == ["run"]
    assert names(folder / "a/run") == []


def test_a_run_begins_where_a_link_to_its_folder_leads(short: Path):
    (short / "disk").mkdir()
    (short / "run").symlink_to(short / "disk/run")
    start_run(settings(short, "train.seed=1"), short / "run", SILENT)
    start_run(settings(short, "train.seed=2"), short / "run", SILENT, overwrite=True)
    assert (short / "run").is_symlink()
    assert names(short / "disk") == ["run"]
    assert seed(short / "disk/run") == 2


def test_a_hidden_folder_of_another_program_is_not_taken_for_a_run_that_was_put_aside(short: Path):
    (short / ".run.old").mkdir()
    (short / ".run.old/mine.txt").write_text("mine")
    with pytest.raises(FileNotFoundError, match="run: no run here"):
        resume_run(short / "run", SILENT)
    assert (short / ".run.old/mine.txt").exists()
