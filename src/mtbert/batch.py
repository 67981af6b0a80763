"""The types that hold examples, their tokens, batches and the model's outputs.

Dimension key: N tokens of a batch, M tokens of one task in it, S sequences (of a batch or of one task), B examples of a
task, D width of the encoder, K numbers of one answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtbert.answers import Labels
from mtbert.columns import NumberColumn, TextColumn
from mtbert.task import Task

Int32s = npt.NDArray[np.int32]
TokenIds = npt.NDArray[np.int32 | np.uint16]  # two bytes are enough for most vocabularies
Rows = npt.NDArray[np.int64]  # row numbers
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """One row of a task's data: its id, its texts and its label.

    The label is a number, or a tuple with one number for each part of the answer. In the tuple, ``nan`` marks a missing
    part. If there is no label at all, it is None.
    """

    id: str
    texts: tuple[str, ...]
    label: float | tuple[float, ...] | None


class Examples(Sequence[Example]):
    """The examples of a task, stored in columns. Reading a row by its index creates an :class:`Example`.

    Args:
        ids: A column with the id of each row.
        texts: One column for each text of a row.
        labels: ``[B]`` or ``[B, K]``, encoded as numbers by the task's answer type; a missing label is ``nan``.
    """

    def __init__(self, ids: TextColumn | NumberColumn, texts: Sequence[TextColumn], labels: Labels) -> None:
        self.ids, self.texts, self.labels = ids, tuple(texts), labels

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Self:
        """Returns an :class:`Examples` with the given examples.

        >>> Examples.of([Example("a", ("one",), 1.0), Example("b", ("two",), None)]).labels.tolist()
        [1.0, nan]
        """
        rows = list(examples)
        missing = np.full(np.shape(next((e.label for e in rows if e.label is not None), 0.0)), np.nan)
        labels = np.array([missing if e.label is None else e.label for e in rows], np.float64)
        return cls(
            TextColumn.of(e.id for e in rows), [*map(TextColumn.of, zip(*(e.texts for e in rows), strict=True))], labels
        )

    def take(self, rows: Rows) -> "Examples":
        """Returns the examples with the given row numbers, in the given order."""
        return Examples(self.ids.take(rows), [column.take(rows) for column in self.texts], self.labels[rows])

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> "Examples": ...
    def __getitem__(self, row: int | slice) -> "Example | Examples":
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        found = self.labels[row]
        label = tuple(found.tolist()) if found.ndim else float(found)
        texts = tuple(column[row] for column in self.texts)
        return Example(self.ids[row], texts, None if np.isnan(found).all() else label)


@dataclass(frozen=True)
class Sequences:
    """Token sequences in one flat array. Sequence ``i`` has the token ids ``ids[offsets[i]:offsets[i + 1]]``."""

    ids: TokenIds
    segments: Int32s
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Dataset:
    """The examples of a task, and their tokens.

    Attributes:
        sequences: Two entries if the two texts of a pair are encoded separately, otherwise one. Each entry holds one
            token sequence per example.
        truncated: The number of examples that were cut to ``max_length`` tokens.
        clusters: The cluster of each text, ``[B, texts]``: texts that mean the same have the same number. It is None if
            neither a loss nor the sampling of rows needs clusters.
    """

    task: Task
    examples: Examples
    sequences: tuple[Sequences, ...]
    truncated: int
    clusters: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each example, ``[B]``, in all its sequences together."""
        total: npt.NDArray[np.int64] = np.sum([s.lengths for s in self.sequences], axis=0)
        return total


@dataclass(frozen=True)
class Span:
    """The part of a batch that belongs to one task: its sequences ``[first, last)`` and its tokens ``[start, stop)``.

    The sequences are sorted by length. ``order_S`` holds the indices that restore the order of the examples. If pairs
    are encoded as two sequences, all first texts then come before all second texts.
    """

    first: int
    last: int
    start: int
    stop: int
    order_S: Tensor


@dataclass(frozen=True)
class Layout:
    """The position of each sequence and each task in a batch.

    Attributes:
        offsets: The index of the first token of each sequence, followed by the total number of tokens: ``S + 1``
            numbers.
        spans: The :class:`Span` of each task, by the task's name.
    """

    offsets: tuple[int, ...]
    spans: Mapping[str, Span]

    def only(self, name: str) -> "Layout":
        """Returns the layout that the task ``name`` would have if it were alone in the batch."""
        span = self.spans[name]
        offsets = tuple(offset - span.start for offset in self.offsets[span.first : span.last + 1])
        moved = replace(span, first=0, last=span.last - span.first, start=0, stop=span.stop - span.start)
        return Layout(offsets, {name: moved})


