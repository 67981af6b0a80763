"""Functions that make a model's predictions for a data set, and score them.

Dimension key: B examples, K numbers per answer, D width of the encoder.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtbert import metrics
from mtbert.answers.fitting import NOTHING_FITTED, FittedName, calibrated, fit_numbers
from mtbert.answers.of_words import OfWords
from mtbert.batch import Dataset, Floats, Output, Rows, TaskRows
from mtbert.collate import Shared, collate, share_rows
from mtbert.columns import TextColumn
from mtbert.data.words import finder
from mtbert.messages import shown
from mtbert.model.model import Model
from mtbert.processes import ALONE, Processes
from mtbert.progress_bar import Tick, progress_of
from mtbert.ragged import Ragged, all_values
from mtbert.storage.predictions import Predicted
from mtbert.task import Task

TOKENS = 4096  # most tokens of one forward pass without gradients
TOKENS_ON_GPU = 2**15  # with fewer, a GPU would wait for the host: each pass launches hundreds of kernels


@dataclass(frozen=True)
class Evaluation:
    """The scores of one task on one data set.

    Attributes:
        metrics: A dict from metric name to the value of the metric.
        baseline: The same metrics for the best constant answer.
        collapsed: Whether all or nearly all answers are the same.
        examples: The number of examples.
        uncalibrated: The metrics of probabilities, such as ``nll``, before calibration. It is empty if the task is not
            calibrated.
    """

    metrics: dict[str, float]
    baseline: dict[str, float]
    collapsed: bool
    examples: int
    uncalibrated: dict[str, float] = field(default_factory=dict)


def predict_examples(model: Model, data: Dataset, tick: Tick = lambda _: None) -> Tensor:
    """Returns the raw predictions for all examples, in their order: ``[B]`` or ``[B, K]``, float32 on the CPU.

    Raises:
        FloatingPointError: If a prediction is not finite. The message names the example.
    """
    return predict_together(model, [data], tick)[data.task.name]


def predict_together(
    model: Model, data: Sequence[Dataset], tick: Tick = lambda _: None, processes: Processes = ALONE
) -> dict[str, Tensor]:
    """Returns a dict from the name of each data set's task to the raw predictions for its examples.

    The predictions are in the order of the examples: ``[B]`` or ``[B, K]``, float32 on the CPU. Data sets with the same
    ``sequences`` are encoded together, except those of tasks with adapters.

    Raises:
        FloatingPointError: If a prediction is not finite. The message names the task and the example.
    """
    found = predict_rows(model, [(one, np.arange(len(one))) for one in data], tick, processes)
    return {one.task.name: found[one.task.name] for one in data}


def predict_with_vectors(model: Model, data: Sequence[Dataset]) -> dict[str, tuple[Tensor, ...]]:
    """Returns a dict from task name to a tuple: the raw predictions, and then the vectors that the head reads.

    :func:`predict_together` returns the same raw predictions, and :func:`pooled_vectors` returns the same vectors.
    Here, both come from one pass.
    """
    found: dict[str, tuple[Tensor, ...]] = {}
    for span in _spans(model, data):
        found |= _forward(model, span, lambda out: (out.prediction, *out.vectors))
    return found


def predict_rows(
    model: Model, parts: Sequence[TaskRows], tick: Tick = lambda _: None, processes: Processes = ALONE
) -> dict[str, Tensor]:
    """Returns a dict from task name to the raw predictions for the chosen examples of that task.

    Each element of ``parts`` is a pair: the data set of a task, and the indices of the chosen examples. Each of the
    ``processes`` computes some of the batches, and gets the predictions of all batches. The batches are the same for
    any number of processes.
    """
    found: dict[str, Tensor] = {}
    for span in share_rows(parts, model.apart):
        for name, (part,) in _forward(model, span, lambda out: (out.prediction,), tick, processes).items():
            found[name] = part
    return found


def encoded(model: Model, data: Iterable[Dataset]) -> tuple[int, int]:
    """Returns how many rows and how many tokens :func:`predict_together` encodes.

    The numbers that :func:`predict_together` passes to its ``tick`` function add up to this number of rows.
    """
    spans = _spans(model, data)
    return sum(len(span.rows) for span in spans), sum(int(span.lengths().sum()) for span in spans)


def pooled_vectors(model: Model, data: Dataset, tick: Tick = lambda _: None) -> tuple[Tensor, ...]:
    """Returns the sentence vectors of all examples, in their order, as tensors ``[B, D]``, float32 on the CPU.

    There is one tensor if the texts of an example are encoded as one sequence. If they are encoded separately, there is
    one tensor for the first text of all examples, one for the second text, and so on.

    Raises:
        FloatingPointError: If a vector is not finite. The message names the example.
    """
    (span,) = _spans(model, [data])
    return _forward(model, span, lambda out: out.vectors, tick)[data.task.name]


def evaluate_model(model: Model, data: Dataset, tick: Tick = lambda _: None) -> Evaluation:
    """Returns the scores of ``model`` on all examples of ``data``."""
    return evaluate_predicted(data, predict_and_decide(model, [data], tick)[data.task.name])


def predict_and_decide(
    model: Model, data: Sequence[Dataset], tick: Tick = lambda _: None, processes: Processes = ALONE
) -> dict[str, Predicted]:
    """Returns a dict from the name of each task to its raw predictions and the decisions that follow from them.

    ``data`` holds one data set for each task. Data sets of one table are encoded together, see
    :func:`predict_together`.

    Raises:
        FloatingPointError: If a prediction is not finite.
    """
    found = predict_together(model, data, tick, processes)
    return {one.task.name: decided(model, one, found[one.task.name]) for one in data}


def decided(model: Model, data: Dataset, prediction: Tensor) -> Predicted:
    """Returns raw predictions for ``data`` together with the decisions that follow from them."""
    shown, words = calibrated(prediction, model.fitted(data.task.name)), data.words(np.arange(len(data)))
    return Predicted(
        prediction,
        decision=torch.from_numpy(decide(model, data.task, prediction)),
        calibrated=None if shown is prediction else shown,
        offsets=None if words is None else torch.from_numpy(words.offsets),
    )


def evaluate_predicted(data: Dataset, predicted: Predicted) -> Evaluation:
    """Returns the scores of ``predicted``, the predictions that :func:`predict_and_decide` made for ``data``."""
    task, labels = data.task, data.examples.labels
    found = {m.name: metrics.value(task, m.name, predicted.read_by(m), labels) for m in task.metrics}
    changed = [m.name for m in task.metrics if m.probabilities and predicted.calibrated is not None]
    raw = predicted.prediction.numpy()
    return Evaluation(
        metrics=found,
        baseline={name: metrics.baseline(task, name, labels) for name in found},
        collapsed=task.answer.labels.collapsed(predicted.decision.numpy()),
        examples=len(data),
        uncalibrated={name: metrics.value(task, name, raw, labels) for name in changed},
    )


def undefined_scores(data: Dataset, predicted: Predicted, names: Iterable[str]) -> list[str]:
    """Returns a warning for each metric in ``names`` that is undefined. Equal warnings are given only once."""
    task, labels = data.task, data.examples.labels
    found = (metrics.undefined(task, name, predicted.read_by(task.metric_named(name)), labels) for name in names)
    return list(dict.fromkeys(filter(None, found)))


def decide(model: Model, task: Task, prediction: Tensor) -> npt.NDArray[Any]:
    """Returns the decisions that follow from raw predictions (see :meth:`mtbert.answers.PredictionKind.decide`)."""
    fitted = model.fitted(task.name)
    return task.predicts.decide(calibrated(prediction, fitted), _threshold(fitted))


def decode(model: Model, task: Task, prediction: Tensor, texts: TextColumn | None = None) -> list[dict[str, Any]]:
    """Returns one answer per example in a form for people (see :meth:`mtbert.answers.PredictionKind.decode`).

    ``texts`` are the texts of the examples. They are needed only if the task has a label for each word.
    """
    fitted, predicts = model.fitted(task.name), task.predicts
    shown = calibrated(prediction, fitted)
    with progress_of(f"decoding the answers of {task.name}"):
        if texts is not None and isinstance(predicts, OfWords):
            return predicts.decode_words(task, shown, texts, list(map(finder(texts), texts)))
        return predicts.decode(task, shown, _threshold(fitted))


def certainty(model: Model, task: Task, prediction: Tensor) -> Floats:
    """Returns the probability of the answer that follows from each raw prediction, ``[B]``.

    Raises:
        ValueError: If the task's head gives no probability of an answer.
    """
    if not task.predicts.gives_probability:
        raise ValueError(no_certainty(task))
    decision = decide(model, task, prediction).astype(np.float64)
    shown = calibrated(prediction, model.fitted(task.name)).double().numpy()
    return task.predicts.judge(task, shown, decision, decision).p_B  # as if every answer were its own label


def no_certainty(task: Task) -> str:
    """Returns a message that says why the certainty of a task's answers is unknown."""
    return (
        f"task {task.name}: type '{task.type}' with head '{task.head.kind}' gives no probability of an answer, so "
        "nobody can say how certain an answer is. Use a task of classes, yes/no or sets."
    )


