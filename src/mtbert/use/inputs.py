"""Functions that read a user's file, with or without labels, for tasks of a trained model."""

import shlex
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from mtbert import files, yaml_text
from mtbert.batch import Dataset
from mtbert.data import formats, labels, sources, whole
from mtbert.data.records import LARGEST_TABLE
from mtbert.data.source_table import SourceTable
from mtbert.data.sources import Source
from mtbert.data.tables import Columns
from mtbert.data.whole import Whole
from mtbert.messages import clean, count, few, shown
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe
from mtbert.task import Task
from mtbert.use.outputs import STANDARD_OUTPUT
from mtbert.use.predictor import Predictor

COPIED = 2**20  # bytes of standard input that are copied at a time


def labelled(
    predictor: Predictor, recipe: Recipe, task: str, file: str, trained: Mapping[str, str], root: Path = Path()
) -> tuple[Dataset, tuple[str, ...]]:
    """Returns the labelled rows of ``file`` as a data set of ``task``, and the warnings from reading the file.

    ``root`` is the folder from which the path ``file`` starts. ``trained`` has the names of the task's train files, by
    their SHA-256. If ``file`` is one of these files, the first warning says so.
    """
    chosen = known_task(predictor, recipe, task)
    columns, words = recipe.tasks[task].columns.unweighted, recipe.columns_of_words(task)
    table = sources.read(Source(path=file), columns, root, texts=chosen.texts, words=words)
    data = predictor.dataset(task, labels.labelled_examples(table, chosen))
    seen = [
        f"{clean(file)}: has the same content as {trained[part.digest]}, which task {task} was trained on, so its "
        "scores here look better than they are. Score rows that the run has not seen."
        for part in table.parts
        if part.digest in trained
    ]
    return replace(data, task=chosen), (*seen, *table.warnings, *labels.repair_warnings(table, chosen))


def pool(predictor: Predictor, recipe: Recipe, task: str, file: str) -> tuple[Dataset, Whole, list[str]]:
    """Reads a file without labels for one task.

    Returns a triple: the rows as a data set of ``task``, all columns and rows of the file, and warnings. Rows with an
    empty text are not in the data set, and a warning counts them.
    """
    table = _texts(recipe, [known_task(predictor, recipe, task)], file, Path(), recipe.tasks[task].columns.id)
    (data,) = datasets_of(predictor, [task], table)
    warnings = [*table.warnings, *_gaps(table, [data], "left out {}, because a text is empty")]
    return data, whole.read_whole(file, Path(file), recipe.tasks[task].columns.text), warnings


def unlabelled(
    predictor: Predictor, recipe: Recipe, tasks: Sequence[str], file: str, fixed: Collection[str] = ()
) -> tuple[list[Dataset], Whole, list[str]]:
    """Reads a file without labels. Returns a triple: a data set for each task, all columns of the file, and warnings.

    Which tasks are used, and which columns they read, is described at :func:`fitting`. If the file contains none of the
    recipe's id columns, a column of row numbers is added, under the name of the first id column.

    A row with an empty text is left out for all tasks that read the text. A warning counts the rows with empty texts.

    Raises:
        ValueError, FileNotFoundError: If the file cannot be read, if no task is left, or if a text is empty and
            ``tasks`` names a single task.
    """
    with _input(file) as (name, folder):
        named = [known_task(predictor, recipe, task).name for task in tasks]
        asked = named or [task for task in predictor.tasks if task in recipe.tasks]
        given = whole.read_whole(name, folder / name, (*text_columns(recipe, asked), *id_columns(recipe, asked)))
        fits = fitting(predictor, recipe, named, name, given.columns, fixed)
        recipe, tasks, warnings = fits.recipe, fits.tasks, fits.warnings
        chosen = [known_task(predictor, recipe, task) for task in tasks]
        texts, ids = text_columns(recipe, tasks), id_columns(recipe, tasks)
        there = [id_ for id_ in ids if id_ in given.columns]
        table = _texts(recipe, chosen, name, folder, *(there or ids)[:1], gaps=len(named) != 1)
    data = datasets_of(predictor, tasks, table)
    empty = {one.task.name: "a text is empty in every row" for one in data if not len(one)}
    if empty:
        tasks, more = answering(recipe, tasks, name, empty)
        data, warnings = [one for one in data if len(one)], [*warnings, *more]
    warnings += [*table.warnings, *_gaps(table, data, "no answer in {}, because a text is empty")]
    ignored = [c for c in given.columns if c not in (*texts, *ids)]
    if ignored:
        who = "the task does" if len(tasks) == 1 else "these tasks do"
        warnings.append(f"{name}: columns that {who} not read, copied as they are: {few(ignored, quoted=True)}.")
    if there or not ids:
        return data, given, warnings
    id_ = ids[0]
    warnings.append(f"{name}: there is no column {shown(id_)}, so rows are numbered from 1 in a column of that name.")
    rows = [{id_: own} | dict(row) for own, row in zip(table.ids, given.rows, strict=True)]
    return data, Whole((id_, *given.columns), rows), warnings


