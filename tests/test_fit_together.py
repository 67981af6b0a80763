"""The end of a run that several processes train, as each of them tells it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from rich.console import Console
from toy_processes import in_processes

from mtbert.display import Display
from mtbert.processes import Lost, Processes
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.fit import fit
from mtbert.training.run import Run
from mtbert.training.signals import Stopped

folder = toy_run.shared_folder


def fitted(folder: Path, together: Processes, out: Path, **train: Any) -> None:
    """Trains a run. Each process may have a folder of its own, as on machines that share no disk."""
    out.mkdir()
    made = assemble(validate_recipe(toy_run.raw_recipe(folder, shards=2, **train), "toy"))
    fit(made.run(together), made.tokenizer, out, Display(Console(quiet=True)))


def test_each_process_knows_whether_the_run_was_saved(folder: Path, tmp_path: Path):
    def ended(together: Processes, broken: int) -> str:
        real = Run.step

        def step(run: Run) -> Any:
            if run.done == broken and together.rank == 1:
                next(run.model.head("sst").parameters()).data.fill_(torch.nan)
            return real(run)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "step", step)
            with pytest.raises(FloatingPointError) as raised:
                fitted(folder, together, tmp_path / f"{broken} of {together.rank}", checkpoint_every=2)
        return str(raised.value)

    def work(together: Processes) -> list[str]:
        return [ended(together, broken) for broken in (1, 3)]

    for rank, (early, late) in enumerate(in_processes(2, work)):
        assert early.endswith(" There is no checkpoint yet."), early
        assert late.endswith(f" The last good checkpoint is {tmp_path / f'3 of {rank}' / 'last'}."), late


def test_a_process_that_is_lost_after_the_run_was_saved_does_not_change_how_it_ended(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Left(Processes):
        stopped = False

        def any(self, flag: bool) -> bool:
            if self.stopped and not flag:
                raise Lost("gone")
            self.stopped = flag
            return flag

    real = Run.step
    monkeypatch.setattr(Run, "step", lambda run: (os.kill(os.getpid(), signal.SIGTERM), real(run))[1])
    with pytest.raises(Stopped, match=r"^stopped at step 1, and saved. Go on with: mtbert\.train\(resume="):
        fitted(folder, Left(), tmp_path / "run")
    assert (tmp_path / "run" / "last" / "state.json").is_file()
