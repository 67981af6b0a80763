"""The parts of a layer against literals and formulas in loops.

Dimension key: N tokens of a step, T tokens of a sequence, D width, F intermediate width.
"""

import math
from dataclasses import replace

import pytest
import torch
from tiny import CPU, model, pieces, ragged
from torch import Tensor, nn
from torch.testing import assert_close

from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.model.layer import Attention, EncoderLayer, Gated, Rotary

EXACT = {"rtol": 1e-6, "atol": 1e-6}  # the angles are in float32
LAYOUT = ragged({"a": [1, 3, 9, 9], "b": [2, 5]}).layout


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_gate_multiplies_the_activated_first_half():
    gated = Gated(torch.relu)
    assert gated(torch.tensor([[-1.0, 2.0, 3.0, 4.0]])).tolist() == [[0.0, 8.0]]


def turned(base: float, qkv_N3D: Tensor, heads: int, positions_N: Tensor) -> Tensor:
    rotary = Rotary(base)
    return rotary(qkv_N3D, heads, rotary.cos_sin(positions_N, qkv_N3D.shape[1] // (3 * heads)))


def test_queries_and_keys_are_turned_by_their_place_and_values_are_not():
    # One head of width 4 and base 100: the first pair of numbers turns by 1 a token, the second by 1/10.
    row = [1.0, 0.0, 0.0, 1.0]
    found = turned(100.0, torch.tensor([row * 3] * 2), 1, torch.tensor([0, 2]))
    expected = [math.cos(2), -math.sin(0.2), math.sin(2), math.cos(0.2)]
    assert_close(found, torch.tensor([row * 3, [*expected, *expected, *row]]))


def test_each_head_is_turned_on_its_own():
    qkv, positions = random(5, 3 * 8), torch.arange(5)
    both = turned(10.0, qkv, 2, positions).view(5, 3, 2, 4)
    for head in range(2):
        alone = turned(10.0, qkv.view(5, 3, 2, 4)[:, :, head].reshape(5, 12), 1, positions)
        assert torch.equal(both[:, :, head].flatten(1), alone)


def test_all_layers_of_a_pass_share_the_angles_of_a_base(encoder: Encoder, monkeypatch: pytest.MonkeyPatch):
    seen, cos_sin = [], Rotary.cos_sin
    monkeypatch.setattr(Rotary, "cos_sin", lambda self, *given: seen.append(self.base) or cos_sin(self, *given))
    x_ND = random(LAYOUT.offsets[-1], 8)
    states = [encoder.encode(x_ND, Groups(LAYOUT, CPU), None)]
    assert seen == [20.0]
    encoder.layers[1].attention = replace(encoder.layers[1].attention, rotary=Rotary(30.0))
    states += [encoder.encode(x_ND, Groups(LAYOUT, CPU), None)]
    assert seen == [20.0, 20.0, 30.0]
    assert not torch.equal(*states)


def test_bfloat16_is_turned_in_float32_and_stays_bfloat16():
    qkv = random(40, 24).bfloat16()
    found = turned(10.0, qkv, 2, torch.arange(40))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, turned(10.0, qkv.float(), 2, torch.arange(40)).bfloat16())


def test_places_count_from_0_in_each_sequence_and_dummies_have_none():
    assert Groups(LAYOUT, CPU).positions_N.tolist() == [0, *range(3), *range(9), *range(9), 0, 1, *range(5)]
    rounded = Groups(ragged({"a": [1, 26]}).layout, CPU, rounded=True)
    assert rounded.positions_N.tolist() == [0, *range(26), *[0] * rounded.dummies]
    assert rounded.dummies == 1


# A layer with norms before its halves --------------------------------------------------------------------


def layer(c: EncoderConfig, index: int) -> EncoderLayer:
    """Returns a layer unlike BERT's: it has norms before its halves, rotary positions, a gate, and no biases.

    The first layer has no norm before its attention.
    """
    return EncoderLayer(
        before_attention=c.norm(c.width) if index else None,
        qkv=nn.Linear(c.width, 3 * c.width, bias=False),
        attention=Attention(c.heads, 0.0, Rotary(20.0)),
        attention_output=nn.Linear(c.width, c.width, bias=False),
        attention_output_dropout=c.hidden_dropout,
        before_feed_forward=c.norm(c.width),
        intermediate=nn.Linear(c.width, 2 * c.intermediate, bias=False),
        activation=Gated(torch.tanh),
        output=nn.Linear(c.intermediate, c.width, bias=False),
        output_dropout=c.hidden_dropout,
    )


@pytest.fixture
def encoder() -> Encoder:
    config = replace(
        model().encoder.config,
        layer=layer,
        layers=2,
        norm_bias=False,
        final_norm=True,
        position_offset=None,
        segment_types=0,
        pooler=False,
    )  # width 8, 2 heads
    made = Encoder(config).double()
    with torch.no_grad():
        for i, parameter in enumerate(made.parameters()):
            parameter.copy_(0.5 * random(*parameter.shape, seed=i))
    return made


def slow_norm(module: nn.LayerNorm, x_TD: Tensor) -> Tensor:
    centred = x_TD - x_TD.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-12).sqrt() * module.weight