def answering(
    recipe: Recipe, candidates: Sequence[str], name: str, reasons: Mapping[str, str], repair: str = ""
) -> tuple[list[str], list[str]]:
    """Returns a pair: the tasks that can answer an input (a file, for example), and a list of warnings.

    The list is empty if all tasks can answer. Otherwise, it contains one warning, which names the tasks that cannot.

    Args:
        recipe: The recipe of the run. A task can answer only if the recipe has a loss that trains the task's answers.
        candidates: The names of the tasks to choose from.
        name: The name of the input, for messages.
        reasons: A dict from task name to a further reason why the task cannot answer.
        repair: What the user can do so that these tasks answer; the messages end with it.

    Raises:
        ValueError: If no task is left.
    """
    untrained = {
        n: "no loss trains its answers" for n in candidates if n in recipe.tasks and not recipe.tasks[n].scored
    }
    against = {n: why for n in candidates if (why := reasons.get(n) or untrained.get(n))}
    left_out = few([f"{n} ({why})" for n, why in against.items()])
    found = [n for n in candidates if n not in against]
    if not found:
        repair = repair or ("Give a file that has texts." if reasons else "Ask one of them with --task.")
        raise ValueError(f"{clean(name)}: no task can answer: {left_out}. {repair}")
    return found, [f"{name}: left out: {left_out}. {repair}".rstrip()] if against else []


def text_columns(recipe: Recipe, tasks: Iterable[str]) -> list[str]:
    """Returns the names of all columns of texts that the recipe names for ``tasks``."""
    return list(dict.fromkeys(c for task in tasks if task in recipe.tasks for c in recipe.tasks[task].columns.text))


def _of_labels(recipe: Recipe, task: str) -> list[str]:
    """Returns the names of the columns of labels and weights of a task."""
    columns = recipe.tasks[task].columns
    return [*columns.labels, *([columns.weight] if columns.weight is not None else [])]


def _reading(task: TaskRecipe, texts: tuple[str, ...]) -> TaskRecipe:
    return task.model_copy(update={"columns": task.columns.model_copy(update={"text": texts})})


def _likely(names: Sequence[str], free: Sequence[str]) -> Sequence[str]:
    """Returns as many of the columns ``free`` as there are ``names``: for one name, the most similar column."""
    if len(names) == 1:
        return [max(free, key=lambda column: SequenceMatcher(None, names[0], column).ratio())]
    return free[: len(names)]


def _option(task: str, columns: Sequence[str]) -> str:
    """Returns the option of the command line that lets a task read other text columns."""
    value = clean(yaml_text.inline(columns[0] if len(columns) == 1 else list(columns)))
    return shlex.join(["--set", f"tasks.{task}.columns.text={value}"])


def id_columns(recipe: Recipe, tasks: Iterable[str]) -> list[str]:
    """Returns the names of all id columns that the recipe names for ``tasks``."""
    return list(dict.fromkeys(c for task in tasks if (c := recipe.tasks[task].columns.id) is not None))


