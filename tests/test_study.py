"""Running a study: what is run and compared, and that a kill changes nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import toy_study
from children import Child
from rich.console import Console
from toy_study import STUDY, tables
from typer.testing import CliRunner

from mtbert import cli
from mtbert.recipe.files import load_recipe
from mtbert.studying import commands, plan, results
from mtbert.studying.run_processes import _room
from mtbert.studying.runs import lay_out, run_recipes
from mtbert.studying.summary import summarise
from mtbert.training.signals import Stopped

SILENT = Console(quiet=True)
folder = toy_study.folder
ended = toy_study.ended
undrawn = toy_study.undrawn


def test_a_study_runs_each_row_with_each_seed_and_keeps_what_it_needs(ended: Path):
    folders = {p.name for p in (ended / "out/cells").iterdir() if p.is_dir()}
    assert folders == {"sum-0", "sum-1", "pcgrad-0", "pcgrad-1"}
    for name in folders:
        made = load_recipe(str(ended / "out/cells" / name / "run/recipe.yaml"))
        assert made.train.seed == int(name[-1])
        assert made.train.aggregation.kind == name[:-2]
        kept = {p.name for p in (ended / "out/cells" / name / "run/best").iterdir()}
        assert "predictions.safetensors" in kept
        assert "training.safetensors" not in kept
        assert not (ended / "out/cells" / name / "run/last").exists()


def test_the_scores_are_those_that_the_runs_logged_of_the_models_that_predict(ended: Path):
    found = results.read_study(ended / "out")
    summary = summarise(found)
    evaluations = [[s for s in found.runs["sum"][seed].steps if "evaluation" in s] for seed in (0, 1)]
    logged = [max(lines, key=lambda line: line["aggregates"]["overall"]) for lines in evaluations]
    for task, metric in (("sst", "accuracy"), ("quora", "accuracy"), ("sts", "pearson")):
        values = [line["evaluation"][task]["metrics"][metric] for line in logged]
        assert summary.rows["sum"].scores[task].mean == pytest.approx(np.mean(values), abs=1e-12)
        assert summary.rows["sum"].scores[task].sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    overall = [line["aggregates"]["overall"] for line in logged]
    assert summary.rows["sum"].scores["overall"].mean == pytest.approx(np.mean(overall), abs=1e-12)


def test_a_difference_is_that_of_the_means_seed_by_seed(ended: Path):
    summary = summarise(results.read_study(ended / "out"))
    compared = summary.comparisons["control"]["pcgrad"]["sts"]
    scores = [summary.rows[row].scores["sts"].mean for row in ("pcgrad", "sum")]
    assert compared.other == "sum"
    assert compared.difference.mean == pytest.approx(scores[0] - scores[1], abs=1e-12)
    assert set(summary.comparisons["control"]) == {"pcgrad"}


@pytest.mark.usefixtures("undrawn")
def test_a_study_that_has_ended_is_not_run_again(ended: Path):
    before = tables(ended / "out")
    logs = {p: p.stat().st_mtime_ns for p in (ended / "out/cells").rglob("log.txt")}
    commands.run_study(plan.load_study(str(ended / "study.yaml")), ended / "out", 1, SILENT)
    assert {p: p.stat().st_mtime_ns for p in logs} == logs
    assert tables(ended / "out") == before


def test_other_settings_under_the_same_name_are_refused(ended: Path):
    with pytest.raises(ValueError, match=r"cells/sum-0: was run with other settings"):
        commands.run_study(plan.load_study(str(ended / "study.yaml"), ["train.lr=2e-3"]), ended / "out", 1, SILENT)


def test_runs_that_have_not_begun_can_take_other_settings(ended: Path, tmp_path: Path):
    shutil.copytree(ended, tmp_path / "copy")
    out = tmp_path / "copy/out"
    for seed in (0, 1):
        shutil.rmtree(out / f"cells/pcgrad-{seed}/run")
        (out / f"cells/pcgrad-{seed}/ended.json").unlink()
    (tmp_path / "copy/study.yaml").write_text(STUDY.replace("[train.", "[train.warmup=0.5, train."))
    lay_out(run_recipes(plan.load_study(str(tmp_path / "copy/study.yaml")), out, 1))
    assert load_recipe(str(out / "cells/pcgrad-0/recipe.yaml")).train.warmup == 0.5


@pytest.mark.usefixtures("undrawn")
def test_a_study_resumes_with_data_that_were_moved(ended: Path, tmp_path: Path):
    shutil.copytree(ended, tmp_path / "copy")
    (tmp_path / "copy/data").rename(tmp_path / "elsewhere")
    out = tmp_path / "copy/out"
    before = tables(out)
    shutil.rmtree(out / "cells/sum-1")
    moved = plan.load_study(str(ended / "study.yaml"), [f"data.root={tmp_path / 'elsewhere'}"])
    assert commands.run_study(moved, out, 1, SILENT).failed == {}
    assert tables(out) == before
    assert {load_recipe(str(p)).data.root for p in out.rglob("recipe.yaml")} == {str(tmp_path / "elsewhere")}


def test_a_killed_worker_is_reported_as_killed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    kill = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: real(kill, **options))
    failed = commands.run_study(plan.load_study(str(folder / "study.yaml"), []), folder / "out", 4, SILENT).failed
    assert failed["sum, seed 0"] == "killed by signal 9: was there enough memory?"


def test_a_folder_that_is_not_a_study_is_left_alone(folder: Path):
    (folder / "out").mkdir()
    (folder / "out/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no study"):
        commands.run_study(plan.load_study(str(folder / "study.yaml")), folder / "out", 1, SILENT)


@pytest.mark.usefixtures("undrawn")
def test_one_failed_run_does_not_stop_the_others(ended: Path, tmp_path: Path):
    out, study = tmp_path / "out", tmp_path / "study.yaml"
    text = STUDY.replace("toy.yaml", str(ended / "toy.yaml")).replace("seeds: [0, 1]", "seeds: [0]")
    broken = f"  broken: {{recipe: {ended / 'toy.yaml'}, set: [train.lr=1e30]}}"
    study.write_text(text.replace("rows:", f"rows:\n{broken}"))
    shutil.copytree(ended / "out/cells/pcgrad-0", out / "cells/pcgrad-0")  # a finished run, which saves a worker
    shutil.copy(ended / "out/study.json", out)
    done = CliRunner().invoke(cli.app, ["study", str(study), "--out", str(out)])
    assert done.exit_code == 1
    assert re.search(r"failed: broken, seed 0: FloatingPointError: step 2", done.output)
    found = results.read_study(out)
    assert set(found.runs) == {"sum", "pcgrad"}
    assert list(found.missing) == ["broken, seed 0"]
    assert set(summarise(found).comparisons["control"]) == {"pcgrad"}


def command(folder: Path, out: Path, log: Path) -> Child:
    """Starts a command that carries out the study in ``folder``, with real workers; ``log`` gets what it prints."""
    study = plan.load_study(str(folder / "study.yaml"))
    with log.open("w", buffering=1) as file:
        return Child(partial(commands.run_study, study, out, 1, Console(file=file, width=200)))


def wait_for_steps(file: Path, process: Child) -> None:
    """Waits until the log of a run has its first step."""
    end = time.monotonic() + 120
    while not (file.exists() and file.stat().st_size):
        assert not process.ended
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("how", "said"),
    [
        (signal.SIGKILL, "killed"),
        (signal.SIGTERM, "Stopped: stopped with 1 of 4 runs to go. Go on with the same call."),
    ],
)
def test_a_study_killed_and_started_again_gives_the_same_tables_bitwise(
    ended: Path, tmp_path: Path, how: int, said: str
):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    for made in ("tables", "figures", "cells/pcgrad-1"):
        shutil.rmtree(out / made)
    process = command(ended, out, tmp_path / "log")
    wait_for_steps(out / "cells/pcgrad-1/run/metrics.jsonl", process)
    assert process.process.pid is not None
    os.kill(process.process.pid, how)
    assert process.said() == said
    assert not (out / "tables").exists()
    commands.run_study(plan.load_study(str(ended / "study.yaml")), out, 1, SILENT)
    assert tables(out) == tables(ended / "out")


def test_no_worker_outlives_a_killed_study(folder: Path):
    (folder / "study.yaml").write_text(STUDY + "set: [train.epochs=5000]\n")
    process = command(folder, folder / "out", folder / "log")
    wait_for_steps(folder / "out/cells/sum-0/run/metrics.jsonl", process)
    process.process.kill()
    assert process.said() == "killed"
    until = time.monotonic() + 60
    while "stopped at step" not in (folder / "out/cells/sum-0/log.txt").read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert "stopped at step" in (folder / "out/cells/sum-0/log.txt").read_text()


def test_a_second_worker_waits_for_memory(monkeypatch: pytest.MonkeyPatch):
    class Memory:
        available = 3 * 1024**3

    class Running:
        pid = 1

        def __init__(self, gib: float) -> None:
            self.rss = gib * 1024**3

        def poll(self) -> None:
            return None

    monkeypatch.setattr("mtbert.studying.run_processes.psutil.virtual_memory", Memory)
    sizes = iter([2.5, 3.5])

    class Process:
        def __init__(self, pid: int) -> None: ...

        def memory_info(self) -> Running:
            return Running(next(sizes))

    monkeypatch.setattr("mtbert.studying.run_processes.psutil.Process", Process)
    assert _room([])
    assert _room([Running(0)])
    assert not _room([Running(0)])


def test_stopping_says_how_many_runs_are_left(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from contextlib import nullcontext

    monkeypatch.setattr("mtbert.studying.run_processes.signals", lambda: nullcontext(lambda: True))
    with pytest.raises(Stopped, match="4 of 4 runs to go"):
        commands.run_study(plan.load_study(str(folder / "study.yaml")), folder / "out", 1, SILENT)
