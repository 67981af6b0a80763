"""Self-attention over sequences of different lengths that are stored one after another, without padding.

The sequences of a batch are divided into groups of sequences of similar length, which are computed together.

Dimension key: N tokens of a batch, S sequences of a batch, D width, H heads, G sequences of a group, L length of the
longest sequence of a group, M tokens of a group (M <= G * L), E width of a head (D = H * E).
"""

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby, pairwise
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from mtbert.batch import Layout, send
from mtbert.model.mix import Mix
from mtbert.model.window import mix_blocks, takes_blocks, too_far

STEP = 8  # lengths 1..8 share a group, 9..16 the next, and so on; faster than 4, 16 or groups of equal length
SHORT = 32  # on a GPU, lengths 1..32 share a group

Computed = TypeVar("Computed")


@dataclass(frozen=True, eq=False)
class Group:
    """Consecutive sequences of similar length, whose attention is computed in one batched matrix product.

    For that product, each sequence is padded to ``length`` tokens.
    """

    span: str  # the name of the span that its sequences are in
    tokens: int
    sequences: int
    length: int
    rows_M: Tensor | None  # the place of each token among the G * L places; None if all lengths are equal
    padding_GL: Tensor | None  # True at the places without a token; None if all lengths are equal
    traced: bool = False  # whether ``length`` stands for any length, so that no step may depend on it


GroupScores = Callable[[Group, Tensor, Tensor], Tensor]
"""A function that computes the attention scores of a group, instead of plain products of queries and keys.

The function gets the group, queries ``[G * H, 1 or L, E]`` and keys ``[G * H, L, E]``. It returns the scaled scores,
``[G * H, 1 or L, L]``. The scores of keys that are padding are replaced later.
"""


@dataclass(frozen=True)
class Groups:
    """The sequences of a batch, divided into groups of consecutive sequences of similar length.

    No group contains sequences of two tasks.

    Args:
        layout: Where the sequences of the batch begin and end, and which tasks they belong to.
        device: The device on which the tensors of the groups are created.
        rounded: Whether to round shapes up, so that compiled kernels can be reused. If true, each sequence is padded to
            a multiple of ``STEP`` tokens. Dummy tokens are also appended to the batch, so that the number of its tokens
            is round too (see :func:`multiple`).
    """

    layout: Layout
    device: torch.device
    rounded: bool = False
    _kept: dict[Hashable, Any] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of sequences that attention computes together, in the order of the batch.

        Each token of the batch is in exactly one group.
        """
        similar = (
            (name, list(members))
            for name, span in self.layout.spans.items()
            for _, members in groupby(self.lengths[span.first : span.last], lambda length: room(length, self.device))
        )
        return tuple(_group(name, members, STEP if self.rounded else 1, self.device) for name, members in similar)

    @cached_property
    def lengths(self) -> list[int]:
        """The length of each sequence, in tokens."""
        return [stop - start for start, stop in pairwise(self.layout.offsets)]

    @property
    def tokens(self) -> int:
        """The number of tokens in the batch. The dummy rows that pad the batch do not count, see :attr:`dummies`."""
        return self.layout.offsets[-1]

    @property
    def dummies(self) -> int:
        """The number of dummy rows that are appended after the tokens.

        No token attends to dummy rows, and no result uses them.
        """
        return -self.tokens % multiple(self.tokens) if self.rounded else 0

    @cached_property
    def boundaries(self) -> Tensor:
        """The token offsets of the sequences: ``[S + 1]``, int32.

        Sequence ``i`` begins at offset ``boundaries[i]`` and ends before offset ``boundaries[i + 1]``.
        """
        return send(torch.tensor(self.layout.offsets, dtype=torch.int32), self.device)

    @cached_property
    def positions_N(self) -> Tensor:
        """The position of each token in its sequence, counted from 0. It is 0 for dummy tokens that pad the batch."""
        places = [torch.arange(length) for length in self.lengths]
        return send(torch.cat([*places, torch.zeros(self.dummies, dtype=torch.int64)]), self.device)

    def once(self, key: Hashable, compute: Callable[[], Computed]) -> Computed:
        """Returns the result of ``compute``, which is called once for each ``key`` and not again by later layers."""
        if key not in self._kept:
            self._kept[key] = compute()
        return cast(Computed, self._kept[key])

    @property
    def first_S(self) -> Tensor:
        """The index of each sequence's first token among all tokens of the batch: ``[S]``, int64."""
        return self.boundaries[:-1].long()


