"""The interface of losses: a loss reads a finished forward pass and returns a scalar.

Main losses, auxiliary losses and regularisers share this interface. Each loss is a file with a frozen settings class,
and often with a pure function on tensors. The class declares the inputs of the loss as a :class:`Needs`. An instance of
the class is called with a :class:`Pass`.

Two kinds of settings are not called directly: :class:`Own`, for a loss with weights of its own, and :class:`Averaged`,
for a loss that reads a copy of the model with averaged weights. Both have a method that returns the :data:`Loss` to
call.

The file of a loss imports torch only inside its functions, so that recipes can be read without loading torch.

Dimension key: B examples, K labels of an example, M tokens of a task, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy.typing as npt
from pydantic import Field

from mtbert.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mtbert.batch import Output, StepBatch
    from mtbert.model.model import Model, Watch


# The largest weights of a task, a loss and a class multiply to 1e30, so a weighted loss stays finite in float32.
LossWeight = Annotated[float, Field(ge=0, le=1e12, description="factor of the loss in the sum")]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The requirements of a loss on its task and on the run. A recipe that does not meet them is refused."""

    because: str  # what the loss reads, for the message
    reads: tuple[str, ...] = ()  # one of these must be in ``PredictionKind.feeds`` of the task; empty: any task will do
    inputs: tuple[str, ...] = ("single", "packed", "separate")
    vectors: bool = False  # the loss reads vectors and no prediction, so it does not train the head
    labels: bool = True  # the loss reads labels
    soft: bool = False  # the loss reads labels that are distributions over classes too
    dropout: bool = False  # the loss compares passes that differ only in their dropout
    clusters: bool = False  # the loss reads which texts mean the same
    compares: bool = False  # the loss compares examples with each other, so it is no mean over them


@dataclass(frozen=True)
class Pass:
    """A finished forward pass of one task, with everything that a loss may read.

    ``labels`` are float32: class indices, zeros and ones, scores mapped to [0, 1], or distributions over classes. Their
    shape is ``[B]`` or ``[B, K]``; a missing label is ``nan``. ``weights`` are the weights of the examples, ``[B]``;
    None if all count the same.

    A loss draws its random numbers from ``generator``. The dropout masks of the pass were drawn from ``generator`` too.
    ``masks`` contains no masks, but the state of ``generator`` just before the masks of the first layer were drawn.
    With this state, :meth:`twin` makes a new generator.
    """

    model: Model
    batch: StepBatch
    task: Task
    out: Output
    labels: Tensor
    generator: torch.Generator
    masks: Tensor
    watch: Watch | None = None  # is called with the rows that each further pass reads
    weights: Tensor | None = None

    def mean(self, losses_B: Tensor) -> Tensor:
        """Returns the mean of ``losses_B`` over the examples. If the examples have weights, it is a weighted mean.

        With weights ``w``, the result is ``sum(w * losses) / sum(w)``, or 0 if all weights are 0. A loss that is a mean
        over examples must compute the mean with this method. Otherwise it would ignore the weights.
        """
        if self.weights is None:
            return losses_B.mean()
        weights_B = self.weights.to(losses_B.dtype)
        # A product with 0 would be nan if the loss of an example that does not count is infinite.
        counted_B = losses_B.where(weights_B > 0, losses_B.new_zeros(()))
        total = weights_B.sum()
        return (weights_B * counted_B).sum() / total.where(total > 0, total.new_ones(()))

    @cached_property
    def alone(self) -> StepBatch:
        """The part of the batch that the task of this pass reads. Rows without a label for the task are left out."""
        from mtbert.collate import only

        return only(self.batch, self.task.name)

    def embed(self, generator: torch.Generator | None) -> Tensor:
        """Runs the embedding layer again on the tokens of the task in this pass, and returns its output, ``[M, D]``.

        ``generator`` draws the dropout masks; None turns dropout off.
        """
        return self.model.embed(self.alone, generator, watch=self.watch)

    def finish(
        self, x_MD: Tensor, generator: torch.Generator | None, *, model: Model | None = None, exact: bool = False
    ) -> Output:
        """Runs another forward pass of this task, without the embedding layer, and returns the model's output.

        Args:
            x_MD: The input of the first layer after the embeddings, ``[M, D]``.
            generator: Draws the dropout masks; None turns dropout off.
            model: The model to run; by default the one that made this :class:`Pass`.
            exact: Whether to compute in float32 even if the model computes in bfloat16.
        """
        made = (model or self.model).finish(self.alone, x_MD, generator, exact=exact, watch=self.watch)
        return made[self.task.name]

    def twin(self) -> torch.Generator:
        """Returns a new random generator, with which :meth:`finish` repeats this forward pass.

        Every call returns a generator in the same state, so all repetitions use the same dropout masks. If
        :attr:`repeats` is true, the original forward pass used these masks too, so a repetition has the same output. If
        it is false, the original forward pass used other masks.
        """
        import torch

        generator = torch.Generator(self.generator.device)
        generator.set_state(self.masks)
        return generator

    @property
    def repeats(self) -> bool:
        """Whether repeating this forward pass, with the generator from :meth:`twin`, gives exactly the same numbers.

        With dropout, this is false if the batch has several tasks, because the masks of all tasks were drawn together.
        """
        return len(self.batch.places) == 1 or not self.model.random(self.task.name)


