"""The class of a whole recipe (tasks, data, model and training), and its conversion from and to plain values."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from mtbert import metrics
from mtbert.answers.fitting import FittedName
from mtbert.messages import clean
from mtbert.recipe.checks import check_recipe, check_tables
from mtbert.recipe.parts import DataRecipe, ModelRecipe, RangeOrChoices, TaskRecipe
from mtbert.recipe.tables import TableRecipe, WrongTable, drop_inherited, with_table, without_table
from mtbert.recipe.train_settings import TrainRecipe
from mtbert.settings import Settings, explain, tuples
from mtbert.task import LONGEST_NAME, NAME_PATTERN


class Recipe(Settings):
    """A recipe: all settings of a run. Validation also checks that its parts fit each other."""

    control: str | None = Field(
        default=None,
        description="the recipe that lacks just what this one tries, for studies; not passed on by extends",
    )
    tables: dict[Annotated[str, Field(pattern=NAME_PATTERN, max_length=LONGEST_NAME)], TableRecipe] = Field(
        default={}, description="sources that several tasks read; each task has label columns of its own"
    )
    tasks: dict[str, TaskRecipe] = Field(min_length=1, description="the tasks by their names")
    data: DataRecipe = Field(default=DataRecipe(), description="where files lie")
    model: ModelRecipe = Field(default=ModelRecipe(), description="the encoder")
    train: TrainRecipe = Field(default=TrainRecipe(), description="how the model is trained")
    tune: dict[str, RangeOrChoices] = Field(
        default={}, description="for mtbert tune: settings by their path, each with a range or a list of choices"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_tasks(cls, data: Any) -> Any:
        found = {**data} if isinstance(data, Mapping) else {}
        for key in ("tables", "tasks"):
            if isinstance(parts := found.get(key), Mapping):
                found[key] = {name: part for name, part in parts.items() if part is not None}
        if isinstance(tasks := found.get("tasks"), Mapping):
            found["tasks"] = {k: {**v, "name": k} if isinstance(v, Mapping) else v for k, v in tasks.items()}
        return found or data

    @field_validator("tasks", mode="wrap")
    @classmethod
    def _read_tables(cls, tasks: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Returns the validated tasks. A task that reads a table gets the table's settings before it is validated."""
        if not isinstance(tasks, Mapping):
            return handler(tasks)
        reading = [name for name, task in tasks.items() if isinstance(task, Mapping) and task.get("table") is not None]
        if "tables" not in info.data:  # they have mistakes of their own, which every task would repeat
            own = {name: task for name, task in tasks.items() if name not in reading}
            return handler(own) if own else {}
        found, wrong = dict(tasks), []
        for name in reading:
            try:
                found[name] = with_table(tasks[name], info.data["tables"])
            except WrongTable as error:
                at = (name, *error.key.split("."))
                wrong.append(InitErrorDetails(type="value_error", loc=at, input=tasks[name], ctx={"error": error}))
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return handler(found)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_tables(self.tables, self.tasks)
        check_recipe(self.tasks, self.model, self.train)
        return self

    def aggregate(self, name: str, scores: Mapping[str, Mapping[str, float]]) -> float:
        """Returns one number over all tasks: the aggregate called ``name``, such as ``overall``.

        ``scores`` maps each task to all its metrics. Only the metric that the recipe chooses for the task is used.
        """
        chosen = {task: (self.tasks[task].metric, values[self.tasks[task].metric]) for task, values in scores.items()}
        return metrics.aggregate(name, chosen)

    def fitted(self, name: str) -> tuple[FittedName, ...]:
        """Returns the names of the numbers, such as a threshold, that are fitted for the task called ``name``."""
        task, held_out = self.tasks[name], self.train.held_out > 0
        return task.fitted(self.train.calibrate, held_out=held_out) if task.scored else task.fitted(held_out=False)

    def holds_out(self, name: str) -> bool:
        """Returns whether train rows are held out to fit numbers, such as a threshold, for the task called ``name``."""
        task, train = self.tasks[name], self.train
        return train.held_out > 0 and task.scored and bool(task.predicts.fits.names(train.calibrate, held_out=True))

    def placeless(self) -> Self:
        """Returns a copy of the recipe without ``data.root``, for comparing recipes: the data may have been moved."""
        return self.model_copy(update={"data": DataRecipe()})

    def with_sources(self, change: Callable[[str, TableRecipe | TaskRecipe], Mapping[str, Any]]) -> Self:
        """Returns a copy of the recipe in which some settings, such as data files, are replaced.

        The function ``change`` is called once for each table, and once for each task with files of its own. It takes
        the name and the old settings of this table or task, and returns the new settings. New settings of a table also
        apply to all tasks that read the table.
        """
        changed: dict[str, Mapping[str, Any]] = {name: change(name, table) for name, table in self.tables.items()}
        changed |= {name: change(name, task) for name, task in self.tasks.items() if task.table is None}
        tables = {name: table.model_copy(update=changed[name]) for name, table in self.tables.items()}
        tasks = {name: task.model_copy(update=changed[task.source_name]) for name, task in self.tasks.items()}
        return self.model_copy(update={"tables": tables, "tasks": tasks})

    def tasks_by_table(self) -> dict[str, list[TaskRecipe]]:
        """Returns a dict that maps the name of each table to the tasks that read it.

        A task that has its own files, and no table, appears as a table of the same name with one task.
        """
        found: dict[str, list[TaskRecipe]] = {}
        for task in self.tasks.values():
            found.setdefault(task.source_name, []).append(task)
        return found

    def columns_of_words(self, name: str) -> frozenset[str]:
        """Returns the text columns whose cells may be lists of words, in the table that the task ``name`` reads.

        The result has the text column of every task that reads this table and assigns a label to each word.
        """
        readers = self.tasks_by_table()[self.tasks[name].source_name]
        return frozenset(task.columns.text[0] for task in readers if task.columns.words)

    def root(self) -> Path:
        """Returns the folder from which the relative paths of data files start."""
        return Path(self.data.root or ".")


def validate_recipe(raw: Mapping[str, Any], name: str, instead: Mapping[str, str] | None = None) -> Recipe:
    """Returns the validated recipe with the settings ``raw``.

    Args:
        raw: The content of a recipe file, after ``extends`` has been resolved.
        name: The name of the recipe in error messages.
        instead: A dict from the path of a key to a hint, such as another way to give the value. If ``raw`` lacks the
            key, the error ends with the hint.

    Raises:
        ValueError: If there are mistakes. The message contains one line for each mistake.
    """
    try:
        return Recipe.model_validate(tuples(raw))
    except ValidationError as error:
        raise ValueError("\n".join(f"recipe {clean(name)}, {line}" for line in explain(error, raw, instead))) from None


def as_plain(recipe: Recipe) -> dict[str, Any]:
    """Returns the recipe as nested dicts, lists and plain values, with all defaults filled in.

    Settings that a task inherits from its table, such as text columns, appear only under the table.
    """
    raw = recipe.model_dump(mode="json")
    if not recipe.tables:
        del raw["tables"]
    for name, task in raw["tasks"].items():
        del task["name"], task["soft"]  # soft follows from columns
        if task["table"] is None:
            del task["table"]
        else:
            raw["tasks"][name] = without_table(task)
    drop_inherited(raw)
    return raw
