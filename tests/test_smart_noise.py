"""The noise of SMART: its inner maximisation against a slow reference, example by example, and literal numbers.

Dimension key: B examples, K classes, M tokens, D width, L tokens of a sequence.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtbert.answers.divergence import squared_error, symmetric_kl
from mtbert.losses.smart import adversary

OFFSETS = (0, 2, 5, 6)
WEIGHTS = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3).sin()


def toy_f(x_MD: Tensor) -> Tensor:
    """Returns logits of three examples, ``[3, 3]``: the mean over tokens, tanh, three outputs."""
    return torch.stack([x_MD[start:stop].mean(0).tanh() @ WEIGHTS for start, stop in pairwise(OFFSETS)])


def toy_x() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def find_noise(f: Callable[[Tensor], Tensor] = toy_f, **settings: Any) -> Tensor:
    """Returns the noise for :func:`toy_x`, with small settings by default."""
    default = {"mode": "reference", "offsets": OFFSETS, "steps": 1, "step_size": 1e-3, "noise_std": 1e-5}
    default |= {"radius": 1e-5} | settings
    x_MD, generator = toy_x(), torch.Generator().manual_seed(0)

    def apart(a_BK: Tensor, b_BK: Tensor) -> Tensor:
        return symmetric_kl(a_BK, b_BK, detached=default["mode"] == "reference")

    return adversary(f, x_MD, f(x_MD), apart, generator, **default)


def start(noise_std: float) -> Tensor:
    """Returns the initial noise for seed 0."""
    return noise_std * torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slow_noise(mode: str, steps: int, step_size: float, noise_std: float, radius: float) -> Tensor:
    """Returns the result of the inner maximisation on :func:`toy_f`, by example, with a gradient derived by hand."""
    found = []
    w = WEIGHTS.numpy()
    xs, noises = (np.split(a.numpy(), OFFSETS[1:-1]) for a in (toy_x(), start(noise_std)))
    for x, noise in zip(xs, noises, strict=True):
        q = np.exp(np.tanh(x.mean(0)) @ w)
        q /= q.sum()
        for _ in range(steps):
            hidden = np.tanh((x + noise).mean(0))
            p = np.exp(hidden @ w)
            p /= p.sum()
            of_logits = p - q  # of KL(q || p)
            if mode == "paper":  # and of KL(p || q)
                of_logits = of_logits + p * (np.log(p / q) - (p * np.log(p / q)).sum())
            gradient = np.tile((w @ of_logits) * (1 - hidden**2) / len(x), (len(x), 1))
            if mode == "reference":
                moved = noise + step_size * gradient
                noise = np.stack([token / (np.abs(token).max() + 1e-6) for token in moved])
            else:
                noise = np.clip(noise + step_size * gradient / np.abs(gradient).max(), -radius, radius)
        found.append(noise)
    return torch.from_numpy(np.concatenate(found))


@pytest.mark.parametrize("mode", ["reference", "paper"])
@pytest.mark.parametrize(
    "settings", [(1, 1e-3, 1e-5, 1e-5), (1, 0.5, 0.1, 0.4), (3, 2.0, 0.5, 1.5), (2, 50.0, 0.1, 0.1)]
)
def test_the_noise_is_that_of_the_formula(mode: str, settings: tuple[int, float, float, float]):
    expected = slow_noise(mode, *settings)
    steps, step_size, noise_std, radius = settings
    found = find_noise(mode=mode, steps=steps, step_size=step_size, noise_std=noise_std, radius=radius)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


def test_the_inner_loss_has_no_graph_except_that_of_the_noise():
    x_MD, seen = toy_x().requires_grad_(), []

    def f(noisy_MD: Tensor) -> Tensor:
        (to_x_MD,) = torch.autograd.grad(noisy_MD.sum(), x_MD, retain_graph=True, allow_unused=True)
        seen.append((noisy_MD.requires_grad, to_x_MD))
        return noisy_MD.sum(-1)

    def apart(a_B: Tensor, b_B: Tensor) -> Tensor:
        seen.append((a_B.requires_grad, b_B.requires_grad))
        return squared_error(a_B, b_B)

    options: dict[str, Any] = {"steps": 2, "step_size": 1.0, "noise_std": 1.0, "radius": 1.0, "offsets": OFFSETS}
    for mode in ("reference", "paper"):
        noise_MD = adversary(f, x_MD, x_MD.sum(-1), apart, torch.Generator(), mode=mode, **options)
        assert not noise_MD.requires_grad
    assert seen == [(True, None), (True, False)] * 4


def test_reference_noise_has_a_largest_element_of_about_1_in_each_token():
    most_M = find_noise().abs().amax(-1)
    assert (most_M < 1).all()
    assert (most_M > 0.75).all()
    near = torch.nn.functional.cosine_similarity(find_noise(), start(1e-5), dim=-1)
    assert (near > 0.99).all()  # nearly random


def test_paper_noise_stays_within_the_radius_and_reaches_it():
    noise_MD = find_noise(mode="paper")
    assert noise_MD.abs().max() == 1e-5
    for piece in torch.tensor_split(noise_MD, OFFSETS[1:-1]):
        assert piece.abs().max() == 1e-5


def test_the_gradient_is_measured_by_its_largest_element_in_the_sequence():
    def f(x_MD: Tensor) -> Tensor:
        # From 0 the gradient of the square is twice this: (2, 0), (-4, 1) in the first sequence, (0, 8) in the second.
        return (x_MD * torch.tensor([[1.0, 0.0], [-2.0, 0.5], [0.0, 4.0]])).sum(-1)

    generator, clean = torch.Generator(), torch.full((3,), -1.0)
    noise_MD = adversary(
        f, torch.zeros(3, 2), clean, squared_error, generator,
        mode="paper", offsets=(0, 2, 3), steps=1, step_size=0.5, noise_std=0.0, radius=0.4,
    )  # fmt: skip
    assert noise_MD.tolist() == [[0.25, 0.0], pytest.approx([-0.4, 0.125]), pytest.approx([0.0, 0.4])]


def test_an_output_that_does_not_move_leaves_the_noise_as_it_starts():
    def still(x_MD: Tensor) -> Tensor:
        return 0 * x_MD[:3, :3]

    torch.testing.assert_close(find_noise(still, mode="paper", radius=1.0), start(1e-5), rtol=0, atol=0)
    first = start(1e-5)
    expected = first / (first.abs().amax(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(find_noise(still), expected, rtol=1e-12, atol=0)
    assert not find_noise(still, noise_std=0.0).any()


def test_a_sequence_without_gradient_does_not_disturb_the_others():
    def first_only(x_MD: Tensor) -> Tensor:
        return torch.cat([toy_f(x_MD)[:1], torch.ones(2, 3, dtype=torch.float64)])

    settings: dict[str, Any] = {"mode": "paper", "step_size": 0.5, "noise_std": 0.1, "radius": 9.0}
    found, whole = find_noise(first_only, **settings), find_noise(**settings)
    torch.testing.assert_close(found[:2], whole[:2], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[2:], start(0.1)[2:], rtol=0, atol=0)
