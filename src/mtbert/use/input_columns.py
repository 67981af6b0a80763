"""The columns of an input file that each task of a trained model reads, and the tasks that can answer the file."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher

from mtbert import yaml_text
from mtbert.advice import option, worded
from mtbert.data.mistakes import NoColumn, WrongLabel
from mtbert.messages import LONGEST_LINE, Note, as_warnings, clean, few, shown
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe
from mtbert.use.predictor import Predictor


def answering(
    recipe: Recipe, candidates: Sequence[str], name: str, reasons: Mapping[str, str], repair: str = ""
) -> tuple[list[str], list[str]]:
    """Returns a pair: the names of the tasks that can answer an input (a file, for example), and a list of warnings.

    If all candidates can answer, there is no warning. Otherwise, one warning names the candidates that cannot answer.

    Args:
        recipe: The recipe of the run. A task can answer only if the recipe has a loss that trains the task's answers.
        candidates: The names of the tasks to choose from.
        name: The name of the input, for messages.
        reasons: A dict from task name to a further reason why the task cannot answer.
        repair: A sentence that tells the user what to do so that all candidates can answer. The warning and the error
            end with this sentence. If the sentence is empty, the error ends with general advice.

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
        repair = repair or ("Give a file that has texts." if reasons else f"Ask one of them with {option('task')}.")
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
    """Returns as many of the columns ``free`` as there are ``names``.

    If there is exactly one name, returns the column that is most similar to this name. Otherwise, returns the first
    columns of ``free``.
    """
    if len(names) == 1:
        return [max(free, key=lambda column: SequenceMatcher(None, names[0], column).ratio())]
    return free[: len(names)]


def labelled_for(
    recipe: Recipe, tasks: Sequence[str], name: str, found: Collection[str]
) -> tuple[list[str], list[str]]:
    """Returns a pair: the tasks whose label columns are among the columns ``found``, and a list of warnings.

    If only some tasks have their label columns, the list contains one warning, which names the other tasks. If no task
    has its label columns, all ``tasks`` are returned without a warning; when the caller then reads the rows, an error
    names the missing columns. ``name`` is the name of the rows, for messages.
    """
    lacking = {task: [c for c in recipe.tasks[task].columns.labels if c not in found] for task in tasks}
    there = [task for task in tasks if not lacking[task]]
    if not there or len(there) == len(tasks):
        return list(tasks), []
    left_out = few([f"{task} (no column {few(own, quoted=True)})" for task, own in lacking.items() if own])
    keys = {task: f"columns.{recipe.tasks[task].columns.label_key}" for task in lacking}
    repairs = [line for task, own in lacking.items() if (line := _renaming(recipe, task, keys[task], own)) is not None]
    repair = f" To name columns: {changes(repairs[:3])}" if repairs else ""
    return there, [f"{name}: left out: {left_out}.{repair}"]


def _key(recipe: Recipe, task: str, key: str) -> str:
    """Returns the full key of a task's setting, such as ``tasks.TASK.columns.label``.

    ``key`` is the part after the name of the task. If the task takes the setting from its table, the full key names the
    table instead: ``tables.TABLE.columns.text``.
    """
    own = recipe.tasks[task]
    table = recipe.tables.get(own.table or "")
    shared = key == "columns.id" or (key == "columns.text" and table and own.columns.text == table.columns.text)
    return f"tables.{own.table}.{key}" if table is not None and shared else f"tasks.{task}.{key}"


def changes(settings: Iterable[str]) -> str:
    """Returns a part of a message that tells the user how to give ``settings``, each of which is written as ``a.b=c``.

    In a process that the command line has started, the part is ``--set a.b=c``. In any other process, the part is
    ``changes=['a.b=c']``.
    """
    given = list(dict.fromkeys(settings))
    shell = shlex.join([word for each in given for word in ("--set", each)])
    return worded(shell, f"changes={shown(given, LONGEST_LINE)}")


@contextmanager
def advising_the_trained(recipe: Recipe, tasks: Collection[str]) -> Iterator[None]:
    """A context manager in which two errors get messages that suit a trained model.

    An error about a missing column advises the user to change a setting of ``tasks`` or, if no such setting helps, to
    rename the column. An error about an unknown class says that the model was trained on the known classes.

    Args:
        recipe: The recipe of the model.
        tasks: The tasks whose settings the user can change.
    """
    try:
        yield
    except NoColumn as error:
        if error.key == "where":
            raise
        each = (_renaming(recipe, task, error.key, [error.column], error.likely) for task in tasks)
        repairs = [line for line in each if line is not None]
        repair = f"To name another column: {changes(repairs)}" if repairs else "Rename the column in the rows."
        raise ValueError(error.advising(repair)) from None
    except WrongLabel as error:
        raise ValueError(error.trained) from None


