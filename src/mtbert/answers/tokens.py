"""The answer type with a label for each word: BIO tags of entities, or plain tags such as parts of speech.

Tags are BIO if each is ``O``, ``B-TYPE`` or ``I-TYPE``; else they are plain. ``entities.py`` says what an entity is.
The model gives one logit per word and tag.

A word is not read if it is in the part of a long text that is cut off, or if the tokenizer drops all characters of the
word. The prediction for a word that is not read is ``nan``, and the decision is -1. A decision of -1 counts as the tag
``O`` or, if the tags are plain, as a wrong answer.

The cell of a row is a JSON list of its tags. ``data/words.py`` makes this list.

Dimension key: B texts, W words of all texts, K tags.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtbert.answers import (
    AnswerType,
    Array,
    Cells,
    ColumnFacts,
    Distribution,
    FigureName,
    Judged,
    LabelKind,
    Labels,
    Per,
    Shown,
    TaskFacts,
    WrongCell,
)
from mtbert.answers.class_labels import MOST_CONFUSED, MOST_LISTED, ClassLabels, scores_of_each
from mtbert.answers.classification import OneLogitPerClass
from mtbert.answers.columns import one_label
from mtbert.answers.entities import (
    BIO,
    F1,
    OUTSIDE,
    PRECISION,
    RECALL,
    TAG_ACCURACY,
    Tags,
    begin_with_b,
    by_entity,
    confusion,
    counted_words,
    entities,
    is_bio,
    scheme,
    types_of,
)
from mtbert.answers.heads import OUTPUTS
from mtbert.answers.seen import MOST_KINDS, SeenColumn, Suits
from mtbert.messages import LONGEST, clean, few, shown
from mtbert.ragged import Ragged

if TYPE_CHECKING:
    from torch import Tensor

    from mtbert.answers.prediction_kind import Tensors

NONE = "none"
OTHER_SCHEME = re.compile(r"[BIESLU]-.+", re.DOTALL)
AS_CLASSES = ClassLabels()  # tags have the names, codes and order that classes have


# Labels -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TagLabels(LabelKind[Ragged]):
    """Labels with one tag for each word of a text. A :class:`mtbert.ragged.Ragged` holds the indices of the tags."""

    per: Per = "word"
    figures: tuple[FigureName, ...] = ("confusion",)
    graded: bool = True
    wrong: str = "A text counts as wrong if one of its words has a wrong tag."

    def check(self, task: TaskFacts) -> None:
        AS_CLASSES.check(task)
        tags = task.labels or ()
        if is_bio(tags):
            needed = [OUTSIDE, *(f"{sign}-{name}" for name in types_of(tags) for sign in "BI")]
            lacking = [tag for tag in needed if tag not in tags]
            if lacking:
                raise ValueError(f"labels in BIO are O, and B- and I- of each type, found no {few(lacking)}. Add it.")

    def missing(self, task: TaskFacts) -> str | None:
        return AS_CLASSES.missing(task) or ("splitter" if task.splitter is None else None)

    def columns(self, name: str, given: ColumnFacts) -> dict[str, Any]:
        found = one_label(name, given, instead="Drop it")
        if given.weight is not None:
            raise ValueError(f"weight: weights are of rows, and type '{name}' has a label for each word. Drop it.")
        return found

    def suits(self, labels: Sequence[SeenColumn], texts: Sequence[SeenColumn]) -> Suits | None:
        if len(labels) != 1:
            return None
        (column,) = labels
        items = [item for cell in column.lists for item in cell]
        if items and all(isinstance(item, dict) and {"start", "end", "label"} <= item.keys() for item in items):
            return Suits(0.95, "places in texts", "", {"inputs": "single"})
        tags = column.items or Counter(tag for cell in column.counts for tag in cell.split())
        text = next((each for each in texts if each.words == column.words), None)
        if text is None or len(column.filled) == sum(column.words) or not 2 <= len(tags) <= MOST_KINDS:
            return None
        # This column may hold the words, and the other one the tags. Two columns of texts may have equal lengths, too.
        if not is_bio(sorted(tags)) and (not column.items or len(tags) >= len(text.items)):
            return None
        columns = {"text": text.name, "label": column.name}
        because = f"as many tags as {shown(text.name)} has words, in all rows"
        return Suits(0.95, because, "", {"inputs": "single", "columns": columns})

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns values for the settings ``labels`` and ``splitter``; a setting that the recipe gives is left out.

        ``splitter`` is set to ``unicode``, which splits plain texts into words. ``labels`` is set to all tags, in the
        order in which the model numbers them. If the train data has BIO tags with the types ``LOC`` and ``PER``,
        ``labels`` is ``("O", "B-LOC", "I-LOC", "B-PER", "I-PER")``. Tags that are not BIO are ordered like class names.
        """
        found: dict[str, Any] = {"splitter": "unicode"} if task.splitter is None else {}
        if task.labels is not None:
            return found
        tags = sorted({tag for cell in columns[0] if cell is not None for tag in json.loads(cell)})
        named = [tag for tag in tags if BIO.fullmatch(tag)]
        if named and not is_bio(tags):
            other = [tag for tag in tags if tag != OUTSIDE and tag not in named]
            if all(map(OTHER_SCHEME.fullmatch, other)):
                raise ValueError(
                    f"the tags {few([named[0], other[0]], quoted=True)} are of another scheme than BIO. Write each "
                    "entity as B-TYPE, I-TYPE, I-TYPE."
                )
            raise ValueError(
                f"the tags {few([named[0], other[0]], quoted=True)} are of two kinds. Use BIO or plain tags, or list "
                "them in the task's labels."
            )
        if is_bio(tags):
            bio = (OUTSIDE, *(f"{sign}-{name}" for name in sorted(types_of(tags)) for sign in "BI"))
            return found | {"labels": bio}
        return found | AS_CLASSES.complete(task, [tags])

    def read(self, task: TaskFacts, cells: Cells) -> Ragged:
        """Returns the tags of each cell as numbers, one per word. A missing cell has no tags.

        BIO tags are repaired: an ``I-TYPE`` that begins an entity becomes ``B-TYPE``.
        """
        written = _written(task, cells)
        known = scheme(task.labels or ())
        repaired_W = begin_with_b(written.values, written.offsets, known)[0] if known.bio else written.values
        return written.with_values(repaired_W.astype(np.float64))

    def repaired(self, task: TaskFacts, cells: Cells) -> Tags:
        """Returns an array of integers, ``[B]``: for each cell, the number of tags that :meth:`read` changes.

        If the task's tags are not BIO tags, all numbers are 0.
        """
        written, known = _written(task, cells), scheme(task.labels or ())
        if not known.bio:
            return np.zeros(len(written), np.int64)
        return written.sums(begin_with_b(written.values, written.offsets, known)[1]).astype(np.int64)

    def occurrences(self, task: TaskFacts, labels: Ragged) -> Array:
        return AS_CLASSES.occurrences(task, labels.values)

    def distribution(self, task: TaskFacts, labels: Ragged) -> Distribution:
        """Returns the number of entities of each type in the labels.

        If the tags are not BIO tags, each tag counts as a type, and each word counts as an entity.
        """
        known = scheme(task.labels or ())
        found = entities(labels.values, labels.offsets, known)
        counts = np.bincount(found.type, minlength=len(known.types)).tolist()
        numbers = [("words of a text", float(labels.lengths.mean()))]
        if known.bio:
            inside = float((known.type_K[labels.values.astype(np.int64)] >= 0).mean())
            numbers += [("entities of a text", len(found.first) / len(labels)), ("share of words in entities", inside)]
        heading = "entity" if known.bio else "tag"
        return Distribution(heading, tuple(zip(known.types, counts, strict=True)), tuple(numbers), classes=True)

    def fits(self, task: TaskFacts, decision: Array, labels: Ragged) -> bool:
        kind = decision.shape == labels.values.shape and decision.dtype == np.int64
        return kind and bool(((decision >= -1) & (decision < len(task.labels or ()))).all())

    def collapsed(self, decision: Array) -> bool:
        """Returns whether all words are answered with the same tag."""
        return len(np.unique(decision)) <= 1

    def summary(self, task: TaskFacts) -> str:
        return ", ".join(scheme(task.labels or ()).types)

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        """Returns the entities of a text with the numbers of their words, such as ``PER 1-2; LOC 5``.

        Tags that are not BIO are listed as they are.
        """
        tags, known = np.asarray(label), scheme(task.labels or ())
        if not known.bio:
            return " ".join((*known.types, "?")[int(tag)] for tag in tags)
        found = entities(tags, np.array([0, len(tags)]), known)
        told = [
            f"{known.types[kind]} {first + 1}" + (f"-{stop}" if stop > first + 1 else "")
            for first, stop, kind in zip(found.first, found.stop, found.type, strict=True)
        ]
        return "; ".join(told) or NONE

    def tables(self, task: TaskFacts, decision: Array, labels: Ragged) -> list[Shown | str]:
        known = scheme(task.labels or ())
        what = "entity" if known.bio else "tag"
        names = [clean(name[:LONGEST]) for name in known.types]
        if len(names) > MOST_LISTED:
            return [f"{task.name}: {len(names):,} types, too many for a line each here; --json has them all."]
        found: list[Shown | str] = [scores_of_each(task, what, by_entity(task, decision, labels))]
        if len(names) <= MOST_CONFUSED:
            numbers = [*map(str, range(1, len(names) + 1)), NONE]
            rows = zip(numbers, [*names, NONE], confusion(task, decision, labels), strict=True)
            found.append(
                Shown(
                    ("", f"true {what}", *numbers),
                    tuple((number if number != NONE else "", name, *map(str, row)) for number, name, row in rows),
                    lead=f"{task.name}: true {what} (rows) by answer (columns, numbered as rows):",
                    names=1,
                )
            )
        return found

    def details(self, task: TaskFacts, decision: Array, labels: Ragged) -> dict[str, Any]:
        known = scheme(task.labels or ())
        return {
            "labels": list(task.labels or ()),
            "types": [*known.types, NONE],  # of the rows and columns of the confusion
            f"by_{'entity' if known.bio else 'tag'}": [asdict(one) for one in by_entity(task, decision, labels)],
            "confusion": confusion(task, decision, labels),
        }


