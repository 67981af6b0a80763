"""Plain addition of the task gradients: the control to compare other methods with.

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
    """Weight 1 for each task."""

    kind: Literal["sum"] = "sum"

    @property
    def method(self) -> str:
        """The name of the method, for messages."""
        return self.kind

    def check_installed(self) -> None:
        """Does nothing: addition needs no package."""

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Returns ``[T]`` ones."""
        import torch

        check_gram(gram_TT)
        return torch.ones(len(gram_TT), dtype=torch.float64)