def fit_answers(model: Model, parts: Sequence[TaskRows], processes: Processes = ALONE) -> None:
    """Fits the threshold and the calibration of each task's head on the given examples, which must have labels.

    Each example counts in proportion to its weight. A head that has neither threshold nor calibration stays unchanged.
    Rows that several tasks share are encoded once.
    """
    fitting = [(data, rows) for data, rows in parts if data.task.predicts.fits != NOTHING_FITTED]
    fitting = [(data, rows) for data, rows in fitting if model.fitted(data.task.name)]
    predictions = predict_rows(model, fitting, processes=processes)
    for data, rows in fitting:
        fitted, prediction = model.fitted(data.task.name), predictions[data.task.name].double().numpy()
        part, fits = data.examples.take(rows), data.task.predicts.fits
        found = fit_numbers(fits, list(fitted), prediction, all_values(part.labels), part.weights)
        for name, number in found.items():
            fitted[name].copy_(torch.from_numpy(number))


def _spans(model: Model, data: Iterable[Dataset]) -> list[Shared]:
    """Returns the examples of all tasks in ``data``, in groups. Within a group, each row is encoded only once.

    Tasks that read the same table are in one group, unless they have adapters.
    """
    return share_rows(((one, np.arange(len(one))) for one in data), model.apart)