@dataclass(frozen=True)
class Fitting:
    """The tasks that answer an input file, and what they read in it.

    Attributes:
        recipe: The recipe of the run, in which each of the tasks reads columns that the file has.
        tasks: The names of the tasks.
        warnings: At most two lines: which tasks read another column than in training, and which tasks are left out.
    """

    recipe: Recipe
    tasks: list[str]
    warnings: list[str]


def fitting(
    predictor: Predictor,
    recipe: Recipe,
    named: Sequence[str],
    name: str,
    found: Collection[str],
    fixed: Collection[str] = (),
) -> Fitting:
    """Returns the tasks that can answer the rows of an input, and the columns that each of them reads.

    A task reads the text columns that the recipe names. If the input lacks them, but other tasks read one text (or, for
    a task of pairs, one pair of texts) in it, the task answers about the same text, as all tasks do that a server is
    asked. If no task finds its columns, and one column is left beside ids, labels and weights, this column is the text.

    Args:
        predictor: The model.
        recipe: The recipe of its run.
        named: The tasks that the user has named. If it is empty, all tasks answer that can.
        name: The name of the input, for messages.
        found: The columns of the input.
        fixed: Tasks that read only the columns that the recipe names, because the user has set these columns.

    Raises:
        ValueError: If a named task cannot answer, or no task is left.
    """
    own = {task: recipe.tasks[task].columns.text for task in predictor.tasks if task in recipe.tasks}
    lacking = {task: [c for c in columns if c not in found] for task, columns in own.items()}
    no_texts = [*id_columns(recipe, own), *(c for task in own for c in _of_labels(recipe, task))]
    free = [column for column in found if column not in no_texts]
    instead: dict[str, tuple[str, ...]] = {}
    for size in (1, 2):
        alike = [task for task in own if predictor.task(task).texts == size]
        read = {own[task] for task in alike if not lacking[task]}
        if size == 1 and all(lacking.values()):
            read = {(column,) for column in free}
        if len(read) == 1:
            instead |= {task: next(iter(read)) for task in alike if lacking[task] and task not in fixed}
    warnings = []
    for columns in dict.fromkeys(instead.values()):
        moved = [task for task in instead if instead[task] == columns and task in (named or own)]
        if moved:
            only = "is the only text" if len(columns) == 1 else "is the only pair of texts"
            told = few([f"{task} (no column {few(lacking[task], quoted=True)})" for task in moved])
            other = _option(moved[0], ["COLUMN", "OTHER"][: len(columns)])
            warnings.append(
                f"{name}: {few(columns, quoted=True)} {only}, so these tasks answer about it too: {told}. To name "
                f"another column: {other}"
            )
    changed = {task: _reading(recipe.tasks[task], columns) for task, columns in instead.items()}
    recipe = recipe.model_copy(update={"tasks": {**recipe.tasks, **changed}})
    without = {task: columns for task, columns in lacking.items() if columns and task not in instead}
    options = {task: _option(task, _likely(own[task], free)) for task in without if len(free) >= len(own[task])}
    for task in named:
        if task in without:
            repair = f" To name another column: {options[task]}" if task in options else ""
            raise ValueError(
                f"{clean(name)}: there is no column {shown(without[task][0])}, found {few(found, quoted=True)}. Task "
                f"{task} reads it.{repair}"
            )
    if named:
        return Fitting(recipe, list(named), warnings)
    reasons = {task: f"no column {few(columns, quoted=True)}" for task, columns in without.items()}
    reasons |= {task: "the recipe of this run does not have it" for task in predictor.tasks if task not in own}
    repair = f"To name columns: {' '.join(list(options.values())[:3])}" if options else ""
    tasks, more = answering(recipe, list(predictor.tasks), name, reasons, repair)
    return Fitting(recipe, tasks, [*warnings, *more])


