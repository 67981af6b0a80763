"""The runs of a study and the paths of their files.

Each run has a folder ``cells/ROW-SEED/``, where ROW is the name of a recipe in the study. In this folder,
``recipe.yaml`` is the recipe of the run, ``log.txt`` holds everything that the run printed, and ``run/`` is the folder
that training makes. ``lock`` is locked while a process trains the run. Once the run has ended, ``ended.json`` is there
too. ``failed.json`` is there if the run failed in a way that would recur on any machine: its loss or gradients were not
finite.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtbert import files, locks
from mtbert.advice import option
from mtbert.json_files import read_settings
from mtbert.recipe.files import RECIPE_FILE, change_run_recipe, dump_recipe, load_run_recipe
from mtbert.recipe.identity import same_settings
from mtbert.recipe.settings import Recipe
from mtbert.settings import Settings
from mtbert.studying.plan import Plan

CELLS = "cells"  # the folder of all runs in the folder of a study
STEPS = re.compile(rb"step (\d+)/(\d+)")

State = Literal["waiting", "training", "stopped", "failed", "ended"]


class EndRecord(Settings):
    """The content of ``ended.json``, a file that is written when a run has ended."""

    seconds: float  # seconds of training steps


class FailRecord(Settings):
    """The content of ``failed.json``, a file that is written when the numbers of a run are not finite."""

    why: str


@dataclass(frozen=True)
class RunPlace:
    """The folder of one run of a study, and the paths of the files in it."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """Returns the path of the recipe that the run is started with."""
        return self.folder / RECIPE_FILE

    @property
    def log(self) -> Path:
        """Returns the path of the log, which holds everything that the run printed."""
        return self.folder / "log.txt"

    @property
    def run(self) -> Path:
        """Returns the path of the folder that ``mtbert train`` makes for the run."""
        return self.folder / "run"

    @property
    def ended(self) -> Path:
        """Returns the path of ``ended.json``, which exists only once the run has ended."""
        return self.folder / "ended.json"

    @property
    def failed(self) -> Path:
        """Returns the path of ``failed.json``. The run writes this file if its loss or its gradients are not finite."""
        return self.folder / "failed.json"

    @property
    def why_failed(self) -> str | None:
        """Returns why the run failed, if it would fail in the same way on any machine; otherwise None."""
        try:
            return read_settings(self.failed, FailRecord, "Remove it.").why
        except FileNotFoundError:
            return None

    @property
    def state(self) -> State:
        """Returns how far the run has got: ``stopped`` means that it has begun, but no process trains it now."""
        if self.ended.exists():
            return "ended"
        if locks.is_locked(self.folder):
            return "training"
        if self.failed.exists():
            return "failed"
        return "stopped" if (self.run / RECIPE_FILE).is_file() else "waiting"

    @property
    def share(self) -> float:
        """Returns the completed share of the run, according to the last step in its log: 0 to 0.99.

        A run that has made its last step has not ended yet: it saves its model first.
        """
        said = STEPS.findall(self.log.read_bytes()[-4000:]) if self.log.exists() else []
        return min(0.99, int(said[-1][0]) / int(said[-1][1])) if said else 0.0

    def tidy(self) -> None:
        """Removes the folder ``last/`` of a run that has ended, because only training needs it; ``best/`` stays."""
        if self.ended.exists() and (self.run / "best").exists():
            shutil.rmtree(self.run / "last", ignore_errors=True)

    @property
    def last_words(self) -> str:
        """Returns the last line that the run printed. If the run failed, this line says why."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def run_place(out: Path, row: str, seed: int) -> RunPlace:
    """Returns the paths of the files of a run. ``out`` is the folder of the study; ``row`` is the name of a recipe."""
    return RunPlace(out / CELLS / f"{row}-{seed}")


def run_recipes(plan: Plan, out: Path, threads: int) -> dict[RunPlace, Recipe]:
    """Returns a dict with all runs of a plan. It maps the :class:`RunPlace` of a run to the run's recipe.

    Args:
        plan: The plan of the study.
        out: The folder of the study.
        threads: The number of threads for each run whose recipe gives no such number.

    Raises:
        ValueError: If one of the runs has already begun in the folder with other settings.
    """
    found = {}
    for row, seed in plan.runs:
        recipe = plan.rows[row].seeded(seed)
        if recipe.train.threads is None:
            recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"threads": threads})})
        one = run_place(out, row, seed)
        begun = one.run / RECIPE_FILE
        if begun.is_file() and not same_settings(begun, recipe):
            raise ValueError(
                f"{one.folder}: was run with other settings. Give another folder with {option('out')}, rename the row, "
                "or remove this folder."
            )
        found[one] = recipe
    return found


def lay_out(wanted: Mapping[RunPlace, Recipe]) -> None:
    """Makes the folder of every run and writes the run's recipe to ``recipe.yaml`` in this folder.

    If a run has already begun, training has made a second file, ``run/recipe.yaml``. In the second file, only
    ``data.root`` is updated. The record of a failure is removed, so that the run is tried again.
    """
    for one, recipe in wanted.items():
        one.folder.mkdir(parents=True, exist_ok=True)
        one.tidy()  # the process may have been killed between the run's end and this
        one.failed.unlink(missing_ok=True)
        text = dump_recipe(recipe)
        if not one.recipe.is_file() or one.recipe.read_bytes() != text.encode():
            files.write_text(one.recipe, text)
        begun = one.run / RECIPE_FILE
        if begun.is_file() and load_run_recipe(begun).data.root != recipe.data.root:
            change_run_recipe(begun, {"data": {"root": recipe.data.root}})
