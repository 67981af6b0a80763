"""The learning rate by literals, and what decays."""

import pytest
import torch
from torch import nn

from mtbert.optim import adamw, rate


def rates(steps: int, warmup: float, schedule: str) -> list[float]:
    return [rate(step, steps=steps, warmup=warmup, schedule=schedule) for step in range(steps)]


@pytest.mark.parametrize(
    ("steps", "warmup", "schedule", "expected"),
    [
        (8, 0.5, "linear", [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]),
        (4, 0.0, "linear", [1.0, 0.75, 0.5, 0.25]),
        (4, 0.5, "constant", [0.5, 1.0, 1.0, 1.0]),
        (4, 0.2, "linear", [1.0, 0.75, 0.5, 0.25]),  # less than a step of warm-up is none
        (1, 0.9, "linear", [1.0]),
        (3, 0.99, "linear", [0.5, 1.0, 1.0]),
    ],
)
def test_the_rate_rises_and_falls(steps, warmup, schedule, expected):
    assert rates(steps, warmup, schedule) == pytest.approx(expected, abs=0)


def test_the_rate_is_never_zero_and_1_at_its_highest():
    for steps in (1, 2, 3, 10, 101):
        for warmup in (0.0, 0.1, 0.5, 0.99):
            assert min(rates(steps, warmup, "linear")) > 0
            assert max(rates(steps, warmup, "linear")) == 1.0


def test_only_trained_matrices_decay():
    module = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    for parameter in module[3].parameters():
        parameter.requires_grad_(False)
    optimizer = adamw(module, lr=0.5, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.25)
    decaying, plain = optimizer.param_groups
    assert [tuple(p.shape) for p in decaying["params"]] == [(3, 2), (4, 2)]
    assert [tuple(p.shape) for p in plain["params"]] == [(4,), (4,), (4,)]
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.25, 0.0)
    assert all((g["lr"], g["betas"], g["eps"]) == (0.5, (0.8, 0.9), 1e-6) for g in (decaying, plain))


def test_decay_is_decoupled_from_the_gradient():
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.constant_(layer.bias, 2.0)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adamw(layer, lr=0.5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1).step()
    assert (layer.weight.item(), layer.bias.item()) == (pytest.approx(2.0 * (1 - 0.5 * 0.1)), 2.0)
