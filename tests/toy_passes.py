"""A pass of a tiny model with large heads over a task of any kind, and a slow divergence of two predictions.

Dimension key: B examples, K classes, M tokens, D width, L tokens of a sequence.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tiny import CPU, dataset, model
from torch import Tensor

from mtbert.batch import Dataset, StepBatch
from mtbert.collate import collate
from mtbert.losses import Pass
from mtbert.model.model import Model
from mtbert.task import Head, Task

PLAIN = Head(dropout=0.0)
COSINE = Head(kind="cosine")
TASKS = {
    "ordinal": Task(name="t", type="ordinal", inputs="single", labels=("0", "1", "2", "3", "4"), head=PLAIN),
    "classification": Task(name="t", type="classification", inputs="separate", labels=("a", "b", "c"), head=PLAIN),
    "binary": Task(name="t", type="binary", inputs="packed", labels=("0", "1"), head=PLAIN),
    "regression": Task(name="t", type="regression", inputs="separate", range=(0.0, 5.0), head=PLAIN),
    "cosine": Task(name="t", type="regression", inputs="separate", range=(0.0, 5.0), head=COSINE),
    "binary cosine": Task(name="t", type="binary", inputs="separate", labels=("0", "1"), head=COSINE),
}
OTHER = Task(name="u", type="regression", inputs="single", range=(0.0, 5.0), head=PLAIN)
# So small that adding it to an embedding does not change a bit.
NOTHING: dict[str, Any] = {"noise_std": 1e-30, "step_size": 1e-30}
# So large that every part of a step has an effect: some elements are clamped, but not all.
LARGE: dict[str, Any] = {"steps": 2, "step_size": 0.5, "noise_std": 0.1}


def loud(*tasks: Task, dropout: float = 0.0) -> Model:
    """Returns a tiny model in float64 whose heads have large weights, so that predictions differ."""
    made = model(*tasks, dropout=dropout).double()
    with torch.no_grad():
        for parameter in made.heads.parameters():
            parameter.mul_(25)
    return made


def examples(task: Task, lengths: Sequence[int] = (5, 3, 4)) -> Dataset:
    """Returns examples with unsorted lengths; second sentences are longer than first ones."""
    return dataset(
        task,
        *[[n + 3 * t for n in lengths] for t in range(2 if task.inputs == "separate" else 1)],
        labels=[0.0] * len(lengths),
    )


def batch_of(*data: Dataset) -> StepBatch:
    return collate([(d, np.arange(len(d))) for d in data], CPU)


def passed(made: Model, batch: StepBatch, *, name: str = "t") -> Pass:
    """Returns the pass of a training step, with a generator of seed 0."""
    generator = torch.Generator().manual_seed(0)
    x_ND = made.embed(batch, generator)
    masks = generator.get_state()
    out = made.finish(batch, x_ND, generator)[name]
    return Pass(made, batch, made.tasks[name], out, batch.labels[name], generator, masks)


def gradients(loss: Tensor, made: Model) -> dict[str, Tensor]:
    """Returns the gradient of every parameter that the loss depends on."""
    names = {name: p for name, p in made.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True, retain_graph=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None}


def assert_same(found: Tensor, expected: Tensor, made: Model, tolerance: float) -> None:
    """Checks that values and gradients are equal, relative to their size, and not zero."""
    assert expected.item() > 0
    assert found.item() == pytest.approx(expected.item(), rel=tolerance, abs=0)
    ours, theirs = gradients(found, made), gradients(expected, made)
    assert ours.keys() == theirs.keys()
    most = max(float(g.abs().max()) for g in theirs.values())
    assert most > 0
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=tolerance, atol=tolerance * most)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Returns ``sum p log(p / q) - (p - q)``; the second term sums to 0 and preserves digits for nearly equal terms."""
    return (p * ((p - q) / q).log1p() - (p - q)).sum()


def probabilities(task: Task, prediction: Tensor) -> Tensor:
    """Returns the class probabilities of one example, from its logits or its single logit."""
    if task.type == "binary":
        return torch.stack([1 / (1 + prediction.exp()), 1 / (1 + (-prediction).exp())])
    return prediction.exp() / prediction.exp().sum()


def slow_divergence(task: Task, a: Tensor, b: Tensor, *, detached: bool) -> Tensor:
    """Returns the divergence of two predictions for one example, each direction computed separately."""

    def target(x: Tensor) -> Tensor:
        return x.detach() if detached else x

    if task.type == "regression" or task.head.kind == "cosine":
        return ((a - target(b)) ** 2 + (target(a) - b) ** 2) / 2
    p, q = probabilities(task, a), probabilities(task, b)
    return kl(target(q), p) + kl(target(p), q)
