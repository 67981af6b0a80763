"""Tasks: the part of a recipe that a trained model keeps. No torch here."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from mtbert.messages import few
from mtbert.settings import Settings

Pooling = Literal["cls", "mean"]
HeadKind = Literal["linear", "mlp", "cosine"]
_Column = TypeVar("_Column")
_Score = TypeVar("_Score", float, npt.NDArray[np.float64])


RANGES = "between -1e100 and 1e100, its ends at least 1e-100 apart"  # squares of scores and differences are numbers


def is_range(low: float, high: float) -> bool:
    """Returns whether scores from ``low`` to ``high`` can be computed with: what :data:`RANGES` says."""
    return max(abs(low), abs(high)) <= 1e100 and high - low >= 1e-100


class Head(Settings):
    """The layers that turn the vectors of an example into its prediction."""

    kind: HeadKind = "linear"
    features: Literal["concat", "concat_diff", "concat_diff_product"] = Field(
        default="concat_diff",
        description="separate inputs only: (u, v), (u, v, |u-v|) or (u, v, |u-v|, u*v)",
    )
    hidden: int | None = Field(
        default=None, gt=0, le=2**16, description="mlp only: width between the layers; null = the encoder's"
    )
    dropout: float = Field(default=0.3, ge=0, lt=1)


class Task(Settings):
    """A task as a model needs it to predict."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)
    type: Literal["classification", "ordinal", "binary", "regression"]
    inputs: Literal["single", "packed", "separate"]
    head: Head = Head()
    pooling: Pooling | None = Field(default=None, description="null: the model's; the cosine head takes the mean")
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

    @model_validator(mode="before")
    @classmethod
    def _labels_by_code(cls, data: Any) -> Any:
        """Takes ``labels: {"0": bad, "1": good}`` apart into codes, as files write them, and names."""
        labels = data.get("labels") if isinstance(data, Mapping) else None
        if not isinstance(labels, Mapping):
            return data
        if data.get("codes") is not None:
            raise ValueError("labels: a mapping holds codes and names, so codes beside it say it twice. Drop codes.")
        codes = [str(code).lower() if isinstance(code, bool) else str(code) for code in labels]
        return {**data, "labels": tuple(labels.values()), "codes": tuple(codes)}

    @field_validator("labels", mode="before", json_schema_input_type=tuple[str, ...] | dict[str, str] | None)
    @classmethod
    def _names(cls, value: Any) -> Any:
        return value  # a mapping was taken apart before; this says so in the schema

    @field_validator("head", mode="before", json_schema_input_type=Head | HeadKind)
    @classmethod
    def _head_by_name(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.head.kind == "cosine":
            if self.inputs != "separate":
                raise ValueError(
                    f"head 'cosine' compares two vectors, so inputs must be 'separate', found '{self.inputs}'. "
                    "Use inputs: separate, or head: linear."
                )
            if self.type not in ("binary", "regression"):
                raise ValueError(
                    f"head 'cosine' gives one number, so type must be 'binary' or 'regression', found '{self.type}'. "
                    "Use head: linear."
                )
            if self.pooling == "cls":
                raise ValueError("head 'cosine' compares means over tokens, found pooling 'cls'. Use pooling: mean.")
        if self.labels is not None:
            if not self.is_class:
                raise ValueError("labels are for classes; a regression task has a range. Drop labels.")
            if len(set(self.labels)) != len(self.labels):
                raise ValueError(f"labels must differ from each other, found {few(self.labels, quoted=True)}.")
            if len(self.labels) < 2 or (self.type == "binary" and len(self.labels) != 2):
                need = "exactly 2" if self.type == "binary" else "at least 2"
                raise ValueError(f"type '{self.type}' needs {need} labels, found {len(self.labels)}.")
        if self.codes is not None and len(self.codes) != len(self.labels or ()):
            raise ValueError(
                f"codes must be one for each of labels, found {len(self.codes)} for {len(self.labels or ())}."
            )
        if self.range is not None:
            if self.is_class:
                raise ValueError("range is for regression; a task of classes has labels. Drop range.")
            low, high = self.range
            if not low < high:
                raise ValueError(f"range must be [lowest, highest], found [{low:g}, {high:g}].")
            if not is_range(low, high):
                raise ValueError(f"range must be {RANGES}, found [{low!r}, {high!r}].")
        return self

    @property
    def is_class(self) -> bool:
        return self.type != "regression"

    def fraction(self, score: _Score) -> _Score:
        """Returns where a score, or each of an array, lies in the task's range: 0 at its lowest, 1 at its highest.

        >>> Task(name="t", type="regression", inputs="single", range=(1.0, 5.0)).fraction(2.0)
        0.25
        """
        low, high = self.range or (0.0, 1.0)
        return (score - low) / (high - low)

    def at(self, fraction: float) -> float:
        """Returns the score that lies at ``fraction`` of the task's range.

        >>> Task(name="t", type="regression", inputs="single", range=(1.0, 5.0)).at(0.25)
        2.0
        """
        low, high = self.range or (0.0, 1.0)
        return low + (high - low) * fraction

    def pooled(self, default: Pooling) -> Pooling:
        """The task's own pooling, the mean for the cosine head, or ``default``."""
        return self.pooling or ("mean" if self.head.kind == "cosine" else default)

    @property
    def texts(self) -> int:
        """The number of texts of one example: 1 or 2."""
        return 1 if self.inputs == "single" else 2

    def packed(self, columns: Sequence[_Column]) -> tuple[tuple[_Column, ...], ...]:
        """Returns the columns of texts as they are encoded: two separate ones each alone, else all together."""
        return tuple((column,) for column in columns) if self.sequences == 2 else (tuple(columns),)

    @property
    def sequences(self) -> int:
        """The number of token sequences of one example: 2 for separate pairs, else 1."""
        return 2 if self.inputs == "separate" else 1
