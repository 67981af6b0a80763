"""What is in the data of each task, and what is wrong with it, before any training.

:func:`measure` counts, :func:`warnings` judges, :func:`render` draws; :func:`report` does all three.
Texts are compared without case and outer space throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mtbert.batch import Dataset, Example
from mtbert.task import Task

Labels = npt.NDArray[np.float64]

BINS = 10  # of a histogram of scores
MOST_CLASSES = 20  # that are listed
MUCH_CUT = 0.01  # share of examples cut to max_length that is worth a warning


@dataclass(frozen=True)
class TaskData:
    """All there is to know of a task's data before training; ``warnings`` are those of reading it."""

    task: Task
    train: Dataset
    dev: Dataset
    batch_size: int
    passes: float  # over train, in the whole run
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlap:
    """How many examples of one set repeat an example, or at least one text, of another."""

    examples: int
    texts: int


@dataclass(frozen=True)
class Part:
    """Figures of one split."""

    size: int
    labels: tuple[tuple[str, int], ...]  # class or bin of scores, and its count
    scores: tuple[float, float, float] | None  # mean, lowest, highest; None for classes
    tokens: tuple[int, int, int, int]  # of the example at 50, 90 and 99%, and of the longest
    cut: int
    repeated: int  # examples with the texts of an earlier one
    conflicts: int  # different texts that occur with different labels


@dataclass(frozen=True)
class Figures:
    """Figures of a task."""

    data: TaskData
    train: Part
    dev: Part
    overlap: Overlap  # dev examples found in train


def shared(a: Sequence[Example], b: Sequence[Example]) -> Overlap:
    """How many examples of ``b`` are in ``a`` (in either order of the texts), and how many share a text with ``a``."""
    whole = {tuple(sorted(_folded(e))) for e in a}
    texts = {text for e in a for text in _folded(e)}
    return Overlap(
        examples=sum(tuple(sorted(_folded(e))) in whole for e in b),
        texts=sum(not texts.isdisjoint(_folded(e)) for e in b),
    )


def measure(data: TaskData) -> Figures:
    """The figures of a task's train and dev examples."""
    return Figures(
        data=data,
        train=_part(data.task, data.train),
        dev=_part(data.task, data.dev),
        overlap=shared(data.train.examples, data.dev.examples),
    )


def warnings(figures: Figures, max_length: int) -> list[str]:
    """One line for each thing that makes a result doubtful, the warnings of reading first."""
    task, overlap = figures.data.task, figures.overlap
    found = list(figures.data.warnings)
    for split, part in (("train", figures.train), ("dev", figures.dev)):
        where = f"{task.name}, {split}"
        if task.is_class:
            found += [f"{where}: no example of class '{name}'." for name, count in part.labels if not count]
        if part.cut > MUCH_CUT * part.size:
            found.append(f"{where}: {_of(part.cut, part.size)} are cut to {max_length} tokens.")
        if part.conflicts:
            found.append(f"{where}: {part.conflicts:,} repeated with different labels, of which one is right at most.")
    if overlap.examples:
        found.append(
            f"{task.name}, dev: {_of(overlap.examples, figures.dev.size)} repeat a train example, "
            "so dev looks better than it is."
        )
    if overlap.texts > overlap.examples:
        found.append(
            f"{task.name}, dev: {_of(overlap.texts, figures.dev.size)} have a text of a train example. "
            "A grouped split keeps them apart."
        )
    return found


def render(figures: Figures, max_length: int) -> RenderableType:
    """The figures of a task as tables of at most 80 columns."""
    data, train, dev = figures.data, figures.train, figures.dev
    task = data.task
    sizes = Table(box=None, padding=(0, 3, 0, 0), show_edge=False, header_style="dim")
    sizes.add_column("", min_width=26)
    sizes.add_column("train", justify="right", min_width=16)
    sizes.add_column("dev", justify="right", min_width=16)
    sizes.add_row("examples", f"{train.size:,}", f"{dev.size:,}")
    sizes.add_row(f"passes, {data.batch_size} at a time", f"{data.passes:.2f}", "")
    for i, name in enumerate(("tokens, median", "        90%", "        99%", "        longest")):
        sizes.add_row(name, f"{train.tokens[i]:,}", f"{dev.tokens[i]:,}")
    sizes.add_row(f"cut to {max_length} tokens", _share(train.cut, train.size), _share(dev.cut, dev.size))
    sizes.add_row("repeated", _share(train.repeated, train.size), _share(dev.repeated, dev.size))
    sizes.add_row("        with other labels", f"{train.conflicts:,}", f"{dev.conflicts:,}")
    sizes.add_row("found in train", "", _share(figures.overlap.examples, dev.size))
    if task.texts == 2:
        sizes.add_row("        one text at least", "", _share(figures.overlap.texts, dev.size))
    return Group(
        Rule(Text.assemble((task.name, "bold"), f"  {task.type}, {task.inputs}"), align="left", style="dim"),
        Padding(sizes, (0, 0, 1, 2)),
        Padding(_labels(train, dev), (0, 0, 1, 2)),
    )


