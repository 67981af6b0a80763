"""Gradient balancing: methods, such as gradient surgery, that combine the gradients of several tasks into one.

Every method gives the gradient of each task one weight. The weights depend only on the inner products of the gradients.
There are three steps. :func:`mtbert.balance.gram.gram` computes the matrix of inner products (the Gram matrix), a
:class:`BalanceSettings` turns it into weights, and :func:`mtbert.balance.gram.combine` adds the weighted gradients.
Only gradients of shared parameters are combined. Each head or adapter belongs to one task and keeps its own gradient.

The file of a method imports torch only inside its functions, so that recipes can be read without loading torch.

Dimension key: T tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class BalanceSettings(Protocol):
    """The interface of balancing methods, which have settings and compute weights of gradients from a Gram matrix."""

    @property
    def kind(self) -> str: ...

    @property
    def method(self) -> str:
        """The name of this balancing method, for use in messages."""
        ...

    def check_installed(self) -> None:
        """Raises ValueError if a package that the method needs is not installed.

        This is not part of the recipe's validation: a recipe is valid without the package.
        """
        ...

    def __call__(self, gram_TT: Tensor, generator: torch.Generator, /) -> Tensor:
        """Returns the weights of the task gradients, ``[T]``, float64 on the CPU.

        A task whose gradient is zero does not influence the weights of the other tasks.

        Args:
            gram_TT: The Gram matrix of the task gradients, ``[T, T]``, float64 on the CPU.
            generator: The source of all random numbers, on the CPU.
        """
        ...


def check_gram(gram_TT: Tensor) -> None:
    """Raises ValueError if a Gram matrix is not square or contains ``nan`` or infinity; the message says where."""
    if gram_TT.ndim != 2 or gram_TT.shape[0] != gram_TT.shape[1]:
        raise ValueError(f"a Gram matrix must have a row and a column for each task, found {list(gram_TT.shape)}.")
    finite_TT = gram_TT.isfinite()
    if not finite_TT.all():
        # A non-finite gradient makes its products with all others non-finite, so every row is affected. The diagonal
        # shows which gradient it is.
        squares_T = finite_TT.diagonal()
        row = int((finite_TT.all(1) if squares_T.all() else squares_T).int().argmin())
        raise ValueError(
            f"Gram matrix, row {row}: inner products of task gradients must be finite, found {gram_TT[row].tolist()}. "
            "That task's gradient overflowed or holds nan: look at its loss, or lower train.lr."
        )
