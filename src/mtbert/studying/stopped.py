"""How far a run had come when it was stopped."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtbert import splits
from mtbert.advice import call
from mtbert.messages import count
from mtbert.recipe.settings import Recipe
from mtbert.training.rounds import RoundPlan


@dataclass(frozen=True)
class StoppedRun:
    """How far a run had come when it was stopped, in optimizer steps and in whole epochs."""

    folder: Path
    done: int
    steps: int  # of the whole run
    epochs_done: int
    epochs: int  # of the whole run

    @property
    def again(self) -> str:
        """Returns the command, or the call from Python, that resumes the run."""
        return call("train", resume=self.folder)

    @property
    def sentence(self) -> str:
        """Returns a sentence that says when the run was stopped."""
        epochs = f"{self.epochs_done} of {count(self.epochs, 'epoch')}"
        return f"The run was stopped after {epochs} (step {self.done:,} of {self.steps:,})."


def stopped_run(folder: Path, recipe: Recipe, done: int, sizes: Mapping[str, int]) -> StoppedRun:
    """Returns how far the run of ``recipe`` in ``folder`` has come after ``done`` optimizer steps.

    ``sizes`` maps the name of a table to the number of its train rows. A task with files of its own counts as a table
    with the name of the task. If a table is not in ``sizes``, its rows are read and counted.
    """
    counted = {
        table: sizes[table] if table in sizes else len(splits.split_table(recipe, table).train)
        for table in recipe.tasks_by_table()
    }
    plan = RoundPlan.of(recipe, counted)
    whole = plan.epoch(done) - 1 if done < plan.steps else recipe.train.epochs
    return StoppedRun(folder, done, plan.steps, whole, recipe.train.epochs)
