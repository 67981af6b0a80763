"""Task gradients at the ends of float32's range: subnormal numbers, 1e38, zero, and combinations of them.

The reference is the same computation in float64, where nothing under- or overflows.

Dimension key: T tasks, P numbers of a gradient.
"""

import math
from pathlib import Path
from typing import get_args

import pytest
import torch
import toy_run
from torch import Tensor, nn

from mtbert.balance.gram import combine, cosines, gram
from mtbert.balance.pcgrad import PCGrad, pcgrad
from mtbert.balance.sum import Sum
from mtbert.balance.torchjd import Method, TorchJD
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.inert import inert_losses
from mtbert.training.optim import norm, total_norm
from mtbert.training.run import Run
from mtbert.yaml_files import merge

folder = toy_run.folder

SEAM = [Sum(), PCGrad(), *(TorchJD(method=method) for method in get_args(Method))]
every_aggregation = pytest.mark.parametrize("aggregation", SEAM, ids=lambda a: a.method)
SIZES = [1e-45, 1e-41, 1e-30, 1e-23, 1e-12, 1.0, 1e12, 1e19, 1e30, 1e38]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def directions(tasks: int, size: int = 6, seed: int = 0) -> Tensor:
    """Returns rows of whole numbers from -2 to 2; float32 can represent each of them times each of ``SIZES``."""
    return torch.randint(-2, 3, (tasks, size), generator=seeded(seed)).float()


def in_float64(gradients_TP: Tensor) -> Tensor:
    wide_TP = gradients_TP.double()
    return wide_TP @ wide_TP.T


def apart(gradients_TP: Tensor) -> list[list[Tensor | None]]:
    """Returns each gradient as two parameters, of which the first is sparse."""
    half = gradients_TP.shape[1] // 2
    return [[row[:half, None].to_sparse(1), row[half:]] for row in gradients_TP]


# The Gram matrix -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", SIZES)
@pytest.mark.parametrize("second", [1e-45, 1e-23, 1.0, 1e38])
def test_products_of_float32_gradients_are_those_of_float64_whatever_their_sizes(first: float, second: float):
    grads_TP = torch.stack([directions(1)[0] * first, directions(1, seed=1)[0] * second, torch.zeros(6)])
    assert grads_TP.isfinite().all()
    expected_TT = in_float64(grads_TP)
    assert (expected_TT.diagonal()[:2] > 0).all()
    for gradients in (apart(grads_TP), [[row] for row in grads_TP]):
        torch.testing.assert_close(gram(gradients), expected_TT, rtol=1e-6, atol=0)


def test_ordinary_gradients_are_multiplied_in_their_own_precision():
    a, b = torch.randn(1000, generator=seeded()), torch.randn(1000, generator=seeded(1))
    assert gram([[a], [b]]).tolist() == [[float(a.dot(a)), float(a.dot(b))], [float(a.dot(b)), float(b.dot(b))]]
    assert float(a.dot(a)) != float(a.double().dot(a.double()))


