"""How class names are read, numbered and shown, for every answer type that has classes.

Dimension key: B examples, K classes.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtbert.answers import (
    Array,
    Cells,
    ColumnFacts,
    Distribution,
    FigureName,
    LabelKind,
    Labels,
    Shown,
    TaskFacts,
    WrongCell,
)
from mtbert.answers.columns import one_label
from mtbert.answers.seen import SeenColumn, Suits
from mtbert.messages import LONGEST, clean, few, near, shown
from mtbert.numbers import number, without_point

COLLAPSED_SHARE = 0.99
MOST_LISTED = 30  # most classes in the table of classes
MOST_CONFUSED = 12  # most classes in the confusion matrix


@dataclass(frozen=True)
class OfClass:
    """Precision, recall, F1 and counts for one class. A ratio with denominator 0 is 0."""

    label: str
    precision: float  # share of the answers with this class that are right
    recall: float  # share of the examples of this class that get it as an answer
    f1: float
    examples: int
    answers: int


@dataclass(frozen=True, kw_only=True)
class ClassLabels(LabelKind[Labels]):
    """The label kind for classes. A label is stored as the index of its class in ``task.labels``, ``[B]``."""

    only: int | None = None  # the number of classes, if the type fixes it
    ordered: bool = False  # whether the order of the classes has a meaning
    figures: tuple[FigureName, ...] = ("confusion",)
    suits_column: Callable[[SeenColumn], Suits | None] = lambda column: None  # :meth:`suits` for one column
    of_lists: str = "use columns.votes, columns.shares or type: multilabel"

    def check(self, task: TaskFacts) -> None:
        labels = task.labels
        if labels is not None:
            if len(set(labels)) != len(labels):
                raise ValueError(f"labels must differ from each other, found {few(labels, quoted=True)}.")
            if self._too_few_or_many(len(labels)):
                raise ValueError(f"type '{task.type}' needs {self._need} labels, found {len(labels)}.")
        check_codes(task)
        if task.range is not None:
            raise ValueError("range is for regression; a task of classes has labels. Drop range.")

    def missing(self, task: TaskFacts) -> str | None:
        return "labels" if task.labels is None else None

    def columns(self, name: str, given: ColumnFacts) -> dict[str, Any]:
        return one_label(name, given, instead="Use columns.votes or columns.shares")

    def suits(self, labels: Sequence[SeenColumn], texts: Sequence[SeenColumn]) -> Suits | None:
        return self.suits_column(labels[0]) if len(labels) == 1 else None

    def complete(self, task: TaskFacts, columns: Sequence[Cells]) -> dict[str, Any]:
        """Returns ``{"labels": ...}`` with the classes that occur in train, or ``{}`` if the recipe names the classes.

        The classes are sorted as numbers if all of them are numbers, else alphabetically.
        """
        if task.labels is not None:
            return {}
        found = sorted({cell for cell in columns[0] if cell is not None})
        numbers = {name: n for name in found if (n := number(name)) is not None}
        if self._too_few_or_many(len(found)):
            repair = "Use type: classification, or check the column." if len(found) > 2 else "Check the column."
            raise ValueError(
                f"type '{task.type}' needs {self._need} classes, found {len(found):,}: {few(found, quoted=True)}. "
                f"{repair}"
            )
        if len(numbers) == len(found):
            found.sort(key=lambda name: numbers[name])
        elif self.ordered:
            repair = _lists(found) or "List them in order in the task's labels."
            raise ValueError(f"the order of the classes {few(found, quoted=True)} is unknown. {repair}")
        return {"labels": tuple(found)}

    def read(self, task: TaskFacts, cells: Cells) -> Labels:
        written = task.codes or task.labels or ()
        index = {without_point(name.strip()): float(i) for i, name in enumerate(written)}
        if len(index) != len(written):
            two = few(written, quoted=True)
            raise ValueError(f"task {task.name}, labels: two of {two} are the same label. Drop one.")
        names = tuple(index)
        for name in names:
            if name.lower() in ("true", "false"):  # pandas, JSON and spreadsheets write them differently
                for spelling in (name.lower(), name.capitalize(), name.upper()):
                    index.setdefault(spelling, index[name])
        labels_B = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if cell is not None:
                if cell not in index:
                    why = f"{shown(cell)} is not one of the classes {few(names, quoted=True)}.{near(cell, names)}"
                    repair, trained = _repairs(task, cell, cells)
                    raise WrongCell(row, why, repair=repair, trained=trained)
                labels_B[row] = index[cell]
        return labels_B

    def distribution(self, task: TaskFacts, labels: Labels) -> Distribution:
        names = task.labels or ()
        counts = np.bincount(labels[~np.isnan(labels)].astype(np.int64), minlength=len(names)).tolist()
        return Distribution("label", tuple(zip(names, counts, strict=True)), classes=True)

    def doubts(self, task: TaskFacts) -> list[str]:
        """Returns warnings about class names that look like sets of labels, or like typing errors or missing values.

        Class names that are mere numbers cause a warning, too.
        """
        labels = task.labels or ()
        found = odd_names(task)
        looking, parts = sets(labels)
        if looking:
            repair = "A row has one label here; for sets use type: multilabel, for votes of annotators columns.votes."
            if task.soft is not None:
                repair = "A vote is one label; name what stands between votes in columns.separator."
            found.append(
                f"{task.name}: labels look like sets of labels, as {shown(looking[0])} does: {len(labels):,} "
                f"classes are made of {parts:,} parts. {repair}"
            )
        # In an ordinal task the numbers are the order, and in a yes/no task 0 and 1 mean no and yes.
        numbered = all(re.fullmatch(r"[+-]?[0-9]+", label) for label in labels) and set(labels) != {"0", "1"}
        if labels and numbered and task.codes is None and not self.ordered:
            found.append(
                f"{task.name}: the classes are numbers, {few(labels, most=5)}, and so will be the answers. "
                f'Name them: labels: {{"{labels[0]}": NAME, "{labels[1]}": NAME}}.'
            )
        return found

    def occurrences(self, task: TaskFacts, labels: Labels) -> Array:
        return np.bincount(labels[~np.isnan(labels)].astype(np.int64), minlength=len(task.labels or ()))

    def fits(self, task: TaskFacts, decision: Array, labels: Labels) -> bool:
        classes = len(task.labels or ())
        kind = decision.shape == (len(labels),) and decision.dtype == np.int64
        return kind and bool(((decision >= 0) & (decision < classes)).all())

    def collapsed(self, decision: Array) -> bool:
        """Returns whether at least 99% of the decisions are the same class."""
        return bool(np.unique(decision, return_counts=True)[1].max() >= COLLAPSED_SHARE * len(decision))

    def choices(self, task: TaskFacts) -> tuple[str, ...] | None:
        return task.labels

    def summary(self, task: TaskFacts) -> str:
        return ", ".join(task.labels or ())

    def tell(self, task: TaskFacts, label: Any) -> float | str:
        return float(label)

    def tables(self, task: TaskFacts, decision: Array, labels: Labels) -> list[Shown | str]:
        names = [clean(label[:LONGEST]) for label in task.labels or ()]
        if len(names) > MOST_LISTED:
            return [f"{task.name}: {len(names):,} classes, too many for a line each here; --json has them all."]
        found: list[Shown | str] = [scores_of_each(task, "class", by_class(task, decision, labels))]
        if len(names) <= MOST_CONFUSED:
            counts = confusion(task, decision, labels)
            numbers = tuple(str(i) for i in range(1, len(names) + 1))
            found.append(
                Shown(
                    ("", "true class", *numbers),
                    tuple((i, name, *map(str, row)) for i, name, row in zip(numbers, names, counts, strict=True)),
                    lead=f"{task.name}: true class (rows) by answer (columns, numbered as rows):",
                    names=1,
                )
            )
        return found

    def details(self, task: TaskFacts, decision: Array, labels: Labels) -> dict[str, Any]:
        return {
            "labels": list(task.labels or ()),
            "classes": [asdict(c) for c in by_class(task, decision, labels)],
            "confusion": confusion(task, decision, labels),
        }

    @property
    def _need(self) -> str:
        return "at least 2" if self.only is None else f"exactly {self.only}"

    def _too_few_or_many(self, classes: int) -> bool:
        return classes < 2 or (self.only is not None and classes != self.only)


def by_class(task: TaskFacts, decision_B: Array, labels_B: Labels) -> list[OfClass]:
    """Returns precision, recall, F1 and counts for each class, in the order of the task's labels."""
    from sklearn.metrics import precision_recall_fscore_support

    classes = range(len(task.labels or ()))
    rows = precision_recall_fscore_support(labels_B, decision_B, labels=list(classes), zero_division=0.0)
    answers = np.bincount(decision_B.astype(np.int64), minlength=len(classes))
    return [
        OfClass(label, float(precision), float(recall), float(f1), int(examples), int(said))
        for label, precision, recall, f1, examples, said in zip(task.labels or (), *rows, answers, strict=True)
    ]


