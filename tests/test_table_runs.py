"""Runs on tables: turns, draws, balancing, steps in which a task has no label, resuming, and scores."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import toy_shared
from one_step import by_task
from test_steps import gone_on
from test_table_gradients import PAL, assert_equal, gradients
from toy_gradients import METHODS
from toy_shared import HALF, NAME, ROWS, TASKS, run_of

from mtbert import scoring
from mtbert.batch import Dataset
from mtbert.data.clusters import clusters_of_table
from mtbert.training.inert import inert_losses
from mtbert.training.objective import Tally
from mtbert.training.rounds import RoundPlan
from mtbert.training.run import Run, Step
from mtbert.training.snapshot import restore, snapshot
from mtbert.yaml_files import merge


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    toy_run.set_up(folder)
    return toy_shared.files(folder)


def rows_of(run: Run, parts: list[tuple[Dataset, np.ndarray]]) -> dict[str, list[int]]:
    return {data.task.name: data.rows[examples].tolist() for data, examples in parts}


# Draws -----------------------------------------------------------------------------------------------------


def test_a_batch_of_a_table_is_one_draw_of_its_rows_for_all_of_its_tasks(folder: Path):
    run = run_of(folder, missing=HALF)
    assert run.tables == {NAME: list(TASKS), "sts": ["sts"]}
    assert run.sizes == {NAME: ROWS, "sts": 44}
    seen: list[int] = []
    for number in range(12):  # two passes and a part of the third
        parts, _ = run._draw()
        drawn = run.streams[0].rows(number).tolist()
        seen += drawn
        for name, rows in rows_of(run, parts).items():
            if name != "sts":
                assert rows == [row for row in drawn if row in run.data[name].train.rows]
        assert list(rows_of(run, parts))[-1] == "sts"
    assert sorted(seen[:ROWS]) == sorted(seen[ROWS : 2 * ROWS]) == list(range(ROWS))
    assert run.taken == [12, 12]


def test_a_stream_is_named_after_its_table(folder: Path):
    run = run_of(folder)
    alone = run_of(folder, alike=False)
    assert [stream.name for stream in run.streams] == [NAME, "sts"]
    assert [stream.name for stream in alone.streams] == [*TASKS, "sts"]
    assert run.streams[1].rows(0).tolist() == alone.streams[3].rows(0).tolist()


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("round_robin", [1.0, 0.0]),
        ("proportional", [36 / 80, 44 / 80]),
        ("square_root", [6 / (6 + math.sqrt(44)), math.sqrt(44) / (6 + math.sqrt(44))]),
        ({"kind": "temperature", "temperature": 1.0}, [36 / 80, 44 / 80]),
        ({"kind": "annealed"}, [36 / 80, 44 / 80]),
    ],
)
def test_a_turn_is_a_tables_and_samplers_see_its_rows(folder: Path, sampler: Any, expected: list[float]):
    run = run_of(folder, {"train": {"mode": "alternate", "sampler": sampler, "rounds": 6}}, missing=HALF)
    assert run.plan.steps_per_round == 2
    turns = []
    for _ in range(8):
        parts, told = run._draw()
        if not turns:
            assert list(told.values()) == pytest.approx(expected)
            assert list(told) == [f"p({NAME})", "p(sts)"]
        names = [data.task.name for data, _ in parts]
        assert names == ["sts"] or set(names) <= set(TASKS)
        turns.append(names != ["sts"])
        run.done += 1
    assert run.taken == [sum(turns), 8 - sum(turns)]
    assert 0 < sum(turns) < 8


def test_a_turn_trains_every_task_of_the_table_and_no_other(folder: Path):
    run = run_of(folder, {"train": {"mode": "alternate"}})
    step = run.step()
    assert {key.partition(".")[0] for key in step.losses} == set(TASKS)
    trained = {name.split(".")[1] for name in gradients(run) if name.startswith("heads.")}
    assert trained == {f"for_{name}" for name in TASKS}


def test_the_plan_counts_the_batches_and_passes_of_tables(folder: Path):
    run = run_of(folder, {"train": {"rounds": "max"}}, missing=HALF)
    plan = RoundPlan.of(run.recipe, run.sizes)
    assert plan.rounds == (9, 9)  # 44 rows in batches of 5; 36 rows in batches of 7 make 6
    assert plan.steps == run.plan.steps == 18
    assert plan.passes == dict.fromkeys(TASKS, 18 * 7 / ROWS) | {"sts": 18 * 5 / 44}
    alternating = run_of(folder, {"train": {"mode": "alternate", "rounds": 3}}).plan
    assert (alternating.steps_per_round, alternating.steps) == (2, 12)


def test_a_table_avoids_equal_texts_of_any_task_that_reads_them(folder: Path):
    change = {"tables": {NAME: {"no_duplicates": True, "batch_size": 4}}}
    run = run_of(folder, change, missing=HALF)
    found = run.streams[0].clusters
    assert found.shape == (ROWS, 3)
    assert [len(run.streams[0].rows(number)) for number in range(9)] == [4] * 9


def test_clusters_of_tasks_are_laid_side_by_side_and_never_meet():
    first, second = np.array([[0, 1], [1, 2]]), np.array([[0], [0], [5]])
    found = clusters_of_table(4, [(np.array([1, 3]), first), (np.array([0, 2, 3]), second)])
    assert found.shape == (4, 3)
    assert (found[1, 1] == found[3, 0], found[0, 2] == found[2, 2]) == (True, True)
    assert len(np.unique(found)) == 12 - 2  # all others differ
    assert clusters_of_table(2, [(np.array([0, 1]), first)]).tolist() == first.tolist()


# Balancing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sum", "pcgrad", *METHODS])
def test_every_balance_combines_the_gradients_of_the_tasks_of_a_table(folder: Path, method: str):
    kind = method if method in ("sum", "pcgrad") else {"kind": "torchjd", "method": method}
    change = {"train": {"aggregation": kind, "conflicts": True}}
    run, other = run_of(folder, change, missing=HALF), run_of(folder, change, missing=HALF)
    step = run.step()
    found = by_task(other, other._draw()[0])
    assert set(step.diagnostics) >= {f"weight({name})" for name in (*TASKS, "sts")}
    for i, weight in enumerate(run.shared):
        parts = [(step.diagnostics[f"weight({name})"], found[k][i]) for k, name in enumerate((*TASKS, "sts"))]
        expected = sum(factor * gradient.to_dense() for factor, gradient in parts if gradient is not None)
        torch.testing.assert_close(weight.grad.to_dense(), expected, rtol=1e-6, atol=1e-9)
    pairs = {key for key in step.diagnostics if key.startswith("cos(")}
    assert len(pairs) == 6
    assert "cos(stars, yes)" in pairs


# A step in which a task has no label -----------------------------------------------------------------------


def without_yes(run: Run) -> None:
    """Makes the next batch of the table one in which no row has a label of the task ``yes``."""
    rows = np.setdiff1d(np.arange(ROWS), run.data["yes"].train.rows)[:4]
    object.__setattr__(run.streams[0], "_passes", {0: np.concatenate([rows, np.setdiff1d(np.arange(ROWS), rows)])})
    object.__setattr__(run.streams[0], "batch_size", 4)


@pytest.mark.parametrize("train", [{}, {"aggregation": "pcgrad"}, {"aggregation": "pcgrad", "token_budget": 12}])
def test_a_task_without_a_label_in_a_step_has_no_loss_no_gradient_and_no_vote(folder: Path, train: dict[str, Any]):
    run = run_of(folder, {"train": {"weighting": "uncertainty", **train}}, missing=HALF)
    without_yes(run)
    names = {n for n, _ in run.model.named_parameters() if n.startswith("heads.for_yes.")}
    before = {n: p.clone() for n, p in run.model.named_parameters() if n in names}
    step = run.step()
    assert {key.partition(".")[0] for key in step.losses} == {"stars", "score", "sts"}
    assert not any("yes" in key for key in step.diagnostics if key != "sigma2(yes)")
    assert step.diagnostics["sigma2(yes)"] == 1.0
    assert names.isdisjoint(gradients(run))
    assert run.objective.log_variance["for_yes"].grad is None
    assert all(torch.equal(p, before[n]) for n, p in run.model.named_parameters() if n in names)
    # The step of the recipe without this task is the same.
    other = run_of(folder, {"tasks": {"yes": None}, "train": {"weighting": "uncertainty", **train}}, missing=HALF)
    other.data |= {name: run.data[name] for name in ("stars", "score")}  # with rows that have no label now
    other.streams[0] = run.streams[0]
    again = other.step()
    assert again.losses == pytest.approx(step.losses, rel=1e-9)
    assert_equal(gradients(run), gradients(other))


def test_a_loss_with_few_labels_is_still_looked_at_after_training(folder: Path):
    smart = {"kind": "smart", "mode": "paper"}
    run = run_of(folder, {"tasks": {"yes": {"losses": ["bce", smart]}}}, missing=HALF)
    whole = run.data["yes"].train
    few = np.array([int(run.streams[0].rows(3)[2])])  # the only row with a label is in the fourth batch
    kept = np.searchsorted(whole.rows, few)
    one = Dataset(whole.task, whole.examples.take(kept), run.data["stars"].train.sequences, few)
    run.data["yes"] = replace(run.data["yes"], train=one)
    (line,) = inert_losses(run)
    assert line.startswith("task yes: loss smart has ")


# Resuming --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "train",
    [
        {"aggregation": "pcgrad"},
        {"mode": "alternate", "sampler": "proportional", "rounds": 6},
        {"weighting": "uncertainty", "token_budget": 25},
        PAL,
    ],
    ids=["pcgrad", "alternate", "uncertainty", "pal"],
)
def test_a_resumed_run_on_a_table_makes_the_steps_that_it_would_have_made(folder: Path, train: dict[str, Any]):
    change = merge({"model": {"dropout": 0.2}}, train if train is PAL else {"train": train})
    whole, stopped = (run_of(folder, change, missing=HALF, double=False) for _ in range(2))
    steps: list[Step] = [whole.step() for _ in range(6)]
    assert [stopped.step() for _ in range(3)] == steps[:3]
    again = gone_on(stopped, folder)
    assert [again.step() for _ in range(3)] == steps[3:]
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))
    assert len(again.taken) == 2


def test_a_count_of_batches_for_each_task_does_not_fit_a_table(folder: Path):
    run, again = (run_of(folder) for _ in range(2))
    run.step()
    state = snapshot(run)
    run.taken = [1, 1, 1, 1]
    assert state.values.taken == (1, 1)
    with pytest.raises(ValueError, match=r"taken: must be a count for each of 2 tables, found \[1, 1, 1, 1\]"):
        restore(again, snapshot(run))


# Scores ----------------------------------------------------------------------------------------------------


def test_dev_of_a_table_is_encoded_once_for_all_of_its_tasks(folder: Path):
    run, alone = (run_of(folder, missing=HALF, alike=alike) for alike in (True, False))
    encoded: list[int] = []
    run.model.encoder.layers[0].qkv.register_forward_hook(lambda _, given, out: encoded.append(len(out)))
    ticks: list[int] = []
    found, expected = run.evaluate(ticks.append), alone.evaluate(lambda _: None)
    dev = {name: data.dev for name, data in run.data.items()}
    tokens = int(dev["yes"].lengths_of(np.arange(ROWS)).sum() + dev["sts"].lengths.sum())
    assert sum(encoded) == tokens
    assert scoring.encoded(run.predictor, dev.values()) == (ROWS + len(dev["sts"]), tokens)
    assert sum(ticks) == ROWS + len(dev["sts"])
    for name, one in expected.items():
        assert found[name].examples == one.examples == len(dev[name]) < ROWS + 20 * (name == "sts")
        assert found[name].metrics == pytest.approx(one.metrics)
        torch.testing.assert_close(
            run.predicted[name].prediction, alone.predicted[name].prediction, rtol=1e-6, atol=1e-6
        )
    assert list(found) == [*TASKS, "sts"]


def test_dev_of_a_table_may_take_several_batches_and_tasks_may_miss_some(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = run_of(folder, missing=HALF)
    few = run.data["yes"].dev
    last = few.lengths.argmax()
    one = Dataset(few.task, few.examples.take(np.array([last])), few.sequences, few.rows[[last]])
    data = [run.data["stars"].dev, one, run.data["score"].dev]
    monkeypatch.setattr(scoring, "TOKENS", 9)
    together = scoring.predict_together(run.model, data)
    for each in data:
        rows = [scoring.predict_examples(run.model, each)[i] for i in range(len(each))]
        torch.testing.assert_close(together[each.task.name], torch.stack(rows), rtol=1e-6, atol=1e-6)
    assert len(together["yes"]) == 1


def test_tokens_of_a_step_count_what_was_encoded(folder: Path):
    run = run_of(folder)
    parts, _ = run._draw()
    tally = Tally()
    (shard,) = run.objective.shards(parts)
    for made in run.objective.losses(shard, tally):
        assert made.readers == {"stars": TASKS, "sts": ("sts",)}
    assert tally.tokens == int(parts[0][0].lengths[parts[0][1]].sum() + parts[-1][0].lengths[parts[-1][1]].sum())
