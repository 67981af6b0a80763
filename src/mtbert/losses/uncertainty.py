"""Learned weights of the tasks' losses: a task with a higher uncertainty counts less.

Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
Semantics", 2018, equations 5 and 10, written in terms of ``s = log(sigma**2)`` as in the authors' code.
"""

from torch import Tensor

RATE = 0.01  # learning rate of s, which would hardly move at the rate of the other weights, such as 1e-5


def uncertainty_weighted(loss: Tensor, log_variance: Tensor, share: float, *, gaussian: bool) -> Tensor:
    """Returns ``loss`` weighted by the learned uncertainty ``s`` of its task: ``exp(-s) * loss + share * s / 2``.

    For a Gaussian likelihood, the first term is halved.

    Args:
        loss: The weighted sum of the task's losses in one forward pass, multiplied by ``share``.
        log_variance: ``s``, a scalar parameter of the task; 0 at the start.
        share: The number of the task's examples in the pass divided by their number in the step.
        gaussian: Whether the likelihood is Gaussian, as for scores.
    """
    precision = (-log_variance).exp()
    return (0.5 if gaussian else 1.0) * precision * loss + share * log_variance / 2
