"""The parts of a recipe: each task with its data and losses, the encoder, and the ranges for tuning.

Each part validates its own settings. Conditions that involve several parts are checked in ``checks.py``.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from mtbert.answers.heads import HEADS
from mtbert.answers.known import ANSWER_TYPES
from mtbert.data.cells import check_name
from mtbert.data.sources import Source
from mtbert.data.tables import Columns
from mtbert.kinds import by_kind
from mtbert.losses import ClassWeighted, LossSettings, LossWeight
from mtbert.losses.known import LOSSES
from mtbert.messages import count, few, shown
from mtbert.model.settings import Lora, Pal
from mtbert.recipe.label_columns import check_columns, with_columns
from mtbert.recipe.tables import (
    BatchSize,
    Dev,
    DevFraction,
    DevSeed,
    DevSplit,
    NoDuplicates,
    Test,
    check_held_out,
    long_label,
)
from mtbert.settings import Settings
from mtbert.task import Pooling, Task


class TaskRecipe(Task):
    """A task of a recipe, with its data, its losses and the settings of its training."""

    short: ClassVar[tuple[str, ...]] = ("label",)

    train: Source = Field(description="the rows to train on: a file, several files, or a mapping")
    dev: Dev = None
    test: Test = None
    dev_fraction: DevFraction = 0.1
    dev_seed: DevSeed = 0
    dev_split: DevSplit = "texts"
    columns: Columns = Field(
        default=Columns(), validate_default=True, description="the columns of the files that hold texts and labels"
    )
    losses: tuple[Annotated[LossSettings, LOSSES], ...] = Field(
        default=(),
        validate_default=True,
        description="a name or a mapping each; by default the first loss that fits the type",
    )
    weight: LossWeight = Field(default=1.0, description="factor of this task's losses in the sum")
    batch_size: BatchSize = 16
    no_duplicates: NoDuplicates = False
    metric: str = Field(
        default="",
        validate_default=True,
        description="the metric that counts in overall; by default the first of the type",
    )
    table: str | None = Field(default=None, description="the table that the task reads; null: files of its own")

    @model_validator(mode="before")
    @classmethod
    def _label_alone(cls, data: Any) -> Any:
        """Reads ``label: stars``, which is short for ``columns: {label: stars}``."""
        if not isinstance(data, dict):
            return data
        found = long_label(data)
        if "label" in found:
            raise ValueError("label is short for columns.label, which the task has too. Drop one of them.")
        return found

    @model_validator(mode="before")
    @classmethod
    def _labels_from_columns(cls, data: Any) -> Any:
        return with_columns(data)

    @field_validator("columns")
    @classmethod
    def _columns_fit_the_type(cls, columns: Columns, info: ValidationInfo) -> Columns:
        return columns.read_by(ANSWER_TYPES[info.data["type"]]) if "type" in info.data else columns

    @field_validator("losses")
    @classmethod
    def _default_loss(cls, losses: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        if losses or not {"type", "head"} <= info.data.keys():  # a wrong type or head is an error already
            return losses
        predicts = ANSWER_TYPES[info.data["type"]].predictions.get(HEADS[info.data["head"].kind].gives)
        return () if predicts is None else (LOSSES.classes[predicts.loss](),)

    @field_validator("metric")
    @classmethod
    def _default_metric(cls, metric: str, info: ValidationInfo) -> str:
        return metric if metric or "type" not in info.data else ANSWER_TYPES[info.data["type"]].choosable[0]

    @model_validator(mode="after")
    def _fits_the_type(self) -> Self:
        kinds = [loss.kind for loss in self.losses]
        for loss in self.losses:
            if self.soft and loss.needs.labels and not loss.needs.soft:
                raise ValueError(
                    f"loss '{loss.kind}' needs one label for each example, and columns.{self.soft} gives a "
                    f"distribution. Use {self.predicts.loss}, or columns.label."
                )
            if self.columns.weight is not None and loss.needs.compares:
                raise ValueError(
                    f"loss '{loss.kind}' compares the examples of a batch with each other, so columns.weight cannot "
                    "weight them. Drop columns.weight, or the loss."
                )
            if loss.needs.reads and not set(loss.needs.reads) & set(self.predicts.feeds):
                raise ValueError(
                    f"loss '{loss.kind}' needs {loss.needs.because}, which type '{self.type}' with head "
                    f"'{self.head.kind}' does not give. Use {self.predicts.loss}, or another type or head."
                )
            if loss.needs.vectors and not self.has_vectors:
                raise ValueError(
                    f"loss '{loss.kind}' needs vectors of texts, which type '{self.type}' has not. Drop it."
                )
            if self.inputs not in loss.needs.inputs:
                raise ValueError(
                    f"loss '{loss.kind}' needs {loss.needs.because}, which inputs '{self.inputs}' do not give. "
                    f"Use inputs: {' or '.join(loss.needs.inputs)}, or add a task of such inputs on the same file."
                )
            if kinds.count(loss.kind) > 1:
                raise ValueError(
                    f"loss '{loss.kind}' stands {kinds.count(loss.kind)} times. Name it once, with a weight."
                )
        if self.splitter is not None and not self.reads_words:
            raise ValueError(f"splitter is for labels of words, found type '{self.type}'. Drop splitter.")
        choosable = self.answer.choosable
        if self.metric not in choosable:
            raise ValueError(
                f"metric {shown(self.metric)} does not fit type '{self.type}'. Use {' or '.join(choosable)}."
            )
        if self.texts not in (None, len(self.columns.text)) and self.train.generated is None:
            found = few(self.columns.text, quoted=True)
            raise ValueError(
                f"inputs '{self.inputs}' takes {count(self.texts, 'text column')}, found {found}. "
                "Name as many in columns.text."
            )
        return self

    @model_validator(mode="after")
    def _columns_are_labels(self) -> Self:
        check_columns(self, self.columns, generated=self.train.generated is not None)
        return self

    @model_validator(mode="after")
    def _weights_fit_the_labels(self) -> Self:
        for loss in self.losses:
            weights = loss.class_weights if isinstance(loss, ClassWeighted) else None
            if isinstance(weights, tuple) and len(weights) != len(self.labels or ()):
                raise ValueError(
                    f"loss '{loss.kind}': class_weights must be one number per class, found {len(weights)} for "
                    f"{len(self.labels) if self.labels else 'unnamed'} labels. Name the labels in their order."
                )
        return self

    @model_validator(mode="after")
    def _test_is_held_out(self) -> Self:
        check_held_out(self.train, self.dev, self.test)
        return self

    @property
    def source_name(self) -> str:
        """The name of the table that the task reads; for a task with files of its own, the name of the task."""
        return self.table or self.name

    @property
    def scored(self) -> bool:
        """Whether the task is trained to predict its labels. Only then are its predictions scored.

        If the head has weights, a loss must read the labels and train these weights. If the head has no weights, any
        loss that reads the labels is enough.
        """
        in_head = self.head_kind.has_weights
        return any(loss.needs.labels and not (loss.needs.vectors and in_head) for loss in self.losses)

    def head_dropout(self, loss: LossSettings) -> float:
        """Returns the dropout rate of the head while ``loss`` is computed; 0 if the loss does not use the head."""
        return 0.0 if loss.needs.vectors else self.dropout

    @property
    def task(self) -> Task:
        """The part of the task's settings that is saved with the model. Settings of data and training are left out."""
        return Task(**{name: getattr(self, name) for name in Task.model_fields})


