"""How the batch of a forward pass is made. Tasks that read the same table share its rows in a batch.

Dimension key: N tokens of a batch, M tokens of a task, S sequences.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtbert.batch import Dataset, Layout, Place, Rows, Span, StepBatch, TaskRows, Words, send
from mtbert.ragged import Ragged, all_values


@dataclass(frozen=True)
class Shared:
    """Rows of one table, in a batch. All tasks that read a row share its encoding.

    ``rows`` holds the indices of these rows in the table. ``parts`` holds the examples of each task. ``places`` holds,
    for each of these examples, the position of its row in ``rows``.

    ``rows`` contains a row only once, even if several tasks read the row. The only exception is a task that has the
    same example several times in the batch: ``rows`` contains the row of this example several times.
    """

    parts: tuple[TaskRows, ...]
    rows: Rows
    places: tuple[Rows, ...]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Returns the number of tokens of each row."""
        return self.parts[0][0].lengths_of(self.rows)

    def cut(self, chosen: Rows) -> list[TaskRows]:
        """Returns, for each task, its examples in the rows ``self.rows[chosen]`` of the table.

        A task without examples in these rows is left out.
        """
        found = []
        for (data, _), example in zip(self.parts, self._example, strict=True):
            inside = example[chosen]
            inside = inside[inside >= 0]
            if len(inside):
                found.append((data, inside))
        return found

    @cached_property
    def _example(self) -> list[Rows]:
        """A list with one array per task, each as long as ``self.rows``.

        Element ``i`` of a task's array is the index of the task's example from row ``self.rows[i]`` of the table; -1 if
        the task has no example from this row.
        """
        found = [np.full(len(self.rows), -1) for _ in self.parts]
        for at, (_, examples), places in zip(found, self.parts, self.places, strict=True):
            at[places] = examples
        return found


def share_rows(parts: Iterable[TaskRows], apart: Callable[[str], bool] = lambda _: False) -> list[Shared]:
    """Returns the chosen examples of several tasks, grouped by table. The tasks of a group share the rows of the table.

    Args:
        parts: The chosen examples of each task.
        apart: A function that takes the name of a task, and returns whether the task must be in a group of its own.
    """
    together: dict[tuple[int, str | None], list[TaskRows]] = {}
    for data, examples in parts:
        name = data.task.name
        together.setdefault((id(data.sequences), name if apart(name) else None), []).append((data, examples))
    return [Shared(tuple(of), *_union([data.rows[examples] for data, examples in of])) for of in together.values()]


def _union(lists: Sequence[Rows]) -> tuple[Rows, tuple[Rows, ...]]:
    """Returns a pair: the union of ``lists`` and, for each list, the indices of its elements in the union.

    A list may contain an element several times. The union then contains the element as many times as the list that
    has the most copies of the element.
    """
    first = lists[0]
    if all(np.array_equal(first, other) for other in lists[1:]):
        return first, (np.arange(len(first)),) * len(lists)
    times = [_times_before(rows) for rows in lists]
    most = 1 + max(int(t.max(initial=0)) for t in times)
    keys = np.concatenate([rows * most + t for rows, t in zip(lists, times, strict=True)])
    found, begins, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(begins)  # the order in the lists, not the order of the numbers
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return found[order] // most, tuple(np.split(rank[inverse], np.cumsum([len(rows) for rows in lists])[:-1]))


def _times_before(rows: Rows) -> Rows:
    """Returns, for each entry of ``rows``, how many earlier entries are equal to it."""
    order = np.argsort(rows, kind="stable")
    found = np.empty_like(order)
    found[order] = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
    return found


def collate(
    parts: Iterable[TaskRows], device: torch.device, apart: Callable[[str], bool] = lambda _: False
) -> StepBatch:
    """Returns a batch with the given examples of each task.

    The batch is divided into spans. Tasks that read the same table share a span, and a row that several of them read is
    stored once. But if ``apart`` returns True for a task, the task shares its span with no other task.

    Labels become float32 numbers: class indices, zeros and ones, or scores mapped to 0..1. A missing label becomes
    ``nan``. If a task assigns a label to each word, there is one number for each word that has at least one token.

    Args:
        parts: For each task, a pair: its data set, and the indices of the examples.
        device: The device of the batch.
        apart: A function that takes the name of a task.
    """
    tokens: list[npt.NDArray[np.int64]] = []
    offsets = [0]
    spans, places, labels, names, clusters = {}, {}, {}, {}, {}
    weights: dict[str, Tensor] = {}
    amounts: dict[str, float] = {}
    for span in share_rows(parts, apart):
        found, ends, back = _tokens(span.parts[0][0], span.rows)
        tokens.append(found)
        first, start = len(offsets) - 1, offsets[-1]
        offsets += (start + ends).tolist()
        of_span = span.parts[0][0].task.name
        spans[of_span] = Span(first=first, last=len(offsets) - 1, start=start, stop=offsets[-1])
        whole = Place(of_span, back, send(torch.from_numpy(back), device), None)
        for (data, examples), own in zip(span.parts, span.places, strict=True):
            name = data.task.name
            all_in_order = np.array_equal(own, np.arange(len(span.rows)))
            places[name] = (
                whole if all_in_order else _place(of_span, back.reshape(-1, len(span.rows)), ends, own, device)
            )
            targets = data.task.answer.labels.targets(data.task, data.examples.labels[examples])
            words = data.words(examples)
            if words is not None:
                targets = all_values(targets)[words.values >= 0]
                places[name] = replace(places[name], words=_words(words, ends, places[name].order, device))
            labels[name] = send(torch.from_numpy(targets.astype(np.float32)), device)
            names[name] = tuple(data.examples.ids[i] for i in examples)
            amounts[name] = data.amount(examples)
            if data.examples.weights is not None:
                weights_B = data.examples.weights[examples]
                scaled_B = weights_B / (weights_B.max() or 1.0)  # float32 would not hold every weight
                weights[name] = send(torch.from_numpy(scaled_B.astype(np.float32)), device)
            if data.clusters is not None:
                clusters[name] = send(torch.from_numpy(data.clusters[examples]), device)
    ids_N, segments_N, positions_N = send(torch.from_numpy(np.concatenate(tokens, 1)), device)

    return StepBatch(
        layout=Layout(offsets=tuple(offsets), spans=spans),
        ids_N=ids_N,
        segments_N=segments_N,
        positions_N=positions_N,
        places=places,
        labels=labels,
        example_ids=names,
        clusters=clusters,
        weights=weights,
        amounts=amounts,
    )


