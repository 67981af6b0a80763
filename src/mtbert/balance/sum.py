"""Plain addition of the task gradients, the baseline for all other balancing methods.

Dimension key: T tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mtbert.balance import check_gram
from mtbert.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Sum(Settings):
    """The balancing method that adds the task gradients: each of them gets weight 1."""

    kind: Literal["sum"] = "sum"

    @property
    def method(self) -> str:
        """The name of this balancing method, for use in messages."""
        return self.kind

    def check_installed(self) -> None:
        """Does nothing, because addition needs no additional package."""

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Returns weight 1 for every task, ``[T]``, float64.

        Raises:
            ValueError: If ``gram_TT`` is not square or not finite. The message names the row that is not finite.
        """
        import torch

        check_gram(gram_TT)
        return torch.ones(len(gram_TT), dtype=torch.float64)
