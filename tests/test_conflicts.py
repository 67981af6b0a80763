"""Texts that occur with different labels: the warning shows two of their rows."""

import numpy as np

from mtbert.answers import Conflicts
from mtbert.batch import Example, Examples
from mtbert.data.check import _first_of
from mtbert.task import Task

MOOD = Task(name="mood", type="classification", inputs="single", labels=("bad", "[b]good"))


def found(rows: list[tuple[str, str, float]]) -> tuple[Conflicts, str]:
    """Returns the conflicts among rows of id, text and label, and the sentence about the first."""
    examples = Examples.of(Example(key, (text,), label) for key, text, label in rows)
    numbers = np.unique([text for _, text, _ in rows], return_inverse=True)[1]
    made = MOOD.answer.labels.conflicts(numbers[None], numbers, examples.labels)
    return made, _first_of(made, MOOD, examples)


def test_the_first_conflict_is_shown_with_rows_labels_and_the_beginning_of_the_text():
    long, rest = "x" * 90, [("f", "y", 1.0), ("g", "y", 1.0)]
    conflicts, said = found([("a", long, 1), ("b", "y", 0), ("c", "y", 0), ("d", long, 1), ("e", long, 0), *rest])
    assert (conflicts.number, conflicts.first) == (2, (0, 4))
    assert conflicts.warning.startswith("2 texts have different labels in different rows")
    assert f"rows a and e, with labels '[b]good' and 'bad', have '{'x' * 77}...'." in said


def test_without_a_conflict_nothing_is_said():
    assert found([("a", "x", 1), ("b", "x", 1), ("c", "y", 0)])[1] == ""
