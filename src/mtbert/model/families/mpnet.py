"""MPNet: BERT with relative positions beside the absolute ones, and without segment embeddings.

Source: Song et al., "MPNet: Masked and Permuted Pre-training for Language Understanding", 2020. All layers add the same
bias to their attention scores: 32 learned numbers per head, one for each bucket of distances. As in transformers,
positions are numbered from 2, whatever the id of the padding token is.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from mtbert.batch import send
from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import Family, bert, must_be
from mtbert.model.native import NativeHead
from mtbert.model.relative import RelativeBias

BUCKETS = 32
# The least distance of each bucket behind the first: whole numbers to 8, then 128 is reached in equal factors.
STARTS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91)


class MpnetConfig(bert.BertConfig):
    """The keys that are read from the ``config.json`` of an MPNet model.

    Optional keys that are missing get the defaults of transformers.
    """

    relative_attention_num_buckets: Literal[32] = must_be("32", BUCKETS)


def encoder(c: MpnetConfig) -> EncoderConfig:
    """Returns the architecture of an MPNet encoder from the keys of its ``config.json``."""
    return replace(
        bert.encoder(c),
        family="mpnet",
        relative=lambda c: RelativeBias(c.heads, BUCKETS, bucket),
        position_offset=2,
        max_length=c.max_position_embeddings - 2,
        segment_types=0,
        native=NativeHead(names=("classifier.dense", "classifier.out_proj")),
    )


def bucket(values_R: Tensor) -> Tensor:
    """Returns the bucket of each distance: 16 to 31 if the key comes after the query, otherwise 0 to 15."""
    starts = send(torch.tensor(STARTS), values_R.device)
    far_R = (values_R.abs()[:, None] >= starts).sum(1)
    return far_R + (values_R > 0) * (BUCKETS // 2)


MPNET = Family(
    name="mpnet",
    types={"mpnet": "MPNetModel"},
    config=MpnetConfig,
    encoder=encoder,
    prefixes=("mpnet.",),
    names={
        "word_embedding": ("embeddings.word_embeddings",),
        "position_embedding": ("embeddings.position_embeddings",),
        "embedding_norm": ("embeddings.LayerNorm",),
        "relative.table": ("encoder.relative_attention_bias",),
        "layers.{}.qkv": tuple(f"encoder.layer.{{}}.attention.attn.{part}" for part in "qkv"),
        "layers.{}.attention_output": ("encoder.layer.{}.attention.attn.o",),
        "layers.{}.attention_norm": ("encoder.layer.{}.attention.LayerNorm",),
        "layers.{}.intermediate": ("encoder.layer.{}.intermediate.dense",),
        "layers.{}.output": ("encoder.layer.{}.output.dense",),
        "layers.{}.output_norm": ("encoder.layer.{}.output.LayerNorm",),
        "pooler": ("pooler.dense",),
    },
)
