"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mtbert.evaluate import Evaluation
from mtbert.messages import warn
from mtbert.recipe import Recipe

SECONDS_BETWEEN_LINES = 20.0
SMOOTHING = 0.05  # of the losses and the speed shown


class Display:
    """Progress of training and evaluation on ``console``."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self.live,
        )
        self.losses: dict[str, float] = {}
        self.training: TaskID | None = None
        self.scoring: TaskID | None = None
        self.steps = self.first = 0
        self.tokens = 0
        self.begun = self.said = time.monotonic()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def begin(self, steps: int, done: int) -> None:
        """Training starts, or goes on, at step ``done`` of ``steps``."""
        self.steps, self.first = steps, done
        self.begun = self.said = time.monotonic()
        self.training = self.progress.add_task("training", total=steps, completed=done, note="")

    def warn(self, line: str) -> None:
        """Something in the run deserves a look."""
        warn(self.console, line)

    def step(
        self, epoch: int, step: int, losses: Mapping[str, float], tokens: int, conflicting: float | None = None
    ) -> None:
        """One optimizer step is done; ``conflicting`` is the share of steps with a conflict of gradients so far."""
        for name, value in losses.items():
            old = self.losses.get(name, value)
            self.losses[name] = old + SMOOTHING * (value - old)
        self.tokens += tokens
        now = time.monotonic()
        rate = self.tokens / max(now - self.begun, 1e-9)
        note = "  ".join(f"{name} {value:.3f}" for name, value in self.losses.items()) + f"  {rate:,.0f} tokens/s"
        note += "" if conflicting is None else f"  {conflicting:.0%} in conflict"
        assert self.training is not None
        self.progress.update(self.training, description=f"epoch {epoch}", completed=step, note=note)
        if not self.live and now - self.said >= SECONDS_BETWEEN_LINES:
            self.said = now
            left = (now - self.begun) / (step - self.first) * (self.steps - step)
            self.console.print(f"epoch {epoch}  step {step}/{self.steps}  {note}  {_clock(left)} left", soft_wrap=True)

    def evaluating(self, examples: int) -> None:
        """Dev is about to be scored."""
        self.scoring = self.progress.add_task("scoring dev", total=examples, note="")

    def tick(self, examples: int) -> None:
        """So many more dev examples are scored."""
        if self.scoring is not None:
            self.progress.advance(self.scoring, examples)

    def evaluated(
        self,
        step: int,
        scores: Mapping[str, Evaluation],
        recipe: Recipe,
        aggregates: Mapping[str, float],
        *,
        best: bool,
    ) -> None:
        """Dev is scored."""
        if self.scoring is not None:
            self.progress.remove_task(self.scoring)
            self.scoring = None
        parts = [f"{name} {s.metrics[recipe.tasks[name].metric]:.4f}" for name, s in scores.items()]
        mark = "  best so far" if best else ""
        self.console.print(
            f"step {step}  dev: {'  '.join(parts)}  overall {aggregates['overall']:.4f}{mark}", soft_wrap=True
        )


def score_table(recipe: Recipe, scores: Mapping[str, Evaluation], title: str) -> Table:
    """The scores beside those of the best constant answer of each task."""
    table = Table("task", "metric", title=title)
    for heading in ("score", "constant", "examples"):
        table.add_column(heading, justify="right")
    doubt = any(score.collapsed for score in scores.values())
    if doubt:
        table.add_column("")
    for name, score in scores.items():
        chosen = recipe.tasks[name].metric
        for metric, value in score.metrics.items():
            first = metric == chosen
            table.add_row(
                name if first else "",
                metric,
                f"{value:.4f}",
                f"{score.baseline[metric]:.4f}",
                str(score.examples) if first else "",
                *(["collapsed: says one thing only" if first and score.collapsed else ""] if doubt else []),
                style=None if first else "dim",
            )
    if len(scores) == 1:
        return table
    aggregate = recipe.aggregate("overall", {name: score.metrics for name, score in scores.items()})
    constant = recipe.aggregate("overall", {name: score.baseline for name, score in scores.items()})
    table.add_section()
    table.add_row("overall", "", f"{aggregate:.4f}", f"{constant:.4f}", "", *([""] if doubt else []), style="bold")
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
