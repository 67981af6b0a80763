"""The interface of losses: a loss reads a forward pass that has been made, and returns a scalar.

Main losses, auxiliary losses and regularisers all have this interface. A loss is one file with a pure function on
tensors, and a frozen settings class. The class says what the loss :class:`Needs`, and its objects are called with a
:class:`Pass`. Settings that need more than a pass are an :class:`Own` or an :class:`Averaged`; they return a
:data:`Loss` when they are given it.

The file of a loss imports torch inside its functions, so that recipes can be read without loading torch.

Dimension key: B examples, M tokens of a task, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy.typing as npt

from mtbert.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mtbert.batch import Output, StepBatch
    from mtbert.model.model import Model, Watch


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The requirements of a loss on the task and the run; a recipe that does not meet them is refused."""

    because: str  # what the loss reads, for the message
    reads: tuple[str, ...] = ()  # one of these must be in ``PredictionKind.feeds`` of the task; empty: any task will do
    inputs: tuple[str, ...] = ("single", "packed", "separate")
    vectors: bool = False  # the loss reads vectors and no prediction, so it does not train the head
    labels: bool = True  # the loss reads labels
    dropout: bool = False  # the loss compares passes that differ only in their dropout
    clusters: bool = False  # the loss reads which texts mean the same


@dataclass(frozen=True)
class Pass:
    """A forward pass that has been made, for one task: everything that a loss may read or draw from.

    ``labels``, float32, are class indices, 0/1, or scores mapped to 0..1: ``[B]``, or ``[B, K]`` with ``nan`` for a
    missing one. ``masks`` is the state of the generator before the first layer.
    """

    model: Model
    batch: StepBatch
    task: Task
    out: Output
    labels: Tensor
    generator: torch.Generator
    masks: Tensor
    watch: Watch | None = None  # is called with the rows that each further pass reads

    @cached_property
    def alone(self) -> StepBatch:
        """The part of the batch that belongs to this task."""
        from mtbert.batch import only

        return only(self.batch, self.task.name)

    def embed(self, generator: torch.Generator | None) -> Tensor:
        """Returns the output of the embedding layer for this task, computed again, ``[M, D]``.

        ``generator`` draws the dropout; None for no dropout.
        """
        return self.model.embed(self.alone, generator, watch=self.watch)

    def finish(
        self, x_MD: Tensor, generator: torch.Generator | None, *, model: Model | None = None, exact: bool = False
    ) -> Output:
        """Returns the output of another pass of this task, which starts from an output of the embedding layer.

        Args:
            x_MD: The input of the first layer, ``[M, D]``.
            generator: Draws the dropout; None for no dropout.
            model: The model that makes the pass; by default the model of this pass.
            exact: Whether to compute in float32 even if the model computes in bfloat16.
        """
        made = (model or self.model).finish(self.alone, x_MD, generator, exact=exact, watch=self.watch)
        return made[self.task.name]

    def twin(self) -> torch.Generator:
        """Returns a generator that starts at ``masks``, so that passes of :attr:`alone` get the same dropout masks."""
        import torch

        generator = torch.Generator(self.generator.device)
        generator.set_state(self.masks)
        return generator

    @property
    def repeats(self) -> bool:
        """Whether ``finish(out.embeddings_MD, twin())`` repeats this pass bit for bit.

        With dropout, it does not if the batch has other tasks, because the masks of all tasks were drawn together.
        """
        return len(self.batch.layout.spans) == 1 or not self.model.random(self.task.name)


Loss: TypeAlias = "Callable[[Pass], Tensor]"
"""Returns a scalar for a pass: a mean over the examples of the task, unless the docstring of a loss says otherwise."""


class _Settings(Protocol):
    """The fields that the settings of all losses have."""

    needs: ClassVar[Needs]

    @property
    def kind(self) -> str: ...

    @property
    def weight(self) -> float: ...


class Plain(_Settings, Protocol):
    """The settings of a loss that needs only a pass; they are a :data:`Loss` themselves."""

    def __call__(self, p: Pass, /) -> Tensor: ...


@runtime_checkable
class Own(_Settings, Protocol):
    """The settings of a loss with weights of its own, which are trained but are not part of the model."""

    def build(self, width: int, generator: torch.Generator) -> nn.Module:
        """Returns a module with the loss's own weights, drawn from ``generator``; ``width`` is that of the encoder."""
        ...

    def with_own(self, own: nn.Module) -> Loss:
        """Returns the loss that uses the module ``own``, which :meth:`build` has returned."""
        ...


@runtime_checkable
class Averaged(_Settings, Protocol):
    """The settings of a loss that compares the model with a second one, which has averaged weights (``train.ema``)."""

    def with_average(self, average: Model) -> Loss:
        """Returns the loss that compares with the model ``average``."""
        ...


LossSettings = Plain | Own | Averaged


@runtime_checkable
class ClassWeighted(Plain, Protocol):
    """The settings of a loss that weights examples by their class."""

    @property
    def class_weights(self) -> Literal["balanced"] | tuple[float, ...] | None: ...

    def balanced(self, rows: npt.ArrayLike) -> ClassWeighted:
        """Returns the settings with numbers in place of ``balanced``.

        ``rows`` counts those of train: of each class, ``[K]``, or without and with each label of a set, ``[K, 2]``.
        """
        ...


@runtime_checkable
class WholeBatch(Protocol):
    """A :data:`Loss` in two halves, which compares all examples of a step even if the step takes several passes."""

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns the tensors to compare, ``[B, ...]`` each; the caller concatenates those of several passes."""
        ...

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns the loss, a scalar, of the concatenated results of :meth:`gather`."""
        ...

    def __call__(self, p: Pass, /) -> Tensor:
        """Returns the loss of a single pass that has all examples."""
        ...
