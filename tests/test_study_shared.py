"""Several commands that carry out one study: each run is trained once, and the last command writes the report.

Most tests replace training by a small program that only notes who has started it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import toy_run
import toy_study
from children import Child
from rich.console import Console
from toy_study import tables

from mtbert import locks
from mtbert.part_share import share_of
from mtbert.studying import commands, plan, results, worker
from mtbert.studying.plan import Plan
from mtbert.studying.runs import run_place

SILENT = Console(quiet=True)
ended = toy_study.ended
undrawn = toy_study.undrawn
IMITATION = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[-1])
with open(folder / "trained", "a") as file:
    file.write(f"{os.getppid()}\\n")
time.sleep(0.05)
while (folder.parents[2] / "hold").exists():
    time.sleep(0.01)
if folder.name in os.environ.get("FAILS", "").split():
    sys.exit("no such disk")
(folder / "ended.json").write_text('{"seconds": 1.0}')
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of six runs, whose training is imitated and whose report is one line for each time that it is written."""
    toy_run.set_up(tmp_path)
    text = "rows:\n  a: toy.yaml\n  b: {recipe: toy.yaml, set: [train.lr=1e-2]}\nseeds: [0, 1, 2]\n"
    (tmp_path / "study.yaml").write_text(text)
    real = subprocess.Popen

    def imitated(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-S", "-c", IMITATION, command[-1]], **options)  # type: ignore[call-overload, no-any-return]

    def write(found: object, out: Path, console: Console) -> None:
        time.sleep(0.2)
        with (out / "report.html").open("a") as file:
            file.write(f"{os.getpid()}\n")

    monkeypatch.setattr("mtbert.studying.run_processes.subprocess.Popen", imitated)
    monkeypatch.setattr("mtbert.studying.run_processes._room", lambda running: True)
    monkeypatch.setattr(results, "read_study", lambda out: type("Results", (), {"runs": [1]}))
    monkeypatch.setattr(commands, "_write", write)
    return plan.load_study(str(tmp_path / "study.yaml"))


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """A file that keeps runs from ending while it exists."""
    file = tmp_path / "hold"
    file.touch()
    return file


def trained(out: Path) -> dict[str, list[str]]:
    """Returns by run the processes that have started to train it."""
    return {file.parent.name: file.read_text().split() for file in sorted(out.glob("cells/*/trained"))}


def reports(out: Path) -> list[str]:
    file = out / "report.html"
    return file.read_text().split() if file.exists() else []


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def command(study: Plan, out: Path, part: str = "1/1", *, workers: int = 1, wait: bool = True) -> Child:
    return Child(partial(commands.run_study, study, out, workers, SILENT, share=share_of(part), wait=wait))


@pytest.mark.parametrize("workers", [1, 2])
def test_four_commands_train_each_run_once_and_the_last_one_writes_the_report(
    study: Plan, tmp_path: Path, hold: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    out, run_all = tmp_path / "out", commands.run_all

    def at_work(*given: Any, **options: Any) -> dict[str, str]:
        (tmp_path / f"{os.getpid()}.at_work").touch()
        return run_all(*given, **options)

    monkeypatch.setattr(commands, "run_all", at_work)
    each = [command(study, out, workers=workers) for _ in range(4)]
    until(lambda: len(list(tmp_path.glob("*.at_work"))) == 4)  # one that begins after the end writes the report anew
    hold.unlink()
    assert [child.said() for child in each] == ["done"] * 4
    found = trained(out)
    assert list(found) == ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"]
    assert {len(by) for by in found.values()} == {1}
    assert {by for (by,) in found.values()} <= {str(child.process.pid) for child in each}
    assert len({by for (by,) in found.values()}) > 1
    assert len(reports(out)) == 1
    assert [line.split()[3] for line in commands.list_runs(study, out)] == ["ended"] * 6


def test_a_killed_commands_run_is_taken_over_once_its_worker_has_ended(study: Plan, tmp_path: Path, hold: Path):
    out = tmp_path / "out"
    first = command(study, out, "1/6")
    until(lambda: trained(out))
    second = command(study, out, "1/6")
    assert first.process.pid is not None
    os.kill(first.process.pid, signal.SIGKILL)
    assert first.said() == "killed"
    time.sleep(0.3)
    assert commands.list_runs(study, out, share_of("1/6")) == ["1  a  0  training"]
    hold.unlink()
    assert second.said() == "done"
    assert trained(out) == {"a-0": [str(first.process.pid)]}  # its worker came to the end, so nothing was left


def test_a_run_whose_worker_was_killed_with_its_command_is_resumed_by_another(study: Plan, tmp_path: Path, hold: Path):
    out = tmp_path / "out"
    first = command(study, out, "1/6")
    until(lambda: trained(out))
    second = command(study, out, "1/6")
    assert first.process.pid is not None
    os.kill(first.process.pid, signal.SIGKILL)
    for process in toy_workers(out):
        os.kill(process, signal.SIGKILL)
    until(lambda: len(trained(out)["a-0"]) == 2)
    hold.unlink()
    assert second.said() == "done"
    assert trained(out) == {"a-0": [str(first.process.pid), str(second.process.pid)]}


def toy_workers(out: Path) -> list[int]:
    """Returns the processes that train runs of a study in this folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if any(word.startswith(os.fsencode(out / "cells")) for word in words):
            found.append(int(place.parent.name))
    return found


def test_shares_have_each_run_once_and_whoever_is_last_writes_the_report(study: Plan, tmp_path: Path, capsys):
    out = tmp_path / "out"
    console = Console(width=200)
    for number, runs in ((1, {"a-0", "a-2"}), (3, {"a-1"})):
        before = set(trained(out))
        commands.run_study(study, out, 1, console, share=share_of(f"{number}/4"))
        assert set(trained(out)) - before == runs
        assert reports(out) == []
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "3 of 6 runs left: b-0 (waiting), b-1 (waiting), b-2 (waiting). To see all, give --list."
    commands.run_study(study, out, 1, SILENT, share=share_of("2/4"))
    commands.run_study(study, out, 1, SILENT, share=share_of("4/4"))
    assert {len(by) for by in trained(out).values()} == {1}
    assert len(reports(out)) == 1


def test_a_share_without_runs_trains_nothing(study: Plan, tmp_path: Path):
    assert commands.run_study(study, tmp_path / "out", 1, SILENT, share=share_of("8/9")).failed == {}
    assert trained(tmp_path / "out") == {}


def test_a_command_that_does_not_wait_leaves_the_report_to_the_last_one(study: Plan, tmp_path: Path, hold: Path):
    out = tmp_path / "out"
    first = command(study, out, workers=6)
    until(lambda: len(trained(out)) == 6)
    second = command(study, out, wait=False)
    assert second.said() == "done"
    assert not first.ended
    hold.unlink()
    assert first.said() == "done"
    assert reports(out) == [str(first.process.pid)]


def test_a_changed_study_is_refused_while_another_command_is_at_work(study: Plan, tmp_path: Path, hold: Path):
    out, file = tmp_path / "out", tmp_path / "study.yaml"
    first = command(study, out, workers=6)
    until(lambda: len(trained(out)) == 6)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for changed in ("lr=2e-2", "lr=1e-2, train.epochs=1", None):
        text = file.read_text()
        other = text.replace("lr=1e-2", changed) if changed else text.replace("[0, 1, 2]", "[0, 1]")
        file.write_text(other)
        with pytest.raises(ValueError, match=r"out: another mtbert study is at work there, with other rows, seeds, "):
            commands.run_study(plan.load_study(str(file)), out, 1, SILENT, wait=False)
        file.write_text(text)
    moved = plan.load_study(str(file), [f"data.root={shutil.copytree(tmp_path / 'data', tmp_path / 'moved')}"])
    with pytest.raises(ValueError, match=r"with other rows, seeds, settings or place of the data\. Give the same, "):
        commands.run_study(moved, out, 1, SILENT, wait=False)
    assert {path: path.read_bytes() for path in before} == before
    hold.unlink()
    assert first.said() == "done"
    file.write_text(file.read_text().replace("[0, 1, 2]", "[0, 1, 2, 3]"))
    commands.run_study(plan.load_study(str(file)), out, 1, SILENT)  # nobody is at work any more
    assert len(trained(out)) == 8


def test_a_failure_of_one_machine_is_tried_on_others_and_one_of_the_numbers_is_not(
    study: Plan, tmp_path: Path, hold: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    monkeypatch.setenv("FAILS", "a-0 b-0")
    first = command(study, out, workers=6)
    until(lambda: len(trained(out)) == 6)
    monkeypatch.setenv("FAILS", "")
    run_place(out, "b", 0).failed.write_text('{"why": "FloatingPointError: step 2"}')
    threading.Timer(0.5, hold.unlink).start()
    failed = commands.run_study(study, out, 1, SILENT).failed
    assert failed == {"b, seed 0": "FloatingPointError: step 2"}
    assert first.said() == "done"
    assert {run: len(by) for run, by in trained(out).items() if len(by) > 1} == {"a-0": 2}
    assert len(reports(out)) == 1
    assert commands.run_study(study, out, 1, SILENT).failed == {}  # a later call tries again
    assert {run: len(by) for run, by in trained(out).items() if len(by) > 1} == {"a-0": 2, "b-0": 2}


def test_numbers_that_are_not_finite_are_recorded_for_other_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def start(*_: object) -> None:
        raise FloatingPointError("step 2: the loss is nan")

    monkeypatch.setattr(worker, "load_recipe", lambda _: None)
    monkeypatch.setattr(worker, "start_run", start)
    place = run_place(tmp_path, "a", 0)
    place.folder.mkdir(parents=True)
    with pytest.raises(FloatingPointError):
        worker.work(place)
    assert place.why_failed == "FloatingPointError: step 2: the loss is nan"


def test_the_list_says_the_state_of_each_run_and_writes_nothing(study: Plan, tmp_path: Path):
    out = tmp_path / "out"
    assert commands.list_runs(study, out) == [
        f"{number}  {row}  {seed}  waiting" for number, (row, seed) in enumerate(study.runs, 1)
    ]
    assert not out.exists()
    commands.run_study(study, out, 1, SILENT, share=share_of("6/6"))
    for row, seed in (("b", 0), ("a", 1)):
        run_place(out, row, seed).run.mkdir()
        (run_place(out, row, seed).run / "recipe.yaml").touch()
    run_place(out, "b", 1).failed.write_text("{}")
    before = sorted(out.rglob("*"))
    held = locks.claim_folder(run_place(out, "a", 1).folder)
    assert held is not None
    states = [line.split() for line in commands.list_runs(study, out)]
    assert states == [
        ["1", "a", "0", "waiting"],
        ["2", "b", "0", "stopped"],
        ["3", "a", "1", "training"],
        ["4", "b", "1", "failed"],
        ["5", "a", "2", "waiting"],
        ["6", "b", "2", "ended"],
    ]
    held.leave()
    assert commands.list_runs(study, out, share_of("3/6")) == ["3  a  1  stopped"]
    assert set(out.rglob("*")) - set(before) <= {run_place(out, "a", 1).folder / "lock"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine").touch()
    with pytest.raises(ValueError, match="exists and is no study"):
        commands.list_runs(study, tmp_path / "other")


@pytest.mark.usefixtures("undrawn")
def test_a_command_killed_at_work_and_another_give_the_tables_of_one_command_bitwise(ended: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    for made in ("tables", "figures", "report.html", "cells/pcgrad-0", "cells/pcgrad-1"):
        shutil.rmtree(out / made) if (out / made).is_dir() else (out / made).unlink()

    study = plan.load_study(str(ended / "study.yaml"))
    log = tmp_path / "log"

    def start(console: Console) -> Child:
        return Child(partial(commands.run_study, study, out, 1, console))

    first = start(SILENT)
    with log.open("w", buffering=1) as file:
        second = start(Console(file=file, width=200))
    metrics = [out / f"cells/pcgrad-{seed}/run/metrics.jsonl" for seed in (0, 1)]
    until(lambda: any(file.exists() and file.stat().st_size for file in metrics))
    first.process.kill()
    assert first.said() == "killed"
    assert second.said() == "done"
    assert tables(out) == tables(ended / "out")
    assert re.search(r"pcgrad, seed \d: (starts|goes on)", log.read_text())