def scores_of_each(task: TaskFacts, what: str, each: Sequence[OfClass]) -> Shown:
    """Returns a table with one row for each class, label, entity type or tag.

    The columns are: name, precision, recall, F1, number of examples, and number of answers. ``each`` holds the content
    of each row. ``what`` is the heading of the column of names, such as ``class``.
    """
    rows = (
        (
            clean(c.label[:LONGEST]),
            *(f"{x:.4f}" for x in (c.precision, c.recall, c.f1)),
            str(c.examples),
            str(c.answers),
        )
        for c in each
    )
    heads = (what, "precision", "recall", "f1", "examples", "answers")
    return Shown(heads, tuple(rows), title=f"{task.name}, by {what}")


def share(part: npt.ArrayLike, whole: npt.ArrayLike) -> Labels:
    """Returns ``part / whole``, element by element; 0 where ``whole`` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    zeros = np.zeros(np.broadcast_shapes(part.shape, whole.shape))
    found: Labels = np.divide(part, whole, out=zeros, where=whole > 0)
    return found


def confusion(task: TaskFacts, decision_B: Array, labels_B: Labels) -> list[list[int]]:
    """Returns the confusion matrix as counts of examples: a row per true class, a column per answer."""
    from sklearn.metrics import confusion_matrix

    classes = range(len(task.labels or ()))
    counts: list[list[int]] = confusion_matrix(labels_B, decision_B, labels=classes).tolist()
    return counts


def class_answer(task: TaskFacts, decision_B: npt.NDArray[Any]) -> list[str]:
    """Returns the names of the classes whose indices are in ``decision_B``."""
    names = task.labels or ()
    return [names[int(i)] for i in decision_B]


def check_codes(task: TaskFacts) -> None:
    """Raises ValueError if a task has codes, but not as many codes as labels. In files, a code stands for a label."""
    if task.codes is not None and len(task.codes) != len(task.labels or ()):
        found, labels = len(task.codes), len(task.labels or ())
        raise ValueError(f"codes must be one for each of labels, found {found} for {labels}.")


def sets(labels: Sequence[str]) -> tuple[list[str], int]:
    """Returns a pair: the class names that look like sets of labels, and the number of different parts of all names.

    The parts of a name are separated by ``;``, ``|`` or ``,``, or by white space if all parts are whole numbers.
    Brackets around a name belong to no part.

    The names with several parts are returned if all names are in brackets, or if all names together have only a few
    different parts. Otherwise, returns ``([], 0)``.

    >>> sets(["a", "b", "a;b"])
    (['a;b'], 2)
    >>> sets(["1 2 2", "1 1 2", "2 2 2"])
    (['1 2 2', '1 1 2', '2 2 2'], 2)
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