def _written(task: TaskFacts, cells: Cells) -> Ragged:
    """Returns the tags of each cell as indices into the task's labels. Invalid BIO tags are not repaired."""
    rows: list[list[str]] = [[] if cell is None else json.loads(cell) for cell in cells]
    tags = list(dict.fromkeys(tag for row in rows for tag in row))
    try:
        indices = AS_CLASSES.read(task, tags)
    except WrongCell as error:
        unknown = tags[error.row]
        raise error.moved(next(i for i, row in enumerate(rows) if unknown in row)) from None
    index = dict(zip(tags, indices.tolist(), strict=True))
    return Ragged.of(([index[tag] for tag in row] for row in rows), np.int64)


# Predictions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TagLogits(OneLogitPerClass[Ragged]):
    """Predictions ``[W, K]``: for each word, one logit per tag. The logits of a word without a token are ``nan``."""

    def decide(self, prediction: Tensor, threshold: float | Tensor) -> npt.NDArray[Any]:
        known_W = ~prediction.isnan().any(-1)
        found: npt.NDArray[np.int64] = np.where(known_W.numpy(), prediction.argmax(-1).numpy(), -1)
        return found

    def as_tensors(self, task: TaskFacts, prediction: Tensor, threshold: float | Tensor, *, clamped: bool) -> Tensors:
        return {"tag": prediction.argmax(-1), "probabilities": prediction.softmax(-1)}

    def judge(self, task: TaskFacts, prediction: Labels, decision: Labels, labels: Ragged) -> Judged:
        """Returns each text's answer with two measures of how wrong the answer is: a loss and a distance.

        The loss is the sum of ``-log p`` over the words, where ``p`` is the probability of the word's correct tag. The
        distance is the number of words with a wrong tag. For a word without a prediction, all tags count as equally
        probable.
        """
        from scipy.special import log_softmax

        tags = len(task.labels or ())
        log_p_WK = np.where(np.isnan(prediction), -np.log(tags), log_softmax(prediction, axis=1))
        wrong_B = labels.lengths - counted_words(task, decision, labels)[0]
        return Judged(
            answer=labels.with_values(decision),
            p_B=np.exp(labels.sums(log_p_WK.max(1))),
            distance_B=wrong_B,
            loss_B=-labels.sums(np.take_along_axis(log_p_WK, labels.values.astype(np.int64)[:, None], 1)[:, 0]),
            wrong_B=wrong_B > 0,
        )

    def decode_words(
        self, task: TaskFacts, prediction: Tensor, texts: Sequence[str], words: Sequence[npt.NDArray[np.int64]]
    ) -> list[dict[str, Any]]:
        """Returns one answer per text. ``words`` says where the words of each text begin and end, in characters.

        For BIO tags, an answer is ``{"spans": [...]}``, a list of entities. An entity has a ``start`` and an ``end``
        (the place just after its last character), a ``label``, a ``text``, and ``p``, the product of the probabilities
        of its words' tags. For plain tags, an answer is ``{"words": [...], "tags": [...], "p": [...]}``. A word without
        a prediction has the tag None.
        """
        decision_W = self.decide(prediction, 0.0)
        p_W = prediction.softmax(-1).amax(-1).double().numpy()
        offsets = np.cumsum([0, *map(len, words)])
        make = _spans if scheme(task.labels or ()).bio else _tagged
        return [
            make(task, decision_W[first:stop], p_W[first:stop], text, places)
            for (first, stop), text, places in zip(pairwise(offsets), texts, words, strict=True)
        ]


def _spans(task: TaskFacts, tags: Tags, p: Labels, text: str, places: Tags) -> dict[str, Any]:
    known = scheme(task.labels or ())
    found = entities(tags, np.array([0, len(tags)]), known)
    spans = []
    for first, stop, kind in zip(found.first, found.stop, found.type, strict=True):
        start, end = int(places[first, 0]), int(places[stop - 1, 1])
        span = {"start": start, "end": end, "label": known.types[kind], "text": text[start:end]}
        spans.append(span | {"p": float(p[first:stop].prod())})
    return {"spans": spans}


def _tagged(task: TaskFacts, tags: Tags, p: Labels, text: str, places: Tags) -> dict[str, Any]:
    names = (*(task.labels or ()), None)
    return {
        "words": [text[start:end] for start, end in places.tolist()],
        "tags": [names[tag] for tag in tags],
        "p": [None if tag < 0 else float(each) for tag, each in zip(tags, p, strict=True)],
    }


WORD_TAGS = AnswerType("tokens", TagLabels(), (F1, PRECISION, RECALL, TAG_ACCURACY), {OUTPUTS: TagLogits()})
