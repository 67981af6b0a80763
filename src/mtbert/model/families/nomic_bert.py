"""NomicBERT: BERT with rotary positions, a gated activation, and no biases in the linear layers.

Source: Nussbaum et al., "Nomic Embed: Training a Reproducible Long Context Text Embedder", 2024. The names of weights
are those in published files, which transformers writes too.
"""

from dataclasses import replace
from functools import partial

from torch import nn

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import (
    ActivationName,
    Family,
    Turns,
    activation,
    bert,
    dropout_rate,
    must_be,
    rotary_base,
    rotary_positions,
    whole_number,
)
from mtbert.model.layer import ACTIVATIONS, Attention, EncoderLayer, Gated, Rotary


class NomicBertConfig(bert.BertConfig):
    """The keys that are read from the ``config.json`` of a NomicBERT model.

    Optional keys that are missing get the defaults of transformers. Files that need code of their own name the sizes by
    other keys, so those files are read only if they have the default sizes, as nomic-embed-text has.
    """

    hidden_size: int = whole_number(2**14, default=768)
    num_hidden_layers: int = whole_number(2**8, default=12)
    num_attention_heads: int = whole_number(2**10, default=12)
    intermediate_size: int = whole_number(2**17, default=3072)
    max_position_embeddings: int = whole_number(2**20, default=2048)
    hidden_act: ActivationName = activation("silu")
    hidden_dropout_prob: float = dropout_rate(0.0)
    attention_probs_dropout_prob: float = dropout_rate(0.0)
    rope_scaling: None = rotary_positions("null")
    rope_parameters: Turns | None = rotary_positions()
    rope_theta: float | None = must_be("a number above 1", None, gt=1)


def encoder(c: NomicBertConfig) -> EncoderConfig:
    """Returns the architecture of a NomicBERT encoder from the keys of its ``config.json``."""
    return replace(
        bert.encoder(c),
        family="nomic_bert",
        layer=partial(layer, Rotary(rotary_base(c.rope_parameters, c.rope_theta, 1000.0))),
        position_offset=None,
        pooler=False,
        native=None,
    )


def layer(rotary: Rotary, c: EncoderConfig, index: int) -> EncoderLayer:
    """Returns a new layer. All layers are built in the same way, whatever their ``index``."""
    return EncoderLayer(
        qkv=nn.Linear(c.width, 3 * c.width, bias=False),
        attention=Attention(c.heads, c.attention_dropout, rotary),
        attention_output=nn.Linear(c.width, c.width, bias=False),
        attention_output_dropout=c.hidden_dropout,
        attention_norm=c.norm(c.width),
        intermediate=nn.Linear(c.width, 2 * c.intermediate, bias=False),
        activation=Gated(ACTIVATIONS[c.activation]),
        output=nn.Linear(c.intermediate, c.width, bias=False),
        output_dropout=c.hidden_dropout,
        output_norm=c.norm(c.width),
    )


NOMIC_BERT = Family(
    name="nomic_bert",
    types={"nomic_bert": "NomicBertModel"},
    config=NomicBertConfig,
    encoder=encoder,
    prefix="nomic_bert.",
    names={
        "word_embedding": ("embeddings.word_embeddings",),
        "segment_embedding": ("embeddings.token_type_embeddings",),
        "embedding_norm": ("emb_ln",),
        "layers.{}.qkv": ("encoder.layers.{}.attn.Wqkv",),
        "layers.{}.attention_output": ("encoder.layers.{}.attn.out_proj",),
        "layers.{}.attention_norm": ("encoder.layers.{}.norm1",),
        "layers.{}.intermediate": ("encoder.layers.{}.mlp.fc12", "encoder.layers.{}.mlp.fc11"),
        "layers.{}.output": ("encoder.layers.{}.mlp.fc2",),
        "layers.{}.output_norm": ("encoder.layers.{}.norm2",),
    },
)
