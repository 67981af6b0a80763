"""Functions that read a user's file, with or without labels, for tasks of a trained model."""

import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtbert import files
from mtbert.batch import Dataset
from mtbert.data import formats, labels, sources, whole
from mtbert.data.records import LARGEST_TABLE
from mtbert.data.source_table import SourceTable
from mtbert.data.sources import Source
from mtbert.data.tables import Columns
from mtbert.data.whole import Whole
from mtbert.messages import Note, as_warnings, clean, count, few, shown
from mtbert.recipe.settings import Recipe
from mtbert.task import Task
from mtbert.use.input_columns import advising_the_trained, answering, fitting, id_columns, text_columns
from mtbert.use.outputs import STANDARD_OUTPUT
from mtbert.use.predictor import Predictor

COPIED = 2**20  # bytes of standard input that are copied at a time


def labelled(
    predictor: Predictor,
    recipe: Recipe,
    task: str,
    file: str,
    trained: Mapping[str, str],
    root: Path = Path(),
    *,
    settable: bool = True,
) -> tuple[Dataset, tuple[str, ...]]:
    """Returns the labelled rows of ``file`` as a data set of ``task``, and the warnings from reading the file.

    ``root`` is the folder from which the path ``file`` starts. ``trained`` has the names of the task's train files, by
    their SHA-256. If ``file`` is one of these files, the first warning says so. If ``settable`` is true, the user can
    choose the columns that the task reads, and an error about a missing column says how.
    """
    chosen = known_task(predictor, recipe, task)
    columns, words = recipe.tasks[task].columns.unweighted, recipe.columns_of_words(task)
    with advising_the_trained(recipe, [task] if settable else []):
        table = sources.read(Source(path=file), columns, root, texts=chosen.texts, words=words)
        data = predictor.dataset(task, labels.labelled_examples(table, chosen))
    seen = [
        f"{clean(file)}: has the same content as {trained[part.digest]}, which task {task} was trained on, so its "
        "scores here look better than they are. Score rows that the run has not seen."
        for part in table.parts
        if part.digest in trained
    ]
    return replace(data, task=chosen), (*seen, *table.warnings, *labels.repair_warnings(table, chosen))


@dataclass(frozen=True)
class Pool:
    """A file of rows to label for one task.

    Attributes:
        data: The rows whose texts are not empty, as a data set of the task.
        texts: The names of the text columns that the task reads in this file.
        whole: All columns and rows of the file.
        notes: Messages about the file, such as a warning that says how many rows have an empty text.
    """

    data: Dataset
    texts: tuple[str, ...]
    whole: Whole
    notes: list[Note]


def pool(predictor: Predictor, recipe: Recipe, task: str, file: str, fixed: Collection[str] = ()) -> Pool:
    """Returns the unlabelled rows in ``file``. A person will label these rows for ``task``.

    Which columns the task reads, and what ``fixed`` means, is described at :func:`fitting`.

    Raises:
        ValueError, FileNotFoundError: If the file cannot be read, or has no text for the task.
    """
    chosen = known_task(predictor, recipe, task)
    given = whole.read_whole(file, Path(file), (*text_columns(recipe, [task]), *id_columns(recipe, [task])))
    fits = fitting(predictor, recipe, [task], file, given.columns, fixed)
    columns = fits.recipe.tasks[task].columns
    table = _texts(fits.recipe, [chosen], file, Path(), columns.id)
    (data,) = datasets_of(predictor, [task], table)
    warnings = [*table.warnings, *_gaps(table, [data], "left out {}, because a text is empty")]
    return Pool(data, columns.text, given, [*fits.notes, *as_warnings(warnings)])


def unlabelled(
    predictor: Predictor,
    recipe: Recipe,
    tasks: Sequence[str],
    file: str,
    fixed: Collection[str] = (),
    *,
    settable: bool = True,
) -> tuple[list[Dataset], Whole, list[Note]]:
    """Reads a file without labels. Returns a triple: a data set for each task, all columns of the file, and notes.

    Which tasks are used, and which columns they read, is described at :func:`fitting`, and so are ``fixed`` and
    ``settable``. If the file contains none of the
    recipe's id columns, a column of row numbers is added, under the name of the first id column.

    If ``tasks`` holds exactly one name, an empty text is an error. Otherwise, a row with an empty text is left out for
    all tasks that read the text, and a warning counts the rows with empty texts.

    Raises:
        ValueError, FileNotFoundError: If the file cannot be read, if no task is left, or if an empty text is an error.
    """
    with _input(file) as (name, folder):
        named = [known_task(predictor, recipe, task).name for task in tasks]
        asked = named or [task for task in predictor.tasks if task in recipe.tasks]
        given = whole.read_whole(name, folder / name, (*text_columns(recipe, asked), *id_columns(recipe, asked)))
        fits = fitting(predictor, recipe, named, name, given.columns, fixed, settable=settable)
        recipe, tasks, notes = fits.recipe, fits.tasks, fits.notes
        chosen = [known_task(predictor, recipe, task) for task in tasks]
        texts, ids = text_columns(recipe, tasks), id_columns(recipe, tasks)
        there = [id_ for id_ in ids if id_ in given.columns]
        table = _texts(recipe, chosen, name, folder, *(there or ids)[:1], gaps=len(named) != 1)
    data = datasets_of(predictor, tasks, table)
    empty = {one.task.name: "a text is empty in every row" for one in data if not len(one)}
    if empty:
        tasks, more = answering(recipe, tasks, name, empty)
        data, notes = [one for one in data if len(one)], [*notes, *as_warnings(more)]
    notes += as_warnings([*table.warnings, *_gaps(table, data, "no answer in {}, because a text is empty")])
    ignored = [c for c in given.columns if c not in (*texts, *ids)]
    if ignored:
        who = "the task does" if len(tasks) == 1 else "these tasks do"
        notes.append(Note(f"{name}: columns that {who} not read, copied as they are: {few(ignored, quoted=True)}."))
    if there or not ids:
        return data, given, notes
    id_ = ids[0]
    line = f"there is no column {shown(id_)}, so the output begins with one that numbers the rows from 1."
    notes.append(Note(f"{name}: {line}"))
    rows = [{id_: own} | dict(row) for own, row in zip(table.ids, given.rows, strict=True)]
    return data, Whole((id_, *given.columns), rows), notes


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
        recipe: The recipe of the run. It says which columns hold texts, and which of these columns may hold lists of
            words.
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
