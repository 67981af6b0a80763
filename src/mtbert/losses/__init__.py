"""The seam of every loss: a pass already made goes in, a scalar comes out.

Main losses, auxiliary losses and regularisers are the same thing here. A loss is one file: a pure function on tensors,
and its settings as a frozen class that says what it :class:`Needs` and is called with a :class:`Pass`. A loss that
needs more than a pass is an :class:`Own` or an :class:`Averaged`, and is made a :data:`Loss` once it has that.

A recipe is read without torch, so a loss's file imports torch inside its functions.

Dimension key: B examples, M tokens of a task, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from mtbert.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mtbert.batch import Output, StepBatch
    from mtbert.model.model import Model, Watch


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The requirements of a loss on the task and the run; a recipe that does not meet them is refused."""

    because: str  # what it reads, for the message
    reads: tuple[str, ...] = ()  # one of ``PredictionKind.feeds``, by name; none: what every type has
    inputs: tuple[str, ...] = ("single", "packed", "separate")
    vectors: bool = False  # it reads no prediction, so any head will do
    labels: bool = True  # it reads labels
    dropout: bool = False  # it compares passes that differ in their dropout alone
    clusters: bool = False  # it reads which texts mean the same


@dataclass(frozen=True)
class Pass:
    """A forward pass already made: all that a loss may know or draw from.

    ``labels``, float32, are class indices, 0/1, or scores mapped to 0..1: ``[B]``, or ``[B, K]`` with ``nan`` where one
    is missing. ``masks`` is the generator's state before the first layer.
    """

    model: Model
    batch: StepBatch
    task: Task
    out: Output
    labels: Tensor
    generator: torch.Generator
    masks: Tensor
    watch: Watch | None = None  # hears which rows each further pass reads

    @cached_property
    def alone(self) -> StepBatch:
        """This task's part of the batch."""
        from mtbert.batch import only

        return only(self.batch, self.task.name)

    def embed(self, generator: torch.Generator | None) -> Tensor:
        """Returns the embedding layer's output for this task once more, ``[M, D]``; ``generator`` draws the dropout."""
        return self.model.embed(self.alone, generator, watch=self.watch)

    def finish(
        self, x_MD: Tensor, generator: torch.Generator | None, *, model: Model | None = None, exact: bool = False
    ) -> Output:
        """Returns the output of another pass of this task, from the embedding layer's output on.

        Args:
            x_MD: What the first layer reads, ``[M, D]``.
            generator: Draws the dropout; ``None``: none.
            model: The model of that pass, where it is not the model of this one.
            exact: In float32, also where the model computes in bfloat16.
        """
        made = (model or self.model).finish(self.alone, x_MD, generator, exact=exact, watch=self.watch)
        return made[self.task.name]

    def twin(self) -> torch.Generator:
        """Returns a generator that gives a pass of :attr:`alone` the same dropout masks each time."""
        import torch

        generator = torch.Generator(self.generator.device)
        generator.set_state(self.masks)
        return generator

    @property
    def repeats(self) -> bool:
        """Whether ``finish(out.embeddings_MD, twin())`` is this pass again, bit for bit.

        With dropout it is not where other tasks are in the batch: one draw made the masks of them all.
        """
        return len(self.batch.layout.spans) == 1 or not self.model.random(self.task.name)


Loss: TypeAlias = "Callable[[Pass], Tensor]"
"""A scalar: the mean over the task's examples, where a loss does not say otherwise."""


class _Settings(Protocol):
    """The common part of all losses' settings."""

    needs: ClassVar[Needs]

    @property
    def kind(self) -> str: ...

    @property
    def weight(self) -> float: ...


class Plain(_Settings, Protocol):
    """A loss that needs no more than a pass: its settings are a :data:`Loss`."""

    def __call__(self, p: Pass, /) -> Tensor: ...


@runtime_checkable
class Own(_Settings, Protocol):
    """A loss with trained weights that are no part of the model."""

    def build(self, width: int, generator: torch.Generator) -> nn.Module:
        """Returns the module with these weights, for an encoder of that width; ``generator`` draws them."""
        ...

    def with_own(self, own: nn.Module) -> Loss:
        """Returns the loss that uses the module."""
        ...


@runtime_checkable
class Averaged(_Settings, Protocol):
    """A loss that compares the model with the one that has averaged weights (``train.ema``)."""

    def with_average(self, average: Model) -> Loss:
        """Returns the loss that compares with ``average``."""
        ...


LossSettings = Plain | Own | Averaged


@runtime_checkable
class ClassWeighted(Plain, Protocol):
    """A loss in which examples count by their class."""

    @property
    def class_weights(self) -> Literal["balanced"] | tuple[float, ...] | None: ...

    def balanced(self, rows_K: Sequence[int]) -> ClassWeighted:
        """Returns the loss with numbers in place of ``balanced``, from the number of train rows of each class."""
        ...


@runtime_checkable
class WholeBatch(Protocol):
    """A :data:`Loss` in two halves, so that a step cut into forward passes still compares all its examples."""

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns the tensors to compare, ``[B, ...]`` each: those of several passes are concatenated."""
        ...

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns the loss of what :meth:`gather` gave for all passes, a scalar."""
        ...

    def __call__(self, p: Pass, /) -> Tensor:
        """Returns the loss of one pass that has all examples."""
        ...
