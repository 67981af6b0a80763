"""The seam of every loss: a pass already made goes in, a scalar comes out.

Main losses, auxiliary losses and regularisers are the same thing here. A loss is one file: a pure
function on tensors, and its settings as a frozen class that is called with a :class:`Pass`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mtbert.batch import Output, StepBatch
from mtbert.model.model import Model
from mtbert.task import Task


@dataclass(frozen=True)
class Pass:
    """A forward pass already made: all that a loss may know or draw from.

    ``labels_B`` are class indices, 0/1, or scores mapped to 0..1, float32.
    """

    model: Model
    batch: StepBatch
    task: Task
    out: Output
    labels_B: Tensor
    generator: torch.Generator


Loss = Callable[[Pass], Tensor]
"""A scalar. Its settings also say what it ``fits`` (types of task, or ``cosine``) and what it ``needs``."""
