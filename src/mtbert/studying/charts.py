"""The charts of a report as data. ``markup.py`` draws them on the page, ``drawing.py`` as files for papers.

Dimension key: P points, K labels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mtbert.batch import Floats
from mtbert.studying.results import Results
from mtbert.studying.summary import Summary, Verdict

WINDOWS = 60  # points of a curve over steps; each is the mean over a window of steps
STYLES = 8  # different colours of curves
NAMED_CLASSES = 12  # with more classes, a drawn matrix has no numbers

Section = Literal["effects", "scores", "training", "errors"]
"""The part of a report in which a chart stands."""


@dataclass(frozen=True)
class Interval:
    """One entry of a panel that shows intervals: a value with its 95% interval, which is None if it is not known."""

    name: str
    value: float
    interval: tuple[float, float] | None
    verdict: Verdict = "unclear"
    beside: float | None = None  # a second value to compare with, such as the score of the best constant answer
    more: str = ""  # further words for whoever points at the line


@dataclass(frozen=True)
class Intervals:
    """A panel with one line for each interval. All lines share one scale, and ``zero`` is marked on it."""

    title: str
    lines: tuple[Interval, ...]
    zero: float | None = 0.0
    signed: bool = True  # whether the values are differences


@dataclass(frozen=True)
class Curve:
    """A series of points, drawn as a line (``line``), as dots (``dots``), or as a line with dots (``marks``).

    A line joins the points in the order in which they are given.
    """

    name: str
    x_P: Floats
    y_P: Floats
    style: int = 0  # number of its colour; curves with the same colour belong together
    form: Literal["line", "dots", "marks"] = "line"
    more: tuple[str, ...] = ()  # further words about each point; empty if there are none
    weights_P: Floats | None = None  # how much each point counts, which is drawn as its size; None: all the same


@dataclass(frozen=True)
class Curves:
    """A panel with curves over a common axis."""

    title: str
    x: str  # what the axes mean
    y: str
    curves: tuple[Curve, ...]
    level: tuple[str, float] | None = None  # a grey horizontal line and its name
    diagonal: bool = False  # whether a grey line marks where x equals y
    across: tuple[float, float] | None = None  # ends of the axes; by default those of the points
    up: tuple[float, float] | None = None
    names: tuple[str, ...] = ()  # names of the points 0, 1, ... of the horizontal axis, which otherwise has numbers


@dataclass(frozen=True)
class Matrix:
    """A panel with a square matrix of shares, such as a confusion matrix of a task's labels.

    Each of the task's labels that are drawn has a row and a column. A share is from 0 to 1, or ``nan`` if unknown.
    """

    title: str
    labels: tuple[str, ...]
    shares_KK: Floats
    row: str  # what a row stands for, such as "label"
    column: str


Panel = Intervals | Curves | Matrix


@dataclass(frozen=True)
class Chart:
    """A chart of one or more panels of the same kind, with a title and a description."""

    name: str  # the name of its files
    title: str
    alt: str  # what the chart shows, for those who do and who do not see it
    section: Section
    panels: Sequence[Panel]
    legend: tuple[str, ...] = field(default=())  # the meaning of each colour; empty if there is one, or if names say it


def best_beside_reference(results: Results, summary: Summary, task: str) -> list[str]:
    """Returns the names of two recipes of the study: the reference recipe, and the one with the best score on ``task``.

    If the reference recipe has the best score itself, its name is returned once. A reference recipe without a score on
    ``task`` is left out.
    """
    known = {row: s.scores[task].mean for row, s in summary.rows.items() if task in s.scores}
    wanted = [results.outline.reference, max(known, key=lambda row: known[row], default="")]
    return [row for row in dict.fromkeys(wanted) if row in known]


def windows(points: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Splits a curve into windows of points, and returns the mean x and the mean y of each window, as two arrays."""
    if not points:
        return np.zeros(0), np.zeros(0)
    parts = np.array_split(np.array(points, dtype=np.float64), min(WINDOWS, len(points)))
    x_P, y_P = np.stack([part.mean(0) for part in parts]).T
    return x_P, y_P


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Returns evenly spaced round numbers between ``low`` and ``high`` for the scale of an axis.

    There are at most ``most`` of them.

    >>> ticks(0.31, 0.58)
    [0.35, 0.4, 0.45, 0.5, 0.55]
    >>> ticks(1, 2250)
    [500.0, 1000.0, 1500.0, 2000.0]
    """
    width = high - low
    if not (math.isfinite(width) and width > 0):
        return [low] if math.isfinite(low) else []
    power = math.floor(math.log10(width / most))
    for factor in (1, 2, 5, 10, 20, 50):
        step = factor * 10.0**power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [round(k * step, max(0, -power)) for k in range(first, last + 1)]
    raise AssertionError(f"no scale from {low} to {high}")


def scale_ends(values: Sequence[float], room: float = 0.05) -> tuple[float, float]:
    """Returns the two ends of an axis: the lowest and the highest finite value, each moved outwards.

    Each end is moved by ``room`` times the distance between the two values. If all finite values are equal, each end is
    moved by half of the absolute value or, if the value is 0, by 1. If there is no finite value, returns (0, 1).

    >>> scale_ends([1.0, 2.0, float("nan")], room=0.5)
    (0.5, 2.5)
    >>> scale_ends([3.0])
    (1.5, 4.5)
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    more = room * (high - low) if high > low else (abs(low) / 2 or 1.0)
    return low - more, high + more


def signed(value: float) -> str:
    """Returns a difference as text with its sign and three decimal places.

    >>> signed(0.0123), signed(-0.5), signed(-0.0001)
    ('+0.012', '-0.500', '0.000')
    """
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text


def interval_text(interval: tuple[float, float] | None, write: Callable[[float], str]) -> str:
    """Returns an interval as text. The function ``write`` formats the lower and the upper end.

    >>> interval_text((-0.25, 0.5), signed), interval_text(None, signed)
    ('[-0.250, +0.500]', '(no interval)')
    """
    return "(no interval)" if interval is None else f"[{write(interval[0])}, {write(interval[1])}]"


def short(value: float) -> str:
    """Returns a number as short text: whole numbers with commas, others with at most four significant digits.

    >>> short(2250.0), short(0.43233), short(0.00015)
    ('2,250', '0.4323', '1.5e-4')
    """
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    if abs(value) >= 0.001:
        return f"{value:.4g}"
    digits, power = f"{value:.3e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