@torch.no_grad()
def _forward(
    model: Model,
    span: Shared,
    pick: Callable[[Output], tuple[Tensor, ...]],
    tick: Tick = lambda _: None,
    processes: Processes = ALONE,
) -> dict[str, tuple[Tensor, ...]]:
    """Runs the model on the rows in ``span``, which several tasks may share.

    Returns a dict from task name to the tensors that ``pick`` takes from the model's output for the task. Entry ``i``
    of a tensor belongs to example ``i`` of the task. If the task assigns a label to each word, the entries belong to
    its words.
    """
    lengths = span.lengths()
    by_length = np.argsort(lengths, kind="stable")
    device = next(model.parameters()).device
    collected: list[dict[str, tuple[Tensor, ...]]] = []  # of each batch
    chunks = list(_chunks(lengths[by_length], TOKENS_ON_GPU if device.type == "cuda" else TOKENS))
    with progress_of("answering", len(lengths)) as show:
        for first in range(0, len(chunks), processes.size):
            turn = chunks[first : first + processes.size]  # each process takes one of these chunks
            for chunk in turn[processes.rank : processes.rank + 1]:
                outputs = model(collate(span.cut(by_length[chunk]), device))
                collected.append({name: tuple(t.float() for t in pick(out)) for name, out in outputs.items()})
                # Copies the outputs of the batch before. Copying this one would wait for it, and leave a GPU idle.
                collected[-2:-1] = [_on_cpu(outputs) for outputs in collected[-2:-1]]
            rows = sum(chunk.stop - chunk.start for chunk in turn)
            tick(rows)
            show(rows)
    collected[-1:] = [_on_cpu(outputs) for outputs in collected[-1:]]
    of_ranks = processes.all(collected)
    collected = [of_ranks[i % processes.size][i // processes.size] for i in range(len(chunks))]
    rank = np.argsort(by_length)
    found = {}
    for (data, examples), places in zip(span.parts, span.places, strict=True):
        name = data.task.name
        made = np.argsort(rank[places])  # the example of each row of the outputs
        words = data.words(examples)
        batches = [outputs[name] for outputs in collected if name in outputs]
        joined = (torch.cat(part) for part in zip(*batches, strict=True))
        back = torch.from_numpy(np.argsort(made))
        found[name] = tuple(part[back] if words is None else _spread(part, words, made) for part in joined)
        for part in found[name]:
            _check_finite(data, examples, part, words)
    return found


def _spread(part_WK: Tensor, words: Ragged, order: Rows) -> Tensor:
    """Returns the predictions for all words, in the order of ``words``; ``nan`` for a word without a token.

    Args:
        part_WK: The predictions for the words that have a token.
        words: For each example, the index of each word's first token; -1 if the word has no token.
        order: The order of the examples in ``part_WK``, as indices into ``words``.
    """
    tokens = words[order]
    places = words.with_values(np.arange(len(words.values)))[order].values[tokens.values >= 0]
    found_WK = part_WK.new_full((len(words.values), *part_WK.shape[1:]), torch.nan)
    found_WK[torch.from_numpy(places)] = part_WK
    return found_WK


def _on_cpu(outputs: Mapping[str, tuple[Tensor, ...]]) -> dict[str, tuple[Tensor, ...]]:
    return {name: tuple(t.cpu() for t in tensors) for name, tensors in outputs.items()}


def _check_finite(data: Dataset, rows: Rows, part: Tensor, words: Ragged | None) -> None:
    bad = (~part.flatten(1).isfinite().all(1) if part.dim() > 1 else ~part.isfinite()).nonzero().flatten().numpy()
    if words is not None:
        bad = np.unique(words.owners[bad[words.values[bad] >= 0]])
    if len(bad):
        first = shown(data.examples.ids[int(rows[bad[0]])])
        raise FloatingPointError(
            f"task {data.task.name}: {len(bad):,} of {len(rows):,} answers are not finite "
            f"(first: id {first}). Its weights are too large, or damaged: train it again, with a lower train.lr."
        )


def _chunks(lengths: npt.NDArray[np.int64], tokens: int) -> Iterator[slice]:
    """Yields slices of consecutive examples. The lengths of the examples in a slice add up to at most ``tokens``.

    An example that is longer than ``tokens`` gets a slice of its own.
    """
    first, total = 0, 0
    for i, length in enumerate(lengths.tolist()):
        if total + length > tokens and i > first:
            yield slice(first, i)
            first, total = i, 0
        total += length
    if first < len(lengths):
        yield slice(first, len(lengths))


def _threshold(fitted: Mapping[FittedName, Tensor]) -> float | Tensor:
    return fitted["threshold"].cpu() if "threshold" in fitted else 0.0
