"""Tuning: Optuna chooses settings of a recipe from given ranges, and each choice is tried in a run, called a trial.

The folder of a tuning has ``recipe.yaml`` (the recipe with its ranges), ``tune.db`` (Optuna's storage),
``trials/NUMBER/`` (``log.txt``, and the run without its weights), ``trials.csv``, and ``NAME-tuned.yaml`` (the recipe
NAME with the settings of the best trial).
"""

import json
import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zlib import crc32

import pandas as pd
from rich.console import Console
from rich.table import Table

from mtbert import environment, files, locks
from mtbert.messages import plain_console
from mtbert.progress_bar import LiveBar, bar_line, clock
from mtbert.recipe.files import RECIPE_FILE, dump_recipe, load_recipe, load_run_recipe
from mtbert.recipe.parts import Range, RangeOrChoices
from mtbert.recipe.settings import Recipe
from mtbert.studying.trials import open_storage, storage_errors
from mtbert.training import history, trackers
from mtbert.training.resume import resume_run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run
from mtbert.training.trackers import Tracking

if TYPE_CHECKING:
    import optuna

SHOWN = 5  # trials in the table at the end


@dataclass(frozen=True)
class Tuning:
    """A recipe to tune, and the folder for its trials."""

    name: str  # the recipe: a file, or the name of a shipped one
    overrides: tuple[str, ...]  # changes of it, as a.b=c
    on_dev: bool  # trials are scored on dev, not on a slice of train
    out: Path

    @property
    def best(self) -> Path:
        """Returns the path of the best trial's recipe: ``NAME-tuned.yaml``, where NAME is the recipe's name."""
        return self.out / f"{Path(self.name).stem}-tuned.yaml"

    def recipe(self, chosen: Mapping[str, Any]) -> Recipe:
        """Returns the recipe with the settings in ``chosen``, which maps the path of each setting to its value."""
        changes = [f"{path}={json.dumps(value)}" for path, value in chosen.items()]
        return load_recipe(self.name, [*self.overrides, *changes])

    def trial(self, chosen: Mapping[str, Any]) -> Recipe:
        """Returns the recipe of the trial that tries ``chosen``, which maps the path of each setting to its value.

        The trial is scored on dev if ``on_dev`` is true; if not, on a part of train that shares no text with the rest.
        """
        found = self.recipe(chosen)
        if self.on_dev:
            return found
        for task in found.tasks.values():
            if task.dev is None and task.scored:
                kind = "tasks" if task.table is None else "tables"
                raise ValueError(
                    f"recipe {self.name}, {kind}.{task.source_name}: has no dev file, so its dev is the part of train "
                    "that trials would be scored on. Name a dev file, or give --on-dev."
                )
        return found.with_sources(lambda *_: {"dev": None})


def run_tuning(tuning: Tuning, trials: int, console: Console) -> Path:
    """Runs trials until ``trials`` of them exist, and returns the path of the best trial's recipe.

    Args:
        tuning: The recipe to tune, and the folder for its trials.
        trials: The number of trials in total, including those of earlier calls.
        console: Shows progress, and the best trials at the end.

    If a tuning was stopped or killed, the same call resumes it. The trials are then the same as without interruption.
    The score of a trial is the score that the recipe's ``train.select`` names, at the trial's best evaluation. A trial
    is stopped early (pruned) if its score is below the median score of earlier trials after the same share of steps.
    The choice of a setting's value is seeded by the trial's number and the setting's path. Runs have the recipe's seed.

    Raises:
        FileNotFoundError, ValueError: If there is nothing to tune, the recipe cannot be used, or the folder holds
            something else.
        OSError: If the disk is full. Once there is room again, the same call resumes the tuning.
        Stopped: After SIGINT or SIGTERM.
    """
    if find_spec("optuna") is None:
        raise ValueError('mtbert tune: Optuna is not installed. Run: pip install "mtbert[tune]"')
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _check(tuning)
    base = tuning.trial({})
    _check_place(tuning.out)  # before a lock is put into a folder of something else
    with locks.alone(tuning.out, "tune"), storage_errors(tuning.out), _Shown(console, trials) as shown:
        _begin(tuning.out, base)
        study = open_storage(tuning.out)
        for done in study.get_trials(deepcopy=False):
            if done.state.is_finished():  # the process may have been killed between a trial's end and this
                _drop_weights(_folder(tuning, done.number))
        while (trial := _next(study, trials)) is not None:
            _try(tuning, study, trial, base.tune, shown)
            _write(tuning, study, base.tune)
        _write(tuning, study, base.tune)  # the process may have been killed between a trial's end and its line
    ended = _ended(study)
    if not ended:
        raise ValueError(
            f"{tuning.out}: none of {len(study.trials)} trials came to its end, see trials.csv. "
            "Mend the ranges, and give another folder."
        )
    console.print(_table(ended, base))
    console.print(f"best: {tuning.best}  (all trials: {tuning.out / 'trials.csv'})", soft_wrap=True)
    return tuning.best


