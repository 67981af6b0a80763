"""Writes the run beside this file anew; it needs the sources of commit b56629d, see README.md."""

import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from mtbert import checkpoint, evaluate
from mtbert.batch import Example
from mtbert.cli import main
from mtbert.model.encoder import Encoder
from mtbert.model.weights import read_config, save_encoder
from mtbert.prepare import tokenize

HERE = Path(__file__).parent
WORK = Path("/tmp/toy")  # it stands in recipe.yaml
WORDS = "a the dog cat film plot is was not very good bad fine dull runs sleeps".split()
TEXTS = {
    "topic": [["the dog runs"], ["a very dull film is not good"], ["the plot was unheard of"]],
    "same": [["the cat sleeps", "a cat was fine"], ["dull", "the dog"], ["bad", "bad"]],
    "likeness": [["the film was dull", "a dull film"], ["a dog", "the cat sleeps very fine"], ["good", "good"]],
}


def write_encoder(folder: Path) -> None:
    """A random BERT of two layers and width 8."""
    folder.mkdir(parents=True)
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n")
    shape = {"vocab_size": len(vocab), "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"model_type": "bert", "intermediate_size": 16, "max_position_embeddings": 24}
    (folder / "config.json").write_text(json.dumps(shape))
    encoder = Encoder(read_config(folder / "config.json"))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in encoder.named_parameters():
        mean, std = (1.0, 0.1) if name.endswith("norm.weight") else (0.0, 0.7 if parameter.ndim > 1 else 0.1)
        torch.nn.init.normal_(parameter, mean=mean, std=std, generator=generator)
    save_encoder(encoder, folder)


def write_data(folder: Path) -> None:
    """Three files of random words."""
    folder.mkdir()
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(2, 7)))

    topics = ["animal", "film", "other"]
    for name, header, rows in (
        ("topic.csv", "text,label", [(text(), topics[i % 3]) for i in range(24)]),
        ("same.csv", "one,other,label", [(text(), text(), ["no", "yes"][i % 2]) for i in range(24)]),
        ("likeness.csv", "one,other,label", [(text(), text(), i % 11 / 2) for i in range(24)]),
    ):
        (folder / name).write_text("".join(",".join(map(str, row)) + "\n" for row in [header.split(","), *rows]))


def recipe() -> dict[str, object]:
    """Three tasks with an adapter each: classes, yes or no by a cosine, and a score."""
    common = {"batch_size": 4, "dev_fraction": 0.25}
    pair = common | {"columns": {"text": ["one", "other"], "label": "label"}}
    return {
        "data": {"root": str(WORK / "data")},
        "model": {"path": str(WORK / "encoder"), "max_length": 16, "pal": {"width": 4, "heads": 2}},
        "tasks": {
            "topic": common
            | {"type": "classification", "inputs": "single", "train": "topic.csv"}
            | {"columns": {"text": "text", "label": "label"}, "labels": ["animal", "film", "other"]},
            "same": pair
            | {"type": "binary", "inputs": "separate", "train": "same.csv", "labels": ["no", "yes"]}
            | {"head": "cosine", "losses": ["cosent"]},
            "likeness": pair | {"type": "regression", "inputs": "packed", "train": "likeness.csv", "range": [0, 5]},
        },
        "train": {"rounds": 4, "epochs": 2, "lr": 0.03, "threads": 1, "precision": "fp32", "device": "cpu"},
    }


def write_expected(run: Path, file: Path) -> None:
    """The raw answers of the best model to :data:`TEXTS`, and the SHA-256 of each of its tensors."""
    model, tokenizer = checkpoint.load_model(run)
    raw = {}
    for name, texts in TEXTS.items():
        examples = [Example(str(i), tuple(given), None) for i, given in enumerate(texts)]
        data = tokenize(model.tasks[name], examples, tokenizer, model.max_length)
        raw[name] = evaluate.predict(model, data).tolist()
    tensors = {
        name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for part in ("model", "heads", "adapters")
        for name, tensor in load_file(run / f"best/{part}.safetensors").items()
    }
    file.write_text(json.dumps({"texts": TEXTS, "raw": raw, "tensors": tensors}, indent=2) + "\n")


if __name__ == "__main__":
    for folder in (WORK, HERE / "data", HERE / "run"):
        shutil.rmtree(folder, ignore_errors=True)
    write_encoder(WORK / "encoder")
    write_data(WORK / "data")
    (WORK / "toy.yaml").write_text(yaml.safe_dump(recipe(), sort_keys=False))
    sys.argv = ["mtbert", "train", str(WORK / "toy.yaml"), "--out", str(WORK / "run")]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    (WORK / "run/lock").unlink(missing_ok=True)
    for name in ("data", "run"):
        shutil.copytree(WORK / name, HERE / name)
    write_expected(HERE / "run", HERE / "expected.json")
    shutil.rmtree(WORK)
