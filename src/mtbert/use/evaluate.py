"""The command ``evaluate``: scores of a trained model on dev, test, or a labelled file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mtbert import files, scoring
from mtbert.batch import Dataset
from mtbert.messages import clean, few, warn
from mtbert.prepare import prepare, read_test
from mtbert.recipe.settings import Recipe
from mtbert.scores import Scores, score_table
from mtbert.storage.predictions import Predicted
from mtbert.use import breakdown
from mtbert.use.breakdown import Scored
from mtbert.use.inputs import known_task, labelled
from mtbert.use.predictor import Predictor
from mtbert.use.trained import as_trained, early_model

# Scores ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunScores:
    """A model's answers to a split, and their scores, by task; ``warnings`` are reasons to doubt them."""

    predictor: Predictor
    recipe: Recipe
    split: str
    scored: Mapping[str, Scored]
    warnings: tuple[str, ...]

    @property
    def scores(self) -> Scores:
        """The scores of all tasks."""
        found = {name: one.evaluation for name, one in self.scored.items()}
        return Scores(self.recipe, found, f"{clean(self.split)}: {self.predictor.name}", self.warnings)


def score_run(path: Path, split: str, task: str | None, *, overrides: Sequence[str] = ()) -> RunScores:
    """Returns the answers of the model at ``path`` to dev or test data of its recipe, or to a labelled file.

    Args:
        path: The folder of a run, or of a model in it.
        split: ``dev``, ``test``, or a labelled file of ``task``.
        task: The only task to score; None scores all tasks whose predictions were trained.
        overrides: Changes of the run's recipe, as ``a.b=c``.

    Raises:
        ValueError, FileNotFoundError: If the model or the data cannot be read, or there is no such task.
    """
    predictor, recipe = as_trained(path, overrides)
    if split == "dev":
        data, warnings = _dev(predictor, recipe, task)
    elif split == "test":
        data, warnings = _test(predictor, recipe, task)
    elif task is None:
        raise ValueError(
            f"{clean(split)}: neither dev nor test, so a labelled file. Say of which task: {few(recipe.tasks)}."
        )
    else:
        of_file, warnings = labelled(predictor, recipe, task, split)
        data = {task: of_file}
    scored = {name: _score(predictor, d) for name, d in data.items()}
    undefined = [
        line
        for one in scored.values()
        for line in scoring.undefined_scores(one.data, one.predicted, one.evaluation.metrics)
    ]
    return RunScores(predictor, recipe, split, scored, (*early_model(predictor, path), *warnings, *undefined))


def evaluate_run(
    path: Path,
    split: str,
    task: str | None,
    console: Console,
    warnings: Console,
    *,
    overrides: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Prints the scores from :func:`score_run`: tables on ``console``, or with ``as_json`` JSON on standard output."""
    found = score_run(path, split, task, overrides=overrides)
    for line in found.warnings:
        warn(warnings, line)
    if as_json:
        predictor = found.predictor
        value = breakdown.as_json(found.recipe, found.scored, str(predictor.folder), predictor.step, split)
        files.write_output((json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
        return
    scores = found.scores
    console.print(score_table(scores.recipe, scores.evaluations, scores.title))
    for one in found.scored.values():
        for table in breakdown.answer_tables(one):
            console.print(table, soft_wrap=isinstance(table, str))


def answer_file(path: Path, task: str, file: str) -> tuple[Dataset, Predicted, tuple[str, ...]]:
    """Returns the rows of a labelled file, the answers of the model at ``path`` to them, and the warnings from reading.

    Raises:
        ValueError, FileNotFoundError: If the model or the file cannot be read, or the model has no such task.
    """
    predictor, recipe = as_trained(path, ())
    data, warnings = labelled(predictor, recipe, task, file)
    return data, scoring.predict_and_decide(predictor.model, data), warnings


def _score(predictor: Predictor, data: Dataset) -> Scored:
    predicted = scoring.predict_and_decide(predictor.model, data)
    return Scored(data, predicted, scoring.evaluate_predicted(data, predicted))


def _dev(predictor: Predictor, recipe: Recipe, task: str | None) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    names = [known_task(predictor, recipe, task).name] if task else [n for n, t in recipe.tasks.items() if t.scored]
    # The model's classes and range, not those of files that may have changed since.
    learnt = {n: predictor.task(n).model_dump(include={"labels", "range"}) for n in names}
    tasks = {n: recipe.tasks[n].model_copy(update=learnt[n]) for n in names}
    prepared = prepare(recipe.model_copy(update={"tasks": tasks}), predictor.tokenizer)
    return {name: p.dev for name, p in prepared.items()}, tuple(w for p in prepared.values() for w in p.warnings)


def _test(predictor: Predictor, recipe: Recipe, task: str | None) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    scored = (n for n, t in recipe.tasks.items() if t.scored and t.test is not None)
    names = [known_task(predictor, recipe, task).name] if task else list(scored)
    if not names:
        raise ValueError("the recipe of this run names no test data. Score a labelled file instead.")
    read = {name: read_test(recipe, predictor.task(name), predictor.tokenizer) for name in names}
    return {name: data for name, (data, _) in read.items()}, tuple(w for _, found in read.values() for w in found)
