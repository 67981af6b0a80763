"""ModernBERT: its keys, its two bases and windows, and every technique on its pre-norm layers."""

import json
from pathlib import Path

import pytest
import tiny
import torch
import toy_encoder
import transformers
from foreign import edit, refused
from tiny import CPU, hf_folder, pieces, ragged
from torch import Tensor
from torch.testing import assert_close
from toy_encoder import EXACT, LENGTHS
from toy_stock import TAGS, exported, predictor, task
from transformers.models.modernbert import modeling_modernbert

from mtbert.model import lora
from mtbert.model.attention import Groups
from mtbert.model.config import read_config
from mtbert.model.encoder import Encoder
from mtbert.model.settings import Lora
from mtbert.model.weights import load_encoder, save_encoder
from mtbert.task import Task
from mtbert.use.export.sentence_transformers import SENTENCE_TRANSFORMERS
from mtbert.use.export.transformers import TRANSFORMERS

encoders = toy_encoder.encoders
BATCH = ragged(LENGTHS)
PLAIN = "Choose an encoder with plain rotary positions."


def states(encoder: Encoder, *, first_only: bool = False, rounded: bool = False) -> Tensor:
    x_ND = encoder.embed(BATCH.ids_N, BATCH.segments_N, BATCH.positions_N, None)
    return encoder.encode(x_ND, Groups(BATCH.layout, CPU, rounded), None, first_only=first_only)


# Its config.json -----------------------------------------------------------------------------------


def parts(folder: Path) -> list[tuple[float, int | None]]:
    """Returns the base of the rotation and the window of each layer."""
    layers = load_encoder(str(folder)).encoder.layers
    return [(layer.attention.rotary.base, layer.attention.window) for layer in layers]


BASES = {
    "new": {"rope_parameters": {"full_attention": {"rope_theta": 7.0}, "sliding_attention": {"rope_theta": 5.0}}},
    "old": {"rope_parameters": None, "global_rope_theta": 7.0, "local_rope_theta": 5.0},
    "mixed": {
        "rope_parameters": {"full_attention": {"rope_type": "default"}},
        "global_rope_theta": 7,
        "local_rope_theta": 5,
    },
}


@pytest.mark.parametrize("change", BASES.values(), ids=BASES)
def test_both_bases_of_the_rotation_are_read_in_their_new_and_their_old_place(
    tmp_path: Path, change: dict[str, object]
):
    edit(hf_folder("modernbert", tmp_path) / "config.json", **change)
    assert parts(tmp_path) == [(7.0, None), (5.0, 4), (5.0, 4)]
    theirs = transformers.AutoModel.from_pretrained(tmp_path).config.rope_parameters
    assert {name: parameters["rope_theta"] for name, parameters in theirs.items()} == {
        "full_attention": 7.0,
        "sliding_attention": 5.0,
    }


def test_keys_that_are_missing_have_the_defaults_of_transformers(tmp_path: Path):
    gone = ["rope_parameters", "layer_types", "local_attention", "max_position_embeddings", "norm_eps", "mlp_dropout"]
    edit(hf_folder("modernbert", tmp_path) / "config.json", **dict.fromkeys(gone))
    config = read_config(tmp_path / "config.json")
    assert (config.max_length, config.layer_norm_eps, config.hidden_dropout) == (8192, 1e-5, 0.0)
    assert parts(tmp_path) == [(160_000.0, None), (10_000.0, 64), (10_000.0, 64)]


def test_the_kinds_of_layers_are_read_in_their_new_and_their_old_place(tmp_path: Path):
    edit(hf_folder("modernbert", tmp_path) / "config.json", layer_types=None, global_attn_every_n_layers=2)
    assert [window for _, window in parts(tmp_path)] == [None, 4, None]
    edit(tmp_path / "config.json", layer_types=["sliding_attention", "full_attention", "sliding_attention"])
    assert [window for _, window in parts(tmp_path)] == [4, None, 4]


