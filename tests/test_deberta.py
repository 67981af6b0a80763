"""DeBERTa-v2 and v3: which configs are read, other forms of weights, and LoRA on matrices that are used twice."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from foreign import edit, refused
from safetensors.torch import load_file
from tiny import hf_folder, ragged
from torch.testing import assert_close
from toy_encoder import LENGTHS, run

from mtbert.model.attention import Groups, attend
from mtbert.model.config import read_config
from mtbert.model.lora import add, merged
from mtbert.model.relative import RelativeEmbedding, distances_in
from mtbert.model.settings import Lora
from mtbert.model.weights import encoder_state, load_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hf_folder("deberta-v2", tmp_path / "deberta")


@pytest.mark.parametrize("form", ["p2c|c2p", "c2p|p2c", "C2P | P2C", ["p2c", "c2p"], ["c2p", "p2c"]])
def test_both_products_may_be_named_in_any_form(form: str | list[str], folder: Path):
    edit(folder / "config.json", pos_att_type=form)
    assert load_encoder(str(folder)).encoder.relative is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"relative_attention": False}, "relative_attention must be true, found False. Choose another DeBERTa"),
        ({"pos_att_type": "c2p"}, "pos_att_type must be 'p2c|c2p', found 'c2p'. Choose another DeBERTa-v2 or v3."),
        ({"pos_att_type": ["p2c"]}, "pos_att_type must be 'p2c|c2p', found "),
        ({"pos_att_type": [1]}, "pos_att_type must be 'p2c|c2p', found [1]."),
        ({"share_att_key": False}, "share_att_key must be true, found False. Choose another"),
        ({"conv_kernel_size": 3}, "conv_kernel_size must be 0, found 3. Choose another"),
        ({"norm_rel_ebd": "batch_norm"}, "norm_rel_ebd must be 'layer_norm' or 'none', found 'batch_norm'."),
        ({"position_buckets": 1}, "position_buckets must be a whole number from 2 to 65,536, or -1 for none, found 1."),
        (
            {"position_buckets": 80, "max_relative_positions": 41},
            "max_relative_positions must be a whole number above half of position_buckets, to 1,048,576, or -1 for "
            "max_position_embeddings, found 41.",
        ),
        ({"max_relative_positions": 9}, "max_relative_positions must be a whole number above half"),
        ({"embedding_size": 12}, "embedding_size must be hidden_size, found 12. Choose another"),
        ({"attention_head_size": 64}, "attention_head_size must be hidden_size / num_attention_heads, found 64."),
        ({"type_vocab_size": -1}, "type_vocab_size must be a whole number from 0 to 1,024, found -1."),
    ],
)
def test_an_encoder_that_works_otherwise_is_refused(changes: dict[str, object], said: str, folder: Path):
    source = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(source | changes))
    refused(ValueError, folder, f"{folder}/config.json: {said}")


@pytest.mark.parametrize("key", ["relative_attention", "pos_att_type", "share_att_key"])
def test_a_key_whose_default_is_another_attention_must_be_there(key: str, folder: Path):
    edit(folder / "config.json", **{key: None})
    refused(ValueError, folder, f"{folder}/config.json: {key} must be ", ", found nothing.")


def test_sizes_that_say_what_is_so_are_read(folder: Path):
    before = read_config(folder / "config.json")
    edit(folder / "config.json", embedding_size=24, attention_head_size=12, conv_kernel_size=0)
    assert read_config(folder / "config.json") == before
    assert (before.position_offset, before.segment_types, before.layer_norm_eps, before.pooler) == (
        None,
        0,
        1e-7,
        False,
    )
    assert before.native is not None
    assert not before.native.drops_input
    edit(folder / "config.json", pooler_dropout=0.1, pooler_hidden_act="relu", position_biased_input=True)
    after = read_config(folder / "config.json")
    assert after.native is not None
    assert (after.native.drops_input, after.native.activation, after.position_offset) == (
        True,
        torch.nn.functional.relu,
        0,
    )


def test_a_pytorch_file_with_old_names_loads_alike(folder: Path):
    before = encoder_state(load_encoder(str(folder)).encoder)

    def old(name: str) -> str:
        return "deberta." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        )

    state = {old(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    extra = {
        "deberta.embeddings.position_embeddings.weight": torch.zeros(40, 24),
        "mask_predictions.bias": torch.ones(2),
    }
    torch.save(state | extra, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    loaded = load_encoder(str(folder))
    assert loaded.missing == ()
    assert loaded.unexpected == ("embeddings.position_embeddings.weight", "mask_predictions.bias")
    for name, tensor in encoder_state(loaded.encoder).items():
        assert torch.equal(tensor, before[name])


def test_a_change_by_lora_applies_to_the_vectors_of_distances_too(folder: Path):
    encoder, batch = load_encoder(str(folder)).encoder.double(), ragged(LENGTHS)
    with torch.no_grad():
        before = run(encoder, batch)[-1]
        add(encoder, Lora(rank=2, alpha=3), seed=0)
        for name, parameter in encoder.named_parameters():
            if name.endswith(".b"):
                parameter.normal_(generator=torch.Generator().manual_seed(1))
        assert_close(run(merged(encoder), batch)[-1], run(encoder, batch)[-1], rtol=1e-9, atol=1e-9)
        assert not torch.allclose(run(encoder, batch)[-1], before)


def test_a_second_derivative_passes_through_disentangled_attention():
    groups = Groups(ragged({"a": [1, 3]}).layout, tiny.CPU)
    relative = RelativeEmbedding(4, 7, lambda values_R: 3 - values_R, None, 0.0).double()
    project = torch.nn.Linear(4, 12).double()
    scores = relative.rows(distances_in(groups)).in_layer(project, None)
    x_ND = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: attend(project(x), groups, 2, 0.0, None, scores), x_ND)
