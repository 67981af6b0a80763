"""Warnings about losses that are always 0, or that contribute almost nothing to the encoder's gradient.

A run gives these warnings after it has trained for a while.
"""

from collections.abc import Iterator
from itertools import count

from mtbert.batch import TaskRows
from mtbert.training.micro_batches import micro_batches
from mtbert.training.run import Run

INERT = 1e-3  # a loss with a smaller share of its task's gradient gets a warning
INERT_ROWS = 16  # rows of each task from which these shares are computed


def inert_losses(run: Run) -> list[str]:
    """Returns a warning for each loss that hardly trains anything.

    A loss hardly trains anything if it has been 0 in every step, or if it contributes almost nothing to the encoder's
    gradient. Call this only after some training: little of a regulariser's gradient gets through an untrained head to
    the encoder.
    """
    idle = [
        f"loss {key} was 0 in every step: its batches hold nothing that it could compare. "
        "Raise batch_size, look at the labels, or drop it."
        for key, moved in run.moved.items()
        if not moved
    ]
    budget = run.recipe.train.token_budget
    several = [
        next(micro_batches([(data, examples[:INERT_ROWS])], budget))[0]
        for data, examples in _first_examples(run)
        if len(run.recipe.tasks[data.task.name].losses) > 1
    ]
    return idle + [
        f"task {name}: loss {kind} has {norm / sum(norms.values()):.0e} of the gradient that reaches the encoder: "
        "it does next to nothing. Raise its weight, or drop it."
        for name, norms in (
            run.objective.gradients(several) if any(p.requires_grad for p in run.model.depths()) else {}
        ).items()
        for kind, norm in norms.items()
        if 0 < norm < INERT * sum(norms.values())
    ]


def _first_examples(run: Run) -> Iterator[TaskRows]:
    """Yields a pair for each task: its train data set, and indices into it.

    These are the indices of the examples in the first batch that has examples of the task.
    """
    for stream in run.streams:
        for data in (run.data[name].train for name in run.tables[stream.name]):
            batches = (data.among(stream.rows(number)) for number in count())
            yield data, next(filter(len, batches))
