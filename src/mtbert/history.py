"""What a run logged in ``metrics.jsonl``: a line for each optimizer step, and one for each evaluation on dev."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mtbert import files
from mtbert.evaluate import Evaluation
from mtbert.recipe import Recipe

REPAIR = "Train or copy the run again."
LARGEST = 4 * 2**30  # bytes: a million steps have half of one

Line = Mapping[str, Any]


class _Scores(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    metrics: dict[str, float]
    baseline: dict[str, float]
    collapsed: bool
    examples: int


class _Logged(BaseModel):
    """What every reader of a line may rely on."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    step: int = Field(ge=0)
    losses: dict[str, float] = {}
    diagnostics: dict[str, float] = {}
    evaluation: dict[str, _Scores] = {}


def read(file: Path) -> list[Line]:
    """Returns the lines of a ``metrics.jsonl``, in order.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it cannot be read, or a line is not one that a run logs; the message names both.
    """
    with files.repaired(file, REPAIR):
        content = files.read_bytes(file, LARGEST)
    lines = []
    for number, text in enumerate(content.splitlines(), 1):
        try:
            line = json.loads(text)
            _Logged.model_validate(line)
        except (ValidationError, ValueError, RecursionError):
            raise ValueError(f"{file}, line {number}: damaged or half-written. {REPAIR}") from None
        lines.append(line)
    return lines


def best(lines: Sequence[Line], recipe: Recipe) -> Line | None:
    """Returns the evaluation that ``best/`` was saved at: the first with the highest ``train.select``.

    ``None`` if there was none.
    """
    found: Line | None = None
    highest = float("-inf")
    for line in lines:
        if "evaluation" in line:
            score = selected(line, recipe)
            if score > highest:
                found, highest = line, score
    return found


def last(lines: Sequence[Line]) -> Line | None:
    """Returns the newest evaluation; ``None`` if there was none."""
    return next((line for line in reversed(lines) if "evaluation" in line), None)


def selected(line: Line, recipe: Recipe) -> float:
    """Returns the ``train.select`` of an evaluation."""
    return recipe.aggregate(recipe.train.select, {name: s.metrics for name, s in scores(line).items()})


def scores(line: Line) -> dict[str, Evaluation]:
    """Returns the scores of an evaluation by task."""
    return {name: Evaluation(**found) for name, found in line["evaluation"].items()}
