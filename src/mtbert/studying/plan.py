"""The plan of a study. A study compares recipes, and runs each of them with every seed.

The plan has a row for each recipe. A row has a name, and may name another row as its control. The study then compares
the row with its control.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mtbert.messages import clean, few, near, shown
from mtbert.recipe.files import given_recipe, load_recipe
from mtbert.recipe.given import plain
from mtbert.recipe.given_data import RecipeLike
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe
from mtbert.settings import explain, tuples
from mtbert.studying.settings import OVERALL, ROW_NAME, Printed, StudySettings
from mtbert.yaml_files import YamlFiles, merge

STUDIES = YamlFiles("study", key="rows", folder="studies")
GIVEN = "given as a dict"  # the name, in messages, of a study or a recipe without a file


@dataclass(frozen=True)
class PlannedRow:
    """One of the recipes that a study compares, called a row. The runs of a row differ only in their seeds."""

    name: str
    source: str  # the name of the recipe in the study's file
    recipe: Recipe
    control: str | None  # the row that lacks one technique of this one

    def seeded(self, seed: int) -> Recipe:
        """Returns a copy of ``self.recipe`` in which ``train.seed`` is ``seed``."""
        train = self.recipe.train.model_copy(update={"seed": seed})
        return self.recipe.model_copy(update={"train": train})


@dataclass(frozen=True)
class Plan:
    """The runs of a study: every row (a recipe that the study compares) is run with every seed.

    ``rows`` maps the name of each row to the row, in the order of the study's file. ``reference`` is the name of the
    row with which all other rows are compared.
    """

    rows: Mapping[str, PlannedRow]
    seeds: tuple[int, ...]
    reference: str
    printed: Printed | None = None  # numbers that another source prints for these rows

    @property
    def runs(self) -> list[tuple[str, int]]:
        """The runs, in the order in which they start. Each run is a pair: the name of a row, and a seed.

        A row is a recipe that the study compares. All rows are run with the first seed, then all with the second, and
        so on. An unfinished study can therefore already compare its rows.
        """
        return [(name, seed) for seed in self.seeds for name in self.rows]


def shipped_studies() -> list[str]:
    """Returns the names of the studies that come with the package."""
    return STUDIES.shipped()


def study_folder(study: str | Mapping[str, Any]) -> Path:
    """Returns the default folder of a study: ``studies/NAME``, or ``studies/study`` for a study that is a dict."""
    if isinstance(study, Mapping):
        return Path("studies/study")
    return Path("studies") / (study if study in shipped_studies() else Path(study).stem)


def load_study(name: str | Mapping[str, Any], overrides: Sequence[str] = ()) -> Plan:
    """Returns the plan of a study.

    Args:
        name: The name of a study that comes with the package, the path of a study's file, or the content of such a file
            as a dict. In a dict, a recipe may also be a dict or a ``Recipe``, and relative paths start from the working
            directory.
        overrides: Changes to every recipe of the study, as ``a.b=c``. They are applied after the changes that the
            study's file makes.

    Raises:
        FileNotFoundError: If the study or one of its recipes does not exist. The message lists the studies or recipes
            that come with the package.
        ValueError: If the file has a mistake; the message names the file, key and value, and says what to do.
    """
    recipes: dict[str, RecipeLike] = {}
    if isinstance(name, Mapping):
        folder, called = Path(), GIVEN
        raw, recipes = _without_recipes(name)
    else:
        chain = STUDIES.read(name, Path())
        folder, called, raw = chain[0].path.parent, clean(name), {}
        for file in reversed(chain):
            raw = merge(raw, file.raw)
    try:
        study = StudySettings.model_validate(tuples(raw))
    except ValidationError as error:
        raise ValueError("\n".join(f"study {called}, {line}" for line in explain(error, raw))) from None
    return make_plan(study, called, folder, overrides, recipes)


def _without_recipes(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, RecipeLike]]:
    """Returns a pair: a copy of the study ``given``, and a dict of recipes that are taken out of the copy.

    ``given`` has the form of a study's file. Each row of a study has a recipe: a name, a dict or a ``Recipe``. If the
    recipe is a name, the recipe stays in the copy. Otherwise, the text ``GIVEN`` takes the place of the recipe, and the
    second item of the pair maps the name of the row to the recipe.
    """
    content, recipes = dict(given), dict[str, RecipeLike]()
    if isinstance(content.get("rows"), Mapping):
        content["rows"] = {}
        for base, row in given["rows"].items():
            long = dict(row) if isinstance(row, Mapping) and "recipe" in row else {"recipe": row}
            if isinstance(long["recipe"], Mapping | Recipe):
                recipes[base], long["recipe"] = long["recipe"], GIVEN
            content["rows"][base] = long
    return plain(content, f"study {GIVEN}"), recipes


def make_plan(
    study: StudySettings,
    name: str,
    folder: Path,
    overrides: Sequence[str] = (),
    recipes: Mapping[str, RecipeLike] | None = None,
) -> Plan:
    """Returns the plan of a study, made from its settings.

    Args:
        study: The settings of the study.
        name: The name of the study in error messages.
        folder: The folder from which relative paths in recipes start.
        overrides: Changes to every recipe of the study, as ``a.b=c``. These changes are applied last.
        recipes: The recipes that were given as a dict or a ``Recipe``, by their keys in ``study.rows``. All other
            recipes are loaded.

    Raises:
        FileNotFoundError: If a recipe does not exist.
        ValueError: If a recipe cannot be used, if the settings name an unknown row of the study or an unknown task, or
            if recipes of the study cannot be compared with each other.
    """
    points = [dict(zip(study.grid, values, strict=True)) for values in product(*study.grid.values())]
    labels = {key: key.rpartition(".")[2] for key in study.grid}
    if len(set(labels.values())) < len(labels):
        labels = {key: key for key in study.grid}
    ends = ["".join(f",{labels[key]}={value}" for key, value in point.items()) for point in points]
    rows: dict[str, PlannedRow] = {}

    def read(base: str, changes: Sequence[str]) -> Recipe:
        if recipes is not None and base in recipes:
            return given_recipe(recipes[base], changes, {})
        return load_recipe(study.rows[base].recipe, changes, folder)

    for base, row in study.rows.items():
        for point, end in zip(points, ends, strict=True):
            if not re.fullmatch(ROW_NAME, base + end):
                raise ValueError(
                    f"study {name}, rows.{base}: its name with the values of the grid is {shown(base + end)}, which "
                    "cannot be the name of a folder. Give the values as rows of their own, each with a name and set."
                )
            changes = [
                *study.set,
                *row.set,
                *(f"{key}={json.dumps(v, default=str)}" for key, v in point.items()),
                *overrides,
            ]
            if any(change.partition("=")[0].strip() == "train.seed" for change in changes):
                raise ValueError(f"study {name}, rows.{base}: train.seed is set by the study's seeds. Change seeds.")
            try:
                settings = read(base, changes)
            except (ValueError, FileNotFoundError) as error:
                raise type(error)(f"study {name}, rows.{base}: {error}") from None
            control = _control(study, name, base, settings.control)
            rows[base + end] = PlannedRow(base + end, row.recipe, settings, control and control + end)
    reference = study.reference or next(iter(rows))
    if reference not in rows:
        raise ValueError(f"study {name}, reference: there is no row {shown(reference)}. Known: {few(rows)}.")
    _check_same_dev(rows, name)
    if study.printed is None:
        return Plan(rows, study.seeds, reference)
    _check_printed(study, study.printed, name, read)
    by_row = {
        part: {base + end: scores for base, scores in printed.items() for end in ends}
        for part, printed in (("dev", study.printed.dev), ("test", study.printed.test))
    }
    return Plan(rows, study.seeds, reference, study.printed.model_copy(update=by_row))


def _check_same_dev(rows: Mapping[str, PlannedRow], name: str) -> None:
    """Raises ValueError if two recipes of a study would be scored on different examples or by different metrics."""
    first: dict[str, tuple[str, object]] = {}
    for row, planned in rows.items():
        for task, found in planned.recipe.tasks.items():
            split = _drawn(planned.recipe, found) if found.dev is None else found.dev
            scored = (planned.recipe.root(), split, found.columns, found.type, found.labels, found.range, found.metric)
            other, before = first.setdefault(task, (row, scored))
            if scored != before:
                raise ValueError(
                    f"study {name}, rows.{row}: task {clean(task)} has other dev examples than in row {other}, or "
                    "another metric. Rows can only be compared on the same examples by the same metric: give both "
                    "rows the same dev, dev_seed, dev_split, columns (those of its whole table), labels and metric."
                )


def _drawn(recipe: Recipe, task: TaskRecipe) -> object:
    """Returns the settings that determine which of a task's train examples are drawn as dev examples."""
    texts = None
    if task.table is not None:
        texts = frozenset(column for other in recipe.tasks_by_table()[task.table] for column in other.columns.text)
    return task.train, task.dev_fraction, task.dev_seed, task.dev_split, texts


