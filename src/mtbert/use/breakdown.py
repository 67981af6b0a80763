"""Detailed scores: per class and as a confusion matrix, as tables for an 80-column terminal and as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from mtbert import metrics
from mtbert.batch import Dataset
from mtbert.messages import LONGEST, clean
from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation
from mtbert.storage.predictions import Predicted

MOST_LISTED = 30  # classes that get a line each on the screen
MOST_CONFUSED = 12  # classes that get a column each on the screen
WIDTH = 80


@dataclass(frozen=True)
class Scored:
    """A model's answers to the examples of a task, and their scores."""

    data: Dataset
    predicted: Predicted
    evaluation: Evaluation


def class_tables(scored: Scored) -> Iterator[Table | str]:
    """Yields the tables that the screen shows for a task with classes; none for a task with scores."""
    task = scored.data.task
    classes = len(task.labels or ())
    if not task.is_class:
        return
    if classes > MOST_LISTED:
        yield f"{task.name}: {classes:,} classes, too many for a line each here; --json has them all."
        return
    yield _class_table(scored)
    if classes <= MOST_CONFUSED:
        yield f"{task.name}, examples of each class (rows) by the answer that they got (columns):"
        yield _confusion_table(scored)


def as_json(
    recipe: Recipe, scored: Mapping[str, Scored], model: str, step: int | None, split: str
) -> dict[str, object]:
    """Returns all scores of a model as JSON-compatible values: per task, per class, and over all tasks.

    Args:
        recipe: The recipe of the run; chooses each task's metric and the aggregates.
        scored: The scored answers by task.
        model: The path of the model.
        step: How many optimizer steps the model was trained for; None if unknown.
        split: The split that was scored.
    """
    by_task = {name: s.evaluation.metrics for name, s in scored.items()}
    return {
        "model": model,
        "step": step,
        "split": split,
        "tasks": {name: _task_json(recipe, name, s) for name, s in scored.items()},
        "aggregates": {name: recipe.aggregate(name, by_task) for name in ("overall", "mean")},
    }


def _task_json(recipe: Recipe, name: str, scored: Scored) -> dict[str, Any]:
    task, evaluation = scored.data.task, scored.evaluation
    found: dict[str, Any] = {
        "type": task.type,
        "metric": recipe.tasks[name].metric,
        "metrics": evaluation.metrics,
        "constant": evaluation.baseline,
        "collapsed": evaluation.collapsed,
        "examples": evaluation.examples,
    }
    if not task.is_class:
        return found | {"range": list(task.range or (0.0, 1.0))}
    decided_B, labels_B = scored.predicted.decided.numpy(), scored.data.examples.labels
    return found | {
        "labels": list(task.labels or ()),
        "classes": [asdict(c) for c in metrics.by_class(task, decided_B, labels_B)],
        "confusion": metrics.confusion(task, decided_B, labels_B),
    }


def _class_table(scored: Scored) -> Table:
    task = scored.data.task
    table = Table(title=f"{task.name}, by class")
    table.add_column("class", no_wrap=True, overflow="ellipsis", max_width=24)
    for heading in ("precision", "recall", "f1", "examples", "answers"):
        table.add_column(heading, justify="right", no_wrap=True)
    for c in metrics.by_class(task, scored.predicted.decided.numpy(), scored.data.examples.labels):
        shares = (f"{share:.4f}" for share in (c.precision, c.recall, c.f1))
        table.add_row(clean(c.label[:LONGEST]), *shares, str(c.examples), str(c.answers))
    return table


def _confusion_table(scored: Scored) -> Table:
    task = scored.data.task
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("", justify="right", no_wrap=True)
    counts = metrics.confusion(task, scored.predicted.decided.numpy(), scored.data.examples.labels)
    numbers = len(counts) * (len(str(max(map(max, counts)))) + 1)
    # The width is explicit, because rich would otherwise cut numbers as readily as names.
    table.add_column("class", no_wrap=True, overflow="ellipsis", max_width=max(6, WIDTH - numbers - 4))
    names = [clean(label[:LONGEST]) for label in task.labels or ()]
    for i, _ in enumerate(names, 1):
        table.add_column(str(i), justify="right", no_wrap=True)
    for i, (name, row) in enumerate(zip(names, counts, strict=True), 1):
        table.add_row(str(i), name, *map(str, row))
    return table
