"""A padding-free encoder with the weights of BERT, RoBERTa, XLM-R, ELECTRA or DistilBERT.

Dimension key: N tokens of a step, S sequences of a step, D width, F intermediate width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.model.attention import Groups, attend, take
from mtbert.model.dropout import dropout

Family = Literal["bert", "roberta", "electra", "distilbert"]
Adapter = Callable[[int, Tensor], Tensor]
"""``(layer, x_ND) -> [N, D]``, added to the layer's output before its last normalisation; ``x_ND`` is
the layer's input."""

_gelu_tanh = partial(F.gelu, approximate="tanh")
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of an encoder; ``source`` is the ``config.json`` it was read from."""

    family: Family
    vocab_size: int
    width: int
    embedding_width: int
    layers: int
    heads: int
    intermediate: int
    activation: str
    layer_norm_eps: float
    max_length: int  # tokens of the longest sequence: 512 for RoBERTa's 514 positions
    position_offset: int  # the row of the first token's position
    segment_types: int  # 0: no segment embeddings
    pooler: bool
    hidden_dropout: float
    attention_dropout: float
    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


class Encoder(nn.Module):
    """Embeddings and transformer layers; every parameter belongs to a Linear, LayerNorm or Embedding."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        c = self.config = config
        self.word_embedding = nn.Embedding(c.vocab_size, c.embedding_width)
        self.position_embedding = nn.Embedding(c.max_length + c.position_offset, c.embedding_width)
        self.segment_embedding = nn.Embedding(c.segment_types, c.embedding_width) if c.segment_types else None
        self.embedding_norm = nn.LayerNorm(c.embedding_width, c.layer_norm_eps)
        self.embedding_projection = nn.Linear(c.embedding_width, c.width) if c.embedding_width != c.width else None
        self.layers = nn.ModuleList(EncoderLayer(c) for _ in range(c.layers))
        self.pooler = nn.Linear(c.width, c.width) if c.pooler else None

    def embed(
        self, ids_N: Tensor, segments_N: Tensor, positions_N: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Returns the input of the first layer, ``[N, D]``; ``positions_N`` counts from 0 in each sequence."""
        x = self.word_embedding(ids_N) + self.position_embedding(positions_N + self.config.position_offset)
        if self.segment_embedding is not None:
            # A checkpoint with one kind of segment has no other for the second text of a pair.
            x = x + self.segment_embedding(segments_N.clamp(max=self.config.segment_types - 1))
        x = dropout(self.embedding_norm(x), self.config.hidden_dropout, generator)
        return x if self.embedding_projection is None else self.embedding_projection(x)

    def encode(
        self,
        x_ND: Tensor,
        groups: Groups,
        generator: torch.Generator | None,
        adapter: Adapter | None = None,
        *,
        first_only: bool = False,
    ) -> Tensor:
        """The last layer's output, ``[N, D]``, from what :meth:`embed` gave or a disturbed copy of it.

        ``first_only``: of the first token of each sequence, ``[S, D]``; the last layer then works for no other.
        """
        tokens, last = len(x_ND), len(self.layers) - 1
        x_ND = F.pad(x_ND, (0, 0, 0, groups.dummies)) if groups.dummies else x_ND
        for i, layer in enumerate(self.layers):
            adapted_ND = None if adapter is None else adapter(i, x_ND)
            x_ND = layer(x_ND, groups, generator, adapted_ND, first_only=first_only and i == last)
        return x_ND[:tokens] if groups.dummies and not first_only else x_ND

    def pooled(self, cls_SD: Tensor) -> Tensor:
        """The checkpoint's pooler on the first token of each sequence, ``[S, D]``.

        Raises:
            ValueError: If the checkpoint has none.
        """
        if self.pooler is None:
            raise ValueError(f"this {self.config.family} encoder has no pooler. Use the vector of the first token.")
        return torch.tanh(self.pooler(cls_SD))


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network, each added to its input and normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        c = self.config = config
        self.qkv = nn.Linear(c.width, 3 * c.width)
        self.attention_output = nn.Linear(c.width, c.width)
        self.attention_norm = nn.LayerNorm(c.width, c.layer_norm_eps)
        self.intermediate = nn.Linear(c.width, c.intermediate)
        self.output = nn.Linear(c.intermediate, c.width)
        self.output_norm = nn.LayerNorm(c.width, c.layer_norm_eps)
        self.activation = ACTIVATIONS[c.activation]
        # DistilBERT was trained without dropout behind its attention.
        self.attention_output_dropout = 0.0 if c.family == "distilbert" else c.hidden_dropout

    def forward(
        self,
        x_ND: Tensor,
        groups: Groups,
        generator: torch.Generator | None,
        adapted_ND: Tensor | None,
        *,
        first_only: bool,
    ) -> Tensor:
        """The layer's output, ``[N, D]``, or with ``first_only``, from the attention on, ``[S, D]``."""
        c = self.config
        attended_ND = attend(self.qkv(x_ND), groups, c.heads, c.attention_dropout, generator, first_only=first_only)
        if first_only:
            x_ND = take(x_ND, groups.first_S)
            adapted_ND = None if adapted_ND is None else take(adapted_ND, groups.first_S)
        mixed_ND = self.attention_output(attended_ND)
        x_ND = self.attention_norm(x_ND + dropout(mixed_ND, self.attention_output_dropout, generator))
        out_ND = dropout(self.output(self.activation(self.intermediate(x_ND))), c.hidden_dropout, generator) + x_ND
        normed_ND: Tensor = self.output_norm(out_ND if adapted_ND is None else out_ND + adapted_ND)
        return normed_ND