def _words(words: Ragged, ends: Rows, order: Rows, device: torch.device) -> Words:
    """Returns the words of one task: for each word, the index of its example and the index of its first token.

    Words without a token are left out. The index of a token counts from the start of the part of the batch
    (:class:`~mtbert.batch.Span`) that holds the sequences of the task.

    Args:
        words: For each example, a number for each word. It is the position of the word's first token in the sequence of
            the example, counted from 0, or -1 if the word has no token.
        ends: For each sequence of the part, the index of its last token plus 1, ``[sequences]``.
        order: For each example, the index of its sequence in the part.
        device: The device of the batch.
    """
    has_token = words.values >= 0
    owners = words.owners[has_token]
    starts = np.concatenate([[0], ends[:-1]])[order]
    at_W = starts[owners] + words.values[has_token]
    return Words(owners, send(torch.from_numpy(at_W), device))


def _place(span: str, back: Rows, ends: Rows, own: Rows, device: torch.device) -> Place:
    """Returns a :class:`~mtbert.batch.Place`, which says where in a batch the sequences and tokens of one task are.

    Args:
        span: The name of the span: the part of the batch that holds the rows of the task's table.
        back: An array ``[texts, rows]``: ``back[t, r]`` is the index, within the span, of the sequence that holds text
            ``t`` of row ``r``.
        ends: For each sequence of the span, the index of its last token within the span, plus 1, ``[sequences]``.
        own: The indices, within the span, of the rows that the task reads.
        device: The device of the batch.
    """
    order = back[:, own].flatten()
    lengths = np.diff(ends, prepend=0)[order]
    by_length = np.argsort(lengths, kind="stable")
    starts, lengths = ends[order][by_length] - lengths[by_length], lengths[by_length]
    tokens = np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    order_S, tokens_M = (send(torch.from_numpy(x), device) for x in (order, tokens))
    return Place(span, order, order_S, tokens_M)


def only(batch: StepBatch, name: str) -> StepBatch:
    """Returns the part of ``batch`` that belongs to the task ``name``, as a batch of its own."""
    place = batch.places[name]
    span = batch.layout.spans[place.span]
    layout = batch.layout.only(place.span)
    tokens: tuple[Tensor, ...] = tuple(
        x_N[span.start : span.stop] for x_N in (batch.ids_N, batch.segments_N, batch.positions_N)
    )
    if place.tokens_M is not None:
        tokens = tuple(x_M[place.tokens_M] for x_M in tokens)
        lengths = np.diff(layout.offsets)[place.order]
        by_length = np.argsort(lengths, kind="stable")
        ends = np.cumsum(lengths[by_length]).tolist()
        layout = Layout((0, *ends), {name: Span(first=0, last=len(ends), start=0, stop=ends[-1])})
        order = np.argsort(by_length)
        words = place.words
        if words is not None:
            moved_N = place.tokens_M.new_empty(span.stop - span.start)
            moved_N[place.tokens_M] = torch.arange(len(place.tokens_M), device=moved_N.device)
            words = replace(words, at_W=moved_N[words.at_W])
        place = Place(name, order, send(torch.from_numpy(order), batch.ids_N.device), None, words)
    ids_M, segments_M, positions_M = tokens
    (moved,) = layout.spans.values()
    return StepBatch(
        layout=Layout(layout.offsets, {name: moved}),
        ids_N=ids_M,
        segments_N=segments_M,
        positions_N=positions_M,
        places={name: replace(place, span=name)},
        labels={key: value for key, value in batch.labels.items() if key == name},
        example_ids={key: value for key, value in batch.example_ids.items() if key == name},
        clusters={key: value for key, value in batch.clusters.items() if key == name},
        weights={key: value for key, value in batch.weights.items() if key == name},
        amounts={key: value for key, value in batch.amounts.items() if key == name},
    )


def _tokens(
    data: Dataset, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the tokens of the given rows, as sequences that are sorted by length.

    Returns:
        A tuple of three arrays. The first, ``[3, M]``, has three rows: the tokens' ids, segments and positions. The
        second, ``[S]``, holds the index just after the last token of each sequence. The third, ``[S]``, is in the order
        before sorting: for each sequence, it holds the index of the sequence after sorting.
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
    for number, text in enumerate(data.sequences):
        here = origin == number
        found[0, here], found[1, here] = text.ids[at[here]], text.segments[at[here]]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return found, ends, back
