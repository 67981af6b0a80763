"""Projected attention layers against their formula in loops; which tokens they change, and their dropout.

Dimension key: N tokens of a step, T tokens of a sequence, D encoder width, W width of the small network.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CPU, dataset, model, ragged
from torch import Tensor, nn
from torch.testing import assert_close

from mtbert.batch import Layout
from mtbert.collate import collate
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.layer import EncoderLayer
from mtbert.model.model import Model
from mtbert.model.pal import Projected, adapter, build_adapter
from mtbert.model.settings import Pal
from mtbert.task import Head, Task

EXACT = {"rtol": 1e-10, "atol": 1e-10}
CONFIG = replace(model().encoder.config, layers=3)  # width 8, 2 heads
LAYOUT = ragged({"a": [1, 3, 9, 9], "b": [2, 5], "c": [1, 4, 11]}).layout
KINDS = [
    Pal(width=6, heads=3),
    Pal(width=6, heads=3, shared=False),
    Pal(kind="low_rank", width=5),
    Pal(kind="low_rank", width=5, shared=True),
]


def fill(module: nn.Module, seed: int) -> None:
    """Makes every weight and bias large, random and float64; with small ones, both kinds of GELU would look alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def an_encoder() -> Encoder:
    encoder = Encoder(CONFIG)
    fill(encoder, 0)
    return encoder


def a_pal(settings: Pal, seed: int) -> Projected:
    module = build_adapter(settings, CONFIG, "t", 0)
    fill(module, seed)
    return module


def states(seed: int = 0) -> Tensor:
    return torch.randn(LAYOUT.offsets[-1], 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def encode(encoder: Encoder, x_ND: Tensor, pals: dict[str, nn.Module], layout: Layout = LAYOUT) -> Tensor:
    return encoder.encode(x_ND, Groups(layout, CPU), None, adapter(pals, layout, None))


def part(x_ND: Tensor, name: str) -> Tensor:
    return x_ND[LAYOUT.spans[name].start : LAYOUT.spans[name].stop]


# The formula ---------------------------------------------------------------------------------------


def slow_linear(module: nn.Module, name: str, x_TD: Tensor) -> Tensor:
    return x_TD @ module.get_parameter(f"{name}.weight").T + module.get_parameter(f"{name}.bias")


def slow_gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def slow_norm(layer: EncoderLayer, name: str, x_TD: Tensor) -> Tensor:
    centred = x_TD - x_TD.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + CONFIG.layer_norm_eps).sqrt()
    return normed * layer.get_parameter(f"{name}.weight") + layer.get_parameter(f"{name}.bias")


def slow_attention(qkv_T3D: Tensor, heads: int) -> Tensor:
    """Returns attention computed for each query of each head on its own, the results of the heads side by side."""
    q_TD, k_TD, v_TD = qkv_T3D.chunk(3, dim=1)
    size = q_TD.shape[1] // heads
    rows = []
    for t in range(len(q_TD)):
        mixed = []
        for head in range(heads):
            at = slice(head * size, (head + 1) * size)
            shares_T = (k_TD[:, at] @ q_TD[t, at] / math.sqrt(size)).exp()
            mixed.append(shares_T @ v_TD[:, at] / shares_T.sum())
        rows.append(torch.cat(mixed))
    return torch.stack(rows)


def slow_pal(pal: Projected, settings: Pal, layer: int, h_TD: Tensor) -> Tensor:
    """Returns the result of a layer for one sequence, by the formula in the module's docstring."""
    projection = 0 if settings.resolved_shared else layer
    small_TW = slow_linear(pal, f"down.{projection}", h_TD)
    if settings.kind == "low_rank":
        return slow_linear(pal, f"up.{projection}", slow_gelu(small_TW))
    mixed_TW = slow_attention(slow_linear(pal, f"qkv.{layer}", small_TW), settings.heads)
    return slow_gelu(slow_linear(pal, f"up.{projection}", mixed_TW))


def slow_encode(encoder: Encoder, x_ND: Tensor, pals: dict[str, Projected], settings: Pal) -> Tensor:
    """Returns ``h' = LN(FFN(a) + a + PAL(h))`` with ``a = LN(h + attention(h))``, sequence by sequence."""
    rows = []
    for name, span in LAYOUT.spans.items():
        for start, stop in zip(
            LAYOUT.offsets[span.first : span.last], LAYOUT.offsets[span.first + 1 : span.last + 1], strict=True
        ):
            h_TD = x_ND[start:stop]
            for i, layer in enumerate(encoder.layers):
                mixed_TD = slow_attention(slow_linear(layer, "qkv", h_TD), CONFIG.heads)
                a_TD = slow_norm(layer, "attention_norm", h_TD + slow_linear(layer, "attention_output", mixed_TD))
                out_TD = slow_linear(layer, "output", slow_gelu(slow_linear(layer, "intermediate", a_TD))) + a_TD
                if name in pals:
                    out_TD = out_TD + slow_pal(pals[name], settings, i, h_TD)
                h_TD = slow_norm(layer, "output_norm", out_TD)
            rows.append(h_TD)
    return torch.cat(rows)


