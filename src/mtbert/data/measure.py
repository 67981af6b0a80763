"""Statistics of a task's data: sizes, lengths, labels, repeated examples, and the overlap between train and dev.

Texts that differ only in case or in leading or trailing space count as equal.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mtbert.answers import Conflicts, Distribution
from mtbert.batch import Dataset, Examples
from mtbert.columns import Ints, TextColumn, numbered
from mtbert.data.leaks import leaks
from mtbert.data.split import linking
from mtbert.data.tokenizer import CHUNK
from mtbert.data.words import as_read
from mtbert.task import Task

COUNTED_AT_ONCE = 2**17  # rows whose tokens are counted at once
UNKNOWN = 0.2  # a text with a larger share of unknown tokens counts as unknown


@dataclass(frozen=True)
class Tokens:
    """The number of tokens in each example before truncation, and the number of examples with many unknown tokens."""

    lengths: npt.NDArray[np.int64]
    unknown: int


@dataclass(frozen=True, eq=False)
class TableData:
    """The texts of a table, which several tasks can read.

    ``train`` holds the text columns of the train rows. Columns that only hold wrong candidates of rankings are left
    out, because the same wrong candidate may be in both train and dev (see :func:`~mtbert.data.split.linking`).
    ``dev`` holds the same columns of the dev rows. A column is held only once, even if several tasks read it.
    ``warnings`` are about the table, and come from reading it. ``apart`` is advice for the user: how to get a dev set
    that shares no texts with train.
    """

    name: str
    train: Sequence[TextColumn]
    dev: Sequence[TextColumn]
    warnings: tuple[str, ...] = ()
    apart: str = ""

    def leaked(self) -> int:
        """Returns how many rows of dev have a text that is also in train. Empty texts do not count."""
        return leaks(self.train, {self.name: self.dev}).get(self.name, 0)


@dataclass(frozen=True)
class TaskData:
    """The data of a task, from which a report is made before training.

    ``passes`` is how often the whole run goes through the train examples. ``tokens`` holds statistics of the tokens in
    train and in dev. ``warnings`` are those from reading the data. ``table`` describes the table that the task reads;
    tasks of the same table share one object. ``table`` is None for a task with files of its own. ``held_out`` is the
    number of train examples that are held out to fit thresholds and calibration; ``train`` does not contain them.
    ``apart`` is advice for the user: how to get a dev set that shares no texts with train. ``together`` is advice on
    how to get one that shares no texts with the train rows of other tasks. ``may_end_early`` says whether the run may
    end before its last step (``train.patience``).
    """

    task: Task
    train: Dataset
    dev: Dataset
    batch_size: int
    passes: float
    tokens: tuple[Tokens, Tokens]
    warnings: tuple[str, ...] = ()
    table: TableData | None = None
    held_out: int = 0
    apart: str = ""
    may_end_early: bool = False
    together: str = ""


@dataclass(frozen=True)
class Overlap:
    """How many examples of one set also occur in another set, and how many have at least one text that occurs there."""

    examples: int
    texts: int


@dataclass(frozen=True)
class SplitFigures:
    """The statistics of one split of a task's data."""

    size: int
    labels: Distribution
    tokens: tuple[int, int, int, int]  # lengths before the cut: percentiles 50, 90 and 99, and the longest
    cut: int
    unknown: int  # examples with many unknown tokens
    repeated: int  # examples with the same texts as an earlier one
    conflicts: Conflicts


@dataclass(frozen=True)
class Figures:
    """The statistics of a task's train and dev data."""

    data: TaskData
    train: SplitFigures
    dev: SplitFigures
    overlap: Overlap  # dev examples that repeat train


def shared(a: Examples, b: Examples) -> Overlap:
    """Returns how many examples of ``b`` occur in ``a`` too, and how many have at least one text that occurs in ``a``.

    The order of the two texts of an example does not matter. The wrong candidates of rankings do not count.
    """
    texts_a, texts_b = linking(a.texts), linking(b.texts)
    numbers = numbered(np.concatenate([column.folded for column in (*texts_a, *texts_b)]))
    size = len(a) * len(texts_a)
    of_a, of_b = numbers[:size].reshape(-1, len(a)), numbers[size:].reshape(-1, len(b))
    examples = 0
    if len(of_a) == len(of_b):
        whole_a, whole_b = (_rows(np.sort(side, 0), len(numbers)) for side in (of_a, of_b))
        examples = int(np.isin(whole_b, whole_a).sum())
    return Overlap(examples=examples, texts=int(np.isin(of_b, of_a).any(0).sum()))


