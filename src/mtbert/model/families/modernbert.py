"""ModernBERT: pre-norm layers, rotary positions, gated activations, and attention that is local in most layers.

Source: Warner et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder for Fast, Memory Efficient, and
Long Context Finetuning and Inference", 2024. mmBERT, Ettin and gte-modernbert have the same architecture.
"""

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from torch import nn

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import (
    ActivationName,
    Config,
    Family,
    RopeParameters,
    activation,
    dropout_rate,
    must_be,
    rotary_base,
    rotary_positions,
    tiny,
    whole_number,
)
from mtbert.model.layer import ACTIVATIONS, Attention, EncoderLayer, Gated, Rotary
from mtbert.model.native import HeadNorm, NativeHead

# The first code of ModernBERT read null so, and transformers today cannot read it.
NULL_BASE = "If it is null, give it the value of global_rope_theta."
LayerType = Literal["full_attention", "sliding_attention"]


class RopeParametersByType(BaseModel):
    """The value of ``rope_parameters`` in a ``config.json``.

    It holds one group of settings for the layers with full attention, and another for the layers with sliding
    attention. Older files lack ``rope_parameters``. They contain ``global_rope_theta`` and ``local_rope_theta``
    instead.
    """

    model_config = ConfigDict(extra="forbid")

    full_attention: RopeParameters | None = None
    sliding_attention: RopeParameters | None = None


def _one_per_layer(types: tuple[LayerType, ...] | None, info: ValidationInfo) -> tuple[LayerType, ...] | None:
    if types is not None and len(types) != info.data.get("num_hidden_layers"):
        raise ValueError("another number")
    return types


class ModernBertConfig(Config):
    """The keys that are read from the ``config.json`` of a ModernBERT model.

    Optional keys that are missing get the defaults of transformers.
    """

    position_embedding_type: Any = None  # files hold "absolute" or "sans_pos", and nothing reads it
    max_position_embeddings: int = whole_number(2**20, default=8192)
    hidden_size: int = whole_number(2**14)
    num_hidden_layers: int = whole_number(2**8)
    num_attention_heads: int = whole_number(2**10)
    intermediate_size: int = whole_number(2**17)
    hidden_activation: ActivationName = activation()
    norm_eps: float = tiny(1e-5)
    norm_bias: bool = must_be("true or false", False)
    attention_bias: bool = must_be("true or false", False)
    mlp_bias: bool = must_be("true or false", False)
    attention_dropout: float = dropout_rate(0.0)
    embedding_dropout: float = dropout_rate(0.0)
    mlp_dropout: float = dropout_rate(0.0)
    local_attention: int = whole_number(2**20, default=128, least=2)
    global_attn_every_n_layers: int = whole_number(2**8, default=3)
    layer_types: Annotated[tuple[LayerType, ...] | None, Field(strict=False), AfterValidator(_one_per_layer)] = must_be(
        "full_attention or sliding_attention for each layer", None
    )
    rope_scaling: None = rotary_positions("null")
    rope_parameters: RopeParametersByType | None = rotary_positions(
        "plain rotary positions for full_attention and sliding_attention"
    )
    global_rope_theta: float = must_be("a number above 1", 160_000.0, gt=1)
    local_rope_theta: float = must_be("a number above 1", 10_000.0, NULL_BASE, gt=1)
    classifier_activation: ActivationName = activation()
    classifier_bias: bool = must_be("true or false", False)
    classifier_pooling: Any = None  # a task says what its head reads; an export writes it here


def encoder(c: ModernBertConfig) -> EncoderConfig:
    """Returns the architecture of a ModernBERT encoder from the keys of its ``config.json``."""
    return EncoderConfig(
        family="modernbert",
        layer=partial(layer, c),
        vocab_size=c.vocab_size,
        width=c.hidden_size,
        embedding_width=c.hidden_size,
        layers=c.num_hidden_layers,
        heads=c.num_attention_heads,
        intermediate=c.intermediate_size,
        activation=c.hidden_activation,
        layer_norm_eps=c.norm_eps,
        norm_bias=c.norm_bias,
        final_norm=True,
        max_length=c.max_position_embeddings,
        position_offset=None,
        segment_types=0,
        pooler=False,
        hidden_dropout=c.mlp_dropout,
        attention_dropout=c.attention_dropout,
        embedding_dropout=c.embedding_dropout,
        native=NativeHead(
            names=("head.dense", "classifier"),
            activation=ACTIVATIONS[c.classifier_activation],
            drops_input=False,
            bias=c.classifier_bias,
            norm=HeadNorm("head.norm", c.norm_eps, c.norm_bias),
            pooling_key="classifier_pooling",
            words=True,
        ),
    )


def layer(source: ModernBertConfig, c: EncoderConfig, index: int) -> EncoderLayer:
    """Returns layer number ``index``. The first has no norm before its attention, because embeddings are normalised."""
    return EncoderLayer(
        before_attention=c.norm(c.width) if index > 0 else None,
        qkv=nn.Linear(c.width, 3 * c.width, bias=source.attention_bias),
        attention=attention(source, c, index),
        attention_output=nn.Linear(c.width, c.width, bias=source.attention_bias),
        attention_output_dropout=c.attention_dropout,
        before_feed_forward=c.norm(c.width),
        intermediate=nn.Linear(c.width, 2 * c.intermediate, bias=source.mlp_bias),
        activation=Gated(ACTIVATIONS[c.activation]),
        intermediate_dropout=c.hidden_dropout,
        output=nn.Linear(c.intermediate, c.width, bias=source.mlp_bias),
        output_dropout=0.0,
    )


def attention(source: ModernBertConfig, c: EncoderConfig, index: int) -> Attention:
    """Returns the attention of layer number ``index``. By default, every third layer has full attention."""
    by_type = source.rope_parameters or RopeParametersByType()
    if source.layer_types is not None:
        full = source.layer_types[index] == "full_attention"
    else:
        full = index % source.global_attn_every_n_layers == 0
    parameters = by_type.full_attention if full else by_type.sliding_attention
    older = source.global_rope_theta if full else source.local_rope_theta
    return Attention(
        c.heads,
        c.attention_dropout,
        Rotary(rotary_base(parameters, None, older)),
        window=None if full else source.local_attention // 2,
    )


def fixed(c: ModernBertConfig) -> dict[str, Any]:
    """Returns the only values that some keys of ``config.json`` may have, as a dict from key to value.

    The file may leave these keys out. If a key has another value, the file does not describe a ModernBERT encoder.
    """
    return {"head_dim": c.hidden_size // c.num_attention_heads, "partial_rotary_factor": 1.0}


MODERNBERT = Family(
    name="modernbert",
    types={"modernbert": "ModernBertModel"},
    config=ModernBertConfig,
    encoder=encoder,
    prefixes=("model.",),
    fixed=fixed,
    names={
        "word_embedding": ("embeddings.tok_embeddings",),
        "embedding_norm": ("embeddings.norm",),
        "layers.{}.before_attention": ("layers.{}.attn_norm",),
        "layers.{}.qkv": ("layers.{}.attn.Wqkv",),
        "layers.{}.attention_output": ("layers.{}.attn.Wo",),
        "layers.{}.before_feed_forward": ("layers.{}.mlp_norm",),
        "layers.{}.intermediate": ("layers.{}.mlp.Wi",),
        "layers.{}.output": ("layers.{}.mlp.Wo",),
        "final_norm": ("final_norm",),
    },
)