Loss: TypeAlias = "Callable[[Pass], Tensor]"
"""A function that returns a scalar for a pass.

The scalar is a mean over the examples of the task, unless the docstring of the loss says otherwise.
"""


class _Settings(Protocol):
    """The fields that the settings of all losses have."""

    needs: ClassVar[Needs]

    @property
    def kind(self) -> str: ...

    @property
    def weight(self) -> float: ...


class Plain(_Settings, Protocol):
    """The settings of a loss that needs only a forward pass.

    An object of this class is also the loss itself, a :data:`Loss`: it is called with a :class:`Pass`.
    """

    def __call__(self, p: Pass, /) -> Tensor: ...


@runtime_checkable
class Own(_Settings, Protocol):
    """The settings of a loss with trainable parameters of its own, which are not part of the model."""

    def build(self, width: int, generator: torch.Generator) -> nn.Module:
        """Returns a new module with the loss's own weights.

        ``width`` is the width of the encoder. The random ``generator`` draws the initial weights.
        """
        ...

    def with_own(self, own: nn.Module) -> Loss:
        """Returns the loss as a function that uses ``own``, a module that :meth:`build` returned."""
        ...


@runtime_checkable
class Averaged(_Settings, Protocol):
    """The settings of a loss that compares the model with a copy whose weights are moving averages (``train.ema``)."""

    def with_average(self, average: Model) -> Loss:
        """Returns a loss that compares the trained model with ``average``, a copy whose weights are moving averages."""
        ...


LossSettings = Plain | Own | Averaged


@runtime_checkable
class ClassWeighted(Plain, Protocol):
    """The settings of a loss in which the weight of an example depends on its class."""

    @property
    def class_weights(self) -> Literal["balanced"] | tuple[float, ...] | None: ...

    def balanced(self, rows: npt.ArrayLike) -> ClassWeighted:
        """Returns a copy of these loss settings in which numbers replace ``class_weights: balanced``.

        Args:
            rows: The number of train rows of each class, ``[K]``. For sets of labels, the shape is ``[K, 2]``: for each
                label, the number of rows without it and the number of rows with it.
        """
        ...


@runtime_checkable
class WholeBatch(Protocol):
    """A :data:`Loss` that compares all examples of a step with each other.

    A step may consist of several forward passes. The loss therefore has two halves: :meth:`gather` reads one pass,
    and :meth:`compare` computes the loss over all passes.
    """

    def gather(self, p: Pass) -> tuple[Tensor, ...]:
        """Returns the tensors that :meth:`compare` needs from the forward pass ``p``, each ``[B, ...]``.

        The caller concatenates them with those of the step's other forward passes.
        """
        ...

    def compare(self, *gathered: Tensor) -> Tensor:
        """Returns the loss of a step as a scalar.

        ``gathered`` are the tensors that :meth:`gather` returns, each concatenated over all forward passes of the step.
        """
        ...

    def __call__(self, p: Pass, /) -> Tensor:
        """Returns the loss of a step whose examples are all in one forward pass, ``p``."""
        ...
