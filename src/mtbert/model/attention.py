"""Attention over sequences of unequal length that lie one after the other, without padding between them.

Dimension key: N tokens of a step, S sequences of a step, D width, H heads, G sequences of a group, L longest length of
a group, M tokens of a group (M <= G * L), E width of a head (D = H * E).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from typing import Any, cast

import torch
from torch import Tensor

from mtbert.batch import Layout, send
from mtbert.model.dropout import dropout

STEP = 8  # lengths 1..8 share a group, 9..16 the next: measured against 4, 16 and exact lengths
SHORT = 32  # on a GPU lengths 1..32 share a group


@dataclass(frozen=True)
class Group:
    """Consecutive sequences of similar length, attended to in one batched product.

    ``rows_M`` says where each token lies among the ``G * L`` places, and ``padding_GL`` is true at the
    places no token has; both are ``None`` when all lengths are equal.
    """

    tokens: int
    sequences: int
    length: int
    rows_M: Tensor | None
    padding_GL: Tensor | None


@dataclass(frozen=True)
class Groups:
    """The sequences of a batch in groups of similar length, in order; none of them crosses a task's span.

    Args:
        layout: Where the sequences lie.
        device: Where the groups' tensors are needed.
        rounded: Makes few shapes out of many, where kernels are compiled for each: every group as long as a multiple of
            ``STEP``, and as many :attr:`dummies` as make the rows a multiple of :func:`multiple`.
    """

    layout: Layout
    device: torch.device
    rounded: bool = False

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Together they hold every token once."""
        similar = (
            list(members)
            for span in self.layout.spans.values()
            for _, members in groupby(self.lengths[span.first : span.last], lambda length: room(length, self.device))
        )
        return tuple(_group(members, STEP if self.rounded else 1, self.device) for members in similar)

    @cached_property
    def lengths(self) -> list[int]:
        """The length of each sequence, in tokens."""
        return [stop - start for start, stop in pairwise(self.layout.offsets)]

    @property
    def tokens(self) -> int:
        """The number of tokens of all sequences, without dummies."""
        return self.layout.offsets[-1]

    @property
    def dummies(self) -> int:
        """How many rows come behind the tokens that no token attends to and no result reads."""
        return -self.tokens % multiple(self.tokens) if self.rounded else 0

    @cached_property
    def boundaries(self) -> Tensor:
        """Where sequences begin and end: ``[S + 1]``, int32."""
        return send(torch.tensor(self.layout.offsets, dtype=torch.int32), self.device)

    @property
    def first_S(self) -> Tensor:
        """The places of the first tokens of all sequences."""
        return self.boundaries[:-1].long()


