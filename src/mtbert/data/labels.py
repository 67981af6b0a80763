"""From labels as written to numbers: a task's classes or range, and the examples that the model learns from."""

import math
from collections.abc import Sequence

import numpy as np

from mtbert.batch import Examples
from mtbert.data.cells import number, quoted, whole
from mtbert.data.tables import Row, Table
from mtbert.messages import few, near, shown
from mtbert.task import RANGES, Task, is_range


def complete(task: Task, tables: Sequence[Table]) -> Task:
    """Returns the task with its classes (of the first table) or its range (over all tables) filled in where null.

    Classes are sorted as numbers if all are numbers, else alphabetically.

    Raises:
        ValueError: If the classes are too few, or their order cannot be known; if a score is not a number, or all
            scores are equal.
    """
    if task.is_class:
        return task if task.labels is not None else task.model_copy(update={"labels": _classes(task, tables[0])})
    if task.range is not None:
        return task
    scores = [_score(t, r, r.label, None) for t in tables for r in t.rows if r.label is not None]
    if not scores or min(scores) == max(scores):
        found = f"all {len(scores):,} scores are {scores[0]:g}" if scores else "there are no scores"
        raise ValueError(f"{_column(tables[0])}: {found}. Check the column, or set the task's range.")
    low, high = min(scores), max(scores)
    if not is_range(low, high):
        raise ValueError(
            f"{_column(tables[0])}: scores must be {RANGES}, found {low!r} to {high!r}. "
            "Scale them, or check the column."
        )
    return task.model_copy(update={"range": (low, high)})


def examples(table: Table, task: Task) -> Examples:
    """Returns the rows as examples: labels become class indices, or scores in the task's own range.

    Raises:
        ValueError: If a label is not one of the task's classes, or not a number in its range.
    """
    written = task.codes or task.labels or ()
    index = {whole(name.strip()): float(i) for i, name in enumerate(written)}
    if len(index) != len(written):
        raise ValueError(f"task {task.name}, labels: two of {quoted(written)} are the same label. Drop one.")

    def target(row: Row) -> float:
        if row.label is None:
            return math.nan
        if not task.is_class:
            return _score(table, row, row.label, task.range)
        if row.label not in index:
            raise ValueError(
                f"{table.at(row)}: {shown(row.label)} is not one of the classes {quoted(tuple(index))}."
                f"{near(row.label, index)} {_repair(table, task, row.label)}"
            )
        return index[row.label]

    labels = np.array([target(row) for row in table.rows], np.float64)
    return Examples([row.id for row in table.rows], list(zip(*(row.texts for row in table.rows), strict=True)), labels)


def _repair(table: Table, task: Task, label: str) -> str:
    """Returns what to do about a label that is none of the classes; numbers may be codes of the named classes."""
    labels = task.labels or ()
    found = {row.label for row in table.rows if row.label is not None}
    for first in (0, 1):
        codes = [str(first + i) for i in range(len(labels))]
        if task.codes is None and label in codes and found <= set(codes):
            named = ", ".join(f'"{code}": {name}' for code, name in zip(codes, labels, strict=True))
            return f"If these are codes, give labels: {{{named}}}."
    return "Fix or drop the row, or add the class to the task's labels."


def _column(table: Table) -> str:
    return f"{table.name}, column {shown(table.column)}"


def _classes(task: Task, table: Table) -> tuple[str, ...]:
    found = sorted({row.label for row in table.rows if row.label is not None})
    numbers = {name: n for name in found if (n := number(name)) is not None}
    if len(found) < 2 or (task.type == "binary" and len(found) != 2):
        need = "exactly 2" if task.type == "binary" else "at least 2"
        repair = "Use type: classification, or check the column." if len(found) > 2 else "Check the column."
        raise ValueError(
            f"{_column(table)}: type '{task.type}' needs {need} classes, found {len(found):,}: {quoted(found)}. "
            f"{repair}"
        )
    if len(numbers) == len(found):
        return tuple(sorted(found, key=lambda name: numbers[name]))
    if task.type == "ordinal":
        raise ValueError(
            f"{_column(table)}: the order of the classes {quoted(found)} is unknown. List them in order in the task's "
            "labels."
        )
    return tuple(found)


def _score(table: Table, row: Row, label: str, limits: tuple[float, float] | None) -> float:
    low, high = limits or (-math.inf, math.inf)
    repair = f"Give {low:g} to {high:g}, or drop the row." if limits else "Give a number, or drop the row."
    score = number(label)
    if score is None:
        raise ValueError(f"{table.at(row)}: {shown(label)} is not a number. {repair}")
    if not low <= score <= high:
        raise ValueError(f"{table.at(row)}: {few([label])} is outside the task's range. {repair}")
    return score
