"""The class of a whole recipe (tasks, data, model and training), and its conversion from and to plain values."""

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
    """A recipe: all settings of a run. Validation also checks that its parts fit each other."""

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
        """Returns one number over all tasks: the aggregate called ``name``, such as ``overall``.

        ``scores`` maps each task to all its metrics. Only the metric that the recipe chooses for the task is used.
        """
        chosen = {task: (self.tasks[task].metric, values[self.tasks[task].metric]) for task, values in scores.items()}
        return metrics.aggregate(name, chosen)

    def placeless(self) -> Self:
        """Returns a copy of the recipe without ``data.root``, because the data may be moved."""
        return self.model_copy(update={"data": DataRecipe()})

    def root(self) -> Path:
        """Returns the folder from which the relative paths of data files start."""
        return Path(self.data.root or ".")


def validate_recipe(raw: Mapping[str, Any], name: str, instead: Mapping[str, str] | None = None) -> Recipe:
    """Returns the validated recipe with the settings ``raw``.

    Args:
        raw: The content of a recipe file, after ``extends`` has been resolved.
        name: The name of the recipe in error messages.
        instead: Advice for error messages, by the path of a missing key: what may be given in its place.

    Raises:
        ValueError: If there are mistakes. The message has one line for each.
    """
    try:
        return Recipe.model_validate(tuples(raw))
    except ValidationError as error:
        raise ValueError("\n".join(f"recipe {clean(name)}, {line}" for line in explain(error, raw, instead))) from None


def as_plain(recipe: Recipe) -> dict[str, Any]:
    """Returns the recipe as nested dicts, lists and plain values, with all defaults filled in."""
    raw = recipe.model_dump(mode="json")
    for task in raw["tasks"].values():
        del task["name"]
    return raw
