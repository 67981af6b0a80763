"""Makes the data sets of the tasks in a recipe: reads their rows, and tokenises the texts.

Tasks that read the same texts of a table in the same way share the tokens.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from mtbert.answers import YES_NO
from mtbert.answers.fitting import doubts
from mtbert.batch import Dataset, Examples, Rows, Sequences
from mtbert.columns import TextColumn, TextTuples
from mtbert.data import cache, labels
from mtbert.data.cache import Kept, Spool
from mtbert.data.clusters import clusters
from mtbert.data.draw import digests_of
from mtbert.data.split import linking
from mtbert.data.tokenizer import sequences
from mtbert.data.words import as_read, finder, rewritten
from mtbert.losses import ClassWeighted
from mtbert.messages import count, few
from mtbert.progress_bar import progress_of
from mtbert.ragged import all_values
from mtbert.recipe.checks import check_rows
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe
from mtbert.splits import TableSide, read_test_table, rooted, split_table
from mtbert.task import Task


@dataclass(frozen=True)
class TableFacts:
    """The facts that all tasks of one table have in common.

    Attributes:
        name: The name of the table or, for a task with files of its own, the name of the task.
        shared: Whether the recipe names the table, so that several tasks can read it.
        train: The text columns of the train rows, without the wrong candidates of rankings. A column that several tasks
            read is here only once.
        dev: The same columns of the dev rows.
        warnings: The warnings from reading.
        digests: A dict from the name of each source to its SHA-256.
    """

    name: str
    shared: bool
    train: tuple[TextColumn, ...]
    dev: tuple[TextColumn, ...]
    warnings: tuple[str, ...]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Prepared:
    """The data of one task, ready for training.

    ``task`` holds the settings of the task. If the recipe leaves out the task's labels or range, they are taken from
    the data. ``table`` holds facts about the table that the task reads, and the warnings that concern all tasks of the
    table. ``warnings`` concern this task alone. ``held_out`` holds train rows that are only used to fit the task's
    threshold and calibration. It is None if no rows are held out.
    """

    task: Task
    train: Dataset
    dev: Dataset
    table: TableFacts
    warnings: tuple[str, ...]
    held_out: Dataset | None = None

    def all_warnings(self, max_length: int) -> list[str]:
        """Returns the warnings from reading the task's data, and warnings about the tokens of the data.

        The warnings about tokens say how many examples are cut to ``max_length`` tokens, and how many words have no
        token.
        """
        cut = [
            f"{split}: {data.truncated} of {len(data)} examples are cut to {max_length} tokens."
            for split, data in (("train", self.train), ("dev", self.dev))
            if data.truncated
        ]
        lost = (line for split, data in (("train", self.train), ("dev", self.dev)) for line in lost_words(data, split))
        return [*self.warnings, *cut, *lost]


def prepare(recipe: Recipe, tokenizer: Tokenizer, *, only: Collection[str] | None = None) -> dict[str, Prepared]:
    """Returns the data of the tasks in a recipe, by the task's name.

    The results of slow steps, such as token sequences, are kept in the user's cache folder. A result is found there by
    the SHA-256 of the data that it comes from.

    Args:
        recipe: The recipe.
        tokenizer: The tokenizer of the recipe's encoder.
        only: The tasks whose data are wanted; None takes all. A task has the same dev rows for every choice.

    Raises:
        ValueError, FileNotFoundError: If data cannot be read. The message names the file, line and column.
    """
    wanted = [name for name in recipe.tasks if only is None or name in only]
    found: dict[str, Prepared] = {}
    with rooted(recipe):
        for table in dict.fromkeys(recipe.tasks[name].source_name for name in wanted):
            found |= _prepare(recipe, table, tokenizer, wanted)
    return {name: found[name] for name in wanted}


def tokenize(task: Task, examples: Examples, tokenizer: Tokenizer, max_length: int) -> Dataset:
    """Returns a data set of the task's examples and their tokens.

    A sequence with more than ``max_length`` tokens is cut. If it holds two texts, the longer one is cut first.
    """
    tokens, cut = _tokens(task, examples.texts, tokenizer, max_length, keep=False)
    return Dataset.whole(task, examples, tokens, cut)


def tokenized(
    side: TableSide,
    tasks: Mapping[str, Task],
    reads: Mapping[str, tuple[int, ...]],
    tokenizer: Tokenizer,
    max_length: int,
    *,
    keep: bool = False,
) -> dict[str, Dataset]:
    """Returns the data set of each task in ``tasks``, by name. All these tasks read the same table.

    Tasks that read the same texts in the same way share the tokens.

    Args:
        side: The rows of the table, with the examples of each task.
        tasks: The tasks.
        reads: For each task, the indices of its texts in ``side.texts``.
        tokenizer: The tokenizer of the encoder.
        max_length: The largest number of tokens in a sequence.
        keep: Whether to read the tokens from the user's cache folder, and to store them there if they are missing.
    """
    made: dict[object, tuple[tuple[Sequences, ...], Rows]] = {}
    found = {}
    # Tasks with labels of words come first: their tokens know where words begin, and all tasks can read them.
    for task in sorted(tasks.values(), key=lambda task: not task.reads_words):
        texts = [side.texts[i] for i in reads[task.name]]
        form = (reads[task.name], token_form(task, texts))
        if form not in made:
            made[form] = _tokens(task, texts, tokenizer, max_length, keep=keep)
        tokens, cut = made[form]
        own = side.tasks[task.name]
        found[task.name] = Dataset(task, own.examples, tokens, own.rows, cut)
    return {name: found[name] for name in tasks}


def _tokens(
    task: Task, texts: Sequence[TextColumn], tokenizer: Tokenizer, max_length: int, *, keep: bool
) -> tuple[tuple[Sequences, ...], Rows]:
    """Returns a pair: the token sequences of all rows, and the indices of the rows that were cut to ``max_length``."""
    read = as_read(texts, task.splitter)
    words = finder(read[0]) if task.reads_words else None
    parts = [
        sequences(tokenizer, TextTuples(columns), max_length, task.segments, keep=keep, words=words)
        for columns in task.packed(read)
    ]
    return tuple(part for part, _ in parts), np.unique(np.concatenate([cut for _, cut in parts]))


def token_form(task: Task, texts: Sequence[TextColumn]) -> tuple[str, bool, bool]:
    """Returns all values that determine a task's tokens, apart from the texts themselves.

    If two tasks read the same texts and get the same result here, they can share the tokens.
    """
    return task.inputs, task.segments, any(rewritten(column, task.splitter) for column in texts)


def lost_words(data: Dataset, what: str) -> tuple[str, ...]:
    """Returns a warning if words have no token, and so no prediction. ``what`` names the data in the warning."""
    words = data.words(np.arange(len(data)))
    lost = 0 if words is None else int((words.values < 0).sum())
    if words is None or not lost:
        return ()
    return (
        f"{what}: {lost} of {count(len(words.values), 'word')} have no token, because the text is cut or the tokenizer "
        "drops their characters. Their answer is none, which counts as O.",
    )


def _readable(data: Dataset) -> Dataset:
    """Returns the examples that a loss can read.

    Leaves out examples of weight 0 and, if words are labelled, examples in which no word has a token.
    """
    words, weights = data.words(np.arange(len(data))), data.examples.weights
    counts = np.ones(len(data), np.bool_) if weights is None else weights > 0
    if words is not None:
        counts &= words.sums(words.values >= 0) > 0
    if counts.all():
        return data
    if not counts.any():
        raise ValueError(f"task {data.task.name}: the tokenizer drops all words of train. Check the texts.")
    kept = np.flatnonzero(counts)
    return replace(data, examples=data.examples.take(kept), rows=data.rows[kept])


def settled(recipe: Recipe, data: Mapping[str, Prepared]) -> Recipe:
    """Returns the recipe with ``class_weights: balanced`` replaced by numbers that are computed from train.

    Raises:
        ValueError: If a class or label is in no row of train, or if labels are sets and one label is in every set.
    """
    return recipe.model_copy(update={"tasks": {name: _settled(recipe.tasks[name], data[name]) for name in data}})


def _settled(settings: TaskRecipe, data: Prepared) -> TaskRecipe:
    if not any(isinstance(loss, ClassWeighted) and loss.class_weights == "balanced" for loss in settings.losses):
        return settings
    labels = data.task.labels or ()
    rows = data.task.answer.labels.occurrences(data.task, data.train.examples.labels)
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


def read_test(
    recipe: Recipe, tasks: Sequence[Task], tokenizer: Tokenizer
) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Returns a pair: a dict from the name of each trained task to its test data, and the warnings from reading them.

    Raises:
        ValueError, FileNotFoundError: If the recipe names no test data, or if the data cannot be read. The message
            names the task, or the place in a file.
    """
    found: dict[str, Dataset] = {}
    warnings: list[str] = []
    by_table: dict[str, list[Task]] = {}
    for task in tasks:
        by_table.setdefault(recipe.tasks[task.name].source_name, []).append(task)
    with rooted(recipe):
        for together in by_table.values():
            side, table = read_test_table(recipe, together)
            named = {task.name: task for task in together}
            reads = {name: reading.texts for name, reading in zip(named, table.readings, strict=True)}
            found |= tokenized(side, named, reads, tokenizer, recipe.model.max_length)
            warnings += [*table.all_warnings, *(line for i in range(len(together)) for line in table.left_out(i))]
            warnings += [
                line for i, task in enumerate(together) for line in labels.repair_warnings(table.table(i), task)
            ]
    return {task.name: found[task.name] for task in tasks}, tuple(warnings)


