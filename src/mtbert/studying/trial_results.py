"""The output of a hyperparameter search, ``mtbert tune``.

The command shows a progress bar and a table of the best trials. It writes the best recipe and a file of all trials.
"""

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
from rich.console import Console
from rich.table import Table

from mtbert import files
from mtbert.progress_bar import LiveBar, bar_line, clock
from mtbert.recipe.files import dump_recipe
from mtbert.recipe.parts import Range, RangeOrChoices
from mtbert.recipe.settings import Recipe
from mtbert.studying.tunable import Tuning

if TYPE_CHECKING:
    import optuna

SHOWN = 5  # trials in the table at the end


def ended_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Returns the trials that were completed, best first; pruned and failed trials are left out."""
    import optuna

    ended = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    return sorted(ended, key=lambda trial: (-trial.values[0], trial.number))


def write_trials(tuning: Tuning, study: "optuna.Study", ranges: Mapping[str, RangeOrChoices]) -> None:
    """Writes ``trials.csv`` and, if a trial has been completed, the recipe of the best trial."""
    rows = [
        {"trial": trial.number, "state": trial.state.name.lower(), "score": trial.value}
        | {path: _text(value) for path, value in _settings(trial, ranges).items()}
        for trial in study.trials
    ]
    files.write_text(tuning.out / "trials.csv", pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    for best in ended_trials(study)[:1]:
        # The control lacks one technique of the recipe; the tuned recipe may differ from it in more.
        recipe = tuning.recipe(_settings(best, ranges)).model_copy(update={"tune": {}, "control": None})
        files.write_text(tuning.best, dump_recipe(recipe))


def best_trials(ended: list["optuna.trial.FrozenTrial"], base: Recipe) -> Table:
    """Returns a table of the best trials."""
    table = Table("trial", base.train.select, *base.tune, title="Best trials")
    for trial in ended[:SHOWN]:
        settings = _settings(trial, base.tune)
        table.add_row(str(trial.number), f"{trial.value:.4f}", *(_text(settings[path]) for path in base.tune))
    return table


class TrialBar:
    """Shows the progress of the trials, and prints a line whenever a trial ends."""

    def __init__(self, console: Console, trials: int) -> None:
        self.console, self.trials = console, trials
        self.number, self.share = 0, 0.0  # the trial that runs, and the finished part of it
        self.done = 0.0  # trials
        self.begun: tuple[float, float] | None = None  # the time of this call's first trial, and trials done then
        self.bar = LiveBar(console, self._frame, self._line)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def begins(self, number: int) -> None:
        self.begun = self.begun or (time.monotonic(), number)
        self.at(number, 0.0)

    def at(self, number: int, share: float) -> None:
        self.number, self.share = number, share
        self.done = max(self.done, number + share)  # a trial that another command left may be an older one
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
        return f"trial {self.number}: {self.share:.0%}  {self._left()}"

    def _frame(self) -> Table:
        return bar_line(f"trial {self.number}", self.done, self.trials, [self._left()], self.console.width)


def _settings(trial: "optuna.trial.FrozenTrial", ranges: Mapping[str, RangeOrChoices]) -> dict[str, Any]:
    """Returns a dict from the path of each setting to the value that Optuna chose for it in a trial."""
    given = {path: trial.params[path] for path in ranges if path in trial.params}
    return {path: value if isinstance(ranges[path], Range) else json.loads(value) for path, value in given.items()}


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
