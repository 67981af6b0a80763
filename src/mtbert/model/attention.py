"""Attention over sequences of unequal length that lie one after the other, without padding between them.

Dimension key: N tokens of a step, S sequences of a step, D width, H heads, G sequences of a group, L longest length of
a group, M tokens of a group (M <= G * L), E width of a head (D = H * E).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

import torch
from torch import Tensor

from mtbert.batch import Layout
from mtbert.model.dropout import dropout

STEP = 8  # lengths 1..8 share a group, 9..16 the next: measured against 4, 16 and exact lengths


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
    """The groups of a batch, in order; together they hold every token once.

    Behind the tokens come ``dummies``: rows that no token attends to and no result reads. ``first_S`` are the places
    of the first tokens of all sequences.
    """

    groups: tuple[Group, ...]
    first_S: Tensor
    dummies: int = 0

    @classmethod
    def of(cls, layout: Layout, device: torch.device, *, rounded: bool = False) -> Self:
        """Groups of the layout's sequences; none of them crosses a task's span.

        ``rounded`` makes few shapes out of many, where kernels are compiled for each: every group as long as a
        multiple of ``STEP``, and as many dummies as make the rows a multiple of :func:`multiple`.
        """
        lengths = [stop - start for start, stop in zip(layout.offsets, layout.offsets[1:], strict=False)]
        similar = (
            list(members)
            for span in layout.spans.values()
            for _, members in groupby(lengths[span.first : span.last], key=lambda length: -(-length // STEP))
        )
        groups = tuple(_group(members, STEP if rounded else 1, device) for members in similar)
        tokens = layout.offsets[-1] - layout.offsets[0]
        first_S = torch.tensor(layout.offsets[:-1], device=device) - layout.offsets[0]
        return cls(groups, first_S, -tokens % multiple(tokens) if rounded else 0)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)


def multiple(tokens: int) -> int:
    """What so many rows are rounded up to: a power of two, at most 64, that adds a twelfth of them or less."""
    return int(2 ** min(6, max(0, math.floor(math.log2(max(tokens, 12) / 12)))))


def _group(lengths: list[int], step: int, device: torch.device) -> Group:
    tokens, sequences, length = sum(lengths), len(lengths), -(-max(lengths) // step) * step
    if tokens == sequences * length:
        return Group(tokens, sequences, length, None, None)
    taken_GL = torch.arange(length) < torch.tensor(lengths)[:, None]
    rows_M = taken_GL.flatten().nonzero().squeeze(1)
    return Group(tokens, sequences, length, rows_M.to(device), ~taken_GL.to(device))


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
    # split, not slices: its backward is one concatenation, that of a slice fills all N tokens with zeros.
    *parts, dummies = torch.split(qkv_N3D, [*(group.tokens for group in groups), groups.dummies])
    mixed = [
        _attend(part, group, heads, dropout_rate, generator, first_only)
        for part, group in zip(parts, groups, strict=True)
    ]
    if first_only:
        return torch.cat(mixed)
    return torch.cat([*mixed, mixed[0].new_zeros(len(dummies), mixed[0].shape[1])])


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
