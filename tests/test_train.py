"""The plan of a run and its steps, and that training learns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
from toy_steps import gradients, make, run_of, without_dropout

from mtbert.batch import Dataset, Example, Examples, Layout, Sequences
from mtbert.model.attention import Groups
from mtbert.recipe.files import load_recipe
from mtbert.task import Task
from mtbert.training.micro_batches import micro_batches
from mtbert.training.rounds import RoundPlan
from mtbert.yaml_files import merge

folder = toy_run.folder

# Plan ----------------------------------------------------------------------------------------------

PAPER = {"sst": 8544, "quora": 283010, "sts": 6040}


def plan(**train: Any) -> RoundPlan:
    settings = load_recipe("base")
    return RoundPlan.of(settings.model_copy(update={"train": settings.train.model_copy(update=train)}), PAPER)


def test_the_papers_protocol_has_41418_rounds_and_2_34_passes_of_quora():
    papers = plan(rounds=("min", "min", "min", "max"), epochs=10, mode="alternate")
    assert papers.rounds == (755, 755, 755, 17689, 755, 755, 755, 17689, 755, 755)
    assert papers.steps == 3 * 41418
    assert papers.passes["quora"] == pytest.approx(2.34, abs=0.005)


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ("min", (755, 755, 755)),
        ("max", (17689, 17689, 17689)),
        (100, (100, 100, 100)),
        ((100, "min"), (100, 755, 100)),
        (("max", 7, 8, 9), (17689, 7, 8)),
    ],
)
def test_rounds_per_epoch(rounds: str | int | tuple[str | int, ...], expected: tuple[int, ...]):
    assert plan(rounds=rounds, epochs=3).rounds == expected


def test_epochs_and_evaluations_count_in_steps_of_the_mode():
    joint, alternate = plan(rounds=10, epochs=3, mode="joint"), plan(rounds=10, epochs=3, mode="alternate")
    assert (joint.steps, alternate.steps) == (30, 90)
    assert [joint.epoch(s) for s in (0, 9, 10, 29)] == [1, 1, 2, 3]
    assert [alternate.epoch(s) for s in (29, 30, 89)] == [1, 2, 3]
    assert joint.evaluations("epoch") == {10, 20, 30}
    assert alternate.evaluations("epoch") == {30, 60, 90}
    assert joint.evaluations(7) == {7, 14, 21, 28, 30}


# Steps ---------------------------------------------------------------------------------------------


def test_joint_takes_every_task_in_a_step_and_alternate_one_in_turn(folder: Path):
    joint, alternate = make(folder, mode="joint"), make(folder, mode="alternate")
    assert list(joint.step().losses) == ["sst.ce", "sst.oll", "quora.bce", "sts.mse"]
    assert [next(iter(alternate.step().losses)) for _ in range(4)] == ["sst.ce", "quora.bce", "sts.mse", "sst.ce"]


def test_a_joint_gradient_is_the_weighted_sum_of_the_tasks_own(folder: Path):
    raw = merge(without_dropout(folder), {"tasks": {"sts": {"weight": 3.0}, "sst": {"losses": ["ce"]}}})
    joint = gradients(run_of(raw, mode="joint"))
    expected: dict[str, torch.Tensor] = {}
    for task, weight in (("sst", 1.0), ("quora", 1.0), ("sts", 3.0)):
        alone = merge(raw, {"tasks": {o: None for o in ("sst", "quora", "sts") if o != task}})
        alone["tasks"][task]["weight"] = 1.0
        for name, gradient in gradients(run_of(alone, mode="joint")).items():
            expected[name] = expected.get(name, 0) + weight * gradient
    assert expected.keys() == joint.keys()
    for name, gradient in joint.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("split", [{"token_budget": 40}, {"token_budget": 1}])
def test_a_token_budget_changes_memory_and_not_the_gradient(folder: Path, split: dict[str, int]):
    whole, parts = gradients(run_of(without_dropout(folder))), gradients(run_of(without_dropout(folder), **split))
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def dataset(name: str, lengths: list[int]) -> Dataset:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    zeros = np.zeros(offsets[-1], dtype=np.int32)
    task = Task(name=name, type="regression", inputs="single")
    return Dataset.whole(
        task,
        Examples.of(Example(str(i), ("x",), 0.0) for i in range(len(lengths))),
        (Sequences(zeros, zeros, offsets),),
    )


@pytest.mark.parametrize("budget", [None, 1, 10, 17, 1000])
def test_micro_batches_hold_every_row_once_and_keep_to_the_budget(budget: int | None):
    a, b = dataset("a", [3, 9, 12, 1, 5]), dataset("b", [4, 4, 4])
    parts = [(a, np.array([4, 2, 2, 0, 1, 3])), (b, np.array([1, 0]))]
    micros = list(micro_batches(parts, budget))
    rows: dict[str, list[int]] = {"a": [], "b": []}
    for micro in micros:
        tokens = 0
        assert micro
        for data, chosen in micro:
            assert len(chosen)
            rows[data.task.name] += chosen.tolist()
            tokens += int(data.lengths[chosen].sum())
        alone = len(micro) == 1 and len(micro[0][1]) == 1
        assert budget is None or tokens <= budget or alone
    assert rows == {"a": [4, 2, 2, 0, 1, 3], "b": [1, 0]}
    assert len(micros) == {None: 1, 1: 8, 10: 6, 17: 4, 1000: 1}[budget]


def test_the_gradient_is_clipped_to_the_norm_asked_for(folder: Path):
    run = make(folder, clip=0.01)
    assert run.step().grad_norm > 0.01
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in run.model.parameters() if p.grad is not None))
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_training_learns(folder: Path):
    run = run_of(without_dropout(folder), epochs=40, lr=3e-3)
    steps = [run.step() for _ in range(run.plan.steps)]
    first, last = steps[0].losses, steps[-1].losses
    assert last["sst.ce"] < 0.7 * first["sst.ce"]
    assert last["quora.bce"] < 0.7 * first["quora.bce"]


@pytest.mark.parametrize(("precision", "rounded"), [("fp32", False), ("bf16", True)])
def test_shapes_are_rounded_where_kernels_are_compiled_for_them(
    folder: Path, precision: str, rounded: bool, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def groups(layout: Layout, device: torch.device, rounded: bool) -> Groups:
        asked.append(rounded)
        return Groups(layout, device)

    monkeypatch.setattr("mtbert.model.model.Groups", groups)
    make(folder, precision=precision).step()
    assert asked == [rounded]


def test_bf16_trains_float32_weights_to_nearly_the_same_losses(folder: Path):
    plain, low = make(folder), make(folder, precision="bf16")
    for _ in range(5):
        expected, found = plain.step().losses, low.step().losses
    assert found != expected
    assert found == pytest.approx(expected, rel=0.05)
    assert {p.dtype for p in low.model.parameters()} == {torch.float32}


def test_a_run_draws_nothing_from_global_random_state(folder: Path):
    run = make(folder)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run.step()
    run.evaluate(lambda _: None)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()


def test_the_seed_decides_everything(folder: Path):
    def losses(seed: int) -> list[dict[str, float]]:
        run = make(folder, seed=seed)
        return [dict(run.step().losses) for _ in range(3)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
