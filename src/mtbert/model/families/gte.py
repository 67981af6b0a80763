"""GTE: BERT with rotary positions and a gated activation.

Source: Zhang et al., "mGTE: Generalized Long-Context Text Representation and Reranking Models for Multilingual Text
Retrieval", 2024. The names of weights are those in published files, which transformers writes too.
"""

from dataclasses import replace
from functools import partial

from torch import nn

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import (
    Family,
    Turns,
    bert,
    dropout_rate,
    must_be,
    rotary_base,
    rotary_positions,
    whole_number,
)
from mtbert.model.layer import ACTIVATIONS, Attention, EncoderLayer, Gated, Rotary


class GteConfig(bert.BertConfig):
    """The keys that are read from the ``config.json`` of a GTE model.

    Optional keys that are missing get the defaults of transformers.
    """

    max_position_embeddings: int = whole_number(2**20, default=8192)
    type_vocab_size: int = whole_number(2**10, default=1, least=0)
    attention_probs_dropout_prob: float = dropout_rate(0.0)
    rope_scaling: None = rotary_positions("null")
    rope_parameters: Turns | None = rotary_positions()
    rope_theta: float | None = must_be("a number above 1", None, gt=1)


def encoder(c: GteConfig) -> EncoderConfig:
    """Returns the architecture of a GTE encoder from the keys of its ``config.json``."""
    return replace(
        bert.encoder(c),
        family="gte",
        layer=partial(layer, Rotary(rotary_base(c.rope_parameters, c.rope_theta, 160_000.0))),
        position_offset=None,
        pooler=False,
        native=None,
    )


def layer(rotary: Rotary, c: EncoderConfig, index: int) -> EncoderLayer:
    """Returns a new layer. All layers are built in the same way, whatever their ``index``."""
    return EncoderLayer(
        qkv=nn.Linear(c.width, 3 * c.width),
        attention=Attention(c.heads, c.attention_dropout, rotary),
        attention_output=nn.Linear(c.width, c.width),
        attention_output_dropout=c.hidden_dropout,
        attention_norm=c.norm(c.width),
        intermediate=nn.Linear(c.width, 2 * c.intermediate, bias=False),
        activation=Gated(ACTIVATIONS[c.activation], gate_first=True),
        intermediate_dropout=c.hidden_dropout,
        output=nn.Linear(c.intermediate, c.width),
        output_dropout=c.hidden_dropout,
        output_norm=c.norm(c.width),
    )


GTE = Family(
    name="gte",
    types={"gte": "GteModel"},
    config=GteConfig,
    encoder=encoder,
    prefix="gte.",
    names={
        "word_embedding": ("embeddings.word_embeddings",),
        "segment_embedding": ("embeddings.token_type_embeddings",),
        "embedding_norm": ("embeddings.LayerNorm",),
        "layers.{}.qkv": ("encoder.layer.{}.attention.qkv_proj",),
        "layers.{}.attention_output": ("encoder.layer.{}.attention.o_proj",),
        "layers.{}.attention_norm": ("encoder.layer.{}.attn_ln",),
        "layers.{}.intermediate": ("encoder.layer.{}.mlp.up_gate_proj",),
        "layers.{}.output": ("encoder.layer.{}.mlp.down_proj",),
        "layers.{}.output_norm": ("encoder.layer.{}.mlp_ln",),
    },
)
