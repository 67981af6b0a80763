"""Batches of random sentences with given labels and clusters, and a pass over them.

Dimension key: B rows, D width, S sentences, M tokens of a task.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from tiny import CPU, dataset
from torch import Tensor, nn

from mtbert.batch import StepBatch
from mtbert.collate import collate
from mtbert.losses import Pass
from mtbert.model.model import Model
from mtbert.task import Task

PAIRS = Task(name="pairs", type="binary", inputs="separate", labels=("no", "yes"))
COSINE = Task.model_validate(
    {"name": "scores", "type": "regression", "inputs": "separate", "range": (0.0, 5.0), "head": "cosine"}
)
SINGLE = Task(name="one", type="ordinal", inputs="single", labels=("a", "b", "c"))
FIRST, SECOND = [4, 2, 7, 3, 2], [3, 5, 2, 2, 6]  # lengths of the two sentences of five pairs
SAME = [0, 1, 0, 2, 1]  # five rows in three clusters


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def with_gradients(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Returns the value and its gradients."""
    return loss.detach(), *torch.autograd.grad(loss, inputs, retain_graph=True)


def batch_of(task: Task, labels: Sequence[float | None], clusters: Sequence[Sequence[int]], seed: int = 0) -> StepBatch:
    """Returns random sentences with the first of the lengths above, and the given labels and cluster numbers."""
    lengths = [FIRST[: len(labels)], SECOND[: len(labels)]][: 2 if task.inputs == "separate" else 1]
    batch = collate([(dataset(task, *lengths, labels=labels, seed=seed), np.arange(len(labels)))], CPU)
    return replace(batch, clusters={task.name: torch.tensor(clusters)})


def passed(made: Model, batch: StepBatch, name: str, *, generator: torch.Generator | None = None) -> Pass:
    """Returns a pass over ``batch``; there is dropout only if a generator is given."""
    drawn = generator or torch.Generator()
    masks = drawn.get_state()
    out = made(batch, generator)[name]
    return Pass(made, batch, made.tasks[name], out, batch.labels[name], drawn, masks)


def cosine(u_D: Tensor, v_D: Tensor) -> Tensor:
    return (u_D * v_D).sum() / ((u_D * u_D).sum() * (v_D * v_D).sum()).sqrt()


def slow_ranking(a_BD: Tensor, p_BD: Tensor, clusters: Sequence[int], scale: float) -> Tensor:
    """Returns the loss by the printed formula, one cosine at a time."""
    terms = []
    for i, a_D in enumerate(a_BD):
        others = [j for j in range(len(p_BD)) if j == i or clusters[j] != clusters[i]]
        total = torch.stack([(scale * cosine(a_D, p_BD[j])).exp() for j in others]).sum()
        terms.append(-((scale * cosine(a_D, p_BD[i])).exp() / total).log())
    return torch.stack(terms).mean()


def large(own: nn.Module) -> nn.Module:
    """Returns the layer with large weights and biases, so that each of its terms matters."""
    for i, parameter in enumerate(own.parameters()):
        parameter.data = random(*parameter.shape, seed=7 + i).detach().to(parameter.dtype)
    return own
