"""Losses and gradients of tasks that share the rows of a table, against the same tasks with rows of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import toy_shared
from one_step import backward, by_task
from torch import Tensor
from toy_shared import HALF, TASKS, run_of

from mtbert.balance.by_task import _gradients
from mtbert.batch import TaskRows
from mtbert.training.micro_batches import micro_batches
from mtbert.training.run import Run
from mtbert.yaml_files import merge

CLOSE = {"rtol": 1e-6, "atol": 1e-9}
DRAWN = np.array([30, 4, 11, 2, 25, 8, 17, 5, 35])  # rows of the table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    toy_run.set_up(folder)
    return toy_shared.files(folder)


def drawn(run: Run, tables: Run, rows: np.ndarray = DRAWN) -> list[TaskRows]:
    """Returns the examples of each task of ``run`` in these rows. In the run ``tables``, the tasks share one table."""
    found = [(run.data[name].train, tables.data[name].train.among(rows)) for name in TASKS if name in run.data]
    if "sts" in run.data:
        found.insert(1, (run.data["sts"].train, np.array([3, 1])))
    return found


def gradients(run: Run) -> dict[str, Tensor]:
    named = [*run.model.named_parameters(), *run.objective.own.named_parameters()]
    return {name: p.grad.to_dense().clone() for name, p in named if p.grad is not None}


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], atol: float = 1e-9) -> None:
    assert found.keys() == expected.keys()
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-6, atol=atol, msg=lambda said, name=name: f"{name}: {said}"
        )


PAL = {"model": {"pal": {"width": 6, "heads": 2, "dropout": 0.0, "tasks": ["yes"]}}}
BUDGET: dict[str, Any] = {"train": {"token_budget": 25}}
CHANGES = [
    {},
    BUDGET,
    {"train": {"token_budget": 1}},
    {"train": {"weighting": "uncertainty", "token_budget": 25}},
    {"model": {"lora": {"rank": 2}}},
    PAL,
    merge(PAL, BUDGET),
    {"model": {"unshare": 1}},
    merge(PAL, merge(BUDGET, {"model": {"unshare": 2}})),
    {"tasks": {"yes": {"head": {"kind": "mlp", "dropout": 0.0}}}},
]


@pytest.mark.parametrize("missing", [0.0, HALF])
@pytest.mark.parametrize("change", CHANGES)
def test_a_table_gives_the_losses_and_gradients_of_the_same_tasks_with_files_of_their_own(
    folder: Path, change: dict[str, Any], missing: float
):
    table = run_of(folder, change, missing=missing)
    files = run_of(folder, change, missing=missing, alike=False)
    ours, theirs = (backward(run.objective, drawn(run, table)) for run in (table, files))
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-6)
    assert_equal(gradients(table), gradients(files))


@pytest.mark.parametrize("missing", [0.0, HALF])
def test_rows_that_several_tasks_read_are_encoded_once(folder: Path, missing: float):
    for change in ({}, BUDGET):
        table = run_of(folder, change, missing=missing)
        files = run_of(folder, change, missing=missing, alike=False)
        parts = drawn(files, table)
        ours, theirs = (backward(run.objective, drawn(run, table)).tokens for run in (table, files))
        assert theirs == sum(data.lengths[examples].sum() for data, examples in parts)
        sts = parts[1][0].lengths[parts[1][1]].sum()
        assert ours - sts == table.data["yes"].train.lengths_of(DRAWN).sum()
        if not missing:
            assert theirs - sts == 3 * (ours - sts)


def test_the_rows_of_a_task_with_an_adapter_are_encoded_once_more(folder: Path):
    tokens = []
    for change in ({}, PAL):
        run = run_of(folder, change, missing=HALF)
        tokens.append(backward(run.objective, drawn(run, run)[:1] + drawn(run, run)[2:]).tokens)
    yes, score, stars = (run.data[name].train for name in ("yes", "score", "stars"))
    own = yes.lengths[yes.among(DRAWN)].sum()
    others = [row for row in DRAWN if row in score.rows or row in stars.rows]
    assert tokens == [yes.lengths_of(DRAWN).sum(), own + yes.lengths_of(np.array(others)).sum()]
    assert tokens[1] > tokens[0]


def slow(run: Run, parts: Sequence[TaskRows]) -> dict[str, Tensor]:
    """Returns the gradients of a step, from one forward pass for each example of each task."""
    for data, examples in parts:
        settings = run.recipe.tasks[data.task.name]
        for example in examples.tolist():
            passed = run.objective._passes(run.objective._collate([(data, np.array([example]))]))[data.task.name]
            losses = sum(term.weight * term.loss(passed) for term in run.objective.terms[data.task.name])
            (settings.weight * losses / len(examples)).backward()
    return gradients(run)


@pytest.mark.parametrize("change", [{}, BUDGET, PAL, {"model": {"unshare": 1}}])
def test_with_half_of_the_labels_missing_a_loss_is_the_mean_over_the_rows_that_have_its_label(
    folder: Path, change: dict[str, Any]
):
    run, other = (run_of(folder, change, missing=HALF) for _ in range(2))
    parts = drawn(run, run)
    assert [len(examples) for _, examples in parts] == [4, 2, 4, 4]
    backward(run.objective, parts)
    assert_equal(gradients(run), slow(other, drawn(other, run)))


# Surgery ---------------------------------------------------------------------------------------------------


def alone(run: Run, part: TaskRows) -> dict[str, Tensor]:
    """Returns the encoder's gradients of one task, from a step without the others."""
    run.model.zero_grad(set_to_none=True)
    backward(run.objective, [part])
    names = {id(p): name for name, p in run.model.named_parameters()}
    return {names[id(p)]: p.grad.to_dense().clone() for p in run.shared if p.grad is not None}


