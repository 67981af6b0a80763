"""PCGrad, also called gradient surgery: removes from a task's gradient the component that conflicts with another's.

Source: Yu et al., "Gradient Surgery for Multi-Task Learning", 2020.

Dimension key: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mtbert.balance import check_gram
from mtbert.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def pcgrad(gram_TT: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the weights of the task gradients after PCGrad; the step's gradient is ``weights @ gradients``.

    Args:
        gram_TT: Inner products of the task gradients, ``[T, T]``, float64 on the CPU, from
            :func:`mtbert.balance.gram.gram`.
        generator: Draws the order of the projections for each task: T permutations of T, whatever the gradients are.

    Returns:
        ``[T]``, float64, never negative. Exactly 1 for every task if no two gradients conflict, so that such a step
        equals plain addition. Multiplying all gradients by the same positive number does not change the weights.

    Raises:
        ValueError: If ``gram_TT`` is not square or not finite; the message names the row.

    Source: Yu et al., 2020, Algorithm 1, without differences: each gradient is projected onto the normal planes of the
    *original* gradients of the other tasks, all shared parameters are taken as one vector, and the projected gradients
    are added, not averaged.
    """
    import torch

    check_gram(gram_TT)
    orders = [torch.randperm(len(gram_TT), generator=generator).tolist() for _ in gram_TT]
    return torch.stack([project(gram_TT, task, order) for task, order in enumerate(orders)]).sum(0)


def project(gram_TT: Tensor, task: int, order: Sequence[int]) -> Tensor:
    """Returns the projected gradient of ``task`` as weights of the task gradients, ``[T]``, float64.

    Args:
        gram_TT: Inner products of the task gradients.
        task: The task whose gradient is projected.
        order: The order of the projections; ``task`` itself is skipped.
    """
    weights_T = gram_TT.new_zeros(len(gram_TT))
    weights_T[task] = 1.0
    for other in order:
        product = gram_TT[other] @ weights_T
        # A zero gradient never conflicts, because all its products are 0; so there is no division by zero.
        if other != task and product < 0:
            weights_T[other] -= product / gram_TT[other, other]
    return weights_T


class PCGrad(Settings):
    """Balances by :func:`pcgrad`."""

    kind: Literal["pcgrad"] = "pcgrad"

    @property
    def method(self) -> str:
        """The name of the method, for messages."""
        return self.kind

    def check_installed(self) -> None:
        """Does nothing: PCGrad needs no package."""

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the weights of :func:`pcgrad`, ``[T]``."""
        return pcgrad(gram_TT, generator)
