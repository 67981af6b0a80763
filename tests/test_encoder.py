"""Every family of encoders equals transformers: states, pooled vectors, gradients."""

import inspect

import pytest
import torch
import torch.nn.attention.varlen
import toy_encoder
import transformers
from tiny import CONFIGS, CPU, hf_model, names_in_files, pieces, ragged
from torch.testing import assert_close
from toy_encoder import EXACT, LENGTHS, run

from mtbert.batch import StepBatch
from mtbert.model.attention import Groups, attend
from mtbert.model.families.known import FAMILIES
from mtbert.model.weights import encoder_names

encoders = toy_encoder.encoders


def reference(model: transformers.PreTrainedModel, batch: StepBatch) -> list[transformers.utils.ModelOutput]:
    """Returns the result of transformers for each sequence on its own."""
    ids, segments = pieces(batch.ids_N, batch.layout), pieces(batch.segments_N, batch.layout)
    some = "token_type_ids" in inspect.signature(model.forward).parameters
    return [
        model(input_ids=i[None], output_hidden_states=True, **({"token_type_ids": s[None]} if some else {}))
        for i, s in zip(ids, segments, strict=True)
    ]


# The second text of a pair has segment id 1, which an embedding for one segment lacks.
PARITY = [(kind, False) for kind in CONFIGS] + [
    (kind, True) for kind, config in CONFIGS.items() if getattr(config, "type_vocab_size", 0) != 1
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


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert", "mpnet"])
def test_pooled_equals_transformers(encoders, kind):
    encoder, batch = encoders(kind), ragged(LENGTHS)
    with torch.no_grad():
        cls_SD = run(encoder, batch)[-1][list(batch.layout.offsets[:-1])]
        theirs = torch.cat([out.pooler_output for out in reference(hf_model(kind), batch)])
        assert_close(encoder.pooled(cls_SD), theirs, **EXACT)


@pytest.mark.parametrize("kind", ["electra", "distilbert", "modernbert", "deberta-v2", "nomic_bert", "gte"])
def test_an_encoder_without_pooler_refuses_to_pool(encoders, kind):
    with pytest.raises(ValueError, match=f"this {kind} encoder has no pooler"):
        encoders(kind).pooled(torch.zeros(1, 24, dtype=torch.float64))


@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_equal_transformers(encoders, kind):
    encoder, model, batch = encoders(kind), hf_model(kind), ragged(LENGTHS)
    targets = torch.randn(batch.layout.offsets[-1], 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (run(encoder, batch)[-1] * targets).sum().backward()
    outs = torch.cat([out.last_hidden_state[0] for out in reference(model, batch)])
    (outs * targets).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    theirs = names_in_files(model, gradients)
    for ours, parameter in encoder.named_parameters():
        if not ours.startswith("pooler"):
            expected = torch.cat([theirs[name] for name in encoder_names(encoder.config)[ours]])
            assert_close(parameter.grad, expected, msg=ours, **EXACT)


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


@pytest.mark.parametrize("kind", FAMILIES)
def test_bfloat16_loses_no_more_than_transformers_loses(encoders, kind):
    exact, batch, model = encoders(kind), ragged(LENGTHS), hf_model(kind).float()
    model.set_attn_implementation("eager")  # others keep the scores in float32
    with torch.no_grad():
        expected = run(exact, batch)[-1]
        rough = exact.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours = (run(rough, batch)[-1].double() - expected).norm()
            theirs = torch.cat([out.last_hidden_state[0] for out in reference(model, batch)])
    assert 0 < ours < 1.2 * (theirs.double() - expected).norm()
