"""The Gram matrix of the task gradients, which every balancing method reads, and the weighted sum of the gradients.

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
"""The gradient of one task: a tensor per shared parameter, or None for a parameter that the task does not use.

None counts as zero. The tensors of a parameter may be sparse, but then those of all tasks must be."""

# Bounds of squared norms that float32 can compute: between them, neither the squares nor any inner product of two such
# gradients loses more than 1e-10 of its value to under- or overflow, with up to a billion parameters.
EXACT = (1e-24, 1e36)

# Weights above this, or below its inverse, are applied in several multiplications: float32 ends at 2**128 and loses
# digits below 2**-126.
FACTOR = 2.0**100


@torch.no_grad()
def gram(gradients: Sequence[Gradient]) -> Tensor:
    """Returns the inner products of the task gradients over all shared parameters, ``[T, T]``, float64 on the CPU.

    Products are computed in the precision of the gradients and added up in float64. If the squared norm of a nonzero
    gradient does not fit into float32, everything is computed in float64.

    Args:
        gradients: The gradient of each task.

    Raises:
        ValueError: If the gradients do not all have the same number of parameters.
    """
    found_TT = _products(gradients, lambda part: part)
    for gradient, square in zip(gradients, found_TT.diagonal().tolist(), strict=True):
        if not EXACT[0] < square < EXACT[1] and not (square == 0 and _is_zero(gradient)):
            return _products(gradients, lambda part: with_float64(part).double())
    return found_TT


def _is_zero(gradient: Gradient) -> bool:
    """Returns whether every number in ``gradient`` is 0.

    A squared norm of 0 does not prove this, because the squares of small numbers underflow to 0.
    """
    there = [part.coalesce().values() if part.is_sparse else part for part in gradient if part is not None]
    return not there or not bool(torch.stack([part.any() for part in there]).any())


def _products(gradients: Sequence[Gradient], precise: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns the inner products of the task gradients over all shared parameters, ``[T, T]``, float64 on the CPU.

    The function ``precise`` is applied to all tensors before products are computed. It may raise their precision.
    """
    pairs, products = [], []
    for parts in zip(*gradients, strict=True):
        there = [(task, precise(part)) for task, part in enumerate(parts) if part is not None]
        for (i, a), (j, b) in combinations_with_replacement(there, 2):
            pairs.append((i, j))
            products.append(torch.sparse.sum(a * b) if a.is_sparse else a.flatten().dot(b.flatten()))
    sums: defaultdict[tuple[int, int], float] = defaultdict(float)
    # All products are copied from the device at once: waiting for each would cost more than computing it.
    for pair, product in zip(pairs, torch.stack(products).tolist() if products else [], strict=True):
        sums[pair] += product
    tasks = range(len(gradients))
    return torch.tensor([[sums[min(i, j), max(i, j)] for j in tasks] for i in tasks], dtype=torch.float64)


@torch.no_grad()
def combine(gradients: Sequence[Gradient], weights_T: Tensor) -> list[Tensor | None]:
    """Returns the weighted sum of the task gradients: for each parameter, a new tensor, or None if no task uses it.

    Args:
        gradients: The gradient of each task.
        weights_T: The weight of each task's gradient. All weights must be finite, see :func:`check_weights`.
    """
    weights = weights_T.tolist()
    return [_weighted_sum(parts, weights) for parts in zip(*gradients, strict=True)]


def check_weights(method: str, weights_T: Tensor) -> None:
    """Raises FloatingPointError if one of the weights that ``method`` has computed is not finite."""
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
    """Returns ``part`` and ``weight``, rescaled so that float32 can hold the weight. Their product does not change.

    The rescaled weight is 0, or its absolute value is from 2**-100 to 2**100.
    """
    while weight and not 1 / FACTOR <= abs(weight) <= FACTOR:
        power = FACTOR if abs(weight) > 1 else 1 / FACTOR
        part, weight = part * power, weight / power
    return part, weight


def cosines(gram_TT: Tensor) -> Tensor:
    """Returns the cosines of the angles between the task gradients, ``[T, T]``; 0 where a gradient is zero."""
    norms_T = gram_TT.diagonal().sqrt()
    norms_TT = norms_T[:, None] * norms_T
    return torch.where(norms_TT > 0, gram_TT / norms_TT, 0.0)
