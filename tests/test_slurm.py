"""``mtbert study --slurm``: what is submitted, what a job's file holds, and that its jobs carry out the study."""

import os
import pickle
import pickletools
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_study
from children import Child
from rich.console import Console
from toy_study import tables

from mtbert.studying import plan, slurm, worker
from mtbert.studying.commands import EndedStudy
from mtbert.studying.results import read_outline
from mtbert.training.signals import Stopped

SILENT = Console(quiet=True)
folder = toy_study.folder
ended = toy_study.ended


def submit(folder: Path, out: Path, *options: str, jobs: int = 2, console: Console = SILENT) -> list[object]:
    name = str(folder / "study.yaml")
    found = plan.load_study(name)
    return slurm.submit_study(found, name, ["train.lr=1e-3"], out, 1, jobs, options, console, cluster="local")


def test_jobs_share_the_runs_and_give_the_tables_of_one_command_bitwise(ended: Path, tmp_path: Path, capfd):
    pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    for made in ("tables", "figures", "cells/pcgrad-0", "cells/pcgrad-1"):
        shutil.rmtree(out / made)
    jobs = submit(ended, out, "partition=gpu", "cpus-per-task=3", console=Console(width=1000))
    said = capfd.readouterr().out.splitlines()
    assert said[1:] == [
        f"done: submitted: {jobs[0].job_id}, {jobs[1].job_id}; their logs are {out}/slurm/*_log.out",
        f"next: mtbert study {ended}/study.yaml --set train.lr=1e-3 --out {out} --list",
    ]
    end = time.monotonic() + 300
    while not all(job.done() for job in jobs):
        assert time.monotonic() < end
        time.sleep(0.1)
    logs = "".join(file.read_text() for file in (out / "slurm").glob("*_log.out"))
    assert tables(out) == tables(ended / "out"), logs
    assert logs.count("done: the report is ") == 1


def test_a_jobs_file_names_plain_values_and_one_class_of_ours(folder: Path, monkeypatch: pytest.MonkeyPatch):
    submitit = pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")
    monkeypatch.setattr(submitit.local.local, "start_controller", lambda **_: type("Process", (), {"pid": 7}))
    submit(folder, folder / "out", "cpus-per-task=3", jobs=1)
    (file,) = (folder / "out/slurm").glob("*.pkl")
    names, strings = set(), []
    for operation, value, _ in pickletools.genops(file.read_bytes()):
        if operation.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            strings.append(value)
        elif operation.name == "STACK_GLOBAL":
            names.add(".".join(strings[-2:]))
        assert operation.name not in ("GLOBAL", "INST", "REDUCE", "EXT1", "EXT2", "EXT4"), operation
    assert names == {"submitit.core.utils.DelayedSubmission", "mtbert.studying.slurm.StudyJob"}
    assert read_outline(folder / "out").threads == 3  # the cores of a job, not those of this machine


def test_a_job_is_queued_again_as_the_same_job_once_its_runs_have_been_saved(tmp_path: Path):
    pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")
    saves = "trap 'sleep 0.2; touch saved; exit' TERM; touch ready; while :; do sleep 0.01; done"
    with subprocess.Popen(["sh", "-c", saves], cwd=tmp_path) as run:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        job = slurm.StudyJob("six", ("train.lr=1e-3",), "/shared/out", 2)
        again = job.checkpoint()
        run.kill()
    assert (tmp_path / "saved").exists()
    assert pickle.loads(pickle.dumps(again)).function == job


