"""Tiny models of every family with a tokenizer, exported for stock libraries and compared."""

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tiny
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mtbert.batch import Dataset
from mtbert.model.encoder import Encoder
from mtbert.model.model import Model
from mtbert.model.weights import load_encoder
from mtbert.task import Task
from mtbert.use.export import Compared, Exporter, Wanted
from mtbert.use.export.check import compare
from mtbert.use.predictor import Predictor

FAMILIES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "electra",
    "distilbert",
    "modernbert",
    "mpnet",
    "deberta-v2",
    "nomic_bert",
    "gte",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST = 20  # tokens of a sequence

CLASSES = ("bad", "so so", "good")
TYPES: Mapping[str, Mapping[str, Any]] = {
    "classification": {"labels": CLASSES},
    "ordinal": {"labels": CLASSES},
    "binary": {"labels": ("no", "yes")},
    "multilabel": {"labels": CLASSES},
    "regression": {"range": (1.0, 5.0)},
}


def task(type_: str, head: str = "linear", inputs: str = "single", **changes: Any) -> Task:
    """Returns a task called ``t``."""
    return Task.model_validate(
        {"name": "t", "type": type_, "head": head, "inputs": inputs, **TYPES.get(type_, {}), **changes}
    )


TAGS = task("tokens", labels=("O", "B-X", "I-X"))


def tokenizer(kind: str) -> Tokenizer:
    """Returns a tokenizer of words and letters, with the special tokens and the template for pairs of the family."""
    roberta = "roberta" in kind or kind in ("camembert", "mpnet")
    first, pad, last, unknown, mask = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    special = [first, pad, last, unknown, mask]
    if not roberta:
        special = [pad, unknown, first, last, mask] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {piece: i for i, piece in enumerate([*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *".,!?"])}
    made = Tokenizer(models.WordPiece(vocab, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(special)
    middle = f"{last}:0 {last}:0 $B:0 {last}:0" if roberta else f"{last}:0 $B:1 {last}:1"
    made.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {middle}",
        special_tokens=[(first, vocab[first]), (last, vocab[last])],
    )
    return made


def bytes_tokenizer() -> Tokenizer:
    """Returns a tokenizer of bytes, like that of RoBERTa. It keeps white space and capital letters."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = [*special, "Ġ", *LETTERS, *LETTERS.upper(), *".,!?", "Ġa", "th", "the"]
    merges = [("Ġ", "a"), ("t", "h"), ("th", "e")]
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(special)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made


@cache
def encoder(kind: str) -> Encoder:
    """Returns an encoder of the family with random weights."""
    with TemporaryDirectory() as folder:
        made = load_encoder(str(tiny.hf_folder(kind, Path(folder)))).encoder
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(0.4 if parameter.dim() == 2 else 1.0)  # so that answers are not all 0 or 1
    return made


def predictor(kind: str, *tasks: Task, **changes: Any) -> Predictor:
    """Returns a predictor with random weights and biases in its heads. ``changes`` are arguments of :class:`Model`."""
    settings = {"pooling": "cls", "max_length": LONGEST, "seed": 0} | changes
    model = Model(copy.deepcopy(encoder(kind)), {one.name: one for one in tasks}, **settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return Predictor(model, tokenizer(kind))


def texts(number: int, words: int = 14, seed: int = 0) -> list[str]:
    """Returns texts of random words; some have more tokens than a sequence can have."""
    rng = np.random.default_rng(seed)
    return [
        " ".join("".join(rng.choice([*LETTERS], rng.integers(1, 5))) for _ in range(rng.integers(1, words))) + "?"
        for _ in range(number)
    ]


def rows(asked: Task, number: int = 12) -> Sequence[Any]:
    """Returns texts, pairs, or queries with three candidates, as ``asked`` reads them."""
    columns = [texts(number, seed=seed) for seed in range({1: 1, 2: 2, None: 4}[asked.texts])]
    return columns[0] if asked.texts == 1 else list(zip(*columns, strict=True))


def exported(exporter: Exporter, made: Predictor, folder: Path, number: int = 12) -> dict[str, Compared]:
    """Exports all tasks of a model into ``folder``, and returns for each the comparison of its answers."""
    asked = exporter.write(Wanted(made, list(made.tasks)), folder)
    return {name: compare(made.model, _data(made, name, number), answering) for name, answering in asked.items()}


def set_fitted(made: Predictor, **numbers: Any) -> Predictor:
    """Sets fitted numbers of the task ``t``, and returns the predictor."""
    for name, number in numbers.items():
        made.model.fitted("t")[name].copy_(torch.tensor(number))
    return made


def retop(made: Predictor) -> Predictor:
    """Changes the weights of the tasks' own top layers, so that they differ from the encoder's. Returns ``made``."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in made.model.tops.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def _data(made: Predictor, name: str, number: int) -> Dataset:
    return made.read(name, rows(made.tasks[name], number))
