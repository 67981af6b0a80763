"""With random JSON in any file of a model folder, loading succeeds or raises one line that names the file.

``MTBERT_FUZZ=10000 pytest tests/test_fuzz_models.py`` tries more.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import toy_run
from any_json import fuzzed, mutated, outcome
from hypothesis import given
from tiny import hf_folder, hf_model

from mtbert.data.tokenizer import load_tokenizer, sequences
from mtbert.model.families.known import FAMILIES
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.model.weights import load_encoder, save_encoder
from mtbert.storage.model_folder import load_model, save_model
from mtbert.task import Head, Task


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Encoder folders of all families, one more in shards, and the model folder of a run."""
    root = tmp_path_factory.mktemp("fuzz")
    found = {kind: hf_folder(kind, root / kind) for kind in FAMILIES}
    hf_model("bert").save_pretrained(root / "shards", max_shard_size="30KB")
    encoder = toy_run.encoder_folder(root / "encoder")
    tasks = {
        "sst": Task(name="sst", type="ordinal", inputs="single", head=Head(kind="mlp"), labels=("a", "b", "c")),
        "twins": Task(name="twins", type="binary", inputs="separate", head=Head(kind="cosine"), labels=("no", "yes")),
        "sts": Task(name="sts", type="regression", inputs="packed", range=(0.0, 5.0)),
    }
    model = Model(
        load_encoder(str(encoder)).encoder, tasks, pooling="mean", max_length=20, seed=0, adapters=Pal(width=4, heads=2)
    )
    (root / "model").mkdir()
    save_model(model, load_tokenizer(encoder), root / "model")
    return found | {"shards": root / "shards", "model": root / "model", "encoder": encoder}


def altered(folder: Path, name: str, value: Any, to: Path) -> Path:
    """Returns a copy of ``folder`` with ``value`` in the file ``name``. The copy replaces any older copy."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).symlink_to(file)
    (to / name).unlink(missing_ok=True)
    (to / name).write_text(json.dumps(value))
    return to


@pytest.mark.parametrize("kind", FAMILIES)
def test_any_config_of_an_encoder_loads_or_is_one_line(kind, folders, tmp_path):
    original = json.loads((folders[kind] / "config.json").read_text())
    keys = (
        "embedding_size",
        "rope_theta",
        "n_head",
        "pad_token_id",
        "activation",
        "dim",
        "n_layers",
        "position_embedding_type",
        "is_decoder",
    )

    @fuzzed
    @given(mutated(original, keys))
    def check(value: Any) -> None:
        folder = altered(folders[kind], "config.json", value, tmp_path / "copy")

        def use() -> None:
            save_encoder(load_encoder(str(folder)).encoder, tmp_path / "saved")
            load_encoder(str(tmp_path / "saved"))

        outcome(tmp_path, ("copy/config.json", "copy: "), use)

    check()


def test_any_index_of_shards_loads_or_is_one_line(folders, tmp_path):
    name = "model.safetensors.index.json"
    original = json.loads((folders["shards"] / name).read_text())

    @fuzzed
    @given(mutated(original, ("weight_map",)))
    def check(value: Any) -> None:
        folder = altered(folders["shards"], name, value, tmp_path / "copy")
        outcome(folder, (name, "", "model-"), lambda: load_encoder(str(folder)))

    check()


def test_any_options_of_a_tokenizer_load_or_are_one_line(folders, tmp_path):
    original = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "add_prefix_space": False}

    @fuzzed
    @given(mutated(original))
    def check(value: Any) -> None:
        folder = altered(folders["encoder"], "tokenizer_config.json", value, tmp_path / "copy")
        outcome(folder, ("tokenizer_config.json",), lambda: load_tokenizer(folder))

    check()


def test_any_card_of_a_model_loads_or_is_one_line(folders, tmp_path):
    original = json.loads((folders["model"] / "mtbert.json").read_text())

    @fuzzed
    @given(mutated(original))
    def check(value: Any) -> None:
        folder = altered(folders["model"], "mtbert.json", value, tmp_path / "copy")
        outcome(folder, ("mtbert.json", "heads.safetensors", "adapters.safetensors"), lambda: load_model(folder))

    check()


def pieces() -> dict[str, Any]:
    """Returns tokenizers with every kind of component that encoders use, by name."""
    bert = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [
            {"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False}
            | {"normalized": False, "special": True}
            for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        | {"strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s"])},
        },
    }
    roberta = bert | {
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
        | {"trim_offsets": True, "add_prefix_space": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "t", "h", "th"])},
            "merges": [["t", "h"]],
        },
    }
    xlm = bert | {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFKC"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
                {"type": "Strip", "strip_left": True, "strip_right": True},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                {"type": "Split", "pattern": {"Regex": "(\\d+)"}, "behavior": "Isolated", "invert": False},
                {"type": "Punctuation", "behavior": "Isolated"},
                {"type": "Digits", "individual_digits": False},
            ],
        },
        "model": {
            "type": "Unigram",
            "unk_id": 1,
            "vocab": [
                [word, -1.0 * i] for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁the", "t", "▁"])
            ],
            "byte_fallback": False,
        },
    }
    return {"bert": bert, "roberta": roberta, "xlm": xlm}


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm"])
def test_any_tokenizer_loads_or_is_one_line(kind, tmp_path):
    original = pieces()[kind]
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(original))
    load_tokenizer(tmp_path)

    @fuzzed
    @given(mutated(original))
    def check(value: Any) -> None:
        file.write_text(json.dumps(value))

        def use() -> None:
            tokenizer = load_tokenizer(tmp_path)
            if max(tokenizer.num_special_tokens_to_add(pair) for pair in (False, True)) < 20:
                found, _ = sequences(tokenizer, [("the cats", "a 12  x"), ("🙂\x07",), ("\u200b",)], 20, segments=True)
                assert len(found) == 3
                assert found.lengths.min() > 0
                assert found.lengths.max() <= 20

        outcome(tmp_path, ("tokenizer.json",), use)

    check()