def _prepare(recipe: Recipe, name: str, tokenizer: Tokenizer, wanted: Collection[str]) -> dict[str, Prepared]:
    """Returns the data of each task in ``wanted`` that reads the table called ``name``."""
    split = split_table(recipe, name)
    readers = [each for each in recipe.tasks_by_table()[name] if each.name in wanted]
    check_rows(readers[0], len(split.train))
    tasks = {each.name: split.tasks[each.name] for each in readers}
    train, dev = (
        tokenized(side, tasks, split.reads, tokenizer, recipe.model.max_length, keep=True)
        for side in (split.train, split.dev)
    )
    train = {name: _readable(data) for name, data in train.items()}
    held_out: Mapping[str, Dataset] = {}
    if split.held_out is not None:
        held_out = tokenized(split.held_out, tasks, split.reads, tokenizer, recipe.model.max_length, keep=True)
    for each in readers:
        if each.no_duplicates or any(loss.needs.clusters for loss in each.losses):
            own = train[each.name]
            train[each.name] = replace(own, clusters=_clusters(own.examples, YES_NO in own.task.predicts.feeds))
    linked = sorted({i for each in readers for i in linking(split.reads[each.name])})
    facts = TableFacts(
        name=name,
        shared=readers[0].table is not None,
        train=tuple(split.train.texts[i] for i in linked),
        dev=tuple(split.dev.texts[i] for i in linked),
        warnings=split.warnings,
        digests={part.name: part.digest for part in split.parts},
    )
    return {
        each.name: Prepared(
            task=split.tasks[each.name],
            train=train[each.name],
            dev=dev[each.name],
            table=facts,
            warnings=(
                *split.own_warnings[each.name],
                *_one_sided(each, train[each.name].examples),
                *_few_held_out(recipe, split.tasks[each.name], held_out),
            ),
            held_out=held_out.get(each.name) if recipe.holds_out(each.name) else None,
        )
        for each in readers
    }


