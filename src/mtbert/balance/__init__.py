"""How the gradients of several tasks become one: surgery and balancing.

Every method gives each task's whole gradient a weight, and finds the weights from inner products alone: gradients ->
:func:`mtbert.balance.gram.gram` -> a :class:`BalanceSettings` -> :func:`mtbert.balance.gram.combine`. Heads and
adapters belong to one task each and keep their own gradient.

A recipe is read without torch, so a method's file imports torch inside its functions.

Dimension key: T tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class BalanceSettings(Protocol):
    """The seam of every balancing method: a Gram matrix goes in, the weights of the task gradients come out."""

    @property
    def kind(self) -> str: ...

    @property
    def method(self) -> str:
        """The name of the method, for messages."""
        ...

    def check_installed(self) -> None:
        """Raises ValueError if a package that the method needs is missing; a recipe is valid without it."""
        ...

    def __call__(self, gram_TT: Tensor, generator: torch.Generator, /) -> Tensor:
        """Returns the weights ``[T]`` for a Gram matrix ``[T, T]``, both float64 on the CPU.

        A task whose gradient is zero takes no part: the others get the weights that they would get without it.
        ``generator``, on the CPU too, gives all that is drawn.
        """
        ...


def check_gram(gram_TT: Tensor) -> None:
    """Raises ValueError, which names the row, if a Gram matrix is not square or not finite."""
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
