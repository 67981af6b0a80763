"""Properties of every balancing method: finite weights, no dependence on the unit, draws from the generator alone.

Dimension key: T tasks, P numbers of a gradient.
"""

import importlib.util
import sys
from types import ModuleType
from typing import Annotated

import pytest
import torch
import torchjd.aggregation
from pydantic import TypeAdapter, ValidationError
from toy_gradients import LITERAL_TP, METHODS, every_aggregation, gram_of, random_gradients, seeded

from mtbert.balance import BalanceSettings
from mtbert.balance.known import BALANCING
from mtbert.balance.pcgrad import PCGrad, pcgrad
from mtbert.balance.sum import Sum
from mtbert.balance.torchjd import CAGRAD_C, TorchJD

AWKWARD = {
    "one task": [[3.0, 4.0]],
    "all zero": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
    "one zero": [[1.0, 2.0], [0.0, 0.0], [-1.0, 1.0]],
    "twice the same": [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [-1.0, 0.0, 0.5]],
    "opposite": [[1.0, 2.0], [-1.0, -2.0]],
    "all of one line": [[0.1, 0.3], [-0.2, -0.6], [0.3, 0.9]],
    "more tasks than numbers": random_gradients(5, 2).tolist(),
    "far apart in size": [[1e8, 1.0, 0.0], [-1.0, 1.0, 0.0], [-1e-8, 0.0, 1e-8]],
    "tiny": [[1e-12, 0.0], [-1e-12, 1e-12]],
}


@every_aggregation
@pytest.mark.parametrize("case", AWKWARD)
def test_weights_are_finite_whatever_the_gradients(aggregation, case):
    grads_TP = torch.tensor(AWKWARD[case], dtype=torch.float64)
    gram_TT = gram_of(grads_TP)
    before = gram_TT.clone()
    weights_T = aggregation(gram_TT, seeded())
    assert weights_T.shape == (len(grads_TP),)
    assert weights_T.dtype == torch.float64
    assert weights_T.isfinite().all()
    assert torch.equal(gram_TT, before)


@every_aggregation
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_the_unit_of_all_gradients_does_not_matter(aggregation, scale):
    for seed in range(5):
        grads_TP = random_gradients(4, 3, seed)
        expected_T = aggregation(gram_of(grads_TP), seeded())
        found_T = aggregation(gram_of(scale * grads_TP), seeded())
        torch.testing.assert_close(found_T, expected_T, rtol=1e-6, atol=1e-6)


@every_aggregation
def test_weights_follow_from_the_generator_and_the_global_state_stays(aggregation):
    gram_TT = gram_of(LITERAL_TP)
    torch.manual_seed(1)
    expected_T = aggregation(gram_TT, seeded())
    state = torch.manual_seed(2).get_state()
    assert torch.equal(aggregation(gram_TT, seeded()), expected_T)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("aggregation", [PCGrad(), TorchJD(method="Random")], ids=["pcgrad", "Random"])
def test_random_weights_change_from_step_to_step(aggregation):
    generator = seeded()
    assert len({tuple(aggregation(gram_of(LITERAL_TP), generator).tolist()) for _ in range(50)}) > 5


@pytest.mark.parametrize("method", METHODS)
def test_a_torchjd_method_gives_what_its_aggregator_makes_of_the_gradients(method):
    aggregator = getattr(torchjd.aggregation, method)
    aggregator = aggregator(c=CAGRAD_C) if method == "CAGrad" else aggregator()
    for seed in range(10):
        grads_TP = random_gradients(3, 4, seed)
        weights_T = TorchJD(method=method)(gram_of(grads_TP), seeded())
        if method == "Random":
            assert float(weights_T.sum()) == pytest.approx(1.0)
            assert (weights_T > 0).all()
        else:
            torch.testing.assert_close(weights_T @ grads_TP, aggregator(grads_TP), rtol=1e-5, atol=1e-6)


def test_sum_gives_1_to_each_task():
    assert Sum()(gram_of(LITERAL_TP), seeded()).tolist() == [1.0, 1.0, 1.0]


# Refusals ----------------------------------------------------------------------------------------------------


@every_aggregation
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gram_matrix_that_is_not_finite_is_refused_by_the_row_of_the_broken_gradient(aggregation, bad):
    gram_TT = gram_of(LITERAL_TP)
    gram_TT[1] = gram_TT[:, 1] = bad
    with pytest.raises(ValueError, match=rf"Gram matrix, row 1: .*finite, found \[{bad}, {bad}, {bad}\]"):
        aggregation(gram_TT, seeded())


def test_one_product_that_is_not_finite_is_refused_by_its_row():
    gram_TT = gram_of(LITERAL_TP)
    gram_TT[2, 0] = float("-inf")
    with pytest.raises(ValueError, match=r"row 2: .*found \[-inf, 1\.0, 1\.0\]"):
        pcgrad(gram_TT, seeded())


@every_aggregation
@pytest.mark.parametrize(("shape", "told"), [((2, 3), r"\[2, 3\]"), ((4,), r"\[4\]")])
def test_a_gram_matrix_that_is_not_square_is_refused_by_its_shape(aggregation, shape, told):
    with pytest.raises(ValueError, match=f"a row and a column for each task, found {told}"):
        aggregation(torch.ones(shape, dtype=torch.float64), seeded())


@every_aggregation
def test_settings_are_valid_and_checked_where_torchjd_is_installed(aggregation):
    adapter = TypeAdapter(Annotated[BalanceSettings, BALANCING])
    assert adapter.validate_python(aggregation.model_dump()) == aggregation
    aggregation.check_installed()


def test_methods_that_are_not_functions_of_one_gram_matrix_are_refused():
    adapter = TypeAdapter(Annotated[BalanceSettings, BALANCING])
    for method in ("ExcessMTL", "MoDo", "SDMGrad", "NashMTL", "GradVac", "PCD", "CRMOGM", "PCGrad", "Krum"):
        with pytest.raises(ValidationError, match=f"'UPGrad'.*input_value='{method}'"):
            adapter.validate_python({"kind": "torchjd", "method": method})
    with pytest.raises(ValidationError, match=r"unknown key 'metod'. Did you mean 'method'\?"):
        adapter.validate_python({"kind": "torchjd", "metod": "MGDA"})


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> ModuleType:
    """Returns a second copy of mtbert.balance.torchjd, executed as if these packages were not installed."""
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)
    spec = importlib.util.find_spec("mtbert.balance.torchjd")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", METHODS)
def test_without_torchjd_a_recipe_is_valid_and_its_run_is_refused(method, monkeypatch):
    settings = without(monkeypatch, "torchjd", "torchjd.aggregation").TorchJD(method=method)
    Sum().check_installed()
    PCGrad().check_installed()
    with pytest.raises(ValueError, match=rf"'{method}' needs torchjd .*Run: pip install \"mtbert\[balance\]\""):
        settings.check_installed()


@pytest.mark.parametrize(
    ("package", "methods"), [("quadprog", {"UPGrad", "DualProj"}), ("clarabel", {"CAGrad"})], ids=["quadprog", "cvxpy"]
)
def test_methods_whose_solver_is_missing_are_refused(package, methods, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None if name == package else find(name))
    for method in METHODS:
        if method in methods:
            with pytest.raises(ValueError, match=f"method '{method}' needs"):
                TorchJD(method=method).check_installed()
        else:
            TorchJD(method=method).check_installed()
