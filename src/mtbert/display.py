"""Progress of a run on the screen: two live lines on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console, Group
from rich.text import Text

from mtbert.messages import warn
from mtbert.progress_bar import LiveBar, bar_line, clock
from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation

SECONDS_BETWEEN_LINES = 20.0
SMOOTHING = 0.05  # of the losses shown
SHORTEST_NAME = 3  # characters that a task's name is cut to before losses are left out
FORWARD = 1 / 3  # of the time that training needs for as many tokens, until an evaluation has been timed


class Display:
    """Progress of training and of scoring dev on ``console``, with the time left for both."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.losses: dict[str, float] = {}
        self.conflicting: float | None = None
        self.epoch = self.epochs = 0
        self.done = self.steps = 0
        self.warm = False  # whether this process has done a step
        self.trained = self.tokens = 0  # steps and tokens since then
        self.training = 0.0  # seconds that they took
        self.evaluations: Sequence[int] = ()  # numbers of steps
        self.dev_tokens = self.dev = self.scored = 0  # tokens and examples of dev, and the examples scored so far
        self.scoring: float | None = None  # when scoring began, where it goes on
        self.last_scoring: float | None = None  # seconds of the last one
        self.now = time.monotonic()
        self.bar = LiveBar(console, self._frame, self._line, SECONDS_BETWEEN_LINES)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def begin(
        self, steps: int, done: int, *, epochs: int, evaluations: Sequence[int], dev: int, dev_tokens: int
    ) -> None:
        """Training starts, or goes on, at step ``done`` of ``steps``.

        Args:
            steps: Optimizer steps of the whole run.
            done: Those that are done.
            epochs: Epochs of the whole run.
            evaluations: The numbers of steps done at which dev is scored.
            dev: Examples that are scored each time.
            dev_tokens: Their tokens.
        """
        self.steps, self.done, self.epochs = steps, done, epochs
        self.evaluations, self.dev, self.dev_tokens = evaluations, dev, dev_tokens
        self.now = time.monotonic()

    def warn(self, line: str) -> None:
        """Prints a warning: something in the run deserves a look."""
        warn(self.console, line)

    def step(
        self, epoch: int, step: int, losses: Mapping[str, float], tokens: int, conflicting: float | None = None
    ) -> None:
        """One optimizer step is done; ``conflicting`` is the share of steps with a conflict of gradients so far."""
        for name, value in losses.items():
            old = self.losses.get(name, value)
            self.losses[name] = old + SMOOTHING * (value - old)
        self.epoch, self.done, self.conflicting = epoch, step, conflicting
        before, self.now = self.now, time.monotonic()
        if not self.warm:  # the first step reserves memory and compiles kernels: it says nothing of the others
            self.warm = True
            return
        self.trained += 1
        self.tokens += tokens
        self.training += self.now - before
        self.bar.moved()

    def evaluating(self) -> None:
        """Dev is about to be scored."""
        self.scoring, self.scored = time.monotonic(), 0

    def tick(self, examples: int) -> None:
        """``examples`` more of dev are scored."""
        if self.scoring is not None:
            self.scored += examples
            self.bar.moved()

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
        self.now = time.monotonic()
        if self.scoring is not None:
            self.last_scoring = self.now - self.scoring
            self.scoring = None
        parts = [f"{name} {s.metrics[recipe.tasks[name].metric]:.4f}" for name, s in scores.items()]
        mark = "  best so far" if best else ""
        self.console.print(
            f"step {step}  dev: {'  '.join(parts)}  overall {aggregates['overall']:.4f}{mark}", soft_wrap=True
        )

    @property
    def left(self) -> float | None:
        """The seconds left for training and for scoring dev; ``None`` before there is anything to judge by."""
        if not self.trained:
            return None
        scoring = self.last_scoring
        if scoring is None:
            scoring = FORWARD * self.dev_tokens * self.training / max(self.tokens, 1)
        left = self.training / self.trained * (self.steps - self.done)
        left += scoring * sum(step > self.done for step in self.evaluations)
        if self.scoring is not None:
            left += scoring * (1 - self.scored / max(self.dev, 1))
        return left

    def _line(self) -> str:
        if self.scoring is not None:
            line = f"scoring dev  {self.scored:,}/{self.dev:,} examples"
        else:
            line = f"epoch {self.epoch}  step {self.done}/{self.steps}  {losses_line(self.losses)}"
            line += f"{_conflict(self.conflicting)}  {self._rate():,.0f} tokens/s"
        return f"{line}  {clock(self.left)} left"

    def _rate(self) -> float:
        return self.tokens / max(self.training, 1e-9)

    def _frame(self) -> Group:
        """The two live lines: where the run is, and the losses; none is wider than the terminal."""
        width = self.console.width
        left = f"{clock(self.left)} left"
        if self.scoring is not None:
            first, done, total = "scoring dev", self.scored, self.dev
            count = f"{self.scored:,}/{self.dev:,}"
        else:
            first, done, total, count = (
                f"epoch {self.epoch}/{self.epochs}",
                self.done,
                self.steps,
                f"{self.done}/{self.steps}",
            )
        line = bar_line(first, done, total, [count, left], width, last=f"{self._rate():,.0f} tokens/s")
        conflict = _conflict(self.conflicting)
        return Group(line, Text(losses_line(self.losses, width - len(conflict)) + conflict, no_wrap=True))


def losses_line(losses: Mapping[str, float], width: int | None = None) -> str:
    """Returns ``task.loss value`` of each loss, on one line of at most ``width`` characters.

    Where they do not fit, the names of tasks are cut, the longest first; then the last losses are left out and counted.

    >>> losses_line({"sentiment.ce": 1.25, "sts.mse": 0.5}, width=30)
    'senti….ce 1.250  sts.mse 0.500'
    >>> losses_line({"sentiment.ce": 1.25, "sts.mse": 0.5}, width=20)
    'se….ce 1.250  +1'
    """
    names = [name.rpartition(".")[::2] for name in losses]
    longest = max([SHORTEST_NAME, *(len(task) for task, _ in names)])
    for most in range(longest, SHORTEST_NAME - 1, -1):
        parts = [
            f"{_cut(task, most)}.{kind} {value:.3f}" for (task, kind), value in zip(names, losses.values(), strict=True)
        ]
        if width is None or len("  ".join(parts)) <= width:
            return "  ".join(parts)
    for kept in range(len(losses) - 1, -1, -1):
        line = "  ".join([*parts[:kept], f"+{len(losses) - kept}"])
        if len(line) <= (width or 0):
            return line
    return ""


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _conflict(share: float | None) -> str:
    return "" if share is None else f"  {share:.0%} in conflict"
