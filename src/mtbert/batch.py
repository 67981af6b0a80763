"""The types that hold examples, their tokens, batches and the model's outputs.

Dimension key: N tokens of a batch, M tokens of one of its tasks, S sequences (of a batch or of a task), B examples of a
task, D width of the encoder, K numbers per answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtbert.answers import AnyLabels
from mtbert.columns import NumberColumn, TextColumn
from mtbert.ragged import Ragged
from mtbert.task import Task

Int32s = npt.NDArray[np.int32]
TokenIds = npt.NDArray[np.int32 | np.uint16]  # two bytes are enough for most vocabularies
Rows = npt.NDArray[np.int64]  # row numbers
_NOTHING: Rows = np.zeros(0, np.int64)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """One row of a task's data: its id, its texts and its label.

    The label is a number, or a tuple with one number for each part of the answer. In the tuple, ``nan`` marks a missing
    part. If there is no label at all, the label is None.
    """

    id: str
    texts: tuple[str, ...]
    label: float | tuple[float, ...] | None


class Examples(Sequence[Example]):
    """The examples of a task, stored in columns. Reading a row by its index creates an :class:`Example`.

    Args:
        ids: A column with the id of each row.
        texts: One column for each text of a row.
        labels: ``[B]`` or ``[B, K]``, encoded as numbers by the task's answer type; a missing label is ``nan``. If each
            word has a label, a :class:`mtbert.ragged.Ragged` with a row for each text.
        weights: How much each example counts in the losses, ``[B]``; None if all count the same.
        votes: The number of votes that each label was made from, ``[B]``; None if labels do not come from votes.
    """

    def __init__(
        self,
        ids: TextColumn | NumberColumn,
        texts: Sequence[TextColumn],
        labels: AnyLabels,
        weights: Floats | None = None,
        votes: Floats | None = None,
    ) -> None:
        self.ids, self.texts, self.labels, self.weights, self.votes = ids, tuple(texts), labels, weights, votes

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
        weights, votes = (None if part is None else part[rows] for part in (self.weights, self.votes))
        texts = [column.take(rows) for column in self.texts]
        return Examples(self.ids.take(rows), texts, self.labels[rows], weights, votes)

    def unlabelled(self, words: Ragged) -> "Examples":
        """Returns a copy of these examples in which the label of every word is missing.

        ``words`` says how many words each text has: it holds one row per text, with one value per word.
        """
        return Examples(self.ids, self.texts, words.with_values(np.full(len(words.values), np.nan)))

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
    words: Ragged | None = None  # the place of each word's first token in its sequence, -1 for a word that has none

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Dataset:
    """The examples of a task and their tokens. The examples are the rows of a table that have a label for the task.

    Attributes:
        sequences: The token sequences of all rows of the table, as a tuple. If the texts of a row are encoded
            separately, the first entry of the tuple holds the sequences of all first texts, and so on. If they are
            encoded as one sequence, the tuple has a single entry. Tasks that read the same columns of a table in the
            same way share one tuple, so that a row is encoded once for all of them.
        rows: The index of each example's row in the table, ``[B]``, in ascending order.
        cut: The indices of those rows of the table that were cut to ``max_length`` tokens.
        clusters: The cluster of each text, ``[B, texts]``: texts that mean the same have the same number. None if
            neither a loss nor the sampling of rows needs clusters.
    """

    task: Task
    examples: Examples
    sequences: tuple[Sequences, ...]
    rows: Rows
    cut: Rows = field(default_factory=lambda: _NOTHING)
    clusters: npt.NDArray[np.int64] | None = None

    @classmethod
    def whole(
        cls,
        task: Task,
        examples: Examples,
        sequences: tuple[Sequences, ...],
        cut: Rows = _NOTHING,
        clusters: Rows | None = None,
    ) -> Self:
        """Returns a data set that has every row of a table as an example."""
        return cls(task, examples, sequences, np.arange(len(examples)), cut, clusters)

    def __len__(self) -> int:
        return len(self.examples)

    def words(self, examples: Rows) -> Ragged | None:
        """Returns, for each word of ``examples``, the index of its first token in the sequence; -1 if there is none.

        A word has no token if the tokenizer drops all its characters, or if the text was cut before the word. Returns
        None if the task does not label words.
        """
        words = self.sequences[0].words
        return words[self.rows[examples]] if self.task.reads_words and words is not None else None

    def labels_in(self, examples: Rows) -> int:
        """Returns how many labels ``examples`` have.

        Each example has one label. If the task assigns a label to each word, an example has one label for each word
        that has at least one token.
        """
        words = self.words(examples)
        return len(examples) if words is None else int((words.values >= 0).sum())

    def amount(self, examples: Rows) -> float:
        """Returns the sum of the weights of ``examples`` or, if there are no weights, the number of their labels."""
        weights = self.examples.weights
        return self.labels_in(examples) if weights is None else float(weights[examples].sum())

    @property
    def truncated(self) -> int:
        """The number of examples that were cut to ``max_length`` tokens."""
        return int(np.isin(self.rows, self.cut).sum())

    @property
    def size(self) -> int:
        """The number of rows in the table that the examples come from."""
        return len(self.sequences[0])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each example, ``[B]``, in all its sequences together."""
        return self.lengths_of(self.rows)

    def lengths_of(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Returns the number of tokens in each of the given rows of the table."""
        total: npt.NDArray[np.int64] = np.sum([s.offsets[rows + 1] - s.offsets[rows] for s in self.sequences], axis=0)
        return total

    def only(self, examples: Rows) -> "Dataset":
        """Returns a data set with only the examples at the indices ``examples``, which must be in ascending order."""
        if len(examples) == len(self):
            return self
        return replace(self, examples=self.examples.take(examples), rows=self.rows[examples])

    def among(self, rows: Rows) -> Rows:
        """Returns the indices of the examples in the given rows of the table, in the order of these rows.

        Rows without an example are left out.
        """
        if len(self) == self.size:
            return rows
        at: Rows = np.searchsorted(self.rows, rows).clip(max=len(self) - 1)
        found: Rows = at[self.rows[at] == rows]
        return found


TaskRows = tuple[Dataset, Rows]
"""A task's data set, and the indices of some of its examples."""


@dataclass(frozen=True)
class Span:
    """The part of a batch that holds rows of one table. One or several tasks read these rows.

    A span consists of the batch's sequences from ``first`` up to but not including ``last``. These sequences are sorted
    by length. Their tokens are the batch's tokens from ``start`` up to but not including ``stop``.
    """

    first: int
    last: int
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """Where each sequence and each :class:`Span` lies in a batch.

    Attributes:
        offsets: The index of the first token of each sequence, and at the end the number of all tokens. For ``S``
            sequences, these are ``S + 1`` numbers.
        spans: A dict from names to spans. A span has the name of the first task that reads it.
    """

    offsets: tuple[int, ...]
    spans: Mapping[str, Span]

    def only(self, name: str) -> "Layout":
        """Returns the layout of a smaller batch: only the sequences of the :class:`Span` ``self.spans[name]``."""
        span = self.spans[name]
        offsets = tuple(offset - span.start for offset in self.offsets[span.first : span.last + 1])
        moved = replace(span, first=0, last=span.last - span.first, start=0, stop=span.stop - span.start)
        return Layout(offsets, {name: moved})


@dataclass(frozen=True)
class Words:
    """The words of a batch, for a task that assigns a label to each word. Words without a token are left out.

    Attributes:
        owners: The index of the example that each word is from, ``[W]``, in ascending order.
        at_W: The index of each word's first token among the tokens of the task's :class:`Span`.
    """

    owners: Rows
    at_W: Tensor


@dataclass(frozen=True)
class Place:
    """Where the sequences of one task are in a batch.

    Attributes:
        span: The name of the :class:`Span` that contains the sequences.
        order: The index of each sequence within the span, ``[S]``, in the order of the task's examples. If pairs are
            encoded as two sequences, all first texts come before all second texts. No index occurs twice.
        order_S: ``order`` as a tensor on the device.
        tokens_M: The index, within the span, of each token of the task. Tokens of shorter sequences come first. None if
            the task uses all tokens of the span, in the order of the span.
        words: The words of the sequences if the task has a label for each word, otherwise None.
    """

    span: str
    order: Rows
    order_S: Tensor
    tokens_M: Tensor | None
    words: Words | None = None


@dataclass(frozen=True)
class StepBatch:
    """The input of one forward pass: the sequences of all tasks, one after the other, without padding.

    ``places``, ``labels``, ``example_ids`` and ``amounts`` (see :meth:`Dataset.amount`) contain an entry for each task.
    ``clusters`` contains entries only for tasks whose texts have clusters (groups of texts with the same meaning).
    ``weights`` contains entries only for tasks with weights. Each entry is scaled so that its largest weight is 1.
    """

    layout: Layout
    ids_N: Tensor
    segments_N: Tensor
    positions_N: Tensor
    places: Mapping[str, Place]
    labels: Mapping[str, Tensor]
    example_ids: Mapping[str, tuple[str, ...]]
    clusters: Mapping[str, Tensor]
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    amounts: Mapping[str, float] = field(default_factory=dict)

    @property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """A dict from the name of each :class:`Span` to the names of the tasks that read it."""
        return {
            span: tuple(name for name, place in self.places.items() if place.span == span) for span in self.layout.spans
        }


@dataclass(frozen=True)
class Output:
    """The model's output for one task and one batch.

    The output covers only the examples of the task. A batch may also hold rows that only other tasks read.

    Attributes:
        embeddings_MD: The input of the first layer for the tokens of these examples.
        first_SD: The output of the last layer for the first token of each sequence, in the order of the examples. If
            pairs are encoded as two sequences, all first texts come before all second texts.
        vectors: The input of the head. For a task that assigns a label to each word, it is a single tensor ``[W, D]``:
            the output of the last layer for the first token of each word that has a token. For any other task, it is a
            tuple of tensors ``[B, D]``: the pooled vectors of all first sequences, of all second sequences, and so on.
            If each example is encoded as one sequence, the tuple contains one tensor.
        prediction: The raw numbers of the head: ``[W, K]`` for a task that assigns a label to each word, ``[B]`` or
            ``[B, K]`` for any other task. ``Task.predicts`` says what they mean.
    """

    embeddings_MD: Tensor
    first_SD: Tensor
    vectors: tuple[Tensor, ...]
    prediction: Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns ``tensor`` on ``device``. If the device is a GPU, pins the memory, and does not wait for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
