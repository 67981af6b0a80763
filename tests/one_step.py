"""The gradients of one step, without the optimizer."""

from collections.abc import Sequence

from mtbert.balance.by_task import ByTask, waves
from mtbert.balance.gram import Gradient
from mtbert.batch import TaskRows
from mtbert.training.objective import Objective, Tally
from mtbert.training.run import Run


def backward(objective: Objective, parts: Sequence[TaskRows]) -> Tally:
    """Adds the gradient of the objective on ``parts`` to every parameter's; returns the tally of the step."""
    tally = Tally()
    for shard in objective.shards(parts):
        for made in objective.losses(shard, tally):
            made.sum().backward()
    return tally


def by_task(run: Run, parts: Sequence[TaskRows]) -> list[Gradient]:
    """Returns the gradients of the encoder's weights for each task in turn, and adds all others as :func:`backward`."""
    apart = ByTask(run.model, run.shared)
    with apart.watching():
        (shard,) = run.objective.shards(parts)
        for made in run.objective.losses(shard, Tally(), apart.watch):
            for owners in waves(made.readers):
                with apart.collecting(owners):
                    made.sum(filter(None, owners.values())).backward(retain_graph=True)
    return [apart.gradients(data.task.name) for data, _ in parts]
