"""Paired, alternating measurements, and a lower bound on the time of a training step."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mtbert.training.profile import product_rate

Measure = Callable[[], float]
# Bytes that AdamW moves per parameter: it reads weight, gradient and two moments, and writes all but the gradient.
ADAMW_BYTES = 28


@dataclass(frozen=True)
class Paired:
    """The measurements of two sides, pair by pair.

    Ratios are taken within a pair, so that a slow phase of the machine affects both sides.
    """

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    def gain(self) -> tuple[float, float]:
        """Returns the median and the interquartile range of ``theirs / ours``: how many times faster ours is."""
        return _middle([b / a for a, b in zip(self.ours, self.theirs, strict=True)])

    def cost(self) -> tuple[float, float]:
        """Returns the median and the interquartile range of ``ours / theirs``: how many times slower ours is."""
        return _middle([a / b for a, b in zip(self.ours, self.theirs, strict=True)])


def paired(ours: Measure, theirs: Measure, pairs: int, warmup: int = 2) -> Paired:
    """Returns measurements taken alternately, ours first; the first ``warmup`` pairs are discarded."""
    found = [(ours(), theirs()) for _ in range(warmup + pairs)][warmup:]
    return Paired(tuple(a for a, _ in found), tuple(b for _, b in found))


def timed(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Measure:
    """Returns a measurement of ``action``: its time in seconds, including all the work that it leaves to a GPU."""

    def measure() -> float:
        _settle()
        begun = clock()
        action()
        _settle()
        return clock() - begun

    return measure


@dataclass(frozen=True)
class Limits:
    """The fastest arithmetic and copying that the machine reaches with the current number of threads and precision."""

    flops: float  # of a large matrix product, per second
    bandwidth: float  # bytes per second, read and written, of a large copy

    def step(self, multiplied: int, tokens: int, trained: int) -> float:
        """Returns a lower bound on the time of a training step, in seconds.

        Args:
            multiplied: The number of parameters of the encoder's layers that every token is multiplied with.
            tokens: The number of tokens, without padding.
            trained: The number of parameters that the optimizer updates.
        """
        return max(6 * multiplied * tokens / self.flops, ADAMW_BYTES * trained / self.bandwidth)


@functools.cache
def limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Returns the machine's limits: the best of several large products and copies."""
    source = torch.ones(2**26, device=device)  # 256 MiB, larger than any cache
    target = torch.empty_like(source)
    copy = min(timed(lambda: target.copy_(source))() for _ in range(6))
    return Limits(flops=product_rate(device, dtype), bandwidth=2 * source.nbytes / copy)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(high - low)


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def resident(key: str) -> int:
    """Returns the bytes that the process has in memory now (``VmRSS``) or had at its peak (``VmHWM``); on Linux only.

    ``ru_maxrss`` is not used: in a new process it starts at the size of the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
