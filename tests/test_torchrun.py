"""Runs that torchrun starts: their processes train together, and are started again if one is killed.

One test types the command of the documents. In the other, torchrun's agent forks its workers, which start at once
because everything is imported already.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import toy_run
import yaml
from children import Child
from rich.console import Console
from test_processes import contents
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

from mtbert import cli
from mtbert.recipe.settings import validate_recipe
from mtbert.training.run import Run
from mtbert.training.start import start_run

folder = toy_run.folder


def torchrun(log: Path, command: list[str], broken: Callable[[Run], object]) -> str:
    """Runs a command of mtbert in two processes that torchrun starts, and at most once again. Returns how it ended.

    ``broken`` is called before each step of a run. ``log`` gets everything that is printed.
    """

    def work() -> None:
        real = Run.step

        def step(run: Run) -> Any:
            broken(run)
            return real(run)

        Run.step = step  # type: ignore[method-assign]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as in a new process; the agent has a handler of its own
        sys.argv = ["mtbert", *command]
        try:
            cli.main()
        except SystemExit as end:
            if end.code:
                os._exit(int(end.code))

    def launch() -> None:
        for descriptor in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1) for descriptor in (1, 2))
        os.environ |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        alone = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--rdzv-id=toy"]  # as --standalone
        options = [*alone, "--nproc-per-node=2", "--max-restarts=1", "mtbert"]
        config, _, _ = config_from_args(parse_args(options))
        config.start_method = "fork"
        elastic_launch(config, work)()

    return Child(launch).said()


def test_torchrun_replaces_an_old_run_and_starts_the_new_one_again_where_it_was_if_a_process_is_killed(
    folder: Path, tmp_path: Path
):
    raw = toy_run.raw_recipe(folder, shards=4, epochs=5, checkpoint_every=2)
    (folder / "toy.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    out, whole = tmp_path / "run", tmp_path / "whole"
    start_run(validate_recipe(raw, "toy"), whole, Console(quiet=True))
    old = Path(shutil.copytree(whole, out)) / "old"
    old.touch()

    def broken(run: Run) -> None:
        if run.done == 12 and run.processes.rank == 1 and not run.processes.restarted:
            os.kill(os.getpid(), signal.SIGKILL)

    log = tmp_path / "log"
    ended = torchrun(log, ["train", str(folder / "toy.yaml"), "--overwrite", "--out", str(out)], broken)
    printed = log.read_text()
    assert ended == "done", printed
    assert "going on at step " in printed
    assert not old.exists()
    assert contents(out) == contents(whole)
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_the_command_of_the_documents_trains_in_two_processes(folder: Path, tmp_path: Path):
    raw = toy_run.raw_recipe(folder, shards=4, epochs=1)
    (folder / "toy.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    start_run(validate_recipe(raw, "toy"), tmp_path / "whole", Console(quiet=True))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mtbert"]
    asked = ["train", str(folder / "toy.yaml"), "--out", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ended = subprocess.run([*command, *asked], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "on cpu in 2 processes with 1 thread each" in ended.stdout
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
