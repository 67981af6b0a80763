import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.attention.varlen
import transformers
from tiny import CPU, MAX_LENGTH, hf_folder, hf_model, pieces, ragged
from torch.testing import assert_close

from mtbert.batch import StepBatch
from mtbert.model import attention
from mtbert.model.attention import Groups, attend, multiple
from mtbert.model.dropout import dropout
from mtbert.model.encoder import Encoder
from mtbert.model.weights import encoder_names, load_encoder

EXACT = {"rtol": 1e-8, "atol": 1e-8}
LENGTHS = {"a": [1, 1, 3, 8, 9, 15, 16, MAX_LENGTH], "b": [2, 7, 7, 7], "c": [17, 39]}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Our encoder of a kind, float64, with the weights of ``hf_model(kind)``."""
    loaded = {}

    def get(kind: str) -> Encoder:
        if kind not in loaded:
            folder = hf_folder(kind, tmp_path_factory.mktemp("model"))
            loaded[kind] = load_encoder(str(folder)).encoder
        # The loader gives float32; float64 weights come from the model itself.
        encoder, theirs = loaded[kind], hf_model(kind).state_dict()
        names = encoder_names(encoder.config)
        encoder.double().load_state_dict({ours: torch.cat([theirs[t] for t in names[ours]]) for ours in names})
        encoder.zero_grad()
        return encoder

    return get


def run(encoder: Encoder, batch: StepBatch, generator=None) -> list[torch.Tensor]:
    """The input of each layer and the output of the last, ``[N, D]`` each."""
    states = []

    def listen(layer: int, x_ND: torch.Tensor) -> torch.Tensor:
        assert layer == len(states)
        states.append(x_ND)
        return torch.zeros_like(x_ND)

    x_ND = encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, generator)
    states.append(encoder.encode(x_ND, Groups(batch.layout, CPU), generator, listen))
    return states


def reference(model: transformers.PreTrainedModel, batch: StepBatch) -> list[transformers.utils.ModelOutput]:
    """What transformers says of each sequence on its own."""
    ids, segments = pieces(batch.ids_N, batch.layout), pieces(batch.segments_N, batch.layout)
    some = "distilbert" not in model.config.model_type
    return [
        model(input_ids=i[None], output_hidden_states=True, **({"token_type_ids": s[None]} if some else {}))
        for i, s in zip(ids, segments, strict=True)
    ]


PARITY = [
    ("bert", False),
    ("bert", True),
    ("bert gelu_new", True),
    ("bert relu", True),
    ("roberta", False),
    ("xlm-roberta", False),
    ("electra", True),
    ("electra wide", True),
    ("distilbert", False),
    ("distilbert sinusoidal", False),
]


@pytest.mark.parametrize(("kind", "packed"), PARITY)
def test_every_layer_equals_transformers(encoders, kind, packed):
    encoder, batch = encoders(kind), ragged(LENGTHS, packed=packed)
    with torch.no_grad():
        ours, theirs = run(encoder, batch), reference(hf_model(kind), batch)
    assert len(ours) == 4
    for layer, states_ND in enumerate(ours):
        for mine, other in zip(pieces(states_ND, batch.layout), theirs, strict=True):
            assert_close(mine, other.hidden_states[layer][0], **EXACT)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_pooled_equals_transformers(encoders, kind):
    encoder, batch = encoders(kind), ragged(LENGTHS)
    with torch.no_grad():
        cls_SD = run(encoder, batch)[-1][list(batch.layout.offsets[:-1])]
        theirs = torch.cat([out.pooler_output for out in reference(hf_model(kind), batch)])
        assert_close(encoder.pooled(cls_SD), theirs, **EXACT)


@pytest.mark.parametrize("kind", ["electra", "distilbert"])
def test_an_encoder_without_pooler_refuses_to_pool(encoders, kind):
    with pytest.raises(ValueError, match=f"this {kind} encoder has no pooler"):
        encoders(kind).pooled(torch.zeros(1, 24, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert"])
def test_gradients_equal_transformers(encoders, kind):
    encoder, model, batch = encoders(kind), hf_model(kind), ragged(LENGTHS)
    targets = torch.randn(batch.layout.offsets[-1], 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (run(encoder, batch)[-1] * targets).sum().backward()
    outs = torch.cat([out.last_hidden_state[0] for out in reference(model, batch)])
    (outs * targets).sum().backward()
    theirs = dict(model.named_parameters())
    for ours, parameter in encoder.named_parameters():
        if not ours.startswith("pooler"):
            expected = torch.cat([theirs[name].grad for name in encoder_names(encoder.config)[ours]])
            assert_close(parameter.grad, expected, **EXACT)


def test_a_second_derivative_passes_through_attention():
    batch = ragged({"a": [2, 3]})
    qkv = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: attend(x, Groups(batch.layout, CPU), 2, 0.0, None), qkv)


def test_an_adapter_is_added_before_the_last_normalisation_and_reads_the_layers_input(encoders):
    encoder, batch = encoders("bert"), ragged({"a": [3, 5]})
    groups = Groups(batch.layout, CPU)
    with torch.no_grad():
        x_ND = encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, None)
        captured = []
        hook = encoder.layers[0].output_norm.register_forward_pre_hook(lambda _, args: captured.append(args[0]))
        encoder.encode(x_ND, groups, None)
        encoder.encode(x_ND, groups, None, lambda layer, x: 2.0 * x if layer == 0 else torch.zeros_like(x))
        hook.remove()
    assert_close(captured[1] - captured[0], 2.0 * x_ND)


def test_bfloat16_products_stay_near_float32(encoders):
    encoder, batch = encoders("bert").float(), ragged({"a": [3, 5, 6], "b": [20]})
    run(encoder, batch)[-1].square().sum().backward()
    exact = encoder.layers[2].output.weight.grad
    encoder.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(encoder, batch)[-1].square().sum().backward()
    rough = encoder.layers[2].output.weight.grad
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() / exact.norm() < 0.2


# Independence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta"])
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


def test_rounded_groups_have_few_lengths_and_dummies_behind_them():
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


def test_results_and_gradients_do_not_depend_on_the_rounding(encoders):
    encoder, batch = encoders("bert"), ragged({"a": [3, 7, 8, 11], "b": [9, 13]})
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
def test_the_last_layer_for_first_tokens_alone_is_that_of_all_tokens(encoders, rounded, adapted):
    encoder, batch = encoders("bert"), ragged({"a": [3, 7, 8, 11], "b": [9, 13]})
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


def slow_varlen(q, k, v, begin_q, begin_k, longest_q, longest_k):
    """What torch says its kernel computes, sequence by sequence."""
    ends_q, ends_k = begin_q.tolist(), begin_k.tolist()
    assert (begin_q.dtype, begin_k.dtype) == (torch.int32, torch.int32)
    out = []
    for i in range(len(ends_q) - 1):
        at_q, at_k = slice(*ends_q[i : i + 2]), slice(*ends_k[i : i + 2])
        assert 0 < at_q.stop - at_q.start <= longest_q
        assert 0 < at_k.stop - at_k.start <= longest_k
        scores = torch.einsum("qhe,khe->hqk", q[at_q], k[at_k]) / math.sqrt(q.shape[2])
        out.append(torch.einsum("hqk,khe->qhe", scores.softmax(-1), v[at_k]))
    return torch.cat(out)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
def test_the_kernel_of_a_gpu_gets_what_makes_the_same_attention(monkeypatch, rounded, first_only):
    batch = ragged({"a": [3, 7, 8, 11], "b": [9, 13]})
    groups = Groups(batch.layout, CPU, rounded=rounded)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(51 + groups.dummies, 3 * 16, dtype=torch.float64, generator=generator).requires_grad_()
    expected = attend(qkv, groups, 2, 0.0, None, first_only=first_only)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    (slope,) = torch.autograd.grad((expected * weights).sum(), qkv)
    monkeypatch.setattr(attention, "_has_kernel", lambda *_: True)
    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", slow_varlen)
    found = attend(qkv, groups, 2, 0.0, None, first_only=first_only)
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
def test_the_kernel_is_taken_on_a_gpu_in_16_bits_without_dropout(device, dtype, heads, dropout, taken):
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


# Dropout -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_dropout_has_the_exact_rate_and_scale(p):
    n = 2_000_001  # odd: half of the last draw is thrown away
    out = dropout(torch.ones(n, dtype=torch.float64), p, torch.Generator().manual_seed(0))
    zeros = int((out == 0).sum())
    assert abs(zeros - n * p) < 4 * math.sqrt(n * p * (1 - p))
    assert_close(out[out != 0], torch.full((n - zeros,), 1 / (1 - p), dtype=torch.float64))


def test_dropout_is_a_function_of_the_generators_state():
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(9))
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    one = dropout(x, 0.5, first)
    assert torch.equal(one, dropout(x, 0.5, second))
    assert torch.equal(first.get_state(), second.get_state())
    assert not torch.equal(one, dropout(x, 0.5, first))
    assert torch.equal(dropout(x.t(), 0.5, torch.Generator().manual_seed(3)) != 0, (one != 0).view(5, 7))


def test_elements_are_dropped_independently():
    # At every distance, both gone is as rare as p * p: neighbours share one 64-bit draw, and no draw returns later.
    n, rare = 200_000, 0.01
    gone = (dropout(torch.ones(n), 0.1, torch.Generator().manual_seed(0)) == 0).double()
    both = torch.fft.irfft(torch.fft.rfft(gone).abs().square(), n)[1:]
    assert (both - n * rare).abs().max() < 6.5 * math.sqrt(n * rare * (1 - rare))


def test_dropout_gradient_is_the_mask():
    x = torch.randn(50, requires_grad=True)
    out = dropout(x, 0.3, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert_close(gradient * x, out)


def test_no_generator_and_no_rate_are_the_identity():
    x, generator = torch.randn(3), torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, generator) is x
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert"])
def test_training_draws_from_its_generator_only(encoders, kind):
    encoder, batch = encoders(kind), ragged(LENGTHS)
    before = torch.get_rng_state()
    with torch.no_grad():
        one = run(encoder, batch, torch.Generator().manual_seed(0))[-1]
        same = run(encoder, batch, torch.Generator().manual_seed(0))[-1]
        other = run(encoder, batch, torch.Generator().manual_seed(1))[-1]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


# One mask per place: embeddings, then attention probabilities, attention output, layer output.
@pytest.mark.parametrize(("kind", "masks"), [("bert", 4), ("electra", 4), ("roberta", 4), ("distilbert", 3)])
def test_dropout_stands_where_the_family_was_trained_with_it(encoders, kind, masks, monkeypatch):
    encoder, batch = encoders(kind), ragged({"a": [5]})
    rates = []

    def count(x, p, generator):
        if p > 0:
            rates.append((p, tuple(x.shape)))
        return x

    monkeypatch.setattr("mtbert.model.encoder.dropout", count)
    monkeypatch.setattr("mtbert.model.attention.dropout", count)
    with torch.no_grad():
        run(encoder, batch, torch.Generator())
    width = encoder.config.embedding_width
    probabilities, vectors = (0.1, (4, 5, 5)), (0.1, (5, 24))
    layer = [probabilities, vectors, vectors] if masks == 4 else [probabilities, vectors]
    assert rates == [(0.1, (5, width)), *(3 * layer)]


# Real weights --------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_real_minilm_equals_transformers_in_float32():
    loaded = load_encoder("demo")
    tokenizer = transformers.AutoTokenizer.from_pretrained(loaded.folder)
    model = transformers.AutoModel.from_pretrained(loaded.folder, attn_implementation="eager").eval()
    sentences = [
        "Rain.",
        "A man plays the guitar.",
        "Two dogs chase a red ball across the wet grass by the school.",
    ]
    encoded = [tokenizer(s, return_tensors="pt") for s in sentences]
    lengths = [e["input_ids"].shape[1] for e in encoded]
    layout = ragged({"a": lengths}).layout
    ids, positions = torch.cat([e["input_ids"][0] for e in encoded]), torch.cat([torch.arange(n) for n in lengths])
    batch = StepBatch(layout, ids, torch.zeros_like(ids), positions, labels={}, example_ids={}, clusters={})
    with torch.no_grad():
        ours = pieces(run(loaded.encoder, batch)[-1], layout)
        cls_SD = torch.stack([x[0] for x in ours])
        theirs = [model(**e) for e in encoded]
        assert_close(loaded.encoder.pooled(cls_SD), torch.cat([t.pooler_output for t in theirs]), rtol=0, atol=1e-4)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other.last_hidden_state[0], rtol=0, atol=1e-4)
