"""The log of a run, ``metrics.jsonl``: one line for each optimizer step and one for each evaluation on dev."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mtbert import files
from mtbert.messages import shown
from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation
from mtbert.storage.run_state import STATE_REPAIR, VALUES, Values
from mtbert.storage.tensors import COPY_AGAIN
from mtbert.training import trackers
from mtbert.training.best import BestSoFar, standing
from mtbert.training.timings import LARGEST_LOG, TIMINGS, StepTime

METRICS = "metrics.jsonl"

Line = Mapping[str, Any]


class _Scores(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    metrics: dict[str, float]
    baseline: dict[str, float]
    collapsed: bool
    examples: int
    uncalibrated: dict[str, float] = {}


class _Logged(BaseModel):
    """The part of a log line that mtbert itself reads back later. A line may have other keys too."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    step: int = Field(ge=0)
    losses: dict[str, float] = {}
    diagnostics: dict[str, float] = {}
    evaluation: dict[str, _Scores] = {}


def read_log(file: Path, length: int | None = None) -> list[Line]:
    """Returns the lines of a ``metrics.jsonl``, in order.

    Args:
        file: The log.
        length: The number of bytes to read from the beginning of the log; None reads all of it.

    Raises:
        FileNotFoundError: If the log does not exist.
        ValueError: If the log cannot be read or is shorter than ``length``, or if a line is damaged; the message names
            the file and the line.
    """
    with files.repaired(file, COPY_AGAIN):
        content = files.read_bytes(file, LARGEST_LOG)
    if length is not None:
        if len(content) < length:
            raise ValueError(f"{file}: shorter than at the last checkpoint. {STATE_REPAIR}")
        content = content[:length]
        if not content.endswith(b"\n") and content:
            raise ValueError(
                f"{file}: has half a line at byte {length}, where the last checkpoint was saved. {STATE_REPAIR}"
            )
    lines = []
    for number, text in enumerate(content.splitlines(), 1):
        try:
            lines.append(parse_line(text))
        except ValueError:
            raise ValueError(f"{file}, line {number}: damaged or half-written. {COPY_AGAIN}") from None
    return lines


def parse_line(text: bytes) -> Line:
    """Parses a line of a ``metrics.jsonl`` file, and returns the dict in the line.

    Raises:
        ValueError: If the line is damaged.
    """
    try:
        line: Line = json.loads(text, parse_constant=_refuse)
        _Logged.model_validate(line)
    except (ValidationError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return line


def _refuse(number: str) -> None:
    raise ValueError(f"{number} is no finite number")


def best(lines: Sequence[Line], recipe: Recipe) -> Line | None:
    """Returns the log line of the best evaluation; None if there was no evaluation.

    The best evaluation is the one with the highest value of the score that ``train.select`` names (see
    :mod:`mtbert.training.best`). The model at the best evaluation is in ``best/``.
    """
    found, so_far = None, BestSoFar()
    for line in lines:
        if "evaluation" in line and so_far.count(*standing(task_scores(line), recipe)):
            found = line
    return found


def last(lines: Sequence[Line]) -> Line | None:
    """Returns the log line of the most recent evaluation; None if there was no evaluation."""
    return next((line for line in reversed(lines) if "evaluation" in line), None)


def selected(line: Line, recipe: Recipe) -> float:
    """Returns the score by which the best model is selected, computed from the log line of an evaluation.

    The recipe's ``train.select`` names this score.
    """
    return standing(task_scores(line), recipe)[0]


def task_scores(line: Line) -> dict[str, Evaluation]:
    """Returns the scores of each task, read from the log line of an evaluation."""
    return {name: Evaluation(**found) for name, found in line["evaluation"].items()}


class NoLog:
    """A log that writes nothing. All processes of a run except the first use it."""

    def step(self, step: Line, timing: StepTime) -> None:
        """Does nothing. In :class:`RunLog`, this method logs an optimizer step, and its time and memory."""

    def evaluation(self, step: int, scores: Mapping[str, Evaluation], aggregates: Mapping[str, float]) -> None:
        """Does nothing. In :class:`RunLog`, this method logs an evaluation on dev.

        Args:
            step: The number of optimizer steps before the evaluation.
            scores: The scores of each task.
            aggregates: Aggregates of these scores, by name.
        """

    def sync(self) -> int:
        """Returns 0. In :class:`RunLog`, this method flushes ``metrics.jsonl`` and returns the file's size in bytes."""
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class RunLog(NoLog):
    """Writes the two logs of a run: ``metrics.jsonl``, which is reproducible, and ``timings.jsonl``, which is not.

    Each line is written immediately. If writing fails, the error names the file.
    """

    def __init__(self, out: Path, track: trackers.LogStep | None) -> None:
        self.track = track
        # Unbuffered: closing a buffered file on a full disk would try to write the rejected bytes again.
        self._metrics, self._timings = ((out / name).open("ab", buffering=0) for name in (METRICS, TIMINGS))

    def step(self, step: Line, timing: StepTime) -> None:
        self._measured(step)
        _append(self._timings, timing.model_dump())

    def evaluation(self, step: int, scores: Mapping[str, Evaluation], aggregates: Mapping[str, float]) -> None:
        tasks = {name: asdict(score) for name, score in scores.items()}
        self._measured({"step": step, "evaluation": tasks, "aggregates": dict(aggregates)})

    def sync(self) -> int:
        with files.naming(Path(self._metrics.name)):
            os.fsync(self._metrics.fileno())
        return os.fstat(self._metrics.fileno()).st_size

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        self._timings.close()

    def _measured(self, line: Line) -> None:
        _append(self._metrics, line)
        if self.track is not None:
            self.track(line["step"], trackers.numbers(line))


def _append(file: FileIO, line: Line) -> None:
    left = memoryview((json.dumps(line) + "\n").encode())
    with files.naming(Path(str(file.name))):
        while left:  # one write may take only a part of the bytes
            left = left[file.write(left) :]


def cut(out: Path, state: Values, recipe: Recipe) -> None:
    """Removes from ``metrics.jsonl`` all lines written after the checkpoint from which a run resumes.

    ``out`` is the folder of the run, and ``state`` belongs to the checkpoint. If the last line of ``timings.jsonl`` is
    incomplete, that line is removed too.

    Raises:
        ValueError: If ``metrics.jsonl`` does not agree with ``state``; the message says what differs.
    """
    file, timings = out / METRICS, out / TIMINGS
    for log in (file, timings):
        log.touch()
    before = read_log(file, state.metrics_bytes)
    evaluations = [line for line in before if "evaluation" in line]
    so_far = BestSoFar()
    for line in evaluations:
        so_far.count(selected(line, recipe))
    for what, found, saved in (
        ("steps", [line["step"] for line in before if "evaluation" not in line], [*range(1, state.done + 1)]),
        ("last evaluation", evaluations[-1]["step"] if evaluations else 0, state.evaluated),
        ("best score", so_far.score, float("-inf") if state.best is None else state.best),
        # A run that was given more epochs starts this count again, so the log may show more.
        ("evaluations since the best", min(so_far.since, state.stale), state.stale),
    ):
        if found != saved:
            raise ValueError(
                f"{file}: does not agree with {out / 'last' / VALUES}: "
                f"the {what} must be {shown(saved)}, found {shown(found)}. {STATE_REPAIR}"
            )
    os.truncate(file, state.metrics_bytes)
    os.truncate(timings, files.read_bytes(timings, LARGEST_LOG).rfind(b"\n") + 1)