@contextmanager
def _input(file: str) -> Iterator[tuple[str, Path]]:
    """Yields a pair: the name of an input file, and the folder to which this name is relative.

    If ``file`` is ``-``, standard input is first copied into a temporary file.
    """
    if file != STANDARD_OUTPUT:
        yield file, Path()
        return
    if sys.stdin is None:
        raise ValueError("--input -: standard input is closed. Give a file.")
    part = sys.stdin.buffer.read(COPIED)
    kind = "jsonl" if part.removeprefix(formats.BOM).lstrip().startswith(b"{") else "csv"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"standard-input.{kind}"
        left = LARGEST_TABLE
        with files.naming(place), place.open("wb") as copy:
            while part:
                left -= len(part)
                if left < 0:
                    raise ValueError(f"--input -: more than {LARGEST_TABLE:,} bytes. Give fewer rows at a time.")
                copy.write(part)
                part = sys.stdin.buffer.read(COPIED)
        yield place.name, Path(folder)


def _texts(
    recipe: Recipe, tasks: Sequence[Task], file: str, root: Path, id_: str | None = None, *, gaps: bool = True
) -> SourceTable:
    """Returns the rows of an unlabelled file, with the text columns of ``tasks``.

    Args:
        recipe: The recipe of the run. It names the text columns. A text may be a list of words where training allows
            it.
        tasks: The tasks that will answer.
        file: The file, relative to ``root``.
        root: The folder.
        id_: The name of the id column. If it is None, or the file lacks the column, the ids are row numbers.
        gaps: Whether texts may be empty.
    """
    columns, words = columns_read(recipe, tasks, id_)
    return sources.read_texts(
        Source(path=file), columns, root, texts=[task.texts for task in tasks], words=words, gaps=gaps
    )


def columns_read(recipe: Recipe, tasks: Iterable[Task], id_: str | None) -> tuple[list[Columns], set[str]]:
    """Returns a pair: the columns that each task reads, and the text columns whose cells may be lists of words.

    ``id_`` is the name of the id column, or None if rows are numbered.
    """
    columns = [recipe.tasks[task.name].columns.unweighted.model_copy(update={"id": id_}) for task in tasks]
    return columns, {column for task in tasks for column in recipe.columns_of_words(task.name)}


def datasets_of(predictor: Predictor, tasks: Sequence[str], table: SourceTable) -> list[Dataset]:
    """Returns a data set for each task, with the rows of ``table``.

    The table must have been read for exactly these tasks, in this order.
    """
    reads = {task: reading.texts for task, reading in zip(tasks, table.readings, strict=True)}
    return predictor.datasets(tasks, table.ids, table.texts, reads)


def _gaps(table: SourceTable, data: Sequence[Dataset], what: str) -> list[str]:
    """Returns a list with one warning if at least one task cannot read all rows of ``table``, otherwise an empty list.

    ``data`` holds, for each task, the rows that the task can read. ``what`` is the text of the warning. In this text,
    ``{}`` is replaced with the number of missing rows per task, such as ``3 rows of task sst, 1 row of task sts``.
    """
    without = {one.task.name: np.setdiff1d(np.arange(len(table)), one.rows) for one in data}
    told = [f"{count(len(rows), 'row')} of task {name}" for name, rows in without.items() if len(rows)]
    if not told:
        return []
    first = min(int(rows[0]) for rows in without.values() if len(rows))
    (part,) = table.parts
    return [f"{part.name}: {what.format(', '.join(told))} (first: {part.unit} {table.lines[first]})."]


def known_task(predictor: Predictor, recipe: Recipe, task: str) -> Task:
    """Returns the task called ``task``, with the settings that are stored in the model.

    Raises:
        ValueError: If the model or the recipe of its run has no such task.
    """
    chosen = predictor.task(task)
    if task not in recipe.tasks:
        raise ValueError(f"task {task}: the recipe of this run does not have it, so its columns are unknown.")
    # The recipe may be changed by --set, so that a model of soft labels is scored on hard ones.
    return chosen.model_copy(update={"soft": recipe.tasks[task].soft})
