"""Gradient surgery and balancing: one gradient per task comes in, one direction for the shared parameters goes out.

Every method here gives each task's whole gradient a weight, and finds the weights from inner products
alone: gradients -> :func:`gram` -> an :data:`Aggregation` -> :func:`combine`. Heads and adapters belong
to one task each and keep their own gradient.

Sources: Yu et al., "Gradient Surgery for Multi-Task Learning", 2020, for PCGrad; the rest is the package
torchjd (Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024), whose documentation
names the paper of each method.

Dimension key: T tasks.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtbert.environment import with_float64
from mtbert.messages import shown
from mtbert.settings import Settings

Gradient = Sequence[Tensor | None]
"""The gradient of one task: a tensor for each shared parameter, or None where the task does not touch it.

None counts as zero. The tensors of one parameter may be sparse, those of all tasks alike."""

Aggregation = Callable[[Tensor, torch.Generator], Tensor]
"""Weights ``[T]`` from a Gram matrix ``[T, T]``, both float64 on the CPU, as is the generator of all that is drawn.

A task whose gradient is zero takes no part: the others get the weights that they would get without it."""

# Squared norms between these are exact in float32: neither they nor any product of two such gradients under- or
# overflows in more than 1e-10 of its value, up to a billion parameters.
EXACT = (1e-24, 1e36)

# Factors beyond these are not applied at once: float32 has none above 2**128, and few digits below 2**-126.
FACTOR = 2.0**100


# Gradients -------------------------------------------------------------------------------------------------


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


def check_weights(aggregation: "AggregationSettings", weights_T: Tensor) -> None:
    """Raises FloatingPointError, which names the method, if a weight that it found is not finite."""
    if not weights_T.isfinite().all():
        method = aggregation.method if isinstance(aggregation, TorchJD) else aggregation.kind
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


# PCGrad ----------------------------------------------------------------------------------------------------


def pcgrad(gram_TT: Tensor, generator: torch.Generator) -> Tensor:
    """Weights that give the sum of the task gradients after each was projected off those it conflicts with.

    Args:
        gram_TT: Inner products of the task gradients, ``[T, T]``, float64 on the CPU: see :func:`gram`.
        generator: Draws, for each task, the order of its projections: T permutations of T, whatever the gradients.

    Returns:
        ``[T]``, float64, never negative. Exactly 1 for every task if no two gradients conflict: such a step is that
        of :class:`Sum`. Multiplying all gradients by one number changes nothing.

    Raises:
        ValueError: If ``gram_TT`` is not square, or not finite; the message names the row.

    Source: Yu et al., 2020, Algorithm 1, without a difference: what is projected onto is the *other* tasks'
    gradients as they were before any projection, over all shared parameters as one vector, and the projected
    gradients are added and not averaged.
    """
    _check(gram_TT)
    orders = [torch.randperm(len(gram_TT), generator=generator).tolist() for _ in gram_TT]
    return torch.stack([project(gram_TT, task, order) for task, order in enumerate(orders)]).sum(0)


def project(gram_TT: Tensor, task: int, order: Sequence[int]) -> Tensor:
    """Weights ``[T]`` of one task's gradient after its projections, in this order; the task itself is passed over."""
    weights_T = gram_TT.new_zeros(len(gram_TT))
    weights_T[task] = 1.0
    for other in order:
        product = gram_TT[other] @ weights_T
        # A zero gradient is never divided by, as its products are all 0; its own weight stays 1.
        if other != task and product < 0:
            weights_T[other] -= product / gram_TT[other, other]
    return weights_T


