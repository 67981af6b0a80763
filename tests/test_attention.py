"""A sequence's states do not depend on the rest of its batch; the kernel of a GPU gives the same attention."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.attention.varlen
import toy_encoder
from tiny import CPU, pieces, ragged
from torch.testing import assert_close
from toy_encoder import LENGTHS, run

from mtbert.batch import StepBatch
from mtbert.model import attention
from mtbert.model.attention import Groups, attend, multiple
from mtbert.model.families.known import FAMILIES

encoders = toy_encoder.encoders


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_sequence_alone_equals_the_same_sequence_in_a_batch(encoders, kind):
    encoder, batch = encoders(kind), ragged(LENGTHS)
    with torch.no_grad():
        together = pieces(run(encoder, batch)[-1], batch.layout)
        for i, (start, stop) in enumerate(zip(batch.layout.offsets, batch.layout.offsets[1:], strict=False)):
            single = ragged({"a": [stop - start]})
            alone = StepBatch(
                single.layout,
                batch.ids_N[start:stop],
                single.segments_N,
                single.positions_N,
                places={},
                labels={},
                example_ids={},
                clusters={},
            )
            assert_close(run(encoder, alone)[-1], together[i], rtol=1e-11, atol=1e-11)


def test_a_broken_sequence_leaves_the_others_of_its_group_alone(encoders):
    encoder, batch = encoders("bert"), ragged({"a": [3, 5, 6]})
    groups = Groups(batch.layout, CPU)
    with torch.no_grad():
        x_ND = encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, None)
        sound = encoder.encode(x_ND, groups, None)
        x_ND[3:8] = math.nan
        broken = encoder.encode(x_ND, groups, None)
    assert broken[3:8].isnan().all()
    assert_close(torch.cat([broken[:3], broken[8:]]), torch.cat([sound[:3], sound[8:]]))


def test_groups_hold_similar_lengths_of_one_span_only():
    layout = ragged({"a": [1, 8, 9], "b": [9, 16, 17], "c": [4, 4]}).layout
    groups = Groups(layout, CPU).groups
    assert [(g.sequences, g.length, g.tokens) for g in groups] == [
        (2, 8, 9),
        (1, 9, 9),
        (2, 16, 25),
        (1, 17, 17),
        (2, 4, 8),
    ]
    assert [g.padding_GL is None for g in groups] == [False, True, False, True, True]
    assert groups[0].rows_M.tolist() == [0, 8, 9, 10, 11, 12, 13, 14, 15]
    assert groups[0].padding_GL.tolist() == [[False] + 7 * [True], 8 * [False]]


def test_rounded_groups_have_few_lengths_and_end_with_dummies():
    groups = Groups(ragged({"a": [1, 8, 9], "b": [9, 16, 17]}).layout, CPU, rounded=True)
    assert [(g.sequences, g.length, g.tokens) for g in groups] == [(2, 8, 9), (1, 16, 9), (2, 16, 25), (1, 24, 17)]
    assert groups.dummies == 0  # 60 tokens, a multiple of 4
    assert Groups(ragged({"a": [30, 33]}).layout, CPU, rounded=True).dummies == 1
    assert Groups(ragged({"a": [30, 33]}).layout, CPU).dummies == 0


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1, 1), (23, 1), (24, 2), (200, 16), (500, 32), (767, 32), (768, 64), (10**6, 64)]
)
def test_rounding_adds_a_twelfth_at_most(tokens, expected):
    assert multiple(tokens) == expected


@pytest.mark.parametrize("kind", FAMILIES)
def test_results_and_gradients_do_not_depend_on_the_rounding(encoders, kind):
    encoder, batch = encoders(kind), ragged({"a": [3, 7, 8, 11], "b": [9, 13]})
    gradients, states = [], []
    for groups in (Groups(batch.layout, CPU), Groups(batch.layout, CPU, rounded=True)):
        encoder.zero_grad()
        x_ND = encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, None)
        adapter = None if groups.dummies == 0 else lambda _, x: torch.zeros_like(x)
        states.append(encoder.encode(x_ND, groups, None, adapter))
        states[-1].square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None})
    assert groups.dummies == 1  # 51 tokens
    assert_close(states[1], states[0], rtol=1e-12, atol=1e-12)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_last_layer_computed_for_first_tokens_alone_equals_that_of_all_tokens(encoders, kind, rounded, adapted):
    encoder, batch = encoders(kind), ragged({"a": [3, 7, 8, 11], "b": [9, 13]})
    groups = Groups(batch.layout, CPU, rounded=rounded)
    adapter = (lambda layer, x_ND: (layer + 1) * x_ND.tanh()) if adapted else None
    firsts = [0, 3, 10, 18, 29, 38]
    weights = torch.randn(6, encoder.config.width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    states, gradients = [], []
    for first_only in (False, True):
        encoder.zero_grad()
        x_ND = encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, None)
        out = encoder.encode(x_ND, groups, None, adapter, first_only=first_only)
        states.append(out if first_only else out[firsts])
        (states[-1] * weights).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None})
    assert out.shape == (6, encoder.config.width)
    assert_close(states[1], states[0], rtol=1e-12, atol=1e-12)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def slow_varlen(q, k, v, begin_q, begin_k, longest_q, longest_k, *, window_size):
    """Returns the result that torch documents for its kernel, computed sequence by sequence.

    The last query is at the position of the last key, as in the flash attention that torch calls.
    """
    ends_q, ends_k = begin_q.tolist(), begin_k.tolist()
    assert (begin_q.dtype, begin_k.dtype) == (torch.int32, torch.int32)
    left, right = (side if side >= 0 else longest_k for side in window_size)
    out = []
    for i in range(len(ends_q) - 1):
        at_q, at_k = slice(*ends_q[i : i + 2]), slice(*ends_k[i : i + 2])
        queries, keys = at_q.stop - at_q.start, at_k.stop - at_k.start
        assert 0 < queries <= longest_q
        assert 0 < keys <= longest_k
        scores = torch.einsum("qhe,khe->hqk", q[at_q], k[at_k]) / math.sqrt(q.shape[2])
        distance = torch.arange(keys) - torch.arange(keys - queries, keys)[:, None]
        scores = scores.masked_fill((distance < -left) | (distance > right), -math.inf)
        out.append(torch.einsum("hqk,khe->qhe", scores.softmax(-1), v[at_k]))
    return torch.cat(out)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
def test_the_gpu_kernel_gets_inputs_that_give_the_same_attention(monkeypatch, rounded, first_only, window):
    batch = ragged({"a": [3, 7, 8, 11], "b": [9, 13]})
    groups = Groups(batch.layout, CPU, rounded=rounded)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(51 + groups.dummies, 3 * 16, dtype=torch.float64, generator=generator).requires_grad_()
    expected = attend(qkv, groups, 2, 0.0, None, window=window, first_only=first_only)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    (slope,) = torch.autograd.grad((expected * weights).sum(), qkv)
    monkeypatch.setattr(attention, "_has_kernel", lambda *_: True)
    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", slow_varlen)
    found = attend(qkv, groups, 2, 0.0, None, window=window, first_only=first_only)
    assert_close(found, expected)
    assert_close(torch.autograd.grad((found * weights).sum(), qkv)[0], slope)


@pytest.mark.parametrize(
    ("device", "dtype", "heads", "dropout", "taken"),
    [
        ("cuda", torch.bfloat16, 2, 0.0, True),
        ("cuda", torch.bfloat16, 2, 0.1, False),
        ("cuda", torch.float32, 2, 0.0, False),
        ("cuda", torch.bfloat16, 4, 0.0, False),  # heads of width 4
        ("cpu", torch.bfloat16, 2, 0.0, False),
        ("mps", torch.bfloat16, 2, 0.0, False),
    ],
)
def test_the_kernel_is_used_on_a_gpu_in_16_bits_without_dropout(device, dtype, heads, dropout, taken):
    qkv = SimpleNamespace(device=torch.device(device), dtype=dtype, shape=(5, 3 * 16))
    assert attention._has_kernel(qkv, heads, dropout) is taken


def test_attention_on_literal_numbers():
    # One head of width 1: token 0 has query 0 and weighs evenly, token 1 has scores 0 and ln 3.
    ln3 = math.log(3.0)
    qkv = torch.tensor([[0.0, 0.0, 4.0], [ln3, 1.0, 8.0]], dtype=torch.float64)
    out = attend(qkv, Groups(ragged({"a": [2]}).layout, CPU), 1, 0.0, None)
    assert_close(out, torch.tensor([[6.0], [7.0]], dtype=torch.float64))
    # Width 4 divides the scores by 2.
    wide = torch.zeros(2, 12, dtype=torch.float64)
    wide[1, 0], wide[1, 4], wide[0, 8:], wide[1, 8:] = 2 * ln3, 1.0, 4.0, 8.0
    out = attend(wide, Groups(ragged({"a": [2]}).layout, CPU), 1, 0.0, None)
    assert_close(out, torch.tensor([4 * [6.0], 4 * [7.0]], dtype=torch.float64))
    first = attend(wide, Groups(ragged({"a": [2]}).layout, CPU), 1, 0.0, None, first_only=True)
    assert_close(first, torch.tensor([4 * [6.0]], dtype=torch.float64))
