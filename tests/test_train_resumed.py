"""A run that is stopped anywhere and resumed is bitwise equal to one never stopped; with other data it is refused."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pytest
import toy_run
from rich.console import Console

from mtbert.data import cache
from mtbert.recipe.files import load_recipe
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run

SILENT = Console(quiet=True)
folder = toy_run.folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from mtbert.cli import main; main()", *map(str, arguments)]


def everything(run: Path) -> dict[str, bytes]:
    """Returns the files that must be bitwise equal: weights, optimizer, state and metrics."""
    files = [*(run / "last").iterdir(), *(run / "best").iterdir(), run / "metrics.jsonl"]
    return {str(f.relative_to(run)): f.read_bytes() for f in files}


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    timings = run / "timings.jsonl"
    while not timings.exists() or len(timings.read_text().splitlines()) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.mark.parametrize("mode", ["joint", "alternate"])
def test_a_run_killed_twice_and_resumed_equals_one_never_stopped_bitwise(mode: str, folder: Path):
    rounds = 90 if mode == "joint" else 35  # a round has one step or three
    sets = [f"train.mode={mode}", "train.epochs=1", f"train.rounds={rounds}", "train.checkpoint_every=7"]
    sets.append("train.evaluate_every=20")
    start = ["train", folder / "toy.yaml", *(word for s in sets for word in ("--set", s)), "--out"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}

    stopped = subprocess.Popen(command(*start, folder / "stopped"), **quiet)
    wait_for_step(folder / "stopped", 25, stopped)
    stopped.kill()  # without warning: the steps since the last checkpoint are lost and must be repeated
    stopped.communicate()

    resumed = subprocess.Popen(command("train", "--resume", folder / "stopped"), **quiet)
    wait_for_step(folder / "stopped", 50, resumed)
    resumed.send_signal(signal.SIGTERM)  # a request to stop: the run saves the current step
    output = resumed.communicate()[0]
    assert resumed.returncode == 130, output
    assert f"mtbert train --resume {folder / 'stopped'}" in output.replace("\n", " ")
    assert "Traceback" not in output
    at = json.loads((folder / "stopped/last/state.json").read_text())["done"]
    assert len([x for x in (folder / "stopped/metrics.jsonl").read_text().splitlines() if "losses" in x]) == at

    resume_run(folder / "stopped", SILENT)
    start_run(load_recipe(str(folder / "toy.yaml"), sets), folder / "whole", SILENT)
    whole, again = everything(folder / "whole"), everything(folder / "stopped")
    assert whole.keys() == again.keys()
    assert [name for name in whole if whole[name] != again[name]] == []


def test_a_run_can_stop_at_every_step(folder: Path, monkeypatch: pytest.MonkeyPatch):
    settings = load_recipe(
        str(folder / "toy.yaml"), ["train.rounds=2", "train.evaluate_every=2", "train.mode=alternate"]
    )
    start_run(settings, folder / "whole", SILENT)
    whole = everything(folder / "whole")
    real = Run.step
    for stop in range(1, 12):
        out = folder / f"stopped{stop}"

        def step(self: Run, stop: int = stop) -> Any:
            if self.done == stop:
                os.kill(os.getpid(), signal.SIGTERM)
                monkeypatch.setattr(Run, "step", real)
            return real(self)

        monkeypatch.setattr(Run, "step", step)
        with pytest.raises(Stopped):
            start_run(settings, out, SILENT)
        resume_run(out, SILENT)
        assert everything(out) == whole, stop


def test_a_run_killed_before_its_first_checkpoint_starts_again(folder: Path):
    settings = load_recipe(str(folder / "toy.yaml"))
    start_run(settings, folder / "whole", SILENT)
    start_run(settings, folder / "early", SILENT)
    for name in ("last", "best"):
        shutil.rmtree(folder / "early" / name)
    log = folder / "early/metrics.jsonl"
    with pytest.raises(FileNotFoundError, match=r"early/last: not there, although this run had saved it"):
        resume_run(folder / "early", SILENT)
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 20  # the refusal loses nothing
    first = next(i for i, line in enumerate(lines) if b"evaluation" in line)
    log.write_bytes(b"".join(lines[: first + 1]))
    resume_run(folder / "early", SILENT)
    assert everything(folder / "early") == everything(folder / "whole")


def test_resuming_a_finished_run_says_that_it_had_ended_and_changes_nothing(folder: Path):
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT)
    before = everything(folder / "run")
    said = io.StringIO()
    resume_run(folder / "run", Console(file=said, width=200))
    assert everything(folder / "run") == before
    done = len((folder / "run/timings.jsonl").read_text().splitlines())
    assert f"the run had ended at step {done} of {done}; its scores are below\n" in said.getvalue()
    assert "going on" not in said.getvalue()


def test_resuming_on_changed_data_is_refused_although_size_times_and_inode_are_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache, "FEWEST", 10)
    monkeypatch.setattr(cache, "SETTLED", -(10**12))
    monkeypatch.setattr(cache, "_stat", lambda path: [1, 2, 3, 4, 5])
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT)
    file = folder / "data/sts.csv"
    file.write_text(file.read_text()[:-2] + "5\n")
    with pytest.raises(ValueError, match=r"sts\.csv: changed since the run in .*run began"):
        resume_run(folder / "run", SILENT)


@pytest.mark.parametrize("line", ["new,a dog,a cat,1", "new,a dog,a cat,77", "new,a dog", "new,a dog,a cat,none"])
def test_resuming_on_changed_data_is_refused_whatever_stands_there_now(folder: Path, line: str):
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT)
    with (folder / "data/sts.csv").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=r"sts\.csv: changed since the run in .*run began"):
        resume_run(folder / "run", SILENT)


def test_resuming_on_a_changed_data_set_without_files_is_refused(folder: Path):
    rows = [{"id": f"s{i}", "sentence": f"film {i}", "sentiment": str(i % 2)} for i in range(20)]
    datasets.Dataset.from_list(rows).save_to_disk(folder / "data/saved")
    start_run(load_recipe(str(folder / "toy.yaml"), ["tasks.sst.train={hub: saved}"]), folder / "run", SILENT)
    shutil.rmtree(folder / "data/saved")
    rows[3]["sentence"] = "film and cat"
    datasets.Dataset.from_list(rows).save_to_disk(folder / "data/saved")
    with pytest.raises(ValueError, match=r"saved: changed since the run in .*run began"):
        resume_run(folder / "run", SILENT)


@pytest.mark.parametrize(
    ("old", "new"), [("seed: 0", "seed: 7"), ("lr: 0.001", "lr: 0.01"), ("rounds: min", "rounds: 9")]
)
def test_resuming_with_a_changed_recipe_is_refused(folder: Path, old: str, new: str):
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT)
    file = folder / "run/recipe.yaml"
    text = file.read_text()
    assert f"  {old}\n" in text
    file.write_text(text.replace(f"  {old}\n", f"  {new}\n"))
    before = (folder / "run/metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"run/recipe\.yaml: changed since the run began\. Undo that, or start a new"):
        resume_run(folder / "run", SILENT)
    assert (folder / "run/metrics.jsonl").read_bytes() == before
    file.write_text(text)
    resume_run(folder / "run", SILENT)
