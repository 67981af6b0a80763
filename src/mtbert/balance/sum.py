"""Plain addition of the task gradients, the baseline of all other methods.

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
    """Gives every task's gradient weight 1."""

    kind: Literal["sum"] = "sum"

    @property
    def method(self) -> str:
        """The name of the method, for messages."""
        return self.kind

    def check_installed(self) -> None:
        """Does nothing: addition needs no package."""

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Returns ``[T]`` ones, float64.

        Raises:
            ValueError: If ``gram_TT`` is not square or not finite; the message names the row.
        """
        import torch

        check_gram(gram_TT)
        return torch.ones(len(gram_TT), dtype=torch.float64)
