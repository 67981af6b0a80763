"""Losses that make further passes or compare whole batches, for tasks of a table in which some labels are missing.

Each loss is compared with the loss of the same task if the task is alone and has rows of its own.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import toy_shared
from one_step import backward
from test_table_gradients import BUDGET, DRAWN, LOSSES, assert_equal, gradients
from toy_shared import HALF, TASKS, run_of

from mtbert.batch import TaskRows
from mtbert.losses import Pass
from mtbert.losses.rdrop import RDrop
from mtbert.losses.simcse import TwoPasses, UnsupervisedSimCSE
from mtbert.losses.smart import Smart
from mtbert.training.run import Run
from mtbert.yaml_files import merge


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("losses")
    toy_run.set_up(folder)
    return toy_shared.files(folder)


LARGE: dict[str, Any] = {"weight": 5.0, "step_size": 0.5, "noise_std": 0.1}
SMART = {"kind": "smart", **LARGE}
PAPER = {"kind": "smart", "mode": "paper", "radius": 0.05, "steps": 2, **LARGE}
ONE = [  # the task with losses beside its own, whether tasks take pairs, and the losses
    ("yes", False, ["bce", SMART], {}),
    ("stars", False, ["ce", PAPER], {}),
    ("score", True, ["mse", SMART], {}),
    ("yes", True, ["bce", "mnrl"], {}),
    ("yes", True, ["bce", "mnrl", "simcse"], BUDGET),
    ("yes", True, ["mnrl", "simcse"], {"train": {"token_budget": 1}}),
    ("score", True, ["mse", "cosent"], {}),
    ("score", True, ["mse", "cosent"], BUDGET),
    ("yes", False, ["bce", {"kind": "bregman", "weight": 9.0}], {"train": {"ema": {"decay": 0.5}}}),
    ("yes", True, ["bce", {"kind": "bregman", "weight": 9.0}], merge(BUDGET, {"train": {"ema": {"decay": 0.5}}})),
]


@pytest.mark.parametrize(("task", "pairs", "losses", "change"), ONE)
def test_a_loss_of_one_task_of_a_table_equals_that_of_the_task_alone(
    folder: Path, task: str, pairs: bool, losses: list[Any], change: dict[str, Any]
):
    head = {"head": {"kind": "cosine"}} if "cosent" in losses else {}
    change = merge(change, {"tasks": {task: {"losses": losses} | head}})

    def make(*, alike: bool) -> Run:
        run = run_of(folder, change, missing=HALF, alike=alike, pairs=pairs)
        if run.ema is not None:
            draws = torch.Generator().manual_seed(3)
            for weight in run.ema.encoder.parameters():
                weight.add_(0.05 * torch.randn(weight.shape, generator=draws, dtype=weight.dtype))
        return run

    table, alone = make(alike=True), make(alike=False)
    examples = {name: table.data[name].train.among(DRAWN) for name in TASKS}
    assert 3 < len(examples[task]) < len(DRAWN)
    told = backward(table.objective, [(table.data[name].train, examples[name]) for name in TASKS]).losses
    # The gradient of the other tasks is taken away, which leaves that of this one.
    others = make(alike=True)
    backward(others.objective, [(others.data[name].train, examples[name]) for name in TASKS if name != task])
    whole, without = gradients(table), gradients(others)
    found = {name: g - without[name] if name in without else g for name, g in whole.items()}
    expected = backward(alone.objective, [(alone.data[task].train, examples[task])]).losses
    assert {key: told[key] for key in expected} == pytest.approx(expected, rel=1e-6)
    assert all(value > 0 for value in expected.values())
    mine = gradients(alone)
    # Cosines are computed in float32.
    assert_equal({name: found[name] for name in mine}, mine, atol=1e-6 if "cosent" in losses else 1e-9)
    for name in found.keys() - mine.keys():
        torch.testing.assert_close(found[name], torch.zeros_like(found[name]), rtol=0, atol=1e-9)


def test_a_loss_over_the_whole_batch_is_gathered_also_if_the_task_is_never_the_first_of_its_rows(folder: Path):
    change = {"tasks": {"yes": {"losses": ["bce", "mnrl", "simcse"]}}}
    whole, parted = (run_of(folder, merge(change, budget), pairs=True) for budget in ({}, BUDGET))
    told = [
        backward(run.objective, [(d, DRAWN) for d in (run.data[name].train for name in TASKS)]).losses
        for run in (whole, parted)
    ]
    assert told[0] == pytest.approx(told[1], rel=1e-6)
    assert_equal(gradients(parted), gradients(whole), atol=1e-6)


# Dropout ---------------------------------------------------------------------------------------------------


def passes(folder: Path, task: str, losses: list[Any], *, pairs: bool = False) -> tuple[Run, Pass, Pass]:
    """Returns a run with dropout, the pass of a task in a batch of its table, and the pass of the task alone."""
    change = {"model": {"dropout": 0.2}, "tasks": {task: {"losses": losses}}}
    run, other = (run_of(folder, change, missing=HALF, alike=alike, pairs=pairs) for alike in (True, False))
    parts: list[TaskRows] = [(d, d.among(DRAWN)) for d in (run.data[name].train for name in TASKS)]
    made = run.objective._passes(run.objective._collate(parts))[task]
    examples = run.data[task].train.among(DRAWN)
    batch = run.objective._collate([(other.data[task].train, examples)])
    return run, made, replace(made, batch=batch)


def again(run: Run, loss: Callable[[Pass], torch.Tensor], made: Pass) -> torch.Tensor:
    run.generator.manual_seed(5)
    return loss(made)


@pytest.mark.parametrize("task", ["yes", "score", "stars"])
def test_a_further_pass_has_the_rows_of_its_task_alone(folder: Path, task: str):
    run, made, alone = passes(folder, task, [LOSSES[task], "rdrop"])
    assert made.alone.ids_N.tolist() == alone.batch.ids_N.tolist()
    assert len(made.batch.ids_N) > len(alone.batch.ids_N)
    assert torch.equal(again(run, RDrop(), made), again(run, RDrop(), alone))


@pytest.mark.parametrize("pairs", [False, True])
def test_unsupervised_simcse_compares_the_sentences_that_have_a_label(folder: Path, pairs: bool):
    run, made, alone = passes(folder, "yes", ["bce", "simcse-unsup"], pairs=pairs)
    (loss,) = (term.loss for term in run.objective.terms["yes"] if term.kind == UnsupervisedSimCSE().kind)
    assert isinstance(loss, TwoPasses)
    assert len(loss.gather(made)[0]) == len(run.data["yes"].train.among(DRAWN)) * (1 + pairs)
    assert torch.equal(again(run, loss, made), again(run, loss, alone))


def test_smart_computes_its_clean_pass_again_if_other_tasks_read_the_span(folder: Path):
    # A generator in the state before the first layer draws the masks of a pass with all rows and heads of the table.
    run, made, _ = passes(folder, "yes", ["bce", SMART])
    assert not made.repeats
    full = run_of(folder, {"model": {"dropout": 0.2}, "tasks": {"stars": {"losses": ["ce", SMART]}}})
    parts: list[TaskRows] = [(d, d.among(DRAWN)) for d in (full.data[name].train for name in TASKS)]
    first, *_ = full.objective._passes(full.objective._collate(parts)).values()
    assert first.alone.ids_N.tolist() == first.batch.ids_N.tolist()
    assert not first.repeats
    (only,) = full.objective._passes(full.objective._collate(parts[:1])).values()
    assert only.repeats
    kept = Smart(**{**LARGE, "noise_std": 1e-30, "step_size": 1e-30, "mode": "paper"})
    assert again(run, kept, made).item() == 0
    assert np.isfinite(again(run, Smart(**LARGE), made).item())
