"""The whole recipe: tasks, data, model and training, which must fit each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from mtbert import metrics
from mtbert.losses import Averaged
from mtbert.messages import clean, few, shown
from mtbert.recipe.parts import DataRecipe, ModelRecipe, RangeOrChoices, TaskRecipe, TrainRecipe
from mtbert.settings import Settings, explain, tuples


class Recipe(Settings):
    """A whole run."""

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
    def _names_exist(self) -> Self:
        for reserved in ("overall", "mean"):
            if reserved in self.tasks:
                raise ValueError(f"a task cannot be called '{reserved}': that is the name of an aggregate. Rename it.")
        scored = [name for name, task in self.tasks.items() if task.scored]
        if not scored:
            raise ValueError(
                "no task has a loss that trains its predictions, so nothing could be scored. Add bce, ce or mse."
            )
        if self.train.select not in metrics.aggregates(scored):
            known = few(metrics.aggregates(scored))
            raise ValueError(
                f"train.select: {shown(self.train.select)} is neither an aggregate nor a task. Use {known}."
            )
        return self

    @model_validator(mode="after")
    def _techniques_fit(self) -> Self:
        for name, task in self.tasks.items():
            for loss in task.losses:
                where = f"tasks.{name}: loss '{loss.kind}'"
                if loss.needs.dropout and self.model.dropout == 0 and task.head_dropout(loss) == 0:
                    raise ValueError(
                        f"{where} compares two passes that differ in dropout alone, found model.dropout 0. "
                        "Set model.dropout: 0.1, or leave it to the encoder's config (null)."
                    )
                if isinstance(loss, Averaged) and self.train.ema is None:
                    raise ValueError(
                        f"{where} compares with averaged weights, found no train.ema. "
                        "Set train.ema: {decay: 0.99, predicts: false}."
                    )
        read = any(isinstance(loss, Averaged) for task in self.tasks.values() for loss in task.losses)
        if self.train.ema is not None and not self.train.ema.predicts and not read:
            raise ValueError(
                "train.ema: with predicts: false only losses read the average, and none here does. "
                "Drop train.ema, or add loss 'bregman'."
            )
        if len(self.tasks) == 1:
            for setting, asked in (
                ("aggregation", self.train.aggregation.kind != "sum"),
                ("conflicts", self.train.conflicts),
                ("sampler", self.train.sampler.kind != "round_robin"),
            ):
                if asked:
                    raise ValueError(f"train.{setting} is about several tasks, found one. Drop it, or add a task.")
        unknown = [name for name in (self.model.pal and self.model.pal.tasks) or () if name not in self.tasks]
        if unknown:
            raise ValueError(
                f"model.pal.tasks: there is no task {shown(unknown[0])}. Known: {few(self.tasks)}. Mend the name."
            )
        if self.model.freeze == "all":
            for setting, asked in (
                ("aggregation", self.train.aggregation.kind != "sum"),
                ("conflicts", self.train.conflicts),
                ("layer_decay", self.train.layer_decay is not None),
            ):
                if asked:
                    raise ValueError(
                        f"train.{setting} is about weights that the tasks share, and model.freeze: all trains none of "
                        f"them. Freeze fewer layers, or drop train.{setting}."
                    )
            for name, task in self.tasks.items():
                adapted = self.model.pal is not None and self.model.pal.adapts(name)
                if not task.head_kind.has_weights and not adapted:
                    raise ValueError(
                        f"tasks.{name}: head '{task.head.kind}' has no weights, so with model.freeze: all there is "
                        "nothing to train. Freeze fewer layers, or use head: linear."
                    )
        return self

    def aggregate(self, name: str, scores: Mapping[str, Mapping[str, float]]) -> float:
        """The named aggregate of each task's chosen metric, from all metrics by task."""
        chosen = {task: (self.tasks[task].metric, values[self.tasks[task].metric]) for task, values in scores.items()}
        return metrics.aggregate(name, chosen)

    def placeless(self) -> Self:
        """Returns the recipe without the place of its data, which may move while the recipe stays the same."""
        return self.model_copy(update={"data": DataRecipe()})

    def root(self) -> Path:
        """The folder that relative data paths start from."""
        return Path(self.data.root or ".")


def validate_recipe(raw: Mapping[str, Any], name: str) -> Recipe:
    """Returns ``raw`` as a recipe; ``name`` is what error messages call it.

    Raises:
        ValueError: With one line per mistake.
    """
    try:
        return Recipe.model_validate(tuples(raw))
    except ValidationError as error:
        raise ValueError("\n".join(f"recipe {clean(name)}, {line}" for line in explain(error, raw))) from None


def as_plain(recipe: Recipe) -> dict[str, Any]:
    """Returns the recipe as mappings, lists and plain values, everything filled in."""
    raw = recipe.model_dump(mode="json")
    for task in raw["tasks"].values():
        del task["name"]
    return raw