def _control(study: StudySettings, name: str, base: str, of_recipe: str | None) -> str | None:
    """Returns the name of the control of the row ``base``: the row of the study that ``base`` is compared with.

    - If the study's file names a control for ``base``, returns this control.
    - Otherwise, if ``of_recipe`` is None, returns None.
    - Otherwise, returns the first row, except ``base``, that uses the recipe called ``of_recipe``.

    Args:
        study: The settings of the study.
        name: The name of the study in error messages.
        base: The name of the row whose control is wanted.
        of_recipe: The setting ``control`` of the recipe of ``base``: the name of a recipe, or None.

    Raises:
        ValueError: If the study's file names a control that is not another row of the study, or if no other row uses
            the recipe ``of_recipe``.
    """
    row = study.rows[base]
    others = [other for other in study.rows if other != base]
    if row.control is not None:
        if row.control not in others:
            raise ValueError(
                f"study {name}, rows.{base}: control {shown(row.control)} is no other row. Known: {few(others)}."
            )
        return row.control
    if of_recipe is None:
        return None
    found = next((other for other in others if study.rows[other].recipe == of_recipe), None)
    if found is None:
        raise ValueError(
            f"study {name}, rows.{base}: recipe {clean(row.recipe)} names {clean(of_recipe)} as its control, and no "
            "row has that recipe. Add such a row, or name another row with control."
        )
    return found