def test_a_job_that_is_not_saved_in_time_is_queued_again_all_the_same(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")
    monkeypatch.setattr(slurm, "SAVING", 0.05)
    with subprocess.Popen(["sh", "-c", "trap '' TERM; echo; exec sleep 5"], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        job = slurm.StudyJob("six", (), "/shared/out", 1)
        assert job.checkpoint().function == job
        assert run.poll() is None
        run.kill()


def test_a_stopped_job_leaves_it_to_slurm_whether_it_is_queued_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []

    def stop(*_: object, **__: object) -> None:
        raise Stopped("stopped with 2 of 4 runs to go.")

    monkeypatch.setattr(slurm, "run_study", stop)
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(Stopped, match="2 of 4 runs"):
        slurm.StudyJob(str(folder / "study.yaml"), (), str(folder / "out"), 1)()
    assert slept == [600]


def test_the_signal_for_a_job_does_not_end_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "work", lambda _: os.kill(os.getpid(), signal.SIGUSR2))
    monkeypatch.setattr(worker, "_stop_with_parent", lambda: None)
    monkeypatch.setattr(sys, "argv", ["worker", str(tmp_path)])
    assert Child(worker.main).said() == "done"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("=gpu", r"^--sbatch =gpu: must be KEY=VALUE or KEY\. Give for example partition=gpu\.$"),
        ("partition=", r"^--sbatch partition=: must be KEY=VALUE"),
        ("a b=1", r"^--sbatch a b=1: must be KEY=VALUE"),
        ("account=x\n#SBATCH --wrap=y", r"^--sbatch account=x\\n#SBATCH --wrap=y: must be KEY=VALUE"),
        ("time=4:00", r"^--sbatch time=4:00: must be a whole number of minutes, at least 1\.$"),
        ("time=0", r"^--sbatch time=0: must be a whole number of minutes, at least 1\.$"),
        ("cpus-per-task=x", r"^--sbatch cpus-per-task=x: must be a whole number, at least 1\.$"),
    ],
)
def test_options_that_sbatch_would_not_understand_are_refused(
    folder: Path, option: str, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "submitit", sys.modules.get("submitit", type(sys)("submitit")))
    with pytest.raises(ValueError, match=message):
        submit(folder, folder / "out", option)
    assert not (folder / "out").exists()


def test_options_keep_their_values_and_flags_need_none():
    assert slurm._options(["partition=gpu", "--gpus=2", "exclusive", "cpus-per-task=4"]) == {
        "partition": "gpu",
        "gpus": "2",
        "exclusive": True,
        "cpus_per_task": "4",
    }


def test_a_missing_submitit_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"^--slurm: submitit is not installed\. Run: pip install 'mtbert\[slurm\]'$"):
        submit(folder, folder / "out")
    assert not (folder / "out").exists()


def test_a_machine_without_slurm_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")
    monkeypatch.setenv("PATH", str(folder))
    name = str(folder / "study.yaml")
    with pytest.raises(
        ValueError, match=r"^--slurm: there is no srun on this machine\. Give the command on a machine "
    ):
        slurm.submit_study(plan.load_study(name), name, [], folder / "out", 1, 2, [], SILENT)
    assert not (folder / "out").exists()


def test_a_job_whose_runs_failed_has_failed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slurm, "load_study", lambda *_: None)
    monkeypatch.setattr(slurm, "run_study", lambda *_, **__: EndedStudy({"plain, seed 1": "the loss is not finite"}))
    with pytest.raises(RuntimeError, match=r"^failed: plain, seed 1\. The log says why\.$"):
        slurm.StudyJob("six", (), str(folder), 1)()


def test_the_step_of_a_job_gets_the_cores_of_the_job(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Slurm's sbatch is replaced by a program that keeps the script."""
    for name in ("sbatch", "srun"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ncp $1 {tmp_path}/script\necho Submitted batch job 7\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    name = str(folder / "study.yaml")
    options = ("cpus-per-task=3", "partition=gpu")
    slurm.submit_study(plan.load_study(name), name, (), tmp_path / "out", 1, 2, options, SILENT)
    lines = (tmp_path / "script").read_text().splitlines()
    assert "#SBATCH --cpus-per-task=3" in lines
    (step,) = [line for line in lines if line.startswith("srun ")]
    assert " --cpus-per-task=3 " in step