def test_beside_a_gradient_of_zeros_ordinary_ones_keep_their_own_precision():
    a = torch.randn(1000, generator=seeded())
    for zero in (torch.zeros(1000), None):
        assert gram([[a], [zero]]).tolist() == [[float(a.dot(a)), 0.0], [0.0, 0.0]]
    # One whose square underflows is not zero.
    assert gram([[a], [torch.full((1000,), 1e-30)]]).tolist() != [[float(a.dot(a)), 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_still_shows_in_its_row(bad: float):
    found_TT = gram([[torch.tensor([1.0, 1e-30])], [torch.tensor([bad, 1.0])]])
    assert found_TT.isfinite().tolist() == [[True, False], [False, False]]


def test_cosines_of_tiny_and_huge_gradients_are_those_of_their_directions():
    grads_TP = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [-6.0, -8.0], [0.0, 0.0]])
    expected = [[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    sizes_T1 = torch.tensor([[1e-43], [1e37], [1.0], [1.0]])
    found_TT = cosines(gram([[row] for row in grads_TP * sizes_T1]))
    # The first is rounded to multiples of 1.4e-45.
    torch.testing.assert_close(found_TT, torch.tensor(expected, dtype=torch.float64), rtol=0.01, atol=0.01)


# The weighted sum ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "weight", "expected"),
    [(1e-45, 2.0**149, 1.0), (1e-40, 1e45, 1e5), (1e38, 1e-60, 1e-22), (1e38, -1e-60, -1e-22), (3.0, 0.0, 0.0)],
)
def test_a_weight_beyond_the_range_of_float32_is_still_applied(size: float, weight: float, expected: float):
    weights_T = torch.tensor([1.0, weight], dtype=torch.float64)
    (found,) = combine([[torch.zeros(2)], [torch.tensor([size, 0.0])]], weights_T)
    assert found is not None
    assert found.tolist() == [pytest.approx(expected, rel=1e-4, abs=2e-45), 0.0]


# Every balancing method ------------------------------------------------------------------------------------


@every_aggregation
@pytest.mark.parametrize("size", SIZES)
def test_a_task_of_another_size_gives_finite_weights_and_a_finite_sum(aggregation, size: float):
    for seed in range(3):
        grads_TP = directions(3, seed=seed)
        grads_TP[1] *= size
        gradients = apart(grads_TP)
        weights_T = aggregation(gram(gradients), seeded())
        assert weights_T.isfinite().all()
        assert all(part.to_dense().isfinite().all() for part in combine(gradients, weights_T) if part is not None)


@every_aggregation
@pytest.mark.parametrize("size", SIZES)
def test_the_size_of_all_gradients_does_not_matter_down_to_the_last_number_of_float32(aggregation, size: float):
    grads_TP = directions(4)
    size = float(torch.tensor(size))  # rounded to float32
    expected_T = aggregation(gram(apart(grads_TP)), seeded())
    found_T = aggregation(gram(apart(grads_TP * size)), seeded())
    torch.testing.assert_close(found_T, expected_T, rtol=1e-5, atol=1e-5)


@every_aggregation
@pytest.mark.parametrize("zeros", [[0], [1, 3], [0, 1, 2, 3]])
def test_a_zero_gradient_takes_no_part(aggregation, zeros: list[int]):
    grads_TP = directions(4)
    grads_TP[zeros] = 0.0
    rest = [task for task in range(4) if task not in zeros]
    weights_T = aggregation(gram(apart(grads_TP)), seeded())
    assert weights_T[zeros].tolist() == [0.0 if aggregation.kind == "torchjd" else 1.0] * len(zeros)
    if not rest:
        return
    if aggregation.kind == "pcgrad":  # its orders are drawn for four tasks
        possible = {tuple(pcgrad(in_float64(grads_TP[rest]), seeded(seed)).tolist()) for seed in range(50)}
        assert any(weights_T[rest].tolist() == pytest.approx(list(weights)) for weights in possible)
    else:
        torch.testing.assert_close(weights_T[rest], aggregation(gram(apart(grads_TP[rest])), seeded()))


@pytest.mark.parametrize("size", SIZES)
def test_surgery_beside_a_tiny_or_huge_gradient_is_that_of_float64(size: float):
    grads_TP = torch.tensor([[1.0, -1.0], [-2.0, 1.0], [0.0, 1.0]])
    grads_TP[1] *= size / 2
    wide_TP = grads_TP.double()
    expected_P = pcgrad(wide_TP @ wide_TP.T, seeded()) @ wide_TP
    (found,) = combine([[row] for row in grads_TP], pcgrad(gram([[row] for row in grads_TP]), seeded()))
    torch.testing.assert_close(found.double(), expected_P, rtol=1e-5, atol=1e-6 * max(1.0, size))


# A whole step ----------------------------------------------------------------------------------------------


def run_of(folder: Path, *, double: bool = False, **train: object) -> Run:
    """Returns a toy run without dropout whose second task has a gradient of about 1e-25."""
    raw = toy_run.raw_recipe(folder, **train)
    raw["model"]["dropout"] = 0.0
    for task in raw["tasks"].values():
        task["head"] = {"kind": "linear", "dropout": 0.0}
    raw["tasks"]["sst"]["losses"] = ["ce"]
    settings = validate_recipe(merge(raw, {"tasks": {"quora": {"weight": 1e-25}}}), "toy")
    made = assemble(settings)
    if double:
        made.model.double()
    return made.run()


def test_a_step_with_a_task_that_is_sure_of_its_answers_is_that_of_float64(folder: Path):
    whole, single = (run_of(folder, double=double, aggregation="pcgrad", clip=None) for double in (True, False))
    weights, cosines = [], []
    for _ in range(6):
        expected, found = whole.step(), single.step()
        assert found.diagnostics == pytest.approx(expected.diagnostics, rel=1e-3, abs=1e-5)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
        weights.append(found.diagnostics["weight(quora)"])
        cosines.append(abs(found.diagnostics["cos(sst, quora)"]))
    assert min(weights) == 1.0
    assert max(weights) > 1e20
    assert min(cosines) > 1e-3


@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-23, 1e-12, 1.0, 1e18, 1e25, 1e38])
def test_the_norm_of_all_gradients_is_right_at_every_size(size: float):
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, 1))
    size = float(torch.tensor(size))
    a.grad = torch.tensor([1.0, 2.0]) * size
    b.grad = torch.sparse_coo_tensor([[1, 1]], [[size], [size]], (2, 1), check_invariants=True)
    assert total_norm([a, b]) == pytest.approx(3 * size, rel=1e-6, abs=0)


