"""The best evaluation of a run: the evaluation with the highest score.

If two scores are equal, the evaluation with the lower mean negative log-likelihood is better. If the negative
log-likelihoods are equal too, or if no task has one, the later evaluation is better.

The recipe's ``train.select`` names the score. The model at the best evaluation is saved in ``best/``. Early stopping
(``train.patience``) counts the evaluations since the score last rose above all earlier scores. If a later evaluation
only equals the highest score, the count goes on.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation

OF_TRUTH = ("nll", "cross_entropy")  # metrics that tell how sure right answers are; a task has one of them or none


def standing(scores: Mapping[str, Evaluation], recipe: Recipe) -> tuple[float, float]:
    """Returns two numbers about an evaluation: its score by ``train.select``, and what decides between equal scores.

    The second number is the mean log-likelihood over the tasks that the score covers, or 0 if none of these tasks has a
    likelihood.
    """
    select = recipe.train.select
    counted = [scores[select]] if select in scores else scores.values()
    losses = [score.metrics[name] for score in counted for name in OF_TRUTH if name in score.metrics]
    chosen = recipe.aggregate(select, {name: score.metrics for name, score in scores.items()})
    return chosen, -sum(losses) / len(losses) if losses else 0.0


@dataclass
class BestSoFar:
    """The best score so far, and the number of evaluations since the run first reached that score.

    The method :meth:`count` records an evaluation, and returns whether the evaluation is the best so far. It takes two
    numbers: the score, and a number that decides between equal scores. Only a higher score sets ``since`` to 0.

    >>> best = BestSoFar()
    >>> [best.count(score, sure) for score, sure in ((0.5, -2), (0.7, -3), (0.7, -4), (0.7, -1), (0.6, 0))]
    [True, True, False, True, False]
    >>> best
    BestSoFar(score=0.7, since=3, sure=-1)
    """

    score: float = -math.inf
    since: int = 0  # evaluations
    sure: float = -math.inf  # decides between equal scores

    def count(self, score: float, sure: float = 0.0) -> bool:
        """Records a new evaluation; returns whether it is the best one so far.

        Args:
            score: The score of the new evaluation. If it is higher than all earlier scores, the new evaluation is the
                best one.
            sure: A number that decides between equal scores, such as the mean log-likelihood. If ``score`` equals the
                highest earlier score, the new evaluation is the best one unless the earlier best evaluation has a
                larger ``sure``.
        """
        higher = score > self.score
        self.since = 0 if higher else self.since + 1
        best = higher or (score == self.score and sure >= self.sure)
        if best:
            self.score, self.sure = score, sure
        return best
