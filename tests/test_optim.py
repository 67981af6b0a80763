"""The optimizer: learning rates against literals, weight decay, gradients of rows, and norms."""

import math

import pytest
import torch
from tiny import model
from torch import nn

from mtbert.model.ema import Ema
from mtbert.model.freeze import freeze
from mtbert.task import Task
from mtbert.training.optim import RowGradient, adamw, factors, learning_rate, step, total_norm


def plainly(module: nn.Module) -> dict[nn.Parameter, float]:
    return {p: 1.0 for p in module.parameters() if p.requires_grad}


def rates(steps: int, warmup: float, schedule: str) -> list[float]:
    return [learning_rate(step, steps=steps, warmup=warmup, schedule=schedule) for step in range(steps)]


@pytest.mark.parametrize(
    ("steps", "warmup", "schedule", "expected"),
    [
        (8, 0.5, "linear", [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]),
        (4, 0.0, "linear", [1.0, 0.75, 0.5, 0.25]),
        (4, 0.5, "constant", [0.5, 1.0, 1.0, 1.0]),
        (4, 0.2, "linear", [1.0, 0.75, 0.5, 0.25]),  # less than one step of warm-up is no warm-up
        (1, 0.9, "linear", [1.0]),
        (3, 0.99, "linear", [0.5, 1.0, 1.0]),
    ],
)
def test_the_rate_rises_and_falls(steps, warmup, schedule, expected):
    assert rates(steps, warmup, schedule) == pytest.approx(expected, abs=0)


def test_the_rate_is_never_zero_and_reaches_1():
    for steps in (1, 2, 3, 10, 101):
        for warmup in (0.0, 0.1, 0.5, 0.99):
            assert min(rates(steps, warmup, "linear")) > 0
            assert max(rates(steps, warmup, "linear")) == 1.0


def test_only_trained_matrices_decay():
    module = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    for parameter in module[3].parameters():
        parameter.requires_grad_(False)
    optimizer = adamw(plainly(module), lr=0.5, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.25)
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
    adamw(plainly(layer), lr=0.5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1).step()
    assert (layer.weight.item(), layer.bias.item()) == (pytest.approx(2.0 * (1 - 0.5 * 0.1)), 2.0)


ONE = Task(name="t", type="regression", inputs="single")


def test_the_rate_falls_from_each_layer_to_the_next_below():
    toy = model(ONE, layers=3)
    found = factors(toy, 0.5)
    names = {name: found[p] for name, p in toy.named_parameters()}
    assert {names[n] for n in names if n.startswith("encoder.layers.2.")} == {1.0}
    assert {names[n] for n in names if n.startswith("encoder.layers.1.")} == {0.5}
    assert {names[n] for n in names if n.startswith("encoder.layers.0.")} == {0.25}
    assert {names[n] for n in names if "embedding" in n} == {0.125}
    assert {names[n] for n in names if n.startswith(("heads.", "encoder.pooler."))} == {1.0}
    assert set(factors(toy, None).values()) == {1.0}


