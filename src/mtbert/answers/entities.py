"""Entities in sequences of tags, and the metrics that count them.

An entity is a sequence of words with tags of one type. The sequence is as long as possible, but only its first word
may have a ``B`` tag. An ``I-TYPE`` that continues no entity therefore begins one, as in the default mode of the library
seqeval and in CoNLL's script. Both predictions and labels are read in this way, so tags in the older scheme IOB1 become
BIO tags. If a task's tags are not BIO tags, each word that has a tag is an entity of its own.

The metrics are those of seqeval, with which the tests compare them. An entity in an answer is right if an entity in the
labels has the same words and the same type. Precision, recall and F1 are computed over all types together (micro).

Dimension key: B texts, W words of all texts, K tags, E types of entities, S seeds, R resamples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mtbert.answers import Array, Labels, Metric, TaskFacts
from mtbert.answers.class_labels import OfClass, share
from mtbert.ragged import Ragged

Tags = npt.NDArray[np.int64]
OUTSIDE = "O"
BIO = re.compile(r"[BI]-.+", re.DOTALL)


@dataclass(frozen=True)
class Scheme:
    """The meaning of a task's tags.

    ``bio`` says whether they are BIO tags. ``types`` names the types of entities, and ``type_K`` holds the index of
    each tag's type. ``begins_K`` says whether a tag begins an entity. Both arrays have one more entry at the end, for
    words without a prediction (tag -1).
    """

    bio: bool
    types: tuple[str, ...]
    type_K: Tags  # -1 for O
    begins_K: npt.NDArray[np.bool_]
    first_E: Tags  # the tag that begins an entity of each type


@lru_cache(maxsize=256)
def scheme(tags: tuple[str, ...]) -> Scheme:
    """Returns a :class:`Scheme`, which says whether ``tags`` are BIO tags, and which type each tag stands for."""
    bio = is_bio(tags)
    types = types_of(tags) if bio else tags
    if not bio:
        own = np.arange(len(tags))
        return Scheme(False, types, np.append(own, -1), np.append(np.ones(len(tags), np.bool_), False), own)
    type_K = np.array([-1 if tag == OUTSIDE else types.index(tag[2:]) for tag in tags] + [-1])
    begins_K = np.array([tag.startswith("B-") for tag in tags] + [False])
    return Scheme(True, types, type_K, begins_K, np.array([tags.index(f"B-{name}") for name in types]))


def is_bio(tags: Sequence[str]) -> bool:
    """Returns whether tags are BIO tags: each is ``O``, ``B-TYPE`` or ``I-TYPE``, and not all are ``O``."""
    return any(map(BIO.fullmatch, tags)) and all(tag == OUTSIDE or BIO.fullmatch(tag) for tag in tags)


def types_of(tags: Sequence[str]) -> tuple[str, ...]:
    """Returns the entity types that occur in BIO tags, each once, in the order of the tags: ``PER`` for ``B-PER``."""
    return tuple(dict.fromkeys(tag[2:] for tag in tags if tag != OUTSIDE))


@dataclass(frozen=True)
class Entities:
    """All entities of some texts, in order, as three arrays with an element for each entity.

    ``first`` holds the index of the entity's first word, ``stop`` holds the index of the word after its last word, and
    ``type`` holds the index of its type.
    """

    first: Tags
    stop: Tags
    type: Tags


def entities(tags_W: npt.NDArray[Any], offsets: Tags, known: Scheme) -> Entities:
    """Returns the entities that are tagged by ``tags_W``, which has one tag per word.

    ``offsets`` says where each text begins and ends. No entity spans two texts.
    """
    tags_W = tags_W.astype(np.int64)
    type_W, begins_W = known.type_K[tags_W], _begin(tags_W, offsets, known)
    edges = np.append(np.flatnonzero(begins_W | (type_W < 0)), len(tags_W))
    first = np.flatnonzero(begins_W)
    return Entities(first, edges[np.searchsorted(edges, first, side="right")], type_W[first])


def _begin(tags_W: Tags, offsets: Tags, known: Scheme) -> npt.NDArray[np.bool_]:
    """Returns a mask that is true for each word that begins an entity, ``[W]``."""
    type_W = known.type_K[tags_W]
    other_W = np.ones(len(tags_W), np.bool_)
    other_W[1:] = type_W[1:] != type_W[:-1]
    other_W[offsets[:-1][np.diff(offsets) > 0]] = True
    found: npt.NDArray[np.bool_] = (type_W >= 0) & (known.begins_K[tags_W] | other_W)
    return found


def begin_with_b(tags_W: Tags, offsets: Tags, known: Scheme) -> tuple[Tags, npt.NDArray[np.bool_]]:
    """Returns a pair: the tags, changed to ``B`` where an entity begins, and a mask of the words whose tag changed."""
    wrong_W = _begin(tags_W, offsets, known) & ~known.begins_K[tags_W]
    return np.where(wrong_W, known.first_E[known.type_K[tags_W]], tags_W), wrong_W


def _same(a: Entities, b: Entities) -> tuple[Tags, Tags]:
    """Finds the entities of ``a`` and ``b`` that have the same first and last word; they may have different types.

    Returns a pair of arrays: the indices of these entities in ``a``, and their indices in ``b``.
    """
    _, in_a, in_b = np.intersect1d(a.first, b.first, assume_unique=True, return_indices=True)
    alike = a.stop[in_a] == b.stop[in_b]
    return in_a[alike], in_b[alike]


def _both(task: TaskFacts, decision_W: Array, labels: Ragged) -> tuple[Entities, Entities]:
    """Returns a pair: the entities in the labels, and the entities in the decisions."""
    known = scheme(task.labels or ())
    given, said = (entities(tags, labels.offsets, known) for tags in (labels.values, decision_W))
    return given, said


def confusion(task: TaskFacts, decision_W: Array, labels: Ragged) -> list[list[int]]:
    """Returns a matrix of counts: entry ``[i][j]`` says how many entities of type ``i`` were answered with type ``j``.

    The last column counts labelled entities that are missing from the answers. The last row counts entities in the
    answers that are missing from the labels.
    """
    given, said = _both(task, decision_W, labels)
    types = len(scheme(task.labels or ()).types)
    counts = np.zeros((types + 1, types + 1), np.int64)
    at, found = _same(given, said)
    np.add.at(counts, (given.type[at], said.type[found]), 1)
    counts[:types, types] = np.bincount(np.delete(given.type, at), minlength=types)
    counts[types, :types] = np.bincount(np.delete(said.type, found), minlength=types)
    listed: list[list[int]] = counts.tolist()
    return listed


def by_entity(task: TaskFacts, decision_W: Array, labels: Ragged) -> list[OfClass]:
    """Returns precision, recall, F1 and counts for each type of entity. Tags that are not BIO count as types."""
    counts = np.array(confusion(task, decision_W, labels))
    found = []
    for i, name in enumerate(scheme(task.labels or ()).types):
        right, given, said = counts[i, i], counts[i].sum(), counts[:, i].sum()
        precision, recall, f1 = share([right, right, 2 * right], [said, given, said + given]).tolist()
        found.append(OfClass(name, precision, recall, f1, int(given), int(said)))
    return found


# Metrics ----------------------------------------------------------------------------------------------------

# From the right, the answered and the labelled entities, or words, to a score; all arrays have one shape.
Ratio = Callable[[Labels, Labels, Labels], Labels]


def _counted(task: TaskFacts, decision_W: Array, labels: Ragged) -> tuple[Labels, Labels, Labels]:
    """Returns three arrays ``[B]``, which count entities in each of the B texts.

    The first counts entities that were answered correctly, the second all entities in the answer, and the third all
    entities in the label.
    """
    given, said = _both(task, decision_W, labels)
    at, found = _same(given, said)
    right = given.first[at[given.type[at] == said.type[found]]]
    owners = labels.owners
    counts = (np.bincount(owners[first], minlength=len(labels)) for first in (right, said.first, given.first))
    right_B, said_B, given_B = (each.astype(np.float64) for each in counts)
    return right_B, said_B, given_B


def counted_words(task: TaskFacts, decision_W: Array, labels: Ragged) -> tuple[Labels, Labels, Labels]:
    """Returns three counts for each text, each ``[B]``: words with the right tag, words with a tag, words with a label.

    Every word has both a predicted tag and a label, so the last two arrays are equal.
    """
    outside = task.labels.index(OUTSIDE) if scheme(task.labels or ()).bio and task.labels else -1
    said_W = np.where(decision_W < 0, outside, decision_W)
    every_B = labels.lengths.astype(np.float64)
    return labels.sums(said_W == labels.values), every_B, every_B


def _metric(name: str, ratio: Ratio, counted: Callable[[TaskFacts, Array, Ragged], tuple[Labels, ...]]) -> Metric:
    """Returns a metric that is a ratio of counts. Each count is a sum over all texts."""

    def value(task: TaskFacts, decision_W: Array, labels: Ragged) -> float:
        return float(ratio(*(each.sum() for each in counted(task, decision_W, labels))))

    def constant(task: TaskFacts, labels: Ragged) -> float:
        """Returns the highest value of the metric that can be reached by giving all words the same tag."""
        words = len(labels.values)
        return max(value(task, np.full(words, tag), labels) for tag in range(len(task.labels or ())))

    def resampled(task: TaskFacts, decision_SW: Array, labels: Ragged, counts_RB: Labels) -> Labels:
        found = (ratio(*(counts_RB @ each for each in counted(task, one, labels))) for one in decision_SW)
        return np.stack(list(found), 1)

    return Metric(name, value, constant=constant, resampled=resampled)


F1 = _metric("f1", lambda right, said, given: share(2 * right, said + given), _counted)
PRECISION = _metric("precision", lambda right, said, given: share(right, said), _counted)
RECALL = _metric("recall", lambda right, said, given: share(right, given), _counted)
TAG_ACCURACY = _metric("accuracy", lambda right, said, given: share(right, given), counted_words)