def _check(tuning: Tuning) -> None:
    """Raises a ValueError if there are no ranges, or if a choice or either end of a range is invalid."""
    ranges = tuning.recipe({}).tune
    if not ranges:
        raise ValueError(
            f"recipe {tuning.name}: nothing to tune. Add ranges, such as: "
            "tune: {train.lr: {low: 1e-5, high: 1e-3, log: true}, model.pooling: [cls, mean]}"
        )
    tuning.trial({})  # so that a mistake of the recipe itself is not reported as one of a range
    for path, values in ranges.items():
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            try:
                tuning.trial({path: value})
            except ValueError as error:
                raise ValueError(f"tune.{path}: {json.dumps(value)} cannot be used. {error}") from None


def _check_place(out: Path) -> None:
    """Raises a ValueError if ``out`` is a file, or a folder with content that does not come from a tuning."""
    started = {locks.LOCK, f".{RECIPE_FILE}.new"}
    other = out.exists() and (not out.is_dir() or not {path.name for path in out.iterdir()} <= started)
    if other and not (out / RECIPE_FILE).is_file():
        raise ValueError(f"{out}: exists and is no tuning. Give another folder.")


def _begin(out: Path, base: Recipe) -> None:
    """Writes a new tuning's recipe into ``out``; raises a ValueError if ``out`` already has a different recipe."""
    file = out / RECIPE_FILE
    if not file.is_file():
        files.write_text(file, dump_recipe(base))
    if load_run_recipe(file).placeless() != base.placeless():
        raise ValueError(f"{file}: has other settings, ranges or data to score on. Give another folder.")


def _next(study: "optuna.Study", trials: int) -> "optuna.Trial | None":
    """Returns an interrupted trial, if any; otherwise a new trial, or None if ``trials`` trials exist already."""
    import optuna

    for begun in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        return optuna.trial.Trial(study, begun._trial_id)  # Optuna has no public way to go on with it
    return study.ask() if len(study.trials) < trials else None


def _try(
    tuning: Tuning, study: "optuna.Study", trial: "optuna.Trial", ranges: Mapping[str, RangeOrChoices], shown: "_Shown"
) -> None:
    """Trains a trial until it ends, fails or is pruned, and records the outcome in the Optuna study ``study``."""
    import optuna

    chosen = {path: _chosen(trial, path, values) for path, values in ranges.items()}
    folder = _folder(tuning, trial.number)
    folder.mkdir(parents=True, exist_ok=True)
    shown.begins(trial.number)

    def track(_: Path, settings: Mapping[str, trackers.Value]) -> Tracking:
        steps = settings["steps"]
        assert isinstance(steps, int)

        def log(step: int, numbers: Mapping[str, float]) -> None:
            shown.at(trial.number, step / steps)
            score = _score(recipe, numbers)
            if score is None or step == steps:
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a resumed trial reports a step again
                trial.report(score, round(1000 * step / steps))  # trials may differ in length
            if trial.should_prune():
                raise optuna.TrialPruned(f"{score:.4f} at step {step}, below the median")

        return Tracking(log, lambda ended: None)

    def fail(why: str) -> None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        shown.ended(trial.number, f"failed: {why}")

    with (folder / "log.txt").open("a", encoding="utf-8") as file:
        console = plain_console(file)
        try:
            recipe = tuning.trial(chosen).model_copy(update={"tune": {}})
        except ValueError as error:  # each setting can be used alone, but not all of them together
            fail(str(error))
            return
        try:
            if (folder / "run" / RECIPE_FILE).is_file():
                resume_run(folder / "run", console, track=track)
            else:
                start_run(recipe, folder / "run", console, track=track)
        except optuna.TrialPruned as pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            shown.ended(trial.number, f"pruned: {pruned}")
        except Stopped:
            raise Stopped(f"stopped in trial {trial.number}. Go on with the same command.") from None
        except (ValueError, FloatingPointError, OSError) as error:
            if isinstance(error, OSError) and error.errno in files.FULL:
                raise OSError(error.errno, error.strerror, error.filename or str(folder)) from None
            if not isinstance(error, FloatingPointError) and not _ended(study):
                raise  # probably a mistake in what all trials share
            fail(str(error))
        except (MemoryError, RuntimeError) as error:
            if not environment.out_of_memory(error):
                raise
            fail("out of memory")
        else:
            best = history.best(history.read_log(folder / "run" / history.METRICS), recipe)
            assert best is not None  # a run is scored at its end
            score = history.selected(best, recipe)
            study.tell(trial, score)
            shown.ended(trial.number, f"{recipe.train.select} {score:.4f}")
    _drop_weights(folder)


