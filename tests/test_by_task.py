from pathlib import Path
from typing import Any

import pytest
import torch
import toy_exports
import toy_run
from one_step import backward, by_task
from torch import nn

from mtbert.balance.by_task import ByTask
from mtbert.collate import collate
from mtbert.model.attention import Groups
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.yaml_files import merge

folder = toy_run.folder

TASKS = ("sst", "quora", "sts")
OTHERS = {
    "mpnet": {"model_type": "mpnet"},
    "modernbert": {"model_type": "modernbert", "local_attention": 4},
    "deberta-v2": {"model_type": "deberta-v2", **toy_exports.DEBERTA},
    "gte": {"model_type": "gte"},
    "nomic_bert": {"model_type": "nomic_bert"},
}


def run_of(folder: Path, change: dict[str, Any], only: str | None = None) -> Run:
    """Returns a toy run in float64 with dropout; the losses of all tasks except ``only`` have weight 0."""
    raw = merge(toy_run.raw_recipe(folder), change)
    for name, task in raw["tasks"].items():
        task["weight"] = 1.0 if only in (None, name) else 0.0
    settings = validate_recipe(raw, "toy")
    made = assemble(settings)
    made.model.double()
    return made.run()


def plain(run: Run) -> dict[str, torch.Tensor]:
    parts, _ = run._draw()
    backward(run.objective, parts)
    zero = torch.zeros((), dtype=torch.float64)
    return {n: (zero if p.grad is None else p.grad.to_dense()) for n, p in run.model.named_parameters()}


SEPARATE = {"quora": {"inputs": "separate"}, "sts": {"inputs": "separate"}}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model": {"pooling": "mean"}},
        {"model": {"freeze": 1}},
        {"model": {"lora": {"rank": 2}}},
        {"model": {"pal": {"width": 6, "heads": 2}}},
        {"model": {"unshare": 1}},
        {"model": {"unshare": 2, "pal": {"width": 6, "heads": 2}}, "tasks": {"sst": {"losses": ["ce", "smart"]}}},
        {"train": {"weighting": "uncertainty"}},
        {"train": {"token_budget": 40}},
        {"tasks": {"sst": {"losses": ["ce", "smart"]}, "sts": {"losses": ["mse", "smart", "rdrop"]}}},
        {"tasks": {"sts": {"losses": ["mse", "smart"]}}, "train": {"token_budget": 40}},
        {"tasks": {"quora": {"inputs": "separate", "losses": ["bce", "mnrl", "simcse-unsup"]}}},
        {
            "tasks": {"quora": {"inputs": "separate", "losses": ["bce", "mnrl", "simcse-unsup"]}},
            "train": {"token_budget": 40},
        },
    ],
)
def test_a_tasks_part_is_the_gradient_with_all_other_losses_at_0(folder: Path, change: dict[str, Any]):
    assert_apart(folder, change)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model": {"pooling": "mean", "lora": {"rank": 2}}},
        {"model": {"unshare": 1, "pal": {"width": 6, "heads": 2}}, "train": {"token_budget": 40}},
        {"tasks": {"sst": {"losses": ["ce", "smart"]}, "sts": {"losses": ["mse", "smart", "rdrop"]}}},
    ],
)
@pytest.mark.parametrize("kind", OTHERS)
def test_each_weight_of_other_families_has_a_part_for_each_task(folder: Path, kind: str, change: dict[str, Any]):
    toy_run.encoder_folder(folder / kind, **OTHERS[kind])
    assert_apart(folder, merge(change, {"model": {"path": str(folder / kind)}}))


def assert_apart(folder: Path, change: dict[str, Any]) -> None:
    run = run_of(folder, change)
    names = {id(p): n for n, p in run.model.named_parameters()}
    weights = run.shared
    parts, _ = run._draw()
    found = by_task(run, parts)
    assert all(p.grad is None for p in weights)
    others = {n: p.grad for n, p in run.model.named_parameters() if not n.startswith("encoder.") and p.grad is not None}
    for task, gradients in zip(TASKS, found, strict=True):
        expected = plain(run_of(folder, change, only=task))
        for weight, gradient in zip(weights, gradients, strict=True):
            name = names[id(weight)]
            ours = torch.zeros_like(weight) if gradient is None else gradient.to_dense()
            torch.testing.assert_close(
                ours, expected[name].expand_as(ours), rtol=1e-9, atol=1e-13, msg=f"{task} {name}"
            )
    whole = plain(run_of(folder, change))
    assert others
    for name, gradient in others.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-9, atol=1e-13, msg=name)