@dataclass(frozen=True)
class StepBatch:
    """The input of one forward pass: the sequences of all tasks, one after the other, without padding.

    ``labels`` and ``example_ids`` have one entry per task. ``clusters`` has one for each task whose :class:`Dataset`
    has clusters.
    """

    layout: Layout
    ids_N: Tensor
    segments_N: Tensor
    positions_N: Tensor
    labels: Mapping[str, Tensor]
    example_ids: Mapping[str, tuple[str, ...]]
    clusters: Mapping[str, Tensor]


@dataclass(frozen=True)
class Output:
    """The model's output for the examples of one task.

    Attributes:
        embeddings_MD: The input of the first layer for the task's tokens.
        first_SD: The output of the last layer for the first token of each sequence, in the order of the examples. If
            pairs are encoded as two sequences, all first texts come before all second texts.
        vectors: One ``[B, D]`` for each sequence of an example.
        prediction: ``[B]`` or ``[B, K]``; ``Task.predicts`` says what its numbers mean.
    """

    embeddings_MD: Tensor
    first_SD: Tensor
    vectors: tuple[Tensor, ...]
    prediction: Tensor


def collate(parts: Sequence[tuple[Dataset, npt.NDArray[np.int64]]], device: torch.device) -> StepBatch:
    """Returns a batch with the given rows of each data set. Its tasks are in the order of ``parts``.

    The labels of the batch are float32 targets: class indices, 0 or 1, or scores mapped to 0..1. A missing label is
    ``nan``.
    """
    tokens: list[npt.NDArray[np.int64]] = []
    offsets = [0]
    spans, labels, names, clusters = {}, {}, {}, {}
    for data, rows in parts:
        found, ends, back = _tokens(data, rows)
        tokens.append(found)
        first, start = len(offsets) - 1, offsets[-1]
        offsets += (start + ends).tolist()
        name = data.task.name
        order_S = send(torch.from_numpy(back), device)
        spans[name] = Span(first=first, last=len(offsets) - 1, start=start, stop=offsets[-1], order_S=order_S)
        targets = data.task.answer.labels.targets(data.task, data.examples.labels[rows])
        labels[name] = send(torch.from_numpy(targets.astype(np.float32)), device)
        names[name] = tuple(data.examples.ids[i] for i in rows)
        if data.clusters is not None:
            clusters[name] = send(torch.from_numpy(data.clusters[rows]), device)
    ids_N, segments_N, positions_N = send(torch.from_numpy(np.concatenate(tokens, 1)), device)

    return StepBatch(
        layout=Layout(offsets=tuple(offsets), spans=spans),
        ids_N=ids_N,
        segments_N=segments_N,
        positions_N=positions_N,
        labels=labels,
        example_ids=names,
        clusters=clusters,
    )


def only(batch: StepBatch, name: str) -> StepBatch:
    """Returns the part of ``batch`` that belongs to the task ``name``, as a batch of its own."""
    span = batch.layout.spans[name]
    tokens = slice(span.start, span.stop)
    return StepBatch(
        layout=batch.layout.only(name),
        ids_N=batch.ids_N[tokens],
        segments_N=batch.segments_N[tokens],
        positions_N=batch.positions_N[tokens],
        labels={key: value for key, value in batch.labels.items() if key == name},
        example_ids={key: value for key, value in batch.example_ids.items() if key == name},
        clusters={key: value for key, value in batch.clusters.items() if key == name},
    )


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns ``tensor`` on ``device``. It is copied to a GPU asynchronously, from pinned memory."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _tokens(
    data: Dataset, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the tokens of the given rows, in sequences sorted by length, and two arrays about the sequences.

    The tokens are ``[3, M]``: ids, segments and positions. The first array, ``[S]``, holds the end of each sorted
    sequence. The second, ``[S]``, maps each sequence in the order of the examples to its index among the sorted
    sequences.
    """
    starts = np.concatenate([s.offsets[rows] for s in data.sequences])
    lengths = np.concatenate([s.offsets[rows + 1] for s in data.sequences]) - starts
    order = np.argsort(lengths, kind="stable")
    lengths = lengths[order]
    ends = np.cumsum(lengths)
    positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    at = np.repeat(starts[order], lengths) + positions  # the place of each token in the flat array that it comes from
    origin = np.repeat(order // len(rows), lengths)  # the number of that array: 0, or 1 for a second text
    found = np.empty((3, len(at)), np.int64)
    found[2] = positions
    for number, flat in enumerate(data.sequences):
        here = origin == number
        found[0, here], found[1, here] = flat.ids[at[here]], flat.segments[at[here]]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return found, ends, back