def _check(gram_TT: Tensor) -> None:
    """Refuses a matrix that is not square or not finite."""
    if gram_TT.ndim != 2 or gram_TT.shape[0] != gram_TT.shape[1]:
        raise ValueError(f"a Gram matrix must have a row and a column for each task, found {list(gram_TT.shape)}.")
    finite_TT = gram_TT.isfinite()
    if not finite_TT.all():
        # A broken gradient spoils its products with all others, so every row; its square tells which one it is.
        squares_T = finite_TT.diagonal()
        row = int((finite_TT.all(1) if squares_T.all() else squares_T).int().argmin())
        raise ValueError(
            f"Gram matrix, row {row}: inner products of task gradients must be finite, found {gram_TT[row].tolist()}. "
            "That task's gradient overflowed or holds nan: look at its loss, or lower train.lr."
        )


# Settings --------------------------------------------------------------------------------------------------


class Sum(Settings):
    """Weight 1 for each task: plain addition, the control to compare the other methods with."""

    kind: Literal["sum"] = "sum"

    def check(self) -> None:
        """Nothing to install."""

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        _check(gram_TT)
        return torch.ones(len(gram_TT), dtype=torch.float64)


class PCGrad(Settings):
    """The weights of :func:`pcgrad`."""

    kind: Literal["pcgrad"] = "pcgrad"

    def check(self) -> None:
        """Nothing to install."""

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        return pcgrad(gram_TT, generator)


# What torchjd 0.18 computes from the Gram matrix of one step alone. Not here:
# Sum and PCGrad, which are above; ExcessMTL, MoDo and SDMGrad, which read their input as a Jacobian or as the products
# of two batches; NashMTL, ConFIG, GradDrop and TrimmedMean, which need the gradients themselves; GradVac, PCD and
# CRMOGM, which carry state from step to step; Constant, which is what a task's weight does; Krum, which must be told
# how many tasks lie; FairGrad, which must be told how fair, and sends the weight of a zero gradient to infinity.
Method = Literal["AlignedMTL", "CAGrad", "DualProj", "IMTLG", "MGDA", "Mean", "Random", "UPGrad"]

# How far CAGrad may move away from the mean gradient, as a share of its length: the one value that the
# authors' scripts use on both NYU-v2 and CityScapes. It has no default.
CAGRAD_C = 0.4


class TorchJD(Settings):
    """The weights of a method of torchjd, with its defaults; 0 for a gradient that is zero.

    Its methods average where :class:`Sum` and :class:`PCGrad` add, so their steps are about T times
    shorter. Adam does not notice, clipping does: compare with method ``Mean``.
    """

    kind: Literal["torchjd"] = "torchjd"
    method: Method

    def check(self) -> None:
        """Raises ValueError if the method's packages are not installed; a recipe that names them is valid without."""
        _weighting(self.method)

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        _check(gram_TT)
        weights_T = torch.zeros(len(gram_TT), dtype=torch.float64)
        # A gradient that is zero would be all that MGDA takes, and a share of what Mean and Random give.
        present = gram_TT.diagonal() > 0
        # torchjd draws from the global generator. That of the CPU alone is seeded: torch.manual_seed would reach
        # those of all devices, which are not put back.
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        if present.any():
            # No method depends on the unit, but torchjd takes a trace below 1e-4 for zero, which gradients reach.
            present_TT = gram_TT[present][:, present]
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                weights_T[present] = _weighting(self.method)(present_TT / present_TT.trace())
        return weights_T


def _weighting(method: Method) -> Callable[[Tensor], Tensor]:
    """A torchjd weighting, which is a function of the Gram matrix; ValueError if what it needs is not installed."""
    try:
        from torchjd import aggregation

        kind = getattr(aggregation, f"{method}Weighting")
        weighting: Callable[[Tensor], Tensor] = kind(c=CAGRAD_C) if method == "CAGrad" else kind()
    except ImportError as error:
        raise ValueError(
            f"train.aggregation: method '{method}' needs torchjd and its solvers, found them missing. "
            'Run: pip install "mtbert[balance]"'
        ) from error
    return weighting


AggregationSettings = Annotated[Sum | PCGrad | TorchJD, Field(discriminator="kind")]
