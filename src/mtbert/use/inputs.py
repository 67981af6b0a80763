"""Reads a user's file, with or without labels, for tasks of a trained model."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mtbert import files
from mtbert.batch import Dataset
from mtbert.data import formats, labels, sources, whole
from mtbert.data.records import LARGEST_TABLE
from mtbert.data.sources import Source
from mtbert.data.tables import Table
from mtbert.data.whole import Whole
from mtbert.messages import clean, few, shown
from mtbert.recipe.settings import Recipe
from mtbert.task import Task
from mtbert.use.outputs import STANDARD_OUTPUT
from mtbert.use.predictor import Predictor

COPIED = 2**20  # bytes of standard input that are copied at a time


def labelled(predictor: Predictor, recipe: Recipe, task: str, file: str) -> tuple[Dataset, tuple[str, ...]]:
    """Returns the labelled rows of ``file`` as a data set of ``task``, and the warnings from reading the file."""
    chosen = known_task(predictor, recipe, task)
    table = _table(recipe, [chosen], file, Path(), labelled=True)
    data = predictor.dataset(task, labels.labelled_examples(table, chosen))
    return replace(data, task=chosen), (*table.warnings, *labels.repair_warnings(table, chosen))


def pool(predictor: Predictor, recipe: Recipe, task: str, file: str) -> tuple[Dataset, Whole, tuple[str, ...]]:
    """Reads a file without labels for one task.

    Returns a triple: all rows as a data set of ``task``, all columns of the file, and the warnings from reading it.
    """
    table = _table(recipe, [known_task(predictor, recipe, task)], file, Path(), labelled=False)
    (data,) = predictor.datasets([task], table.ids, table.texts)
    return data, whole.read_whole(file, Path(file), recipe.tasks[task].columns.text), table.warnings


def unlabelled(
    predictor: Predictor, recipe: Recipe, tasks: Sequence[str], file: str
) -> tuple[list[Dataset], Whole, list[str]]:
    """Reads a file without labels. Returns a triple: a data set for each task, all columns of the file, and warnings.

    If ``tasks`` is empty, all tasks whose text columns are in the file are used. If the recipe names id columns, but
    the file has none of them, row numbers from 1 are added to the returned columns, under the first of these names.
    """
    with _input(file) as (name, folder):
        warnings: list[str] = []
        if not tasks:
            tasks, warnings = _fitting(predictor, recipe, name, folder)
        chosen = {task: known_task(predictor, recipe, task) for task in tasks}
        texts = list(dict.fromkeys(column for task in tasks for column in recipe.tasks[task].columns.text))
        ids = list(dict.fromkeys(c for task in tasks if (c := recipe.tasks[task].columns.id) is not None))
        alike: dict[tuple[tuple[str, ...], int | None], list[str]] = {}
        for task in tasks:
            alike.setdefault((recipe.tasks[task].columns.text, chosen[task].texts), []).append(task)
        data: dict[str, Dataset] = {}
        for together in alike.values():
            table = _table(recipe, [chosen[task] for task in together], name, folder, labelled=False)
            warnings += table.warnings
            data |= {d.task.name: d for d in predictor.datasets(together, table.ids, table.texts)}
        given = whole.read_whole(name, folder / name, (*texts, *ids))
    in_order = [data[task] for task in tasks]
    ignored = [c for c in given.columns if c not in (*texts, *ids)]
    if ignored:
        who = "the task does" if len(tasks) == 1 else "these tasks do"
        warnings.append(f"{name}: columns that {who} not read, copied as they are: {few(ignored, quoted=True)}.")
    if not ids or any(id_ in given.columns for id_ in ids):
        return in_order, given, warnings
    id_ = ids[0]
    warnings.append(f"{name}: there is no column {shown(id_)}, so rows are numbered from 1 in a column of that name.")
    rows = [{id_: own} | dict(row) for own, row in zip(in_order[0].examples.ids, given.rows, strict=True)]
    return in_order, Whole((id_, *given.columns), rows), warnings


def answering(
    recipe: Recipe, candidates: Sequence[str], name: str, reasons: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Returns a pair: the tasks that can give answers for an input (a file, for example), and a list of warnings.

    The list holds one warning, which names the tasks that cannot give answers. It is empty if all tasks can.

    Args:
        recipe: The recipe of the run. A task is left out if the recipe has no loss that trains its answers.
        candidates: The names of the tasks to choose from.
        name: The name of the input, for messages.
        reasons: Further reasons why tasks cannot give answers, keyed by the name of the task.

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
        repair = "Rename columns, or name them with --set tasks.NAME.columns.text=COLUMN."
        raise ValueError(
            f"{clean(name)}: no task can answer: {left_out}. {repair if reasons else 'Ask one of them with --task.'}"
        )
    return found, [f"{name}: left out: {left_out}."] if against else []


def _fitting(predictor: Predictor, recipe: Recipe, name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Returns two lists: the tasks whose text columns are all in the file, and warnings.

    There is one warning if tasks are left out, and none otherwise.
    """
    reasons = {task: "the recipe of this run does not have it" for task in predictor.tasks if task not in recipe.tasks}
    texts = {task: recipe.tasks[task].columns.text for task in predictor.tasks if task not in reasons}
    found = whole.read_columns(
        name, folder / name, list(dict.fromkeys(c for columns in texts.values() for c in columns))
    )
    for task, columns in texts.items():
        missing = [column for column in columns if column not in found]
        if missing:
            reasons[task] = f"no column {few(missing, quoted=True)}"
    return answering(recipe, list(predictor.tasks), name, reasons)


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


def _table(recipe: Recipe, tasks: Sequence[Task], file: str, root: Path, *, labelled: bool) -> Table:
    """Returns the rows of a file as a table, read from the columns that the recipe names for the first of ``tasks``.

    All these tasks read the same text columns. As in training, a text may be a list of words if a task of the same
    table labels its words.
    """
    columns, texts = recipe.tasks[tasks[0].name].columns.unweighted, tasks[0].texts
    words = {column for task in tasks for column in recipe.columns_of_words(task.name)}
    return sources.read(Source(path=file), columns, root, texts=texts, labelled=labelled, words=words)


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
