"""Temperature sampling: the probability of a task is proportional to ``size ** (1 / temperature)``.

The size of a task is its number of train rows. Temperature 1 gives proportional sampling, and temperature 2 gives
square-root sampling. In a recipe, these two have names: ``sampler: proportional`` and ``sampler: square_root``. The
higher the temperature, the more equal are the probabilities.

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
    """Replaces the names ``proportional`` and ``square_root`` with the sampler settings that they stand for.

    Returns any other value unchanged.

    >>> by_temperature("proportional")
    {'kind': 'temperature', 'temperature': 1.0}
    """
    for name, temperature in NAMED.items():
        if value in (name, {"kind": name}):
            return {"kind": "temperature", "temperature": temperature}
    return value


def powers(sizes: Sequence[int], power: float) -> Tensor:
    """Returns each task's probability, ``[T]``, float64. It is proportional to the task's size raised to ``power``."""
    import torch

    powers_T = (torch.tensor(sizes, dtype=torch.float64) / max(sizes)) ** power  # at most 1, so nothing overflows
    return powers_T / powers_T.sum()


class Temperature(Settings):
    """A sampler in which a task's probability is proportional to a power of its number of train rows.

    The exponent is ``1 / temperature``.
    """

    kind: Literal["temperature"] = "temperature"
    temperature: float = Field(
        default=2.0, gt=0, description="1: proportional to the rows; 2: by their square root; higher: more equal"
    )

    def __call__(self, sizes: Sequence[int], progress: Progress) -> Tensor:
        """Returns the probability of each task, ``[T]``, float64. It is the same in every step."""
        return powers(sizes, 1 / self.temperature)
