"""Reading a user's file for a task of a trained model, with or without labels."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtbert import files
from mtbert.batch import Dataset
from mtbert.data import formats, labels, sources, whole
from mtbert.data.records import LARGEST_TABLE
from mtbert.data.sources import Source
from mtbert.data.whole import Whole
from mtbert.messages import few, shown
from mtbert.recipe.settings import Recipe
from mtbert.task import Task
from mtbert.use.outputs import STANDARD_OUTPUT
from mtbert.use.predictor import Predictor

COPIED = 2**20  # bytes of standard input that are copied at a time


def labelled(predictor: Predictor, recipe: Recipe, task: str, file: str) -> tuple[Dataset, tuple[str, ...]]:
    """Returns the rows of ``file`` with their labels, as ``task`` reads them, and the warnings from reading."""
    return _read(predictor, recipe, task, file, Path(), labelled=True)


def unlabelled(predictor: Predictor, recipe: Recipe, task: str, file: str) -> tuple[Dataset, Whole, tuple[str, ...]]:
    """Returns the rows of ``file`` without labels, as ``task`` reads them; the whole file; and warnings.

    If the recipe names an id column that the file lacks, the whole file gets one, which numbers the rows from 1.
    """
    with _input(file) as (name, folder):
        data, warnings = _read(predictor, recipe, task, name, folder, labelled=False)
        columns = recipe.tasks[task].columns
        given = whole.read_whole(
            name, folder / name, (*columns.text, *([columns.id] if columns.id is not None else []))
        )
    ignored = [c for c in given.columns if c not in (*columns.text, columns.id)]
    if ignored:
        copied = f"{name}: columns that the task does not read, copied as they are: {few(ignored, quoted=True)}."
        warnings = (*warnings, copied)
    id_ = columns.id
    if id_ is None or id_ in given.columns:
        return data, given, warnings
    numbered = f"{name}: there is no column {shown(id_)}, so rows are numbered from 1 in a column of that name."
    rows = [{id_: own} | dict(row) for own, row in zip(data.examples.ids, given.rows, strict=True)]
    return data, Whole((id_, *given.columns), rows), (*warnings, numbered)


@contextmanager
def _input(file: str) -> Iterator[tuple[str, Path]]:
    """Yields the name of an input file and the folder that the name is relative to.

    For ``-``, standard input is first copied into a temporary file.
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


def _read(
    predictor: Predictor, recipe: Recipe, task: str, file: str, root: Path, *, labelled: bool
) -> tuple[Dataset, tuple[str, ...]]:
    """Returns the rows of a file, read from the columns that the recipe names, and the warnings from reading."""
    chosen = known_task(predictor, recipe, task)
    columns = recipe.tasks[task].columns
    table = sources.read(Source(path=file), columns, root, texts=chosen.texts, labelled=labelled)
    return predictor.dataset(task, labels.labelled_examples(table, chosen)), table.warnings


def known_task(predictor: Predictor, recipe: Recipe, task: str) -> Task:
    """Returns the model's task called ``task``.

    Raises:
        ValueError: If the model or the recipe has no such task.
    """
    chosen = predictor.task(task)
    if task not in recipe.tasks:
        raise ValueError(f"task {task}: the recipe of this run does not have it, so its columns are unknown.")
    return chosen
