"""Learned weights of the tasks' losses: a task with more uncertainty counts less.

Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
Semantics", 2018, equations 5 and 10, in terms of ``s = log(sigma**2)`` as their code has it.
"""

from torch import Tensor

RATE = 0.01  # learning rate of s, which would hardly move at the rate of the other weights, such as 1e-5


def uncertainty_weighted(loss: Tensor, log_variance: Tensor, share: float, *, gaussian: bool) -> Tensor:
    """Returns ``exp(-s) * loss + share * s / 2`` for classes; for scores the first term is halved.

    Args:
        loss: A task's weighted losses on a part of its batch, scaled by ``share``.
        log_variance: ``s``, a scalar parameter of the task; 0 at the start.
        share: The share of the task's examples in this step that are in the part.
        gaussian: Whether the likelihood is Gaussian, as for scores.
    """
    precision = (-log_variance).exp()
    return (0.5 if gaussian else 1.0) * precision * loss + share * log_variance / 2
