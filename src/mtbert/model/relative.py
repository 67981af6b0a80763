"""Relative positions: a part of each attention score depends on the distance between the two tokens.

The encoder has one table for all of its layers. Once in a forward pass, a row is taken from the table for each distance
that occurs (:class:`ByDistance`). Each layer then gets a function that computes its attention scores with these rows.

Attention is computed for one group of sequences of similar length at a time.

Dimension key: R distances, W width of a row, G sequences of a group, L length of the longest sequence of a group, H
heads, E width of a head, Q queries: L, or 1 if only the first token is computed.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Self

import torch
from torch import Tensor, nn

from mtbert.batch import send
from mtbert.model.attention import Group, Groups, GroupScores
from mtbert.model.dropout import dropout
from mtbert.model.mix import products


@dataclass(frozen=True)
class Distances:
    """The distances between the tokens of the sequences in a batch. A distance is a key's position minus a query's.

    For sequences of at most L tokens, the distances are ``-L`` to ``L``. No two tokens have the distance ``-L`` or
    ``L``, but :func:`by_key` needs both.

    Usually, one list of distances serves the whole batch. The list can also be repeated, with a copy for each span. A
    span is the part of the batch that holds the examples from one table of data.

    Attributes:
        values_R: The distances, in ascending order; the copies of several spans follow one another.
        zero: The index of distance 0 in ``values_R``. If each span has a copy of the distances, a dict from the name of
            each span to the index of distance 0 in the span's copy.
    """

    values_R: Tensor
    zero: int | Mapping[str, int]

    @property
    def spans(self) -> dict[str, slice]:
        """A dict from the name of each span to the slice of ``values_R`` that holds the span's distances.

        A span is the part of the batch that holds the rows of one data table. If the whole batch shares a single list
        of distances, the dict is empty.
        """
        return _spans(self.zero)


def distances_in(groups: Groups, *, apart: bool = False) -> Distances:
    """Returns the distances from ``-L`` to ``L``, where ``L`` is the length of the longest sequence in a batch.

    The length includes padding.

    If ``apart`` is true, the result has a separate list of distances for each span of the batch. A span is the part of
    the batch that holds the rows of one data table. Each list goes from ``-L`` to ``L``, where ``L`` is the length of
    the longest sequence in the span. The last list may be longer than that.
    """
    by_span = groupby(groups, lambda group: group.span)
    longest = {span: max(group.length for group in members) for span, members in by_span}
    if not apart:
        length = max(longest.values())
        return Distances(torch.arange(-length, length + 1, device=groups.first_S.device), length)
    *_, last = longest
    while sum(2 * length + 1 for length in longest.values()) in (groups.tokens + groups.dummies, len(groups.lengths)):
        longest[last] += 1
    zero, start = {}, 0
    for span, length in longest.items():
        zero[span] = start + length
        start += 2 * length + 1
    values_R = torch.cat([torch.arange(-length, length + 1) for length in longest.values()])
    return Distances(send(values_R, groups.device), zero)


def _spans(zero: int | Mapping[str, int]) -> dict[str, slice]:
    """Returns a dict from the name of each span of a batch to a slice of the list of all distances.

    A span is the part of a batch that holds the rows of one data table. A distance is the difference between the
    positions of two tokens. The list holds the distances ``-n`` to ``n`` of the first span, then those of the second
    span with another ``n``, and so on. ``zero`` maps each span to the index of the span's distance 0 in the list. If
    ``zero`` is a single index, all spans share the same distances, and the dict is empty.
    """
    found, start = {}, 0
    if isinstance(zero, Mapping):
        for span, middle in zero.items():
            found[span] = slice(start, 2 * middle - start + 1)
            start = found[span].stop
    return found


@dataclass(frozen=True, eq=False)
class ByDistance(ABC):
    """For each distance between two tokens of a batch, its row from the encoder's table of relative positions.

    The rows are taken from the table once in a forward pass, and all layers read them.

    The distances are those of a :class:`Distances`: a single list for the whole batch, or a list for each span, one
    after the other. A span is the part of the batch that holds the examples of one data set.

    Attributes:
        index_R: For each listed distance, the index of its row in the encoder's table.
        rows_RW: For each listed distance, its row.
        zero: The index of distance 0 in ``rows_RW``. If each span has its own list of distances, there is a distance 0
            for each span: ``zero`` is then a dict from the name of the span to the index, such as
            ``{"first": 40, "second": 110}``.
    """

    index_R: Tensor
    rows_RW: Tensor
    zero: int | Mapping[str, int]

    def only(self, span: str) -> Self:
        """Returns a copy of ``self`` for only one part of the batch: the examples of one data table.

        ``span`` is the name of this part. If all parts share one list of distances, returns ``self``.
        """
        if not isinstance(self.zero, Mapping):
            return self
        part = _spans(self.zero)[span]
        zero = self.zero[span] - part.start
        return replace(self, index_R=self.index_R[part], rows_RW=self.rows_RW[part], zero=zero)

    def middle(self, group: Group) -> Tensor:
        """Returns a row for each distance from ``-L`` to ``L``, ``[2 * L + 1, W]``.

        The rows come from the encoder's table of relative positions. ``L`` is the length of the sequences in ``group``,
        and ``W`` is the width of a row.
        """
        if self.rows_RW.shape[0] == 2 * group.length + 1:  # always in a traced graph, where a slice has no known size
            return self.rows_RW
        zero = self.zero[group.span] if isinstance(self.zero, Mapping) else self.zero
        return self.rows_RW[zero - group.length : zero + group.length + 1]

    @abstractmethod
    def in_layer(self, project: Callable[[Tensor], Tensor], generator: torch.Generator | None) -> GroupScores:
        """Returns the function that computes the attention scores of a layer.

        Args:
            project: The layer's function from vectors to queries, keys and values.
            generator: Draws dropout masks; None for no dropout.
        """


class RelativeBias(nn.Module):
    """A table of learned biases, with a row for each bucket of distances and a column for each head.

    The biases are added to the attention scores of all layers.

    Args:
        heads: The number of heads.
        buckets: The number of buckets.
        bucket: A function from distances to buckets. Several large distances fall into the same bucket.
    """

    def __init__(self, heads: int, buckets: int, bucket: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.bucket = bucket

    def rows(self, between: Distances) -> "DistanceBiases":
        """Returns the biases of all heads for each distance."""
        index_R = self.bucket(between.values_R)
        return DistanceBiases(index_R, self.table(index_R), between.zero)


@dataclass(frozen=True, eq=False)
class DistanceBiases(ByDistance):
    """The biases of all heads for the distances in a batch. They are the same in all layers."""

    _of_groups: dict[Group, Tensor] = field(init=False, default_factory=dict, repr=False)

    def in_layer(self, project: Callable[[Tensor], Tensor], generator: torch.Generator | None) -> GroupScores:
        return self._scores

    def _scores(self, group: Group, q: Tensor, k: Tensor) -> Tensor:
        if group not in self._of_groups:  # all sequences of a group have the same biases, in all layers
            self._of_groups[group] = _bias(self.middle(group))
        plain = products(q, k)
        bias_HQL = self._of_groups[group][:, : q.shape[1]].to(plain.dtype)
        return (plain.view(-1, *bias_HQL.shape) + bias_HQL).flatten(0, 1)


class RelativeEmbedding(nn.Module):
    """A learned vector for each distance between two tokens. Every layer maps each vector to a query and a key.

    Attention with such queries and keys is called disentangled. The score of two tokens is the sum of three inner
    products, divided by ``sqrt(3 * E)``, where ``E`` is the width of a head:

    - the query of the first token with the key of the second token,
    - the query of the first token with the key of the distance,
    - the query of the distance with the key of the second token.

    Args:
        width: The width of the vectors. It equals the width of the layers.
        rows: The number of learned vectors.
        row: A function from distances to indices of learned vectors. Several large distances can have the same index.
        norm: The LayerNorm that is applied to the vectors; None for none.
        rate: The dropout rate of the vectors. Each layer draws a mask of its own.
    """

    def __init__(
        self, width: int, rows: int, row: Callable[[Tensor], Tensor], norm: nn.LayerNorm | None, rate: float
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, width)
        self.row = row
        self.norm = norm
        self.rate = rate

    def rows(self, between: Distances) -> "DistanceVectors":
        """Returns the learned vector of each distance, after the LayerNorm if there is one."""
        index_R = self.row(between.values_R)
        rows_RD: Tensor = self.table(index_R)
        return DistanceVectors(index_R, rows_RD if self.norm is None else self.norm(rows_RD), between.zero, self)

    def dropped(self, rows: "DistanceVectors", generator: torch.Generator | None) -> Tensor:
        """Returns the vectors in ``rows``, one for each distance, after dropout, ``[R, D]``."""
        if generator is None or self.rate == 0.0:
            return rows.rows_RW
        # The mask is drawn for the whole table, so that distances which share a row also share its mask.
        mask_TD = dropout(torch.ones_like(self.table.weight), self.rate, generator)
        return rows.rows_RW * mask_TD[rows.index_R]


@dataclass(frozen=True, eq=False)
class DistanceVectors(ByDistance):
    """A vector for each distance between tokens of a batch. Each layer maps these vectors to queries and keys."""

    source: RelativeEmbedding

    def in_layer(self, project: Callable[[Tensor], Tensor], generator: torch.Generator | None) -> GroupScores:
        return replace(self, rows_RW=project(self.source.dropped(self, generator)))._scores

    def _scores(self, group: Group, q: Tensor, k: Tensor) -> Tensor:
        return _disentangled(self.middle(group), group, q, k)


def _disentangled(rows_R3D: Tensor, group: Group, q: Tensor, k: Tensor) -> Tensor:
    """Returns the attention scores ``[G * H, Q, L]`` of G sequences with H heads, Q queries and L keys each.

    ``q`` and ``k`` hold the queries and keys of the tokens. ``rows_R3D`` holds a query, a key and a value for each
    distance between two tokens. The values are not used.
    """
    width, (queries, length) = q.shape[2], (q.shape[1], k.shape[1])
    # The values of distances are not used. Leaving them out would save about 1% of a step (short texts) and 5% (512
    # tokens). But it needs a product with a part of the layer's weight, which per-task gradients do not see.
    q_HRE, k_HRE, _ = rows_R3D.view(2 * length + 1, 3, -1, width).permute(1, 2, 0, 3).unbind()
    q_HGE, k_HGE = (x.view(group.sequences, -1, *x.shape[1:]).transpose(0, 1) for x in (q, k))
    if queries == length:
        # Seen from a key, the distances to all queries are in the opposite order.
        of_queries, of_keys = _products(q_HGE, k_HRE[:, :-1]), _products(k_HGE, q_HRE[:, 1:].flip(1))
        added = by_key(of_queries) + by_key(of_keys).transpose(2, 3)
    else:  # the first token alone, from which no key has a negative distance
        q_HLE, k_HLE = (x[:, length : 2 * length] for x in (q_HRE, k_HRE))
        added = _products(q_HGE, k_HLE) + (k_HGE * q_HLE[:, None]).sum(3)[:, :, None]
    scale = 1 / math.sqrt(3 * width)
    return torch.baddbmm(added.transpose(0, 1).flatten(0, 1), q, k.transpose(1, 2), beta=scale, alpha=scale)


def _products(x: Tensor, of_distance_HRE: Tensor) -> Tensor:
    """Returns the inner product of each vector in ``x`` with the vector of each distance, as a tensor ``[H, G, Q, R]``.

    ``x`` has the shape ``[H, G, Q, E]``: for each of H heads, a vector for each of Q tokens in each of G sequences.
    ``of_distance_HRE`` holds, for each head, a vector for each of R distances.
    """
    found: Tensor = x.flatten(1, 2) @ of_distance_HRE.transpose(1, 2)
    return found.view(*x.shape[:3], -1)


def _bias(rows_RH: Tensor) -> Tensor:
    """Returns the bias for each pair of a query and a key, ``[H, L, L]``.

    ``rows_RH`` holds the bias of each head for each distance from ``-L`` to ``L``.
    """
    length = rows_RH.shape[0] // 2
    return by_key(rows_RH[:-1].T[:, None, :].expand(-1, length, -1))


def by_key(x: Tensor) -> Tensor:
    """Returns a number for each query and key, ``[..., L, L]``.

    ``x`` has a number for each query and each distance between query and key, ``[..., L, 2 * L]``. The distances go
    from ``-L`` to ``L - 1``.
    """
    # In memory, a row begins 2 * L numbers after the row before. The wanted numbers of a row begin 2 * L - 1 numbers
    # after those of the row before, because they move to the left by one; those of the first row begin at L.
    *outer, length, _ = x.shape
    part = x.reshape(*outer, 2 * length, length)[..., 1:, :]
    return part.reshape(*outer, length, 2 * length - 1)[..., :length]
