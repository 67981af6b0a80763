"""The tables of a recipe. Several tasks may read the same table, and each task has its own columns of labels."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from mtbert.data.sources import Source
from mtbert.data.split import SplitBy
from mtbert.data.tables import Columns
from mtbert.messages import few, near, shown
from mtbert.settings import Settings

# These settings belong to the table if a task reads one, and to the task itself if it has files of its own.
Dev = Annotated[Source | None, Field(description="null: dev_fraction of train, drawn as dev_split says")]
Test = Annotated[
    Source | None, Field(description="read only by mtbert evaluate --split test, which scores it as dev is scored")
]
DevFraction = Annotated[float, Field(gt=0, lt=1, description="share of train that becomes dev, if no dev is named")]
DevSeed = Annotated[
    int, Field(ge=0, description="seed of that split; not train.seed, so that all seeds have the same dev")
]
DevSplit = Annotated[
    SplitBy,
    Field(description="texts: rows that share a text stay together; rows: not so, and scores on dev are too good"),
]
BatchSize = Annotated[int, Field(gt=0, le=10**6, description="rows in a batch, over all processes and shards")]
NoDuplicates = Annotated[bool, Field(description="no batch holds two texts that mean the same, if possible")]
OF_TABLE = ("train", "dev", "test", "dev_fraction", "dev_seed", "dev_split", "batch_size", "no_duplicates")


class TableColumns(Settings):
    """The columns that tasks of a table share. Each task has its own label columns, and may name other text columns."""

    text: tuple[str, ...] = Field(default=("text",), description="one or two columns, for tasks that name no others")
    id: str | None = Field(default=None, description="null: rows are numbered from 1")

    @field_validator("text", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return Columns(text=value).text


class TableRecipe(Settings):
    """The settings of a table, which several tasks can read: where its rows come from, and how they are drawn."""

    train: Source = Field(description="the rows to train on: a file, several files, or a mapping")
    dev: Dev = None
    test: Test = None
    dev_fraction: DevFraction = 0.1
    dev_seed: DevSeed = 0
    dev_split: DevSplit = "texts"
    batch_size: BatchSize = 16
    no_duplicates: NoDuplicates = False
    columns: TableColumns = Field(default=TableColumns(), description="the columns that all tasks of the table read")

    @model_validator(mode="after")
    def _test_is_held_out(self) -> Self:
        check_held_out(self.train, self.dev, self.test)
        return self


def check_held_out(train: Source, dev: Source | None, test: Source | None) -> None:
    """Raises ValueError if ``test`` reads the same data as ``train`` or ``dev``."""
    for name, source in (("train", train), ("dev", dev)):
        if test is not None and source is not None and test.shares(source):
            raise ValueError(f"test and {name} are the same data, so test would tell nothing. Name another source.")


def long_label(task: dict[str, Any]) -> dict[str, Any]:
    """Returns a copy of a task's settings in which the key ``label`` is moved into ``columns``.

    If ``columns`` contains ``label`` already, returns ``task`` unchanged.

    >>> long_label({"type": "binary", "label": "spam"})
    {'type': 'binary', 'columns': {'label': 'spam'}}
    """
    columns = task.get("columns", {})
    if "label" not in task or not isinstance(columns, Mapping) or "label" in columns:
        return task
    rest = {key: value for key, value in task.items() if key != "label"}
    return {**rest, "columns": {**columns, "label": task["label"]}}


class WrongTable(ValueError):
    """Raised for a task that does not fit its table; ``key`` is the path of the task's wrong setting."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


def with_table(task: Mapping[str, Any], tables: Mapping[str, TableRecipe]) -> dict[str, Any]:
    """Returns the settings of a task together with the settings of the table that it names.

    Raises:
        WrongTable: If there is no such table, or the task has a setting that belongs to the table.
    """
    name, columns = task["table"], task.get("columns", {})
    if not isinstance(name, str):
        raise WrongTable("table", f"must be the name of a table, found {shown(name)}. Known: {few(tables)}.")
    if name not in tables:
        if not tables:
            why = f"the recipe has no tables, so there is no {shown(name)}"
            raise WrongTable(
                "table", f"{why}. Write train: FILE in place of table, or add tables: {{NAME: {{train: FILE}}}}."
            )
        raise WrongTable("table", f"there is no table {shown(name)}.{near(name, tables, f'Known: {few(tables)}.')}")
    # A recipe writes null beside table to drop what the recipe that it extends has there.
    of_table = [key for key in OF_TABLE if task.get(key) is not None]
    of_table += ["columns.id"] if isinstance(columns, Mapping) and columns.get("id") is not None else []
    if of_table:
        raise WrongTable(
            of_table[0], f"belongs to the table, not to a task that reads it. Move it to tables.{name}.{of_table[0]}."
        )
    table = tables[name]
    found = {**task, **{key: getattr(table, key) for key in OF_TABLE}}
    if isinstance(columns, Mapping):
        found["columns"] = {"text": table.columns.text, **columns, "id": table.columns.id}
    return found


def drop_inherited(raw: Mapping[str, Any]) -> None:
    """Removes the text columns of each task whose table has the same text columns.

    ``raw`` is the content of a recipe. A task without text columns of its own reads the text columns of its table.
    """
    tables, tasks = raw.get("tables"), raw.get("tasks")
    if not isinstance(tables, Mapping) or not isinstance(tasks, Mapping):
        return
    for task in tasks.values():
        table = tables.get(task.get("table")) if isinstance(task, Mapping) else None
        own, shared = (each.get("columns") if isinstance(each, Mapping) else None for each in (task, table))
        if isinstance(own, dict) and isinstance(shared, Mapping) and own.get("text") == shared.get("text"):
            own.pop("text", None)


def without_table(task: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a task, but leaves out ``columns.id`` and all keys in ``OF_TABLE``, such as ``train``.

    The settings that are left out belong to the task's table.
    """
    found = {key: value for key, value in task.items() if key not in OF_TABLE}
    if isinstance(columns := found.get("columns"), Mapping):
        found["columns"] = {key: value for key, value in columns.items() if key != "id"}
    return found