def _check_printed(
    study: StudySettings, printed: Printed, name: str, read: Callable[[str, Sequence[str]], Recipe]
) -> None:
    """Raises ValueError if ``printed`` names a recipe, task or metric that the study lacks.

    ``printed`` holds numbers that another source, such as a paper, gives for recipes of the study.
    """
    tasks = {}
    for base, row in study.rows.items():  # without the changes of the command line, which may drop a task
        tasks[base] = read(base, [*study.set, *row.set]).tasks
    for part, by_row in (("dev", printed.dev), ("test", printed.test)):
        for base, scores in by_row.items():
            if base not in tasks:
                hint = near(base, tasks, f"Known: {few(tasks)}.")
                raise ValueError(f"study {name}, printed.{part}: there is no row {shown(base)}.{hint}")
            known = [
                OVERALL,
                *(f"{task}.{metric.name}" for task, t in tasks[base].items() for metric in t.metrics),
            ]
            for key in scores:
                if key not in known:
                    hint = near(key, known, f"Known: {few(known)}.")
                    raise ValueError(f"study {name}, printed.{part}.{base}: there is no score {shown(key)}.{hint}")
    for task in printed.sizes:
        everywhere = list(dict.fromkeys(task for of_row in tasks.values() for task in of_row))
        if task not in everywhere:
            hint = near(task, everywhere, f"Known: {few(everywhere)}.")
            raise ValueError(f"study {name}, printed.sizes: there is no task {shown(task)}.{hint}")