@pytest.mark.parametrize("settings", KINDS)
def test_states_and_gradients_equal_the_formula(settings):
    encoder, x_ND = an_encoder(), states().requires_grad_()
    pals = {"a": a_pal(settings, 1), "c": a_pal(settings, 2)}
    leaves = [x_ND, *encoder.layers.parameters(), *pals["a"].parameters(), *pals["c"].parameters()]
    found, expected = encode(encoder, x_ND, pals), slow_encode(encoder, x_ND, pals, settings)
    assert_close(found, expected, **EXACT)
    found_gradients = torch.autograd.grad((found * states(3)).sum(), leaves)
    expected_gradients = torch.autograd.grad((expected * states(3)).sum(), leaves)
    for mine, other in zip(found_gradients, expected_gradients, strict=True):
        assert_close(mine, other, **EXACT)


def test_a_single_token_attends_to_itself():
    pal = build_adapter(Pal(width=2, heads=1), replace(CONFIG, width=2), "t", 0).double()
    with torch.no_grad():
        pal.down[0].weight.copy_(torch.eye(2))
        pal.qkv[1].weight.copy_(torch.tensor([[5.0, 1], [2, 3], [1, 1], [4, 2], [0, 1], [1, 0]]))  # v swaps the two
        pal.up[0].weight.copy_(torch.tensor([[0.5, 0], [0, 1]]))
        pal.up[0].bias.copy_(torch.tensor([0.0, 0.5]))
        layout = ragged({"t": [1]}).layout
        added = adapter({"t": pal}, layout, None)
        found = added(1, torch.tensor([[1.0, -3.0]], dtype=torch.float64))
    # The way up gives -1.5 and 1.5, and GELU(x) = x * Phi(x) with Phi(1.5) = 0.933192798731.
    assert_close(found, torch.tensor([[-1.5 * 0.066807201269, 1.5 * 0.933192798731]], dtype=torch.float64), **EXACT)


# Whose tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", KINDS)
def test_a_task_does_not_depend_on_another_tasks_network_or_tokens(settings):
    encoder, x_ND = an_encoder(), states()
    pals = {name: a_pal(settings, seed) for seed, name in enumerate("abc")}
    with torch.no_grad():
        before = encode(encoder, x_ND, pals)
        span = LAYOUT.spans["b"]
        others_ND = x_ND.clone()
        others_ND[span.start : span.stop] = 9.0
        after = encode(encoder, others_ND, pals | {"b": a_pal(settings, 7)})
        alone = encode(encoder, part(x_ND, "c"), pals, ragged({"c": [1, 4, 11]}).layout)
    for name in "ac":
        assert_close(part(after, name), part(before, name), **EXACT)
    assert (part(after, "b") - part(before, "b")).abs().max() > 0.1
    assert_close(alone, part(before, "c"), **EXACT)


def test_a_task_without_a_network_gets_zeros_and_a_batch_without_any_gets_none():
    encoder, x_ND, pals = an_encoder(), states(), {"a": a_pal(KINDS[0], 0), "elsewhere": a_pal(KINDS[0], 1)}
    with torch.no_grad():
        added_ND = adapter(pals, LAYOUT, None)(0, x_ND)
        with_pal, plain = encode(encoder, x_ND, pals), encode(encoder, x_ND, {})
    assert added_ND.shape == x_ND.shape
    assert (part(added_ND, "a") != 0).any(1).all()
    for name in "bc":
        assert (part(added_ND, name) == 0).all()
        assert_close(part(with_pal, name), part(plain, name), **EXACT)
    assert (part(with_pal, "a") - part(plain, "a")).abs().max() > 0.1
    assert adapter({"elsewhere": pals["elsewhere"]}, LAYOUT, None) is None
    assert adapter({}, LAYOUT, None) is None


def test_rows_after_the_tokens_get_zeros():
    pals, x_ND = {"b": a_pal(Pal(width=6, heads=3), 0)}, states()
    rows_ND = torch.cat([x_ND, torch.full((3, x_ND.shape[1]), math.nan, dtype=x_ND.dtype)])
    plain, rounded = (adapter(pals, LAYOUT, None)(0, x) for x in (x_ND, rows_ND))
    assert torch.equal(rounded, torch.cat([plain, torch.zeros(3, x_ND.shape[1], dtype=x_ND.dtype)]))


