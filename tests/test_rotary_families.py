"""NomicBERT and GTE equal transformers, whose files have other names of weights than its modules."""

import re
from pathlib import Path

import pytest
import test_dropout_places
import test_padded
import tiny
import torch
import transformers
from foreign import edit, refused
from safetensors.torch import load_file
from tiny import CPU, pieces, ragged
from torch import Tensor
from torch.testing import assert_close
from toy_encoder import EXACT, LENGTHS
from toy_stock import TAGS, exported, predictor, task

from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.model import Model
from mtbert.model.weights import encoder_names, load_encoder, save_encoder
from mtbert.use.export import Exporter
from mtbert.use.export.sentence_transformers import SENTENCE_TRANSFORMERS
from mtbert.use.export.transformers import TRANSFORMERS

SHAPE = {
    "vocab_size": tiny.VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": tiny.MAX_LENGTH,
    "pad_token_id": 0,
}
CONFIGS = {
    "nomic_bert": transformers.NomicBertConfig(**SHAPE),
    "gte": transformers.GteConfig(
        **SHAPE, type_vocab_size=2, rope_parameters={"rope_type": "default", "rope_theta": 77.0}
    ),
    "gte plain": transformers.GteConfig(**SHAPE, type_vocab_size=0, hidden_act="gelu_new"),
}


@pytest.fixture(params=CONFIGS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(tiny.CONFIGS, request.param, CONFIGS[request.param])
    return request.param


def ours(kind: str, folder: Path) -> Encoder:
    """Returns our encoder in float64, with the weights in the files that transformers writes."""
    tiny.hf_folder(kind, folder)
    encoder, stored = load_encoder(str(folder)).encoder.double(), load_file(folder / "model.safetensors")
    names = encoder_names(encoder.config)
    encoder.load_state_dict({name: torch.cat([stored[other] for other in names[name]]) for name in names})
    return encoder


def states(model: transformers.PreTrainedModel, batch: object) -> Tensor:
    """Returns the states that transformers computes for each sequence on its own."""
    found = []
    for ids, segments in zip(pieces(batch.ids_N, batch.layout), pieces(batch.segments_N, batch.layout), strict=True):
        given = {"token_type_ids": segments[None]} if model.config.type_vocab_size else {}
        found.append(model(input_ids=ids[None], **given).last_hidden_state[0])
    return torch.cat(found)


def test_states_and_gradients_equal_transformers(kind: str, tmp_path: Path):
    encoder, model, batch = ours(kind, tmp_path / "weights"), tiny.hf_model(kind), ragged(LENGTHS, packed=True)
    x_ND = encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, None)
    found_ND, expected_ND = encoder.encode(x_ND, Groups(batch.layout, CPU), None), states(model, batch)
    assert_close(found_ND, expected_ND, **EXACT)
    targets_ND = torch.randn(found_ND.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found_ND * targets_ND).sum().backward()
    (expected_ND * targets_ND).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.grad)
    model.save_pretrained(tmp_path / "gradients")  # which gives them the names of files
    gradients = load_file(tmp_path / "gradients/model.safetensors")
    for name, parameter in encoder.named_parameters():
        expected = torch.cat([gradients[other] for other in encoder_names(encoder.config)[name]])
        assert_close(parameter.grad, expected, msg=name, **EXACT)


def test_a_saved_encoder_loads_in_transformers_with_the_same_weights(kind: str, tmp_path: Path):
    encoder = load_encoder(str(tiny.hf_folder(kind, tmp_path / "theirs"))).encoder
    save_encoder(encoder, tmp_path / "ours")
    model, report = transformers.AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    expected = tiny.hf_model(kind).float().state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_dropout_has_the_places_that_it_has_in_transformers(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    test_dropout_places.test_a_pass_in_training_equals_transformers_under_the_same_masks(kind, tmp_path, monkeypatch)


@pytest.mark.parametrize("exporter", [TRANSFORMERS, SENTENCE_TRANSFORMERS], ids=["transformers", "sentence"])
def test_stock_libraries_answer_as_we_do(kind: str, exporter: Exporter, tmp_path: Path):
    made = predictor(kind, TAGS if exporter is TRANSFORMERS else task("ordinal", "mlp", "packed", pooling="mean"))
    assert exporter.refusal(made.model, made.tasks["t"]) is None
    assert exported(exporter, made, tmp_path)["t"].largest < 2e-5


def test_the_padded_twin_gives_the_same_answers(kind: str, tmp_path: Path):
    one = test_padded.CASES["packed"]
    model = Model(ours(kind, tmp_path), {"t": one}, pooling="cls", max_length=tiny.MAX_LENGTH, seed=0).double()
    test_padded.assert_same(model, [test_padded.a_dataset(one)])


def test_a_native_head_is_refused(kind: str):
    said = f"head 'native' is not known for a {kind.split()[0]} encoder. Use head: mlp."
    with pytest.raises(ValueError, match=re.escape(said)):
        predictor(kind, task("ordinal", "native"))


def test_missing_keys_have_the_defaults_of_transformers(kind: str, tmp_path: Path):
    edit(tiny.hf_folder(kind, tmp_path) / "config.json", rope_parameters=None, max_position_embeddings=None)
    encoder = load_encoder(str(tmp_path)).encoder
    expected = {"nomic_bert": (1000.0, 2048)}.get(kind, (160_000.0, 8192))
    assert (encoder.layers[0].attention.rotary.base, encoder.config.max_length) == expected


@pytest.mark.parametrize(
    ("parameters", "base"),
    [(None, 20.0), ({"rope_type": "default"}, 20.0), ({"rope_type": "default", "rope_theta": 9.0}, 9.0)],
)
def test_an_older_rope_theta_is_the_base_unless_rope_parameters_have_one(
    kind: str, parameters: dict | None, base: float, tmp_path: Path
):
    edit(tiny.hf_folder(kind, tmp_path) / "config.json", rope_parameters=parameters, rope_theta=20.0)
    assert load_encoder(str(tmp_path)).encoder.layers[0].attention.rotary.base == base
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.rope_parameters["rope_theta"] == base


def test_a_wrong_rope_theta_is_refused(kind: str, tmp_path: Path):
    edit(tiny.hf_folder(kind, tmp_path) / "config.json", rope_parameters=None, rope_theta=1)
    refused(ValueError, tmp_path, "rope_theta must be a number above 1, found 1. ")


def test_scaled_positions_are_refused(kind: str, tmp_path: Path):
    scaled = {"rope_type": "dynamic", "rope_theta": 9.0, "factor": 2.0}
    edit(tiny.hf_folder(kind, tmp_path) / "config.json", rope_parameters=scaled)
    refused(ValueError, tmp_path, "rope_parameters must be plain rotary positions, found 'dynamic'. Choose an encoder")
