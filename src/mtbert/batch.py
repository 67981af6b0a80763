"""The values that flow from data to gradient.

Dimension key: N tokens of a step, M tokens of a task, S sequences of a step or of a task, B examples of a task, D
width, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtbert.task import Task

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Example:
    """One labelled or unlabelled row: ``label`` is a class index, or a score in the task's own range."""

    id: str
    texts: tuple[str, ...]
    label: float | None


@dataclass(frozen=True)
class Sequences:
    """Token sequences in one flat array; sequence ``i`` is ``ids[offsets[i]:offsets[i + 1]]``."""

    ids: Ints
    segments: Ints
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Dataset:
    """A task's examples beside their tokens.

    ``sequences`` holds one entry per text that is encoded on its own: two for separate pairs, else
    one; each has as many sequences as there are examples. ``truncated`` counts examples cut to max_length.
    ``clusters``, ``[examples, texts]``, numbers the texts so that those which mean the same share a number; it is
    there where a loss or the order of rows asks for it.
    """

    task: Task
    examples: Sequence[Example]
    sequences: tuple[Sequences, ...]
    truncated: int
    clusters: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example, both sequences of a separate pair together."""
        total: npt.NDArray[np.int64] = np.sum([s.lengths for s in self.sequences], axis=0)
        return total


@dataclass(frozen=True)
class Span:
    """Where a task lies in a step: sequences ``[first, last)`` and tokens ``[start, stop)``.

    ``order_S`` sends the span's sequences, sorted by length, back to the order of the examples (of
    separate pairs: first all first texts, then all second texts).
    """

    first: int
    last: int
    start: int
    stop: int
    order_S: Tensor


@dataclass(frozen=True)
class Layout:
    """Boundaries of a step: ``offsets[s]`` is the first token of sequence ``s`` (``S + 1`` numbers)."""

    offsets: tuple[int, ...]
    spans: Mapping[str, Span]

    def only(self, name: str) -> "Layout":
        """That of the task called ``name``, as if it were alone."""
        span = self.spans[name]
        offsets = tuple(offset - span.start for offset in self.offsets[span.first : span.last + 1])
        moved = replace(span, first=0, last=span.last - span.first, start=0, stop=span.stop - span.start)
        return Layout(offsets, {name: moved})


@dataclass(frozen=True)
class StepBatch:
    """All sequences of a step, one after the other, without padding; ``clusters`` as in :class:`Dataset`."""

    layout: Layout
    ids_N: Tensor
    segments_N: Tensor
    positions_N: Tensor
    labels: Mapping[str, Tensor]
    example_ids: Mapping[str, tuple[str, ...]]
    clusters: Mapping[str, Tensor]


@dataclass(frozen=True)
class Output:
    """What the model says of one task's examples.

    ``embeddings_MD`` is what the first layer read for the task's tokens, ``first_SD`` what the last one gave for the
    first token of each sequence, in the order of the examples: of separate pairs first all first texts, then all second
    texts. ``vectors`` are one ``[B, D]`` per sequence of an example. ``prediction`` is ``[B, K]`` logits for classes,
    ``[B]`` one logit for binary tasks, ``[B]`` for scores (the task's range mapped to 0..1), and the cosine
    ``[B]`` for the cosine head.
    """

    embeddings_MD: Tensor
    first_SD: Tensor
    vectors: tuple[Tensor, ...]
    prediction: Tensor


def collate(parts: Sequence[tuple[Dataset, npt.NDArray[np.int64]]], device: torch.device) -> StepBatch:
    """One batch of the given rows of each data set, the tasks' spans in the order given.

    Labels are class indices, 0/1, or scores mapped to 0..1, float32; ``nan`` where a row has none.
    """
    ids, segments, positions, offsets = [], [], [], [0]
    spans, labels, names, clusters = {}, {}, {}, {}
    for data, rows in parts:
        lengths = np.concatenate([s.lengths[rows] for s in data.sequences])
        order = np.argsort(lengths, kind="stable")
        sources = [s for s in data.sequences for _ in rows]
        starts = np.concatenate([s.offsets[rows] for s in data.sequences])
        first, start = len(offsets) - 1, offsets[-1]
        for i in order:
            at = slice(starts[i], starts[i] + lengths[i])
            ids.append(sources[i].ids[at])
            segments.append(sources[i].segments[at])
            positions.append(np.arange(lengths[i]))
            offsets.append(offsets[-1] + int(lengths[i]))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        name = data.task.name
        order_S = _to(back, device)
        spans[name] = Span(first=first, last=len(offsets) - 1, start=start, stop=offsets[-1], order_S=order_S)
        labels[name] = _to(np.array([_target(data.task, data.examples[i]) for i in rows], np.float32), device)
        names[name] = tuple(data.examples[i].id for i in rows)
        if data.clusters is not None:
            clusters[name] = _to(data.clusters[rows], device)

    def tensor(arrays: Sequence[npt.NDArray[np.integer]]) -> Tensor:
        return _to(np.concatenate(arrays).astype(np.int64), device)

    return StepBatch(
        layout=Layout(offsets=tuple(offsets), spans=spans),
        ids_N=tensor(ids),
        segments_N=tensor(segments),
        positions_N=tensor(positions),
        labels=labels,
        example_ids=names,
        clusters=clusters,
    )


def only(batch: StepBatch, name: str) -> StepBatch:
    """The part of the task called ``name``, as a batch of its own."""
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


def _to(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":  # from pinned memory, so that nobody waits for the copy
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _target(task: Task, example: Example) -> float:
    if example.label is None:
        return float("nan")
    return example.label if task.range is None else task.fraction(example.label)