def _renaming(recipe: Recipe, task: str, key: str, lacking: Sequence[str], instead: str | None = None) -> str | None:
    """Returns a change of the recipe that replaces missing columns of ``task``.

    The change is, for example, ``tasks.sst.columns.text=COLUMN``. Returns None if the setting ``key`` contains no
    missing column, or if this setting contains a column for each class.

    Args:
        recipe: The recipe of a trained model.
        task: The name of the task.
        key: The setting that contains names of columns, such as ``columns.text``.
        lacking: The missing columns.
        instead: The column that replaces each missing column. None stands for the word ``COLUMN``.
    """
    columns = recipe.tasks[task].columns
    named = {"columns.text": columns.text, "columns.id": (columns.id,), f"columns.{columns.label_key}": columns.labels}
    names = named.get(key, ())
    of_classes = key in ("columns.label", "columns.shares") and isinstance(columns.truth, tuple)
    if of_classes or not set(names) & set(lacking):
        return None
    return _change(recipe, task, [(instead or "COLUMN") if name in lacking else str(name) for name in names], key)


def _change(recipe: Recipe, task: str, columns: Sequence[str], key: str = "columns.text") -> str:
    """Returns a change of the recipe, such as ``tasks.sst.columns.text=review``, that makes a task read ``columns``."""
    value = yaml_text.inline(columns[0] if len(columns) == 1 else list(columns))
    return f"{_key(recipe, task, key)}={clean(value)}"


def id_columns(recipe: Recipe, tasks: Iterable[str]) -> list[str]:
    """Returns the names of all id columns that the recipe names for ``tasks``."""
    return list(dict.fromkeys(c for task in tasks if (c := recipe.tasks[task].columns.id) is not None))


@dataclass(frozen=True)
class Fitting:
    """The tasks that answer an input file, and what they read in it.

    Attributes:
        recipe: A copy of the run's recipe, changed so that each of the tasks reads text columns that the file has.
        tasks: The names of the tasks.
        notes: The first lines say which tasks read another column than in training. A warning at the end names the
            tasks that are left out.
    """

    recipe: Recipe
    tasks: list[str]
    notes: list[Note]


def fitting(
    predictor: Predictor,
    recipe: Recipe,
    named: Sequence[str],
    name: str,
    found: Collection[str],
    fixed: Collection[str] = (),
    *,
    settable: bool = True,
) -> Fitting:
    """Returns the tasks that can answer the rows of an input, and the columns that each of them reads.

    A task reads the text columns that the recipe names for the task. If the input lacks these columns, the task may
    read other columns:

    - A task of single texts reads the text column of another task of single texts, if the input has exactly one such
      column.
    - A task of pairs reads the two text columns of another task of pairs, if the input has exactly one such pair.
    - If the input has the text columns of no task, and only one column beside ids, labels and weights, all tasks of
      single texts read this column.

    Args:
        predictor: The model.
        recipe: The recipe of its run.
        named: The tasks that the user has named. If the user has named none, all tasks that can answer are returned.
        name: The name of the input, for messages.
        found: The columns of the input.
        fixed: Tasks that never read other columns than the recipe names.
        settable: Whether the user can set columns. If true, messages say how to set columns.

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
    notes = []
    for columns in dict.fromkeys(instead.values()):
        moved = [task for task in instead if instead[task] == columns and task in (named or own)]
        if moved:
            only = "is the only text" if len(columns) == 1 else "is the only pair of texts"
            told = few([f"{task} (no column {few(lacking[task], quoted=True)})" for task in moved])
            other = changes([_change(recipe, moved[0], ["COLUMN", "OTHER"][: len(columns)])])
            line = f"{few(columns, quoted=True)} {only}, so these tasks read it: {told}."
            notes.append(Note(f"{name}: {line}" + (f" To name another column: {other}" if settable else "")))
    recipe = recipe.model_copy(
        update={"tasks": recipe.tasks | {task: _reading(recipe.tasks[task], own) for task, own in instead.items()}}
    )
    without = {task: columns for task, columns in lacking.items() if columns and task not in instead}
    read_by_others = {column for task in own if not lacking[task] for column in own[task]}
    repairs = {}
    for task in without:  # one text may be that of another task too, but hardly one of a pair
        likely = free if len(own[task]) == 1 else [column for column in free if column not in read_by_others]
        if len(likely) >= len(own[task]):
            repairs[task] = _change(recipe, task, _likely(own[task], likely))
    for task in named:
        if task in without:
            repair = f" To name another column: {changes([repairs[task]])}" if task in repairs else ""
            repair = repair if settable else " Rename the column in the file."
            raise ValueError(
                f"{clean(name)}: there is no column {shown(without[task][0])}, found {few(found, quoted=True)}. Task "
                f"{task} reads it.{repair}"
            )
    if named:
        return Fitting(recipe, list(named), notes)
    reasons = {task: f"no column {few(columns, quoted=True)}" for task, columns in without.items()}
    reasons |= {task: "the recipe of this run does not have it" for task in predictor.tasks if task not in own}
    repair = f"To name columns: {changes(list(dict.fromkeys(repairs.values()))[:3])}" if repairs and settable else ""
    tasks, more = answering(recipe, list(predictor.tasks), name, reasons, repair)
    return Fitting(recipe, tasks, [*notes, *as_warnings(more)])