def test_a_weight_that_no_row_of_a_task_reaches_gets_no_gradient(folder: Path):
    run = run_of(folder, {"tasks": {"sst": {"pooling": "mean"}}})
    parts, _ = run._draw()
    found = by_task(run, parts)
    weights = run.shared
    pooler = [i for i, w in enumerate(weights) if any(w is p for p in run.model.encoder.pooler.parameters())]
    assert [[gradients[i] is None for i in pooler] for gradients in found] == [[True] * 2, [False] * 2, [False] * 2]


def test_weights_require_gradients_again_afterwards_even_after_a_failure(folder: Path):
    run = run_of(folder, {})
    apart = ByTask(run.model, run.shared)
    with pytest.raises(KeyError), apart.watching():
        assert not any(w.requires_grad for w in apart.weights)
        raise KeyError
    assert all(w.requires_grad for w in apart.weights)
    assert all(not m._forward_hooks for m in run.model.modules() if isinstance(m, nn.Module))


@pytest.mark.parametrize("kind", ["bert", *OTHERS])
def test_in_bfloat16_rows_after_the_tokens_belong_to_no_task(folder: Path, kind: str):
    path = folder / "encoder"
    if kind != "bert":
        path = toy_run.encoder_folder(folder / kind, **OTHERS[kind])
    change = {"model": {"dropout": 0.0, "path": str(path)}, "tasks": {"sst": {"pooling": "mean", "batch_size": 5}}}

    def run_in_bfloat16(only: str | None = None) -> Run:
        run = run_of(folder, change, only)
        run.model.float()
        run.model.compute = torch.bfloat16
        return run

    run = run_in_bfloat16()
    parts, _ = run._draw()
    assert Groups(collate(parts, run.device).layout, run.device, rounded=True).dummies > 0
    names = {id(p): n for n, p in run.model.named_parameters()}
    for task, found in zip(TASKS, by_task(run, parts), strict=True):
        expected = plain(run_in_bfloat16(task))
        for weight, gradient in zip(run.shared, found, strict=True):
            other = expected[names[id(weight)]]
            ours = torch.zeros_like(weight) if gradient is None else gradient.to_dense()
            assert (ours - other).norm() <= 0.02 * other.norm(), f"{task} {names[id(weight)]}"


class Doubled(nn.LayerNorm):
    """A norm whose gradients differ from those of its base class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("norm", [nn.RMSNorm, Doubled])
def test_a_module_of_an_unknown_class_is_an_error_that_names_it(folder: Path, norm: type[nn.Module]):
    run = run_of(folder, {})
    run.model.encoder.layers[1].output_norm = norm(16)
    apart = ByTask(run.model, [p for p in run.model.encoder.parameters() if p.requires_grad])
    with pytest.raises(TypeError, match=rf"encoder.layers.1.output_norm: .* found {norm.__name__}\."), apart.watching():
        pass
    run.model.encoder.layers[1].output_norm.requires_grad_(False)
    apart = ByTask(run.model, [p for p in run.model.encoder.parameters() if p.requires_grad])
    with apart.watching():
        pass


def test_a_linear_layer_and_a_norm_without_bias_have_the_gradient_of_their_weight_alone(folder: Path):
    def without_biases(only: str | None = None) -> Run:
        run = run_of(folder, {}, only)
        layer = run.model.encoder.layers[0]
        layer.qkv.bias = layer.output_norm.bias = None
        run.shared = [p for p in run.model.encoder.parameters() if p.requires_grad]
        return run

    run = without_biases()
    names = {id(p): n for n, p in run.model.named_parameters()}
    parts, _ = run._draw()
    for task, gradients in zip(TASKS, by_task(run, parts), strict=True):
        expected = plain(without_biases(task))
        for weight, gradient in zip(run.shared, gradients, strict=True):
            name = names[id(weight)]
            ours = torch.zeros_like(weight) if gradient is None else gradient.to_dense()
            torch.testing.assert_close(
                ours, expected[name].expand_as(ours), rtol=1e-9, atol=1e-13, msg=f"{task} {name}"
            )