def test_the_name_of_the_positions_is_not_read(tmp_path: Path):
    folder = hf_folder("modernbert", tmp_path)
    for name in ("absolute", "sans_pos"):  # as published files have it
        edit(folder / "config.json", position_embedding_type=name)
        assert read_config(folder / "config.json").position_offset is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_types": ["full_attention"]}, "layer_types must be full_attention or sliding_attention for each layer"),
        ({"layer_types": ["full_attention", "x", "y"]}, "layer_types must be full_attention or sliding_attention"),
        ({"local_attention": 1}, "local_attention must be a whole number from 2 to 1,048,576, found 1."),
        ({"mlp_bias": "no"}, "mlp_bias must be true or false, found 'no'."),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 9.0}}},
            "full_attention and sliding_attention, found "
            f"{{'full_attention': {{'rope_type': 'yarn', 'rope_theta': 9.0}}}}. {PLAIN}",
        ),
        (
            {"rope_parameters": {"rope_type": "default"}},
            f"sliding_attention, found {{'rope_type': 'default'}}. {PLAIN}",
        ),
        (
            {"rope_scaling": {"rope_type": "linear"}},
            f"rope_scaling must be null, found {{'rope_type': 'linear'}}. {PLAIN}",
        ),
        ({"global_rope_theta": 1}, "global_rope_theta must be a number above 1, found 1."),
        (
            {"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.5}}},
            f"sliding_attention, found {{'full_attention': {{'partial_rotary_factor': 0.5}}}}. {PLAIN}",
        ),
        (
            {"local_rope_theta": None},
            "local_rope_theta must be a number above 1, found None. "
            "If it is null, give it the value of global_rope_theta.",
        ),
        ({"classifier_activation": "x"}, "classifier_activation must be one of gelu, gelu_new"),
    ],
)
def test_a_config_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object], message: str):
    file = hf_folder("modernbert", tmp_path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    refused(ValueError, tmp_path, message)


# Its states ----------------------------------------------------------------------------------------


def test_tokens_beyond_the_window_of_every_layer_change_nothing(encoders):
    encoder = encoders("modernbert")
    reach = sum(layer.attention.window or 0 for layer in encoder.layers[1:])
    ids = torch.randint(5, tiny.VOCAB, (2, 40), generator=torch.Generator().manual_seed(0))
    ids[1, :-1] = ids[0, :-1]  # they differ in the last token
    batch = ragged({"t": [40, 40]})

    def upper(layers: slice) -> Tensor:
        x_ND = encoder.embed(ids.flatten(), batch.segments_N, batch.positions_N, None)
        for layer in encoder.layers[layers]:
            x_ND = layer(x_ND, Groups(batch.layout, CPU), None, None, first_only=False)
        return x_ND.view(2, 40, -1)

    with torch.no_grad():
        same = (upper(slice(1, 3))[0] == upper(slice(1, 3))[1]).all(-1)
        assert same.tolist() == [place < 39 - reach for place in range(40)]
        assert not (upper(slice(0, 1))[0] == upper(slice(0, 1))[1]).all(-1).any()


@pytest.mark.parametrize("kind", ["modernbert", "modernbert biased"])
def test_states_equal_those_of_a_library_that_rotates_in_float32(encoders, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(modeling_modernbert, "apply_rotary_pos_emb", tiny.ROTATED_IN_FLOAT32)
    model = tiny.hf_model(kind)
    with torch.no_grad():
        found_ND = states(encoders(kind))
        expected_ND = torch.cat(
            [model(input_ids=ids[None]).last_hidden_state[0] for ids in pieces(BATCH.ids_N, BATCH.layout)]
        )
    assert expected_ND.std() > 0.5
    assert 0 < (found_ND - expected_ND).norm() < 1e-6 * expected_ND.norm()


def test_first_tokens_alone_and_rounded_shapes_give_the_same_states(encoders):
    for kind in ("modernbert", "modernbert biased"):  # the last layer of both has a window
        encoder = encoders(kind)
        with torch.no_grad():
            whole = states(encoder)
            assert_close(states(encoder, first_only=True), whole[list(BATCH.layout.offsets[:-1])], **EXACT)
            assert Groups(BATCH.layout, CPU, rounded=True).dummies > 0
            assert_close(states(encoder, rounded=True), whole, **EXACT)


def test_an_adapter_reads_the_input_of_the_attention_and_is_added_to_the_last_sum(encoders):
    encoder = encoders("modernbert")
    groups, layer = Groups(BATCH.layout, CPU), encoder.layers[1]
    x_ND = torch.randn(groups.tokens, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        plain = layer(x_ND, groups, None, None, first_only=False)
        adapted = layer(x_ND, groups, None, lambda read_ND: 3 * read_ND, first_only=False)
        normed_ND = torch.nn.functional.layer_norm(x_ND, (24,), layer.before_attention.weight, None, 1e-5)
    assert_close(adapted - plain, 3 * normed_ND)


# Its weights ---------------------------------------------------------------------------------------


def test_a_pretraining_checkpoint_loads_and_its_head_is_reported(tmp_path: Path):
    torch.manual_seed(0)
    model = transformers.ModernBertForMaskedLM(tiny.CONFIGS["modernbert"])
    model.save_pretrained(tmp_path / "mlm")
    loaded = load_encoder(str(tmp_path / "mlm"))
    assert loaded.missing == ()
    assert set(loaded.unexpected) == {"decoder.bias", "head.dense.weight", "head.norm.weight"}
    assert torch.equal(loaded.encoder.layers[1].intermediate.weight, model.model.layers[1].mlp.Wi.weight)


def test_low_rank_changes_of_values_and_gate_are_apart_and_are_saved(encoders, tmp_path: Path):
    encoder = load_encoder(str(hf_folder("modernbert", tmp_path / "theirs"))).encoder
    lora.add(encoder, Lora(rank=2), seed=0)
    change = encoder.layers[1].intermediate.parametrizations.weight[0]
    assert (change.a.shape, change.b.shape) == ((2, 2, 24), (2, 36, 2))
    with torch.no_grad():
        change.b.normal_(generator=torch.Generator().manual_seed(0))
        save_encoder(lora.merged(encoder), tmp_path / "merged")
        assert_close(states(load_encoder(str(tmp_path / "merged")).encoder), states(encoder), rtol=1e-4, atol=1e-4)


def test_embeddings_lie_lowest_and_the_last_norm_behind_all_layers(encoders):
    encoder = encoders("modernbert")
    depths = encoder.depths()
    named = {name: depths[parameter] for name, parameter in encoder.named_parameters()}
    assert {depth for name, depth in named.items() if name.startswith("layers.1.")} == {2}
    assert (named["word_embedding.weight"], named["embedding_norm.weight"], named["final_norm.weight"]) == (0, 0, 4)


# Its classes in transformers -----------------------------------------------------------------------


def test_its_class_pools_as_the_task_does(tmp_path: Path):
    made = predictor("modernbert", *(task("ordinal", "native", name=name, pooling=name) for name in ("cls", "mean")))
    found = exported(TRANSFORMERS, made, tmp_path)
    assert max(one.largest for one in found.values()) < 2e-5
    for name in ("cls", "mean"):
        assert json.loads((tmp_path / name / "config.json").read_text())["classifier_pooling"] == name


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (TAGS, "linear' is not that of ModernBertForTokenClassification. Use head: native, or --to onnx."),
        (
            task("ordinal", pooling="mean"),
            "linear' is not that of ModernBertForSequenceClassification. Use head: native, or "
            "--to sentence-transformers.",
        ),
    ],
)
def test_a_head_that_its_class_lacks_is_refused(asked: Task, said: str):
    assert TRANSFORMERS.refusal(predictor("modernbert", asked).model, asked) == f"head '{said}"


def test_sentence_transformers_is_refused_for_a_norm_in_the_head():
    asked = task("ordinal", "native")
    said = "sentence-transformers has no layer as in head 'native'. Use --to onnx."
    assert SENTENCE_TRANSFORMERS.refusal(predictor("modernbert", asked).model, asked) == said
