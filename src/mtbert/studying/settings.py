"""The settings in a study's file: recipes, seeds, a grid of settings, and scores of a paper to compare with."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from mtbert import metrics
from mtbert.settings import Settings

OVERALL = "overall"  # the score over all tasks
ROW_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.,=+-]{0,99}$"  # it becomes part of a folder's name
MOST_RUNS = 10_000

PrintedScores = Mapping[str, float]  # by TASK.METRIC, or overall


class RowSettings(Settings):
    """A row of a study's file: a recipe that the study compares, and changes of settings in this recipe."""

    recipe: str = Field(description="a path, relative to the study's file, or the name of a shipped recipe")
    set: tuple[str, ...] = Field(default=(), description="changes of the recipe as a.b=c, made after the study's")
    control: str | None = Field(
        default=None, description="the row that lacks one technique of this row; null: as the recipe's control says"
    )


class Sizes(Settings):
    """The number of examples in each part of a task's data."""

    train: int = Field(ge=0)
    dev: int = Field(ge=0)
    test: int = Field(ge=0)


class Printed(Settings):
    """Numbers that another source, such as a paper, gives for recipes of the study.

    The report shows them beside the study's own numbers. The key of a score is ``overall``, or ``TASK.METRIC`` as in
    ``sts.pearson``. A task's score is shown only if its metric is the one that the study uses for the task.
    """

    source: str = Field(min_length=1, max_length=100, description="the source's name in the report")
    note: str | None = Field(default=None, description="what the source does differently; the report shows it")
    digits: int = Field(default=3, ge=1, le=10, description="decimal places of the scores")
    dev: dict[str, dict[str, float]] = Field(default={}, description="scores on dev, by row")
    test: dict[str, dict[str, float]] = Field(default={}, description="scores on test, by row")
    sizes: dict[str, Sizes] = Field(default={}, description="numbers of examples, by task")

    def said(self, score: float | None) -> str:
        """Returns a score as a text with ``digits`` decimal places; an empty text for None."""
        return "" if score is None else f"{score:.{self.digits}f}"

    def contradicted(self, scores: PrintedScores) -> float | None:
        """Returns the right overall score if ``scores["overall"]`` is wrong, otherwise None.

        The right overall score is computed from the scores of the tasks. A difference that rounding explains is not an
        error. Nothing is checked if there is no overall score, or if there are scores of fewer than two tasks.
        """
        parts = ((key.rpartition("."), score) for key, score in scores.items() if key != OVERALL)
        by_task = {task: (metric, score) for (task, _, metric), score in parts}
        if OVERALL not in scores or len(by_task) < 2:
            return None
        formula = metrics.aggregate(OVERALL, by_task)
        # Rounding changes every printed score by half a unit of the last place at most. The overall score scales each
        # task's score to the range from 0 to 1, which halves the change of a correlation.
        weights = [metrics.unit_scale(metric, 1.0) - metrics.unit_scale(metric, 0.0) for metric, _ in by_task.values()]
        rounding = 10**-self.digits / 2 * (math.fsum(weights) / len(weights) + 1)
        return formula if abs(formula - scores[OVERALL]) > rounding else None


class StudySettings(Settings):
    """The content of a study's file: which recipes are run with which seeds, and how the runs are compared."""

    rows: dict[
        Annotated[str, Field(pattern=ROW_NAME)],
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
    printed: Printed | None = Field(default=None, description="numbers from another source, to compare with")

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
        if runs > MOST_RUNS:
            raise ValueError(f"grid: makes {runs:,} runs, and a study has {MOST_RUNS:,} at most. Give fewer values.")
        return self
