"""Figures of a task's data before any training: sizes, lengths, labels, repeats, and what train and dev share.

Texts are compared without case and outer space throughout.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mtbert.batch import Dataset, Examples
from mtbert.data.tokenizer import CHUNK
from mtbert.task import Task

Labels = npt.NDArray[np.float64]

BINS = 10  # of a histogram of scores
UNKNOWN = 0.2  # share of a text's tokens from which on the text counts as unknown


@dataclass(frozen=True)
class Tokens:
    """The tokens of each example before the cut, and how many examples the vocabulary mostly does not know."""

    lengths: npt.NDArray[np.int64]
    unknown: int


@dataclass(frozen=True)
class TaskData:
    """A task's data before training.

    ``passes`` are made over train in the whole run, ``warnings`` are those of reading, and ``tokens`` are those of
    train and dev.
    """

    task: Task
    train: Dataset
    dev: Dataset
    batch_size: int
    passes: float
    tokens: tuple[Tokens, Tokens]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlap:
    """How many examples of one set repeat an example, or at least one text, of another."""

    examples: int
    texts: int


@dataclass(frozen=True)
class SplitFigures:
    """Figures of one split."""

    size: int
    labels: tuple[tuple[str, int], ...]  # class or bin of scores, and its count
    scores: tuple[float, float, float] | None  # mean, lowest, highest; None for classes
    tokens: tuple[int, int, int, int]  # before the cut, of the example at 50, 90 and 99%, and of the longest
    cut: int
    unknown: int  # examples, by their tokens
    repeated: int  # examples with the texts of an earlier one
    conflicts: int  # different texts that occur with different labels


@dataclass(frozen=True)
class Figures:
    """Figures of a task."""

    data: TaskData
    train: SplitFigures
    dev: SplitFigures
    overlap: Overlap  # dev examples found in train


def shared(a: Examples, b: Examples) -> Overlap:
    """How many examples of ``b`` are in ``a`` (in either order of the texts), and how many share a text with ``a``."""
    of_a, of_b = _folded(a), _folded(b)
    whole = {tuple(sorted(texts)) for texts in of_a}
    known = {text for texts in of_a for text in texts}
    return Overlap(
        examples=sum(tuple(sorted(texts)) in whole for texts in of_b),
        texts=sum(not known.isdisjoint(texts) for texts in of_b),
    )


def measure(data: TaskData) -> Figures:
    """Returns the figures of a task's train and dev examples."""
    return Figures(
        data=data,
        train=_part(data.task, data.train, data.tokens[0]),
        dev=_part(data.task, data.dev, data.tokens[1]),
        overlap=shared(data.train.examples, data.dev.examples),
    )


def count_tokens(tokenizer: Tokenizer, data: Dataset, max_length: int, unknown: int) -> Tokens:
    """Returns what the tokens of a data set are like; only texts that were cut are encoded again, whole.

    ``unknown`` is the tokenizer's :func:`unknown_id`.
    """
    lengths, of_text, not_known = (np.zeros(len(data), np.int64) for _ in range(3))
    sides = data.task.packed(data.examples.texts)
    for columns, made in zip(sides, data.sequences, strict=True):
        whole = made.lengths.copy()
        long = np.flatnonzero(whole >= max_length)
        for start in range(0, len(long), CHUNK):
            rows = long[start : start + CHUNK]
            given = [columns[0][i] if len(columns) == 1 else tuple(column[i] for column in columns) for i in rows]
            whole[rows] = [len(encoding) for encoding in tokenizer.encode_batch(given)]
        lengths += whole
        of_text += made.lengths - tokenizer.num_special_tokens_to_add(len(columns) == 2)
        before = np.concatenate([[0], np.cumsum(made.ids == unknown)])
        not_known += before[made.offsets[1:]] - before[made.offsets[:-1]]
    return Tokens(lengths, int(np.sum(not_known > UNKNOWN * of_text)))


def unknown_id(tokenizer: Tokenizer) -> int:
    """Returns the number of the unknown token, -1 where there is none; takes as long as to save the tokenizer."""
    model = json.loads(tokenizer.to_str())["model"]
    found = model.get("unk_id") if "unk_id" in model else tokenizer.token_to_id(model.get("unk_token") or "")
    return -1 if found is None else int(found)


def sets(labels: Sequence[str]) -> tuple[list[str], int]:
    """Returns the class names that look like sets of labels, and how many different parts they are made of.

    Nothing counts as a set unless the same parts come again: ``Washington, DC`` among other cities does not.

    >>> sets(["a", "b", "a;b"])
    (['a;b'], 2)
    >>> sets(["Washington, DC", "Seattle, WA"])
    ([], 0)
    """
    parts = {label: _parts(label) for label in labels}
    found = [label for label in labels if len(parts[label]) > 1]
    known = {part for each in parts.values() for part in each}
    listed = all(_LISTED.fullmatch(label) for label in labels)
    if found and (listed or len(known) < len(labels) or (len(found) > 1 and len(known) == len(labels))):
        return found, len(known)
    return [], 0


_LISTED = re.compile(r"\s*[\[({](.*)[\])}]\s*", re.DOTALL)


def _parts(label: str) -> list[str]:
    listed = _LISTED.fullmatch(label)
    inner = listed[1] if listed else label
    sign = next((sign for sign in ";|," if sign in inner), None)
    return [part.strip().strip("'\"").strip() for part in (inner.split(sign) if sign else [inner])]


def _part(task: Task, data: Dataset, tokens: Tokens) -> SplitFigures:
    given = data.examples.labels
    labels = given[~np.isnan(given)]
    seen: dict[tuple[str, ...], set[float | None]] = {}
    for texts, label in zip(_folded(data.examples), given.tolist(), strict=True):
        seen.setdefault(texts, set()).add(None if math.isnan(label) else label)
    at_shares = np.percentile(tokens.lengths, (50, 90, 99, 100), method="higher")
    median, most, nearly, longest = (int(n) for n in at_shares)
    return SplitFigures(
        size=len(data),
        labels=_classes(task, labels) if task.is_class else _histogram(task, labels),
        scores=None if task.is_class else (float(labels.mean()), float(labels.min()), float(labels.max())),
        tokens=(median, most, nearly, longest),
        cut=data.truncated,
        unknown=tokens.unknown,
        repeated=len(data) - len(seen),
        conflicts=sum(len(found) > 1 for found in seen.values()),
    )


def _classes(task: Task, labels: Labels) -> tuple[tuple[str, int], ...]:
    names = task.labels or ()
    counts = np.bincount(labels.astype(np.int64), minlength=len(names))
    return tuple((name, int(count)) for name, count in zip(names, counts, strict=True))


def _histogram(task: Task, labels: Labels) -> tuple[tuple[str, int], ...]:
    edges = [task.at(i / BINS) for i in range(BINS + 1)]
    counts = np.bincount(np.clip(np.searchsorted(edges, labels, "right") - 1, 0, BINS - 1), minlength=BINS)
    names = [f"{edge:.4g}" for edge in edges]
    for digits in range(5, 18):  # scores may differ in their last digits alone
        if len(set(names)) == len(names):
            break
        names = [f"{edge:.{digits}g}" for edge in edges]
    return tuple((f"{names[i]} to {names[i + 1]}", int(count)) for i, count in enumerate(counts))


def _folded(examples: Examples) -> list[tuple[str, ...]]:
    return list(zip(*([text.strip().casefold() for text in column] for column in examples.texts), strict=True))
