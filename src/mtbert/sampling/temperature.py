"""Temperature sampling: a task is drawn by the number of its rows to the power ``1 / temperature``.

Temperature 1 is proportional sampling, 2 is sampling by the square root, and the higher, the more equal are the tasks.
A recipe may name the first two: ``sampler: proportional`` and ``sampler: square_root``.

Dimension key: T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mtbert.sampling.turn import Progress
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

NAMED: Mapping[str, float] = {"proportional": 1.0, "square_root": 2.0}


def by_temperature(value: Any) -> Any:
    """Returns a sampler's settings in place of the name of its temperature.

    >>> by_temperature("proportional")
    {'kind': 'temperature', 'temperature': 1.0}
    """
    for name, temperature in NAMED.items():
        if value in (name, {"kind": name}):
            return {"kind": "temperature", "temperature": temperature}
    return value


def powers(sizes: Sequence[int], power: float) -> Tensor:
    """Returns ``size**power`` of each task over their sum, ``[T]``, float64."""
    import torch

    powers_T = (torch.tensor(sizes, dtype=torch.float64) / max(sizes)) ** power  # at most 1: nothing overflows
    return powers_T / powers_T.sum()


class Temperature(Settings):
    """Each task by its number of rows to the power ``1 / temperature``."""

    kind: Literal["temperature"] = "temperature"
    temperature: float = Field(
        default=2.0, gt=0, description="1: proportional to the rows; 2: by their square root; higher: more equal"
    )

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        """Returns ``[T]``."""
        return powers(sizes, 1 / self.temperature)
