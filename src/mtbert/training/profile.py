"""A profile of training: how much time each phase of a step takes."""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from rich.console import Console
from rich.table import Table
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from mtbert.profiling import TIMED_PREFIX

WARM = 5  # steps that are not measured: the first steps reserve memory and compile kernels
LOOKED_AT = 20  # steps that are measured
OPERATIONS = 8  # PyTorch operations that the table lists
_WHOLE = ("losses", "backward")  # phases whose time includes the phases that run inside them


class Profile:
    """Measures some steps of a run and prints a table of how their time was spent.

    The caller runs each step inside ``with profile:`` and then calls :meth:`count`. The table is printed after the last
    measured step. If the run ends earlier, :meth:`finish` prints it.

    Args:
        console: Where the table is printed.
        weights: How many parameters of the encoder's layers are applied to every token.
        device: The device on which the run computes.
        compute: The dtype of the run's matrix products.
    """

    def __init__(self, console: Console, weights: int, device: torch.device, compute: torch.dtype) -> None:
        self.console, self.weights, self.device, self.compute = console, weights, device, compute
        self.seen = self.tokens = 0
        self.seconds = self.begun = 0.0
        self.finished = False
        on_device = [ProfilerActivity.CUDA] if device.type == "cuda" else []
        self.profiler = profile(activities=[ProfilerActivity.CPU, *on_device], acc_events=True)

    def __enter__(self) -> Self:
        if self.seen == WARM:
            with _silent():
                self.profiler.start()
        self._wait()
        self.begun = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()
        if self.looking:
            self.seconds += time.perf_counter() - self.begun
        self.seen += 1

    @property
    def looking(self) -> bool:
        """Whether the current step is measured."""
        return WARM <= self.seen < WARM + LOOKED_AT

    def count(self, tokens: int) -> None:
        """Adds ``tokens`` to the total number of tokens, if the step that has just ended was measured.

        ``tokens`` is the number of tokens in that step. If that step was the final step to be measured,
        also prints the table of times.
        """
        if WARM < self.seen <= WARM + LOOKED_AT:
            self.tokens += tokens
        if self.seen == WARM + LOOKED_AT:
            self.finish()

    def finish(self) -> None:
        """Prints the table of measured times, if it has not been printed yet.

        If the run was too short to measure any step, prints a note instead.
        """
        if self.finished:
            return
        self.finished = True
        if self.seen <= WARM:
            self.console.print(f"--profile measures steps from number {WARM + 1} on, but there was none")
            return
        with _silent():
            self.profiler.stop()
        self._report(self.seen - WARM)

    def _report(self, steps: int) -> None:
        events = self.profiler.events() or []  # type: ignore[no-untyped-call]
        milliseconds = {name: 1e-3 * us / steps for name, us in _exclusive(events).items()}
        step = 1e3 * self.seconds / steps
        table = Table("part", title=f"a step: mean of {steps} steps, {self.device.type}")
        table.add_column("ms", justify="right")
        table.add_column("share", justify="right")
        for name, value in (*milliseconds.items(), ("rest", step - sum(milliseconds.values())), ("step", step)):
            table.add_row(name, f"{value:.2f}", f"{value / step:.1%}")
        table.add_section()
        own = sorted(self.profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
        for e in [e for e in own if e.key.startswith("aten::")][:OPERATIONS]:
            value = 1e-3 * e.self_cpu_time_total / steps
            table.add_row(f"  {e.key}", f"{value:.2f}", f"{value / step:.1%}", style="dim")
        self.console.print(table)
        rate = product_rate(self.device, self.compute)
        reached = 6 * self.weights * self.tokens / self.seconds
        self.console.print(
            f"{self.tokens / steps:,.0f} tokens a step, {self.tokens / self.seconds:,.0f} tokens/s; the encoder's "
            f"products: {reached / rate:.0%} of the {rate / 1e9:,.0f} GFLOP/s that large products reach here",
            soft_wrap=True,
        )

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def product_rate(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.3) -> float:
    """Returns the speed of large square matrix products on ``device``, in floating-point operations per second.

    Products are repeated for ``seconds`` seconds, and the fastest one counts.
    """
    size = 8192 if device.type == "cuda" else 2048
    # Random numbers: products of constants draw less power, so that a GPU computes them up to a seventh faster.
    draws = torch.Generator(device).manual_seed(0)
    a, b = (torch.rand(size, size, dtype=dtype, device=device, generator=draws) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        product = a @ b
        product[0, 0].item()  # waits for the product
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


@contextmanager
def _silent() -> Iterator[None]:
    """A context manager that discards what is written to standard error.

    The native library of PyTorch's profiler prints notices there.
    """
    sys.stderr.flush()
    with open(os.devnull, "w") as nothing:
        before = os.dup(2)
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _exclusive(events: list[FunctionEvent]) -> dict[str, float]:
    """Returns the time of each phase in microseconds, in the order in which the phases first occur.

    The time of an inner phase does not count for the phase around it. The phases in ``_WHOLE`` are the exception: their
    time includes everything inside them.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for event in events:
        if not event.name.startswith(TIMED_PREFIX):
            continue
        around = _around(event)
        if any(name in _WHOLE for name in around):
            continue
        elapsed = event.time_range.elapsed_us()  # type: ignore[no-untyped-call]
        found[event.name.removeprefix(TIMED_PREFIX)] += elapsed
        if around:
            found[around[0]] -= elapsed
    return dict(found)


def _around(event: FunctionEvent) -> list[str]:
    """Returns the names of the phases that enclose ``event``, from the innermost to the outermost."""
    found = []
    while event.cpu_parent is not None:
        event = event.cpu_parent
        if event.name.startswith(TIMED_PREFIX):
            found.append(event.name.removeprefix(TIMED_PREFIX))
    return found