def room(length: int, device: torch.device) -> int:
    """Returns the largest length that shares a group with ``length``.

    On a GPU a group costs a dozen kernels in each layer, whatever its size, so groups are few there: 32, 64, 128, ...
    """
    if device.type == "cuda":
        return max(SHORT, 1 << (length - 1).bit_length())
    return -(-length // STEP) * STEP


def multiple(tokens: int) -> int:
    """Returns the multiple that ``tokens`` is rounded up to.

    It is the largest power of two, at most 64, that adds no more than a twelfth.
    """
    return int(2 ** min(6, max(0, math.floor(math.log2(max(tokens, 12) / 12)))))


def _group(lengths: list[int], step: int, device: torch.device) -> Group:
    tokens, sequences, length = sum(lengths), len(lengths), -(-max(lengths) // step) * step
    if tokens == sequences * length:
        return Group(tokens, sequences, length, None, None)
    taken_GL = torch.arange(length) < torch.tensor(lengths)[:, None]
    rows_M = taken_GL.flatten().nonzero().squeeze(1)
    return Group(tokens, sequences, length, send(rows_M, device), send(~taken_GL, device))


def attend(
    qkv_N3D: Tensor,
    groups: Groups,
    heads: int,
    dropout_rate: float,
    generator: torch.Generator | None,
    *,
    first_only: bool = False,
) -> Tensor:
    """Multi-head attention of each token over the tokens of its own sequence, ``[N, D]``.

    Args:
        qkv_N3D: Queries, keys and values of each token side by side, ``[N, 3 * D]``, the groups' dummies included;
            they get zeros.
        groups: The batch's groups.
        heads: ``H``; divides ``D``.
        dropout_rate: Of the attention probabilities.
        generator: Draws the dropout; ``None`` for evaluation.
        first_only: Only the first token of each sequence attends: ``[S, D]``, without dummies.
    """
    if _has_kernel(qkv_N3D, heads, 0.0 if generator is None else dropout_rate):
        return _attend_by_kernel(qkv_N3D, groups, heads, first_only)
    # split, not slices: its backward is one concatenation, that of a slice fills all N tokens with zeros.
    *parts, dummies = torch.split(qkv_N3D, [*(group.tokens for group in groups), groups.dummies])
    mixed = [
        _attend(part, group, heads, dropout_rate, generator, first_only)
        for part, group in zip(parts, groups, strict=True)
    ]
    if first_only:
        return torch.cat(mixed)
    return torch.cat([*mixed, mixed[0].new_zeros(len(dummies), mixed[0].shape[1])])


def _has_kernel(qkv_N3D: Tensor, heads: int, dropout_rate: float) -> bool:
    """Whether there is one kernel for sequences of any lengths: on a GPU, in 16 bits, and it knows no dropout."""
    head_width = qkv_N3D.shape[1] // (3 * heads)
    fits = qkv_N3D.dtype == torch.bfloat16 and head_width % 8 == 0 and head_width <= 256
    return qkv_N3D.device.type == "cuda" and fits and dropout_rate == 0.0


def _attend_by_kernel(qkv_N3D: Tensor, groups: Groups, heads: int, first_only: bool) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # a second of imports, which only a GPU has use for

    real, dummies = torch.split(qkv_N3D, [groups.tokens, groups.dummies])
    q, k, v = real.view(groups.tokens, 3, heads, -1).unbind(1)
    ends, longest = groups.boundaries, max(groups.lengths)
    begins, queries = ends, longest
    if first_only:
        q, queries = take(q, groups.first_S), 1
        begins = torch.arange(len(ends), dtype=ends.dtype, device=ends.device)
    mixed = cast(Tensor, varlen_attn(q, k, v, begins, ends, queries, longest)).flatten(1)
    return mixed if first_only else torch.cat([mixed, dummies.new_zeros(len(dummies), mixed.shape[1])])


def _attend(
    qkv_M3D: Tensor,
    group: Group,
    heads: int,
    dropout_rate: float,
    generator: torch.Generator | None,
    first_only: bool,
) -> Tensor:
    sequences, length, head_width = group.sequences, group.length, qkv_M3D.shape[1] // (3 * heads)
    if group.rows_M is not None:
        places = qkv_M3D.new_zeros(sequences * length, qkv_M3D.shape[1])
        qkv_M3D = places.index_copy(0, group.rows_M, qkv_M3D)
    # One copy puts the heads before the tokens for all three; the products then take plain views.
    qkv = qkv_M3D.view(sequences, length, 3, heads, head_width).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, sequences * heads, length, head_width).unbind()
    if first_only:
        q = q[:, :1]
    queries, unused = q.shape[1], q.new_empty(())
    scores = torch.baddbmm(unused, q, k.transpose(1, 2), beta=0, alpha=1 / math.sqrt(head_width))
    if group.padding_GL is not None:
        scores = scores.view(sequences, heads, queries, length)
        scores = scores.masked_fill(group.padding_GL[:, None, None, :], -math.inf).flatten(0, 1)
    mixed = dropout(scores.softmax(-1), dropout_rate, generator) @ v
    mixed_MD = mixed.view(sequences, heads, queries, head_width).transpose(1, 2).reshape(sequences * queries, -1)
    return mixed_MD if first_only or group.rows_M is None else take(mixed_MD, group.rows_M)


def take(x: Tensor, rows: Tensor) -> Tensor:
    """These rows of ``x``, none of them twice."""
    taken: Tensor = _Take.apply(x, rows)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return taken


class _Take(torch.autograd.Function):
    """Distinct rows of a tensor. ``index_select`` sums gradients one by one, ten times slower than this copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = x.shape
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy(0, rows, gradient), None
