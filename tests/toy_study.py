"""A study whose runs are made in this process, because a separate worker spends seconds on imports alone."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import toy_run
from rich.console import Console

from mtbert.studying import commands, plan, report, worker
from mtbert.studying.plan import Plan
from mtbert.studying.runs import RunPlace

STUDY = """
rows:
  sum: toy.yaml
  pcgrad: {recipe: toy.yaml, set: [train.aggregation=pcgrad], control: sum}
seeds: [0, 1]
"""


def run_here(study: Plan, out: Path) -> None:
    """Carries out a study in this process instead of in worker processes; a run that fails raises its error."""

    def run_all(wanted: Mapping[str, RunPlace], workers: int, console: Console, *, wait: bool = True) -> dict[str, str]:
        for cell in wanted.values():
            with cell.log.open("a") as log, redirect_stdout(log):
                worker.work(cell)
        return {}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mtbert.studying.commands.run_all", run_all)
        commands.run_study(study, out, 2, Console(quiet=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the complete set-up and a study of two recipes and two seeds."""
    toy_run.set_up(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def tables(out: Path) -> dict[str, bytes]:
    """Returns a dict from file name to content, for all tables of a finished study."""
    found = {p.name: p.read_bytes() for p in (out / "tables").iterdir()}
    assert len(found) == 24
    return found


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study without figures, which tests must only read."""
    folder = tmp_path_factory.mktemp("ended")
    toy_run.set_up(folder)
    (folder / "study.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        leave_figures_out(patch)
        run_here(plan.load_study(str(folder / "study.yaml")), folder / "out")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes reports without figures."""
    leave_figures_out(monkeypatch)


def leave_figures_out(patch: pytest.MonkeyPatch) -> None:
    """Makes reports without figures, which take longer than everything else in them."""
    patch.setattr(report, "study_charts", lambda results, summary, errors: [])
