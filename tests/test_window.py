"""Local attention against a slow reference: whole products with a mask, and blocks of queries."""

import math
from itertools import pairwise

import pytest
import torch
from tiny import CPU, ragged
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from mtbert.model import mix
from mtbert.model.attention import Groups, Padded, attend
from mtbert.model.window import takes_blocks, too_far

HEADS, WIDTH = 2, 8
# With a window of 4, sequences are divided from 13 tokens on; groups hold 9 to 16 tokens, and so on.
LENGTHS = {"a": [1, 2, 4, 5, 6, 9, 12, 13, 16, 17, 24, 40], "b": [3, 33, 39]}


def random_qkv(rows: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(rows, 3 * WIDTH, generator=draws, dtype=torch.float64).requires_grad_()


def slow(qkv: Tensor, groups: Groups, window: int) -> Tensor:
    """Returns local attention, token by token."""
    offsets, found = groups.layout.offsets, []
    q, k, v = qkv.view(len(qkv), 3, HEADS, -1).unbind(1)
    for start, stop in pairwise(offsets):
        for i in range(start, stop):
            near = slice(max(start, i - window), min(stop, i + window + 1))
            scores_HL = torch.einsum("he,lhe->hl", q[i], k[near]) / math.sqrt(q.shape[2])
            found.append(torch.einsum("hl,lhe->he", scores_HL.softmax(-1), v[near]).flatten())
    return torch.stack(found)


@pytest.mark.parametrize("window", [1, 4, 7, 64])
@pytest.mark.parametrize("rounded", [False, True])
def test_states_and_gradients_equal_a_slow_reference(window: int, rounded: bool):
    groups = Groups(ragged(LENGTHS).layout, CPU, rounded)
    qkv = random_qkv(groups.tokens + groups.dummies)
    found, expected = attend(qkv, groups, HEADS, 0.0, None, window=window), slow(qkv, groups, window)
    assert_close(found[: groups.tokens], expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slopes = [torch.autograd.grad((x[: groups.tokens] * weights).sum(), qkv)[0] for x in (found, expected)]
    assert_close(*slopes)
    firsts = attend(qkv, groups, HEADS, 0.0, None, window=window, first_only=True)
    assert_close(firsts, expected[list(groups.layout.offsets[:-1])])


def test_a_token_sees_those_at_the_edge_of_the_window_and_none_behind_it():
    # One head of width 1 with queries of 0 weighs all keys in reach evenly. Token i has the value 2**i.
    for length in (6, 20):
        qkv = torch.zeros(length, 3, dtype=torch.float64)
        qkv[:, 2] = 2.0 ** torch.arange(length)
        out = attend(qkv, Groups(ragged({"a": [length]}).layout, CPU), 1, 0.0, None, window=2)[:, 0]
        assert out[:4].tolist() == pytest.approx([7 / 3, 15 / 4, 31 / 5, 62 / 5])
        assert float(out[-1]) == pytest.approx(7 * 2.0 ** (length - 3) / 3)
    assert too_far(2, 4, 1, CPU, before=1).tolist() == [[False, False, False, True], [True, False, False, False]]
    assert [takes_blocks(length, 64) for length in (64, 192, 193)] == [False, False, True]


@pytest.mark.parametrize("length", [8, 32])
def test_a_place_without_token_spoils_no_gradient(length: int):
    # With a window of 1, most places behind the short sequence have no token in reach.
    groups = Groups(ragged({"a": [length - 7, length]}).layout, CPU)
    assert len(groups.groups) == 1
    qkv = random_qkv(groups.tokens)
    attend(qkv, groups, HEADS, 0.0, None, window=1).sum().backward()
    assert qkv.grad.isfinite().all()
    batch = Padded(mask_BL=torch.arange(length) < torch.tensor([[1], [length]]))
    assert attend(random_qkv(2 * length), batch, HEADS, 0.0, None, window=1).isfinite().all()


def test_dropout_drops_shares_and_its_masks_depend_on_the_generator_alone():
    groups = Groups(ragged({"a": [30]}).layout, CPU)
    qkv = torch.zeros(30, 3 * WIDTH, dtype=torch.float64)
    qkv[:, 2 * WIDTH :] = 1.0
    one, same, other = (
        attend(qkv, groups, HEADS, 0.5, torch.Generator().manual_seed(seed), window=4) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    # Each of 9 shares of 1/9 is 0 or 2/9.
    assert_close(one[4:-4] * 4.5, (one[4:-4] * 4.5).round())
    assert 0.85 < one.mean() < 1.15


class Largest(TorchDispatchMode):
    """Notes the largest number of elements of any result."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in (out if isinstance(out, list | tuple) else [out]) if isinstance(x, Tensor)]
        self.found = max(self.found, *sizes, 0)
        return out


@pytest.mark.parametrize(
    ("window", "rate", "per_token"),
    [(8, 0.0, 3 * 8 * HEADS), (8, 0.1, 3 * 8 * HEADS), (None, 0.0, 3 * WIDTH), (None, 0.1, mix.PART * HEADS)],
)
def test_memory_grows_linearly_with_the_length_for_windows_and_for_long_sequences(
    window: int | None, rate: float, per_token: int
):
    for length in (640, 2560):
        groups = Groups(ragged({"a": [length]}).layout, CPU)
        with Largest() as largest:
            attend(random_qkv(length), groups, HEADS, rate, torch.Generator(), window=window).sum().backward()
        assert 0.9 < largest.found / (length * per_token) < 1.1


@pytest.mark.parametrize("first_only", [False, True])
def test_long_sequences_have_the_same_attention_as_short_ones(first_only: bool, monkeypatch: pytest.MonkeyPatch):
    groups = Groups(ragged({"a": [517, 520], "b": [600]}).layout, CPU)
    assert [group.sequences for group in groups] == [2, 1]
    qkv, results = random_qkv(groups.tokens), []
    for longest in (mix.LONG, 10**6):
        monkeypatch.setattr(mix, "LONG", longest)
        out = attend(qkv, groups, HEADS, 0.0, None, first_only=first_only)
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        results.append((out, torch.autograd.grad((out * weights).sum(), qkv)[0]))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)


def test_in_long_sequences_dropout_drops_shares_and_each_part_has_a_mask_of_its_own():
    length = 2 * mix.PART + 300
    qkv = torch.zeros(length, 3 * WIDTH, dtype=torch.float64)
    qkv[:, 2 * WIDTH :] = 1.0
    groups = Groups(ragged({"a": [length]}).layout, CPU)
    one, same, other = (attend(qkv, groups, HEADS, 0.5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert_close(one * length / 2, (one * length / 2).round())  # each share is 0 or 2 / length
    assert 0.95 < one.mean() < 1.05
    first, second = one[: mix.PART], one[mix.PART : 2 * mix.PART]
    assert not torch.equal(first, second)


def test_gradients_in_long_sequences_are_those_of_the_drawn_masks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mix, "LONG", 4)
    monkeypatch.setattr(mix, "PART", 3)
    groups = Groups(ragged({"a": [7, 8]}).layout, CPU)
    weights = torch.linspace(-1, 1, 15 * WIDTH, dtype=torch.float64).view(15, WIDTH)

    def loss(qkv: Tensor) -> Tensor:
        out = attend(qkv, groups, HEADS, 0.5, torch.Generator().manual_seed(0))
        return (out * weights).sum()

    qkv = random_qkv(15)
    assert torch.autograd.gradcheck(loss, qkv)
    value = loss(qkv)
    again = [torch.autograd.grad(value, qkv, retain_graph=True)[0] for _ in range(2)]
    assert torch.equal(*again)


def test_parts_with_dropout_attend_as_all_scores_at_once_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mix, "dropout", lambda x, rate, generator: x * rate)  # the same for every share
    monkeypatch.setattr(mix, "PART", 3)
    groups, results = Groups(ragged({"a": [7, 8], "b": [20]}).layout, CPU), []
    qkv = random_qkv(35)
    for longest in (4, 10**6):
        monkeypatch.setattr(mix, "LONG", longest)
        out = attend(qkv, groups, HEADS, 0.25, torch.Generator())
        results.append((out, torch.autograd.grad(out.square().sum(), qkv)[0]))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)
