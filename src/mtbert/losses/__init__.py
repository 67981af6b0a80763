"""The seam of every loss: a pass already made goes in, a scalar comes out.

Main losses, auxiliary losses and regularisers are the same thing here. A loss is one file: a pure
function on tensors, and its settings as a frozen class that says what it :class:`Needs` and is called with a
:class:`Pass`.

Dimension key: B examples, M tokens of a task, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mtbert.batch import Output, StepBatch, only
from mtbert.model.model import Model
from mtbert.task import Task


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The requirements of a loss on the task and the run; a recipe that does not meet them is refused."""

    types: tuple[str, ...]  # of task; ``cosine``: any task with that head
    because: str  # what these give it, for the message
    inputs: tuple[str, ...] = ("single", "packed", "separate")
    vectors: bool = False  # it reads no prediction, so any head will do
    labels: bool = True  # it reads labels
    dropout: bool = False  # it compares passes that differ in their dropout alone
    ema: bool = False  # it reads the averaged weights
    clusters: bool = False  # it reads which texts mean the same
    whole_batch: bool = False  # it compares examples with each other: a :class:`WholeBatch`
    own: bool = False  # it trains weights that no prediction needs: an :class:`Own`


@dataclass(frozen=True)
class Pass:
    """A forward pass already made: all that a loss may know or draw from.

    ``labels_B`` are class indices, 0/1, or scores mapped to 0..1, float32. ``masks`` is the generator's state
    before the first layer. ``own`` is what the loss's ``build`` made, ``ema`` the model with averaged weights.
    """

    model: Model
    batch: StepBatch
    task: Task
    out: Output
    labels_B: Tensor
    generator: torch.Generator
    masks: Tensor
    own: nn.Module | None = None
    ema: Model | None = None

    @cached_property
    def alone(self) -> StepBatch:
        """This task's part of the batch."""
        return only(self.batch, self.task.name)

    def finish(
        self, x_MD: Tensor, generator: torch.Generator | None, *, model: Model | None = None, exact: bool = False
    ) -> Output:
        """Another pass of this task, from the embedding layer's output on.

        Args:
            x_MD: What the first layer reads, ``[M, D]``.
            generator: Draws the dropout; ``None``: none.
            model: Another than this pass's.
            exact: In float32, also where the model computes in bfloat16.
        """
        return (model or self.model).finish(self.alone, x_MD, generator, exact=exact)[self.task.name]

    def twin(self) -> torch.Generator:
        """A generator that gives a pass of :attr:`alone` the same dropout masks each time."""
        generator = torch.Generator(self.generator.device)
        generator.set_state(self.masks)
        return generator

    @property
    def repeats(self) -> bool:
        """Whether ``finish(out.embeddings_MD, twin())`` is this pass again, bit for bit.

        With dropout it is not where other tasks are in the batch: one draw made the masks of them all.
        """
        return len(self.batch.layout.spans) == 1 or not self.model.random(self.task.name)


Loss = Callable[[Pass], Tensor]
"""A scalar: the mean over the task's examples, where a loss does not say otherwise."""


class LossSettings(Protocol):
    """The common part of all losses' settings, each of which is a :data:`Loss` too."""

    needs: ClassVar[Needs]

    @property
    def kind(self) -> str: ...

    @property
    def weight(self) -> float: ...

    def __call__(self, p: Pass, /) -> Tensor: ...


@runtime_checkable
class ClassWeighted(LossSettings, Protocol):
    """A loss in which examples count by their class."""

    @property
    def class_weights(self) -> Literal["balanced"] | tuple[float, ...] | None: ...

    def balanced(self, rows_K: Sequence[int]) -> "ClassWeighted":
        """Returns the loss with numbers in place of ``balanced``, from the number of train rows of each class."""
        ...


class WholeBatch(Protocol):
    """A loss in two halves, so that a step may be cut into forward passes and still compare all its examples."""

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns the tensors to compare; their first dimension can be concatenated over passes."""
        ...

    def compare(self, *gathered: Tensor) -> Tensor:
        """The loss of what was gathered from all passes."""
        ...


class Own(Protocol):
    """A loss with trained weights that are no part of the model."""

    def build(self, width: int, generator: torch.Generator) -> nn.Module:
        """The module that :attr:`Pass.own` will be."""
        ...
