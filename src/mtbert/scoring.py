"""Makes a model's predictions for a data set, and scores them.

Dimension key: B examples, K numbers of one answer, D width of the encoder.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtbert import metrics
from mtbert.batch import Dataset, Output, collate
from mtbert.messages import shown
from mtbert.model.model import Model
from mtbert.storage.predictions import Predicted
from mtbert.task import Task

TOKENS = 4096  # most tokens of one forward pass without gradients
TOKENS_ON_GPU = 2**15  # a GPU would wait for the host with fewer: each pass launches hundreds of kernels
THRESHOLD_SAMPLE = 2000  # train rows that a threshold is fitted on

Tick = Callable[[int], None]  # called after each batch with its number of examples


@dataclass(frozen=True)
class Evaluation:
    """The scores of one task on one data set.

    Attributes:
        metrics: The value of each metric, by the name of the metric.
        baseline: The same metrics for the best constant answer.
        collapsed: Whether all or nearly all answers are the same.
        examples: The number of examples.
    """

    metrics: dict[str, float]
    baseline: dict[str, float]
    collapsed: bool
    examples: int


def predict_examples(model: Model, data: Dataset, tick: Tick = lambda _: None) -> Tensor:
    """Returns the raw predictions for all examples, in their order: ``[B]`` or ``[B, K]``, float32 on the CPU.

    Raises:
        FloatingPointError: If a prediction is not finite. The message names the example.
    """
    return predict_together(model, [data], tick)[data.task.name]


def predict_together(model: Model, data: Sequence[Dataset], tick: Tick = lambda _: None) -> dict[str, Tensor]:
    """Returns the raw predictions for each of several data sets, by the name of its task.

    The result for a data set is that of :func:`predict_examples`, but data sets with the same ``sequences`` object are
    encoded only once. A task with an adapter is still encoded alone: its adapter changes the output of every layer.

    Raises:
        FloatingPointError: If a prediction is not finite. The message names the task and the example.
    """
    sharing: dict[tuple[int, str | None], list[Dataset]] = {}
    for one in data:
        name = one.task.name
        sharing.setdefault((id(one.sequences), name if model.adapted(name) else None), []).append(one)
    found: dict[str, Tensor] = {}
    for together in sharing.values():
        parts = _forward(model, together, np.arange(len(together[0])), lambda out: (out.prediction,), tick)
        found |= {one.task.name: part for one, (part,) in zip(together, parts, strict=True)}
    return {one.task.name: found[one.task.name] for one in data}


def pooled_vectors(model: Model, data: Dataset, tick: Tick = lambda _: None) -> tuple[Tensor, ...]:
    """Returns the sentence vectors of all examples, in their order.

    There is one tensor ``[B, D]``, float32 on the CPU, for each token sequence of an example.

    Raises:
        FloatingPointError: If a vector is not finite. The message names the example.
    """
    return _forward(model, [data], np.arange(len(data)), lambda out: out.vectors, tick)[0]


def evaluate_model(model: Model, data: Dataset, tick: Tick = lambda _: None) -> Evaluation:
    """Returns the scores of ``model`` on all examples of ``data``."""
    return evaluate_predicted(data, predict_and_decide(model, data, tick))


def predict_and_decide(model: Model, data: Dataset, tick: Tick = lambda _: None) -> Predicted:
    """Returns the raw predictions of the model for ``data``, and the decisions that follow from these predictions.

    Raises:
        FloatingPointError: If a prediction is not finite.
    """
    prediction = predict_examples(model, data, tick)
    return Predicted(prediction, torch.from_numpy(decide(model, data.task, prediction)))


def evaluate_predicted(data: Dataset, predicted: Predicted) -> Evaluation:
    """Returns the scores of ``predicted``, which :func:`predict_and_decide` returned for ``data``."""
    task, labels = data.task, data.examples.labels
    found = {m.name: metrics.value(task, m.name, predicted.read_by(m), labels) for m in task.answer.metrics}
    return Evaluation(
        metrics=found,
        baseline={name: metrics.baseline(task, name, labels) for name in found},
        collapsed=task.answer.labels.collapsed(predicted.decision.numpy()),
        examples=len(data),
    )


def undefined_scores(data: Dataset, predicted: Predicted, names: Iterable[str]) -> list[str]:
    """Returns a warning for each metric in ``names`` that is undefined. Equal warnings are given only once."""
    task, labels = data.task, data.examples.labels
    found = (metrics.undefined(task, name, predicted.read_by(task.answer.metric(name)), labels) for name in names)
    return list(dict.fromkeys(filter(None, found)))


def decide(model: Model, task: Task, prediction: Tensor) -> npt.NDArray[Any]:
    """Returns the decisions that follow from raw predictions (see :meth:`mtbert.answers.PredictionKind.decide`)."""
    return task.predicts.decide(prediction, _threshold(model, task))


def decode(model: Model, task: Task, prediction: Tensor) -> list[dict[str, Any]]:
    """Returns one answer per example in a form for people (see :meth:`mtbert.answers.PredictionKind.decode`)."""
    return task.predicts.decode(task, prediction, _threshold(model, task))


def fit_threshold(model: Model, train: Dataset, generator: np.random.Generator) -> None:
    """Sets the decision threshold of a task's head to the one that is most accurate on a sample of train.

    Does nothing if the head has no threshold.
    """
    fit, threshold = train.task.predicts.fit, model.head(train.task.name).threshold
    if fit is None or threshold is None:
        return
    rows = generator.permutation(len(train))[:THRESHOLD_SAMPLE]
    ((prediction,),) = _forward(model, [train], rows, lambda out: (out.prediction,))
    threshold.fill_(fit(prediction.double().numpy(), train.examples.labels[rows]))


@torch.no_grad()
def _forward(
    model: Model,
    together: Sequence[Dataset],
    rows: npt.NDArray[np.int64],
    pick: Callable[[Output], tuple[Tensor, ...]],
    tick: Tick = lambda _: None,
) -> list[tuple[Tensor, ...]]:
    """Runs the model on ``rows``, and returns for each data set the tensors that ``pick`` takes from the output.

    The tensors are in the order of ``rows``. The data sets must share their sequences, which are encoded only once.
    """
    data, names = together[0], [one.task.name for one in together]
    by_length = np.argsort(data.lengths[rows], kind="stable")
    device = next(model.parameters()).device
    collected: list[list[Tensor]] = []  # of each batch, those of one task after the other
    for chunk in _chunks(data.lengths[rows[by_length]], TOKENS_ON_GPU if device.type == "cuda" else TOKENS):
        batch = collate([(data, rows[by_length[chunk]])], device)
        outputs = model(batch, readers={data.task.name: names})
        collected.append([t.float() for name in names for t in pick(outputs[name])])
        # Copies the outputs of the previous batch. Copying this one would wait for it, and leave a GPU without work.
        collected[-2:-1] = [[t.cpu() for t in out] for out in collected[-2:-1]]
        tick(chunk.stop - chunk.start)
    back = torch.from_numpy(np.argsort(by_length))
    parts = [torch.cat([t.cpu() for t in part])[back] for part in zip(*collected, strict=True)]
    each = len(parts) // len(together)
    found = [tuple(parts[i * each : (i + 1) * each]) for i in range(len(together))]
    for one, tensors in zip(together, found, strict=True):
        for part in tensors:
            _check_finite(one, rows, part)
    return found


def _check_finite(data: Dataset, rows: npt.NDArray[np.int64], part: Tensor) -> None:
    bad = (~part.flatten(1).isfinite().all(1) if part.dim() > 1 else ~part.isfinite()).nonzero().flatten()
    if len(bad):
        first = shown(data.examples.ids[int(rows[bad[0]])])
        raise FloatingPointError(
            f"task {data.task.name}: {len(bad):,} of {len(rows):,} answers are not finite "
            f"(first: id {first}). Its weights are too large, or damaged: train it again, with a lower train.lr."
        )


def _chunks(lengths: npt.NDArray[np.int64], tokens: int) -> Iterator[slice]:
    """Yields slices of consecutive examples with at most ``tokens`` tokens in total.

    An example with more tokens gets a slice of its own.
    """
    first, total = 0, 0
    for i, length in enumerate(lengths.tolist()):
        if total + length > tokens and i > first:
            yield slice(first, i)
            first, total = i, 0
        total += length
    if first < len(lengths):
        yield slice(first, len(lengths))


def _threshold(model: Model, task: Task) -> float:
    threshold = model.head(task.name).threshold
    return 0.0 if threshold is None else float(threshold)
