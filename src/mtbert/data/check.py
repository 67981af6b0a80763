"""The report of ``mtbert data check`` on each task's data: sizes, labels, lengths, and warnings.

:mod:`mtbert.data.measure` computes the statistics. :func:`warnings` and :func:`render` turn them into warnings and
tables, and :func:`report_on_data` makes a :class:`DataReport` of everything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mtbert.answers import Conflicts, Distribution
from mtbert.batch import Examples
from mtbert.data.leaks import leak_line
from mtbert.data.measure import UNKNOWN, Figures, SplitFigures, TableData, TaskData, measure, shared
from mtbert.messages import Note, count, few, nearest, recorded_html, recorder, shown, tell, warn
from mtbert.numbers import often
from mtbert.progress_bar import progress_of
from mtbert.task import Task

MOST_CLASSES = 20  # most classes that are listed
CLASS_NAME, CLASS_WIDTH = 60, 20  # most characters of a class name, and of each line of it
MUCH = 0.01  # share of examples, cut or unknown to the vocabulary, from which on there is a warning
FEW = 5  # a class with fewer examples in a split gets a warning
TYPO = 0.85  # share of letters that a rare class and a frequent one have in common if one may be a typing error
RARE = 0.05  # a class with less than this part of an even share of train gets a warning


def warnings(figures: Figures, max_length: int) -> list[str]:
    """Returns warnings about a task's data, one line each. Warnings that arose while the data was read come first."""
    task, overlap = figures.data.task, figures.overlap
    found = [*figures.data.warnings, *task.answer.labels.doubts(task)]
    sides = ((figures.train, figures.data.train), (figures.dev, figures.data.dev))
    for split, (part, data) in zip(("train", "dev"), sides, strict=True):
        where = f"{task.name}, {split}"
        rare, use = (RARE * part.size / len(part.labels.counts), "learn from") if split == "train" else (0, "score")
        found += without_examples(task, split, part.labels)
        found += _with_few(where, part.labels, rare, use)
        if part.cut > MUCH * part.size:
            found.append(f"{where}: {_of(part.cut, part.size)} are cut to {max_length} tokens.")
        if part.unknown > MUCH * part.size:
            found.append(
                f"{where}: {_of(part.unknown, part.size)} are to more than {UNKNOWN:.0%} unknown tokens. "
                "Use an encoder for their language."
            )
        if part.conflicts.number:
            found.append(f"{where}: {part.conflicts.warning}{_first_of(part.conflicts, task, data.examples)}")
    more = overlap.texts > overlap.examples
    if overlap.examples:
        found.append(
            f"{task.name}, dev: {_of(overlap.examples, figures.dev.size)} repeat a train example, "
            f"so dev looks better than it is.{'' if more else figures.data.apart}"
        )
    if more:
        found.append(f"{task.name}, {leak_line(overlap.texts, figures.dev.size)}{figures.data.apart}")
    return found


def _first_of(conflicts: Conflicts, task: Task, examples: Examples) -> str:
    """Returns sentences that show two conflicting examples and say what to do, with a space before them.

    Returns an empty text if ``conflicts`` names no examples.
    """
    if conflicts.first is None:
        return ""
    (a, one), (b, other) = ((examples.ids[i], _label(task, examples.labels[i])) for i in conflicts.first)
    texts = " and ".join(shown(column[conflicts.first[0]]) for column in examples.texts)
    return (
        f" The first: rows {few([a])} and {few([b])}, with labels {one} and {other}, have {texts}. If a label "
        "is a mistake, correct it or remove its row. A few such rows do little harm."
    )


def _label(task: Task, label: Any) -> str:
    """Returns a label as it is printed: the name of its class, or its value."""
    told, names = task.answer.labels.tell(task, label), task.answer.labels.choices(task)
    return shown(told if names is None or isinstance(told, str) else names[int(told)])


def _of_table(table: TableData) -> list[str]:
    """Returns warnings about a table, one line each."""
    found = [f"table {table.name}: {line}" for line in table.warnings]
    leaked = table.leaked()
    if leaked:
        found.append(f"table {table.name}, {leak_line(leaked, len(table.dev[0]), 'row')}{table.apart}")
    return found


