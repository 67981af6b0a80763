"""NomicBERT: BERT with rotary positions, a gated activation, and no biases in the linear layers.

Source: Nussbaum et al., "Nomic Embed: Training a Reproducible Long Context Text Embedder", 2024. The weights
have the same names as in published files and in files that transformers writes.

The ``config.json`` of a published model holds each size twice: under the key that transformers reads, such as
``hidden_size``, and under the key that the authors' own code reads, such as ``n_embd``. Both values must agree. The
keys ``n_positions`` (8,192 in published files) and ``max_trained_positions`` are not read: as in transformers,
``max_position_embeddings`` is the limit.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import (
    ActivationName,
    Family,
    RopeParameters,
    activation,
    bert,
    dropout_rate,
    must_be,
    rotary_base,
    rotary_positions,
    whole_number,
)
from mtbert.model.layer import Rotary


class NomicBertConfig(bert.BertConfig):
    """The keys that are read from the ``config.json`` of a NomicBERT model.

    Optional keys that are missing get the defaults of transformers, which are those of nomic-embed-text.
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
    rope_parameters: RopeParameters | None = rotary_positions()
    rope_theta: float | None = must_be("a number above 1", None, gt=1)


def _base(c: NomicBertConfig) -> float:
    """Returns the base of rotary positions."""
    return rotary_base(c.rope_parameters, c.rope_theta, 1000.0)


def encoder(c: NomicBertConfig) -> EncoderConfig:
    """Returns the architecture of a NomicBERT encoder from the keys of its ``config.json``."""
    return replace(
        bert.encoder(c),
        family="nomic_bert",
        layer=partial(bert.layer, rotary=Rotary(_base(c)), bias=False, gate="first"),
        position_offset=None,
        pooler=False,
        native=None,
    )


def fixed(c: NomicBertConfig) -> dict[str, Any]:
    """Returns a dict from keys of ``config.json``, all optional, to the only value that each may have.

    A file with another value describes an encoder that is not a NomicBERT encoder.
    """
    return {
        "n_embd": c.hidden_size,
        "n_layer": c.num_hidden_layers,
        "n_head": c.num_attention_heads,
        "n_inner": c.intermediate_size,
        "head_dim": c.hidden_size // c.num_attention_heads,
        "activation_function": "swiglu",
        "layer_norm_epsilon": c.layer_norm_eps,
        "use_rms_norm": False,
        "prenorm": False,
        "parallel_block": False,
        "causal": False,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "qkv_proj_bias": False,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "partial_rotary_factor": 1.0,
        "rotary_emb_base": _base(c),
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
    }


NOMIC_BERT = Family(
    name="nomic_bert",
    types={"nomic_bert": "NomicBertModel"},
    config=NomicBertConfig,
    encoder=encoder,
    prefixes=("nomic_bert.",),
    fixed=fixed,
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
