"""The output of attention: for each query, a mean of the values, weighted by the softmax of the query's scores.

A query has a score for each key: the scaled product of query and key, or a number from another function
(:attr:`Mix.scores`).

Dimension key: R rows, one for each sequence and head, Q queries, L keys, E width of a head.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mtbert.model.dropout import dropout

LONG = 512  # beyond this length, the scores of all pairs of tokens are not kept in memory
PART = 128  # queries whose scores are in memory at the same time, if dropout is applied to long sequences


def products(q: Tensor, k: Tensor) -> Tensor:
    """Returns the product of each query and key, divided by the square root of their width."""
    return torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=1 / math.sqrt(q.shape[2]))


@dataclass(frozen=True)
class Mix:
    """A function that computes the output of attention. It is called with queries, keys and values.

    Args:
        dropout_rate: The dropout rate of the attention weights.
        generator: Draws the dropout masks; None for evaluation.
        scores: Computes the scores ``[R, Q, L]`` from queries and keys; None for the scaled :func:`products`.
    """

    dropout_rate: float
    generator: torch.Generator | None
    scores: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Returns the output, which has the same shape as ``q``. All scores are in memory at once.

        Args:
            q: Queries, ``[R, Q, E]``.
            k: Keys, ``[R, L, E]``.
            v: Values, of the shape of ``k``.
            hidden: A mask that is true where a query must not attend to a key, with dimensions that can be expanded to
                ``[*shape, Q, L]``; None for no mask.
            shape: The number of sequences and the number of heads. If sequences are cut into blocks of tokens, also the
                number of blocks in each sequence. The product of these numbers is R.
        """
        scores = (self.scores or products)(q, k)
        if hidden is not None:
            # Not -inf: a padded sequence without any token, or a place out of reach of all tokens, has a finite output.
            least, all_scores = torch.finfo(scores.dtype).min, scores.view(*shape, q.shape[1], k.shape[1])
            scores = all_scores.masked_fill(hidden, least).flatten(0, -3)
        return dropout(scores.softmax(-1), self.dropout_rate, self.generator) @ v

    def is_for_long(self, length: int) -> bool:
        """Returns whether :meth:`long` must be called for sequences of ``length`` tokens, to save memory."""
        return self.scores is None and length > LONG

    def long(self, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Returns the output as :meth:`__call__` does, but memory grows only linearly with the number of keys.

        The arguments are those of :meth:`__call__`. The mask ``hidden`` must be the same for all queries, and
        ``self.scores`` must be None. With dropout, the queries are divided into parts, and the backward pass computes
        the attention weights of each part a second time.
        """
        if self.generator is None or self.dropout_rate == 0.0:
            q, k, v = (x.view(*shape, *x.shape[1:]) for x in (q, k, v))
            return F.scaled_dot_product_attention(q, k, v, None if hidden is None else ~hidden).flatten(0, 1)
        parts = torch.split(q, PART, dim=1)
        seeds = torch.empty(len(parts), dtype=torch.int64, device=self.generator.device)

        def mixed(q_RQE: Tensor, seed: int) -> Tensor:
            draws = torch.Generator(q.device).manual_seed(seed)  # when it is computed again, the mask is the same
            return replace(self, generator=draws)(q_RQE, k, v, hidden, shape)

        found = [
            checkpoint(mixed, part, seed, use_reentrant=False, preserve_rng_state=False)
            for part, seed in zip(parts, seeds.random_(generator=self.generator).tolist(), strict=True)
        ]
        return torch.cat(found, dim=1)
