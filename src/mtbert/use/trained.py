"""Functions that load a trained model together with the recipe of its run."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mtbert import environment, files
from mtbert.advice import call, command_line, option, worded
from mtbert.data.cells import readable
from mtbert.messages import few
from mtbert.recipe.files import RECIPE_FILE, load_run_recipe
from mtbert.recipe.settings import Recipe, as_plain
from mtbert.storage.model_folder import find_model_folder
from mtbert.use.hub_runs import MODEL_FILES
from mtbert.use.predictor import Predictor, load

# Settings of a task or a table that can change after training.
CHANGEABLE = ("columns", "train", "dev", "test", "metric")
MOST_TRIES = 5  # to read a model that training replaces

_Found = TypeVar("_Found")


def early_model(predictor: Predictor, path: Path) -> list[str]:
    """Returns a list with one warning if the newest model of a run is used because the run has no best model yet.

    Otherwise, the list is empty.
    """
    if predictor.folder is not None and predictor.folder.name == "last" and predictor.folder != path:
        return [f"{predictor.name}: the run stopped before its first evaluation, so its newest model answers."]
    return []


# Models, recipes and files -----------------------------------------------------------------------------------


def load_whole(run: Path) -> tuple[Predictor, str]:
    """Returns the model of a run, and the SHA-256 of the files from which it was loaded."""
    return while_unchanged(run, load)


def while_unchanged(run: Path, read: Callable[[Path], _Found]) -> tuple[_Found, str]:
    """Returns what ``read`` finds in the model folder of a run, and the SHA-256 of the files of this model.

    Training may replace the model at any moment. If it does so while ``read`` is at work, ``read`` is called again.

    Raises:
        ValueError, FileNotFoundError: If ``read`` raises it although the model stays the same, or if the model is
            replaced again and again.
    """
    for _ in range(MOST_TRIES):
        before = _model_digest(run)
        try:
            found = read(find_model_folder(run) or run)
        except (FileNotFoundError, ValueError):
            if _model_digest(run) == before:
                raise
        else:
            if before is not None and _model_digest(run) == before:
                return found, before
    raise ValueError(f"{run}: training replaces the model too often to read it. Try again when the run has ended.")


def _model_digest(run: Path) -> str | None:
    """Returns the SHA-256 of the digests of all files of a run's model; None if files are missing at the moment."""
    folder = find_model_folder(run)
    there = [] if folder is None else [folder / name for name in MODEL_FILES if (folder / name).is_file()]
    try:
        lines = [f"{file.name} {files.sha256(file, 'Check the model.')}" for file in there]
    except FileNotFoundError:
        return None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


def as_trained(path: Path, overrides: Sequence[str]) -> tuple[Predictor, Recipe]:
    """Returns a predictor for the model at ``path``, and the recipe of its run, changed by ``overrides``.

    The predictor computes in the precision that the recipe names for training.

    Raises:
        FileNotFoundError: If there is no model or no recipe at ``path``.
        ValueError: If a file is damaged, or an override changes a setting that cannot be changed after training.
    """
    predictor, recipe = load(path), recipe_of(path, overrides)
    device = next(predictor.model.parameters()).device
    predictor.model.compute = environment.precision(recipe.train.precision, device)
    return predictor, recipe


def recipe_of(path: Path, overrides: Sequence[str]) -> Recipe:
    """Returns the recipe of a run, changed by ``overrides``.

    Args:
        path: The folder of the run, or its folder ``best/`` or ``last/``.
        overrides: Changes, each as ``a.b=c``. They can only change ``data.root`` and those settings of a task that
            :data:`CHANGEABLE` lists.

    Raises:
        FileNotFoundError: If there is no recipe.
        ValueError: If the recipe is damaged, or an override changes a setting that cannot be changed after training.
    """
    file = find_recipe(path)
    if file is None:
        raise FileNotFoundError(
            f"{path}: no {RECIPE_FILE} here or one folder up, so columns are unknown. Give a run's folder."
        )
    found, changed = load_run_recipe(file), load_run_recipe(file, overrides)
    for key in _differences(as_plain(found), as_plain(changed)):
        of_data = key[0] in ("tasks", "tables") and key[2:3] and key[2] in CHANGEABLE
        if key[:2] != ("data", "root") and not of_data:
            holders = "tasks.NAME" + " and tables.NAME" * bool(found.tables)
            raise ValueError(
                f"{option('set', '.'.join(key))}: the model was trained with this setting, so it cannot be "
                f"changed. These can: data.root, and of {holders}: {few(CHANGEABLE)}."
            )
    return changed


