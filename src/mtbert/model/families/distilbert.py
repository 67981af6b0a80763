"""DistilBERT: BERT without segment embeddings, without a pooler, and without dropout after the attention.

Source: Sanh et al., "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019.
"""

import torch

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import ActivationName, Config, Family, activation, bert, dropout_rate, whole_number
from mtbert.model.layer import EncoderLayer
from mtbert.model.native import NativeHead


class DistilBertConfig(Config):
    """The keys that are read from the ``config.json`` of a DistilBERT model.

    Most of these keys have names that differ from those in BERT's ``config.json``.
    """

    dim: int = whole_number(2**14)
    n_layers: int = whole_number(2**8)
    n_heads: int = whole_number(2**10)
    hidden_dim: int = whole_number(2**17)
    activation: ActivationName = activation()
    dropout: float = dropout_rate()
    attention_dropout: float = dropout_rate()


def encoder(c: DistilBertConfig) -> EncoderConfig:
    """Returns the architecture of a DistilBERT encoder from the keys of its ``config.json``."""
    return EncoderConfig(
        family="distilbert",
        layer=layer,
        vocab_size=c.vocab_size,
        width=c.dim,
        embedding_width=c.dim,
        layers=c.n_layers,
        heads=c.n_heads,
        intermediate=c.hidden_dim,
        activation=c.activation,
        layer_norm_eps=1e-12,
        max_length=c.max_position_embeddings,
        position_offset=0,
        segment_types=0,
        pooler=False,
        hidden_dropout=c.dropout,
        attention_dropout=c.attention_dropout,
        native=NativeHead(names=("pre_classifier", "classifier"), activation=torch.relu, drops_input=False),
    )


def layer(c: EncoderConfig, index: int) -> EncoderLayer:
    """Returns a new DistilBERT layer: a BERT layer without dropout after the attention."""
    made = bert.layer(c, index)
    made.attention_output_dropout = 0.0
    return made


DISTILBERT = Family(
    name="distilbert",
    types={"distilbert": "DistilBertModel"},
    config=DistilBertConfig,
    encoder=encoder,
    prefixes=("distilbert.",),
    names={
        "word_embedding": ("embeddings.word_embeddings",),
        "position_embedding": ("embeddings.position_embeddings",),
        "embedding_norm": ("embeddings.LayerNorm",),
        "layers.{}.qkv": tuple(f"transformer.layer.{{}}.attention.{part}_lin" for part in "qkv"),
        "layers.{}.attention_output": ("transformer.layer.{}.attention.out_lin",),
        "layers.{}.attention_norm": ("transformer.layer.{}.sa_layer_norm",),
        "layers.{}.intermediate": ("transformer.layer.{}.ffn.lin1",),
        "layers.{}.output": ("transformer.layer.{}.ffn.lin2",),
        "layers.{}.output_norm": ("transformer.layer.{}.output_layer_norm",),
    },
)