def measure(data: TaskData) -> Figures:
    """Returns the statistics of a task's train and dev data."""
    return Figures(
        data=data,
        train=_part(data.task, data.train, data.tokens[0]),
        dev=_part(data.task, data.dev, data.tokens[1]),
        overlap=shared(data.train.examples, data.dev.examples),
    )


def count_tokens(tokenizer: Tokenizer, data: Dataset, max_length: int, unknown: int) -> Tokens:
    """Counts the tokens of each example before truncation, and the examples with many unknown tokens.

    ``unknown`` is the id of the unknown token, or -1 if the tokenizer has none.
    """
    lengths, of_text, not_known = (np.zeros(len(data), np.int64) for _ in range(3))
    sides = data.task.packed(as_read(data.examples.texts, data.task.splitter))
    for columns, made in zip(sides, data.sequences, strict=True):
        whole = made.lengths[data.rows]
        long = np.flatnonzero(whole >= max_length)
        for start in range(0, len(long), CHUNK):
            rows = long[start : start + CHUNK]
            given = [columns[0][i] if len(columns) == 1 else tuple(column[i] for column in columns) for i in rows]
            whole[rows] = [len(encoding) for encoding in tokenizer.encode_batch(given)]
        lengths += whole
        of_text += made.lengths[data.rows] - tokenizer.num_special_tokens_to_add(len(columns) == 2)
        of_row = np.zeros(len(made), np.int64)
        for start in range(0, len(made), COUNTED_AT_ONCE):
            ends = made.offsets[start : start + COUNTED_AT_ONCE + 1]
            before = np.concatenate([[0], np.cumsum(made.ids[ends[0] : ends[-1]] == unknown)])
            of_row[start : start + COUNTED_AT_ONCE] = np.diff(before[ends - ends[0]])
        not_known += of_row[data.rows]
    return Tokens(lengths, int(np.sum(not_known > UNKNOWN * of_text)))


def unknown_id(tokenizer: Tokenizer) -> int:
    """Returns the id of the unknown token, or -1 if the tokenizer has none.

    This is slow: it takes as long as saving the tokenizer.
    """
    model = json.loads(tokenizer.to_str())["model"]
    found = model.get("unk_id") if "unk_id" in model else tokenizer.token_to_id(model.get("unk_token") or "")
    return -1 if found is None else int(found)


def _part(task: Task, data: Dataset, tokens: Tokens) -> SplitFigures:
    labels = data.examples.labels
    texts = numbered(np.concatenate([column.folded for column in data.examples.texts]))
    of_rows = texts.reshape(-1, len(data))
    same = of_rows[0]
    for column in of_rows[1:]:
        same = numbered(same * len(texts) + column)
    at_shares = np.percentile(tokens.lengths, (50, 90, 99, 100), method="higher")
    median, most, nearly, longest = (int(n) for n in at_shares)
    distribution = task.answer.labels.distribution(task, labels)
    if data.examples.votes is not None:
        votes = data.examples.votes
        numbers = (("votes, mean", votes.mean()), ("        fewest", votes.min()), ("        most", votes.max()))
        distribution = replace(distribution, numbers=(*distribution.numbers, *numbers))
    return SplitFigures(
        size=len(data),
        labels=distribution,
        tokens=(median, most, nearly, longest),
        cut=data.truncated,
        unknown=tokens.unknown,
        repeated=len(data) - len(np.unique(same)),
        conflicts=task.answer.labels.conflicts(of_rows, same, labels),
    )


def _rows(numbers: Ints, size: int) -> Ints:
    """Returns a number for each row. Two rows have the same number if they have the same texts in the same order.

    ``numbers``, ``[1, rows]`` or ``[2, rows]``, identifies each text of a row by a number below ``size``.
    """
    found: Ints = numbers[0] * size + numbers[-1]
    return found
