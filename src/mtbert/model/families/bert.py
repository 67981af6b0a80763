"""BERT: word, position and segment embeddings, post-norm layers with biases, and a pooler.

Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
"""

from typing import Literal

from torch import nn

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import ActivationName, Config, Family, activation, dropout_rate, tiny, whole_number
from mtbert.model.layer import ACTIVATIONS, Attention, EncoderLayer, Gated, Rotary
from mtbert.model.native import NativeHead


class BertConfig(Config):
    """The keys that are read from the ``config.json`` of a BERT model.

    Optional keys that are missing get the defaults of transformers.
    """

    hidden_size: int = whole_number(2**14)
    num_hidden_layers: int = whole_number(2**8)
    num_attention_heads: int = whole_number(2**10)
    intermediate_size: int = whole_number(2**17)
    type_vocab_size: int = whole_number(2**10, default=2)
    hidden_act: ActivationName = activation()
    layer_norm_eps: float = tiny(1e-12)
    hidden_dropout_prob: float = dropout_rate()
    attention_probs_dropout_prob: float = dropout_rate()


def encoder(c: BertConfig) -> EncoderConfig:
    """Returns the architecture of a BERT encoder from the keys of its ``config.json``."""
    return EncoderConfig(
        family="bert",
        layer=layer,
        vocab_size=c.vocab_size,
        width=c.hidden_size,
        embedding_width=c.hidden_size,
        layers=c.num_hidden_layers,
        heads=c.num_attention_heads,
        intermediate=c.intermediate_size,
        activation=c.hidden_act,
        layer_norm_eps=c.layer_norm_eps,
        max_length=c.max_position_embeddings,
        position_offset=0,
        segment_types=c.type_vocab_size,
        pooler=True,
        hidden_dropout=c.hidden_dropout_prob,
        attention_dropout=c.attention_probs_dropout_prob,
        native=NativeHead(names=("classifier",), pooler=True),
    )


def layer(
    c: EncoderConfig,
    index: int,
    *,
    rotary: Rotary | None = None,
    bias: bool = True,
    gate: Literal["first", "last"] | None = None,
    drops_intermediate: bool = False,
) -> EncoderLayer:
    """Returns a new layer for BERT or, with other values of the optional arguments, for a similar encoder family.

    Args:
        c: The architecture of the encoder.
        index: The number of the layer, counted from 0. The number has no effect.
        rotary: Rotary positions of queries and keys; None for none.
        bias: Whether linear layers have biases.
        gate: The half of a gated activation's input that is the gate, ``first`` or ``last``; None for an activation
            without a gate. The linear layer before a gated activation has no bias.
        drops_intermediate: Whether there is dropout after the activation too.
    """
    activation = ACTIVATIONS[c.activation]
    return EncoderLayer(
        qkv=nn.Linear(c.width, 3 * c.width, bias=bias),
        attention=Attention(c.heads, c.attention_dropout, rotary),
        attention_output=nn.Linear(c.width, c.width, bias=bias),
        attention_output_dropout=c.hidden_dropout,
        attention_norm=c.norm(c.width),
        intermediate=nn.Linear(c.width, (2 if gate else 1) * c.intermediate, bias=bias and gate is None),
        activation=Gated(activation, gate_last=gate == "last") if gate else activation,
        intermediate_dropout=c.hidden_dropout if drops_intermediate else 0.0,
        output=nn.Linear(c.intermediate, c.width, bias=bias),
        output_dropout=c.hidden_dropout,
        output_norm=c.norm(c.width),
    )


NAMES = {
    "word_embedding": ("embeddings.word_embeddings",),
    "position_embedding": ("embeddings.position_embeddings",),
    "segment_embedding": ("embeddings.token_type_embeddings",),
    "embedding_norm": ("embeddings.LayerNorm",),
    "layers.{}.qkv": tuple(f"encoder.layer.{{}}.attention.self.{part}" for part in ("query", "key", "value")),
    "layers.{}.attention_output": ("encoder.layer.{}.attention.output.dense",),
    "layers.{}.attention_norm": ("encoder.layer.{}.attention.output.LayerNorm",),
    "layers.{}.intermediate": ("encoder.layer.{}.intermediate.dense",),
    "layers.{}.output": ("encoder.layer.{}.output.dense",),
    "layers.{}.output_norm": ("encoder.layer.{}.output.LayerNorm",),
    "pooler": ("pooler.dense",),
}

BERT = Family(
    name="bert", types={"bert": "BertModel"}, config=BertConfig, encoder=encoder, prefixes=("bert.",), names=NAMES
)
