"""The log ``timings.jsonl`` of a run, with the time and the memory use of each optimizer step.

Unlike the log ``metrics.jsonl``, this log is different each time that the same run is repeated.
"""

import math
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mtbert import files

TIMINGS = "timings.jsonl"
LARGEST_LOG = 4 * 2**30  # bytes; a million steps take about half a GiB in metrics.jsonl, and 100 MB in timings.jsonl
STATUS = Path("/proc/self/status")  # of Linux
COPY_TIMINGS = "Copy the run again, or remove this file."


class StepTime(BaseModel):
    """A line of ``timings.jsonl``. Runs of older versions have only the first two numbers."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    step: int = Field(ge=1)
    seconds: float = Field(ge=0)  # of this step
    of: int | None = None  # the number of steps of the whole run
    at: float | None = None  # when the step ended, in seconds since 1970
    memory: int | None = Field(default=None, ge=0)  # the most bytes that the process has had so far


def read_timings(file: Path) -> list[StepTime]:
    """Returns the timings of a run, ordered by step. If a step was repeated, only its last timing is kept.

    A line that is damaged, or half-written because the process was killed, is left out. A missing file has no lines.

    Raises:
        ValueError: If the file cannot be read.
    """
    by_step: dict[int, StepTime] = {}
    with suppress(FileNotFoundError), files.repaired(file, COPY_TIMINGS):
        for text in files.read_bytes(file, LARGEST_LOG).splitlines():
            with suppress(ValidationError):
                line = StepTime.model_validate_json(text)
                by_step[line.step] = line
    return [by_step[step] for step in sorted(by_step)]


def total_seconds(timings: Sequence[StepTime]) -> float:
    """Returns how many seconds all steps took together. The time to score dev and to save is not included."""
    return math.fsum(line.seconds for line in timings)


def peak_memory(device: torch.device) -> int:
    """Returns the peak memory use of this process in bytes: of GPU memory on a GPU, otherwise of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in STATUS.read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # includes the memory of the program that started this one
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
