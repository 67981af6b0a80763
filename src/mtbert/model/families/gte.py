"""GTE: BERT with rotary positions and a gated activation.

The names of weights are those in files with the ``model_type`` "gte", which is the type that transformers writes. Files
for the GTE authors' own code have the ``model_type`` "new", and are refused. Some keys of a ``config.json`` must have
the value that makes the encoder a GTE: :func:`fixed` checks them.

Source: Zhang et al., "mGTE: Generalized Long-Context Text Representation and Reranking Models for Multilingual Text
Retrieval", 2024.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import (
    Family,
    RopeParameters,
    bert,
    dropout_rate,
    must_be,
    rotary_base,
    rotary_positions,
    whole_number,
)
from mtbert.model.layer import Rotary


class GteConfig(bert.BertConfig):
    """The keys that are read from the ``config.json`` of a GTE model.

    Optional keys that are missing get the defaults of transformers.
    """

    position_embedding_type: Any = None  # see fixed
    max_position_embeddings: int = whole_number(2**20, default=8192)
    type_vocab_size: int = whole_number(2**10, default=1, least=0)
    attention_probs_dropout_prob: float = dropout_rate(0.0)
    rope_scaling: None = rotary_positions("null")
    rope_parameters: RopeParameters | None = rotary_positions()
    rope_theta: float | None = must_be("a number above 1", None, gt=1)


def encoder(c: GteConfig) -> EncoderConfig:
    """Returns the architecture of a GTE encoder from the keys of its ``config.json``."""
    rotary = Rotary(rotary_base(c.rope_parameters, c.rope_theta, 160_000.0))
    return replace(
        bert.encoder(c),
        family="gte",
        layer=partial(bert.layer, rotary=rotary, gate="last", drops_intermediate=True),
        position_offset=None,
        pooler=False,
        native=None,
    )


def fixed(c: GteConfig) -> dict[str, Any]:
    """Returns the only values that some keys of ``config.json`` may have, as a dict from key to value.

    The file may leave these keys out. If a key has another value, the file does not describe a GTE encoder.
    """
    return {
        "head_dim": c.hidden_size // c.num_attention_heads,
        "layer_norm_type": "layer_norm",
        "logn_attention_clip1": False,
        "logn_attention_scale": False,
        "pack_qkv": True,
        "partial_rotary_factor": 1.0,
        "position_embedding_type": "rope",
    }


GTE = Family(
    name="gte",
    types={"gte": "GteModel"},
    config=GteConfig,
    encoder=encoder,
    prefixes=("gte.", "new."),
    fixed=fixed,
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
