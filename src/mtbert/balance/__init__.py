"""Gradient balancing: methods that combine the gradients of several tasks into one, such as gradient surgery.

Every method gives each task's gradient one weight, which it computes from the inner products of the gradients alone:
gradients -> :func:`mtbert.balance.gram.gram` -> a :class:`BalanceSettings` -> :func:`mtbert.balance.gram.combine`. Only
the gradients of shared parameters are combined. Heads and adapters belong to one task each and keep their own gradient.

The file of a method imports torch inside its functions, so that recipes can be read without loading torch.

Dimension key: T tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class BalanceSettings(Protocol):
    """The interface of balancing methods: functions from a Gram matrix to the weights of the task gradients."""

    @property
    def kind(self) -> str: ...

    @property
    def method(self) -> str:
        """The name of the method, for messages."""
        ...

    def check_installed(self) -> None:
        """Raises ValueError if a package that the method needs is not installed; a recipe is valid without it."""
        ...

    def __call__(self, gram_TT: Tensor, generator: torch.Generator, /) -> Tensor:
        """Returns the weights of the task gradients, ``[T]``, float64 on the CPU.

        A task whose gradient is zero does not influence the result: the others get the weights that they would get
        without it.

        Args:
            gram_TT: The Gram matrix of the task gradients, ``[T, T]``, float64 on the CPU.
            generator: The source of all random numbers, on the CPU.
        """
        ...


def check_gram(gram_TT: Tensor) -> None:
    """Raises ValueError, which names the row, if a Gram matrix is not square or not finite."""
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
