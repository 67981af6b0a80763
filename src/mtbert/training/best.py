"""Which evaluation of a run is the best: the first with the highest score by ``train.select``.

The model of that evaluation is saved in ``best/``, and patience counts the evaluations since it.
"""

import math
from dataclasses import dataclass


@dataclass
class BestSoFar:
    """The best score up to now, and how many evaluations have not beaten it since.

    >>> best = BestSoFar()
    >>> [best.count(score) for score in (0.5, 0.7, 0.7, 0.6)]
    [True, True, False, False]
    >>> best
    BestSoFar(score=0.7, since=2)
    """

    score: float = -math.inf
    since: int = 0  # evaluations

    def count(self, score: float) -> bool:
        """Counts one more evaluation; returns whether it is better than all before it. An equal one is not."""
        improved = score > self.score
        self.score, self.since = (score, 0) if improved else (self.score, self.since + 1)
        return improved
