"""Every kind of head that a recipe can name, and what it makes of vectors; ``model/heads.py`` builds them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

OUTPUTS = "outputs"  # numbers of a last layer
COSINE = "cosine"  # the cosine of two vectors


@dataclass(frozen=True)
class HeadKind:
    """A kind of head; ``gives`` names the kind of prediction that an answer type must have for it."""

    gives: str
    layers: int  # with weights, and with dropout before each
    compares: bool = False  # it compares the two vectors of a pair, each a mean over tokens

    @property
    def has_weights(self) -> bool:
        """Whether it has anything to train, and dropout."""
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