@dataclass(frozen=True)
class Padded(Groups):
    """A batch whose sequences are all padded to one length. The batch has a single :class:`Group`.

    The layers compute outputs for padding too, but no token attends to padding.

    Args:
        mask_BL: True for a token, false for padding.
    """

    layout: Layout = field(init=False, default=Layout((0,), {}))
    device: torch.device = field(init=False, default=torch.device("cpu"))
    mask_BL: Tensor = field(kw_only=True)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        sequences, length = self.mask_BL.shape
        return (Group("", sequences * length, sequences, length, None, ~self.mask_BL, traced=True),)

    @cached_property
    def positions_N(self) -> Tensor:
        sequences, length = self.mask_BL.shape
        return torch.arange(length, device=self.mask_BL.device).repeat(sequences)

    @property
    def first_S(self) -> Tensor:
        sequences, length = self.mask_BL.shape
        return torch.arange(sequences, device=self.mask_BL.device) * length


def room(length: int, device: torch.device) -> int:
    """Returns ``length`` rounded up: to a multiple of 8 on a CPU, and to a power of two, at least 32, on a GPU.

    Attention computes neighbouring sequences as one group if their rounded lengths are equal. On a GPU, the rounding is
    coarser, because each group takes time to launch.
    """
    if device.type == "cuda":
        return max(SHORT, 1 << (length - 1).bit_length())
    return -(-length // STEP) * STEP


def multiple(tokens: int) -> int:
    """Returns the unit of padding for a batch: the batch is padded to a whole number of units.

    The unit, in tokens, is the largest power of two that is at most 64 and at most ``tokens / 12``, or 1 if the batch
    has fewer than 12 tokens.
    """
    return int(2 ** min(6, max(0, math.floor(math.log2(max(tokens, 12) / 12)))))


def _group(span: str, lengths: list[int], step: int, device: torch.device) -> Group:
    tokens, sequences, length = sum(lengths), len(lengths), -(-max(lengths) // step) * step
    if tokens == sequences * length:
        return Group(span, tokens, sequences, length, None, None)
    taken_GL = torch.arange(length) < torch.tensor(lengths)[:, None]
    rows_M = taken_GL.flatten().nonzero().squeeze(1)
    return Group(span, tokens, sequences, length, send(rows_M, device), send(~taken_GL, device))


def attend(
    qkv_N3D: Tensor,
    groups: Groups,
    heads: int,
    dropout_rate: float,
    generator: torch.Generator | None,
    scores: GroupScores | None = None,
    *,
    window: int | None = None,
    first_only: bool = False,
) -> Tensor:
    """Returns the output of multi-head attention, in which each token attends to tokens of its own sequence.

    Args:
        qkv_N3D: The query, key and value of each token, side by side: ``[N, 3 * D]``. Dummy tokens (padding) come last.
        groups: The sequences of the batch, in groups.
        heads: The number of heads, which must divide ``D``.
        dropout_rate: The dropout rate of the attention probabilities.
        generator: Draws the dropout masks; None for evaluation.
        scores: Computes the scores of each group; None for plain products of queries and keys.
        window: The largest distance between two tokens that attend to each other, in positions; None for no limit.
            It must be None if ``scores`` is given.
        first_only: Whether to compute the output only for the first token of each sequence.

    Returns:
        The output for all tokens, ``[N, D]``, with zeros for dummy tokens. If ``first_only`` is true, the output for
        the first token of each sequence, ``[S, D]``.
    """
    assert scores is None or window is None
    if scores is None and _has_kernel(qkv_N3D, heads, 0.0 if generator is None else dropout_rate):
        return _attend_by_kernel(qkv_N3D, groups, heads, window, first_only)
    # split, not slices: the backward pass of split is one concatenation, that of a slice fills N rows with zeros.
    *parts, dummies = torch.split(qkv_N3D, [*(group.tokens for group in groups), groups.dummies])
    mixed = [
        _attend(part, group, heads, Mix(dropout_rate, generator, scores and partial(scores, group)), window, first_only)
        for part, group in zip(parts, groups, strict=True)
    ]
    if first_only:
        return torch.cat(mixed)
    return torch.cat([*mixed, mixed[0].new_zeros(len(dummies), mixed[0].shape[1])])


def _has_kernel(qkv_N3D: Tensor, heads: int, dropout_rate: float) -> bool:
    """Returns whether PyTorch's attention kernel for sequences of different lengths can be used.

    It needs a GPU, bfloat16, a dropout rate of 0, and a head width that is a multiple of 8 and at most 256.
    """
    head_width = qkv_N3D.shape[1] // (3 * heads)
    fits = qkv_N3D.dtype == torch.bfloat16 and head_width % 8 == 0 and head_width <= 256
    return qkv_N3D.device.type == "cuda" and fits and dropout_rate == 0.0


def _attend_by_kernel(qkv_N3D: Tensor, groups: Groups, heads: int, window: int | None, first_only: bool) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # imported here because it takes a second, and only GPUs need it

    real, dummies = torch.split(qkv_N3D, [groups.tokens, groups.dummies])
    q, k, v = real.view(groups.tokens, 3, heads, -1).unbind(1)
    ends, longest = groups.boundaries, max(groups.lengths)
    begins, queries = ends, longest
    # The kernel places a single query at the end of its sequence, which matters if there is a window.
    single = first_only and window is None
    if single:
        q, queries = take(q, groups.first_S), 1
        begins = torch.arange(len(ends), dtype=ends.dtype, device=ends.device)
    sides = (-1, -1) if window is None else (window, window)
    mixed = cast(Tensor, varlen_attn(q, k, v, begins, ends, queries, longest, window_size=sides)).flatten(1)
    if first_only:
        return mixed if single else take(mixed, groups.first_S)
    return torch.cat([mixed, dummies.new_zeros(len(dummies), mixed.shape[1])])


def _attend(qkv_M3D: Tensor, group: Group, heads: int, mix: Mix, window: int | None, first_only: bool) -> Tensor:
    """Returns attention's output for each token of a group of sequences, ``[M, D]``.

    If ``first_only`` is true, returns only the output for the first token of each sequence, ``[G, D]``.
    """
    sequences, length, head_width = group.sequences, group.length, qkv_M3D.shape[1] // (3 * heads)
    if group.rows_M is not None:
        places = qkv_M3D.new_zeros(sequences * length, qkv_M3D.shape[1])
        qkv_M3D = places.index_copy(0, group.rows_M, qkv_M3D)
    # One copy puts the heads before the tokens in queries, keys and values; the products then use views of it.
    qkv = qkv_M3D.view(sequences, length, 3, heads, head_width).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, sequences * heads, length, head_width).unbind()
    padding_GL, shape = group.padding_GL, (sequences, heads)
    if first_only:
        q = q[:, :1]
        if window is not None:
            k, v = k[:, : window + 1], v[:, : window + 1]
            padding_GL = None if padding_GL is None else padding_GL[:, : window + 1]
    hidden = None if padding_GL is None else padding_GL[:, None, None, :]
    if window is not None and not first_only and (group.traced or length > window + 1):
        if not group.traced and takes_blocks(length, window):
            mixed = mix_blocks(mix, q, k, v, padding_GL, heads, window)
        else:
            far = too_far(length, length, window, q.device)
            mixed = mix(q, k, v, far if hidden is None else hidden | far, shape)
    elif not group.traced and mix.is_for_long(length):
        mixed = mix.long(q, k, v, hidden, shape)
    else:
        mixed = mix(q, k, v, hidden, shape)
    queries = q.shape[1]
    mixed_MD = mixed.view(sequences, heads, queries, head_width).transpose(1, 2).reshape(sequences * queries, -1)
    return mixed_MD if first_only or group.rows_M is None else take(mixed_MD, group.rows_M)


def take(x: Tensor, rows: Tensor) -> Tensor:
    """Returns the rows ``x[rows]``. The indices ``rows`` must all be different."""
    taken: Tensor = _Take.apply(x, rows)  # type: ignore[no-untyped-call]  # torch does not annotate apply
    return taken


class _Take(torch.autograd.Function):
    """Selects rows, see :func:`take`. Its backward pass is ten times faster than that of ``index_select``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = x.shape
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy(0, rows, gradient), None
