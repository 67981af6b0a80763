"""A run, from top to bottom: plan, draw, loss, step, evaluate, save.

``Run`` holds all that changes while training; ``fit`` leads it from the first step to the last and
can be stopped and continued at any step with bitwise the same result.

Dimension key: T tasks.
"""

import math
import os
import signal
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, combinations
from pathlib import Path
from types import FrameType
from typing import Self

import torch
from tokenizers import Tokenizer
from torch import Tensor

from mtbert import checkpoint, evaluate, files, history, optim, tracking
from mtbert import state as states
from mtbert.balance.gram import check_weights, combine, cosines, gram
from mtbert.checkpoint import Predicted
from mtbert.display import Display
from mtbert.evaluate import Evaluation, Tick
from mtbert.model.model import Model
from mtbert.objective import Objective, Part, Tally, micro_batches
from mtbert.prepare import Prepared, settled
from mtbert.profiling import Profile, part
from mtbert.recipe import Recipe, identity
from mtbert.sampling.stream import Stream
from mtbert.sampling.turn import Progress, draw
from mtbert.seeds import numpy_generator, torch_generator
from mtbert.state import State, Values

SECOND_SIGNAL = 1.0  # seconds after the first; an earlier one counts as the same
INERT = 1e-3  # a loss with less than this share of a task's gradient is pointed out
INERT_ROWS = 16  # of each task, to find that out


class Stopped(Exception):
    """Raised when a signal asked the run to stop; its state is on disk."""


@dataclass(frozen=True)
class Plan:
    """How many rounds each epoch has; a round is one batch of each task, in one joint step or in a step each."""

    rounds: tuple[int, ...]
    steps_per_round: int
    passes: Mapping[str, float]  # over each task's train rows, in the whole run

    @classmethod
    def of(cls, recipe: Recipe, sizes: Mapping[str, int]) -> Self:
        """The plan for tasks with so many train rows; epochs count from 1."""
        train = recipe.train
        drawn = {name: recipe.tasks[name].batch_size * train.accumulate for name in sizes}
        batches = [math.ceil(sizes[name] / drawn[name]) for name in sizes]
        usual = (
            train.rounds if isinstance(train.rounds, int) else max(batches) if train.rounds == "max" else min(batches)
        )
        fourth = max(batches) if train.rounds == "paper" else usual
        rounds = tuple(usual if epoch % 4 else fourth for epoch in range(1, train.epochs + 1))
        # Batches of each task per round, as expected: one, but for samplers that look at the sizes.
        turns = [
            torch.stack(
                [train.sampler(list(sizes.values()), Progress(epoch, train.epochs, i, 0)) for i in range(len(sizes))]
            ).sum(0)
            for epoch in range(1, train.epochs + 1)
        ]
        taken = [sum(n * float(turn[i]) for n, turn in zip(rounds, turns, strict=True)) for i in range(len(sizes))]
        return cls(
            rounds=rounds,
            steps_per_round=1 if train.mode == "joint" else len(sizes),
            passes={name: n * drawn[name] / sizes[name] for name, n in zip(sizes, taken, strict=True)},
        )

    @property
    def steps(self) -> int:
        return sum(self.rounds) * self.steps_per_round

    def epoch(self, step: int) -> int:
        """The epoch, from 1, that step ``step`` (from 0) belongs to."""
        ends = [rounds * self.steps_per_round for rounds in accumulate(self.rounds)]
        return min(bisect_right(ends, step) + 1, len(self.rounds))

    def evaluations(self, every: int | str) -> frozenset[int]:
        """The numbers of steps done at which dev is scored: always at the end."""
        rounds = accumulate(self.rounds) if isinstance(every, str) else range(every, sum(self.rounds) + 1, every)
        return frozenset(n * self.steps_per_round for n in rounds) | {self.steps}


