"""Tuning: Optuna chooses settings of a recipe from given ranges, and each choice is tried in a run, called a trial.

The folder that ``mtbert tune`` writes has ``recipe.yaml`` (the recipe with its ranges), ``tune.db`` (Optuna's storage)
or ``storage.json`` (where the storage is), ``trials/NUMBER/`` (``log.txt``, and the run without its weights),
``trials.csv``, and ``NAME-tuned.yaml`` (the recipe NAME with the settings of the best trial).

If the storage is a database with a URL, any number of commands can train trials in the same folder at the same time.
A command locks the folder of a trial while the trial is trained. A trial that has not ended, but whose folder is not
locked, was interrupted.
"""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mtbert import files, locks
from mtbert.advice import call, same_again, see
from mtbert.messages import tell_end
from mtbert.recipe.files import RECIPE_FILE, dump_recipe
from mtbert.recipe.identity import same_settings
from mtbert.recipe.parts import Range
from mtbert.recipe.settings import Recipe
from mtbert.studying.trial_results import TrialBar, best_trials, ended_trials, write_trials
from mtbert.studying.trial_run import drop_weights, run_trial, trial_folder
from mtbert.studying.trials import TrialStorage
from mtbert.studying.tunable import Tuning
from mtbert.training.assemble import check_encoder
from mtbert.training.signals import Stopped, signals

if TYPE_CHECKING:
    import optuna

SECONDS_BETWEEN_LOOKS = 1.0  # seconds between looks at the trials of other commands

Turn = Callable[[], AbstractContextManager[object]]


def run_tuning(tuning: Tuning, trials: int, console: Console) -> Path:
    """Runs trials until ``trials`` of them exist, and returns the path of the best trial's recipe.

    If the search was stopped or killed, the same call resumes it, and the remaining trials are the same as without the
    interruption. A trial's score is that of its best evaluation, measured as the recipe's ``train.select`` says. A
    trial is stopped early (pruned) if its score is below the median score that earlier trials had at the same point of
    their training, such as halfway. The choice of a setting's value is seeded by the trial's number and the setting's
    path. All trials train with the recipe's seed. If several commands share the trials, a choice also depends on which
    trials have ended when it is made.

    Args:
        tuning: The recipe to tune, the folder for its trials, and the database that stores them.
        trials: The number of trials in total, including those of earlier calls.
        console: Shows progress, and the best trials at the end.

    Raises:
        FileNotFoundError, ValueError: If there is nothing to tune, the recipe cannot be used, or the folder holds
            something else.
        OSError: If the disk is full, or the database cannot be reached. Later, the same call resumes the search.
        Stopped: After SIGINT or SIGTERM.
    """
    if find_spec("optuna") is None:
        raise ValueError(f'mtbert tune: Optuna is not installed. Run: pip install "mtbert[tune]" {see("install")}')
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _check(tuning)
    base = tuning.trial({})
    check_encoder(base)
    _check_place(tuning.out)  # before a lock is put into a folder of something else
    storage = TrialStorage(tuning.out, tuning.storage)
    with ExitStack() as stack:
        turn: Turn = partial(locks.alone, tuning.out, "tune", wait=True)
        if tuning.storage is None:  # SQLite's files are not made for several machines
            stack.enter_context(locks.alone(tuning.out, "tune"))
            turn = nullcontext
        shown = stack.enter_context(TrialBar(console, trials))
        with turn():
            _begin(tuning.out, base)
            study = stack.enter_context(storage.opened())
            for done in study.get_trials(deepcopy=False):
                if done.state.is_finished():  # the process may have been killed between a trial's end and this
                    drop_weights(tuning, done.number)
        while (claimed := _claim_next(tuning, study, trials, turn)) is not None:
            trial, held = claimed
            try:
                run_trial(tuning, study, trial, base.tune, shown)
            finally:
                held.leave()
            with turn():
                write_trials(tuning, study, base.tune)
        with turn():  # the process may have been killed between a trial's end and its line
            write_trials(tuning, study, base.tune)
        ended, begun = ended_trials(study), len(study.trials)
    if not ended:
        raise ValueError(
            f"{tuning.out}: none of {begun} trials came to its end, see trials.csv. "
            "Mend the ranges, and give another folder."
        )
    console.print(best_trials(ended, base))
    where = f"the recipe with the best settings is {tuning.best}; all trials are in {tuning.out / 'trials.csv'}"
    tell_end(console, where, call("train", tuning.best))
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


def _claim_next(
    tuning: Tuning, study: "optuna.Study", trials: int, turn: Turn
) -> "tuple[optuna.Trial, locks.Held] | None":
    """Locks the folder of the next trial, and returns the trial and the lock. Returns None if all trials have ended.

    A trial that was interrupted is resumed before a new one is made. ``trials`` is the number of trials to make. If
    all have been made and other commands still train some of them, waits until one is interrupted or all have ended.
    ``turn`` returns a context manager, which only one command at a time can enter.

    Raises:
        Stopped: If SIGINT or SIGTERM arrives during the wait.
    """
    import optuna

    while True:
        with turn():
            begun = _running(study)
            for number, trial in begun.items():
                held = _claim(tuning, number)
                if held is None:
                    continue
                if number in _running(study):  # it may have ended just before the claim
                    return optuna.trial.Trial(study, trial._trial_id), held  # Optuna has no public way to go on with it
                held.leave()
            if len(study.get_trials(deepcopy=False)) < trials:
                new = study.ask()
                held = _claim(tuning, new.number)
                assert held is not None  # no other command knows the trial
                return new, held
        if not begun:
            return None
        with signals() as stopping:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if stopping():
                raise Stopped(f"stopped while other commands train their trials. {same_again()}")


def _running(study: "optuna.Study") -> "dict[int, optuna.trial.FrozenTrial]":
    """Returns the trials that have begun but not ended, as a dict from the number of a trial to the trial."""
    import optuna

    found = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
    return {trial.number: trial for trial in found}


def _claim(tuning: Tuning, number: int) -> locks.Held | None:
    folder = trial_folder(tuning, number)
    folder.mkdir(parents=True, exist_ok=True)
    return locks.claim_folder(folder)
