import json

import pytest
from foreign import NO_FILES, edit, refused, replace_by
from tiny import hf_folder

from mtbert.model.config import read_config

FETCH = "Fetch the model again."
WHOLE = "must be a whole number from 1 to "


@pytest.fixture
def bert(tmp_path):
    return hf_folder("bert", tmp_path / "bert")


def test_a_key_missing_in_a_config_has_the_default_of_transformers(bert):
    soft = ["hidden_act", "layer_norm_eps", "type_vocab_size", "hidden_dropout_prob", "attention_probs_dropout_prob"]
    before = read_config(bert / "config.json")
    edit(bert / "config.json", **dict.fromkeys(soft))
    assert read_config(bert / "config.json") == before


def test_unused_keys_may_hold_anything(bert):
    before = read_config(bert / "config.json")
    edit(bert / "config.json", pad_token_id="x", note=[{"a": 1e300}], id2label={"0": 3}, bos_token_id=-5)
    assert read_config(bert / "config.json") == before


def test_a_folder_without_config_is_refused(tmp_path):
    refused(FileNotFoundError, tmp_path, f"{tmp_path}/config.json: not there. Give the folder of a model")


@pytest.mark.parametrize("kind", NO_FILES)
def test_a_config_that_is_not_a_regular_file_is_refused(bert, kind):
    replace_by(bert / "config.json", kind)
    refused(ValueError, bert, f"{bert}/config.json: {kind}, not a file. Give the folder of a model")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["not JSON"]),
        ("[]", ["must hold an object, found list"]),
        ('{"model_type": "t5"}', ["model_type must be one of bert, deberta-v2, distilbert", "found 't5'"]),
        (
            '{"model_type": "xlm-roberta-xl"}',
            ["roberta, xlm-roberta, camembert, found 'xlm-roberta-xl'. Did you mean 'xlm-roberta'? Choose an encoder"],
        ),
        ("{}", ["found None. Choose an encoder of these families."]),
        ('{"model_type": "bert"}', [f"vocab_size {WHOLE}16,777,216, found nothing. {FETCH}"]),
        ('{"model_type": "distilbert", "vocab_size": 9}', [f"dim {WHOLE}16,384, found nothing"]),
        ('{"model_type": "bert", "position_embedding_type": "relative_key"}', ["found 'relative_key'", "absolute pos"]),
        ('{"model_type": "bert", "is_decoder": true}', ["is_decoder must be false, found True. Choose an encoder."]),
        ('{"model_type": "bert", "add_cross_attention": true}', ["add_cross_attention must be false, found True"]),
    ],
)
def test_a_config_that_is_not_of_a_supported_encoder_is_refused(tmp_path, text, parts):
    (tmp_path / "config.json").write_text(text)
    refused(ValueError, tmp_path, f"{tmp_path}/config.json: ", *parts)


def test_a_config_nested_too_deep_to_be_saved_is_refused(bert):
    text = (bert / "config.json").read_text()
    for levels in (102, 400, 100_000):
        nested = "[" * levels + "]" * levels
        (bert / "config.json").write_text(f'{text.rstrip().removesuffix("}")}, "note": {nested}}}')
        refused(ValueError, bert, f"{bert}/config.json: not JSON that can be read (nested too deep)")


def test_settings_that_make_no_encoder_are_refused(bert):
    edit(bert / "config.json", hidden_act="quick_gelu")
    refused(ValueError, bert, f"{bert}/config.json: hidden_act must be one of gelu, ", "found 'quick_gelu'. Choose")
    edit(bert / "config.json", hidden_act="gelu", num_attention_heads=5)
    refused(ValueError, bert, f"{bert}/config.json: 5 heads do not divide width 24")
    edit(bert / "config.json", num_attention_heads="4")
    refused(ValueError, bert, f"{bert}/config.json: num_attention_heads {WHOLE}1,024, found '4'. {FETCH}")
    edit(bert / "config.json", num_attention_heads=4, hidden_dropout_prob=1.0)
    refused(ValueError, bert, f"{bert}/config.json: hidden_dropout_prob must be a number from 0 to below 1, found 1.0")


BERT_KEYS = {
    "model_type": "one of bert, deberta-v2, distilbert, electra, gte, modernbert, mpnet, nomic_bert, roberta",
    "hidden_act": "one of gelu, gelu_new",
    "vocab_size": "a whole number from 1 to 16,777,216",
    "hidden_size": "a whole number from 1 to 16,384",
    "num_hidden_layers": "a whole number from 1 to 256",
    "num_attention_heads": "a whole number from 1 to 1,024",
    "intermediate_size": "a whole number from 1 to 131,072",
    "type_vocab_size": "a whole number from 1 to 1,024",
    "max_position_embeddings": "a whole number from 1 to 1,048,576",
    "layer_norm_eps": "a number above 0, to 0.1",
    "hidden_dropout_prob": "a number from 0 to below 1",
    "attention_probs_dropout_prob": "a number from 0 to below 1",
}
DISTILBERT_KEYS = {
    "activation": "one of gelu, gelu_new",
    "dim": "a whole number from 1 to 16,384",
    "n_layers": "a whole number from 1 to 256",
    "n_heads": "a whole number from 1 to 1,024",
    "hidden_dim": "a whole number from 1 to 131,072",
    "dropout": "a number from 0 to below 1",
    "attention_dropout": "a number from 0 to below 1",
}
VALUES = ["[]", '{"a": 1}', "true", "1e18", "1e30", "null", '"\\u001b[2Jx"', "-1", "1e999", "NaN", "9" * 400]


@pytest.mark.parametrize(("kind", "keys"), [("bert", BERT_KEYS), ("distilbert", DISTILBERT_KEYS)])
def test_values_that_no_encoder_has_are_named(kind, keys, tmp_path):
    folder = hf_folder(kind, tmp_path / kind)
    source = json.loads((folder / "config.json").read_text())
    for key, must in keys.items():
        for value in VALUES:
            rest = json.dumps({name: old for name, old in source.items() if name != key})
            (folder / "config.json").write_text(f'{rest.removesuffix("}")}, "{key}": {value}}}')
            refused(ValueError, folder, f"{folder}/config.json: {key} must be {must}", ", found ")


def test_layers_beyond_any_encoder_take_no_time(bert):
    for layers in (257, 10**6):
        edit(bert / "config.json", num_hidden_layers=layers)
        refused(ValueError, bert, f"num_hidden_layers must be a whole number from 1 to 256, found {layers}.")


def test_positions_of_mpnet_start_at_2_whatever_its_padding(tmp_path):
    folder = hf_folder("mpnet", tmp_path)
    edit(folder / "config.json", max_position_embeddings=2, pad_token_id=7)
    refused(ValueError, folder, "max_position_embeddings must be more than 2, the first position, found 2. Fetch")


def test_positions_of_roberta_start_after_its_padding(tmp_path):
    folder = hf_folder("roberta", tmp_path)
    edit(folder / "config.json", pad_token_id=41)
    refused(ValueError, folder, "max_position_embeddings must be more than 42, the first position, found 42.")
    edit(folder / "config.json", pad_token_id=-1)
    refused(ValueError, folder, "pad_token_id must be a whole number from 0 to 1,048,576, found -1.")
    edit(folder / "config.json", pad_token_id=0)
    assert (read_config(folder / "config.json").position_offset, read_config(folder / "config.json").max_length) == (
        1,
        41,
    )
