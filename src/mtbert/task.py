"""The settings of tasks: the part of a recipe that a trained model keeps. This module does not import torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from mtbert.answers import AnswerType, Metric, PredictionKind, SoftKind
from mtbert.answers.fitting import Calibrate, FittedName
from mtbert.answers.heads import HEADS, OUTPUTS, HeadKind, HeadName
from mtbert.answers.known import ANSWER_TYPES, TypeName
from mtbert.settings import Settings

Pooling = Literal["cls", "mean"]
Splitter = Literal["unicode", "unicode-joined"]  # ``data/words.py`` says what a word is
Reads = Pooling | Literal["words"]  # what a head reads of the last layer: a vector per sequence, or states of words
NAME_PATTERN, LONGEST_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$", 100  # of tasks and tables
_Column = TypeVar("_Column")


class Head(Settings):
    """The settings of a head: the layers that turn the vectors of an example into its prediction."""

    kind: HeadName = "linear"
    features: Literal["concat", "concat_diff", "concat_diff_product"] = Field(
        default="concat_diff",
        description="separate inputs only: (u, v), (u, v, |u-v|) or (u, v, |u-v|, u*v)",
    )
    hidden: int | None = Field(
        default=None, gt=0, le=2**16, description="mlp only: width between the layers; null = the encoder's"
    )
    dropout: float = Field(default=0.3, ge=0, lt=1, description="dropout rate before each layer of the head")


def _as_read(names: Any) -> Any:
    """Returns ``names`` as a tuple in which the texts ``"true"`` and ``"false"`` replace the booleans True and False.

    Booleans in data files are also read as ``"true"`` and ``"false"``. If ``names`` is neither a list nor a tuple, it
    is returned unchanged.
    """
    if not isinstance(names, list | tuple):
        return names
    return tuple(str(name).lower() if isinstance(name, bool) else name for name in names)


class Task(Settings):
    """The settings of one task. A trained model keeps them to make predictions."""

    name: str = Field(pattern=NAME_PATTERN, max_length=LONGEST_NAME)
    type: TypeName = Field(description="the form of the answer")
    inputs: Literal["single", "packed", "separate"] = Field(
        description="one text, two texts in one sequence, or a sequence for each text"
    )
    head: Head = Field(default=Head(), description="the layers above the encoder: a name, or a mapping")
    pooling: Pooling | None = Field(default=None, description="null: the model's, or the one that the head reads")
    segments: bool = Field(default=True, description="false: every segment id is 0, also for the second text of a pair")
    labels: tuple[str, ...] | None = Field(
        default=None, description="class names in order; null: those of the train file"
    )
    codes: tuple[str, ...] | None = Field(
        default=None, description="how files write the classes, in the order of labels; null: by their names"
    )
    range: tuple[float, float] | None = Field(
        default=None, description="lowest and highest score; null: as in the files"
    )
    soft: SoftKind | None = Field(
        default=None, description="labels are distributions; follows from columns.votes or columns.shares"
    )
    splitter: Splitter | None = Field(
        default=None,
        description="tokens only: unicode reads a text as it is, unicode-joined reads its words with single spaces "
        "between them; null: as train has texts or words. A trained model keeps unicode-joined for every task that "
        "was trained on lists of words",
    )

    @model_validator(mode="before")
    @classmethod
    def _labels_by_code(cls, data: Any) -> Any:
        """Splits ``labels: {"0": bad, "1": good}`` into the codes that files use and the names of the classes."""
        labels = data.get("labels") if isinstance(data, Mapping) else None
        if not isinstance(labels, Mapping):
            return data
        if data.get("codes") is not None:
            raise ValueError("labels: a mapping holds codes and names, so codes beside it say it twice. Drop codes.")
        codes = [code if isinstance(code, bool) else str(code) for code in labels]
        return {**data, "labels": tuple(labels.values()), "codes": tuple(codes)}

    # _labels_by_code has split a mapping already; the type adds the mapping to the schema.
    @field_validator(
        "labels", mode="before", json_schema_input_type=tuple[str | bool, ...] | dict[str, str | bool] | None
    )
    @classmethod
    def _labels_as_read(cls, value: Any) -> Any:
        return _as_read(value)

    @field_validator("codes", mode="before", json_schema_input_type=tuple[str | bool, ...] | None)
    @classmethod
    def _codes_as_read(cls, value: Any) -> Any:
        return _as_read(value)

    @field_validator("head", mode="before", json_schema_input_type=Head | HeadName)
    @classmethod
    def _head_by_name(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        kind = self.head_kind
        gives = kind.gives
        if gives not in self.answer.predictions and OUTPUTS not in self.answer.predictions:
            head = next(name for name, other in HEADS.items() if other.gives in self.answer.predictions)
            raise ValueError(f"type '{self.type}' needs head '{head}', found '{self.head.kind}'. Use head: {head}.")
        if self.inputs not in kind.inputs:
            other = ", or head: linear" if OUTPUTS in self.answer.predictions else ""
            raise ValueError(
                f"head '{self.head.kind}' {kind.because}, so inputs must be {' or '.join(map(repr, kind.inputs))}, "
                f"found '{self.inputs}'. Use inputs: {kind.inputs[-1]}{other}."
            )
        if kind.reads and self.pooling not in (None, kind.pooling):
            raise ValueError(
                f"head '{self.head.kind}' {kind.reads}, found pooling '{self.pooling}'. Use pooling: {kind.pooling}."
            )
        if self.reads_words:
            if kind.reads:
                raise ValueError(
                    f"head '{self.head.kind}' {kind.reads}, and type '{self.type}' reads a state for each word. "
                    "Use head: linear."
                )
            if self.inputs != "single":
                raise ValueError(
                    f"type '{self.type}' labels the words of one text; with two it would be unclear which words the "
                    f"labels belong to. So inputs must be 'single', found '{self.inputs}'. Use inputs: single."
                )
            if self.pooling is not None:
                raise ValueError(
                    f"pooling makes one vector of a text, and type '{self.type}' reads a state for each word, found "
                    f"'{self.pooling}'. Drop pooling."
                )
        if gives not in self.answer.predictions:
            fitting = [
                f"'{name}'"
                for name, answer in ANSWER_TYPES.items()
                if gives in answer.predictions and answer.predictions[gives].shape(self) == ()
            ]
            raise ValueError(
                f"head '{self.head.kind}' gives one number, so type must be {' or '.join(fitting)}, found "
                f"'{self.type}'. Use head: linear."
            )
        if self.soft and ANSWER_TYPES[self.type].soft is None:
            fitting = [f"'{name}'" for name, answer in ANSWER_TYPES.items() if answer.soft]
            raise ValueError(
                f"{self.soft} are of classes, so type must be {' or '.join(fitting)}, found '{self.type}'. "
                f"Use columns.label."
            )
        self.answer.labels.check(self)
        return self

    @property
    def answer(self) -> AnswerType:
        """The answer type of the task."""
        return ANSWER_TYPES[self.type].with_labels(self.soft)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the task's answer type.

        If the task's head gives no probabilities, the metrics that need probabilities are left out.
        """
        return tuple(m for m in self.answer.metrics if not m.probabilities or self.predicts.gives_probability)

    @property
    def head_kind(self) -> HeadKind:
        """The properties of the kind of head that the task has."""
        return HEADS[self.head.kind]

    @property
    def predicts(self) -> PredictionKind[Any]:
        """The kind of predictions that the task's head makes. The kind says what the numbers in a prediction mean."""
        return self.answer.predictions[self.head_kind.gives]

    def metric_named(self, name: str) -> Metric:
        """Returns the metric called ``name``.

        Raises:
            KeyError: If the task has no such metric.
        """
        return {metric.name: metric for metric in self.metrics}[name]

    def fitted(self, calibrate: Calibrate = False, *, held_out: bool = True) -> tuple[FittedName, ...]:
        """Returns the names of the numbers, such as ``threshold``, that are fitted for the task and saved in its head.

        Args:
            calibrate: The setting ``train.calibrate`` of the run.
            held_out: Whether the run holds out train rows to fit these numbers.
        """
        return self.predicts.fits.names(calibrate, held_out=held_out)

    @property
    def dropout(self) -> float:
        """The dropout rate in the task's head. It is 0 for a head without weights."""
        return self.head.dropout if self.head_kind.has_weights else 0.0

    def pooled(self, default: Pooling) -> Reads:
        """Returns the pooling that makes one vector from a sequence of tokens, for the task's head.

        The task may set a pooling. If the task sets none, its kind of head may set a pooling. If both set none, the
        pooling is ``default``. For a task that assigns a label to each word, the result is ``words``, because the head
        then reads a vector for each word.
        """
        return "words" if self.reads_words else self.pooling or self.head_kind.pooling or default

    @property
    def has_vectors(self) -> bool:
        """Whether the task's head reads vectors of texts. It reads none if the task assigns a label to each word."""
        return not self.reads_words

    @property
    def reads_words(self) -> bool:
        """Whether the task assigns a label to each word. If so, its head reads the encoder's output for each word."""
        return self.answer.labels.per == "word"

    @property
    def texts(self) -> int | None:
        """The number of texts in an example, 1 or 2. None for a ranking, where examples have any number of texts."""
        return self.answer.labels.texts(self.inputs)

    def takes(self, texts: int) -> bool:
        """Returns whether an example of the task can consist of this many texts."""
        return texts >= 2 if self.texts is None else texts == self.texts

    def packed(self, columns: Sequence[_Column]) -> tuple[tuple[_Column, ...], ...]:
        """Returns the text columns in groups. The texts of a group are encoded together as one token sequence.

        If ``inputs`` is ``separate``, each column is a group of its own. Otherwise, all columns form one group.
        """
        return tuple((column,) for column in columns) if self.inputs == "separate" else (tuple(columns),)
