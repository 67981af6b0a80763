"""The details of a model's scores, such as the score of each class, as tables for a terminal and as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from mtbert.answers import Shown
from mtbert.batch import Dataset
from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation
from mtbert.storage.predictions import Predicted

WIDTH = 80


@dataclass(frozen=True)
class Scored:
    """A model's answers to the examples of a task, and the scores of these answers."""

    data: Dataset
    predicted: Predicted
    evaluation: Evaluation


def answer_tables(scored: Scored) -> Iterator[Table | str]:
    """Yields tables and texts that give details of a task's answers. They are printed after the task's scores."""
    task = scored.data.task
    for part in task.answer.labels.tables(task, scored.predicted.decision.numpy(), scored.data.examples.labels):
        if isinstance(part, str):
            yield part
            continue
        if part.lead:
            yield part.lead
        yield _drawn(part)


def as_json(
    recipe: Recipe, scored: Mapping[str, Scored], model: str, step: int | None, split: str
) -> dict[str, object]:
    """Returns all scores of a model as JSON-compatible values: per task, per class, and over all tasks.

    Args:
        recipe: The recipe of the run. It chooses each task's metric and the scores over all tasks.
        scored: The answers and their scores, by task.
        model: The path of the model. It only appears in the output.
        step: The number of optimizer steps that the model was trained for; None if unknown.
        split: What was scored: ``dev``, ``test`` or the path of a file. It only appears in the output.
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
    decision = scored.predicted.decision.numpy()
    return found | task.answer.labels.details(task, decision, scored.data.examples.labels)


def _drawn(shown: Shown) -> Table:
    """Returns ``shown`` as a table for the terminal, framed if it has a title. To save space, names may be cut."""
    widths = [max(map(len, column)) for column in zip(shown.columns, *shown.rows, strict=True)]
    table = Table(title=shown.title) if shown.title else Table(box=None, padding=(0, 1, 0, 0))
    most = 24 if shown.title else max(6, WIDTH - 1 - sum(w + 1 for i, w in enumerate(widths) if i != shown.names))
    for i, column in enumerate(shown.columns):
        if i == shown.names:  # The width is explicit, because rich would otherwise cut numbers as readily as names.
            table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=most)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    for row in shown.rows:
        table.add_row(*row)
    return table
