"""The objective of a step: the weighted sum of all losses of all tasks, computed in one or more forward passes.

A step consists of one or more shards (``training/shards.py``). If memory is limited, a shard is split into several
forward passes (``training/micro_batches.py``). A loss that compares all examples of a batch always sees the examples of
all passes and all shards (``training/grad_cache.py``).

Dimension key: B examples of a task in a pass.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from mtbert.batch import StepBatch, TaskRows
from mtbert.collate import collate
from mtbert.losses import Averaged, Loss, LossSettings, Own, Pass, WholeBatch
from mtbert.losses.uncertainty import RATE, uncertainty_weighted
from mtbert.messages import few
from mtbert.model.model import Model, Watch
from mtbert.processes import ALONE, Processes
from mtbert.profiling import timed
from mtbert.recipe.settings import Recipe
from mtbert.seeds import numpy_generator, torch_generator
from mtbert.training.grad_cache import FirstRun, fed_in_processes, surrogate
from mtbert.training.micro_batches import micro_batches
from mtbert.training.optim import norm
from mtbert.training.shards import cut_shards


@dataclass
class Tally:
    """Totals over the forward passes of a shard: the number of tokens, and the value of each loss before weighting.

    Losses are keyed by ``task.loss``, for example ``sst.ce``.
    """

    losses: dict[str, float] = field(default_factory=dict)
    tokens: int = 0


@dataclass(frozen=True)
class PassTotals:
    """The losses of one forward pass.

    Attributes:
        totals: For each task, the weighted sum of its losses.
        readers: For each part of the batch (:class:`~mtbert.batch.Span`), the tasks that read it. The losses of
            these tasks share one autograd graph.
    """

    totals: Mapping[str, Tensor]
    readers: Mapping[str, Sequence[str]]

    def sum(self, tasks: Iterable[str] | None = None) -> Tensor:
        """Returns a scalar: the sum of the losses of ``tasks`` or, by default, of all tasks."""
        return torch.stack([self.totals[name] for name in (self.totals if tasks is None else tasks)]).sum()


@dataclass(frozen=True)
class Shard:
    """A shard, ready for its forward passes: one of the ``train.shards`` parts of the examples of a step.

    Attributes:
        begin: A function that is called before the first pass. It sets the state of the random generator.
        batches: The batch of each forward pass.
        amounts: For each task, the :meth:`~mtbert.batch.Dataset.amount` of its examples in all shards of the step.
        first: The results of running all passes once in advance, without gradients; None if no loss needs them.
    """

    begin: Callable[[], None]
    batches: Sequence[StepBatch]
    amounts: Mapping[str, float]
    first: FirstRun | None


@dataclass(frozen=True)
class _Term:
    """A loss of a task, ready to be called. ``key`` names task and loss, for example ``sst.ce``."""

    key: str
    kind: str
    weight: float
    loss: Loss


class Objective:
    """Computes the losses of a recipe from forward passes of a model.

    Args:
        recipe: The recipe, with numbers in place of ``balanced`` class weights.
        model: The model that is trained.
        generator: Draws dropout masks and noise.
        average: The model with averaged weights; None if the run keeps no average.
        processes: The processes that share the shards of a step.

    Attributes:
        own: Trainable parameters that belong to losses. These parameters are not part of a saved model.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        generator: torch.Generator,
        average: Model | None,
        processes: Processes = ALONE,
    ) -> None:
        self.recipe = recipe
        self.processes = processes
        self.model = model
        self.generator = generator
        self.average = average
        self.own = nn.ModuleDict()
        self.terms = {
            name: tuple(
                _Term(f"{name}.{loss.kind}", loss.kind, loss.weight, self._ready(name, loss)) for loss in task.losses
            )
            for name, task in recipe.tasks.items()
        }
        self.log_variance = nn.ParameterDict()
        if recipe.train.weighting == "uncertainty":
            self.log_variance.update({f"for_{name}": nn.Parameter(torch.zeros(())) for name in recipe.tasks})
            self.own["log_variance"] = self.log_variance
        self.own.to(model.encoder.word_embedding.weight)  # to the same device and dtype

    def _ready(self, task: str, loss: LossSettings) -> Loss:
        """Returns a function that computes ``loss`` from a forward pass. Creates the loss's own weights, if any."""
        if isinstance(loss, Own):
            draws = torch_generator("own", self.recipe.train.seed, task, loss.kind)
            own = self.own[f"{task}:{loss.kind}"] = loss.build(self.model.encoder.config.width, draws)
            return loss.with_own(own)
        if isinstance(loss, Averaged):
            if self.average is None:
                raise ValueError(
                    f"tasks.{task}: loss '{loss.kind}' compares with averaged weights, found no train.ema."
                )
            return loss.with_average(self.average)
        return loss

    def shards(self, parts: Sequence[TaskRows], step: int = 0) -> list[Shard]:
        """Divides a step into ``train.shards`` shards, and returns the shards that this process works on.

        If there are several shards, each shard has its own random numbers, which depend only on the seed, ``step`` and
        the number of the shard. If there is only one shard, the random generator continues from its state.

        Args:
            parts: The data set of each task that takes part in the step, with the indices of its examples.
            step: The index of the step.
        """
        settings = self.recipe.train
        with timed("data"):
            divided = [
                list(micro_batches(shard, settings.token_budget, self.model.apart))
                for shard in cut_shards(parts, settings.shards, self.model.apart)
            ]
            own = self.processes.block(len(divided))
            batches = [[self._collate(micro) for micro in divided[i]] for i in own]
        amounts: dict[str, float] = {data.task.name: 0 for data, _ in parts}
        for data, examples in (part for passes in divided for micro in passes for part in micro):
            amounts[data.task.name] += data.amount(examples)
        begins = [partial(self.seed, step, i) for i in own]
        firsts: Sequence[FirstRun | None] = [None] * len(own)
        if sum(map(len, divided)) > 1 and self._whole(amounts):
            firsts = self._compare_all(begins, batches, amounts)
        return [
            Shard(begin, of_shard, amounts, first)
            for begin, of_shard, first in zip(begins, batches, firsts, strict=True)
        ]

    def seed(self, step: int, shard: int) -> None:
        """Seeds the random generator for part ``shard`` of the step ``step``, unless steps have only one part."""
        if self.recipe.train.shards > 1:
            draws = numpy_generator(self.recipe.train.seed, "dropout", step, shard)
            self.generator.manual_seed(int(draws.integers(2**63)))

    def losses(self, shard: Shard, tally: Tally, watch: Watch | None = None) -> Iterator[PassTotals]:
        """Runs the forward passes of a shard one by one. For each pass, yields one scalar for each task of the pass.

        Such a scalar is the weighted sum of the losses of the task. The scalars of all shards add up to the objective.
        Call ``backward`` for each pass before you request the next one, so that only one autograd graph is in memory.

        Args:
            shard: The shard.
            tally: Collects the values of the losses and the number of tokens.
            watch: A function that is called before modules of the encoder run, see
                :data:`~mtbert.model.model.Watch`. None for no such calls.

        Raises:
            FloatingPointError: If a loss is not finite; the message names the loss and the examples.
        """
        shard.begin()
        if shard.first is None:
            for batch in shard.batches:
                tally.tokens += len(batch.ids_N)
                yield PassTotals(self._totals(self._passes(batch, watch), shard.amounts, tally, {}), batch.readers)
            return
        after = shard.first.after
        for batch, state, fed in zip(shard.batches, shard.first.states, shard.first.fed, strict=True):
            tally.tokens += len(batch.ids_N)
            self.generator.set_state(state)
            passes = self._passes(batch, watch)
            surrogates = {key: surrogate(loss, passes[name], fed[key]) for name, key, loss in self._whole(passes)}
            # The other losses draw after the numbers of the first run, so that no number is used twice.
            self.generator.set_state(after)
            yield PassTotals(self._totals(passes, shard.amounts, tally, surrogates), batch.readers)
            after = self.generator.get_state()

    def factors(self) -> dict[nn.Parameter, float]:
        """Returns the trainable parameters of the losses, each with a factor for its learning rate."""
        weights = {id(p) for p in self.log_variance.parameters()}
        fixed = RATE / self.recipe.train.lr
        return {p: fixed if id(p) in weights else 1.0 for p in self.own.parameters()}

    def learned(self) -> dict[str, float]:
        """Returns a dict that maps ``sigma2(TASK)`` to the learned variance of each task.

        The dict is empty if the recipe fixes the weights of tasks.
        """
        if self.recipe.train.weighting == "fixed":
            return {}
        return {f"sigma2({name})": float(self.log_variance[f"for_{name}"].detach().exp()) for name in self.recipe.tasks}

    def gradients(self, parts: Sequence[TaskRows]) -> dict[str, dict[str, float]]:
        """Returns the norm of each weighted loss's gradient with respect to the encoder, keyed by task, then by loss.

        ``parts`` holds the data set of each task, with the indices of the examples to use. All weights and the state of
        the random generator stay unchanged.
        """
        state = self.generator.get_state()
        weights = [p for p in self.model.depths() if p.requires_grad]
        norms: dict[str, dict[str, float]] = {}
        for data, rows in parts:
            made = self._passes(self._collate([(data, rows)]))[data.task.name]
            for term in self.terms[data.task.name]:
                value = term.weight * term.loss(made)
                found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
                norms.setdefault(data.task.name, {})[term.kind] = norm([g for g in found if g is not None])
        self.generator.set_state(state)
        return norms

    def _collate(self, parts: Iterable[TaskRows]) -> StepBatch:
        return collate(parts, self.generator.device, self.model.apart)

    def _passes(self, batch: StepBatch, watch: Watch | None = None) -> dict[str, Pass]:
        """Makes one forward pass for all tasks of ``batch``. Returns the output for each task, as a :class:`Pass`."""
        x_ND = self.model.embed(batch, self.generator, watch=watch)
        masks = self.generator.get_state()
        outputs = self.model.finish(batch, x_ND, self.generator, watch=watch)
        return {
            name: Pass(
                model=self.model,
                batch=batch,
                task=self.model.tasks[name],
                out=out,
                labels=batch.labels[name],
                weights=batch.weights.get(name),
                generator=self.generator,
                masks=masks,
                watch=watch,
            )
            for name, out in outputs.items()
        }

    def _whole(self, names: Iterable[str]) -> list[tuple[str, str, WholeBatch]]:
        """Returns a triple for each whole-batch loss of the tasks ``names``: task, key such as ``sst.ce``, and loss.

        A whole-batch loss compares the examples of a batch with each other.
        """
        return [
            (name, term.key, term.loss)
            for name in names
            for term in self.terms[name]
            if isinstance(term.loss, WholeBatch)
        ]

    def _totals(
        self, passes: Mapping[str, Pass], amounts: Mapping[str, float], tally: Tally, surrogates: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Returns a dict from task to the weighted sum of the task's losses in one forward pass.

        ``passes`` has the output of the pass for each task. ``amounts`` has the total weight of each task's examples in
        the step. ``surrogates`` has losses that are already computed, by names such as ``sst.simcse``. The method
        computes the other losses. Raises FloatingPointError if a loss is not finite.
        """
        totals = {}
        for name, made in passes.items():
            settings = self.recipe.tasks[name]
            share = made.batch.amounts[name] / amounts[name] if amounts[name] else 0.0
            values = []
            for term in self.terms[name]:
                with timed("losses"):
                    value = surrogates[term.key] if term.key in surrogates else share * term.loss(made)
                number = float(value.detach())  # read once, because on a GPU the host waits for it
                if not math.isfinite(number):
                    raise FloatingPointError(_not_finite(term.key, number, made))
                tally.losses[term.key] = tally.losses.get(term.key, 0.0) + number
                values.append(term.weight * value)
            total = torch.stack(values).sum()
            if self.recipe.train.weighting == "uncertainty":
                s = self.log_variance[f"for_{name}"]
                total = uncertainty_weighted(total, s, share, gaussian=settings.predicts.gaussian)
            totals[name] = settings.weight * total
        return totals

    def _compare_all(
        self, begins: Sequence[Callable[[], None]], batches: Sequence[Sequence[StepBatch]], tasks: Iterable[str]
    ) -> list[FirstRun]:
        """Makes this process's forward passes of a step under ``torch.no_grad()``, then computes whole-batch losses.

        Before the losses are computed, all processes exchange the tensors that the losses compare.

        Args:
            begins: For each shard (part of the step) of this process, a function that sets the random generator.
            batches: For each shard of this process, the batch of each forward pass.
            tasks: The tasks that take part in the step.
        """
        own: list[dict[str, tuple[Tensor, ...]]] = []
        states: list[list[Tensor]] = []
        afters = []
        with torch.no_grad():
            for begin, of_shard in zip(begins, batches, strict=True):
                begin()
                states.append([])
                for batch in of_shard:
                    states[-1].append(self.generator.get_state())
                    passes = self._passes(batch)
                    own.append({key: loss.gather(passes[name]) for name, key, loss in self._whole(passes)})
                afters.append(self.generator.get_state())
        losses = {key: loss for _, key, loss in self._whole(tasks)}
        fed = iter(fed_in_processes(own, losses, self.processes, self.generator.device))
        return [
            FirstRun(of_states, [next(fed) for _ in of_states], after)
            for of_states, after in zip(states, afters, strict=True)
        ]


def _not_finite(loss: str, value: float, made: Pass) -> str:
    ids = made.batch.example_ids[made.task.name]
    words = made.batch.places[made.task.name].words
    owners = range(len(ids)) if words is None else words.owners.tolist()
    rows = torch.isfinite(made.out.prediction.detach().reshape(len(owners), -1)).all(1).tolist()
    guilty = list(dict.fromkeys(ids[i] for i, finite in zip(owners, rows, strict=True) if not finite)) or list(ids)
    return (
        f"loss {loss} is {value:g} for examples {few(guilty, most=8)}. "
        "Look at these rows, lower train.lr, or use train.precision: fp32."
    )
