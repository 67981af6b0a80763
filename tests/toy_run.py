"""A complete toy set-up on disk: a two-layer encoder, three tasks with a few generated rows, and a recipe."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer

from mtbert.model.config import read_config
from mtbert.model.encoder import Encoder
from mtbert.model.weights import save_encoder
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.yaml_files import merge

WORDS = "a the dog cat film plot is was not very good bad fine dull runs sleeps eats barks old new how why do".split()


def encoder_folder(folder: Path, **keys: Any) -> Path:
    """Writes a random encoder of width 16 (BERT unless ``keys`` change its config), and returns its folder."""
    folder.mkdir(parents=True)
    special = {"mpnet": ["<pad>", "[UNK]", "<s>", "</s>", "<mask>"]}
    vocab = [*special.get(keys.get("model_type", ""), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]), *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n")
    shape = {
        "model_type": "bert",
        "vocab_size": len(vocab),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
    }
    (folder / "config.json").write_text(json.dumps(shape | keys))
    encoder = Encoder(read_config(folder / "config.json"))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in encoder.named_parameters():
        torch.nn.init.normal_(
            parameter, mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.1, generator=generator
        )
    save_encoder(encoder, folder)
    return folder


def data_folder(folder: Path) -> Path:
    """Writes sst.csv (5 classes), quora.csv (duplicate or not) and sts.csv (0 to 5), 40 to 60 rows each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def text() -> str:
        return " ".join(rng.choice(WORDS, rng.integers(2, 9)))

    def write(name: str, header: str, rows: list[tuple[object, ...]]) -> None:
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (folder / name).write_text("\n".join(lines) + "\n")

    write("sst.csv", "id,sentence,sentiment", [(f"s{i}", text(), i % 5) for i in range(40)])
    write("quora.csv", "id,sentence1,sentence2,is_duplicate", [(f"q{i}", text(), text(), i % 2) for i in range(60)])
    write("sts.csv", "id,sentence1,sentence2,similarity", [(f"t{i}", text(), text(), i % 11 / 2) for i in range(44)])
    return folder


def raw_recipe(folder: Path, **train: Any) -> dict[str, Any]:
    """Returns the recipe for :func:`encoder_folder` and :func:`data_folder`; ``train`` changes its train settings."""
    pair = {"inputs": "packed", "batch_size": 5, "columns": {"id": "id", "text": ["sentence1", "sentence2"]}}
    return {
        "data": {"root": str(folder / "data")},
        "model": {"path": str(folder / "encoder"), "max_length": 24},
        "tasks": {
            "sst": {
                "type": "ordinal",
                "inputs": "single",
                "train": "sst.csv",
                "columns": {"id": "id", "text": "sentence", "label": "sentiment"},
                "losses": ["ce", "oll"],
                "batch_size": 4,
            },
            "quora": pair
            | {"type": "binary", "head": "mlp", "train": "quora.csv"}
            | {"columns": pair["columns"] | {"label": "is_duplicate"}},
            "sts": pair
            | {"type": "regression", "train": "sts.csv", "dev": "sts.csv"}
            | {"columns": pair["columns"] | {"label": "similarity"}},
        },
        "train": {"epochs": 2, "lr": 1e-3, "threads": 1, "precision": "fp32"} | train,
    }


def set_up(folder: Path, **train: Any) -> Path:
    """Writes an encoder, data and a recipe into ``folder``, and returns the path of the recipe."""
    encoder_folder(folder / "encoder")
    data_folder(folder / "data")
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(raw_recipe(folder, **train), sort_keys=False))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the complete set-up, for one test."""
    set_up(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the complete set-up, for all tests of a file."""
    folder = tmp_path_factory.mktemp("toy")
    set_up(folder)
    return folder


def build(folder: Path, change: dict[str, Any] | None = None, **train: Any) -> tuple[Run, Tokenizer]:
    """Returns a run of :func:`raw_recipe`, changed by ``change``, before its first step, and its tokenizer."""
    settings = validate_recipe(merge(raw_recipe(folder, **train), change or {}), "toy")
    made = assemble(settings)
    return made.run(), made.tokenizer
