"""Streams: the order in which the train rows of a table are put into batches."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mtbert.data.clusters import spread
from mtbert.seeds import numpy_generator


@dataclass(frozen=True)
class Stream:
    """An endless sequence of a table's rows: one random permutation of all rows after another, drawn from the seed.

    Attributes:
        name: The name of the table, or the name of the task if the task has files of its own.
        size: The number of rows.
        batch_size: The number of rows in a batch.
        seed: The seed of the run.
        clusters: The index of each text's cluster, ``[size, texts]``, from :func:`mtbert.data.clusters.clusters`; None
            if clusters do not matter. If clusters are given, each permutation is rearranged so that, if possible, no
            two rows of a batch share a cluster. Rows at the end of a permutation that do not fill a batch are then left
            out. If clusters are given, ``size`` must be at least ``batch_size``.
    """

    name: str
    size: int
    batch_size: int
    seed: int
    clusters: npt.NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    _passes: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, batch: int) -> npt.NDArray[np.int64]:
        """Returns the indices of the rows in batch number ``batch`` (counted from 0), ``[batch_size]``, int64.

        Batches are cut from random permutations of all rows, one permutation after another.
        """
        first = batch * self.batch_size
        wanted = np.arange(first, first + self.batch_size)
        # With clusters, no batch holds parts of two permutations, so the last rows of each may be left out.
        size = self.size if self.clusters is None else self.size - self.size % self.batch_size
        return np.array([self._permutation(i // size)[i % size] for i in wanted.tolist()])

    def _permutation(self, number: int) -> npt.NDArray[np.int64]:
        if number not in self._passes:
            for old in [n for n in self._passes if n < number - 1]:
                del self._passes[old]
            order = numpy_generator(self.seed, "rows", self.name, number).permutation(self.size)
            self._passes[number] = order if self.clusters is None else spread(order, self.clusters, self.batch_size)
        return self._passes[number]
