"""The best evaluation of a run: the first one with the highest score.

The recipe's ``train.select`` names the score. The model at the best evaluation is saved in ``best/``, and early
stopping (``train.patience``) counts the evaluations after it.
"""

import math
from dataclasses import dataclass


@dataclass
class BestSoFar:
    """The best score so far, and the number of evaluations since then.

    >>> best = BestSoFar()
    >>> [best.count(score) for score in (0.5, 0.7, 0.7, 0.6)]
    [True, True, False, False]
    >>> best
    BestSoFar(score=0.7, since=2)
    """

    score: float = -math.inf
    since: int = 0  # evaluations

    def count(self, score: float) -> bool:
        """Records the score of a new evaluation; returns whether it is higher than every earlier score."""
        improved = score > self.score
        self.score, self.since = (score, 0) if improved else (self.score, self.since + 1)
        return improved
