"""A study whose runs are made in this process: a worker of its own spends seconds on imports alone."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console

from mtbert.study import cells, launch, worker
from mtbert.study.cells import Cell
from mtbert.study.plan import Plan


def run_here(study: Plan, out: Path) -> None:
    """As ``launch.run`` does it, but for the processes; a run that fails is raised."""

    def run_all(wanted: Mapping[str, Cell], workers: int, console: Console) -> dict[str, str]:
        for cell in wanted.values():
            with cell.log.open("a") as log, redirect_stdout(log):
                worker.work(cell)
        return {}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cells, "run_all", run_all)
        launch.run(study, out, 2, Console(quiet=True))