def odd_names(task: TaskFacts) -> list[str]:
    """Returns warnings about labels that differ only in case, and labels that mark missing values in other programs."""
    labels = task.codes or task.labels or ()
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(label.casefold(), []).append(label)
    found = [
        f"{task.name}: the labels {few(names, quoted=True)} differ only in case, and are different classes. "
        "Write them alike in the file, if they are the same."
        for names in alike.values()
        if len(names) > 1
    ]
    if missing := [label for label in labels if label.casefold() in _MISSING]:
        found.append(
            f"{task.name}: {few(missing, quoted=True)} is a label like any other. If it marks rows without a label, "
            "leave their cells empty."
        )
    return found


_MISSING = ("n/a", "na", "#n/a", "<na>", "null", "-", "?")
_LISTED = re.compile(r"\s*[\[({](.*)[\])}]\s*", re.DOTALL)


def _parts(label: str) -> list[str]:
    listed = _LISTED.fullmatch(label)
    inner = listed[1] if listed else label
    sign = next((sign for sign in ";|," if sign in inner), None)
    if sign is None and all(re.fullmatch(r"[+-]?[0-9]+", part) for part in inner.split()):
        return inner.split()
    return [part.strip().strip("'\"").strip() for part in (inner.split(sign) if sign else [inner])]


def _lists(cells: Iterable[str]) -> str:
    """Returns advice about the first cell that is a list in brackets; an empty text if there is none."""
    first = next((cell for cell in cells if cell.startswith("[") and cell.endswith("]")), None)
    return "" if first is None else f"For lists such as {shown(first)} use columns.votes, or type: multilabel."


def _repairs(task: TaskFacts, cell: str, cells: Cells) -> tuple[str, str]:
    """Returns two texts of advice about ``cell``, which is not one of the classes.

    The first text is for training, and the second for scoring a trained model. If all ``cells`` could be codes for the
    classes, such as ``0`` and ``1``, both texts say what to do about the codes. Otherwise, both texts say how to repair
    the cell.
    """
    labels = task.labels or ()
    found = {each.lower() for each in cells if each is not None}  # pandas writes True, JSON true
    numbers = [[str(first + i) for i in range(len(labels))] for first in (0, 1)]
    for codes in [*numbers, *([["false", "true"]] if len(labels) == 2 else [])]:
        if task.codes is None and found <= set(codes) and not set(codes) & set(labels):
            named = ", ".join(f'"{code}": {name}' for code, name in zip(codes, labels, strict=True))
            written = few([f"{shown(name)} for {code}" for code, name in zip(codes, labels, strict=True)])
            trained = f"The model was trained on these classes. If these are codes, write {written}."
            return f"If these are codes, give labels: {{{named}}}.", trained
    trained = "The model was trained on these classes alone, so it never gives this answer. Fix or drop such rows."
    return _lists([cell]) or "Fix it, leave the cell empty, or add the class to the task's labels.", trained
