"""DeBERTa-v2 and v3 (also mDeBERTa): disentangled attention, in which scores depend on content and on distance.

Source: He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", 2021, and "DeBERTaV3", 2023. Tokens
and distances have queries and keys. The score of two tokens is the sum of three products:

- the query of one token and the key of the other token,
- the query of the one token and the key of the distance between the two,
- the key of the other token and the query of the distance.

Each layer makes the queries and keys of distances from one shared table, with the matrices that the layer uses for
tokens. Several large distances share a row of the table.

Encoders of the following kinds are refused: without relative positions, with separate matrices for distances
(``share_att_key`` is false), with only one of the two products with distances (``pos_att_type``), with a convolution
(v2-xlarge), or with embeddings narrower than the layers.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from torch import Tensor

from mtbert.batch import send
from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import ActivationName, Family, activation, bert, dropout_rate, must_be, tiny, whole_number
from mtbert.model.layer import ACTIVATIONS
from mtbert.model.native import NativeHead
from mtbert.model.relative import RelativeEmbedding

OTHER = "Choose another DeBERTa-v2 or v3."


def _joined(value: Any) -> Any:
    """Returns one string with the parts of ``value`` in sorted order, such as ``c2p|p2c`` for ``p2c|c2p``.

    ``value`` is a string with ``|`` between its parts, or a list of strings. Any other value is returned unchanged.
    """
    parts = [part.strip() for part in value.lower().split("|")] if isinstance(value, str) else value
    return "|".join(sorted(parts)) if isinstance(parts, list) and all(isinstance(p, str) for p in parts) else value


def _width(value: int | None, info: ValidationInfo) -> int | None:
    if value not in (None, info.data.get("hidden_size")):
        raise ValueError("another width")
    return value


def _head_width(value: int | None, info: ValidationInfo) -> int | None:
    width, heads = info.data.get("hidden_size"), info.data.get("num_attention_heads")
    if value is not None and width is not None and heads is not None and value != width // heads:
        raise ValueError("another width")
    return value


def _several(value: int) -> int:
    if value in (0, 1):
        raise ValueError("too few")
    return value


def _fits_buckets(value: int, info: ValidationInfo) -> int:
    buckets = info.data.get("position_buckets", 0)
    if value > 0 and buckets > 0 and value < buckets // 2 + 2:
        raise ValueError("too small for buckets")
    return value


class DebertaConfig(bert.BertConfig):
    """The keys that are read from the ``config.json`` of a DeBERTa-v2 or v3 model.

    Optional keys that are missing get the defaults of transformers.
    """

    relative_attention: Literal[True] = must_be("true", repair=OTHER)
    pos_att_type: Annotated[Literal["c2p|p2c"], BeforeValidator(_joined)] = must_be("'p2c|c2p'", repair=OTHER)
    share_att_key: Literal[True] = must_be("true", repair=OTHER)
    conv_kernel_size: Literal[0] | None = must_be("0", 0, OTHER)
    norm_rel_ebd: Literal["none", "layer_norm"] = must_be("'layer_norm' or 'none'", "none", OTHER)
    position_buckets: Annotated[int, AfterValidator(_several)] = must_be(
        "a whole number from 2 to 65,536, or -1 for none", -1, ge=-1, le=2**16
    )
    max_relative_positions: Annotated[int, AfterValidator(_fits_buckets)] = must_be(
        "a whole number above half of position_buckets, to 1,048,576, or -1 for max_position_embeddings",
        -1,
        ge=-1,
        le=2**20,
    )
    position_biased_input: bool = must_be("true or false", True)
    type_vocab_size: int = whole_number(2**10, default=0, least=0)
    layer_norm_eps: float = tiny(1e-7)
    embedding_size: Annotated[int | None, AfterValidator(_width)] = must_be("hidden_size", None, OTHER)
    attention_head_size: Annotated[int | None, AfterValidator(_head_width)] = must_be(
        "hidden_size / num_attention_heads", None, OTHER
    )
    pooler_dropout: float = dropout_rate(0.0)
    pooler_hidden_act: ActivationName = activation()


def encoder(c: DebertaConfig) -> EncoderConfig:
    """Returns the architecture of a DeBERTa-v2 or v3 encoder from the keys of its ``config.json``."""
    farthest = c.max_relative_positions if c.max_relative_positions > 0 else c.max_position_embeddings
    span = c.position_buckets if c.position_buckets > 0 else farthest
    bucket = buckets(span, farthest, c.max_position_embeddings) if c.position_buckets > 0 else None
    return replace(
        bert.encoder(c),
        family="deberta-v2",
        relative=lambda e: RelativeEmbedding(
            e.width,
            2 * span,
            partial(row, span, bucket),
            e.norm(e.width) if c.norm_rel_ebd == "layer_norm" else None,
            e.hidden_dropout,
        ),
        position_offset=0 if c.position_biased_input else None,
        pooler=False,
        native=NativeHead(
            names=("pooler.dense", "classifier"),
            activation=ACTIVATIONS[c.pooler_hidden_act],
            drops_input=c.pooler_dropout > 0,
        ),
    )


def row(span: int, bucket: Sequence[int] | None, values_R: Tensor) -> Tensor:
    """Returns the index of a row for each distance, ``[R]``. The rows are those of a table with ``2 * span`` rows.

    The larger the distance, the lower the index: distance -1 has the index ``span + 1``, distance 0 has ``span``, and
    distance 1 has ``span - 1``. An index outside of the table is replaced by the nearest index in the table.

    Args:
        span: Half the number of rows.
        bucket: The result of :func:`buckets`. Distances of the same sign and the same bucket have the same row. If
            ``bucket`` is None, distances are not put into buckets.
        values_R: The distances. A distance is the position of the key minus the position of the query.
    """
    size_R = values_R.abs()
    if bucket is not None:
        size_R = send(torch.tensor(bucket), values_R.device)[size_R.clamp(max=len(bucket) - 1)]
    return (span - values_R.sign() * size_R).clamp(0, 2 * span - 1)


def buckets(span: int, farthest: int, number: int) -> list[int]:
    """Returns, for the distances 0, 1, 2 and so on, the index of the bucket of each distance.

    A bucket is a group of distances that the model does not tell apart. A distance of at most ``span // 2`` is alone in
    its bucket, and the bucket's index equals the distance. Each further bucket holds a range of distances, and the
    ranges get longer with the distance. As in transformers, logarithms are computed in float32.

    Distances below ``farthest`` are in the buckets 0 to ``span - 1``. Longer distances are in buckets with higher
    indices. An odd ``span`` has the same effect as ``span - 1``. ``number`` is the number of distances.

    >>> buckets(span=8, farthest=16, number=18)
    [0, 1, 2, 3, 4, 5, 5, 6, 6, 6, 7, 7, 7, 7, 7, 7, 8, 8]
    """
    near = span // 2
    growth = torch.log(torch.tensor((farthest - 1) / near))
    distance = torch.arange(near + 1, max(number, near + 1))
    far = torch.ceil(torch.log(distance / near) / growth * (near - 1)).long() + near
    return [*range(near + 1), *far.tolist()][:number]


DEBERTA_V2 = Family(
    name="deberta-v2",
    types={"deberta-v2": "DebertaV2Model"},
    config=DebertaConfig,
    encoder=encoder,
    prefixes=("deberta.",),
    names={
        "word_embedding": ("embeddings.word_embeddings",),
        "position_embedding": ("embeddings.position_embeddings",),
        "segment_embedding": ("embeddings.token_type_embeddings",),
        "embedding_norm": ("embeddings.LayerNorm",),
        "relative.table": ("encoder.rel_embeddings",),
        "relative.norm": ("encoder.LayerNorm",),
        "layers.{}.qkv": tuple(f"encoder.layer.{{}}.attention.self.{part}_proj" for part in ("query", "key", "value")),
        "layers.{}.attention_output": ("encoder.layer.{}.attention.output.dense",),
        "layers.{}.attention_norm": ("encoder.layer.{}.attention.output.LayerNorm",),
        "layers.{}.intermediate": ("encoder.layer.{}.intermediate.dense",),
        "layers.{}.output": ("encoder.layer.{}.output.dense",),
        "layers.{}.output_norm": ("encoder.layer.{}.output.LayerNorm",),
    },
)