@dataclass(frozen=True)
class Step:
    """The record of one optimizer step; ``losses`` are unweighted means by ``task.loss``.

    ``diagnostics``, where there are any: ``p(task)``, the probability that it was this task's turn; ``cos(a, b)``
    between the gradients of two tasks, ``conflicting``, the share of steps so far with a negative one, and
    ``weight(task)`` of each gradient in the combined one; ``sigma2(task)``, where task weights are learned.
    """

    step: int
    epoch: int
    losses: Mapping[str, float]
    diagnostics: Mapping[str, float]
    lr: float
    grad_norm: float
    tokens: int


class Run:
    """The model, its optimizer and its random state at one moment of a run."""

    def __init__(self, recipe: Recipe, model: Model, data: Mapping[str, Prepared], device: torch.device) -> None:
        self.recipe = recipe
        self.model = model.to(device)
        self.device = device
        self.data = data
        settings = recipe.train
        self.plan = Plan.of(recipe, {name: len(d.train) for name, d in data.items()})
        self.streams = [
            Stream(
                name=name,
                size=len(d.train),
                batch_size=recipe.tasks[name].batch_size * settings.accumulate,
                seed=settings.seed,
                clusters=d.train.clusters if recipe.tasks[name].no_duplicates else None,
            )
            for name, d in data.items()
        ]
        seed = int(numpy_generator(settings.seed, "dropout").integers(2**63))
        self.generator = torch.Generator(device).manual_seed(seed)
        self.ema = None if settings.ema is None else settings.ema.start(self.model)
        self.objective = Objective(settled(recipe, data), self.model, self.generator, self.ema)
        self.shared = [p for p in model.encoder.parameters() if p.requires_grad]
        self.trained = optim.factors(model, settings.layer_decay) | self.objective.factors()
        self.optimizer = optim.adamw(
            self.trained, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
        )
        words = self.model.encoder.word_embedding
        words.sparse = device.type == "cpu"  # elsewhere memory is filled faster than rows are sorted
        self.words = optim.RowGradient(words.weight)
        self.done = 0  # optimizer steps
        self.taken = [0] * len(self.streams)  # batches of each task
        self.evaluated = 0  # the step of the last evaluation
        self.predicted: dict[str, Predicted] = {}  # in that evaluation; not kept over a stop
        self.best = -math.inf
        self.stale = 0  # evaluations since the best
        self.conflicting = 0  # steps in which two tasks' gradients pointed apart
        self.moved: dict[str, bool] = {}  # whether a loss was ever not 0 since the run began or went on

    @property
    def scored(self) -> dict[str, Prepared]:
        """The data of the tasks whose predictions are trained."""
        return {name: data for name, data in self.data.items() if self.recipe.tasks[name].scored}

    @property
    def predictor(self) -> Model:
        """The model that is scored and saved: with averaged weights where the recipe says so."""
        ema = self.recipe.train.ema
        return self.ema if self.ema is not None and ema is not None and ema.predicts else self.model

    def step(self) -> Step:
        """One optimizer step.

        Raises:
            FloatingPointError: If a loss or the gradient is not finite; weights and optimizer are as before.
        """
        settings = self.recipe.train
        with part("data"):
            drawn, diagnostics = self._draw()
        tally = Tally()
        self.optimizer.zero_grad(set_to_none=True)
        try:
            if settings.conflicts or settings.aggregation.kind != "sum":
                diagnostics |= self._backward_apart(drawn, tally)
            else:
                self.objective.backward(drawn, tally)
            with part("optimizer"):
                norm = optim.total_norm(self.trained)
            shrink = max(1.0, norm / (settings.clip or math.inf))
            if not norm / shrink < optim.LARGEST_NORM:  # nor if one of them is nan
                raise FloatingPointError(
                    f"the gradient of {' + '.join(tally.losses)} is {norm:g} although the losses are "
                    "finite. Lower train.lr, set train.clip, or use train.precision: fp32."
                )
        except FloatingPointError as error:
            raise FloatingPointError(f"step {self.done + 1}: {error}") from None
        lr = settings.lr * optim.rate(
            self.done, steps=self.plan.steps, warmup=settings.warmup, schedule=settings.schedule
        )
        with part("optimizer"):
            self.words.spread()
            optim.step(self.optimizer, lr, shrink)
            if self.ema is not None and settings.ema is not None:
                settings.ema.update(self.ema, self.model, self.done)
        self.moved |= {key: self.moved.get(key, False) or value != 0 for key, value in tally.losses.items()}
        diagnostics |= self.objective.learned()
        epoch = self.plan.epoch(self.done)
        self.done += 1
        return Step(self.done, epoch, tally.losses, diagnostics, lr, norm, tally.tokens)

    def inert(self) -> list[str]:
        """One line for each loss that was always 0, or that hardly moves the encoder now; nothing is changed.

        New heads pass on too little of a regulariser's gradient to tell: ask when they are trained.
        """
        idle = [
            f"loss {key} was 0 in every step: its batches hold nothing that it could compare. "
            "Raise batch_size, look at the labels, or drop it."
            for key, moved in self.moved.items()
            if not moved
        ]
        budget = self.recipe.train.token_budget
        several = [
            next(micro_batches([(data.train, stream.rows(0)[:INERT_ROWS])], 1, budget))[0]
            for data, stream in zip(self.data.values(), self.streams, strict=True)
            if len(self.recipe.tasks[stream.name].losses) > 1
        ]
        return idle + [
            f"task {name}: loss {kind} has {norm / sum(norms.values()):.0e} of the gradient that reaches the encoder: "
            "it does next to nothing. Raise its weight, or drop it."
            for name, norms in (self.objective.gradients(several) if self.shared else {}).items()
            for kind, norm in norms.items()
            if 0 < norm < INERT * sum(norms.values())
        ]

    def evaluate(self, tick: Tick) -> dict[str, Evaluation]:
        """Scores of every task on all its dev rows; notes whether they are the best so far."""
        scores = {}
        for name, data in self.scored.items():
            sample = numpy_generator(self.recipe.train.seed, "threshold", name)
            evaluate.fit_threshold(self.predictor, data.train, sample)
            self.predicted[name] = evaluate.answer(self.predictor, data.dev, tick)
            scores[name] = evaluate.judge(data.dev, self.predicted[name])
        chosen = self.recipe.aggregate(self.recipe.train.select, {name: s.metrics for name, s in scores.items()})
        self.evaluated = self.done
        self.stale = 0 if chosen > self.best else self.stale + 1
        self.best = max(self.best, chosen)
        return scores

    def undefined(self) -> list[str]:
        """Returns a warning for each task whose ``metric`` is undefined on what the last evaluation found."""
        return [
            line
            for name, predicted in self.predicted.items()
            for line in evaluate.undefined(self.data[name].dev, predicted, [self.recipe.tasks[name].metric])
        ]

    @property
    def over(self) -> bool:
        """Whether the plan is done, or patience is out."""
        return self.done >= self.plan.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether patience is out: as many evaluations as ``train.patience`` were no better than the best."""
        patience = self.recipe.train.patience
        return patience is not None and self.stale >= patience

    def state(self) -> State:
        """Everything, beside the model that predicts, that the next step depends on."""
        tensors = self._tensors() | {
            f"optimizer.{i}.{key}": value
            for i, entry in self.optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }
        return State(
            values=Values(
                done=self.done,
                taken=tuple(self.taken),
                evaluated=self.evaluated,
                best=self.best if math.isfinite(self.best) else None,
                stale=self.stale,
                conflicting=self.conflicting,
                generator=states.generator_state(self.generator),
                tensors=len(tensors),
            ),
            tensors=tensors,
        )

    def restore(self, state: State) -> None:
        """Puts the run where :meth:`state` found it; the weights of the model that predicts are loaded apart.

        Raises:
            ValueError: If the state is not of this run; the message names the file of ``last/`` and the value.
        """
        values = state.values
        joint = self.recipe.train.mode == "joint"
        with _named(states.VALUES):
            states.check_values(values, self.plan.steps, len(self.streams), joint)
            states.set_generator_state(self.generator, values.generator)
        with _named(states.TENSORS):
            moments = self._moments(state.tensors)
        self.done, self.taken, self.evaluated = values.done, list(values.taken), values.evaluated
        self.best = -math.inf if values.best is None else values.best
        self.stale, self.conflicting = values.stale, values.conflicting
        for name, module in self._modules().items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}
            )
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _moments(self, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """Returns the optimizer's part of a state's tensors, all of which are checked.

        A weight that had no gradient so far has no moments.
        """
        expected = self._tensors()
        moments = {}
        for i, parameter in enumerate(p for group in self.optimizer.param_groups for p in group["params"]):
            entry = {"step": torch.tensor(0.0), "exp_avg": parameter, "exp_avg_sq": parameter}
            if any(f"optimizer.{i}.{key}" in tensors for key in entry):
                expected |= {f"optimizer.{i}.{key}": tensor for key, tensor in entry.items()}
                moments[i] = {key: tensors.get(f"optimizer.{i}.{key}", tensor) for key, tensor in entry.items()}
        states.check_tensors(tensors, expected)
        return moments

    def _tensors(self) -> dict[str, Tensor]:
        """Returns what trains beside the model that predicts, by name."""
        return {
            f"{n}.{key}": value for n, module in self._modules().items() for key, value in module.state_dict().items()
        }

    def _modules(self) -> dict[str, torch.nn.Module]:
        """Returns the modules that are trained or averaged beside the model that predicts."""
        modules: dict[str, torch.nn.Module] = {"own": self.objective.own}
        if self.ema is not None:
            modules["average"] = self.ema
        if (
            self.ema is not None or self.recipe.model.lora is not None
        ):  # a saved model has the average, or plain weights
            modules["model"] = self.model
        return modules

    def _draw(self) -> tuple[list[Part], dict[str, float]]:
        """The rows of this step, of all tasks or of the one whose turn it is, and the probability of each task."""
        chosen: Sequence[int] = range(len(self.streams))
        diagnostics = {}
        if self.recipe.train.mode == "alternate":
            progress = Progress(self.plan.epoch(self.done), len(self.plan.rounds), self.done, self.plan.steps)
            probabilities_T = self.recipe.train.sampler([s.size for s in self.streams], progress)
            chosen = [draw(probabilities_T, self.recipe.train.seed, self.done)]
            diagnostics = {f"p({s.name})": float(p) for s, p in zip(self.streams, probabilities_T, strict=True)}
        parts = []
        for i in chosen:
            stream = self.streams[i]
            parts.append((self.data[stream.name].train, stream.rows(self.taken[i])))
            self.taken[i] += 1
        return parts, diagnostics

    def _backward_apart(self, drawn: Sequence[Part], tally: Tally) -> dict[str, float]:
        """The gradient of each task on its own, combined in the shared weights and added up in all others."""
        found = self.objective.by_task(drawn, self.shared, tally)
        with part("aggregation"):
            gram_TT = gram(found)
        if not torch.isfinite(gram_TT).all():
            raise FloatingPointError(
                f"the gradient of {' + '.join(tally.losses)} is not finite although the losses are. "
                "Lower train.lr, or use train.precision: fp32."
            )
        draws = torch_generator("aggregation", self.recipe.train.seed, self.done)
        with part("aggregation"):
            weights_T = self.recipe.train.aggregation(gram_TT, draws)
            check_weights(self.recipe.train.aggregation.method, weights_T)
            for parameter, gradient in zip(self.shared, combine(found, weights_T), strict=True):
                parameter.grad = gradient
        names = [data.task.name for data, _ in drawn]
        cosines_TT = cosines(gram_TT)
        pairs = {f"cos({names[i]}, {names[j]})": float(cosines_TT[i, j]) for i, j in combinations(range(len(names)), 2)}
        self.conflicting += any(cosine < 0 for cosine in pairs.values())
        weights = {f"weight({name})": float(weight) for name, weight in zip(names, weights_T, strict=True)}
        return pairs | {"conflicting": self.conflicting / (self.done + 1)} | weights


def fit(
    run: Run,
    tokenizer: Tokenizer,
    out: Path,
    display: Display,
    profile: Profile | None = None,
    track: tracking.Log | None = None,
) -> dict[str, Evaluation]:
    """Trains from where ``run`` stands to the end of its plan.

    Writes ``metrics.jsonl`` (what a resumed run repeats bitwise), ``timings.jsonl``, ``last/`` and ``best/``
    in ``out``; ``profile`` looks at some steps, ``track`` hears the numbers of each line of the metrics. Returns the
    last evaluation, or nothing if the run had ended before.

    Raises:
        Stopped: After SIGINT or SIGTERM, with ``last/`` written.
        FloatingPointError: If a loss is not finite; ``last/`` stays the last good checkpoint.
    """
    settings = run.recipe.train
    evaluations = run.plan.evaluations(settings.evaluate_every)
    every = settings.checkpoint_every * run.plan.steps_per_round
    scores: dict[str, Evaluation] = {}
    warned: set[str] = set()

    def save(folder: Path) -> None:
        checkpoint.save_model(run.predictor, tokenizer, folder, run.done)
        if run.predicted and run.evaluated == run.done:
            checkpoint.save_predictions(run.predicted, folder)

    def save_last() -> None:
        written = log.sync()

        def write(folder: Path) -> None:
            state = run.state()
            save(folder)
            states.save(replace(state, values=state.values.model_copy(update={"metrics_bytes": written})), folder)
            states.seal(folder, identity(run.recipe))

        files.write_folder(out / "last", write)

    with history.Log(out, track) as log, signals() as stopping, display:
        display.begin(
            run.plan.steps,
            run.done,
            epochs=len(run.plan.rounds),
            evaluations=sorted(evaluations),
            dev=sum(len(d.dev) for d in run.scored.values()),
            dev_tokens=sum(int(d.dev.lengths.sum()) for d in run.scored.values()),
        )

        def tick(examples: int) -> None:
            display.tick(examples)
            if stopping():
                raise Stopped

        try:
            while True:
                if run.done in evaluations and run.evaluated < run.done:
                    display.evaluating()
                    for line in run.inert() if run.evaluated == 0 else ():
                        display.warn(line)
                    scores = run.evaluate(tick)
                    for line in run.undefined():
                        if line not in warned:
                            display.warn(line)
                            warned.add(line)
                    aggregates = {
                        name: run.recipe.aggregate(name, {task: s.metrics for task, s in scores.items()})
                        for name in ("overall", "mean")
                    }
                    log.evaluation(run.done, scores, aggregates)
                    display.evaluated(run.done, scores, run.recipe, aggregates, best=run.stale == 0)
                    if run.stale == 0:
                        files.write_folder(out / "best", save)
                    save_last()
                elif run.done % every == 0 and run.evaluated < run.done:  # what was evaluated was saved then
                    save_last()
                if run.over:
                    return scores
                if stopping():
                    raise Stopped
                begun = time.perf_counter()
                with profile or nullcontext():
                    step = run.step()
                seconds = time.perf_counter() - begun
                if profile is not None:
                    profile.count(step.tokens)
                log.step(asdict(step), seconds)
                display.step(step.epoch, step.step, step.losses, step.tokens, step.diagnostics.get("conflicting"))
        except Stopped:
            save_last()
            raise Stopped(f"stopped at step {run.done}. Go on with: mtbert train --resume {out}") from None
        except FloatingPointError as error:
            kept = out / "last"
            left = f"The last good checkpoint is {kept}." if kept.exists() else "There is no checkpoint yet."
            raise FloatingPointError(f"{error} {left}") from None
        finally:
            if profile is not None:
                profile.finish()


@contextmanager
def _named(file: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


@contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGINT or SIGTERM came; a second one ends the process at once.

    A second one within a second counts as the same: ``timeout`` and some shells send one to the process and one to its
    group.
    """
    asked: float | None = None  # when

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        now = time.monotonic()
        if asked is None:
            asked = now
        elif now - asked > SECOND_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked is not None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
