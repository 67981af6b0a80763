"""Logs, warnings and kept answers of a run: each is true of the step that it is about."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import toy_run
from rich.console import Console

from mtbert import files
from mtbert.display import Display
from mtbert.losses.regression import MeanSquaredError
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import validate_recipe
from mtbert.training.fit import fit
from mtbert.training.inert import INERT_ROWS, inert_losses
from mtbert.training.objective import Objective
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.start import start_run

folder = toy_run.shared_folder


def run_of(folder: Path, change: dict[str, Any] | None = None, **settings: Any) -> Run:
    return toy_run.build(folder, change, **settings)[0]


def test_a_logged_loss_is_the_mean_over_examples_without_any_weight(folder: Path):
    plain = run_of(folder).step().losses
    weighted = {"kind": "oll", "weight": 7.0}
    change = {"tasks": {"sst": {"weight": 3.0, "losses": [{"kind": "ce", "weight": 0.25}, weighted]}}}
    assert run_of(folder, change).step().losses == plain
    assert run_of(folder, weighting="uncertainty").step().losses == plain


def test_a_logged_loss_is_that_of_the_whole_batch_in_however_many_passes(folder: Path):
    head = {"head": {"kind": "linear", "dropout": 0.0}}
    change = {"model": {"dropout": 0.0}, "tasks": {"sst": head, "quora": head, "sts": head}}
    whole, parts = (run_of(folder, change, token_budget=budget).step() for budget in (None, 20))
    assert parts.losses == pytest.approx(dict(whole.losses), rel=1e-5)
    assert parts.tokens == whole.tokens


def test_a_loss_that_was_0_in_the_last_step_alone_is_not_called_idle(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = run_of(folder)
    run.step()
    monkeypatch.setattr(MeanSquaredError, "__call__", lambda self, p: 0.0 * p.out.prediction.sum())
    run.step()
    assert inert_losses(run) == []
    idle = run_of(folder)
    idle.step()
    assert [line.split(":")[0] for line in inert_losses(idle)] == ["loss sts.mse was 0 in every step"]


def test_gradients_of_losses_are_compared_on_the_first_rows_of_each_task_with_several(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run = run_of(folder, {"tasks": {"sst": {"batch_size": 20}}})
    asked = []
    monkeypatch.setattr(Objective, "gradients", lambda self, parts: asked.extend(parts) or {})
    inert_losses(run)
    ((data, rows),) = asked
    assert data.task.name == "sst"
    assert rows.tolist() == run.streams[0].rows(0)[:16].tolist()
    assert INERT_ROWS == 16


def test_only_the_answers_of_the_saved_weights_are_kept_beside_them(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run, tokenizer = toy_run.build(folder, rounds=4, epochs=2, checkpoint_every=1, patience=1)
    found: list[tuple[str, int, bool]] = []

    def write(place: Path, fill: Any) -> None:
        to = folder / f"{place.name}-{len(found)}"
        to.mkdir()
        fill(to)
        found.append((place.name, run.done, (to / "predictions.safetensors").exists()))

    monkeypatch.setattr(files, "write_folder", write)
    fit(run, tokenizer, folder, Display(Console(quiet=True)))
    assert [(step, answers) for name, step, answers in found if name == "last"] == [
        (1, False),
        (2, False),
        (3, False),
        (4, True),
        (5, False),
        (6, False),
        (7, False),
        (8, True),
    ]
    assert all(answers for name, _, answers in found if name == "best")


def warnings(out: Path) -> list[str]:
    """Returns the warnings that resuming the run in ``out`` prints."""
    printed = io.StringIO()
    resume_run(out, Console(width=300, file=printed))
    return [line for line in printed.getvalue().splitlines() if line.startswith("warning")]


def test_a_run_resumed_on_another_machine_says_what_differs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mtbert.training.session.lead", lambda *_: {})
    out = folder / "elsewhere"
    start_run(load_recipe(str(folder / "toy.yaml")), out, Console(quiet=True))
    (out / "metrics.jsonl").touch()
    assert warnings(out) == []
    record = json.loads((out / "environment.json").read_text())
    here = record["cpu"]
    (out / "environment.json").write_text(json.dumps(record | {"cpu": "an abacus", "device": "hand"}))
    assert warnings(out) == [
        f"warning: cpu was an abacus, now {here}: the last bits may differ.",
        "warning: device was hand, now cpu: the last bits may differ.",
    ]


@pytest.mark.parametrize(("metric", "told"), [("auc", 1), ("accuracy", 0)])
def test_an_undefined_metric_that_chooses_is_pointed_out_once_in_a_run(
    folder: Path, tmp_path: Path, metric: str, told: int
):
    (tmp_path / "one.csv").write_text("id,sentence1,sentence2,is_duplicate\na,dog,cat,1\nb,cat,dog,1\n")
    raw = toy_run.raw_recipe(folder, epochs=2, rounds=1)
    raw["tasks"]["quora"] |= {"metric": metric, "dev": str(tmp_path / "one.csv")}
    file = io.StringIO()
    start_run(validate_recipe(raw, "toy"), tmp_path / "run", Console(file=file, width=200))
    said = "warning: task quora: auc where all labels are equal is undefined; reported as 0.5."
    assert file.getvalue().count(" is undefined") == file.getvalue().count(said) == told
