"""Names for the phases of a training step, for whoever measures where its time goes."""

from typing import Literal

from torch.profiler import record_function

Phase = Literal["data", "encoder", "heads", "losses", "backward", "aggregation", "optimizer"]

PREFIX = "mtbert."


def timed(name: Phase) -> record_function:
    """Marks what runs within as a part of the step; costs some microseconds where nobody looks."""
    return record_function(PREFIX + name)
