"""PCGrad against Algorithm 1 on explicit vectors, torchjd, and literal numbers.

Dimension key: T tasks, P numbers of a gradient.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
import torchjd.aggregation
from toy_gradients import LITERAL_TP, gram_of, random_gradients, seeded

from mtbert.balance.gram import combine, gram
from mtbert.balance.pcgrad import pcgrad, project


def slow_projection(gradients: Sequence[Sequence[float]], task: int, order: Sequence[int]) -> list[float]:
    """Returns the projected gradient of one task by lines 4 to 8 of Algorithm 1, on vectors of Python floats."""
    changed = list(gradients[task])
    for j in order:
        product = sum(a * b for a, b in zip(changed, gradients[j], strict=True))
        if product < 0:
            square = sum(b * b for b in gradients[j])
            changed = [a - product / square * b for a, b in zip(changed, gradients[j], strict=True)]
    return changed


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


def test_a_step_of_two_tasks_conflicts_with_neither():
    conflicts = 0
    for seed in range(200):
        grads_TP = random_gradients(2, 5, seed) * torch.tensor([[1.0], [10.0 ** (seed % 5)]])
        step_P = pcgrad(gram_of(grads_TP), seeded()) @ grads_TP
        assert (grads_TP @ step_P >= -1e-12 * grads_TP.norm(dim=1) * step_P.norm()).all()
        conflicts += bool(grads_TP[0] @ grads_TP[1] < 0)
    assert conflicts > 50


def test_a_conflict_in_one_parameter_alone_does_not_count():
    first = [torch.tensor([3.0]), torch.tensor([-1.0])]
    second = [torch.tensor([1.0]), torch.tensor([1.0])]
    assert pcgrad(gram([first, second]), seeded()).tolist() == [1.0, 1.0]


def test_a_task_that_uses_few_parameters_is_still_projected_onto():
    # If products covered only the parameters that both tasks use, the norm of the second gradient would be 1.
    first = [torch.tensor([-1.0]), None]
    second = [torch.tensor([1.0]), torch.tensor([1.0])]
    weights_T = pcgrad(gram([first, second]), seeded())
    assert weights_T.tolist() == [2.0, 1.5]
    assert combine([first, second], weights_T) == [torch.tensor([-0.5]), torch.tensor([1.5])]


def test_a_zero_gradient_takes_no_part():
    grads_TP = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    assert pcgrad(gram_of(grads_TP), seeded()).tolist() == [2.0, 1.0, 1.5]


def test_opposite_gradients_cancel():
    # The quotients of these numbers need no rounding, which would differ between processors.
    grads_TP = torch.tensor([[1.0, 2.0], [-2.0, -4.0]], dtype=torch.float64)
    assert (pcgrad(gram_of(grads_TP), seeded()) @ grads_TP).tolist() == [0.0, 0.0]


def test_the_draws_do_not_depend_on_the_gradients():
    conflict, none = seeded(), seeded()
    pcgrad(gram_of(LITERAL_TP), conflict)
    pcgrad(torch.zeros(3, 3, dtype=torch.float64), none)
    assert torch.equal(conflict.get_state(), none.get_state())
