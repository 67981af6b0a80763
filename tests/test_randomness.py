"""The seed decides every random draw: for each kind of draw, another seed gives other results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from torch import Tensor

from mtbert.balance.pcgrad import PCGrad
from mtbert.batch import StepBatch
from mtbert.collate import collate
from mtbert.training.run import Run

folder = toy_run.shared_folder

LORA = {"model": {"lora": {"rank": 2}}}
PAL = {"model": {"pal": {"width": 6, "heads": 2}}}


def run_of(folder: Path, change: Mapping[str, Any] | None = None, **train: Any) -> Run:
    return toy_run.build(folder, dict(change or {}), **train)[0]


def turns(run: Run, steps: int) -> list[str]:
    """Returns the tasks of the next steps, which are only drawn, not trained."""
    found = []
    for _ in range(steps):
        ((data, _),), _ = run._draw()
        found.append(data.task.name)
        run.done += 1
    return found


@pytest.mark.parametrize("sampler", ["proportional", "square_root", "annealed"])
def test_tasks_come_in_another_order_for_another_seed(folder: Path, sampler: str):
    first, again, other = (
        turns(run_of(folder, mode="alternate", sampler=sampler, rounds=20, seed=seed), 60) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert set(first) == set(other) == {"sst", "quora", "sts"}


def test_a_task_that_waits_for_its_turn_misses_no_row(folder: Path):
    run = run_of(folder, mode="alternate", rounds=30)
    taken: dict[str, list[int]] = {"sst": [], "quora": [], "sts": []}
    for _ in range(90):
        ((data, rows),), _ = run._draw()
        taken[data.task.name] += rows.tolist()
        run.done += 1
    for name, rows in taken.items():
        size = len(run.data[name].train)
        assert len(rows) > 2 * size
        assert sorted(rows[:size]) == sorted(rows[size : 2 * size]) == list(range(size)), name


def test_a_task_that_is_drawn_at_random_misses_no_row(folder: Path):
    run = run_of(folder, mode="alternate", sampler="proportional", rounds=30)
    rows = []
    for _ in range(90):
        ((data, found),), _ = run._draw()
        rows += found.tolist() if data.task.name == "quora" else []
        run.done += 1
    assert sorted(rows[:54]) == list(range(54))


def masked(run: Run, model: Run) -> Tensor:
    """Returns the word embeddings of ``model`` under the first dropout mask of ``run``."""
    data = run.data["sst"].train
    batch: StepBatch = collate([(data, torch.arange(4).numpy())], run.device)
    return model.model.embed(batch, run.generator)


def test_dropout_has_other_masks_for_another_seed(folder: Path):
    first, again, other = (run_of(folder, seed=seed) for seed in (1, 1, 2))
    expected = masked(first, first)
    assert (expected == 0).any()
    assert torch.equal(masked(again, first), expected)
    assert not torch.equal(masked(other, first) == 0, expected == 0)
    assert not torch.equal(masked(first, first) == 0, expected == 0)  # the next pass has another mask


def test_the_orders_of_surgery_differ_by_seed_and_by_step(folder: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[list[int]] = []

    def record(self: PCGrad, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.randperm(99, generator=generator).tolist())
        return torch.ones(len(gram_TT), dtype=torch.float64)

    monkeypatch.setattr(PCGrad, "__call__", record)
    for seed in (1, 1, 2):
        run = run_of(folder, aggregation="pcgrad", seed=seed)
        for _ in range(2):
            run.step()
    first, second, again, second_again, other, other_second = drawn
    assert (first, second) == (again, second_again)
    assert len({tuple(order) for order in (first, second, other, other_second)}) == 4


def starts(run: Run, part: str) -> dict[str, Tensor]:
    """Returns the initial weights of one part, without those that start at a constant."""
    named = [*run.model.named_parameters(), *run.objective.own.named_parameters(prefix="own")]
    trained = ((name, p) for name, p in named if part in name and p.requires_grad and p.numel() > 1)
    return {name: p.detach().clone() for name, p in trained if p.std() > 0}


@pytest.mark.parametrize(
    ("part", "change", "weights"),
    [
        ("parametrizations", LORA, 8),  # four matrices in each of two layers
        ("heads.", {}, 4),  # one of sst, two of quora's mlp, one of sts
        ("adapters.", PAL, 9),
        ("own.", {"tasks": {"quora": {"inputs": "separate", "losses": ["bce", "simcse-unsup"]}}}, 1),
    ],
    ids=["lora", "heads", "pal", "own"],
)
def test_new_weights_start_elsewhere_for_another_seed(folder: Path, part: str, change: dict[str, Any], weights: int):
    first, again, other = (starts(run_of(folder, change, seed=seed), part) for seed in (1, 1, 2))
    assert len(first) >= weights
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_the_matrices_of_a_change_start_different_from_each_other(folder: Path):
    found = starts(run_of(folder, LORA), "parametrizations")
    numbers = [number for tensor in found.values() for number in tensor.flatten().tolist()]
    assert len(set(numbers)) == len(numbers) > 400
