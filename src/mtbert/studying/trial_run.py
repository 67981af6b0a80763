"""One trial of a hyperparameter search: settings are chosen, and a run is trained with them.

The score of the run is reported to Optuna.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mtbert import environment, files
from mtbert.advice import same_again
from mtbert.messages import plain_console
from mtbert.recipe.files import RECIPE_FILE
from mtbert.recipe.identity import same_settings
from mtbert.recipe.parts import Range, RangeOrChoices
from mtbert.recipe.settings import Recipe
from mtbert.studying.trial_results import TrialBar, ended_trials
from mtbert.studying.trials import TRIALS
from mtbert.studying.tunable import Tuning
from mtbert.training import history, trackers
from mtbert.training.resume import resume_run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run
from mtbert.training.trackers import Tracking

if TYPE_CHECKING:
    import optuna


def run_trial(
    tuning: Tuning, study: "optuna.Study", trial: "optuna.Trial", ranges: Mapping[str, RangeOrChoices], shown: TrialBar
) -> None:
    """Trains a trial until it ends, fails or is pruned, and records the outcome in the Optuna study ``study``."""
    import optuna

    chosen = {path: _chosen(trial, path, values) for path, values in ranges.items()}
    folder = trial_folder(tuning, trial.number)
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
            begun = folder / "run" / RECIPE_FILE
            if begun.is_file():
                if not same_settings(begun, recipe):
                    raise ValueError(f"{folder}: began with other settings. Remove it, or give another folder.")
                resume_run(folder / "run", console, track=track)
            else:
                start_run(recipe, folder / "run", console, track=track)
        except optuna.TrialPruned as pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            shown.ended(trial.number, f"pruned: {pruned}")
        except Stopped:
            raise Stopped(f"stopped in trial {trial.number}. {same_again()}") from None
        except (ValueError, FloatingPointError, OSError) as error:
            if isinstance(error, OSError) and error.errno in files.FULL:
                raise OSError(error.errno, error.strerror, error.filename or str(folder)) from None
            if not isinstance(error, FloatingPointError) and not ended_trials(study):
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
    drop_weights(tuning, trial.number)


def trial_folder(tuning: Tuning, number: int) -> Path:
    """Returns the folder of a trial."""
    return tuning.out / TRIALS / str(number)


def drop_weights(tuning: Tuning, number: int) -> None:
    """Deletes the saved weights of a trial that has ended. Its logs stay."""
    for name in ("best", "last"):
        shutil.rmtree(trial_folder(tuning, number) / "run" / name, ignore_errors=True)


def _chosen(trial: "optuna.Trial", path: str, values: RangeOrChoices) -> Any:
    """Returns a value for the setting at ``path``. Optuna chooses the value from ``values``.

    The choice is seeded by ``path`` and ``trial.number``, and depends on the results of earlier trials.
    """
    import optuna

    # Each draw has a sampler of its own, so that a resumed trial draws the same, wherever it was cut off.
    trial.study.sampler = optuna.samplers.TPESampler(seed=crc32(f"{trial.number} {path}".encode()))
    if not isinstance(values, Range):  # Optuna's storage takes neither lists nor mappings
        return json.loads(trial.suggest_categorical(path, [json.dumps(value) for value in values]))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(path, values.low, values.high, log=values.log)
    return trial.suggest_float(path, values.low, values.high, log=values.log)


def _score(recipe: Recipe, numbers: Mapping[str, float]) -> float | None:
    """Returns the score that ``train.select`` names, read from a log line; None if the line contains no scores."""
    select = recipe.train.select
    task = recipe.tasks.get(select)
    return numbers.get(f"aggregates/{select}" if task is None else f"evaluation/{select}/metrics/{task.metric}")