def test_each_group_takes_its_share_of_the_rate():
    slow, fast = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2, 2))
    optimizer = adamw({slow: 0.25, fast: 1.0}, lr=1.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    slow.grad, fast.grad = torch.ones(2, 2), torch.ones(2, 2)
    step(optimizer, 0.1)
    assert slow[0, 0].item() == pytest.approx(-0.025, rel=1e-5)
    assert fast[0, 0].item() == pytest.approx(-0.1, rel=1e-5)


def words(weight: nn.Parameter, rows: list[int], gradients: list[float]) -> None:
    """Runs a backward pass that adds a sparse gradient to ``weight``, an embedding of width 1."""
    out = nn.functional.embedding(torch.tensor(rows), weight, sparse=True)
    out.backward(torch.tensor(gradients)[:, None])


def test_the_gradient_of_rows_is_written_in_its_new_rows_and_cleared_in_the_old_ones():
    weight = nn.Parameter(torch.zeros(6, 1))
    spread = RowGradient(weight)
    words(weight, [1, 4, 1], [1.0, 2.0, 4.0])
    words(weight, [4], [8.0])  # a second pass in the same step
    assert total_norm([weight]) == pytest.approx(math.hypot(5.0, 10.0))
    spread.spread()
    assert weight.grad.flatten().tolist() == [0.0, 5.0, 0.0, 0.0, 10.0, 0.0]
    first, weight.grad = weight.grad, None
    words(weight, [0, 4], [1.0, 3.0])
    spread.spread()
    assert weight.grad.flatten().tolist() == [1.0, 0.0, 0.0, 0.0, 3.0, 0.0]
    assert weight.grad.data_ptr() == first.data_ptr()
    spread.spread()  # the gradient is already dense
    assert weight.grad.flatten().tolist() == [1.0, 0.0, 0.0, 0.0, 3.0, 0.0]
    weight.grad = None
    spread.spread()
    assert weight.grad is None


def test_the_norm_is_of_all_gradients_as_one_vector():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1))
    a.grad, b.grad = torch.tensor([2.0, 3.0]), torch.tensor([[6.0]])
    assert total_norm([a, b, nn.Parameter(torch.zeros(3))]) == 7.0


def test_a_step_shrinks_only_its_own_gradients():
    # Adam's steps do not show a common factor of all gradients, so the test compares the moments.
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer = adamw({weight: 1.0}, lr=1.0, betas=(0.5, 0.5), eps=1e-8, weight_decay=0.0)
    weight.grad = torch.full((2, 2), 8.0)
    step(optimizer, 0.1, shrink=4.0)
    assert optimizer.state[weight]["exp_avg"].tolist() == [[1.0, 1.0], [1.0, 1.0]]  # half of 8 / 4
    weight.grad = torch.full((2, 2), 8.0)
    step(optimizer, 0.1)
    assert optimizer.state[weight]["exp_avg"].tolist() == [[4.5, 4.5], [4.5, 4.5]]


def test_frozen_parameters_have_no_factor():
    toy = model(ONE)
    freeze(toy.encoder, "all")
    assert list(factors(toy, 0.9)) == list(toy.heads.parameters())


@pytest.mark.parametrize(("layers", "kept"), [(0, (0, 1, 2)), (2, (2,)), (3, ())])
def test_freezing_takes_the_embeddings_and_the_lowest_layers(layers, kept):
    toy = model(ONE, layers=3)
    freeze(toy.encoder, layers)
    trained = {n for n, p in toy.named_parameters() if p.requires_grad}
    expected = [f"encoder.layers.{i}." for i in kept] + ["encoder.pooler.", "heads."]
    assert trained == {n for n, _ in toy.named_parameters() if n.startswith(tuple(expected))}


def test_averaged_weights_are_those_of_the_formula():
    toy = model(ONE)
    average = Ema(decay=0.5).start(toy)
    bias = toy.head("t").layers[0].bias
    expected = bias.item()
    for done, value in enumerate((1.0, 5.0, -3.0, 2.0, 8.0, 1.0, 0.0, 4.0, 9.0, 6.0)):
        with torch.no_grad():
            bias.fill_(value)
        Ema(decay=0.5).update(average, toy, done)
        decay = min(0.5, (1 + done) / (10 + done))
        expected = decay * expected + (1 - decay) * value
        assert average.head("t").layers[0].bias.item() == pytest.approx(expected, rel=1e-6)
    assert decay == 0.5
    assert bias.item() == 6.0
    assert not any(p.requires_grad for p in average.parameters())


def test_the_divisor_of_gradients_lies_on_the_device_of_the_weights():
    # On a GPU, a number on the host would be copied once per group.
    weight = torch.nn.Parameter(torch.ones(2, device="meta"))
    optimizer = adamw({weight: 1.0}, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    optimizer.step = lambda: None
    step(optimizer, 0.1, shrink=2.0)
    assert optimizer.grad_scale.device.type == "meta"
    step(optimizer, 0.1, shrink=1.0)
    assert optimizer.grad_scale is None
