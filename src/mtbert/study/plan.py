"""The plan of a study: rows of recipes, each with the control that it is compared with, times seeds."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe
from mtbert.settings import Settings, explain, tuples
from mtbert.yaml_files import YamlFiles, merge

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.,=+-]{0,99}$"  # of a row: it is part of a folder's name
STUDIES = YamlFiles("study", key="rows", folder="studies")
MOST = 10_000  # runs of a study


class RowSettings(Settings):
    """One recipe of a study, or that recipe with some settings changed."""

    recipe: str = Field(description="a file beside the study's, or the name of a shipped one")
    set: tuple[str, ...] = Field(default=(), description="changes as a.b=c, after those of the study")
    control: str | None = Field(
        default=None, description="the row that differs in one technique only; null: the row of the recipe's control"
    )


class StudySettings(Settings):
    """Rows times seeds, and what they are compared with."""

    rows: dict[
        Annotated[str, Field(pattern=NAME)],
        Annotated[
            RowSettings,
            BeforeValidator(
                lambda row: {"recipe": row} if isinstance(row, str) else row, json_schema_input_type=RowSettings | str
            ),
        ],
    ] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(default=(0, 1, 2), min_length=1)
    set: tuple[str, ...] = Field(default=(), description="changes of every row's recipe, as a.b=c")
    grid: dict[str, tuple[Any, ...]] = Field(
        default={}, description="settings by their path: each row is run with every combination of their values"
    )
    reference: str | None = Field(
        default=None, description="the row that all others are compared with; null: the first"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names one twice. Name each once.")
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid.{key}: has no values. Give some, or drop it.")
            if any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"grid.{key}: {list(values)} has one twice. Give each once.")
        runs = len(self.seeds) * len(self.rows) * math.prod(map(len, self.grid.values()))
        if runs > MOST:
            raise ValueError(f"grid: makes {runs:,} runs, and a study has {MOST:,} at most. Give fewer values.")
        return self


@dataclass(frozen=True)
class PlannedRow:
    """A row as it is run: its recipe but for the seed, and the name of the row that it is compared with."""

    name: str
    source: str  # the recipe's name
    recipe: Recipe
    control: str | None

    def seeded(self, seed: int) -> Recipe:
        """The recipe of one run."""
        train = self.recipe.train.model_copy(update={"seed": seed})
        return self.recipe.model_copy(update={"train": train})


@dataclass(frozen=True)
class Plan:
    """Every run of a study; rows in the order of the file, the reference among them."""

    rows: Mapping[str, PlannedRow]
    seeds: tuple[int, ...]
    reference: str

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Row and seed of every run: all rows of a seed before the next seed, so that a part is a whole comparison."""
        return [(name, seed) for seed in self.seeds for name in self.rows]


def shipped_studies() -> list[str]:
    """Returns the names of the studies that come with the package."""
    return STUDIES.shipped()


def load_study(name: str, overrides: Sequence[str] = ()) -> Plan:
    """The plan of the study of that name or path; ``overrides`` change every row, after all else.

    Raises:
        FileNotFoundError: If there is no such study or one of its recipes; the message lists those shipped.
        ValueError: With the file, the key, what was found and what to do.
    """
    chain = STUDIES.read(name, Path())
    raw: dict[str, Any] = {}
    for file in reversed(chain):
        raw = merge(raw, file.raw)
    try:
        study = StudySettings.model_validate(tuples(raw))
    except ValidationError as error:
        raise ValueError("\n".join(f"study {name}, {line}" for line in explain(error, raw))) from None
    return make_plan(study, name, chain[0].path.parent, overrides)


def make_plan(study: StudySettings, name: str, folder: Path, overrides: Sequence[str] = ()) -> Plan:
    """Every run of ``study``; its recipes are looked for in ``folder``, and error messages call it ``name``.

    Raises:
        ValueError, FileNotFoundError: If a recipe cannot be used, or a row is compared with one that is not there.
    """
    points = [dict(zip(study.grid, values, strict=True)) for values in product(*study.grid.values())]
    labels = {key: key.rpartition(".")[2] for key in study.grid}
    if len(set(labels.values())) < len(labels):
        labels = {key: key for key in study.grid}
    rows: dict[str, PlannedRow] = {}
    for base, row in study.rows.items():
        for point in points:
            end = "".join(f",{labels[key]}={value}" for key, value in point.items())
            if not re.fullmatch(NAME, base + end):
                raise ValueError(
                    f"study {name}, rows.{base}: with its grid it is called {base + end!r}, which can be no folder's "
                    "name. Give the values as rows of their own, each with a name and set."
                )
            changes = [
                *study.set,
                *row.set,
                *(f"{key}={json.dumps(v, default=str)}" for key, v in point.items()),
                *overrides,
            ]
            if any(change.partition("=")[0].strip() == "train.seed" for change in changes):
                raise ValueError(f"study {name}, rows.{base}: train.seed is one of the study's seeds. Change seeds.")
            try:
                settings = load_recipe(row.recipe, changes, folder)
            except (ValueError, FileNotFoundError) as error:
                raise type(error)(f"study {name}, rows.{base}: {error}") from None
            named = _control(study, name, base, settings.control)
            rows[base + end] = PlannedRow(base + end, row.recipe, settings, named and named + end)
    reference = study.reference or next(iter(rows))
    if reference not in rows:
        raise ValueError(f"study {name}, reference: there is no row '{reference}'. Known: {', '.join(rows)}.")
    _share_dev(rows, name)
    return Plan(rows, study.seeds, reference)


def _share_dev(rows: Mapping[str, PlannedRow], name: str) -> None:
    """Raises ValueError if two rows would be scored on other examples of a task, or by another metric."""
    first: dict[str, tuple[str, object]] = {}
    for row, planned in rows.items():
        for task, found in planned.recipe.tasks.items():
            split = (found.train, found.dev_fraction, found.dev_seed) if found.dev is None else found.dev
            scored = (planned.recipe.root(), split, found.columns, found.type, found.labels, found.range, found.metric)
            other, before = first.setdefault(task, (row, scored))
            if scored != before:
                raise ValueError(
                    f"study {name}, rows.{row}: task {task} has other dev examples than in row {other}, or another "
                    "metric. Rows are compared on the same: let dev, dev_seed, columns, labels and the like be equal."
                )


def _control(study: StudySettings, name: str, base: str, of_recipe: str | None) -> str | None:
    """The name of the row that the row ``base`` is compared with."""
    row = study.rows[base]
    if row.control is not None:
        if row.control not in study.rows or row.control == base:
            others = ", ".join(other for other in study.rows if other != base)
            raise ValueError(f"study {name}, rows.{base}: control '{row.control}' is no other row. Known: {others}.")
        return row.control
    if of_recipe is None:
        return None
    found = next((other for other, r in study.rows.items() if r.recipe == of_recipe and other != base), None)
    if found is None:
        raise ValueError(
            f"study {name}, rows.{base}: recipe {row.recipe} names {of_recipe} as its control, which is no row here. "
            f"Add it as a row, or name another row with control."
        )
    return found