def without_examples(task: Task, split: str, labels: Distribution) -> list[str]:
    """Returns a list with one warning if classes of the task have no example in ``split``, otherwise an empty list."""
    without = [shown(name) for name, number in labels.counts if not number] if labels.classes else []
    classes = "class" if len(without) == 1 else f"{len(without):,} classes:"
    return [f"{task.name}, {split}: no example of {classes} {few(without, most=5)}."] if without else []


def _with_few(where: str, labels: Distribution, rare: float, use: str) -> list[str]:
    """Returns a list with one warning if classes have few examples, otherwise an empty list.

    A class has few examples if it has at least one, but fewer than ``max(FEW, rare)``. The argument ``use`` is the verb
    of the warning, ``learn from`` or ``score``.
    """
    counts = labels.counts if labels.classes else ()
    little = {name: number for name, number in counts if 0 < number < max(FEW, rare)}
    told = few([f"{shown(name)} ({number:,})" for name, number in little.items()], most=5)
    others = [name for name, number in counts if number and name not in little]
    meant = {name: nearest(name, others, TYPO) for name in little if not any(map(str.isdigit, name))}
    typos = [f" Is {shown(name)} a misspelt {shown(other)}?" for name, other in meant.items() if other]
    return [f"{where}: few examples of {told}: too few to {use}.{''.join(typos[:1])}"] if little else []


def render(figures: Figures, max_length: int) -> RenderableType:
    """Returns the statistics of a task's data as tables, at most 80 characters wide."""
    data, train, dev = figures.data, figures.train, figures.dev
    task = data.task
    sizes = _sizes()
    sizes.add_row("examples", f"{train.size:,}", f"{dev.size:,}")
    if data.held_out:
        sizes.add_row("held out of train", f"{data.held_out:,}", "")
    if data.table is None:
        _add_plan(sizes, data)
    for i, name in enumerate(("tokens before cut, median", "        90%", "        99%", "        longest")):
        sizes.add_row(name, f"{train.tokens[i]:,}", f"{dev.tokens[i]:,}")
    sizes.add_row(f"cut to {max_length} tokens", _share(train.cut, train.size), _share(dev.cut, dev.size))
    sizes.add_row(
        f"over {UNKNOWN:.0%} unknown tokens", _share(train.unknown, train.size), _share(dev.unknown, dev.size)
    )
    sizes.add_row("repeated", _share(train.repeated, train.size), _share(dev.repeated, dev.size))
    sizes.add_row(train.conflicts.heading, f"{train.conflicts.number:,}", f"{dev.conflicts.number:,}")
    sizes.add_row("found in train", "", _share(figures.overlap.examples, dev.size))
    if task.texts != 1:
        sizes.add_row("        one text at least", "", _share(figures.overlap.texts, dev.size))
    return Group(
        Heading(Text.assemble((task.name, "bold"), f"  {task.type}, {task.inputs}")),
        Padding(sizes, (0, 0, 1, 2)),
        Padding(_labels(train, dev), (0, 0, 1, 2)),
    )


def render_table(table: TableData, tasks: Sequence[TaskData]) -> RenderableType:
    """Returns a printable overview: how many rows a table has, and how many of them each of its ``tasks`` reads."""
    train, dev = len(table.train[0]), len(table.dev[0])
    sizes = _sizes()
    sizes.add_row("rows", f"{train:,}", f"{dev:,}")
    _add_plan(sizes, tasks[0])
    for data in tasks:
        sizes.add_row(
            Text(f"with {data.task.name}", overflow="fold"), _share(len(data.train), train), _share(len(data.dev), dev)
        )
    names = few([data.task.name for data in tasks])
    title = Text.assemble((f"table {table.name}", "bold"), f"  read by {names}")
    return Group(Heading(title), Padding(sizes, (0, 0, 1, 2)))


@dataclass(frozen=True)
class Heading:
    """A title, and a horizontal line from the title to the right edge of the terminal.

    A title that is too long for one line is wrapped, and has no horizontal line.
    """

    title: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fits = self.title.cell_len + 2 <= options.max_width
        yield Rule(self.title, align="left", style="dim") if fits else self.title


def _sizes() -> Table:
    """Returns a table with no borders and no rows yet. It has three columns: the name of a row, train, and dev."""
    sizes = Table(box=None, padding=(0, 3, 0, 0), show_edge=False, header_style="dim")
    sizes.add_column("", min_width=26)
    for split in ("train", "dev"):
        sizes.add_column(split, justify="right", min_width=16)
    return sizes