def report(tasks: Sequence[TaskData], max_length: int, console: Console) -> list[str]:
    """Prints the figures of all tasks and returns the warnings, which it prints too."""
    found = []
    for data in tasks:
        figures = measure(data)
        console.print(render(figures, max_length))
        found += warnings(figures, max_length)
    for a, b in permutations(tasks, 2):
        texts = shared(b.train.examples, a.dev.examples).texts
        if texts:
            found.append(
                f"{a.task.name}, dev: {_of(texts, len(a.dev))} have a text that task {b.task.name} trains on. "
                "Keep such texts out of its train."
            )
    for warning in found:
        console.print(Text.assemble(("warning  ", "yellow"), warning))
    if not found:
        console.print(Text("Nothing to warn about.", style="green"))
    return found


def _part(task: Task, data: Dataset) -> Part:
    labels = np.array([e.label for e in data.examples if e.label is not None], dtype=np.float64)
    seen: dict[tuple[str, ...], set[float | None]] = {}
    for e in data.examples:
        seen.setdefault(_folded(e), set()).add(e.label)
    at_shares = np.percentile(data.lengths, (50, 90, 99, 100), method="higher")
    median, most, nearly, longest = (int(n) for n in at_shares)
    return Part(
        size=len(data),
        labels=_classes(task, labels) if task.is_class else _histogram(task, labels),
        scores=None if task.is_class else (float(labels.mean()), float(labels.min()), float(labels.max())),
        tokens=(median, most, nearly, longest),
        cut=data.truncated,
        repeated=len(data) - len(seen),
        conflicts=sum(len(found) > 1 for found in seen.values()),
    )


def _classes(task: Task, labels: Labels) -> tuple[tuple[str, int], ...]:
    names = task.labels or ()
    counts = np.bincount(labels.astype(np.int64), minlength=len(names))
    return tuple((name, int(count)) for name, count in zip(names, counts, strict=True))


def _histogram(task: Task, labels: Labels) -> tuple[tuple[str, int], ...]:
    counts, edges = np.histogram(labels, BINS, range=task.range)
    return tuple((f"{edges[i]:.4g} to {edges[i + 1]:.4g}", int(count)) for i, count in enumerate(counts))


def _labels(train: Part, dev: Part) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("label" if train.scores is None else "score", max_width=20, no_wrap=True, overflow="ellipsis")
    for split in ("train", "dev"):
        table.add_column(split, justify="right")
        table.add_column("")
    rows = list(zip(train.labels, dev.labels, strict=True))
    if train.scores is None and len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda row: -row[0][1])
    widest = max(count / part.size for part in (train, dev) for _, count in part.labels)
    for (name, a), (_, b) in rows[:MOST_CLASSES]:
        x, y = a / train.size / widest, b / dev.size / widest
        table.add_row(Text(name), _share(a, train.size), _bar(x), _share(b, dev.size), _bar(y))
    if len(rows) > MOST_CLASSES:
        table.add_row(Text(f"{len(rows) - MOST_CLASSES} smaller ones"))
    if train.scores is not None and dev.scores is not None:
        for name, x, y in zip(("mean", "lowest", "highest"), train.scores, dev.scores, strict=True):
            table.add_row(name, f"{x:.4g}", "", f"{y:.4g}", "")
    return table


def _folded(example: Example) -> tuple[str, ...]:
    return tuple(text.strip().casefold() for text in example.texts)


def _share(count: int, size: int) -> str:
    return f"{count:,} {count / size:6.1%}"


def _of(count: int, size: int) -> str:
    return f"{count:,} of {size:,} examples ({count / size:.1%})"


def _bar(share: float) -> Text:
    return Text("█" * round(10 * share) or " ", style="cyan")
