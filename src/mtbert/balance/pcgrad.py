"""PCGrad, also called gradient surgery: a task's gradient loses the part that points against another task's.

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
    """Returns weights that add up the task gradients, each projected off the gradients that it conflicts with.

    Args:
        gram_TT: Inner products of the task gradients, ``[T, T]``, float64 on the CPU, from
            :func:`mtbert.balance.gram.gram`.
        generator: Draws, for each task, the order of its projections: T permutations of T, whatever the gradients.

    Returns:
        ``[T]``, float64, never negative. Exactly 1 for every task if no two gradients conflict: such a step is that
        of plain addition. Multiplying all gradients by one number changes nothing.

    Raises:
        ValueError: If ``gram_TT`` is not square, or not finite; the message names the row.

    Source: Yu et al., 2020, Algorithm 1, without a difference: what is projected onto is the *other* tasks'
    gradients as they were before any projection, over all shared parameters as one vector, and the projected
    gradients are added and not averaged.
    """
    import torch

    check_gram(gram_TT)
    orders = [torch.randperm(len(gram_TT), generator=generator).tolist() for _ in gram_TT]
    return torch.stack([project(gram_TT, task, order) for task, order in enumerate(orders)]).sum(0)


def project(gram_TT: Tensor, task: int, order: Sequence[int]) -> Tensor:
    """Returns the weights ``[T]`` of one task's gradient after its projections, in this order, without its own."""
    weights_T = gram_TT.new_zeros(len(gram_TT))
    weights_T[task] = 1.0
    for other in order:
        product = gram_TT[other] @ weights_T
        # A zero gradient is never divided by, as its products are all 0; its own weight stays 1.
        if other != task and product < 0:
            weights_T[other] -= product / gram_TT[other, other]
    return weights_T


class PCGrad(Settings):
    """The weights of :func:`pcgrad`."""

    kind: Literal["pcgrad"] = "pcgrad"

    @property
    def method(self) -> str:
        """The name of the method, for messages."""
        return self.kind

    def check_installed(self) -> None:
        """Does nothing: PCGrad needs no package."""

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Returns ``[T]``."""
        return pcgrad(gram_TT, generator)
