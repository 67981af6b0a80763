"""The kinds of head that a recipe can name, and the form of their predictions. ``model/heads.py`` builds the heads."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

OUTPUTS = "outputs"  # the numbers that a last linear layer gives
COSINE = "cosine"  # the cosine of two vectors


@dataclass(frozen=True)
class HeadKind:
    """A kind of head.

    ``gives`` is the form of its predictions, :data:`OUTPUTS` or :data:`COSINE`. A task can use the head only if its
    answer type has predictions of that form.
    """

    gives: str
    layers: int  # the number of linear layers, each with dropout before it
    compares: bool = False  # whether it compares the two vectors of a pair, each of which is a mean over tokens

    @property
    def has_weights(self) -> bool:
        """Whether the head has weights to train. A head without weights has no dropout either."""
        return self.layers > 0


HEADS = {
    "linear": HeadKind(OUTPUTS, layers=1),
    "mlp": HeadKind(OUTPUTS, layers=2),
    "cosine": HeadKind(COSINE, layers=0, compares=True),
}

if TYPE_CHECKING:
    HeadName = str
else:  # pydantic names the known ones
    HeadName = Literal[tuple(HEADS)]
