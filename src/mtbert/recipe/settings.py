"""The whole recipe: tasks, data, model and training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from mtbert import metrics
from mtbert.messages import clean
from mtbert.recipe.checks import check_recipe
from mtbert.recipe.parts import DataRecipe, ModelRecipe, RangeOrChoices, TaskRecipe, TrainRecipe
from mtbert.settings import Settings, explain, tuples


class Recipe(Settings):
    """A recipe: all settings of a run, whose parts must fit each other."""

    control: str | None = Field(
        default=None,
        description="the recipe that lacks just what this one tries, for studies; not passed on by extends",
    )
    tasks: dict[str, TaskRecipe] = Field(min_length=1)
    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    train: TrainRecipe = TrainRecipe()
    tune: dict[str, RangeOrChoices] = Field(
        default={}, description="for mtbert tune: settings by their path, each with a range or a list of choices"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_tasks(cls, data: Any) -> Any:
        tasks = data.get("tasks") if isinstance(data, Mapping) else None
        if not isinstance(tasks, Mapping):
            return data
        named = {k: {**v, "name": k} if isinstance(v, Mapping) else v for k, v in tasks.items() if v is not None}
        return {**data, "tasks": named}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_recipe(self.tasks, self.model, self.train)
        return self

    def aggregate(self, name: str, scores: Mapping[str, Mapping[str, float]]) -> float:
        """Returns an aggregate over tasks, such as ``overall``, of the metric that each task has chosen.

        ``scores`` holds all metrics of each task.
        """
        chosen = {task: (self.tasks[task].metric, values[self.tasks[task].metric]) for task, values in scores.items()}
        return metrics.aggregate(name, chosen)

    def placeless(self) -> Self:
        """Returns the recipe without the place of its data, which may change."""
        return self.model_copy(update={"data": DataRecipe()})

    def root(self) -> Path:
        """Returns the folder from which relative paths of data start."""
        return Path(self.data.root or ".")


def validate_recipe(raw: Mapping[str, Any], name: str, instead: Mapping[str, str] | None = None) -> Recipe:
    """Returns ``raw`` as a recipe; ``name`` is what error messages call it, and ``instead`` is for :func:`explain`.

    Raises:
        ValueError: If there are mistakes; the message has one line for each.
    """
    try:
        return Recipe.model_validate(tuples(raw))
    except ValidationError as error:
        raise ValueError("\n".join(f"recipe {clean(name)}, {line}" for line in explain(error, raw, instead))) from None


def as_plain(recipe: Recipe) -> dict[str, Any]:
    """Returns the recipe as mappings, lists and plain values, with all defaults filled in."""
    raw = recipe.model_dump(mode="json")
    for task in raw["tasks"].values():
        del task["name"]
    return raw
