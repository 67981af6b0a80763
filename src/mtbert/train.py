"""A run, from top to bottom: plan, draw, loss, step, evaluate, save.

``Run`` holds all that changes while training; ``fit`` leads it from the first step to the last and
can be stopped and continued at any step with bitwise the same result.

Dimension key: T tasks, B examples of a task in a step.
"""

import json
import math
import os
import signal
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from types import FrameType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor

from mtbert import checkpoint, evaluate, optim, sampling
from mtbert.batch import Dataset, StepBatch, collate
from mtbert.checkpoint import State, Values
from mtbert.display import Display
from mtbert.evaluate import Evaluation, Tick
from mtbert.losses import Pass
from mtbert.model.model import Model
from mtbert.prepare import Prepared
from mtbert.recipe import Recipe

Part = tuple[Dataset, npt.NDArray[np.int64]]  # rows of one task's data


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
        return cls(
            rounds=rounds,
            steps_per_round=1 if train.mode == "joint" else len(sizes),
            passes={name: sum(rounds) * drawn[name] / sizes[name] for name in sizes},
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
    """What one optimizer step did; ``losses`` are unweighted means by ``task.loss``."""

    step: int
    epoch: int
    losses: Mapping[str, float]
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
            sampling.Stream(name, len(d.train), recipe.tasks[name].batch_size * settings.accumulate, settings.seed)
            for name, d in data.items()
        ]
        self.optimizer = optim.adamw(
            model, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
        )
        seed = int(sampling.generator(settings.seed, "dropout").integers(2**63))
        self.generator = torch.Generator(device).manual_seed(seed)
        self.done = 0  # optimizer steps
        self.taken = [0] * len(self.streams)  # batches of each task
        self.evaluated = 0  # the step of the last evaluation
        self.best = -math.inf
        self.stale = 0  # evaluations since the best

    def step(self) -> Step:
        """One optimizer step.

        Raises:
            FloatingPointError: If a loss or the gradient is not finite; weights and optimizer are as before.
        """
        settings = self.recipe.train
        drawn = self._draw()
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, float] = {}
        tokens = 0
        for micro in micro_batches(drawn, settings.accumulate, settings.token_budget):
            batch = collate(micro, self.device)
            tokens += len(batch.ids_N)
            total = self._loss(batch, {data.task.name: len(rows) for data, rows in drawn}, losses)
            total.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip or math.inf))
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"step {self.done + 1}: the gradient of {' + '.join(losses)} is {norm:g} although the losses are "
                "finite. Lower train.lr, or use train.precision: fp32."
            )
        lr = settings.lr * optim.rate(
            self.done, steps=self.plan.steps, warmup=settings.warmup, schedule=settings.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        epoch = self.plan.epoch(self.done)
        self.done += 1
        return Step(self.done, epoch, losses, lr, norm, tokens)

    def evaluate(self, tick: Tick) -> dict[str, Evaluation]:
        """Scores of every task on all its dev rows; notes whether they are the best so far."""
        scores = {}
        for name, data in self.data.items():
            sample = sampling.generator(self.recipe.train.seed, "threshold", name)
            evaluate.fit_threshold(self.model, data.train, sample)
            scores[name] = evaluate.evaluate(self.model, data.dev, tick)
        chosen = self.recipe.aggregate(self.recipe.train.select, {name: s.metrics for name, s in scores.items()})
        self.evaluated = self.done
        self.stale = 0 if chosen > self.best else self.stale + 1
        self.best = max(self.best, chosen)
        return scores

    @property
    def over(self) -> bool:
        """Whether the plan is done, or patience is out."""
        patience = self.recipe.train.patience
        return self.done >= self.plan.steps or (patience is not None and self.stale >= patience)

    def state(self) -> State:
        """Everything, beside the model's weights, that the next step depends on."""
        moments = self.optimizer.state_dict()["state"]
        return State(
            values=Values(
                done=self.done,
                taken=list(self.taken),
                evaluated=self.evaluated,
                best=self.best if math.isfinite(self.best) else None,
                stale=self.stale,
                generator=checkpoint.generator_state(self.generator),
            ),
            tensors={f"{i}.{key}": value for i, entry in moments.items() for key, value in entry.items()},
        )

    def restore(self, state: State) -> None:
        """Puts the run where :meth:`state` found it; the model's weights are loaded apart."""
        values = state.values
        if not 0 <= values.done <= self.plan.steps or len(values.taken) != len(self.streams):
            raise ValueError(f"{values.done} steps of {self.plan.steps}, {len(values.taken)} tasks")
        self.done, self.taken, self.evaluated = values.done, list(values.taken), values.evaluated
        self.best = -math.inf if values.best is None else values.best
        self.stale = values.stale
        checkpoint.set_generator_state(self.generator, values.generator)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.tensors.items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = tensor
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for index, entry in moments.items():
            if index >= len(parameters) or entry["exp_avg"].shape != parameters[index].shape:
                raise ValueError(f"the optimizer's tensor {index} is of another model")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _draw(self) -> list[Part]:
        """The rows of this step: of all tasks, or of the one whose turn it is."""
        chosen: Sequence[int] = range(len(self.streams))
        if self.recipe.train.mode == "alternate":
            progress = sampling.Progress(self.plan.epoch(self.done), len(self.plan.rounds), self.done, self.plan.steps)
            sizes = [s.size for s in self.streams]
            chosen = [sampling.pick(sampling.round_robin, sizes, progress, self.recipe.train.seed)]
        parts = []
        for i in chosen:
            stream = self.streams[i]
            parts.append((self.data[stream.name].train, stream.rows(self.taken[i])))
            self.taken[i] += 1
        return parts

    def _loss(self, batch: StepBatch, examples: Mapping[str, int], losses: dict[str, float]) -> Tensor:
        """The weighted sum over tasks and losses, each scaled by this micro-batch's share of the step's examples."""
        outputs = self.model(batch, self.generator)
        terms = []
        for name, out in outputs.items():
            settings = self.recipe.tasks[name]
            share = len(batch.example_ids[name]) / examples[name]
            made = Pass(self.model, batch, self.model.tasks[name], out, batch.labels[name], self.generator)
            for loss in settings.losses:
                value = loss(made)
                if not torch.isfinite(value):
                    raise FloatingPointError(self._not_finite(f"{name}.{loss.kind}", float(value.detach()), made))
                key = f"{name}.{loss.kind}"
                losses[key] = losses.get(key, 0.0) + share * float(value.detach())
                terms.append(settings.weight * loss.weight * share * value)
        return torch.stack(terms).sum()

    def _not_finite(self, loss: str, value: float, made: Pass) -> str:
        ids = made.batch.example_ids[made.task.name]
        rows = torch.isfinite(made.out.prediction.detach().reshape(len(ids), -1)).all(1).tolist()
        guilty = [i for i, finite in zip(ids, rows, strict=True) if not finite] or list(ids)
        shown = ", ".join(guilty[:8]) + (f" and {len(guilty) - 8} more" if len(guilty) > 8 else "")
        return (
            f"step {self.done + 1}: loss {loss} is {value:g} for examples {shown}. "
            "Look at these rows, lower train.lr, or use train.precision: fp32."
        )


def micro_batches(parts: Sequence[Part], pieces: int, budget: int | None) -> Iterator[list[Part]]:
    """The parts of a step in as many forward passes as needed.

    Each task's rows are dealt in ``pieces`` equal runs; a piece with more than ``budget`` tokens is cut further,
    down to single examples if need be. Every row comes exactly once.
    """
    for piece in range(pieces):
        micro: list[Part] = []
        tokens = 0
        for data, rows in parts:
            share = np.array_split(rows, pieces)[piece]
            if budget is None:
                micro.append((data, share))
                continue
            first = 0
            for i, length in enumerate(data.lengths[share].tolist()):
                if tokens and tokens + length > budget:
                    yield [*micro, (data, share[first:i])] if i > first else micro
                    micro, tokens, first = [], 0, i
                tokens += length
            micro.append((data, share[first:]))
        yield [(data, rows) for data, rows in micro if len(rows)]


def fit(run: Run, tokenizer: Tokenizer, out: Path, display: Display) -> dict[str, Evaluation]:
    """Trains from where ``run`` stands to the end of its plan.

    Writes ``metrics.jsonl`` (what a resumed run repeats bitwise), ``timings.jsonl``, ``last/`` and ``best/``
    in ``out``. Returns the last evaluation, or nothing if the run had ended before.

    Raises:
        Stopped: After SIGINT or SIGTERM, with ``last/`` written.
        FloatingPointError: If a loss is not finite; ``last/`` stays the last good checkpoint.
    """
    settings = run.recipe.train
    evaluations = run.plan.evaluations(settings.evaluate_every)
    every = settings.checkpoint_every * run.plan.steps_per_round
    scores: dict[str, Evaluation] = {}

    def save_last() -> None:
        written = log.sync()

        def write(folder: Path) -> None:
            state = run.state()
            checkpoint.save_model(run.model, tokenizer, folder)
            checkpoint.save_state(
                replace(state, values=state.values.model_copy(update={"metrics_bytes": written})), folder
            )

        checkpoint.write_folder(out / "last", write)

    with _Log(out) as log, _signals() as stopping, display:
        display.begin(run.plan.steps, run.done)

        def tick(examples: int) -> None:
            display.tick(examples)
            if stopping():
                raise Stopped

        try:
            while True:
                if run.done in evaluations and run.evaluated < run.done:
                    display.evaluating(sum(len(d.dev) for d in run.data.values()))
                    scores = run.evaluate(tick)
                    aggregates = {
                        name: run.recipe.aggregate(name, {task: s.metrics for task, s in scores.items()})
                        for name in ("overall", "mean")
                    }
                    log.evaluation(run.done, scores, aggregates)
                    display.evaluated(run.done, scores, run.recipe, aggregates, best=run.stale == 0)
                    if run.stale == 0:
                        checkpoint.write_folder(
                            out / "best", lambda to: checkpoint.save_model(run.model, tokenizer, to)
                        )
                    save_last()
                elif run.done and run.done % every == 0:
                    save_last()
                if run.over:
                    return scores
                if stopping():
                    raise Stopped
                begun = time.perf_counter()
                step = run.step()
                seconds = time.perf_counter() - begun
                log.step(step, seconds)
                display.step(step.epoch, step.step, step.losses, step.tokens)
        except Stopped:
            save_last()
            raise Stopped(f"stopped at step {run.done}. Go on with: mtbert train --resume {out}") from None
        except FloatingPointError as error:
            kept = out / "last"
            left = f"The last good checkpoint is {kept}." if kept.exists() else "There is no checkpoint yet."
            raise FloatingPointError(f"{error} {left}") from None


class _Log:
    """``metrics.jsonl``, the same for the same run, and ``timings.jsonl``, which never is."""

    def __init__(self, out: Path) -> None:
        self.metrics = (out / "metrics.jsonl").open("a", encoding="utf-8")
        self.timings = (out / "timings.jsonl").open("a", encoding="utf-8")

    def step(self, step: Step, seconds: float) -> None:
        self._write(self.metrics, asdict(step))
        self._write(self.timings, {"step": step.step, "seconds": round(seconds, 6)})

    def evaluation(self, step: int, scores: Mapping[str, Evaluation], aggregates: Mapping[str, float]) -> None:
        tasks = {name: asdict(score) for name, score in scores.items()}
        self._write(self.metrics, {"step": step, "evaluation": tasks, "aggregates": dict(aggregates)})

    def sync(self) -> int:
        """The length of ``metrics.jsonl`` in bytes, all of them on the disk."""
        self.metrics.flush()
        os.fsync(self.metrics.fileno())
        return os.fstat(self.metrics.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.metrics.close()
        self.timings.close()

    def _write(self, file: IO[str], line: Mapping[str, Any]) -> None:
        file.write(json.dumps(line) + "\n")
        file.flush()


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came; a second one ends the process at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
