"""Temperature sampling: a task's probability is proportional to its number of rows to the power ``1 / temperature``.

Temperature 1 is proportional sampling and 2 is square-root sampling; the higher the temperature, the closer together
are the probabilities. A recipe can name these two: ``sampler: proportional`` and ``sampler: square_root``.

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
    """Returns ``value`` with the name of a temperature replaced by the sampler's settings.

    >>> by_temperature("proportional")
    {'kind': 'temperature', 'temperature': 1.0}
    """
    for name, temperature in NAMED.items():
        if value in (name, {"kind": name}):
            return {"kind": "temperature", "temperature": temperature}
    return value


def powers(sizes: Sequence[int], power: float) -> Tensor:
    """Returns the probabilities of tasks, proportional to ``size**power``: ``[T]``, float64, summing to 1."""
    import torch

    powers_T = (torch.tensor(sizes, dtype=torch.float64) / max(sizes)) ** power  # at most 1, so nothing overflows
    return powers_T / powers_T.sum()


class Temperature(Settings):
    """Draws tasks in proportion to their number of rows to the power ``1 / temperature``."""

    kind: Literal["temperature"] = "temperature"
    temperature: float = Field(
        default=2.0, gt=0, description="1: proportional to the rows; 2: by their square root; higher: more equal"
    )

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        """Returns the probability of each task, ``[T]``, float64; the same for every step."""
        return powers(sizes, 1 / self.temperature)