def slow_turned(x_E: Tensor, place: int) -> Tensor:
    half = len(x_E) // 2
    turned = x_E.clone()
    for i in range(half):
        angle = place * 20.0 ** (-i / half)
        turned[i] = x_E[i] * math.cos(angle) - x_E[half + i] * math.sin(angle)
        turned[half + i] = x_E[half + i] * math.cos(angle) + x_E[i] * math.sin(angle)
    return turned


def slow_attention(qkv_T3D: Tensor) -> Tensor:
    q, k, v = (part.view(len(part), 2, 4) for part in qkv_T3D.chunk(3, dim=1))
    rows = []
    for t in range(len(q)):
        mixed = []
        for head in range(2):
            query = slow_turned(q[t, head], t)
            scores = torch.stack([query @ slow_turned(k[s, head], s) / 2 for s in range(len(k))])
            mixed.append(scores.softmax(0) @ v[:, head])
        rows.append(torch.cat(mixed))
    return torch.stack(rows)


def slow_encode(encoder: Encoder, x_TD: Tensor, added: float) -> Tensor:
    """Returns the output of pre-norm layers by the formula in loops; an adapter adds ``added`` times its input."""
    for i, part in enumerate(encoder.layers):
        read_TD = slow_norm(part.before_attention, x_TD) if i else x_TD
        a_TD = x_TD + slow_attention(read_TD @ part.qkv.weight.T) @ part.attention_output.weight.T
        first, gate = (slow_norm(part.before_feed_forward, a_TD) @ part.intermediate.weight.T).chunk(2, dim=1)
        x_TD = a_TD + (first.tanh() * gate) @ part.output.weight.T + added * read_TD
    return slow_norm(encoder.final_norm, x_TD)


@pytest.mark.parametrize("added", [0.0, 0.7])
def test_norms_before_the_halves_equal_the_formula_and_an_adapter_joins_the_last_sum(encoder: Encoder, added: float):
    x_ND = random(LAYOUT.offsets[-1], 8)
    adapter = (lambda _, read_ND: added * read_ND) if added else None
    found = encoder.encode(x_ND, Groups(LAYOUT, CPU), None, adapter)
    expected = torch.cat([slow_encode(encoder, x_TD, added) for x_TD in pieces(x_ND, LAYOUT)])
    assert_close(found, expected, **EXACT)
    first = encoder.encode(x_ND, Groups(LAYOUT, CPU), None, adapter, first_only=True)
    assert_close(first, expected[list(LAYOUT.offsets[:-1])], **EXACT)


def test_the_embeddings_of_rotary_positions_do_not_depend_on_the_place(encoder: Encoder):
    ids, none = torch.tensor([7, 7]), torch.zeros(2, dtype=torch.int64)
    found = encoder.embed(ids, none, torch.tensor([0, 3]), None)
    assert torch.equal(found[0], found[1])
    assert_close(found, slow_norm(encoder.embedding_norm, encoder.word_embedding(ids)))


def test_every_parameter_has_a_depth(encoder: Encoder):
    depths = encoder.depths()
    assert len(depths) == len(list(encoder.parameters()))
    found = {name: depths[parameter] for name, parameter in encoder.named_parameters()}
    assert found["word_embedding.weight"] == found["embedding_norm.weight"] == 0
    assert found["layers.0.qkv.weight"] == 1
    assert found["layers.1.before_attention.weight"] == found["layers.1.output.weight"] == 2
    assert found["final_norm.weight"] == 3


def test_matrices_are_named_with_how_many_they_stack(encoder: Encoder):
    stacks = {name: stacked for name, _, stacked in encoder.matrices()}
    assert stacks == {
        f"{i}.{name}": stacked
        for i in range(2)
        for name, stacked in {"qkv": 3, "attention_output": 1, "intermediate": 2, "output": 1}.items()
    }


def test_only_the_first_matrices_of_the_last_layer_meet_every_token_where_first_tokens_are_wanted(encoder: Encoder):
    # qkv, attention output, norm, values and gate, output; the second layer has one more norm of 8 numbers.
    layer = 8 * 24 + 8 * 8 + 8 + 8 * 32 + 16 * 8
    assert encoder.multiplied(first_only=False) == layer + layer + 8
    assert encoder.multiplied(first_only=True) == layer + 8 + 8 * 24
