"""Shards of a step: how the rows are divided, and that their sum is the gradient of the whole step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import toy_search
import toy_table
from tiny import dataset
from torch import Tensor

from mtbert.recipe.identity import identity
from mtbert.recipe.settings import validate_recipe
from mtbert.task import Task
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.training.shards import Sums, cut_shards, failed, tree_sum
from mtbert.yaml_files import merge

folder = toy_run.shared_folder
table_folder = toy_table.table_folder
ONE = Task(name="one", type="binary", inputs="single", labels=("no", "yes"))
OTHER = ONE.model_copy(update={"name": "other"})
WHOLE: dict[str, Any] = {
    "tasks": {
        "sst": {"losses": ["ce", "oll"], "batch_size": 7, "head": {"kind": "linear", "dropout": 0.0}},
        "quora": {
            "inputs": "separate",
            "losses": ["bce", "mnrl", "simcse"],
            "batch_size": 12,
            "head": {"kind": "linear", "dropout": 0.0},
        },
        "sts": {"inputs": "separate", "head": "cosine", "losses": ["mse", "cosent"], "batch_size": 9},
    },
    "model": {"dropout": 0.0},
}


def sums(*numbers: float | None, **losses: float) -> Sums:
    return Sums([None if n is None else torch.tensor([n]) for n in numbers], losses, 1)


def gradients(run: Run) -> dict[str, Tensor]:
    """Returns the gradients of one step, which is not made, and adds what was shown of it under other names."""
    step = run.step()
    named = [*run.model.named_parameters(), *run.objective.own.named_parameters()]
    found = {name: p.grad.to_dense().clone() for name, p in named if p.grad is not None}
    return found | {name: torch.tensor(value) for name, value in (step.losses | step.diagnostics).items()}


# Division --------------------------------------------------------------------------------------------------


def test_each_row_goes_to_the_shard_with_the_fewest_tokens_the_longest_first():
    data = dataset(ONE, [3, 9, 4, 2, 5, 7])
    shards = cut_shards([(data, np.arange(6))], 2)
    # 9 | 7 | 5 to the second | 4 to the first | 3 to the second, of 12 | 2 to the first, of 13
    assert [part.tolist() for ((_, part),) in shards] == [[1, 2, 3], [0, 4, 5]]


def test_shards_of_several_tables_are_balanced_together():
    first, second = dataset(ONE, [8]), dataset(OTHER, [5, 2])
    shards = cut_shards([(first, np.arange(1)), (second, np.arange(2))], 2)
    assert [[(d.task.name, rows.tolist()) for d, rows in shard] for shard in shards] == [
        [("one", [0])],
        [("other", [0, 1])],
    ]


def test_a_row_of_two_tasks_is_in_one_shard_and_a_shard_may_be_empty():
    data = dataset(ONE, [4, 6], labels=[0.0, 1.0])
    both = type(data)(OTHER, data.examples, data.sequences, data.rows)
    shards = cut_shards([(data, np.arange(2)), (both, np.arange(2))], 4)
    assert [[(d.task.name, rows.tolist()) for d, rows in shard] for shard in shards] == [
        [("one", [1]), ("other", [1])],
        [("one", [0]), ("other", [0])],
        [],
        [],
    ]


# Sums ------------------------------------------------------------------------------------------------------


def test_sums_are_added_in_pairs():
    # One by one, 1e8 would swallow each 3 on its own; pairs of them survive.
    found = tree_sum(sums(x) for x in (1e8, 3.0, 3.0, 3.0))
    assert found.gradients[0].item() == 100000008.0  # (1e8 + 3) + (3 + 3) in float32
    assert found.tokens == 4


def test_a_missing_gradient_counts_as_zero_and_a_missing_loss_too():
    found = tree_sum([sums(None, -0.0, None, a=1.5), sums(2.0, None, None, b=0.25)])
    assert [None if g is None else g.tolist() for g in found.gradients] == [[2.0], [0.0], None]
    assert not torch.signbit(found.gradients[1]).any()
    assert found.losses == {"a": 1.5, "b": 0.25}


def test_rows_of_embeddings_are_merged():
    a, b = (torch.sparse_coo_tensor([rows], [[float(r + 1)] for r in rows], (5, 1)) for rows in ([3, 0, 3], [4, 3]))
    found = tree_sum([Sums([a], {}, 1), Sums([b], {}, 1)]).gradients[0].coalesce()
    assert found.indices().tolist() == [[0, 3, 4]]
    assert found.values().tolist() == [[1.0], [12.0], [5.0]]


def test_one_failed_shard_fails_the_sum_with_the_message_of_the_first():
    assert tree_sum([sums(1.0), failed("x"), sums(1.0), failed("y")]).error == "x"


# Steps -----------------------------------------------------------------------------------------------------


def compare_shards(raw: dict[str, Any]) -> None:
    """Asserts that a step of ``raw``, whose dropout must be 0, is the same with 1, 2 and 4 shards, up to rounding."""

    def found(shards: int) -> dict[str, Tensor]:
        changed = merge(raw, {"train": {"clip": None, "shards": shards}})
        return gradients(assemble(validate_recipe(changed, "toy")).run())

    whole = found(1)
    for shards in (2, 4):
        parts = found(shards)
        assert parts.keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, rtol=2e-4, atol=2e-6, msg=f"{shards}: {name}")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"train": {"weighting": "uncertainty", "token_budget": 60}},
        {"train": {"mode": "alternate"}},
        {"train": {"aggregation": {"kind": "pcgrad"}}},
        {"train": {"aggregation": {"kind": "torchjd", "method": "MGDA"}}},
        {"model": {"unshare": 1}},
        # A recipe of this loss must have dropout. With so little, nothing is dropped.
        {"tasks": {"sst": {"losses": ["ce", "simcse-unsup"]}}, "model": {"dropout": 1e-9}},
    ],
)
def test_the_gradient_of_a_step_does_not_depend_on_its_shards(folder: Path, change: dict[str, Any]):
    compare_shards(merge(merge(toy_run.raw_recipe(folder), WHOLE), change))


def test_the_gradient_of_a_ranking_does_not_depend_on_its_shards(folder: Path):
    compare_shards(merge(toy_search.raw_recipe(folder, batch_size=9), {"model": {"dropout": 0.0}}))


@pytest.mark.parametrize("train", [{}, {"aggregation": {"kind": "pcgrad"}}, {"weighting": "uncertainty"}])
def test_the_gradient_of_a_table_with_missing_labels_does_not_depend_on_its_shards(
    table_folder: Path, train: dict[str, Any]
):
    raw = toy_table.raw_table_recipe(table_folder, **train)
    heads = {name: {"head": {"kind": "linear", "dropout": 0.0}} for name in raw["tasks"]}
    compare_shards(merge(raw, {"model": {"dropout": 0.0}, "tasks": heads}))


def test_each_shard_has_dropout_of_its_own_which_depends_on_the_step(folder: Path):
    run = toy_run.build(folder, {"model": {"dropout": 0.3}}, shards=4)[0]
    parts, _ = run._draw()
    begun = []
    for step in (0, 1):
        for shard in run.objective.shards(parts, step):
            shard.begin()
            begun.append(bytes(run.generator.get_state().tolist()))
    assert len(set(begun)) == 8


def test_the_number_of_shards_is_part_of_the_digest_of_a_run(folder: Path):
    one, explicit, two = (
        identity(validate_recipe(toy_run.raw_recipe(folder, **train), "r"))
        for train in ({}, {"shards": 1}, {"shards": 2})
    )
    assert one == explicit != two


def test_a_number_of_shards_that_is_no_power_of_two_is_refused(folder: Path):
    with pytest.raises(ValueError, match=r"train.shards: must be a power of two, found 6. Use 4 or 8."):
        validate_recipe(toy_run.raw_recipe(folder, shards=6), "r")
