"""Folders with a tokenizer from a SentencePiece model: settings, added tokens, model folders and exports."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_tokenizer
import toy_spm
import toy_stock
import transformers
from any_json import fuzzed, mutated, outcome
from foreign import refused
from hypothesis import given
from tokenizers import Tokenizer, models, processors
from toy_spm import SYLLABLES, oracle, trained

from mtbert.data.tokenizer import load_tokenizer
from mtbert.data.words import split
from mtbert.storage.model_folder import load_model, save_model
from mtbert.storage.tokenizer_settings import tokenizer_settings
from mtbert.use.export import Wanted
from mtbert.use.export.check import compare
from mtbert.use.export.known import EXPORTERS
from mtbert.use.export.onnx import cutting_and_padding
from mtbert.use.export.predict_folder import first_tokens
from mtbert.use.predictor import Predictor

FETCH = "Fetch the model again."
CONVERT = "Such models are not read: save the tokenizer as tokenizer.json, and copy that file beside the weights."
SMALL = trained(vocab_size=98)  # and [MASK]: as many tokens as the tiny encoders have embeddings


# Settings ----------------------------------------------------------------------------------------------------


def test_capital_letters_become_small_where_the_settings_say_so(tmp_path: Path):
    upper, lower = "KA TO ÜN ÉR", "ka to ün ér"
    cased = load_tokenizer(toy_spm.folder(tmp_path, trained())).encode(upper).ids
    settings = {"do_lower_case": True, "vocab_type": "spm", "tokenizer_class": "DebertaV2Tokenizer"}
    ours = load_tokenizer(toy_spm.folder(tmp_path, trained(), tokenizer_config=settings))
    assert ours.encode(upper).ids == ours.encode(lower).ids == [1, *oracle(trained()).encode(lower), 2] != cased
    assert ours.encode(upper).ids == transformers.AutoTokenizer.from_pretrained(tmp_path)(upper)["input_ids"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("tokenizer_config", {"split_by_punct": True}, f"split_by_punct must be false, found true. {CONVERT}"),
        ("tokenizer_config", {"add_prefix_space": False}, f"add_prefix_space must be true, found false. {CONVERT}"),
        ("tokenizer_config", {"do_lower_case": 1}, f"do_lower_case must be true or false, found 1. {FETCH}"),
        ("tokenizer_config", [1], f"must be a mapping, found [1]. {FETCH}"),
        ("tokenizer_config", {"cls_token": ["\x1b"]}, rf"cls_token must be a token, found ['\x1b']. {FETCH}"),
        ("tokenizer_config", {"cls_token": "[cls]"}, "spm.model: has no '[cls]' among 160 pieces."),
        (
            "tokenizer_config",
            {"added_tokens_decoder": {"x": "a"}},
            "added_tokens_decoder must be a mapping of ids to tokens, found {'x': 'a'}.",
        ),
        (
            "tokenizer_config",
            {"added_tokens_decoder": {"161": {"content": "[MASK]"}}},
            f"'[MASK]' must have the id 160 with this model, found 161. {FETCH}",
        ),
        ("added_tokens", {"[SEP]": 160}, f"'[SEP]' must have the id 2 with this model, found 160. {FETCH}"),
        ("added_tokens", {"[MASK]": "160"}, "must map at most 10,000 tokens to their ids, found {'[MASK]': '160'}."),
        ("added_tokens", [], "must map at most 10,000 tokens to their ids, found []."),
        (
            "special_tokens_map",
            {"additional_special_tokens": ["a", ""]},
            "additional_special_tokens must be a list of at most 10,000 tokens, found ['a', ''].",
        ),
    ],
)
def test_wrong_settings_are_one_line(name: str, value: object, said: str, tmp_path: Path):
    toy_spm.folder(tmp_path, trained(), **{name: value})
    refused(ValueError, tmp_path, f"{tmp_path}/", said, load=load_tokenizer)


def test_the_family_of_a_bpe_model_file_is_named_by_its_config(tmp_path: Path):
    toy_spm.folder(tmp_path, trained("xlm-r"), "xlm-r", config={"model_type": "mbart"})
    said = "model_type must be xlm-roberta or camembert beside sentencepiece.bpe.model, found 'mbart'."
    refused(ValueError, tmp_path, f"{tmp_path}/config.json: {said} {CONVERT}", load=load_tokenizer)
    (tmp_path / "config.json").unlink()
    refused(FileNotFoundError, tmp_path, f"{tmp_path}/config.json: not there. {FETCH}", load=load_tokenizer)
    toy_spm.folder(tmp_path, trained(), "xlm-r")
    said = "must begin with the pieces <unk>, <s>, </s>, found '[PAD]', '[CLS]', '[SEP]'."
    refused(ValueError, tmp_path, f"{tmp_path}/sentencepiece.bpe.model: {said} {FETCH}", load=load_tokenizer)
    toy_spm.folder(tmp_path, trained("xlm-r", user_defined_symbols=("<mask>",)), "xlm-r")
    said = "must not have the piece '<mask>', which stands for a token."
    refused(ValueError, tmp_path, f"{tmp_path}/sentencepiece.bpe.model: {said} {FETCH}", load=load_tokenizer)


# Added tokens ------------------------------------------------------------------------------------------------

ADDED: dict[str, dict[str, Any]] = {
    "none": {},
    "added_tokens.json": {"added_tokens": {"[MASK]": 160, "[new]": 161, "Ente": 162}},
    "special_tokens_map.json": {
        "special_tokens_map": {
            "mask_token": {"content": "[MASK]", "lstrip": True, "rstrip": False, "normalized": True},
            "additional_special_tokens": ["[A]", "[B]"],
        },
        "added_tokens": {"[B]": 160, "[MASK]": 161, "[A]": 162},
    },
    "special_tokens_map.json alone": {
        "special_tokens_map": {"mask_token": "[M]", "extra_special_tokens": ["[A]", "[x]"]},
    },
    "tokenizer_config.json": {
        "tokenizer_config": {
            "mask_token": "[MASK]",
            "added_tokens_decoder": {
                "161": {"content": "[x]", "lstrip": False, "rstrip": True, "normalized": False, "special": False},
                "160": {"content": "[MASK]", "lstrip": True, "rstrip": False, "normalized": False, "special": True},
                "0": {"content": "[PAD]", "lstrip": False, "rstrip": False, "normalized": False, "special": True},
            },
            "extra_special_tokens": ["[extra]"],
        },
        "added_tokens": {"not read": 7},
    },
}


@pytest.mark.parametrize("kind", ADDED)
def test_added_tokens_have_the_ids_that_transformers_gives_them(kind: str, tmp_path: Path):
    ours = load_tokenizer(toy_spm.folder(tmp_path, trained(), **ADDED[kind]))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours.get_vocab() == theirs.get_vocab()
    # Before a token that is not special, transformers keeps a space. SentencePiece has none at the end of a text.
    texts = ["ka[MASK] to", "[new]ka[B][A] to", "EntemiEnte", "[x] mi[extra]", "ka [mask] [SEP]", "[MASK]"]
    assert [ours.encode(text).ids for text in texts] == theirs(texts)["input_ids"]
    assert ours.token_to_id("[M]" if kind.endswith("alone") else "[MASK]") >= 160


FILES = {
    "tokenizer_config": ADDED["tokenizer_config.json"]["tokenizer_config"],
    "special_tokens_map": ADDED["special_tokens_map.json"]["special_tokens_map"],
    "added_tokens": {"[MASK]": 98, "[new]": 99},
}


@pytest.mark.parametrize("name", FILES)
def test_any_json_beside_a_model_loads_or_is_one_line(name: str, tmp_path: Path):
    @fuzzed
    @given(mutated(FILES[name], ("cls_token", "added_tokens_decoder", "do_lower_case")))
    def check(value: object) -> None:
        toy_spm.folder(tmp_path, SMALL, **{name: value})
        outcome(tmp_path, (f"{name}.json", "spm.model", "added_tokens.json"), lambda: load_tokenizer(tmp_path))

    check()


# Model folders and exports -----------------------------------------------------------------------------------


def tokenizer_of(kind: str, path: Path) -> Tokenizer:
    path.mkdir()
    return load_tokenizer(test_tokenizer.FOLDERS[kind](path) if kind in test_tokenizer.FOLDERS else FOLDERS[kind](path))


FOLDERS = {
    "deberta-v2": lambda path: toy_spm.folder(path, SMALL),
    "xlm-roberta": lambda path: toy_spm.folder(path, trained("xlm-r"), "xlm-r"),
}
TYPES = {"deberta-v2": "deberta-v2", "xlm-roberta": "xlm-roberta", "byte level with a space": "roberta"}


@pytest.mark.parametrize("kind", [*FOLDERS, "cased", "lower, accents kept", "byte level with a space"])
def test_transformers_makes_our_tokens_from_a_model_folder(kind: str, tmp_path: Path):
    ours = tokenizer_of(kind, tmp_path / "encoder")
    model = toy_stock.predictor("bert", toy_stock.task("ordinal")).model
    (tmp_path / "model").mkdir()
    save_model(model, ours, tmp_path / "model")
    (tmp_path / "model/config.json").write_text(f'{{"model_type": "{TYPES.get(kind, "bert")}"}}')
    again, theirs = load_tokenizer(tmp_path / "model"), transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    texts = [*toy_spm.odd_texts(200), *test_tokenizer.TEXTS, "ka [SEP] to<mask>mi [MASK] <s>"]
    assert [again.encode(text).ids for text in texts] == [ours.encode(text).ids for text in texts]
    assert theirs(texts)["input_ids"] == [ours.encode(text).ids for text in texts]
    pairs = list(zip(texts[1:], texts, strict=False))
    expected = [ours.encode(*pair) for pair in pairs]
    assert theirs(*map(list, zip(*pairs, strict=True)))["input_ids"] == [each.ids for each in expected]
    assert theirs.model_max_length == toy_stock.LONGEST
    assert theirs.pad_token in ("[PAD]", "<pad>")
    assert theirs.mask_token in ("[MASK]", "<mask>")


def test_the_tokens_before_and_behind_a_text_have_their_roles_whatever_their_names_are():
    vocab = {token: i for i, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "ka"])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.add_special_tokens([*vocab][:-1])
    config = toy_stock.encoder("bert").config

    def found() -> dict[str, str]:
        settings = tokenizer_settings(tokenizer, config, 9, segments=True)
        return {key: name for key, name in settings.items() if key in ("cls_token", "sep_token", "mask_token")}

    assert found() == {"mask_token": "<mask>"}
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    assert found() == {"mask_token": "<mask>"}
    ends = [("<bos>", 2), ("<eos>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    assert found() == {"cls_token": "<bos>", "sep_token": "<eos>", "mask_token": "<mask>"}


TEXTS = [" ".join(SYLLABLES[i : i + 9]) + f" ka\u0301{i}, 漢か字 ½!" for i in range(0, len(SYLLABLES), 3)]


@pytest.mark.parametrize("kind", ["words", "pairs"])
def test_an_export_to_transformers_answers_as_mtbert_does(kind: str, tmp_path: Path):
    made, asked = _predictor(kind, tmp_path)
    (tmp_path / "out").mkdir()
    answering = EXPORTERS["transformers"].write(Wanted(made, ["t"]), tmp_path / "out")["t"]
    assert compare(made.model, made.read("t", asked), answering).largest < 1e-6


@pytest.mark.parametrize("kind", ["words", "pairs"])
def test_the_tokenizer_beside_a_graph_makes_our_tokens(kind: str, tmp_path: Path):
    made, asked = _predictor(kind, tmp_path)
    tokens = made.read("t", asked).sequences[0]
    there = Tokenizer.from_str(cutting_and_padding(made.tokenizer, made.model).to_str())
    encodings = there.encode_batch(asked)
    found = [[i for i, kept in zip(each.ids, each.attention_mask, strict=True) if kept] for each in encodings]
    assert [i for ids in found for i in ids] == tokens.ids.tolist()
    assert max(map(len, found)) == made.model.max_length
    if kind == "words":
        assert tokens.words is not None
        firsts = [first_tokens(each, split(text).tolist()) for each, text in zip(encodings, asked, strict=True)]
        assert firsts == [tokens.words[i].tolist() for i in range(len(asked))]


def _predictor(kind: str, path: Path) -> tuple[Predictor, list[Any]]:
    """Returns a predictor with a tokenizer from a SentencePiece model, and texts or pairs for its task."""
    task = toy_stock.TAGS if kind == "words" else toy_stock.task("ordinal", "native", "packed")
    made = replace(toy_stock.predictor("bert", task), tokenizer=tokenizer_of("deberta-v2", path / "encoder"))
    assert made.tokenizer.get_vocab_size() <= made.model.encoder.config.vocab_size
    return made, TEXTS if kind == "words" else list(zip(TEXTS, TEXTS[::-1], strict=True))


def test_a_trained_model_keeps_its_tokens(tmp_path: Path):
    made = toy_stock.predictor("bert", toy_stock.task("ordinal"))
    ours = tokenizer_of("deberta-v2", tmp_path / "encoder")
    (tmp_path / "model").mkdir()
    save_model(made.model, ours, tmp_path / "model")
    again = load_model(tmp_path / "model").tokenizer
    assert [again.encode(text).ids for text in TEXTS] == [ours.encode(text).ids for text in TEXTS]
