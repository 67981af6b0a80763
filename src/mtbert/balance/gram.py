"""Inner products of task gradients, and their weighted sum: what every balancing method reads and writes.

Dimension key: T tasks.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from mtbert.environment import with_float64
from mtbert.messages import shown

Gradient = Sequence[Tensor | None]
"""The gradient of one task: a tensor for each shared parameter, or None where the task does not touch it.

None counts as zero. The tensors of one parameter may be sparse, those of all tasks alike."""

# Squared norms between these are exact in float32: neither they nor any product of two such gradients under- or
# overflows in more than 1e-10 of its value, up to a billion parameters.
EXACT = (1e-24, 1e36)

# Factors beyond these are not applied at once: float32 has none above 2**128, and few digits below 2**-126.
FACTOR = 2.0**100


@torch.no_grad()
def gram(gradients: Sequence[Gradient]) -> Tensor:
    """Returns the inner products of the task gradients over all shared parameters, ``[T, T]``, float64 on the CPU.

    Products are taken tensor by tensor, in the tensors' own precision, and added up in float64; no gradient is copied.
    If a gradient is so small or so large that float32 loses its square, all products are taken in float64; one that is
    zero has no square to lose.

    Raises:
        ValueError: If the gradients are of unequally many parameters.
    """
    found_TT = _products(gradients, lambda part: part)
    for gradient, square in zip(gradients, found_TT.diagonal().tolist(), strict=True):
        if not EXACT[0] < square < EXACT[1] and not (square == 0 and _is_zero(gradient)):
            return _products(gradients, lambda part: with_float64(part).double())
    return found_TT


def _is_zero(gradient: Gradient) -> bool:
    """Returns whether every number is 0, which a square of 0 does not say: it may have underflowed."""
    there = [part.coalesce().values() if part.is_sparse else part for part in gradient if part is not None]
    return not there or not bool(torch.stack([part.any() for part in there]).any())


def _products(gradients: Sequence[Gradient], precise: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns the matrix of :func:`gram`; products are taken of what ``precise`` makes of a tensor."""
    pairs, products = [], []
    for parts in zip(*gradients, strict=True):
        there = [(task, precise(part)) for task, part in enumerate(parts) if part is not None]
        for (i, a), (j, b) in combinations_with_replacement(there, 2):
            pairs.append((i, j))
            products.append(torch.sparse.sum(a * b) if a.is_sparse else a.flatten().dot(b.flatten()))
    sums: defaultdict[tuple[int, int], float] = defaultdict(float)
    # All products leave the device at once: waiting for each would cost more than computing them.
    for pair, product in zip(pairs, torch.stack(products).tolist() if products else [], strict=True):
        sums[pair] += product
    tasks = range(len(gradients))
    return torch.tensor([[sums[min(i, j), max(i, j)] for j in tasks] for i in tasks], dtype=torch.float64)


@torch.no_grad()
def combine(gradients: Sequence[Gradient], weights_T: Tensor) -> list[Tensor | None]:
    """Returns the weighted sum of the task gradients: a new tensor per parameter, None where no task touches it.

    The weights must be finite: see :func:`check_weights`.
    """
    weights = weights_T.tolist()
    return [_weighted_sum(parts, weights) for parts in zip(*gradients, strict=True)]


def check_weights(method: str, weights_T: Tensor) -> None:
    """Raises FloatingPointError, which names the method, if a weight that it found is not finite."""
    if not weights_T.isfinite().all():
        raise FloatingPointError(
            f"train.aggregation: the weights of the task gradients by {method} must be finite, found "
            f"{shown(weights_T.tolist())}. Use another method, or lower train.lr."
        )


def _weighted_sum(parts: Sequence[Tensor | None], weights: Sequence[float]) -> Tensor | None:
    total = None
    for part, weight in zip(parts, weights, strict=True):
        if part is not None:
            part, weight = _applied(part, weight)
            total = part * weight if total is None else total.add_(part, alpha=weight)
    return total


def _applied(part: Tensor, weight: float) -> tuple[Tensor, float]:
    """Returns a tensor and a factor of the same product, of which the factor is neither too large nor too small.

    A tiny gradient that conflicts with a large one gets a weight that float32 does not have.
    """
    while weight and not 1 / FACTOR <= abs(weight) <= FACTOR:
        power = FACTOR if abs(weight) > 1 else 1 / FACTOR
        part, weight = part * power, weight / power
    return part, weight


def cosines(gram_TT: Tensor) -> Tensor:
    """Returns the cosines of the angles between the task gradients, ``[T, T]``; 0 where one of them is zero."""
    norms_T = gram_TT.diagonal().sqrt()
    norms_TT = norms_T[:, None] * norms_T
    return torch.where(norms_TT > 0, gram_TT / norms_TT, 0.0)