@pytest.mark.parametrize("missing", [0.0, HALF])
@pytest.mark.parametrize("change", CHANGES)
def test_surgery_on_a_table_gets_the_gradient_of_a_backward_pass_for_each_task(
    folder: Path, change: dict[str, Any], missing: float
):
    run, other, together = (run_of(folder, change, missing=missing) for _ in range(3))
    found = by_task(run, drawn(run, run))
    names = {id(p): name for name, p in run.model.named_parameters()}
    for part, ours in zip(drawn(other, run), found, strict=True):
        given = {names[id(p)]: g.to_dense() for p, g in zip(run.shared, ours, strict=True) if g is not None}
        assert_equal(given, alone(other, part))
    backward(together.objective, drawn(together, run))
    assert_equal(gradients(run), {n: g for n, g in gradients(together).items() if not n.startswith("encoder.")})


@pytest.mark.parametrize("change", [{}, BUDGET, {"model": {"unshare": 1}}])
def test_surgery_tells_further_passes_of_a_task_from_its_table(folder: Path, change: dict[str, Any]):
    smart = {"kind": "smart", "weight": 5.0, "step_size": 0.5, "noise_std": 0.1}
    change = merge(change, {"tasks": {name: {"losses": [kind, smart]} for name, kind in LOSSES.items()}})
    run = run_of(folder, change, missing=HALF)
    found = by_task(run, drawn(run, run))
    for (data, _), ours in zip(drawn(run, run), found, strict=True):
        weights = {"tasks": {name: {"weight": 0.0} for name in run.data if name != data.task.name}}
        other = run_of(folder, merge(change, weights), missing=HALF)  # the same noise is drawn
        backward(other.objective, drawn(other, run))
        for gradient, weight in zip(ours, other.shared, strict=True):
            expected = torch.zeros_like(weight) if weight.grad is None else weight.grad.to_dense()
            gradient = torch.zeros_like(weight) if gradient is None else gradient.to_dense()
            torch.testing.assert_close(gradient, expected, **CLOSE)


LOSSES = {"stars": "ce", "yes": "bce", "score": "mse"}


def test_surgery_takes_one_backward_pass_for_each_task_that_shares_rows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    kept: list[bool] = []
    real = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor,
        "backward",
        lambda x, retain_graph=False: kept.append(retain_graph) or real(x, retain_graph=retain_graph),
    )
    for change, expected in (({}, [True, True, False]), (PAL, [True, False])):
        kept.clear()
        run_of(folder, merge(change, {"train": {"aggregation": "pcgrad"}})).step()
        assert kept == expected


def test_a_span_is_read_in_the_waves_of_its_own_tasks_alone(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = run_of(folder)
    first = run.model.encoder.layers[0].qkv
    seen: list[int] = []

    def looked_at(module: Any, x_RI: Tensor, gradient_RO: Tensor) -> dict[str, Tensor]:
        if module is first:
            seen.append(len(x_RI))
        return _gradients(module, x_RI, gradient_RO)

    monkeypatch.setattr("mtbert.balance.by_task._gradients", looked_at)
    parts = drawn(run, run)
    by_task(run, parts)
    tokens = [int(data.lengths[examples].sum()) for data, examples in parts]
    assert seen == [tokens[0], tokens[1], tokens[0], tokens[0]]


# Cutting ---------------------------------------------------------------------------------------------------


def test_a_row_counts_once_for_all_tasks_that_read_it_and_all_are_cut_at_the_same_rows(folder: Path):
    run = run_of(folder, missing=HALF)
    parts = drawn(run, run)
    for budget in (1, 20, 25, 60):
        cut = list(micro_batches(parts, budget, run.model.apart))
        rows_of = [
            {
                name: {int(data.rows[e]) for data, examples in micro if data.task.name == name for e in examples}
                for name in TASKS
            }
            for micro in cut
        ]
        for found, micro in zip(rows_of, cut, strict=True):
            united = sorted(set().union(*found.values()))
            tokens = int(run.data["yes"].train.lengths_of(np.array(united, int)).sum()) if united else 0
            tokens += sum(int(data.lengths[e].sum()) for data, e in micro if data.task.name == "sts")
            assert tokens <= budget or len(united) + sum(len(e) for d, e in micro if d.task.name == "sts") == 1
        for row in DRAWN.tolist():
            assert sum(any(row in rows for rows in found.values()) for found in rows_of) == 1
        for data, examples in parts:
            mine = [e for micro in cut for d, found in micro if d is data for e in found.tolist()]
            assert sorted(mine) == sorted(examples.tolist())


@pytest.mark.parametrize("change", [BUDGET, merge(PAL, BUDGET)])
def test_a_pass_has_no_more_tokens_than_the_budget_and_no_more_passes_than_its_rows_need(
    folder: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    run = run_of(folder, change)
    seen: list[int] = []
    real = run.model.embed
    monkeypatch.setattr(run.model, "embed", lambda b, *given, **to: seen.append(len(b.ids_N)) or real(b, *given, **to))
    parts = [part for part in drawn(run, run) if part[0].task.name != "sts"]
    backward(run.objective, parts)
    assert max(seen) <= 25
    if change is BUDGET:
        assert len(seen) == len([*micro_batches(parts[:1], 25)])
