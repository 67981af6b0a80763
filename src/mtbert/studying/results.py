"""The results of a study: answers and logs from the folders of its runs, and labels from the dev data.

Dimension key: B examples, K numbers per answer.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mtbert import environment, files, json_files, metrics, splits
from mtbert.answers import AnyLabels, Metric
from mtbert.batch import Examples
from mtbert.environment import RunRecord
from mtbert.ragged import Ragged
from mtbert.recipe.files import RECIPE_FILE, dump_recipe, load_run_recipe
from mtbert.recipe.settings import Recipe
from mtbert.settings import Settings
from mtbert.storage import run_state
from mtbert.storage.card import read_card
from mtbert.storage.model_folder import find_model_folder
from mtbert.storage.predictions import Predicted, load_predictions
from mtbert.studying.plan import Plan
from mtbert.studying.runs import EndRecord, RunPlace, run_place
from mtbert.studying.settings import Printed
from mtbert.studying.stopped import StoppedRun, stopped_run
from mtbert.task import Task
from mtbert.training import history
from mtbert.training.timings import TIMINGS, read_timings, total_seconds

OUTLINE_FILE = "study.json"


class Outline(Settings):
    """The content of ``study.json``: the recipes of a study, its seeds, and the name of each recipe's control.

    The control of a recipe is another recipe of the study, with which the study compares the recipe. Usually, the
    control lacks one technique of the recipe. Some recipes have no control.
    """

    rows: dict[str, str | None]  # each row's control
    sources: dict[str, str]  # the name of each row's recipe
    seeds: tuple[int, ...]
    reference: str
    threads: int  # threads of each run whose recipe names no number
    printed: Printed | None = None  # numbers that another source prints for these rows
    recipes: str | None = None  # the SHA-256 of the recipes of all runs; None in studies of older versions


@dataclass(frozen=True)
class DevData:
    """The dev examples of one task, with the metric that scores answers to them."""

    task: Task
    metric: str
    train: int  # number of rows in train
    examples: Examples
    held_out: int = 0  # number of further rows of train, on which thresholds and calibration are fitted

    @property
    def scored_by(self) -> Metric:
        """The metric that scores the answers to the task."""
        return self.task.metric_named(self.metric)

    @property
    def labels(self) -> AnyLabels:
        """The labels of all examples."""
        return self.examples.labels


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended: its recipe, its answers on dev and its log."""

    row: str
    seed: int
    recipe: Recipe
    record: RunRecord
    predicted: Mapping[str, Predicted]  # by task: the answers of the model that predicts
    step: int | None  # the optimizer step after which that model was saved; None if unknown
    steps: Sequence[history.Line]  # the lines of metrics.jsonl
    seconds: float  # seconds of training steps
    folder: Path  # the folder of the run
    memory: int | None = None  # the most bytes that training took; None if the log does not say it

    @property
    def evaluation(self) -> history.Line | None:
        """Returns the log line with the dev scores of the model that gave the run's answers; None if there is no line.

        The model was saved after the optimizer step ``self.step``. If ``self.step`` is None, returns the last log line
        with dev scores.
        """
        last = history.last(self.steps)
        if self.step is None:
            return last
        return next((line for line in self.steps if line["step"] == self.step and "evaluation" in line), None)

    @property
    def newest(self) -> str | None:
        """A sentence with the score of the run's newest model, if the run's answers come from an older, better model.

        None if the answers come from the newest model, or if it is not known which model they come from.
        """
        last = history.last(self.steps)
        if last is None or self.step in (None, last["step"]):
            return None
        scored_last = last["step"] == self.steps[-1]["step"]  # otherwise the run was stopped after it
        newest = "newest model, last/" if scored_last else "newest model that was scored, the one"
        select, score = self.recipe.train.select, history.selected(last, self.recipe)
        return f"The {newest} after step {last['step']}, has {select} {score:.4f}"


@dataclass(frozen=True)
class Results:
    """The runs of a study that have ended, and the dev data on which they are scored.

    A single run of ``mtbert train`` is treated as a study with one recipe and one seed. A single run that was
    stopped before its end is included too, if dev was scored at least once. ``stopped`` then says how far the run got.
    """

    outline: Outline
    dev: Mapping[str, DevData]  # by task
    runs: Mapping[str, Mapping[int, EndedRun]]  # by row and seed; only rows with a run that has ended
    missing: Sequence[str]  # names of the runs that have not ended
    warnings: Sequence[str]
    stopped: StoppedRun | None = None

    @property
    def complete(self) -> bool:
        return not self.missing


