"""Makes data sets from a recipe: reads tables, fills in labels and ranges, splits train from dev, and tokenises."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from mtbert.answers import YES_NO, Labels
from mtbert.batch import Dataset, Examples, Rows
from mtbert.columns import Ints, TextColumn, TextTuples
from mtbert.data import cache, labels, sources
from mtbert.data.cache import Kept, Spool
from mtbert.data.clusters import clusters
from mtbert.data.split import grouped_split
from mtbert.data.tables import Table
from mtbert.data.tokenizer import sequences
from mtbert.files import resolved
from mtbert.losses import ClassWeighted
from mtbert.messages import few, shown
from mtbert.recipe.checks import check_rows
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe
from mtbert.task import Task


@dataclass(frozen=True)
class Prepared:
    """The data of one task, ready for training. The labels and range of ``task`` are filled in.

    ``digests`` holds the SHA-256 of each data source, by the name of the source.
    """

    task: Task
    train: Dataset
    dev: Dataset
    warnings: tuple[str, ...]
    digests: Mapping[str, str]

    def all_warnings(self, max_length: int) -> list[str]:
        """Returns the warnings from reading the data, and a warning for each split that has examples which were cut.

        Examples are cut to ``max_length`` tokens.
        """
        cut = [
            f"{split}: {data.truncated} of {len(data)} examples are cut to {max_length} tokens."
            for split, data in (("train", self.train), ("dev", self.dev))
            if data.truncated
        ]
        return [*self.warnings, *cut]


def prepare(recipe: Recipe, tokenizer: Tokenizer, *, afresh: bool = False) -> dict[str, Prepared]:
    """Returns the data of every task in the recipe, by the task's name.

    Tables, splits, clusters and tokens are kept in the user's cache folder. They are found there by the SHA-256 of the
    files that they come from.

    Args:
        recipe: The recipe.
        tokenizer: The tokenizer of the recipe's encoder.
        afresh: Whether to compute the SHA-256 of every file again. By default, this is done only for files whose size,
            times or inode have changed.

    Raises:
        ValueError, FileNotFoundError: If data cannot be read. The message names the file, line and column.
    """
    with _rooted(recipe):
        return {name: _prepare(recipe, task, tokenizer, afresh) for name, task in recipe.tasks.items()}


def check_files(recipe: Recipe) -> None:
    """Checks that all files of train and dev exist and can be opened.

    Raises:
        ValueError, FileNotFoundError: If a file is missing or cannot be opened. :func:`prepare` would raise the same
            error.
    """
    with _rooted(recipe):
        for task in recipe.tasks.values():
            for source in filter(None, (task.train, task.dev)):
                sources.check_files_of(source, recipe.root())


@contextmanager
def _rooted(recipe: Recipe) -> Iterator[None]:
    """If a file is missing in a ``with`` block, adds to the error which folder relative paths start from."""
    try:
        yield
    except FileNotFoundError as error:
        root = shown(str(resolved(recipe.root())), longest=1000)
        raise FileNotFoundError(
            f"{error} Relative paths start from data.root, here {root}; change it with --set data.root=FOLDER."
        ) from None


def tokenize(task: Task, examples: Examples, tokenizer: Tokenizer, max_length: int, *, keep: bool = False) -> Dataset:
    """Returns a data set of the examples with their tokens.

    A sequence with more than ``max_length`` tokens is cut. If it holds two texts, the longer one is cut first. If
    ``keep`` is true, the tokens are read from the user's cache folder, or are stored there if they are missing.
    """
    parts = [
        sequences(tokenizer, TextTuples(columns), max_length, task.segments, keep=keep)
        for columns in task.packed(examples.texts)
    ]
    return Dataset.whole(
        task=task,
        examples=examples,
        sequences=tuple(part for part, _ in parts),
        truncated=len(np.unique(np.concatenate([cut for _, cut in parts]))),
    )


def settled(recipe: Recipe, data: Mapping[str, Prepared]) -> Recipe:
    """Returns the recipe with ``class_weights: balanced`` replaced by numbers that are computed from train.

    Raises:
        ValueError: If a class has no row in train, or if a label of a set is in no row or in every row.
    """
    return recipe.model_copy(update={"tasks": {name: _settled(recipe.tasks[name], data[name]) for name in data}})


def _settled(settings: TaskRecipe, data: Prepared) -> TaskRecipe:
    if not any(isinstance(loss, ClassWeighted) and loss.class_weights == "balanced" for loss in settings.losses):
        return settings
    labels = data.task.labels or ()
    rows = _rows_of_each(data.train.examples.labels, len(labels))
    without = [label for label, found in zip(labels, rows, strict=True) if not found.all()]
    if without:
        needed = "rows of every class" if rows.ndim == 1 else "rows with and without every label"
        raise ValueError(
            f"task {settings.name}: class_weights: balanced needs {needed} in train, found none of "
            f"{few(without, quoted=True)}. Add rows, drop the label, or give the weights as a list."
        )
    losses = tuple(
        loss.balanced(rows) if isinstance(loss, ClassWeighted) and loss.class_weights == "balanced" else loss
        for loss in settings.losses
    )
    return settings.model_copy(update={"losses": losses})


def _rows_of_each(labels: Labels, classes: int) -> Ints:
    """Returns the number of rows of each class, ``[K]``.

    If labels are sets, returns the numbers of rows without and with each label, ``[K, 2]``.
    """
    if labels.ndim == 1:
        return np.bincount(labels[~np.isnan(labels)].astype(np.int64), minlength=classes)
    return np.stack([(labels == 0).sum(0), (labels == 1).sum(0)], 1)


def read_test(recipe: Recipe, task: Task, tokenizer: Tokenizer) -> tuple[Dataset, tuple[str, ...]]:
    """Returns the test data of a trained task, and the warnings from reading the data.

    Raises:
        ValueError, FileNotFoundError: If the recipe names no test data, or if the data cannot be read. The message
            names the task, or the place in a file.
    """
    settings = recipe.tasks[task.name]
    if settings.test is None:
        raise ValueError(f"task {task.name}: the recipe names no test data. Score a labelled file instead.")
    with _rooted(recipe):
        table = sources.read(settings.test, settings.columns, recipe.root(), texts=settings.texts)
        return tokenize(task, labels.labelled_examples(table, task), tokenizer, recipe.model.max_length), table.warnings


@dataclass(frozen=True)
class Split:
    """The train and dev examples of one task, before they are tokenised, and the tables that they come from.

    The labels and range of ``task`` are filled in.
    """

    task: Task
    train: Examples
    dev: Examples
    tables: Sequence[Table]


def read_split(recipe: Recipe, name: str, *, afresh: bool = False) -> Split:
    """Returns the train and dev examples of the task ``name``. Dev has its own source, or is split off from train.

    Raises:
        ValueError, FileNotFoundError: If data cannot be read. The message names the file, line and column.
    """
    settings = recipe.tasks[name]
    tables = [
        sources.read_kept(source, settings.columns, recipe.root(), texts=settings.texts, afresh=afresh)
        for source in (settings.train, settings.dev)
        if source is not None
    ]
    task = labels.complete(settings.task, tables)
    train, *rest = (labels.labelled_examples(table, task) for table in tables)
    if rest:
        return Split(task, train, rest[0], tables)
    held = _held_out(recipe, settings, tables[0], afresh)
    is_dev = np.isin(tables[0].places(), held)
    train, dev = (train.take(np.flatnonzero(is_dev == side)) for side in (False, True))
    if not dev or not train:
        side = "train" if dev else "dev"
        raise ValueError(f"{tables[0].name}: no row is left for {side} of task {task.name}. Name a dev file.")
    return Split(task, train, dev, tables)


def _prepare(recipe: Recipe, settings: TaskRecipe, tokenizer: Tokenizer, afresh: bool) -> Prepared:
    split = read_split(recipe, settings.name, afresh=afresh)
    check_rows(settings, len(split.train))
    train, dev = (
        tokenize(split.task, side, tokenizer, recipe.model.max_length, keep=True) for side in (split.train, split.dev)
    )
    if settings.no_duplicates or any(loss.needs.clusters for loss in settings.losses):
        train = replace(train, clusters=_clusters(split.train, YES_NO in split.task.predicts.feeds))
    return Prepared(
        task=split.task,
        train=train,
        dev=dev,
        warnings=tuple(w for table in split.tables for w in table.warnings) + _one_sided(settings, split.train),
        digests={part.name: part.digest for table in split.tables for part in table.parts},
    )


def _one_sided(settings: TaskRecipe, train: Examples) -> tuple[str, ...]:
    labels = np.nan_to_num(train.labels, nan=np.inf)
    if settings.scored and (labels == labels[0]).all():
        return ("train: all examples have the same label, so there is nothing to learn to tell apart.",)
    return ()


def _held_out(recipe: Recipe, settings: TaskRecipe, table: Table, afresh: bool) -> Rows:
    """Returns the train rows that become dev, as numbers that identify file and line (:meth:`Table.places`).

    The rows are drawn from the whole file, even if the task reads only some of its rows. Tasks that share a file then
    have the same rows in dev.
    """
    if settings.train.where is not None:
        everything = settings.train.model_copy(update={"where": None})
        table = sources.read_kept(everything, settings.columns, recipe.root(), texts=settings.texts, afresh=afresh)
    drawn = settings.dev_fraction, settings.dev_seed

    def make(spool: Spool) -> None:
        spool.add("dev", grouped_split(table.texts, *drawn)[1])

    def check(found: Kept) -> None:
        dev = found.array("dev", "<i8")
        cache.check_within(dev, 0, len(table))
        cache.check_within(np.diff(dev), 1, len(table))  # each row once, in order

    keep = len(table) >= cache.FEWEST
    try:
        dev = cache.kept("split", [*_digests(table.texts, keep), *drawn], make, check, keep=keep).arrays["dev"]
    except ValueError as error:
        raise ValueError(f"{table.name}: {error}") from None
    return table.places()[dev]


def _clusters(examples: Examples, positives: bool) -> Rows:
    """Returns the cluster of each text, ``[B, texts]``, from the cache if possible. Equal texts share a cluster.

    If ``positives`` is true, the two texts of an example with label 1 share a cluster as well.
    """
    keep = len(examples) >= cache.FEWEST
    linked = hashlib.sha256(np.packbits(examples.labels == 1).data).hexdigest() if keep and positives else None
    depends_on = [*_digests(examples.texts, keep), linked]

    def make(spool: Spool) -> None:
        spool.add("numbers", clusters(examples, positives))

    def check(found: Kept) -> None:
        found.array("numbers", "<i8", size=len(examples) * len(examples.texts))

    found = cache.kept("clusters", depends_on, make, check, keep=keep)
    return found.arrays["numbers"].reshape(len(examples), -1)


def _digests(texts: Sequence[TextColumn], keep: bool) -> list[str]:
    return [column.digest() for column in texts] if keep else []
