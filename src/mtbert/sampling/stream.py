"""The rows of a task, batch after batch."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mtbert.data.clusters import spread
from mtbert.seeds import numpy_generator


@dataclass(frozen=True)
class Stream:
    """An endless order of a data set's rows: one seeded permutation after the other.

    With ``clusters``, ``[size, texts]``, each permutation is rearranged so that a batch holds no cluster twice as far
    as that is possible, and cut to whole batches.
    """

    name: str
    size: int
    batch_size: int
    seed: int
    clusters: npt.NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    _passes: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.clusters is not None and self.size < self.batch_size:
            raise ValueError(
                f"task {self.name}: no_duplicates cuts a pass to whole batches, and {self.size} train rows are not one "
                f"of {self.batch_size}. Lower batch_size."
            )

    def rows(self, batch: int) -> npt.NDArray[np.int64]:
        """Row numbers of batch ``batch`` (from 0); a batch that reaches the end of a pass takes from the next."""
        first = batch * self.batch_size
        wanted = np.arange(first, first + self.batch_size)
        size = self.size if self.clusters is None else self.size - self.size % self.batch_size
        return np.array([self._permutation(i // size)[i % size] for i in wanted.tolist()])

    def _permutation(self, number: int) -> npt.NDArray[np.int64]:
        if number not in self._passes:
            for old in [n for n in self._passes if n < number - 1]:
                del self._passes[old]
            order = numpy_generator(self.seed, "rows", self.name, number).permutation(self.size)
            self._passes[number] = order if self.clusters is None else spread(order, self.clusters, self.batch_size)
        return self._passes[number]