class DataRecipe(Settings):
    """The settings of the data as a whole: the folder that holds the files."""

    root: str | None = Field(default=None, description="folder of relative paths; null: the folder of the recipe file")

    @field_validator("root")
    @classmethod
    def _can_be_a_name(cls, value: str | None) -> str | None:
        check_name(value or "")
        return value


class ModelRecipe(Settings):
    """The encoder and the model settings that all tasks share."""

    path: str = Field(default="demo", description="a folder, a hub id, a finished run, or 'demo' (the packaged MiniLM)")
    pooling: Pooling = Field(default="cls", description="cls: the checkpoint's pooled [CLS]; mean: mean of all tokens")
    max_length: int = Field(default=128, ge=8, description="most tokens of a sequence; longer texts are cut")
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="dropout rate of the encoder; null: as in its config"
    )
    pal: Annotated[Pal | None, BeforeValidator(by_kind, json_schema_input_type=Pal | str | None)] = Field(
        default=None, description="projected attention layers of each task"
    )
    lora: Lora | None = Field(default=None, description="train only low-rank changes of the encoder's layers")
    freeze: Literal["all"] | Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="0: the embeddings; a number: the lowest layers too; all: the whole encoder"
    )
    unshare: int = Field(default=0, ge=0, description="top layers of which each task has its own copy")

    @model_validator(mode="after")
    def _trains_something(self) -> Self:
        if self.lora is not None and self.freeze is not None:
            raise ValueError(
                f"freeze: {self.freeze} beside lora, which freezes all of the encoder's own weights. Drop one of them."
            )
        if self.unshare and (self.lora is not None or self.freeze == "all"):
            other = "lora" if self.lora is not None else "freeze: all"
            raise ValueError(
                f"unshare: {self.unshare} beside {other}, which trains no layer of the encoder itself, so all copies "
                "would stay equal. Drop one of them."
            )
        return self

    def adapts(self, task: str) -> bool:
        """Returns whether the task called ``task`` has an adapter: networks of its own beside the encoder's layers."""
        return self.pal is not None and self.pal.adapts(task)

    def adapter_dropout(self, task: str) -> float:
        """Returns the dropout rate in the adapter of the task called ``task``; 0 if the task has no adapter."""
        return self.pal.dropout_of(task) if self.pal is not None else 0.0


class Range(Settings):
    """A range in which ``mtbert tune`` searches for a number. If both ends are integers, so is the number."""

    low: int | float = Field(description="the smallest value that is tried")
    high: int | float = Field(description="the largest value that is tried")
    log: bool = Field(default=False, description="true: draw on a logarithmic scale")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, found {self.low:g} and {self.high:g}.")
        if self.log and self.low <= 0:
            raise ValueError(f"with log low must be more than 0, found {self.low:g}.")
        return self


RangeOrChoices = Annotated[
    Annotated[Range, Tag("[range]")] | Annotated[tuple[Any, ...], Field(min_length=2), Tag("[choices]")],
    Discriminator(lambda value: "[choices]" if isinstance(value, tuple) else "[range]"),
]
