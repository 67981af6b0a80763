"""Names for the phases of a training step, so that a profiler shows how much time each phase takes."""

from typing import Literal

from torch.profiler import record_function

Phase = Literal["data", "encoder", "heads", "losses", "backward", "aggregation", "optimizer", "communication"]

TIMED_PREFIX = "mtbert."


def timed(name: Phase) -> record_function:
    """Returns a context manager that marks the code inside as the phase ``name`` of a training step.

    If no profiler is running, the mark costs a few microseconds.
    """
    return record_function(TIMED_PREFIX + name)
