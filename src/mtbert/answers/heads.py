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
    layers: int | None  # the number of linear layers; None: as many as the encoder's family has in transformers
    inputs: tuple[str, ...] = ("single", "packed", "separate")  # the inputs of a task that may have this head
    because: str = ""  # why it takes no other inputs
    pooling: Literal["cls", "mean"] | None = None  # what it reads if the task names no pooling; None: as the model
    reads: str = ""  # what it does with the vectors of that pooling, if it reads no others

    @property
    def has_weights(self) -> bool:
        """Whether the head has weights to train. A head without weights has no dropout either."""
        return self.layers != 0

    @property
    def gives_cosine(self) -> bool:
        """Whether a prediction is the cosine of two vectors."""
        return self.gives == COSINE

    @property
    def native(self) -> bool:
        """Whether the encoder's family determines the layers of the head."""
        return self.layers is None


HEADS = {
    "linear": HeadKind(OUTPUTS, layers=1),
    "mlp": HeadKind(OUTPUTS, layers=2),
    "cosine": HeadKind(
        COSINE,
        layers=0,
        inputs=("separate",),
        because="compares two vectors",
        pooling="mean",
        reads="compares means over tokens",
    ),
    "native": HeadKind(
        OUTPUTS,
        layers=None,
        inputs=("single", "packed"),
        because="reads one sequence, as its class in transformers does",
        pooling="cls",  # some families have a head that reads others too; ``model/heads.py`` checks that
    ),
}

if TYPE_CHECKING:
    HeadName = str
else:  # pydantic names the known ones
    HeadName = Literal[tuple(HEADS)]