def outline_of(plan: Plan, threads: int, recipes: Iterable[Recipe]) -> Outline:
    """Returns the outline of a study, the content of its ``study.json``.

    Args:
        plan: The plan of the study.
        threads: The number of threads that a run uses if its recipe does not set ``train.threads``.
        recipes: The recipes of all runs, in the order of the plan.
    """
    texts = "".join(map(dump_recipe, recipes))
    return Outline(
        rows={v.name: v.control for v in plan.rows.values()},
        sources={v.name: v.source for v in plan.rows.values()},
        seeds=plan.seeds,
        reference=plan.reference,
        threads=threads,
        printed=plan.printed,
        recipes=hashlib.sha256(texts.encode(errors="surrogateescape")).hexdigest(),
    )


def read_outline(out: Path) -> Outline:
    """Returns the content of ``study.json`` in ``out``, the folder of a study.

    Raises:
        FileNotFoundError, ValueError: If the file is missing or damaged.
    """
    file = out / OUTLINE_FILE
    if not out.exists():
        raise FileNotFoundError(f"{out}: there is no such folder. Give the folder of a study or of a run.")
    if not file.exists():
        raise FileNotFoundError(f"{out}: no study here (no {OUTLINE_FILE}). Give the folder of a study or of a run.")
    return json_files.read_settings(file, Outline, "Start the study again.")


def read_study(out: Path) -> Results:
    """Returns the results of the study in the folder ``out``. A run that has not ended contributes only its name.

    Raises:
        FileNotFoundError, ValueError: If ``out`` holds no study, a file is damaged, or the runs were made with
            different data.
    """
    outline = read_outline(out)
    runs: dict[str, dict[int, EndedRun]] = {}
    missing = []
    for row in outline.rows:
        for seed in outline.seeds:
            one = run_place(out, row, seed)
            if one.ended.is_file():
                found = _read(one.run, row, _seconds(one), history.read_log(one.run / history.METRICS))
                if found.seed != seed:
                    raise ValueError(
                        f"{one.run}: is a run of seed {found.seed}. Remove {one.folder}, and run it again."
                    )
                runs.setdefault(row, {})[seed] = found
            else:
                missing.append(f"{row}, seed {seed}")
    return gather(outline, runs, missing)


def read_run(run: Path) -> Results:
    """Returns the results of a single run, as a study with one recipe and one seed.

    Raises:
        FileNotFoundError, ValueError: If the folder holds no run, or the run was stopped before its first evaluation.
    """
    steps = history.read_log(run / history.METRICS)
    if history.last(steps) is None:
        stopped = stopped_run(run, load_run_recipe(run / RECIPE_FILE), steps[-1]["step"] if steps else 0, {})
        raise ValueError(
            f"{run}: stopped at step {stopped.done} of {stopped.steps}, before dev was scored for the first time. "
            f"Go on with: {stopped.again}"
        )
    name = run.resolve().name
    result = _read(run, name, total_seconds(read_timings(run / TIMINGS)), steps)
    outline = Outline(
        rows={name: None}, sources={name: name}, seeds=(result.seed,), reference=name, threads=result.record.threads
    )
    found = gather(outline, {name: {result.seed: result}}, [])
    last = files.find_folder(run / "last")
    if last is not None:  # a study drops it when the run has ended
        values = json_files.read_settings(last / run_state.VALUES, run_state.Values, run_state.STATE_REPAIR)
        sizes = {name: dev.train for name, dev in found.dev.items() if name not in result.recipe.tables}
        stopped, patience = stopped_run(run, result.recipe, values.done, sizes), result.recipe.train.patience
        if values.done < stopped.steps and (patience is None or values.stale < patience):
            return replace(found, stopped=stopped)
    return found


def _seconds(one: RunPlace) -> float:
    return json_files.read_settings(one.ended, EndRecord, f"Remove {one.folder}, and start the study again.").seconds


