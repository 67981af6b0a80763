"""Successive steps: clipping, the learning rate, what is logged, and what a resumed run restores."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from rich.console import Console
from torch import Tensor

from mtbert import files
from mtbert.recipe.files import load_recipe
from mtbert.storage import run_state
from mtbert.storage.model_folder import save_model
from mtbert.training.assemble import assemble
from mtbert.training.best import BestSoFar
from mtbert.training.resume import resume_run
from mtbert.training.rounds import RoundPlan
from mtbert.training.run import Run
from mtbert.training.snapshot import restore, snapshot
from mtbert.training.start import start_run

folder = toy_run.shared_folder

SILENT = Console(quiet=True)
NUMBERS = itertools.count()


def run_of(folder: Path, change: dict[str, Any] | None = None, **train: Any) -> Run:
    return toy_run.build(folder, change, **train)[0]


def moments(run: Run) -> list[Tensor]:
    return [entry["exp_avg"] for entry in run.optimizer.state_dict()["state"].values()]


def flat(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


# Clipping and the rate -------------------------------------------------------------------------------------


def test_a_gradient_below_the_clipping_norm_is_not_touched(folder: Path):
    free, clipped = run_of(folder, clip=None), run_of(folder, clip=1e6)
    assert free.step().grad_norm == clipped.step().grad_norm
    assert all(torch.equal(a, b) for a, b in zip(moments(free), moments(clipped), strict=True))


def test_a_gradient_above_it_is_shrunk_to_it(folder: Path):
    free, clipped = run_of(folder, clip=None), run_of(folder, clip=0.01)
    shrink = 0.01 / free.step().grad_norm
    clipped.step()
    for a, b in zip(moments(free), moments(clipped), strict=True):
        torch.testing.assert_close(b, shrink * a, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("warmup", "schedule", "expected"),
    [
        (0.0, "linear", [1.0, 0.75, 0.5, 0.25]),
        (0.5, "linear", [0.5, 1.0, 1.0, 0.5]),
        (0.5, "constant", [0.5, 1.0, 1.0, 1.0]),
    ],
)
def test_each_step_takes_the_rate_of_its_own_number(folder: Path, warmup: float, schedule: str, expected: list[float]):
    run = run_of(folder, epochs=2, rounds=2, lr=0.01, warmup=warmup, schedule=schedule)
    told, applied = [], []
    for _ in range(4):
        told.append(run.step().lr)
        applied += [{group["lr"] for group in run.optimizer.param_groups}]
    assert told == pytest.approx([0.01 * factor for factor in expected])
    assert applied == [{rate} for rate in told]


def test_the_last_step_moves_the_weights(folder: Path):
    run = run_of(folder, epochs=1, rounds=1, warmup=0.0)
    before = flat(run)
    run.step()
    assert run.over
    assert not torch.equal(flat(run), before)


def test_the_average_takes_nine_tenths_of_the_first_step_and_less_of_each_later_one(folder: Path):
    run = run_of(folder, ema={"decay": 0.99}, lr=0.01)
    assert run.ema is not None
    name, average = next((n, p) for n, p in run.ema.named_parameters() if n.endswith("qkv.weight"))
    weight, expected = dict(run.model.named_parameters())[name], average.detach().clone()
    for decay in (1 / 10, 2 / 11, 3 / 12):
        run.step()
        expected = decay * expected + (1 - decay) * weight.detach()
        torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-7)


# The plan --------------------------------------------------------------------------------------------------


def test_passes_count_every_batch_over_the_rows_of_its_task():
    settings = load_recipe("base")
    train = settings.train.model_copy(update={"rounds": 10, "epochs": 2})
    sizes = {"sst": 160, "quora": 320, "sts": 80}
    assert [settings.tasks[name].batch_size for name in sizes] == [8, 16, 8]
    passes = RoundPlan.of(settings.model_copy(update={"train": train}), sizes).passes
    assert passes == {"sst": 1.0, "quora": 1.0, "sts": 2.0}


@pytest.mark.parametrize(("patience", "every", "may"), [(None, "epoch", False), (1, 10, True), (3, 10, False)])
def test_patience_may_end_a_run_early_if_evaluations_are_left_then(patience: int | None, every: int | str, may: bool):
    settings = load_recipe("base")
    train = settings.train.model_copy(update={"rounds": 10, "epochs": 4, "patience": patience, "evaluate_every": every})
    settings = settings.model_copy(update={"train": train})
    assert RoundPlan.of(settings, {"sst": 160, "quora": 320, "sts": 80}).may_end_early(settings) is may


def test_as_many_rows_are_drawn_as_the_plan_says(folder: Path):
    run = run_of(folder, rounds=12, epochs=2)
    drawn = dict.fromkeys(run.data, 0)
    for _ in range(run.plan.steps):
        for data, rows in run._draw()[0]:
            drawn[data.task.name] += len(rows)
        run.done += 1
    for name, rows in drawn.items():
        assert run.plan.passes[name] == pytest.approx(rows / len(run.data[name].train))


# Resuming --------------------------------------------------------------------------------------------------


def gone_on(run: Run, folder: Path) -> Run:
    """Returns a new run of the same recipe, restored from the files that ``run`` saves."""
    last = folder / f"last-{next(NUMBERS)}"
    tokenizer = toy_run.build(folder)[1]
    files.write_folder(last, lambda to: save_model(run.predictor, tokenizer, to, run.done))
    run_state.save_state(snapshot(run), last)
    again = assemble(run.recipe, last).run()
    restore(again, run_state.load_state(last))
    return again


@pytest.mark.parametrize(
    ("change", "train"),
    [
        ({}, {"aggregation": "pcgrad"}),
        ({}, {"conflicts": True, "warmup": 0.5}),
        ({}, {"mode": "alternate", "sampler": "proportional", "rounds": 4}),
        ({}, {"weighting": "uncertainty", "token_budget": 40}),
        ({}, {"ema": {"decay": 0.5}}),
        ({"model": {"lora": {"rank": 2}}}, {"lr": 0.05}),
        ({"model": {"pal": {"width": 6, "heads": 2}}}, {}),
        ({"tasks": {"quora": {"inputs": "separate", "losses": ["bce", "simcse-unsup"]}}}, {"token_budget": 60}),
    ],
    ids=["pcgrad", "conflicts", "alternate", "uncertainty", "ema", "lora", "pal", "simcse"],
)
def test_a_resumed_run_makes_the_steps_that_it_would_have_made(
    folder: Path, change: dict[str, Any], train: dict[str, Any]
):
    whole, stopped = run_of(folder, change, **train), run_of(folder, change, **train)
    steps = [whole.step() for _ in range(6)]
    assert [stopped.step() for _ in range(3)] == steps[:3]
    again = gone_on(stopped, folder)
    assert [again.step() for _ in range(3)] == steps[3:]
    assert torch.equal(flat(again), flat(whole))


def test_the_share_of_conflicts_counts_the_steps_before_a_stop(folder: Path):
    run = run_of(folder, conflicts=True)
    run.conflicting, run.done, run.taken = 5, 9, [9, 9, 9]  # as it may be after nine steps
    told = gone_on(run, folder).step().diagnostics
    negative = any(told[f"cos({pair})"] < 0 for pair in ("sst, quora", "sst, sts", "quora, sts"))
    assert told["conflicting"] == (5 + negative) / 10


def test_a_resumed_run_trains_its_low_rank_changes_and_not_merged_weights(folder: Path):
    change = {"model": {"lora": {"rank": 2}}}
    run = run_of(folder, change, lr=0.05)
    for _ in range(3):
        run.step()
    again = gone_on(run, folder)
    frozen = run_of(folder)  # weights as in the encoder's folder
    names = [name for name, p in run.model.named_parameters() if name.endswith((".a", ".b"))]
    assert len(names) == 16
    theirs, ours = dict(again.model.named_parameters()), dict(run.model.named_parameters())
    for name in names:
        assert torch.equal(theirs[name], ours[name])
        assert ours[name].any()
    for name, weight in frozen.model.encoder.layers.named_parameters():
        if f"encoder.layers.{name}" not in theirs:
            module, _, key = name.rpartition(".")
            assert torch.equal(theirs[f"encoder.layers.{module}.parametrizations.{key}.original"], weight)


def test_a_resumed_run_takes_the_threads_that_it_began_with(folder: Path, monkeypatch: pytest.MonkeyPatch):
    settings = load_recipe(str(folder / "toy.yaml"), ["train.threads=null"])
    seen: list[int] = []
    monkeypatch.setattr("mtbert.training.session.lead", lambda *_: seen.append(torch.get_num_threads()) or {})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        start_run(settings, folder / "threads", SILENT)
        torch.set_num_threads(2)
        (folder / "threads/metrics.jsonl").touch()
        resume_run(folder / "threads", SILENT)
    finally:
        torch.set_num_threads(before)
    assert seen == [3, 3]


def test_the_state_holds_numbers_that_a_new_run_does_not_have(folder: Path):
    run = run_of(folder, mode="alternate")
    run.done, run.taken, run.evaluated, run.best, run.conflicting = 7, [1, 2, 4], 6, BestSoFar(0.25, 2, -1.5), 4
    run.generator.manual_seed(5)
    again = gone_on(run, folder)
    assert (again.done, again.taken, again.evaluated) == (7, [1, 2, 4], 6)
    assert (again.best, again.conflicting) == (BestSoFar(0.25, 2, -1.5), 4)
    assert torch.equal(again.generator.get_state(), run.generator.get_state())
