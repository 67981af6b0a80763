"""Paired, alternated measurements, and the time that no training step can beat."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mtbert.training.profile import product_rate

Measure = Callable[[], float]
ADAMW_BYTES = 28  # a parameter: weight, gradient and two moments are read, all but the gradient written, 4 bytes each


@dataclass(frozen=True)
class Paired:
    """What two sides measured, pair by pair; ratios are taken within a pair, so that a slow spell hits both sides."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    def gain(self) -> tuple[float, float]:
        """How many times less ours takes: median and interquartile range of ``theirs / ours``."""
        return _middle([b / a for a, b in zip(self.ours, self.theirs, strict=True)])

    def cost(self) -> tuple[float, float]:
        """How many times as much ours takes: median and interquartile range of ``ours / theirs``."""
        return _middle([a / b for a, b in zip(self.ours, self.theirs, strict=True)])


def paired(ours: Measure, theirs: Measure, pairs: int, warmup: int = 2) -> Paired:
    """Measures ours, theirs, ours, theirs, ...; the first ``warmup`` pairs are thrown away."""
    found = [(ours(), theirs()) for _ in range(warmup + pairs)][warmup:]
    return Paired(tuple(a for a, _ in found), tuple(b for _, b in found))


def timed(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Measure:
    """``action`` as a measure: the seconds it takes, with all work on a GPU done."""

    def measure() -> float:
        _settle()
        begun = clock()
        action()
        _settle()
        return clock() - begun

    return measure


@dataclass(frozen=True)
class Limits:
    """What the machine reaches at the threads and in the precision in use."""

    flops: float  # of a large matrix product, per second
    bandwidth: float  # bytes per second, read and written, of a large copy

    def step(self, multiplied: int, tokens: int, trained: int) -> float:
        """The least seconds of a training step.

        Args:
            multiplied: How many parameters of the encoder's layers every token is multiplied with.
            tokens: Real ones, without padding.
            trained: Parameters that the optimizer updates.
        """
        return max(6 * multiplied * tokens / self.flops, ADAMW_BYTES * trained / self.bandwidth)


@functools.cache
def limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """The machine's limits: the best of several large products and copies."""
    source = torch.ones(2**26, device=device)  # 256 MiB: beyond any cache
    target = torch.empty_like(source)
    copy = min(timed(lambda: target.copy_(source))() for _ in range(6))
    return Limits(flops=product_rate(device, dtype), bandwidth=2 * source.nbytes / copy)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(high - low)


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
