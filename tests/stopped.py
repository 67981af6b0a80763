"""A run that a signal stops in the middle, and that is then resumed."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mtbert.recipe.files import load_recipe
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run

SILENT = Console(quiet=True)


def assert_resumes_bitwise(recipe: Path, whole: Path, out: Path, at: int) -> None:
    """Trains ``recipe`` into ``out``, stops it after ``at`` steps and resumes it. The result must equal ``whole``."""
    real = Run.step

    def step(self: Run) -> Any:
        if self.done == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "step", step)
        with pytest.raises(Stopped):
            start_run(load_recipe(str(recipe)), out, SILENT)
    resume_run(out, SILENT)
    for file in ("metrics.jsonl", "last/model.safetensors", "last/heads.safetensors"):
        assert (out / file).read_bytes() == (whole / file).read_bytes()
