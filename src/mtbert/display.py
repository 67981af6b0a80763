"""The display of a run's progress: two lines that are updated in place (terminal or notebook), or plain lines."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from rich.console import Console, Group
from rich.text import Text

from mtbert.messages import warn
from mtbert.progress_bar import LiveBar, bar_line, clock
from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation

SMOOTHING = 0.05  # weight of a new value in the moving average of a loss
SHORTEST_NAME = 3  # a task's name is cut to this many characters before losses are omitted
STANDINGS = {  # said of an evaluation, by whether it is the best so far, and whether its score was reached before
    (True, False): ["best so far"],
    (True, True): ["equal to the best so far; the newer model is kept"],
    (False, True): ["equal to the best so far"],
    (False, False): [],
}
FORWARD = 1 / 3  # time of scoring a token, as a share of training on it; assumed until it has been measured


class Display:
    """Shows the progress of a run on ``console``: its training, its scoring of dev, and the time left for both."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.losses: dict[str, float] = {}
        self.conflicting: float | None = None
        self.epoch = self.epochs = 0
        self.done = self.steps = 0
        self.warm = False  # whether this process has made a step
        self.trained = self.tokens = 0  # steps and tokens after the first step of this process
        self.training = 0.0  # seconds of these steps
        self.evaluations: frozenset[int] = frozenset()  # the steps after which dev is scored
        self.may_end_early = False
        self.dev_tokens = self.dev = self.scored = 0  # tokens and rows of dev, and the rows scored so far
        self.scoring: float | None = None  # the time at which the current scoring of dev began; None between scorings
        self.last_scoring: float | None = None  # seconds of the last scoring, and of saving after it
        self.is_saving = self.just_scored = False
        self.now = time.monotonic()
        self.bar = LiveBar(console, self._frame, self._line)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def begin(
        self,
        steps: int,
        done: int,
        *,
        epoch: int,
        epochs: int,
        evaluations: Collection[int],
        dev: int,
        dev_tokens: int,
        may_end_early: bool,
    ) -> None:
        """Starts to show a run. If the run is resumed, some of its steps have already been made.

        Args:
            steps: The number of optimizer steps in the whole run.
            done: The number of steps that have already been made.
            epoch: The number of the epoch that contains the next step, counted from 1.
            epochs: The number of epochs in the whole run.
            evaluations: After which steps dev is scored, for example ``{100, 200}``.
            dev: The number of dev rows that are scored each time. A row that several tasks share counts once.
            dev_tokens: The number of tokens in the dev rows.
            may_end_early: Whether the run may end before its last step (``train.patience``). The time left is then
                shown as ``at most``.
        """
        self.steps, self.done, self.epoch, self.epochs = steps, done, epoch, epochs
        self.evaluations, self.dev, self.dev_tokens = frozenset(evaluations), dev, dev_tokens
        self.may_end_early = may_end_early
        self.now = time.monotonic()

    def warn(self, line: str) -> None:
        """Prints a warning about the run."""
        warn(self.console, line)

    def step(
        self, epoch: int, step: int, losses: Mapping[str, float], tokens: int, conflicting: float | None = None
    ) -> None:
        """Shows that an optimizer step was made.

        ``conflicting`` is the share of the steps so far in which gradients of different tasks conflicted.
        """
        old = {name: self.losses.get(name, value) for name, value in losses.items()}
        # A new dict, because the thread that draws the bar may be reading the old one.
        self.losses = self.losses | {
            name: old[name] + SMOOTHING * (value - old[name]) for name, value in losses.items()
        }
        self.epoch, self.done, self.conflicting, self.just_scored = epoch, step, conflicting, False
        before, self.now = self.now, time.monotonic()
        if step in self.evaluations:
            self.evaluating()
        if not self.warm:  # not timed: the first step reserves memory and compiles kernels
            self.warm = True
            return
        self.trained += 1
        self.tokens += tokens
        self.training += self.now - before
        self.bar.moved()

    def evaluating(self) -> None:
        """Shows that the scoring of dev has begun."""
        self.scoring, self.scored = time.monotonic(), 0

    def tick(self, rows: int) -> None:
        """Adds ``rows`` to the number of dev rows that the bar shows as scored."""
        if self.scoring is not None:
            self.scored += rows
            self.bar.moved()

    def evaluated(
        self,
        step: int,
        scores: Mapping[str, Evaluation],
        recipe: Recipe,
        aggregates: Mapping[str, float],
        *,
        best: bool,
        tied: bool,
    ) -> None:
        """Prints one line with the scores on dev: the score of each task, and the overall score.

        If ``best`` or ``tied`` is true, the line also says so. ``best`` means that the model at this step is kept as
        the best so far. ``tied`` means that the model's score by ``train.select`` equals the highest earlier score.
        """
        self.now = time.monotonic()
        if self.scoring is not None:
            self.last_scoring = self.now - self.scoring
            self.scoring = None
            self.just_scored = True
        parts = [f"{name} {s.metrics[recipe.tasks[name].metric]:.4f}" for name, s in scores.items()]
        parts += [f"overall {aggregates['overall']:.4f}", *STANDINGS[best, tied]]
        self.console.print(f"step {step}  dev: {'  '.join(parts)}", soft_wrap=True)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A context manager in which the run is shown as being saved."""
        begun, self.is_saving = time.monotonic(), True
        try:
            yield
        finally:
            self.is_saving = False
            if self.just_scored and self.last_scoring is not None:  # other saves count as a part of their step
                self.now = time.monotonic()
                self.last_scoring += self.now - begun

    @property
    def left(self) -> float | None:
        """The estimated time left in seconds, for training and for scoring dev; None until two steps have been made."""
        if not self.trained:
            return None
        scoring = self._seconds_of_scoring or 0.0
        left = self.training / self.trained * (self.steps - self.done)
        left += scoring * sum(step > self.done for step in self.evaluations)
        return left + (self.scoring_left or 0.0)

    @property
    def scoring_left(self) -> float | None:
        """The estimated time left in seconds for the current scoring of dev; None if it is not known."""
        if self.scoring is None or (seconds := self._seconds_of_scoring) is None:
            return None
        return seconds * (1 - self.scored / max(self.dev, 1))

    @property
    def _seconds_of_scoring(self) -> float | None:
        """The estimated seconds of one scoring of dev.

        If dev has been scored before, the estimate is the time of the last scoring. Otherwise, the estimate is computed
        from the speed of training. Returns None if dev has not been scored and fewer than two steps have been made.
        """
        if self.last_scoring is not None or not self.trained:
            return self.last_scoring
        return FORWARD * self.dev_tokens * self.training / max(self.tokens, 1)

    def _line(self) -> str:
        run = self._left_of_run()
        if self.scoring is not None:
            own = f"{self.scored:,}/{self.dev:,} rows  {clock(self.scoring_left)} left"
            return f"scoring dev  {own}  (whole run: {run})"
        if self.is_saving:
            return f"saving  step {self.done}/{self.steps}  {run}"
        line = f"epoch {self.epoch}  step {self.done}/{self.steps}  {losses_line(self.losses)}"
        return f"{line}{_conflict(self.conflicting)}  {self._rate()}  {run}"

    def _left_of_run(self) -> str:
        left = self.left
        return f"{'at most ' if self.may_end_early and left is not None else ''}{clock(left)} left"

    def _rate(self) -> str:
        return f"{self.tokens / max(self.training, 1e-9):,.0f} tokens/s"

    def _frame(self) -> Group:
        """Returns two lines that show the progress of the run, and its losses. Neither is wider than the terminal."""
        width, run = self.console.width, self._left_of_run()
        if self.scoring is not None:
            own = [f"{self.scored:,}/{self.dev:,} rows", f"{clock(self.scoring_left)} left"]
            line = bar_line("scoring dev", self.scored, self.dev, own, width, last=f"whole run: {run}")
        else:
            first = "saving" if self.is_saving else f"epoch {self.epoch}/{self.epochs}"
            cells = [f"step {self.done}/{self.steps}", run]
            line = bar_line(first, self.done, self.steps, cells, width, last=self._rate())
        conflict = _conflict(self.conflicting)
        return Group(line, Text(losses_line(self.losses, width - len(conflict)) + conflict, no_wrap=True))


def losses_line(losses: Mapping[str, float], width: int | None = None) -> str:
    """Returns one line of at most ``width`` characters that shows each loss as ``task.loss value``.

    If the line is too long, task names are shortened, the longest first. If it is still too long, the last losses are
    omitted, and ``+N`` says how many.

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