def test_the_norm_of_nothing_and_of_zeros_is_0():
    assert norm([]) == 0.0
    assert norm([torch.zeros(3)]) == 0.0
    assert math.isnan(norm([torch.tensor([math.nan, 1.0])]))
    assert norm([torch.tensor([math.inf, 1.0])]) == math.inf


def test_a_huge_gradient_is_clipped_or_else_refused_if_adam_could_not_keep_its_square(folder: Path):
    def run(**train: object) -> Run:
        huge = {"tasks": {"sts": {"weight": 1e11, "losses": [{"kind": "mse", "weight": 1e11}]}}}
        return assemble(validate_recipe(merge(toy_run.raw_recipe(folder, **train), huge), "toy")).run()

    clipped = run(clip=1.0)
    assert clipped.step().grad_norm > 1e20
    assert all(p.isfinite().all() for p in clipped.model.parameters())
    assert all(entry["exp_avg_sq"].max() <= 1 for entry in clipped.optimizer.state.values())
    free = run(clip=None)
    before = {n: p.detach().clone() for n, p in free.model.named_parameters()}
    with pytest.raises(FloatingPointError, match=r"step 1: the gradient of .*sts\.mse is \d\.\d+e\+2\d although"):
        free.step()
    assert all(torch.equal(p, before[n]) for n, p in free.model.named_parameters())
    assert not free.optimizer.state


def test_a_loss_too_weak_for_the_squares_of_float32_is_pointed_out_too(folder: Path):
    raw = merge(toy_run.raw_recipe(folder), {"tasks": {"sst": {"losses": ["ce", {"kind": "oll", "weight": 1e-25}]}}})
    settings = validate_recipe(raw, "toy")
    (line,) = inert_losses(assemble(settings).run())
    assert line.startswith("task sst: loss oll has ")


@pytest.mark.parametrize(
    ("aggregation", "method"),
    [("pcgrad", "pcgrad"), ({"kind": "torchjd", "method": "MGDA"}, "MGDA")],
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_refused_before_it_is_applied(
    folder: Path, monkeypatch: pytest.MonkeyPatch, aggregation, method: str, bad: float
):
    run = run_of(folder, aggregation=aggregation)
    monkeypatch.setattr(type(run.recipe.train.aggregation), "__call__", lambda *_: torch.tensor([1.0, bad, 0.5]))
    monkeypatch.setattr("mtbert.training.run.combine", lambda *_: pytest.fail("would never end"))
    said = rf"^step 1: train.aggregation: .* by {method} must be finite, found \[1.0, {bad},"
    with pytest.raises(FloatingPointError, match=said):
        run.step()