def _read(run: Path, row: str, seconds: float, steps: Sequence[history.Line]) -> EndedRun:
    recipe = load_run_recipe(run / RECIPE_FILE)
    folder = find_model_folder(run)
    if folder is None:
        raise FileNotFoundError(f"{run}: has no model (no best/ and no last/). Train or copy the run again.")
    predicted = load_predictions(folder)
    if set(predicted) != {name for name, task in recipe.tasks.items() if task.scored}:
        raise ValueError(f"{folder}: its answers are not of this run's tasks. Train or copy the run again.")
    timings = read_timings(run / TIMINGS)
    return EndedRun(
        row=row,
        seed=recipe.train.seed,
        recipe=recipe,
        record=environment.read_record(run / environment.ENVIRONMENT_FILE),
        predicted=predicted,
        step=read_card(folder).step,
        steps=steps,
        seconds=seconds,
        folder=run,
        memory=timings[-1].memory if timings else None,
    )


def gather(outline: Outline, runs: Mapping[str, Mapping[int, EndedRun]], missing: Sequence[str]) -> Results:
    """Returns the results of a study from its runs. The dev data are read from their files again.

    Args:
        outline: The outline of the study.
        runs: The runs that have ended: a dict from the name of a recipe of the study to a dict from seed to run.
        missing: The names of the runs that have not ended.

    Raises:
        FileNotFoundError, ValueError: If the data cannot be read, or are not the data that the runs were made with.
    """
    dev: dict[str, DevData] = {}
    records: list[RunRecord] = []
    for row, by_seed in runs.items():
        first = next(iter(by_seed.values()))
        records += [result.record for result in by_seed.values()]
        new = [name for name in first.recipe.tasks if name in first.predicted and name not in dev]
        for name, split in splits.read_splits(first.recipe, new).items():
            metric = first.recipe.tasks[name].metric
            dev[name] = DevData(split.task, metric, len(split.train), split.dev, split.held_out)
        for result in by_seed.values():
            for name, predicted in result.predicted.items():
                if not _answers(dev[name], predicted, result):
                    raise ValueError(
                        f"{row}, seed {result.seed}: its answers to {name} are not to the dev examples that are there "
                        f"now. Put the old data back, or remove {result.folder} and run it again."
                    )
    warnings = []
    for key in ("git_commit", "packages", "cpu", "device", "threads"):
        kinds = {json.dumps(getattr(r, key), sort_keys=True) for r in records}
        if len(kinds) > 1:
            warnings.append(f"Runs differ in {key}: there are {len(kinds)} different ones.")
    sources = dict.fromkeys(source for r in records for source in r.data)
    warnings += [
        f"Runs were made with different versions of {s}."
        for s in sources
        if len({r.data[s] for r in records if s in r.data}) > 1
    ]
    return Results(outline, dev, runs, missing, warnings)


def _answers(dev: DevData, predicted: Predicted, result: EndedRun) -> bool:
    """Returns whether the answers in ``predicted`` belong to the dev examples in ``dev``.

    Answers belong if their shape and values fit the task, and their score is the score that the run logged.
    """
    # NumPy has no bfloat16.
    numbers, places = (torch.int64, torch.float64), predicted.offsets
    if predicted.decision.dtype not in numbers or (places is not None and places.dtype != torch.int64):
        return False
    task, decision = dev.task, predicted.decision.numpy()
    if not task.answer.labels.fits(task, decision, dev.labels):
        return False
    shape: tuple[int, ...] = (len(decision), *result.recipe.tasks[task.name].predicts.shape(task))
    shape = tuple(decision.shape[i] if size == -1 else size for i, size in enumerate(shape))  # -1: as many candidates
    if predicted.prediction.shape != shape or predicted.prediction.dtype != torch.float32:
        return False
    if predicted.calibrated is not None and (
        predicted.calibrated.shape != shape
        or predicted.calibrated.dtype != torch.float32
        or not bool(predicted.calibrated.isfinite().all())
    ):
        return False
    ends = None if places is None else places.numpy()
    if isinstance(dev.labels, Ragged) and (ends is None or not np.array_equal(dev.labels.offsets, ends)):
        return False
    answers = predicted.read_by(dev.scored_by)
    if not np.isfinite(answers).all():
        return False
    if not result.steps:  # answers that were packed without the log of their run
        return True
    present = predicted.prediction.isfinite()
    if isinstance(dev.labels, Ragged):  # a word without a token has no prediction
        present |= predicted.prediction.isnan() & (predicted.decision == -1)[:, None]
    if not present.all():
        return False
    logged = result.evaluation
    then = None if logged is None else history.task_scores(logged).get(task.name)
    if then is None or dev.metric not in then.metrics:
        return False
    now = metrics.value(task, dev.metric, answers, dev.labels)
    return math.isclose(now, then.metrics[dev.metric], rel_tol=1e-6, abs_tol=1e-9)