@pytest.mark.parametrize("settings", KINDS)
def test_rounded_shapes_change_the_input_of_a_network_but_not_what_it_adds(settings: Pal):
    layout = ragged({"a": [1, 3, 9, 12, 26], "b": [2, 5]}).layout  # 51 tokens and one dummy, 7 and none
    pals = {name: a_pal(settings, i) for i, name in enumerate("ab")}
    given = {name: [] for name in pals}
    for name, module in pals.items():
        module.register_forward_hook(lambda _, inputs, out, name=name: given[name].append(len(inputs[1])))
    x_ND = torch.randn(58, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, rounded = (adapter(pals, layout, None, rounded=rounded)(1, x_ND) for rounded in (False, True))
    assert given == {"a": [51, 52], "b": [7, 7]}
    assert plain.abs().max() > 1.0
    assert_close(rounded, plain, **EXACT)


def test_attention_stays_within_a_sequence():
    added = adapter({"a": a_pal(KINDS[0], 0)}, LAYOUT, None)
    x_ND = states()
    moved_ND = x_ND.clone()
    moved_ND[5] += 1.0  # in the third sequence of task a, tokens 4 to 12; the fourth is as long
    with torch.no_grad():
        differs_N = (added(0, moved_ND) - added(0, x_ND)).abs().amax(1) > 1e-9
    assert differs_N.nonzero().flatten().tolist() == list(range(4, 13))


# Dropout and precision -----------------------------------------------------------------------------


def test_dropout_acts_on_attention_probabilities_and_depends_on_the_generator_alone(monkeypatch):
    drawn = []

    def record(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
        if generator is not None:
            drawn.append((tuple(x.shape), p, generator))
        return x

    monkeypatch.setattr("mtbert.model.mix.dropout", record)
    generator, x_ND = torch.Generator(), states()
    pals = {"b": a_pal(Pal(width=6, heads=3, dropout=0.25), 0), "c": a_pal(KINDS[2], 1)}
    adapter(pals, LAYOUT, generator)(0, x_ND)
    assert drawn == [((6, 5, 5), 0.25, generator)]  # task b: 2 sequences in 3 heads; low_rank draws nothing
    adapter(pals, LAYOUT, None)(0, x_ND)
    assert len(drawn) == 1


def test_the_same_state_of_the_generator_gives_the_same_dropout():
    pals, x_ND = {"c": a_pal(Pal(width=6, heads=3, dropout=0.5), 0)}, states()

    def added(seed: int) -> Tensor:
        return adapter(pals, LAYOUT, torch.Generator().manual_seed(seed))(0, x_ND)

    before = torch.get_rng_state()
    assert torch.equal(added(0), added(0))
    assert not torch.equal(added(0), added(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", KINDS)
def test_bfloat16_products_stay_near_float32(settings):
    pals, x_ND = {"a": a_pal(settings, 0).float(), "c": a_pal(settings, 1).float()}, states().float()
    with torch.no_grad():
        exact = adapter(pals, LAYOUT, None)(0, x_ND)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = adapter(pals, LAYOUT, None)(0, x_ND)
    assert exact.abs().max() > 1.0
    assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)


def test_a_model_adds_each_tasks_network_to_its_own_tokens_alone():
    tasks = [Task(name=n, type="regression", inputs="single", head=Head(dropout=0.0)) for n in ("a", "b", "c")]
    plain = model(*tasks, layers=2)
    adapted = model(*tasks, layers=2, adapters=Pal(width=6, heads=2, dropout=0.0, tasks=("a", "b")))
    assert list(adapted.adapters) == ["for_a", "for_b"]
    batch = collate([(dataset(task, [3, 5], seed=i), np.arange(2)) for i, task in enumerate(tasks)], CPU)

    def predictions(of: Model) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return {name: out.prediction for name, out in of(batch).items()}

    before = predictions(adapted)
    assert torch.equal(before["c"], predictions(plain)["c"])
    for name in ("a", "b"):
        assert not torch.equal(before[name], predictions(plain)[name])
    with torch.no_grad():
        for parameter in adapted.adapters["for_a"].parameters():
            parameter.add_(0.5)
    after = predictions(adapted)
    assert not torch.equal(after["a"], before["a"])
    assert torch.equal(after["b"], before["b"])
    assert torch.equal(after["c"], before["c"])


@pytest.mark.parametrize(("compute", "rows"), [(torch.float32, 51), (torch.bfloat16, 52)])
def test_a_models_networks_get_rounded_shapes_where_kernels_are_compiled_for_them(compute: torch.dtype, rows: int):
    task = Task(name="a", type="regression", inputs="single", head=Head(dropout=0.0))
    made = model(task, adapters=Pal(width=6, heads=2))
    made.compute = compute
    given = []
    made.adapters["for_a"].register_forward_hook(lambda _, inputs, out: given.append(len(inputs[1])))
    with torch.no_grad():
        made(collate([(dataset(task, [3, 9, 12, 27]), np.arange(4))], CPU))
    assert set(given) == {rows}
