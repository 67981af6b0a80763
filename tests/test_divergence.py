"""Divergences of two predictions against their formulas and literal numbers, and in extreme cases.

Dimension key: B examples, K classes, M tokens, D width, L tokens of a sequence.
"""

import math

import pytest
import torch
from toy_passes import TASKS, slow_divergence

from mtbert.answers.divergence import bernoulli_kl, squared_error, symmetric_kl


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("kind", TASKS)
def test_a_divergence_has_the_values_and_gradients_of_its_formula(kind: str, detached: bool):
    task, generator = TASKS[kind], torch.Generator().manual_seed(1)
    shape = (6,) if task.type in ("binary", "regression") else (6, len(task.labels or ()))
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in "ab")
    weights_B = torch.arange(1.0, 7.0, dtype=torch.float64)
    found_B = task.predicts.divergence(a, b, detached=detached)
    expected_B = torch.stack([slow_divergence(task, x, y, detached=detached) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(found_B, expected_B, rtol=1e-12, atol=1e-13)
    ours, theirs = (torch.autograd.grad((weights_B * d).sum(), (a, b)) for d in (found_B, expected_B))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_divergences_have_literal_values():
    logits_BK = torch.tensor([[math.log(1.0), math.log(3.0)]], dtype=torch.float64)
    # p = (1/4, 3/4) against q = (1/2, 1/2): (p - q) * log(p / q) = 1/4 log 2 + 1/4 log 3/2 = 1/4 log 3.
    assert symmetric_kl(logits_BK, torch.zeros_like(logits_BK)).tolist() == pytest.approx([math.log(3) / 4])
    one_B, none_B = torch.tensor([math.log(3.0)]), torch.zeros(1)
    assert bernoulli_kl(one_B, none_B).tolist() == pytest.approx([math.log(3) / 4])
    assert squared_error(torch.tensor([0.25, -0.5]), torch.tensor([0.75, -0.5])).tolist() == [0.25, 0.0]


@pytest.mark.parametrize("detached", [False, True])
def test_divergences_of_sure_predictions_are_finite_with_finite_gradients(detached: bool):
    for sign in (1e4, -1e4):
        a_BK = torch.tensor([[sign, -sign], [sign, 0.0], [sign, -sign]], requires_grad=True)
        b_BK = torch.tensor([[-sign, sign], [0.0, 0.0], [sign, -sign]], requires_grad=True)
        found_B = symmetric_kl(a_BK, b_BK, detached=detached)
        assert found_B.tolist() == pytest.approx([4e4, 5e3, 0.0])
        a_B = torch.tensor([sign, sign, sign], requires_grad=True)
        b_B = torch.tensor([-sign, 0.0, sign], requires_grad=True)
        one_B = bernoulli_kl(a_B, b_B, detached=detached)
        assert one_B.tolist() == pytest.approx([2e4, 5e3, 0.0])
        (found_B.sum() + one_B.sum()).backward()
        for leaf in (a_BK, b_BK, a_B, b_B):
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all()
            assert leaf.grad[0].abs().max() == 1.0
            assert not leaf.grad[2].any()


@pytest.mark.parametrize("kind", TASKS)
def test_a_divergence_of_bfloat16_is_computed_in_float32(kind: str):
    a, b = torch.tensor([[0.5, 1.0]]).bfloat16(), torch.tensor([[0.501, 1.5]]).bfloat16()
    found_B = TASKS[kind].predicts.divergence(a, b)
    assert found_B.dtype == torch.float32
    torch.testing.assert_close(found_B, TASKS[kind].predicts.divergence(a.float(), b.float()), rtol=0, atol=0)
