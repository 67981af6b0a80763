"""The state of a run, and the step that advances it.

The state includes the model, the optimizer and a random generator. This generator draws dropout masks and noise, and
its state is saved. All other random draws of a step are pure functions of the seed and of counters in the run state. A
run can therefore be stopped after any step, restored, and continued, and the results are the same, bit for bit.

Dimension key: T tasks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from mtbert import scoring
from mtbert.balance.by_task import ByTask, waves
from mtbert.balance.gram import Gradient, check_weights, combine, cosines, gram
from mtbert.batch import TaskRows
from mtbert.data.clusters import clusters_of_table
from mtbert.model.model import Model
from mtbert.prepare import Prepared, settled
from mtbert.processes import ALONE, Processes
from mtbert.profiling import timed
from mtbert.progress_bar import Tick
from mtbert.recipe.settings import Recipe
from mtbert.sampling.stream import Stream
from mtbert.sampling.turn import Progress, draw
from mtbert.scoring import Evaluation
from mtbert.seeds import numpy_generator, torch_generator
from mtbert.storage.predictions import Predicted
from mtbert.training.best import BestSoFar, standing
from mtbert.training.exchange import Exchange
from mtbert.training.objective import Objective, Shard, Tally
from mtbert.training.optim import LARGEST_NORM, RowGradient, adamw, factors, learning_rate, step, total_norm
from mtbert.training.rounds import RoundPlan
from mtbert.training.shards import Sums, failed, tree_sum

THRESHOLD_SAMPLE = 2000  # train rows that a threshold is fitted on if no rows are held out


@dataclass(frozen=True)
class Step:
    """The record of one optimizer step.

    ``losses`` holds the mean of each loss before weighting. Its keys name a task and a loss, such as ``sst.ce`` for the
    loss ``ce`` of the task ``sst``. ``diagnostics`` holds numbers that depend on the settings of the run. It can have
    these keys:

    - ``p(table)``: the probability with which the sampler chose the table (or the task, if it has files of its own);
    - ``cos(a, b)``: the cosine between the gradients of the tasks a and b;
    - ``conflicting``: the share of all steps so far in which at least one of these cosines was negative;
    - ``weight(task)``: the weight of the task's gradient in the combined gradient;
    - ``sigma2(task)``: the learned variance of the task, if task weights are learned.
    """

    step: int
    epoch: int
    losses: Mapping[str, float]
    diagnostics: Mapping[str, float]
    lr: float
    grad_norm: float
    tokens: int


class Run:
    """The state of a run. Each call of :meth:`step` makes one optimizer step."""

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        data: Mapping[str, Prepared],
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.recipe = recipe
        self.processes = processes
        self.model = model.to(device)
        self.device = device
        self.exchange = Exchange(processes, device)
        self.data = data
        settings = recipe.train
        self.tables = {table: [task.name for task in tasks] for table, tasks in recipe.tasks_by_table().items()}
        self.streams = [self._stream(table) for table in self.tables]
        self.plan = RoundPlan.of(recipe, self.sizes)
        seed = int(numpy_generator(settings.seed, "dropout").integers(2**63))
        self.generator = torch.Generator(device).manual_seed(seed)
        self.ema: Model | None = None
        self.predictor = self.model  # the model that is scored and saved
        if settings.ema is not None:
            self.ema = settings.ema.start(self.model)
            self.predictor = self.ema if settings.ema.predicts else self.model
        self.objective = Objective(settled(recipe, data), self.model, self.generator, self.ema, processes)
        self.shared = [p for p in model.encoder.parameters() if p.requires_grad]
        self.trained = factors(model, settings.layer_decay) | self.objective.factors()
        self.optimizer = adamw(
            self.trained, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
        )
        words = self.model.encoder.word_embedding
        words.sparse = device.type == "cpu"  # on a GPU, filling memory is faster than sorting rows
        self.words = RowGradient(words.weight)
        self.done = 0  # optimizer steps so far
        self.taken = [0] * len(self.streams)  # batches of each table so far
        self.evaluated = 0  # steps before the last evaluation
        self.predicted: dict[str, Predicted] = {}  # results of the last evaluation; not part of the saved state
        self.best = BestSoFar()
        self.improved = False  # whether the last evaluation is the best one so far
        self.tied = False  # whether the score of the last evaluation is the best one, and was reached before
        self.conflicting = 0  # steps in which the gradients of two tasks had a negative cosine
        self.moved: dict[str, bool] = {}  # by loss: whether it was ever not 0 since the run was started or resumed

    def _stream(self, table: str) -> Stream:
        """Returns the :class:`Stream` that draws the train rows of a table."""
        tasks = [self.recipe.tasks[name] for name in self.tables[table]]
        data = [self.data[task.name].train for task in tasks]
        clusters = None
        if tasks[0].no_duplicates:
            clusters = clusters_of_table(data[0].size, [(d.rows, d.clusters) for d in data if d.clusters is not None])
        return Stream(
            name=table,
            size=data[0].size,
            batch_size=tasks[0].batch_size,
            seed=self.recipe.train.seed,
            clusters=clusters,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """The number of train rows of each table."""
        return {stream.name: stream.size for stream in self.streams}

    @property
    def scored(self) -> dict[str, Prepared]:
        """The data of each task that is scored on dev, by the name of the task.

        A task is scored if at least one of its losses trains it to predict labels.
        """
        return {name: data for name, data in self.data.items() if self.recipe.tasks[name].scored}

    def step(self) -> Step:
        """Makes one optimizer step and returns its record.

        If none of the drawn rows can be used for a loss, the weights stay as they are. For example, all of these rows
        may lack a label.

        Raises:
            FloatingPointError: If a loss or the gradient is not finite, or the gradient is too large. The weights and
                the optimizer are then unchanged.
        """
        settings = self.recipe.train
        with timed("data"):
            drawn, diagnostics = self._draw()
        tally = Tally()
        self.optimizer.zero_grad(set_to_none=True)
        try:
            diagnostics |= self._differentiate(drawn, tally)
            norm, shrink = self._norm(tally)
        except FloatingPointError as error:
            raise FloatingPointError(f"step {self.done + 1}: {error}") from None
        lr = settings.lr * learning_rate(
            self.done, steps=self.plan.steps, warmup=settings.warmup, schedule=settings.schedule
        )
        with timed("optimizer"):
            self.words.spread()
            step(self.optimizer, lr, shrink)
            if self.ema is not None and settings.ema is not None:
                settings.ema.update(self.ema, self.model, self.done)
        self.moved |= {key: self.moved.get(key, False) or value != 0 for key, value in tally.losses.items()}
        diagnostics |= self.objective.learned()
        epoch = self.plan.epoch(self.done)
        self.done += 1
        self.objective.seed(self.done, 0)
        return Step(self.done, epoch, tally.losses, diagnostics, lr, norm, tally.tokens)

    def _draw(self) -> tuple[list[TaskRows], dict[str, float]]:
        """Returns a pair: the rows of this step, and a dict for ``Step.diagnostics``.

        If the sampler draws one table for each step, the dict holds the sampler's probabilities. Otherwise, it is
        empty.
        """
        chosen: Sequence[int] = range(len(self.streams))
        diagnostics = {}
        if self.recipe.train.mode == "alternate":
            progress = Progress(self.plan.epoch(self.done), len(self.plan.rounds), self.done, self.plan.steps)
            probabilities_T = self.recipe.train.sampler([s.size for s in self.streams], progress)
            chosen = [draw(probabilities_T, self.recipe.train.seed, self.done)]
            diagnostics = {f"p({s.name})": float(p) for s, p in zip(self.streams, probabilities_T, strict=True)}
        parts = []
        for i in chosen:
            parts += self._examples(i, self.taken[i])
            self.taken[i] += 1
        return parts, diagnostics

    def _examples(self, table: int, batch: int) -> list[TaskRows]:
        """Returns the examples of each task in one batch of a table. Tasks without labels in the batch are left out."""
        stream = self.streams[table]
        rows = stream.rows(batch)
        found = [(data, data.among(rows)) for data in (self.data[name].train for name in self.tables[stream.name])]
        return [(data, examples) for data, examples in found if len(examples)]

    def _differentiate(self, drawn: Sequence[TaskRows], tally: Tally) -> dict[str, float]:
        """Stores the gradient of a step as ``grad`` of the trained parameters, and the losses of the step in ``tally``.

        If the recipe needs a separate gradient for each task, :meth:`_balance` combines these gradients and computes
        diagnostics. In this case, returns the diagnostics, otherwise an empty dict.
        """
        apart = [data.task.name for data, _ in drawn] if self.recipe.train.read_gradients else []
        try:
            sums = tree_sum(self._backward(shard, apart) for shard in self.objective.shards(drawn, self.done))
        except FloatingPointError as error:
            sums = failed(str(error))
        sums = self.exchange.sum(sums)
        if sums.error is not None:
            raise FloatingPointError(sums.error)
        tally.losses, tally.tokens = sums.losses, sums.tokens
        first_own, each = len(apart) * len(self.shared), len(self.shared)
        for parameter, gradient in zip(self.trained, sums.gradients[first_own:], strict=True):
            parameter.grad = gradient
        if not apart:
            return {}
        return self._balance(apart, [sums.gradients[i : i + each] for i in range(0, first_own, each)], tally)

    def _backward(self, shard: Shard, apart: Sequence[str]) -> Sums:
        """Returns the losses and gradients of a shard. Afterwards, ``grad`` is None for every parameter.

        The list of gradients has two parts. The first part holds, for each task in ``apart``, the gradients of the
        task's loss with respect to the shared parameters. The second part has an entry for each trained parameter. If
        ``apart`` is empty, each entry is the gradient of the total loss. Otherwise, the entry of a shared parameter is
        None, and every other entry is the gradient of the total loss.
        """
        tally, by_task = Tally(), ByTask(self.model, self.shared)
        if apart:
            with by_task.watching():
                for made in self.objective.losses(shard, tally, by_task.watch):
                    *others, last = waves(made.readers)
                    for owners in (*others, last):
                        loss = made.sum(filter(None, owners.values()))
                        with timed("backward"), by_task.collecting(owners):
                            loss.backward(retain_graph=owners is not last)  # type: ignore[no-untyped-call]
        else:
            for made in self.objective.losses(shard, tally):  # one for each forward pass
                with timed("backward"):
                    made.sum().backward()  # type: ignore[no-untyped-call]
        gradients = [gradient for name in apart for gradient in by_task.gradients(name)]
        gradients += [parameter.grad for parameter in self.trained]
        self.optimizer.zero_grad(set_to_none=True)
        return Sums(gradients, tally.losses, tally.tokens)

    def _balance(self, names: Sequence[str], found: Sequence[Gradient], tally: Tally) -> dict[str, float]:
        """Stores the weighted sum of the tasks' gradients as ``grad`` of the parameters that the tasks share.

        Returns entries of ``Step.diagnostics``, such as the cosine between the gradients of any two tasks, and the
        weight of each task's gradient.
        """
        with timed("aggregation"):
            gram_TT = gram(found)
        if not torch.isfinite(gram_TT).all():
            raise FloatingPointError(
                f"the gradient of {' + '.join(tally.losses)} is not finite although the losses are. "
                "Lower train.lr, or use train.precision: fp32."
            )
        draws = torch_generator("aggregation", self.recipe.train.seed, self.done)
        with timed("aggregation"):
            weights_T = self.recipe.train.aggregation(gram_TT, draws)
            check_weights(self.recipe.train.aggregation.method, weights_T)
            for parameter, gradient in zip(self.shared, combine(found, weights_T), strict=True):
                parameter.grad = gradient
        cosines_TT = cosines(gram_TT)
        pairs = {f"cos({names[i]}, {names[j]})": float(cosines_TT[i, j]) for i, j in combinations(range(len(names)), 2)}
        self.conflicting += any(cosine < 0 for cosine in pairs.values())
        weights = {f"weight({name})": float(weight) for name, weight in zip(names, weights_T, strict=True)}
        return pairs | {"conflicting": self.conflicting / (self.done + 1)} | weights

    def _norm(self, tally: Tally) -> tuple[float, float]:
        """Returns a pair: the norm of the gradient, and the number by which to divide the gradient to clip it.

        Raises:
            FloatingPointError: If the gradient is not finite, or too large for the optimizer.
        """
        with timed("optimizer"):
            norm = total_norm(self.trained)
        shrink = max(1.0, norm / (self.recipe.train.clip or math.inf))
        if not norm / shrink < LARGEST_NORM:  # also true if the norm is nan
            raise FloatingPointError(
                f"the gradient of {' + '.join(tally.losses)} is {norm:g} although the losses are "
                "finite. Lower train.lr, set train.clip, or use train.precision: fp32."
            )
        return norm, shrink

    def evaluate(self, tick: Tick) -> dict[str, Evaluation]:
        """Evaluates every scored task on the whole dev set, and returns the scores of each task.

        Also updates the best score so far. ``tick`` is called after each batch with the number of its rows. A row that
        several tasks read counts once.
        """
        scored = self.scored
        self._fit()
        self.predicted = scoring.predict_and_decide(
            self.predictor, [data.dev for data in scored.values()], tick, self.processes
        )
        scores = {name: scoring.evaluate_predicted(data.dev, self.predicted[name]) for name, data in scored.items()}
        self.evaluated = self.done
        score, sure = standing(scores, self.recipe)
        self.improved = self.best.count(score, sure)
        self.tied = score == self.best.score and self.best.since > 0
        return scores

    def _fit(self) -> None:
        """Fits the threshold and the calibration of each task that has held-out rows, before the model is saved.

        Without held-out rows, only the threshold of a task that answers yes or no by a cosine is fitted, on a random
        sample of its train rows.
        """
        held_out = [data.held_out for data in self.scored.values() if data.held_out is not None]
        if held_out:
            scoring.fit_answers(self.predictor, [(data, np.arange(len(data))) for data in held_out], self.processes)
        for name, data in self.scored.items():
            if data.held_out is None and data.task.predicts.fits.needed:
                sample = numpy_generator(self.recipe.train.seed, "threshold", name)
                rows = sample.permutation(len(data.train))[:THRESHOLD_SAMPLE]
                scoring.fit_answers(self.predictor, [(data.train, rows)], self.processes)

    def undefined(self) -> list[str]:
        """Returns a warning for each task whose metric is undefined for the predictions of the last evaluation."""
        return [
            line
            for name, predicted in self.predicted.items()
            for line in scoring.undefined_scores(self.data[name].dev, predicted, [self.recipe.tasks[name].metric])
        ]

    @property
    def over(self) -> bool:
        """Whether the run has ended, because all its steps are done or because it stopped early."""
        return self.done >= self.plan.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether the run stopped early: none of its last ``train.patience`` evaluations reached a new best score."""
        patience = self.recipe.train.patience
        return patience is not None and self.best.since >= patience
