"""The layer of an encoder, and the parts that it is built from.

An encoder family chooses the parts: norms before or after attention and feed-forward network, linear layers with or
without a bias, an activation with or without a gate, and attention with or without rotary positions and a window.

Dimension key: N tokens of a batch, S sequences of a batch, D width, F intermediate width, H heads, E width of a head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.model.attention import Groups, GroupScores, attend, take
from mtbert.model.dropout import dropout
from mtbert.model.relative import ByDistance

Activation = Callable[[Tensor], Tensor]

_gelu_tanh = partial(F.gelu, approximate="tanh")
ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}


@dataclass(frozen=True)
class Gated:
    """An activation with a gate: ``activation(gate) * value``, ``[N, 2 * F] -> [N, F]``.

    The gate is the first half of the input and the value is the second half, or the other way round if ``gate_last`` is
    true.
    """

    activation: Activation
    gate_last: bool = False

    def __call__(self, x_N2F: Tensor) -> Tensor:
        first_NF, second_NF = x_N2F.chunk(2, dim=-1)
        if self.gate_last:
            return self.activation(second_NF) * first_NF
        return self.activation(first_NF) * second_NF


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding (RoPE): queries and keys are rotated by angles that grow with the token's position.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021. As in transformers,
    element ``i`` of the first half of each attention head is rotated together with element ``i`` of the second half.
    The angles are computed in float32.
    """

    base: float

    def cos_sin(self, positions_N: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Returns the cosines and the sines of the rotation angles, each ``[N, 1, E]``, in float32.

        There is an angle for each of N tokens and each of the E elements of an attention head. The sines for the first
        half of a head are negated. ``positions_N`` holds the position of each token in its sequence, counted from 0.
        ``width`` is E.
        """
        steps = torch.arange(0, width, 2, dtype=torch.float32, device=positions_N.device) / width
        angles = (positions_N[:, None] * (1.0 / self.base**steps))[:, None]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([cos, cos], dim=2), torch.cat([-sin, sin], dim=2)

    def __call__(self, qkv_N3D: Tensor, heads: int, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
        """Returns a copy of ``qkv_N3D`` (queries, keys and values of N tokens) with rotated queries and keys.

        ``cos_sin`` is the result of :meth:`cos_sin`.
        """
        cos_N1E, sin_N1E = cos_sin
        both, values = torch.split(qkv_N3D.view(qkv_N3D.shape[0], 3 * heads, -1), [2 * heads, heads], dim=1)
        first, second = both.chunk(2, dim=2)
        rotated = both * cos_N1E + torch.cat([second, first], dim=2) * sin_N1E
        return torch.cat([rotated.to(values.dtype), values], dim=1).flatten(1)


@dataclass(frozen=True)
class Attention:
    """The attention of a layer, computed from queries, keys and values.

    The matrices that compute the queries, keys and values belong to the layer, not to this class.
    """

    heads: int
    dropout: float  # the rate for the attention probabilities
    rotary: Rotary | None = None
    window: int | None = None  # the largest distance between two tokens that attend to each other; None for no limit

    def __call__(
        self,
        qkv_N3D: Tensor,
        groups: Groups,
        generator: torch.Generator | None,
        scores: GroupScores | None = None,
        *,
        first_only: bool,
    ) -> Tensor:
        """Returns the output of the attention for all tokens, ``[N, D]``.

        If ``first_only`` is true, returns the output only for the first token of each sequence, ``[S, D]``. ``scores``
        is a function that computes attention scores from queries and keys. If it is None, the scores are plain
        products.
        """
        if self.rotary is not None:
            width = qkv_N3D.shape[1] // (3 * self.heads)
            cos_sin = groups.once((self.rotary, width), partial(self.rotary.cos_sin, groups.positions_N, width))
            qkv_N3D = self.rotary(qkv_N3D, self.heads, cos_sin)
        return attend(
            qkv_N3D, groups, self.heads, self.dropout, generator, scores, window=self.window, first_only=first_only
        )


class EncoderLayer(nn.Module):
    """A transformer layer: self-attention and then a feed-forward network, each with a residual connection.

    Each encoder family, such as BERT, has its own choice of norms: before attention and feed-forward network
    (pre-norm), after each residual sum (post-norm), or both.

    The linear layers ``intermediate`` and ``output`` form the feed-forward network, with ``activation`` between them.
    The activation :class:`Gated` halves the width: ``output`` then has half as many inputs as ``intermediate`` has
    outputs.
    """

    def __init__(
        self,
        *,
        qkv: nn.Linear,
        attention: Attention,
        attention_output: nn.Linear,
        intermediate: nn.Linear,
        activation: Activation,
        output: nn.Linear,
        before_attention: nn.Module | None = None,
        attention_norm: nn.Module | None = None,
        before_feed_forward: nn.Module | None = None,
        output_norm: nn.Module | None = None,
        attention_output_dropout: float,
        intermediate_dropout: float = 0.0,
        output_dropout: float,
    ) -> None:
        super().__init__()
        self.before_attention = before_attention or nn.Identity()
        self.qkv = qkv
        self.attention = attention
        self.attention_output = attention_output
        self.attention_norm = attention_norm or nn.Identity()
        self.before_feed_forward = before_feed_forward or nn.Identity()
        self.intermediate = intermediate
        self.activation = activation
        self.output = output
        self.output_norm = output_norm or nn.Identity()
        self.attention_output_dropout = attention_output_dropout
        self.intermediate_dropout = intermediate_dropout
        self.output_dropout = output_dropout

    def forward(
        self,
        x_ND: Tensor,
        groups: Groups,
        generator: torch.Generator | None,
        adapter: Callable[[Tensor], Tensor] | None,
        rows: ByDistance | None = None,
        *,
        first_only: bool,
    ) -> Tensor:
        """Returns the output of the layer for all tokens, ``[N, D]``.

        If ``first_only`` is true, returns the output only for the first token of each sequence, ``[S, D]``. The
        function ``adapter`` gets the input of the attention, ``[N, D]``. The result of ``adapter`` is added to the last
        residual sum, before the last norm. ``rows`` holds the encoder's biases or vectors for the distances between
        tokens; None if the encoder has no relative positions.
        """
        read_ND = self.before_attention(x_ND)
        added_ND = None if adapter is None else adapter(read_ND)
        scores = None if rows is None else rows.in_layer(self.qkv, generator)
        attended_ND = self.attention(self.qkv(read_ND), groups, generator, scores, first_only=first_only)
        if first_only:
            x_ND = take(x_ND, groups.first_S)
            added_ND = None if added_ND is None else take(added_ND, groups.first_S)
        mixed_ND = self.attention_output(attended_ND)
        x_ND = self.attention_norm(x_ND + dropout(mixed_ND, self.attention_output_dropout, generator))
        wide_NF = self.activation(self.intermediate(self.before_feed_forward(x_ND)))
        narrow_ND = self.output(dropout(wide_NF, self.intermediate_dropout, generator))
        out_ND = dropout(narrow_ND, self.output_dropout, generator) + x_ND
        normed_ND: Tensor = self.output_norm(out_ND if added_ND is None else out_ND + added_ND)
        return normed_ND

    def matrices(self) -> dict[str, tuple[nn.Linear, int]]:
        """Returns the linear modules by name, each with the number of matrices that are stacked in its weight."""
        return {
            "qkv": (self.qkv, 3),
            "attention_output": (self.attention_output, 1),
            "intermediate": (self.intermediate, self.intermediate.out_features // self.output.in_features),
            "output": (self.output, 1),
        }

    def for_every_token(self) -> list[nn.Parameter]:
        """Returns the parameters of the modules that always process every token.

        These modules are the norm before the attention, and the linear layer for queries, keys and values. The other
        modules process only the first token of each sequence if ``first_only`` is true in :meth:`forward`.
        """
        return [*self.before_attention.parameters(), *self.qkv.parameters()]
