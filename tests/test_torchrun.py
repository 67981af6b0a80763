"""A run that torchrun starts: its processes train together, and are started again if one is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import toy_run
import yaml
from rich.console import Console
from test_processes import contents

from mtbert.recipe.settings import validate_recipe
from mtbert.training.start import start_run

folder = toy_run.folder


def process_of(torchrun: int, rank: int) -> int:
    """Returns the process id of a rank."""
    for child in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError


def test_torchrun_starts_a_run_and_starts_it_again_where_it_was_if_a_process_is_killed(folder: Path, tmp_path: Path):
    raw = toy_run.raw_recipe(folder, shards=4, epochs=5, checkpoint_every=2)
    (folder / "toy.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    out, whole = tmp_path / "run", tmp_path / "whole"
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    own = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "ignore"}
    with (tmp_path / "log").open("w+") as log:
        command = [sys.executable, *several, "-m", "mtbert", "train", str(folder / "toy.yaml"), "--out", str(out)]
        torchrun = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log, start_new_session=True)
        try:
            metrics, limit = out / "metrics.jsonl", time.monotonic() + 100
            while not (metrics.is_file() and metrics.read_bytes().count(b"\n") > 12) and time.monotonic() < limit:
                assert torchrun.poll() is None, log.seek(0) or log.read()
                time.sleep(0.01)
            os.kill(process_of(torchrun.pid, 1), signal.SIGKILL)
            code = torchrun.wait(100)
        finally:
            if torchrun.poll() is None:
                os.killpg(torchrun.pid, signal.SIGKILL)
        log.seek(0)
        printed = log.read()
    assert code == 0, printed
    assert "going on at step " in printed
    start_run(validate_recipe(raw, "toy"), whole, Console(quiet=True))
    assert contents(out) == contents(whole)
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