def _folder(tuning: Tuning, number: int) -> Path:
    return tuning.out / "trials" / str(number)


def _drop_weights(folder: Path) -> None:
    """Deletes the saved weights of a trial that has ended. Its logs stay."""
    for name in ("best", "last"):
        shutil.rmtree(folder / "run" / name, ignore_errors=True)


def _chosen(trial: "optuna.Trial", path: str, values: RangeOrChoices) -> Any:
    """Returns a value for the setting at ``path``. It depends only on ``path``, ``trial.number`` and earlier trials."""
    import optuna

    # Each draw has a sampler of its own, so that a resumed trial draws the same, wherever it was cut off.
    trial.study.sampler = optuna.samplers.TPESampler(seed=crc32(f"{trial.number} {path}".encode()))
    if not isinstance(values, Range):  # Optuna's storage takes neither lists nor mappings
        return json.loads(trial.suggest_categorical(path, [json.dumps(value) for value in values]))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(path, values.low, values.high, log=values.log)
    return trial.suggest_float(path, values.low, values.high, log=values.log)


def _score(recipe: Recipe, numbers: Mapping[str, float]) -> float | None:
    """Returns the score that ``train.select`` names, from the numbers of a log line; None if the line has no scores."""
    select = recipe.train.select
    task = recipe.tasks.get(select)
    return numbers.get(f"aggregates/{select}" if task is None else f"evaluation/{select}/metrics/{task.metric}")


def _ended(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Returns the trials that were completed, best first; pruned and failed trials are left out."""
    import optuna

    ended = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    return sorted(ended, key=lambda trial: (-trial.values[0], trial.number))


def _settings(trial: "optuna.trial.FrozenTrial", ranges: Mapping[str, RangeOrChoices]) -> dict[str, Any]:
    """Returns a dict from the path of each setting to the value that Optuna chose for it in a trial."""
    given = {path: trial.params[path] for path in ranges if path in trial.params}
    return {path: value if isinstance(ranges[path], Range) else json.loads(value) for path, value in given.items()}


def _write(tuning: Tuning, study: "optuna.Study", ranges: Mapping[str, RangeOrChoices]) -> None:
    """Writes ``trials.csv`` and, if a trial has been completed, the recipe of the best trial."""
    rows = [
        {"trial": trial.number, "state": trial.state.name.lower(), "score": trial.value}
        | {path: _text(value) for path, value in _settings(trial, ranges).items()}
        for trial in study.trials
    ]
    files.write_text(tuning.out / "trials.csv", pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    for best in _ended(study)[:1]:
        # The control lacks one technique of the recipe; the tuned recipe may differ from it in more.
        recipe = tuning.recipe(_settings(best, ranges)).model_copy(update={"tune": {}, "control": None})
        files.write_text(tuning.best, dump_recipe(recipe))


def _table(ended: list["optuna.trial.FrozenTrial"], base: Recipe) -> Table:
    table = Table("trial", base.train.select, *base.tune, title="Best trials")
    for trial in ended[:SHOWN]:
        settings = _settings(trial, base.tune)
        table.add_row(str(trial.number), f"{trial.value:.4f}", *(_text(settings[path]) for path in base.tune))
    return table


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


class _Shown:
    """Shows the progress of the trials, and prints a line whenever a trial ends."""

    BETWEEN = 60.0  # seconds between lines

    def __init__(self, console: Console, trials: int) -> None:
        self.console, self.trials = console, trials
        self.number = 0
        self.done = 0.0  # trials
        self.begun: tuple[float, float] | None = None  # the time of this call's first trial, and trials done then
        self.bar = LiveBar(console, self._frame, self._line, self.BETWEEN)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def begins(self, number: int) -> None:
        self.begun = self.begun or (time.monotonic(), number)
        self.at(number, 0.0)

    def at(self, number: int, share: float) -> None:
        self.number, self.done = number, number + share
        self.bar.moved()

    def ended(self, number: int, how: str) -> None:
        self.at(number, 1.0)
        self.console.print(f"trial {number}, {number + 1} of {self.trials}: {how}", soft_wrap=True)

    def _left(self) -> str:
        """Returns a text with the estimated time left. The estimate uses the trials that this process has run."""
        since, before = self.begun or (0.0, self.done)
        passed = self.done - before
        seconds = (time.monotonic() - since) / passed * (self.trials - self.done) if passed else None
        return f"{clock(seconds)} left"

    def _line(self) -> str:
        return f"trial {self.number}: {self.done - self.number:.0%}  {self._left()}"

    def _frame(self) -> Table:
        return bar_line(f"trial {self.number}", self.done, self.trials, [self._left()], self.console.width)
