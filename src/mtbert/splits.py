"""The rows of a recipe's tables. Each table is read once for all of its tasks, and split into train and dev rows.

The model is trained on the train rows, and scored on the dev rows. If thresholds or calibrations are fitted, some of
the train rows are set aside for this purpose. These rows are called held-out rows; the model is not trained on them.

Dimension key: B examples of a task.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mtbert.advice import option, see
from mtbert.batch import Examples, Rows
from mtbert.columns import TextColumn, taken
from mtbert.data import labels, sources
from mtbert.data.cells import readable
from mtbert.data.source_table import SourceTable
from mtbert.data.sources import Source
from mtbert.data.tables import Table, TableFile
from mtbert.dev_rows import draw_dev, draw_held_out
from mtbert.files import resolved, sha256
from mtbert.messages import shown
from mtbert.progress_bar import progress_of
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe
from mtbert.task import Task


@dataclass(frozen=True)
class TaskSide:
    """A task's examples in one part of a table: train, dev, test, or the rows held out of train.

    ``rows``, ``[B]``, holds the index of each example's row, in ascending order. The rows of the part are
    counted from 0.
    """

    examples: Examples
    rows: Rows


@dataclass(frozen=True)
class TableSide:
    """One side of a split table: the rows of train, of the part held out of train, of dev, or of test.

    Attributes:
        texts: The texts of these rows. A column of texts that several tasks read is here only once.
        tasks: A dict from task name to the examples of the task.
    """

    texts: tuple[TextColumn, ...]
    tasks: Mapping[str, TaskSide]

    def __len__(self) -> int:
        return len(self.texts[0])


@dataclass(frozen=True)
class TableSplit:
    """A table that is split into train and dev.

    Attributes:
        tasks: The tasks that read the table. Labels and ranges that the recipe leaves open are filled in.
        reads: For each task, the indices of its texts in ``TableSide.texts``.
        held_out: Rows that were taken out of train to fit thresholds or calibrations; None if none are fitted.
        parts: The files that train and dev come from.
        warnings: Warnings about the table as a whole.
        own_warnings: A dict from task name to the warnings that concern only this task.
        better_seed: A ``dev_seed`` that leaves fewer classes uneven. A class is uneven if dev has none of its examples,
            or far too many. None if no class is uneven, or if no better seed was found.
    """

    tasks: Mapping[str, Task]
    reads: Mapping[str, tuple[int, ...]]
    train: TableSide
    dev: TableSide
    held_out: TableSide | None
    parts: tuple[TableFile, ...]
    warnings: tuple[str, ...]
    own_warnings: Mapping[str, tuple[str, ...]]
    better_seed: int | None


@dataclass(frozen=True)
class Split:
    """The train and dev examples of one task, before they are tokenised, and the files that they come from.

    ``task`` is complete: its labels or range are known. ``held_out`` is the number of rows that were taken out of train
    to fit numbers, such as a threshold.
    """

    task: Task
    train: Examples
    dev: Examples
    held_out: int
    parts: Sequence[TableFile]


def read_split(recipe: Recipe, name: str) -> Split:
    """Returns the train and dev examples of the task ``name``. Dev has its own source, or is split off from train.

    Raises:
        ValueError, FileNotFoundError: If data cannot be read. The message names the file, line and column.
    """
    return read_splits(recipe, [name])[name]


def read_splits(recipe: Recipe, names: Sequence[str]) -> dict[str, Split]:
    """Returns a dict from the name of each given task to its train and dev examples. Each table is read once.

    Raises:
        ValueError, FileNotFoundError: If data cannot be read. The message names the file, line and column.
    """
    tables = {
        table: split_table(recipe, table) for table in dict.fromkeys(recipe.tasks[name].source_name for name in names)
    }
    found = {}
    for name in names:
        table = tables[recipe.tasks[name].source_name]
        train, dev = (side.tasks[name].examples for side in (table.train, table.dev))
        held_out = 0 if table.held_out is None else len(table.held_out.tasks[name].examples)
        found[name] = Split(table.tasks[name], train, dev, held_out, table.parts)
    return found


def split_table(recipe: Recipe, name: str) -> TableSplit:
    """Reads a table and splits it. Returns the rows of each part of the split, as examples of the table's tasks.

    Dev has its own source, or is split off from train.

    Args:
        recipe: The recipe.
        name: The name of a table, or of a task with files of its own.

    Raises:
        ValueError, FileNotFoundError: If data cannot be read; the message names file, line and column.
    """
    readers = recipe.tasks_by_table()[name]
    settings = readers[0]
    whole = _kept(recipe, readers, settings.train, whole=settings.dev is None and bool(settings.train.where))
    tables = [whole.chosen]
    if settings.dev is not None:
        tables.append(_kept(recipe, readers, settings.dev, weighted=False))
    with progress_of(f"splitting {tables[0].name}"):
        return _cut(recipe, readers, whole, tables)


def _cut(
    recipe: Recipe, readers: Sequence[TaskRecipe], whole: SourceTable, tables: Sequence[SourceTable]
) -> TableSplit:
    """Splits a table into train, dev and held-out rows.

    Args:
        recipe: The recipe.
        readers: The settings of the tasks that read the table.
        whole: All train data, before the filter ``where`` removes rows. Not used if dev has a source of its own.
        tables: First, the train data after the filter ``where`` has removed rows. Second, the dev data, if dev has a
            source of its own.
    """
    settings = readers[0]
    views = [_views(table, readers) for table in tables]
    tasks = {each.name: labels.complete(each.task, own) for each, *own in zip(readers, *views, strict=True)}
    read = [_examples(own, tasks) for own in views]
    drawn = None
    rows, warnings = tables[0].usable, [line for table in tables for line in table.all_warnings]
    if len(tables) == 1:
        drawn = draw_dev(settings, whole, tasks, read[0])
        warnings += drawn.warnings
        is_dev = np.isin(tables[0].places()[rows], drawn.places)
        dev, rows = _side(tables[0], read[0], rows[is_dev]), rows[~is_dev]
    else:
        dev = _side(tables[1], read[1], tables[1].usable)
    held_out = None
    fitted = [each.name for each in readers if recipe.holds_out(each.name)]
    if fitted and len(rows):
        held = draw_held_out(recipe.train.held_out, settings, tables[0], rows)
        held_out, rows = _side(tables[0], read[0], rows[held]), np.delete(rows, held)
        for name in fitted:
            kept = held_out.tasks[name].examples
            if not kept or (kept.weights is not None and not kept.weights.any()):
                weighted = "" if kept.weights is None else " and a weight above 0"
                raise ValueError(
                    f"{tables[0].name}: none of the {len(held):,} held-out rows has a label of task {name}{weighted}. "
                    "Raise train.held_out, or set it to 0."
                )
    train = _side(tables[0], read[0], rows)
    for what, side in (("train", train), ("dev", dev)):
        for task, own in side.tasks.items():
            if not own.examples:
                raise ValueError(f"{tables[0].name}: no row is left for {what} of task {task}. Name a dev file.")
    for each in readers:
        weights = train.tasks[each.name].examples.weights
        if weights is not None and not weights.any():
            column = shown(each.columns.weight)
            raise ValueError(
                f"{tables[0].name}, column {column}: all weights of train are 0, so task {each.name} learns nothing. "
                "Give some rows a weight, or drop columns.weight."
            )
    return TableSplit(
        tasks=tasks,
        reads={each.name: reading.texts for each, reading in zip(readers, tables[0].readings, strict=True)},
        train=train,
        dev=dev,
        held_out=held_out,
        parts=tuple(part for table in tables for part in table.parts),
        warnings=tuple(warnings),
        own_warnings={
            each.name: (
                *(line for table in tables for line in table.left_out(i)),
                *(line for own in views for line in labels.repair_warnings(own[i], tasks[each.name])),
                *([drawn.own_warnings[each.name]] if drawn and each.name in drawn.own_warnings else ()),
            )
            for i, each in enumerate(readers)
        },
        better_seed=drawn.better_seed if drawn else None,
    )


def read_test_table(recipe: Recipe, tasks: Sequence[Task]) -> tuple[TableSide, SourceTable]:
    """Returns a pair: the test rows that ``tasks`` read, and the whole test table, which all these tasks share.

    Raises:
        ValueError, FileNotFoundError: If the recipe names no test data, or if the data cannot be read. The message says
            where the mistake is.
    """
    readers = [recipe.tasks[task.name] for task in tasks]
    if readers[0].test is None:
        raise ValueError(f"task {readers[0].name}: the recipe names no test data. Score a labelled file instead.")
    columns, texts = [each.columns.unweighted for each in readers], [each.texts for each in readers]
    table = sources.read_all(readers[0].test, columns, recipe.root(), texts=texts)
    read = _examples(_views(table, readers), {task.name: task for task in tasks})
    return _side(table, read, table.usable), table


def check_files(recipe: Recipe) -> None:
    """Checks that all files of train and dev exist and can be opened.

    Raises:
        ValueError, FileNotFoundError: If a file is missing or cannot be opened. :func:`split_table` would raise the
            same error.
    """
    with rooted(recipe):
        for task in recipe.tasks.values():
            for source in filter(None, (task.train, task.dev)):
                sources.check_files_of(source, recipe.root())


def file_digests(recipe: Recipe) -> dict[str, str]:
    """Returns the SHA-256 of each file of train and dev. The keys are the file names, made safe to print.

    Every file is read, even if it seems unchanged since its digest was last computed.

    Raises:
        ValueError, FileNotFoundError: If a file is missing or cannot be read.
    """
    check_files(recipe)
    read = (source for task in recipe.tasks.values() for source in (task.train, task.dev) if source is not None)
    names = dict.fromkeys(name for source in read for name in source.files)
    return {readable(name): sha256(recipe.root() / name, "Check the path and its permissions.") for name in names}


@contextmanager
def rooted(recipe: Recipe) -> Iterator[None]:
    """A context manager. If its block raises FileNotFoundError, the error also says where relative paths start."""
    try:
        yield
    except FileNotFoundError as error:
        root = shown(str(resolved(recipe.root())), longest=1000)
        raise FileNotFoundError(
            f"{error} Relative paths start from data.root, here {root}; change it with "
            f"{option('set', 'data.root=FOLDER')}. {see('recipes/where-relative-paths-start')}"
        ) from None


def _kept(
    recipe: Recipe, readers: Sequence[TaskRecipe], source: Source, *, weighted: bool = True, whole: bool = False
) -> SourceTable:
    columns = [each.columns if weighted else each.columns.unweighted for each in readers]
    texts = [each.texts for each in readers]
    return sources.read_kept(source, columns, recipe.root(), texts=texts, whole=whole)


def _views(table: SourceTable, readers: Sequence[TaskRecipe]) -> list[Table]:
    """Returns a table for each task, with the rows that the task reads from ``table``."""
    views = []
    for i, each in enumerate(readers):
        try:
            views.append(table.table(i))
        except ValueError as error:
            if each.table is None:
                raise
            raise ValueError(f"task {each.name}: {error}") from None
    return views


def _examples(views: Sequence[Table], tasks: Mapping[str, Task]) -> dict[str, Examples]:
    """Returns all examples of each task. ``views`` holds the table as each task sees it, in the order of the tasks."""
    return {name: labels.labelled_examples(view, task) for view, (name, task) in zip(views, tasks.items(), strict=True)}


def _side(table: SourceTable, read: Mapping[str, Examples], rows: Rows) -> TableSide:
    """Returns the part of ``table`` with the given rows, which must be in ascending order.

    ``read`` maps each task to all its examples in the table.
    """
    texts = tuple(taken(column, rows, len(table)) for column in table.texts)
    ids = taken(table.ids, rows, len(table))
    tasks = {}
    for (name, whole), reading, reads in zip(read.items(), table.readings, table.reads, strict=True):
        own = np.flatnonzero(reads[rows])
        found = whole if len(own) == len(whole) else whole.take((np.cumsum(reads) - 1)[rows[own]])
        columns = [taken(texts[i], own, len(rows)) for i in reading.texts]
        examples = Examples(taken(ids, own, len(rows)), columns, found.labels, found.weights, found.votes)
        tasks[name] = TaskSide(examples, own)
    return TableSide(texts, tasks)