def _one_sided(settings: TaskRecipe, train: Examples) -> tuple[str, ...]:
    if settings.scored and settings.answer.labels.uniform(train.labels):
        return ("train: all examples have the same label, so there is nothing to learn to tell apart.",)
    return ()


def _few_held_out(recipe: Recipe, task: Task, held_out: Mapping[str, Dataset]) -> tuple[str, ...]:
    """Returns warnings if too few rows of the task are held out to fit its threshold or its calibration well."""
    if not recipe.holds_out(task.name):
        return ()
    rows = held_out[task.name].examples
    return tuple(doubts(task.predicts.fits, recipe.train.calibrate, task.labels, all_values(rows.labels), rows.weights))


def _clusters(examples: Examples, positives: bool) -> Rows:
    """Returns the cluster of each text, ``[B, texts]``, from the cache if possible. Equal texts share a cluster.

    If ``positives`` is true, the two texts of an example with label 1 share a cluster as well.
    """
    keep = len(examples) >= cache.FEWEST
    linked = hashlib.sha256(np.packbits(examples.labels == 1).data).hexdigest() if keep and positives else None
    depends_on = [*digests_of(examples.texts, keep), linked]

    def make(spool: Spool) -> None:
        with progress_of("looking for equal texts"):
            spool.add("numbers", clusters(examples, positives))

    def check(found: Kept) -> None:
        found.array("numbers", "<i8", size=len(examples) * len(examples.texts))

    found = cache.kept("clusters", depends_on, make, check, keep=keep)
    return found.arrays["numbers"].reshape(len(examples), -1)
