"""The lines that a run prints before its first step."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import toy_run

from mtbert.messages import plain_console
from mtbert.scores import Scores
from mtbert.training import session

folder = toy_run.shared_folder


@pytest.fixture
def printed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns what a run prints that does not train."""
    monkeypatch.setattr(session, "fit", lambda *_: [])
    monkeypatch.setattr(session, "_finish", lambda *_: {})

    def lead(load: float) -> str:
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr("mtbert.environment.usable_cores", lambda: 2)
        monkeypatch.setattr(psutil, "getloadavg", lambda: (load, 0.0, 0.0))
        file = io.StringIO()
        run, tokenizer = toy_run.build(folder)
        scores = session.lead(run, tokenizer, Path("out"), plain_console(file), False, None, [])
        assert isinstance(scores, Scores)
        assert scores.warnings == ()  # no reason to doubt the scores
        return file.getvalue()

    return lead


def test_cores_that_other_programs_use_are_told_once(printed):
    said = "warning: other programs want the cores too (load 9.5 on 8 cores), so training may be many times slower. "
    assert printed(9.5).count(f"{said}Wait for them, or set OMP_WAIT_POLICY=PASSIVE.\n") == 1
    assert "other programs" not in printed(8.9)


def plan(name: str, type_: str, inputs: str, losses: str, sizes: tuple[int, int, int]) -> str:
    """Returns the table of a run with one task."""
    settings = SimpleNamespace(type=type_, inputs=inputs, losses=[SimpleNamespace(kind=losses)], batch_size=256)
    data = SimpleNamespace(train=range(sizes[0]), held_out=range(sizes[1]), dev=range(sizes[2]))
    run = SimpleNamespace(
        data={name: data}, recipe=SimpleNamespace(tasks={name: settings}), plan=SimpleNamespace(passes={name: 12.6})
    )
    file = io.StringIO()
    plain_console(file).print(session._plan_table(run))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "losses", "sizes"),
    [
        ("sentiment-of-a-review", "ce", (14042, 1560, 394)),
        ("sentiment", "ce + simcse-unsup", (1404290, 156032, 39404)),
        ("n" * 60, "mse + smart + rdrop + cosent", (9999999, 2000, 999999)),
    ],
)
def test_the_plan_fits_80_columns_and_nothing_is_cut(name: str, losses: str, sizes: tuple[int, int, int]):
    lines = plan(name, "classification", "separate", losses, sizes).splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(lines).split()
    for whole in ("classification", "separate", *map(str, sizes), "256", "13", "held", "out", "passes"):
        assert whole in text
    first = "".join(line.split("  ")[0].strip() for line in lines)  # the column of names, folded
    assert name in first
