"""The command ``evaluate``, which scores a trained model on dev, on test, or on a labelled file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mtbert import files, scoring, splits
from mtbert.advice import option
from mtbert.batch import Dataset
from mtbert.columns import TextColumn
from mtbert.data.leaks import leaks
from mtbert.data.split import linking
from mtbert.messages import clean, count, few, warn
from mtbert.prepare import lost_words, prepare, read_test
from mtbert.progress_bar import followed
from mtbert.recipe.settings import Recipe
from mtbert.scores import Scores, score_table
from mtbert.storage.predictions import Predicted
from mtbert.use import breakdown
from mtbert.use.breakdown import Scored
from mtbert.use.given_rows import rows_to_score
from mtbert.use.hub_runs import find_run
from mtbert.use.input_columns import advising_the_trained
from mtbert.use.inputs import known_task, labelled
from mtbert.use.predictor import Predictor
from mtbert.use.trained import as_trained, early_model, trained_files, with_own_columns

# Scores ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunScores:
    """A model's answers to the examples of dev, test or a labelled file, and the scores of these answers.

    ``scored`` maps the name of each task to its answers and scores. ``warnings`` lists reasons to doubt the scores.
    """

    predictor: Predictor
    recipe: Recipe
    split: str
    scored: Mapping[str, Scored]
    warnings: tuple[str, ...]

    @property
    def scores(self) -> Scores:
        """The scores of the model on all tasks, together with a title and the warnings about the data."""
        found = {name: one.evaluation for name, one in self.scored.items()}
        return Scores(self.recipe, found, f"{clean(self.split)}: {self.predictor.name}", self.warnings)


def score_run(
    path: Path,
    split: str,
    task: str | None,
    *,
    overrides: Sequence[str] = (),
    rows: Mapping[str, Any] | None = None,
) -> RunScores:
    """Returns a model's answers to the examples of dev, test or a labelled file, and the scores of these answers.

    Args:
        path: The folder of a run, or of a model in it.
        split: ``dev`` or ``test`` for the data that the recipe names, or the path of a labelled file.
        task: The only task to score; None for all tasks that can answer. A labelled file needs a task.
        overrides: Changes to the run's recipe, as ``a.b=c``.
        rows: Labelled rows in memory, which are scored in place of ``split``; None to score ``split``. Each key is the
            name of a task, or of a table (data that several tasks of the recipe read).

    Raises:
        ValueError, FileNotFoundError: If the model or the data cannot be read, or the task does not exist.
    """
    path = find_run(path)
    predictor, recipe = as_trained(path, overrides)
    train = None if split == "dev" and rows is None else _train_texts(path, recipe, task)
    if rows is not None:
        split = "given rows"
        data, warnings = rows_to_score(predictor, recipe, rows, task)
    elif split == "dev":
        data, warnings = dev_sets(predictor, recipe, task if task is None else [task])
    elif split == "test":
        data, warnings = _test(predictor, recipe, task)
    elif task is None:
        raise ValueError(
            f"{clean(split)}: neither dev nor test, so a labelled file. Give its task with {option('task')}: "
            f"{few(recipe.tasks)}."
        )
    else:
        of_file, warnings = labelled(predictor, recipe, task, split, trained_files(path, task) if train is None else {})
        data = {task: of_file}
    predicted = scoring.predict_and_decide(predictor.model, list(data.values()))
    scored = {}
    for name, answers in predicted.items():
        scored[name] = Scored(data[name], answers, scoring.evaluate_predicted(data[name], answers))
    undefined = [
        line
        for one in scored.values()
        for line in scoring.undefined_scores(one.data, one.predicted, one.evaluation.metrics)
    ]
    lost = (line for name, of_task in data.items() for line in lost_words(of_task, f"task {name}"))
    doubts = (*early_model(predictor, path), *_seen(train or {}, data), *warnings, *lost, *undefined)
    return RunScores(predictor, recipe, split, scored, doubts)


def _train_texts(path: Path, recipe: Recipe, task: str | None) -> dict[str, list[TextColumn]] | None:
    """Returns the texts that each task of a run was trained on; None if the train data cannot be read any more.

    ``path`` is the folder of the run. If ``task`` is not None, only the texts of this task are read.
    """
    own = with_own_columns(path, recipe)
    found: dict[str, list[TextColumn]] = {}
    try:
        with splits.rooted(own):
            for table, readers in own.tasks_by_table().items():
                if task in (None, *(reader.name for reader in readers)):
                    split = splits.split_table(own, table)
                    linked = sorted({i for reads in split.reads.values() for i in linking(reads)})
                    found |= {reader.name: [split.train.texts[i] for i in linked] for reader in readers}
    except (ValueError, OSError):
        return None
    return found


def _seen(train: Mapping[str, Sequence[TextColumn]], data: Mapping[str, Dataset]) -> Iterator[str]:
    """Yields a warning for each task whose examples in ``data`` have texts in common with the task's ``train`` texts.

    ``train`` maps each task to the texts on which the task was trained. ``data`` maps each task to the examples to
    score.
    """
    for name, one in data.items():
        for number in leaks(train.get(name, ()), {name: linking(one.examples.texts)}).values():
            yield (
                f"task {name}: {number:,} of {count(len(one), 'example')} have a text that it was trained on, so the "
                "scores look better than they are. Score rows that the run has not seen."
            )


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
    """Scores a trained model on dev, on test or on a labelled file, and prints the scores.

    The arguments that are not named here are those of :func:`score_run`. By default, tables are printed on ``console``.
    With ``as_json``, JSON is printed on standard output. Warnings about the scores are printed on the console
    ``warnings``.
    """
    with followed(warnings):
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
    """Returns three things: the rows of a labelled file, a model's answers to them, and warnings from reading the file.

    Args:
        path: The folder of a run, or of a model in it.
        task: The task to answer.
        file: The labelled file.

    Raises:
        ValueError, FileNotFoundError: If the model or the file cannot be read, or the model has no such task.
    """
    predictor, recipe = as_trained(path, ())
    data, warnings = labelled(predictor, recipe, task, file, trained_files(path, task))
    return data, scoring.predict_and_decide(predictor.model, [data])[task], warnings


def dev_sets(
    predictor: Predictor, recipe: Recipe, tasks: Sequence[str] | None
) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Returns a pair: the dev data of each task in ``tasks``, and the warnings from reading the data.

    If ``tasks`` is None, the data is read for all tasks that were trained to predict labels.
    """
    names = [n for n, t in recipe.tasks.items() if t.scored] if tasks is None else list(tasks)
    for name in tasks or ():
        known_task(predictor, recipe, name)
    # Classes and ranges come from the model, because the files may have changed since it was trained.
    learnt = {n: predictor.task(n).model_dump(include={"labels", "range", "splitter"}) for n in names}
    settings = {n: t.model_copy(update=learnt.get(n, {})) for n, t in recipe.tasks.items()}
    with advising_the_trained(recipe, names):
        prepared = prepare(recipe.model_copy(update={"tasks": settings}), predictor.tokenizer, only=names)
    tables = {p.table.name: p.table.warnings for p in prepared.values()}
    warnings = (*tables.values(), *(p.warnings for p in prepared.values()))
    return {name: p.dev for name, p in prepared.items()}, tuple(line for lines in warnings for line in lines)


def _test(predictor: Predictor, recipe: Recipe, task: str | None) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    scored = (n for n, t in recipe.tasks.items() if t.scored and t.test is not None)
    names = [known_task(predictor, recipe, task).name] if task else list(scored)
    if not names:
        raise ValueError("the recipe of this run names no test data. Score a labelled file instead.")
    chosen = [known_task(predictor, recipe, name) for name in names]
    with advising_the_trained(recipe, names):
        return read_test(recipe, chosen, predictor.tokenizer)
