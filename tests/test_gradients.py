"""Task gradients to one direction: against Algorithm 1 on explicit vectors, torchjd, and literal numbers.

Dimension key: T tasks, P numbers of a gradient.
"""

import importlib.util
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import get_args

import pytest
import torch
import torchjd.aggregation
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from mtbert.balance.gram import combine, cosines, gram
from mtbert.balance.known import BalanceSettings
from mtbert.balance.pcgrad import PCGrad, pcgrad, project
from mtbert.balance.sum import Sum
from mtbert.balance.torchjd import CAGRAD_C, Method, TorchJD

METHODS = get_args(Method)
SEAM = [Sum(), PCGrad(), *(TorchJD(method=method) for method in METHODS)]
every_aggregation = pytest.mark.parametrize("aggregation", SEAM, ids=lambda a: a.method)

# Three gradients, each of which comes out differently in the two orders that its projections can have.
LITERAL_TP = torch.tensor([[1.0, -1.0], [-2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_gradients(tasks: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(tasks, size, generator=seeded(seed), dtype=torch.float64)


def gram_of(gradients_TP: Tensor) -> Tensor:
    return gradients_TP @ gradients_TP.T


def slow_projection(gradients: Sequence[Sequence[float]], task: int, order: Sequence[int]) -> list[float]:
    """Lines 4 to 8 of Algorithm 1 for one task, on explicit vectors, in Python floats."""
    changed = list(gradients[task])
    for j in order:
        product = sum(a * b for a, b in zip(changed, gradients[j], strict=True))
        if product < 0:
            square = sum(b * b for b in gradients[j])
            changed = [a - product / square * b for a, b in zip(changed, gradients[j], strict=True)]
    return changed


# The Gram matrix, the weighted sum, the cosines --------------------------------------------------------------


def test_the_gram_matrix_is_of_whole_vectors_and_none_counts_as_zero():
    first = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([-1.0]), None, torch.tensor(2.0)]
    second = [torch.tensor([[1.0, 0.0], [0.0, 1.0]]), None, torch.tensor([7.0, 1.0]), torch.tensor(3.0)]
    third = [None, torch.tensor([5.0]), None, None]
    found_TT = gram([first, second, third])
    assert found_TT.tolist() == [[35.0, 11.0, -5.0], [11.0, 61.0, 0.0], [-5.0, 0.0, 25.0]]
    assert found_TT.dtype == torch.float64
    assert found_TT.device.type == "cpu"
    assert gram([[None, None], [None, None]]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_products_of_tensors_are_added_in_float64():
    # 2 ** 24 + 1 is the first whole number that float32 does not have.
    gradient = [torch.tensor([4096.0]), torch.tensor([1.0])]
    assert gram([gradient]).tolist() == [[2.0**24 + 1]]


def test_sparse_gradients_are_multiplied_and_added_as_dense_ones():
    def rows(numbers: list[int], values: list[float]) -> Tensor:
        return torch.sparse_coo_tensor([numbers], [[v, -v] for v in values], (5, 2), check_invariants=True)

    parts = [[rows([1, 3], [2.0, 1.0])], [rows([3, 4, 3], [4.0, 9.0, 1.0])], [None], [rows([0], [1.0])]]
    expected = [[8.0 + 2.0, 10.0, 0.0, 0.0], [10.0, 50.0 + 162.0, 0.0, 0.0], [0.0] * 4, [0.0, 0.0, 0.0, 2.0]]
    assert gram(parts).tolist() == expected
    (found,) = combine(parts, torch.tensor([1.0, 0.5, 3.0, 2.0], dtype=torch.float64))
    assert found.to_dense()[:, 0].tolist() == [2.0, 2.0, 0.0, 3.5, 4.5]


def test_the_gram_matrix_reads_transposed_gradients_and_changes_none():
    a, b = random_gradients(3, 4), random_gradients(3, 4, seed=1)
    before = a.clone()
    torch.testing.assert_close(gram([[a.T], [b.T]])[0, 1], (a * b).sum(), rtol=1e-12, atol=0)
    combine([[a], [b]], torch.tensor([2.0, 3.0], dtype=torch.float64))
    assert torch.equal(a, before)


def test_the_weighted_sum_is_taken_per_parameter_in_its_own_precision():
    first = [torch.tensor([1.0, 2.0]), None, None, torch.tensor([1.0], dtype=torch.float64)]
    second = [torch.tensor([10.0, 20.0]), torch.tensor([4.0]), None, torch.tensor([8.0], dtype=torch.float64)]
    found = combine([first, second], torch.tensor([2.0, 0.5], dtype=torch.float64))
    assert [None if f is None else f.tolist() for f in found] == [[7.0, 14.0], [2.0], None, [6.0]]
    assert [None if f is None else f.dtype for f in found] == [torch.float32, torch.float32, None, torch.float64]


def test_with_weights_of_1_the_weighted_sum_is_plain_addition_to_the_last_bit():
    gradients = [[g.float()] for g in random_gradients(3, 1000)]
    (found,) = combine(gradients, torch.ones(3, dtype=torch.float64))
    assert found is not None
    assert torch.equal(found, gradients[0][0] + gradients[1][0] + gradients[2][0])


@pytest.mark.parametrize("function", [gram, lambda g: combine(g, torch.ones(2, dtype=torch.float64))])
def test_gradients_of_unequally_many_parameters_are_refused(function):
    with pytest.raises(ValueError, match="shorter"):
        function([[torch.ones(1), torch.ones(1)], [torch.ones(1)]])


def test_weights_of_another_number_of_tasks_are_refused():
    with pytest.raises(ValueError, match="longer"):
        combine([[torch.ones(1)], [torch.ones(1)]], torch.ones(3, dtype=torch.float64))


def test_the_weighted_sum_by_the_gram_matrix_is_that_of_flat_vectors():
    shapes = [(3, 2), (4,), (2, 2, 2)]
    gradients = [
        [torch.randn(s, generator=seeded(10 * t + p), dtype=torch.float64) for p, s in enumerate(shapes)]
        for t in range(4)
    ]
    flat_TP = torch.stack([torch.cat([part.flatten() for part in gradient]) for gradient in gradients])
    torch.testing.assert_close(gram(gradients), gram_of(flat_TP), rtol=1e-12, atol=1e-12)
    weights_T = pcgrad(gram(gradients), seeded())
    found = torch.cat([part.flatten() for part in combine(gradients, weights_T) if part is not None])
    torch.testing.assert_close(found, weights_T @ flat_TP, rtol=1e-12, atol=1e-12)


def test_cosines_are_literal_and_0_for_a_zero_gradient():
    grads_TP = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [-6.0, -8.0], [0.0, 0.0], [1e-8, 0.0]], dtype=torch.float64)
    expected = [
        [1.0, 0.0, -1.0, 0.0, 0.6],
        [0.0, 1.0, 0.0, 0.0, -0.8],
        [-1.0, 0.0, 1.0, 0.0, -0.6],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.6, -0.8, -0.6, 0.0, 1.0],
    ]
    found_TT = cosines(gram_of(grads_TP))
    torch.testing.assert_close(found_TT, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


# PCGrad ------------------------------------------------------------------------------------------------------


def test_a_task_is_not_projected_off_itself():
    weights_T = project(gram_of(LITERAL_TP), 0, order=[1, 2, 0])
    torch.testing.assert_close(weights_T @ LITERAL_TP, torch.tensor([-0.2, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("tasks", [2, 3, 4, 5])
def test_a_projection_is_that_of_algorithm_1_in_every_order(tasks):
    for seed in range(10):
        grads_TP = random_gradients(tasks, 3, seed)
        for task in range(tasks):
            for order in itertools.permutations(set(range(tasks)) - {task}):
                found = project(gram_of(grads_TP), task, order) @ grads_TP
                expected = slow_projection(grads_TP.tolist(), task, order)
                torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tasks", [2, 3, 4, 5])
def test_pcgrad_is_algorithm_1_and_that_of_torchjd_in_the_same_orders(tasks, monkeypatch):
    for seed in range(20):
        grads_TP = random_gradients(tasks, 3, seed)
        orders = [torch.randperm(tasks, generator=seeded(100 * seed + task)) for task in range(tasks)]
        others = [[j for j in order.tolist() if j != task] for task, order in enumerate(orders)]
        slow = [slow_projection(grads_TP.tolist(), task, order) for task, order in enumerate(others)]
        with monkeypatch.context() as patched:
            drawn = iter(orders * 2)
            patched.setattr(torch, "randperm", lambda n, generator=None, drawn=drawn: next(drawn))
            found_T = pcgrad(gram_of(grads_TP), seeded())
            theirs_T = torchjd.aggregation.PCGradWeighting()(gram_of(grads_TP))
        torch.testing.assert_close(found_T, theirs_T, rtol=1e-12, atol=1e-12)
        expected = torch.tensor(slow, dtype=torch.float64).sum(0)
        torch.testing.assert_close(found_T @ grads_TP, expected, rtol=1e-9, atol=1e-9)


def test_each_task_has_an_order_of_its_own_and_all_orders_are_equally_likely():
    gram_TT = gram_of(LITERAL_TP)
    both = [[project(gram_TT, task, order) for order in ([0, 1, 2], [2, 1, 0])] for task in range(3)]
    possible = {tuple(sum(choice).tolist()) for choice in itertools.product(*both)}
    assert len(possible) == 8
    generator = seeded()
    found = Counter(tuple(pcgrad(gram_TT, generator).tolist()) for _ in range(800))
    assert set(found) == possible
    assert all(60 < count < 140 for count in found.values())  # 100 each, standard deviation 9.4


@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
def test_without_a_conflict_every_weight_is_exactly_1(tasks):
    for seed in range(10):
        gram_TT = gram_of(random_gradients(tasks, 7, seed).abs())
        assert pcgrad(gram_TT, seeded(seed)).tolist() == [1.0] * tasks
    assert pcgrad(torch.eye(tasks, dtype=torch.float64), seeded()).tolist() == [1.0] * tasks


def test_two_tasks_step_against_neither():
    conflicts = 0
    for seed in range(200):
        grads_TP = random_gradients(2, 5, seed) * torch.tensor([[1.0], [10.0 ** (seed % 5)]])
        step_P = pcgrad(gram_of(grads_TP), seeded()) @ grads_TP
        assert (grads_TP @ step_P >= -1e-12 * grads_TP.norm(dim=1) * step_P.norm()).all()
        conflicts += bool(grads_TP[0] @ grads_TP[1] < 0)
    assert conflicts > 50


def test_a_conflict_in_one_parameter_alone_is_none():
    first = [torch.tensor([3.0]), torch.tensor([-1.0])]
    second = [torch.tensor([1.0]), torch.tensor([1.0])]
    assert pcgrad(gram([first, second]), seeded()).tolist() == [1.0, 1.0]


def test_a_task_that_touches_few_parameters_is_projected_onto_all_the_same():
    # Products over the parameters that both touch alone would give the norm of the second gradient as 1.
    first = [torch.tensor([-1.0]), None]
    second = [torch.tensor([1.0]), torch.tensor([1.0])]
    weights_T = pcgrad(gram([first, second]), seeded())
    assert weights_T.tolist() == [2.0, 1.5]
    assert combine([first, second], weights_T) == [torch.tensor([-0.5]), torch.tensor([1.5])]


def test_a_zero_gradient_takes_no_part():
    grads_TP = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    assert pcgrad(gram_of(grads_TP), seeded()).tolist() == [2.0, 1.0, 1.5]


def test_opposite_gradients_cancel():
    # Numbers whose quotients have no rounding, which differs between processors.
    grads_TP = torch.tensor([[1.0, 2.0], [-2.0, -4.0]], dtype=torch.float64)
    assert (pcgrad(gram_of(grads_TP), seeded()) @ grads_TP).tolist() == [0.0, 0.0]


def test_the_draws_do_not_depend_on_the_gradients():
    conflict, none = seeded(), seeded()
    pcgrad(gram_of(LITERAL_TP), conflict)
    pcgrad(torch.zeros(3, 3, dtype=torch.float64), none)
    assert torch.equal(conflict.get_state(), none.get_state())


# Every method of the seam ------------------------------------------------------------------------------------

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
def test_what_is_random_changes_from_step_to_step(aggregation):
    generator = seeded()
    assert len({tuple(aggregation(gram_of(LITERAL_TP), generator).tolist()) for _ in range(50)}) > 5


@pytest.mark.parametrize("method", METHODS)
def test_a_torchjd_method_is_its_aggregator_of_the_gradients_themselves(method):
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
    adapter: TypeAdapter[BalanceSettings] = TypeAdapter(BalanceSettings)
    assert adapter.validate_python(aggregation.model_dump()) == aggregation
    aggregation.check_installed()


def test_methods_that_are_not_functions_of_one_gram_matrix_are_refused():
    adapter: TypeAdapter[BalanceSettings] = TypeAdapter(BalanceSettings)
    for method in ("ExcessMTL", "MoDo", "SDMGrad", "NashMTL", "GradVac", "PCD", "CRMOGM", "PCGrad", "Krum"):
        with pytest.raises(ValidationError, match=f"'UPGrad'.*input_value='{method}'"):
            adapter.validate_python({"kind": "torchjd", "method": method})
    with pytest.raises(ValidationError, match=r"unknown key 'metod'. Did you mean 'method'\?"):
        adapter.validate_python({"kind": "torchjd", "metod": "MGDA"})


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> ModuleType:
    """A second copy of mtbert.balance.torchjd, executed where these packages cannot be imported."""
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
def test_without_a_solver_those_methods_are_refused_that_need_it(package, methods, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None if name == package else find(name))
    for method in METHODS:
        if method in methods:
            with pytest.raises(ValueError, match=f"method '{method}' needs"):
                TorchJD(method=method).check_installed()
        else:
            TorchJD(method=method).check_installed()
