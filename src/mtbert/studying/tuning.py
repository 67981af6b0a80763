"""Tuning: Optuna chooses settings of a recipe from given ranges, and each choice is tried in a run, called a trial.

The folder that ``mtbert tune`` writes has ``recipe.yaml`` (the recipe with its ranges), ``tune.db`` (Optuna's storage),
``trials/NUMBER/`` (``log.txt``, and the run without its weights), ``trials.csv``, and ``NAME-tuned.yaml`` (the recipe
NAME with the settings of the best trial).
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mtbert import files, locks
from mtbert.recipe.files import RECIPE_FILE, dump_recipe
from mtbert.recipe.identity import same_settings
from mtbert.recipe.parts import Range
from mtbert.recipe.settings import Recipe
from mtbert.studying.trial_results import TrialBar, best_trials, ended_trials, write_trials
from mtbert.studying.trial_run import drop_weights, run_trial
from mtbert.studying.trials import open_storage, storage_errors
from mtbert.studying.tunable import Tuning
from mtbert.training.assemble import check_encoder

if TYPE_CHECKING:
    import optuna


def run_tuning(tuning: Tuning, trials: int, console: Console) -> Path:
    """Runs trials until ``trials`` of them exist, and returns the path of the best trial's recipe.

    If the search was stopped or killed, the same call resumes it, and the remaining trials are the same as without the
    interruption. A trial's score is that of its best evaluation, measured as the recipe's ``train.select`` says. A
    trial is stopped early (pruned) if its score is below the median score that earlier trials had at the same point of
    their training, such as halfway. The choice of a setting's value is seeded by the trial's number and the setting's
    path. Runs have the recipe's seed.

    Args:
        tuning: The recipe to tune, and the folder for its trials.
        trials: The number of trials in total, including those of earlier calls.
        console: Shows progress, and the best trials at the end.

    Raises:
        FileNotFoundError, ValueError: If there is nothing to tune, the recipe cannot be used, or the folder holds
            something else.
        OSError: If the disk is full. Once there is room again, the same call resumes the search.
        Stopped: After SIGINT or SIGTERM.
    """
    if find_spec("optuna") is None:
        raise ValueError('mtbert tune: Optuna is not installed. Run: pip install "mtbert[tune]"')
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _check(tuning)
    base = tuning.trial({})
    check_encoder(base)
    _check_place(tuning.out)  # before a lock is put into a folder of something else
    with locks.alone(tuning.out, "tune"), storage_errors(tuning.out), TrialBar(console, trials) as shown:
        _begin(tuning.out, base)
        study = open_storage(tuning.out)
        for done in study.get_trials(deepcopy=False):
            if done.state.is_finished():  # the process may have been killed between a trial's end and this
                drop_weights(tuning, done.number)
        while (trial := _next(study, trials)) is not None:
            run_trial(tuning, study, trial, base.tune, shown)
            write_trials(tuning, study, base.tune)
        write_trials(tuning, study, base.tune)  # the process may have been killed between a trial's end and its line
    ended = ended_trials(study)
    if not ended:
        raise ValueError(
            f"{tuning.out}: none of {len(study.trials)} trials came to its end, see trials.csv. "
            "Mend the ranges, and give another folder."
        )
    console.print(best_trials(ended, base))
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
    """Raises a ValueError if ``out`` is a file, or a folder with content that ``mtbert tune`` has not written."""
    started = {locks.LOCK, f".{RECIPE_FILE}.new"}
    other = out.exists() and (not out.is_dir() or not {path.name for path in out.iterdir()} <= started)
    if other and not (out / RECIPE_FILE).is_file():
        raise ValueError(f"{out}: exists and is no tuning. Give another folder.")


def _begin(out: Path, base: Recipe) -> None:
    """Writes the recipe ``base`` into ``out``, the folder of a hyperparameter search.

    Raises a ValueError if ``out`` already has a different recipe.
    """
    file = out / RECIPE_FILE
    if not file.is_file():
        files.write_text(file, dump_recipe(base))
    if not same_settings(file, base):
        raise ValueError(f"{file}: has other settings, ranges or data to score on. Give another folder.")


def _next(study: "optuna.Study", trials: int) -> "optuna.Trial | None":
    """Returns the trial to run next: an interrupted trial if there is one, otherwise a new trial.

    Returns None if no trial was interrupted, and the number of trials has reached ``trials``.
    """
    import optuna

    for begun in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        return optuna.trial.Trial(study, begun._trial_id)  # Optuna has no public way to go on with it
    return study.ask() if len(study.trials) < trials else None
