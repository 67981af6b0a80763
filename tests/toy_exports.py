"""Tiny trained models with tasks of every type, and the folders that they are exported to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mtbert.answers.fitting import FittedName
from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.model.families import (
    bert,
    deberta_v2,
    distilbert,
    electra,
    gte,
    modernbert,
    mpnet,
    nomic_bert,
    roberta,
)
from mtbert.model.model import Model
from mtbert.task import Head, Task
from mtbert.use.export import OptionName, Wanted
from mtbert.use.export.card import write_about
from mtbert.use.export.known import EXPORTERS
from mtbert.use.predictor import Predictor

WORDS = "a the dog cat film plot is was not very good bad fine dull runs sleeps eats barks old new how why do".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_LENGTH = 16
BERT = bert.BertConfig(
    vocab_size=64,
    max_position_embeddings=MAX_LENGTH + 2,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
)
_OF_BERT = BERT.model_dump()
DEBERTA = {
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 8,
    "position_biased_input": False,
}
ENCODERS: Mapping[str, EncoderConfig] = {
    "bert": bert.encoder(BERT),
    "roberta": roberta.encoder(roberta.RobertaConfig(**_OF_BERT | {"type_vocab_size": 1})),
    "gte": gte.encoder(gte.GteConfig(**_OF_BERT | {"position_embedding_type": "rope"})),
    "nomic_bert": nomic_bert.encoder(nomic_bert.NomicBertConfig(**_OF_BERT)),
    "mpnet": mpnet.encoder(mpnet.MpnetConfig(**_OF_BERT)),
    "deberta-v2": deberta_v2.encoder(deberta_v2.DebertaConfig(**_OF_BERT | DEBERTA)),
    "electra": electra.encoder(electra.ElectraConfig(**_OF_BERT, embedding_size=4)),
    "distilbert": distilbert.encoder(
        distilbert.DistilBertConfig(
            vocab_size=64, max_position_embeddings=18, dim=8, n_layers=1, n_heads=2, hidden_dim=16
        )
    ),
    "modernbert": modernbert.encoder(
        modernbert.ModernBertConfig(
            **{key: size for key, size in _OF_BERT.items() if key in modernbert.ModernBertConfig.model_fields},
            local_attention=6,
            layer_types=("sliding_attention",),
        )
    ),
}


def tokenizer() -> Tokenizer:
    """Returns a word-piece tokenizer. It divides some words into two pieces, and does not know others."""
    vocab = {token: i for i, token in enumerate([*SPECIAL, *WORDS, "##s", "##y", "##t", "."])}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def task(name: str, type_: str = "classification", inputs: str = "single", **changes: Any) -> Task:
    """Returns a task with the labels or the range that its type needs."""
    labels = {"binary": ("no", "yes"), "regression": None, "ranking": None}.get(type_, ("a", "b", "c"))
    limits = (1.0, 5.0) if type_ == "regression" else None
    return Task.model_validate(
        {"name": name, "type": type_, "inputs": inputs, "labels": labels, "range": limits} | changes
    )


COSINE, MLP, NATIVE = Head(kind="cosine"), Head(kind="mlp"), Head(kind="native")
BIO = ("O", "B-x", "I-x", "B-y", "I-y")
# A task of every type with each kind of head, and the numbers that are fitted for it.
TASKS: Mapping[str, tuple[Task, tuple[FittedName, ...]]] = {
    one.name: (one, fitted)
    for one, fitted in [
        (task("classes"), ()),
        (task("hot", head=MLP, pooling="mean"), ("scale",)),
        (task("own", head=NATIVE), ("scale",)),
        (task("order", "ordinal", pooling="mean"), ()),
        (task("yes", "binary"), ()),
        (task("platt", "binary", head=MLP), ("scale", "bias")),
        (task("steps", "binary", pooling="mean"), ("knots",)),
        (task("score", "regression", head=MLP), ()),
        (task("sets", "multilabel"), ("threshold", "scale")),
        (task("entities", "tokens", labels=BIO, splitter="unicode"), ()),
        (task("tags", "tokens", splitter="unicode", head=MLP), ()),
        (task("joined", "tokens", splitter="unicode-joined"), ()),
        (task("pair", "classification", "packed"), ()),
        (task("same", "binary", "packed", pooling="mean"), ("knots",)),
        (task("plain", "regression", "packed", segments=False), ()),
        (task("two", "classification", "separate", pooling="cls"), ("scale",)),
        (task("near", "regression", "separate", head=COSINE), ()),
        (task("equal", "binary", "separate", head=COSINE), ("threshold",)),
        (task("search", "ranking", "separate", head=COSINE), ()),
    ]
}
TEXTS = [
    "the good film",
    "Dogs sleep, cats eat.",
    "bad",
    " a very old plot is not dull \u00b7 why do the new dogs run and run and run ",
    "good-bad? xyz",
    "how  how",
    "the dog. the cat.",
]


def model(kind: str = "bert", tasks: Sequence[str] = tuple(TASKS), *, layers: int = 1, **changes: Any) -> Model:
    """Returns a model with large random weights and fitted numbers that change its answers."""
    chosen = {name: TASKS[name][0] for name in tasks}
    fitted = {name: TASKS[name][1] for name in tasks}
    made = Model(
        Encoder(replace(ENCODERS[kind], layers=layers)),
        chosen,
        pooling="cls",
        max_length=MAX_LENGTH,
        seed=0,
        fitted=fitted,
        **changes,
    )
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.named_parameters():
        mean = 1.0 if name.endswith("norm.weight") else 0.0
        torch.nn.init.normal_(parameter, mean=mean, std=0.4, generator=generator)
    knots_Q = np.linspace(-2.0, 2.0, 256)
    values = {
        "threshold": 0.3,
        "scale": 1.7,
        "bias": -0.4,
        "knots": np.stack([knots_Q, 0.1 + 0.8 / (1 + np.exp(-3 * knots_Q))]),
    }
    for name in chosen:
        for key, number in made.fitted(name).items():
            number.copy_(torch.as_tensor(values[key]).expand(number.shape))
    return made


def predictor(*arguments: Any, **changes: Any) -> Predictor:
    """Returns a predictor with the model that :func:`model` makes, and a tokenizer."""
    return Predictor(model(*arguments, **changes), tokenizer())


def rows_of(of: Task) -> list[Any]:
    """Returns texts, pairs of texts, or queries with three candidates."""
    if of.texts == 1:
        return list(TEXTS)
    shifted = [[*TEXTS[i:], *TEXTS[:i]] for i in range(4 if of.texts is None else 2)]
    return list(zip(*shifted, strict=True))


def export_onnx(made: Predictor, folder: Path, *options: OptionName) -> Wanted:
    """Writes all tasks of a predictor into ``folder`` as ONNX graphs, and returns the request."""
    wanted = Wanted(replace(made), list(made.tasks), frozenset(options))
    folder.mkdir(parents=True, exist_ok=True)
    EXPORTERS["onnx"].write(wanted, folder)
    write_about(EXPORTERS["onnx"], wanted, {}, folder)
    return wanted
