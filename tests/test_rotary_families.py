"""NomicBERT and GTE: their bases of rotary positions, and the files of the authors' own code."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from foreign import edit, refused, retensor
from tiny import hf_folder
from toy_stock import predictor, task

from mtbert.model.config import read_config
from mtbert.model.families.known import FAMILIES
from mtbert.model.weights import encoder_state, load_encoder, save_encoder

BOTH = ("nomic_bert", "gte")


@pytest.fixture(params=BOTH)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    return hf_folder(kind, tmp_path)


def write(file: Path, keys: dict[str, object]) -> None:
    """Adds keys to a config.json; unlike those of ``edit``, values may be null."""
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def test_a_native_head_is_refused(kind: str):
    said = f"head 'native' is not known for a {kind} encoder. Use head: mlp."
    with pytest.raises(ValueError, match=re.escape(said)):
        predictor(kind, task("ordinal", "native"))


# Rotary positions -----------------------------------------------------------------------------------


def test_missing_keys_have_the_defaults_of_transformers(kind: str, folder: Path):
    edit(folder / "config.json", rope_parameters=None, max_position_embeddings=None)
    encoder = load_encoder(str(folder)).encoder
    expected = {"nomic_bert": (1000.0, 2048), "gte": (160_000.0, 8192)}[kind]
    assert (encoder.layers[0].attention.rotary.base, encoder.config.max_length) == expected


@pytest.mark.parametrize(
    ("parameters", "base"),
    [
        (None, 20.0),
        ({"rope_type": "default"}, 20.0),
        ({"rope_type": "default", "rope_theta": 9.0}, 9.0),
        ({"rope_theta": 9.0, "partial_rotary_factor": 1.0}, 9.0),
    ],
)
def test_an_older_rope_theta_is_the_base_unless_rope_parameters_have_one(
    folder: Path, parameters: dict | None, base: float
):
    edit(folder / "config.json", rope_parameters=parameters, rope_theta=20.0)
    assert load_encoder(str(folder)).encoder.layers[0].attention.rotary.base == base
    theirs = transformers.AutoConfig.from_pretrained(folder)
    assert theirs.rope_parameters["rope_theta"] == base


def test_a_wrong_rope_theta_is_refused(folder: Path):
    edit(folder / "config.json", rope_parameters=None, rope_theta=1)
    refused(ValueError, folder, "rope_theta must be a number above 1, found 1. ")


@pytest.mark.parametrize(
    "scaled",
    [{"rope_type": "dynamic", "rope_theta": 9.0, "factor": 2.0}, {"rope_theta": 9.0, "partial_rotary_factor": 0.5}],
)
def test_scaled_positions_and_positions_of_a_part_are_refused(folder: Path, scaled: dict[str, object]):
    edit(folder / "config.json", rope_parameters=scaled)
    refused(ValueError, folder, f"rope_parameters must be plain rotary positions, found {scaled}. Choose an encoder")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_key_about_rotary_positions_that_is_not_read_is_refused_unless_it_is_null_or_false(
    family: str, tmp_path: Path
):
    file = hf_folder(family, tmp_path) / "config.json"
    before = read_config(file)
    for value in (None, False):
        write(file, {"rotary_value": value, "my_rope_scale": value})
        assert read_config(file) == before
    for key, value in [("rotary_value", True), ("my_rope_scale", 2.0), ("rope_\x1b[2J", 0.5)]:
        write(file, {"rotary_value": None, "my_rope_scale": None, key: value})
        name = key.replace("\x1b", "\\x1b")
        refused(ValueError, tmp_path, f"{name} must be null or false, found {value}. Choose another {family} encoder.")


@pytest.mark.parametrize("family", [*BOTH, "modernbert"])
def test_heads_of_odd_width_are_refused_where_positions_are_rotary(family: str, tmp_path: Path):
    edit(hf_folder(family, tmp_path) / "config.json", hidden_size=12, head_dim=None)
    refused(ValueError, tmp_path, "rotary positions need heads of an even width, found 4 heads in width 12. Fetch")


def test_heads_of_odd_width_are_read_where_positions_are_not_rotary(tmp_path: Path):
    edit(hf_folder("bert", tmp_path) / "config.json", hidden_size=12)
    assert read_config(tmp_path / "config.json").width == 12


# Files of the authors' code --------------------------------------------------------------------------

# Keys with values as in published files.
NOMIC = {
    "activation_function": "swiglu",
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 24,
    "n_head": 4,
    "n_inner": 36,
    "n_layer": 3,
    "n_positions": 8192,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "use_rms_norm": False,
}
GTE = {
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "pack_qkv": True,
    "position_embedding_type": "rope",
    "rope_scaling": None,
}
AUTHORS = {"nomic_bert": NOMIC, "gte": GTE}


def test_keys_of_the_authors_that_mean_the_same_encoder_are_accepted(kind: str, folder: Path):
    before = read_config(folder / "config.json")
    write(folder / "config.json", AUTHORS[kind])
    assert read_config(folder / "config.json") == before
    write(folder / "config.json", dict.fromkeys(AUTHORS[kind]))
    assert read_config(folder / "config.json") == before


OTHERS = [
    ("nomic_bert", "n_head", 6, "4"),
    ("nomic_bert", "n_embd", 768, "24"),
    ("nomic_bert", "n_layer", 12, "3"),
    ("nomic_bert", "n_inner", 3072, "36"),
    ("nomic_bert", "head_dim", 12, "6"),
    ("nomic_bert", "activation_function", "geglu", '"swiglu"'),
    ("nomic_bert", "layer_norm_epsilon", 1e-5, "1e-12"),
    ("nomic_bert", "use_rms_norm", True, "false"),
    ("nomic_bert", "prenorm", True, "false"),
    ("nomic_bert", "parallel_block", True, "false"),
    ("nomic_bert", "causal", True, "false"),
    ("nomic_bert", "scale_attn_weights", False, "true"),
    ("nomic_bert", "scale_attn_by_inverse_layer_idx", True, "false"),
    ("nomic_bert", "qkv_proj_bias", True, "false"),
    ("nomic_bert", "mlp_fc1_bias", True, "false"),
    ("nomic_bert", "mlp_fc2_bias", True, "false"),
    ("nomic_bert", "partial_rotary_factor", 0.5, "1.0"),
    ("nomic_bert", "rotary_emb_base", 10_000, "1000.0"),
    ("nomic_bert", "rotary_emb_fraction", 0.5, "1.0"),
    ("nomic_bert", "rotary_emb_interleaved", True, "false"),
    ("nomic_bert", "rotary_scaling_factor", 2, "null or false"),
    ("nomic_bert", "rotary_emb_scale_base", 512, "null or false"),
    ("gte", "head_dim", 12, "6"),
    ("gte", "layer_norm_type", "rms_norm", '"layer_norm"'),
    ("gte", "logn_attention_clip1", True, "false"),
    ("gte", "logn_attention_scale", True, "false"),
    ("gte", "pack_qkv", False, "true"),
    ("gte", "partial_rotary_factor", 0.5, "1.0"),
    ("gte", "position_embedding_type", "absolute", '"rope"'),
    ("modernbert", "head_dim", 12, "6"),
    ("modernbert", "partial_rotary_factor", 0.5, "1.0"),
]


@pytest.mark.parametrize(("family", "key", "value", "must"), OTHERS)
def test_a_key_that_means_another_encoder_is_refused(family: str, key: str, value: object, must: str, tmp_path: Path):
    write(hf_folder(family, tmp_path) / "config.json", {key: value})
    said = f"{tmp_path}/config.json: {key} must be {must}, found {value!r}. Choose another {family} encoder."
    refused(ValueError, tmp_path, said)


def test_every_key_that_means_another_encoder_is_tested(tmp_path: Path):
    for name, family in FAMILIES.items():
        source = json.loads((hf_folder(name, tmp_path / name) / "config.json").read_text())
        fixed = set(family.fixed(family.config.model_validate(source)))
        assert fixed <= {key for kind, key, _, _ in OTHERS if kind == name}, name


@pytest.mark.parametrize("prefix", ["gte.", "new.", ""])
def test_weights_of_gte_are_read_with_the_prefixes_of_both_codes(prefix: str, tmp_path: Path):
    folder = hf_folder("gte", tmp_path / "theirs")
    before = encoder_state(load_encoder(str(folder)).encoder)
    retensor(folder, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    loaded = load_encoder(str(folder))
    assert (loaded.missing, loaded.unexpected) == ((), ())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder_state(loaded.encoder).items())
    save_encoder(loaded.encoder, tmp_path / "ours")
    _, report = transformers.AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
