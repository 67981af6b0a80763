"""PCGrad (gradient surgery): removes from each task's gradient what conflicts with the gradients of other tasks.

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
    """Returns the weights of the task gradients by PCGrad. The gradient of the step is ``weights @ gradients``.

    Args:
        gram_TT: The inner products of the task gradients, ``[T, T]``, float64 on the CPU, from
            :func:`mtbert.balance.gram.gram`.
        generator: Draws the order of the projections for each task. It always draws T permutations of T tasks.

    Returns:
        ``[T]``, float64, never negative. If no two gradients conflict, all weights are exactly 1, and the step equals
        plain addition. Multiplying all gradients by the same positive number does not change the weights.

    Raises:
        ValueError: If ``gram_TT`` is not square or not finite. The message names the row that is not finite.

    This is exactly Algorithm 1 of Yu et al., 2020. Each gradient is projected onto the normal planes of the *original*
    gradients of the other tasks, all shared parameters form one vector, and the projected gradients are added, not
    averaged.
    """
    import torch

    check_gram(gram_TT)
    orders = [torch.randperm(len(gram_TT), generator=generator).tolist() for _ in gram_TT]
    return torch.stack([project(gram_TT, task, order) for task, order in enumerate(orders)]).sum(0)


def project(gram_TT: Tensor, task: int, order: Sequence[int]) -> Tensor:
    """Returns the projected gradient of ``task``, written as weights of the original task gradients, ``[T]``, float64.

    Args:
        gram_TT: The inner products of the task gradients.
        task: The index of the task whose gradient is projected.
        order: The indices of the tasks in the order of the projections; ``task`` itself is skipped.
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
    """The balancing method PCGrad: each task's gradient gets the weight that :func:`pcgrad` returns for it."""

    kind: Literal["pcgrad"] = "pcgrad"

    @property
    def method(self) -> str:
        """The name of this balancing method, for use in messages."""
        return self.kind

    def check_installed(self) -> None:
        """Does nothing, because PCGrad needs no additional package."""

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the weight of each task's gradient, ``[T]``, computed by :func:`pcgrad`."""
        return pcgrad(gram_TT, generator)