def renamed_texts(path: Path, recipe: Recipe) -> set[str]:
    """Returns the names of the tasks whose text columns in ``recipe`` are not those of the run at ``path``."""
    own = recipe_of(path, ()).tasks
    return {name for name, task in recipe.tasks.items() if task.columns.text != own[name].columns.text}


def with_own_columns(path: Path, recipe: Recipe) -> Recipe:
    """Returns a copy of ``recipe`` in which each task has the column names from the recipe of the run at ``path``.

    These are the names of the columns in the run's train files.
    """
    own = recipe_of(path, ()).tasks
    return recipe.model_copy(
        update={
            "tasks": {
                name: task.model_copy(update={"columns": own[name].columns}) for name, task in recipe.tasks.items()
            }
        }
    )


def trained_files(path: Path, task: str) -> dict[str, str]:
    """Returns a dict from the SHA-256 of each train file of a task to the file's name, as the run recorded them.

    ``path`` is the folder of the run, or of a model in it. The dict is empty if there is no record, for example because
    the model was copied alone.
    """
    file = find_recipe(path)
    try:
        record = None if file is None else environment.read_record(file.with_name(environment.ENVIRONMENT_FILE))
    except (FileNotFoundError, ValueError):
        record = None
    if record is None or file is None:
        return {}
    settings = load_run_recipe(file).tasks.get(task)
    names = [] if settings is None else map(readable, settings.train.files)
    return {record.data[name]: name for name in names if name in record.data}


def find_recipe(path: Path) -> Path | None:
    """Returns the path of the recipe file in ``path`` or in its parent folder; None if neither contains a recipe."""
    there = (folder / RECIPE_FILE for folder in (path, path.resolve().parent))
    return next((file for file in there if file.is_file()), None)


def ask_line(run: Path, recipe: Recipe) -> str:
    """Returns a line that a user can type to ask the model of a run about some text.

    Inside :func:`~mtbert.advice.worded_for_shell`, the line is a shell command. Otherwise, it is a call from Python. If
    all tasks of the model take pairs, the question is about two texts.
    """
    single = any(task.scored and task.takes(1) for task in recipe.tasks.values())
    texts = ["some text"] if single else [("some text", "another text")]
    pair = [] if single else ["--text-pair", "another text"]
    return worded(command_line("predict", run, "--text", "some text", *pair), f"{call('load', run)}({texts})")


def _differences(a: object, b: object, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the path of each value that differs between two nested mappings. A path is a tuple of keys."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys((*a, *b)):
            yield from _differences(a.get(key), b.get(key), (*at, str(key)))
    elif a != b:
        yield at


def recipe_targets(path: Path, recipe: Recipe | None) -> tuple[Path, dict[Path, str]]:
    """Returns a pair: the folder of the run or model at ``path``, and a dict of the files that its recipe reads.

    Neither the folder nor the files may be overwritten. The dict maps each file to a phrase that says what it is.
    """
    reads: dict[Path, str] = {}
    if recipe is not None:
        for name, task in recipe.tasks.items():
            for source in filter(None, (task.train, task.dev, task.test)):
                for file in filter(None, (*source.files, source.hub)):
                    reads[recipe.root() / file] = f"data of task {name}"
    above = path.resolve().parent
    return above if (above / RECIPE_FILE).is_file() else path, reads