def _add_plan(sizes: Table, data: TaskData) -> None:
    """Adds two rows to ``sizes``: how often a run sees each train example, and how many examples are in a batch."""
    most = "at most " if data.may_end_early else ""
    sizes.add_row("each is seen in training", f"{most}{often(data.passes)} times", "")
    sizes.add_row("batch size", f"{data.batch_size:,}", "")


@dataclass(frozen=True, repr=False)
class DataReport:
    """The statistics of the data of all tasks, as tables, and the warnings about the data. ``print`` prints both.

    As the value of a notebook cell, the report shows only the number of warnings. In a notebook, :func:`mtbert.check`
    itself prints the tables and the warnings.

    Attributes:
        warnings: The warnings about the data, one line each.
    """

    tables: tuple[RenderableType, ...]
    warnings: tuple[str, ...]
    notes: tuple[Note, ...] = ()

    def show(self, console: Console) -> None:
        """Prints the tables and then the warnings."""
        tell(console, self.notes)
        for table in self.tables:
            console.print(table)
        for line in self.warnings:
            warn(console, line)
        if not self.warnings:
            console.print(Text("Nothing to warn about.", style="green"))

    def renamed(self, new: Callable[[str], str]) -> "DataReport":
        """Returns a copy in which every warning ``line`` is replaced by ``new(line)``."""
        return replace(self, warnings=tuple(map(new, self.warnings)))

    def __repr__(self) -> str:
        console = recorder(80)
        self.show(console)
        return console.export_text().rstrip()

    def _repr_html_(self) -> str:
        console = recorder()
        console.print(f"data check: {count(len(self.warnings), 'warning')}")
        return recorded_html(console)


def report_on_data(tasks: Sequence[TaskData], max_length: int) -> DataReport:
    """Returns the statistics of all tasks, and all warnings about their data."""
    tables: list[RenderableType] = []
    found = []
    told: list[TableData] = []
    for data in tasks:
        if data.table is not None and data.table not in told:
            told.append(data.table)
            tables.append(render_table(data.table, [other for other in tasks if other.table is data.table]))
            found += _of_table(data.table)
        with progress_of(f"comparing the texts of {data.task.name}"):
            figures = measure(data)
        tables.append(render(figures, max_length))
        found += warnings(figures, max_length)
    for a, b in permutations(tasks, 2):
        if a.table is not None and a.table is b.table:
            continue  # the rows of a table are compared as a whole
        texts = shared(b.train.examples, a.dev.examples).texts
        if texts:
            found.append(
                f"{a.task.name}, dev: {_of(texts, len(a.dev))} have a text that task {b.task.name} trains on."
                f"{a.together or ' Keep such texts out of its train.'}"
            )
    return DataReport(tuple(tables), tuple(found))


def _labels(train: SplitFigures, dev: SplitFigures) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column(train.labels.heading, max_width=CLASS_WIDTH, overflow="fold")
    for split in ("train", "dev"):
        table.add_column(split, justify="right")
        table.add_column("")
    rows = list(zip(train.labels.counts, dev.labels.counts, strict=True))
    if train.labels.classes and len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda row: -row[0][1])
    widest = max(count / part.size for part in (train, dev) for _, count in part.labels.counts) or 1.0
    for (name, a), (_, b) in rows[:MOST_CLASSES]:
        x, y = a / train.size / widest, b / dev.size / widest
        table.add_row(Text(shown(name, CLASS_NAME)[1:-1]), _share(a, train.size), _bar(x), _share(b, dev.size), _bar(y))
    if len(rows) > MOST_CLASSES:
        table.add_row(Text(f"{len(rows) - MOST_CLASSES} smaller ones"))
    for (name, x), (_, y) in zip(train.labels.numbers, dev.labels.numbers, strict=True):
        table.add_row(name, f"{x:.4g}", "", f"{y:.4g}", "")
    return table


def _share(count: int, size: int) -> str:
    return f"{count:,} {count / size:6.1%}"


def _of(count: int, size: int) -> str:
    return f"{count:,} of {size:,} examples ({count / size:.1%})"


def _bar(share: float) -> Text:
    return Text("█" * round(10 * share) or " ", style="cyan")
