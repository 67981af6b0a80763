"""Recipe files: ``extends``, ``--set`` overrides, relative paths, and the recipes that come with the package."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtbert import files, yaml_text
from mtbert.advice import command_line, option
from mtbert.data.memory import SPLITS
from mtbert.data.sources import Source
from mtbert.messages import LONGEST, clean, count, few, near, shown
from mtbert.recipe.extending import extend
from mtbert.recipe.given import plain
from mtbert.recipe.older import modern
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe, as_plain, validate_recipe
from mtbert.recipe.tables import TableRecipe, long_label
from mtbert.yaml_files import YamlFiles, merge

RECIPE_FILE = "recipe.yaml"  # in the folder of a run, of a tuning, and of each run of a study

TableFiles = Mapping[str, Mapping[str, str]]

RECIPES = YamlFiles("recipe", key="tasks", folder="recipes", listing=f" ({command_line('recipe', 'list')})")
DEEPEST = 20  # most keys in the path of a setting


def load_recipe(name: str, overrides: Sequence[str] = (), beside: Path | None = None) -> Recipe:
    """Returns the recipe called ``name`` with ``overrides`` applied.

    Args:
        name: The name of a shipped recipe, or the path of a recipe file.
        overrides: Changes of single settings, each written as ``a.b=c``, such as ``train.lr=2e-5``.
        beside: The folder from which a relative path in ``name`` starts; by default the working directory.

    Raises:
        FileNotFoundError: If there is no such recipe. The message lists the shipped recipes.
        ValueError: If the recipe has mistakes. The message contains one line for each mistake: the file, the key, the
            value, and how to fix the mistake.
    """
    return _validated(_resolve(name, beside or Path()), overrides, name)


def load_run_recipe(file: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Returns the recipe in ``file``, which is in the folder of a run or of ``mtbert tune``, with ``overrides``
    applied.

    A recipe that an earlier version of mtbert wrote is translated into today's settings.

    Raises:
        FileNotFoundError: If ``file`` does not exist.
        ValueError: If the recipe or ``overrides`` have mistakes.
    """
    raw = modern(_resolve(str(file), Path()))
    try:
        return _validated(raw, overrides, str(file))
    except ValueError as error:
        first, *more = str(error).splitlines()
        if overrides or not more:
            raise
        others = count(len(more), "more mistake")
        raise ValueError(f"{first} The recipe has {others}. If a newer mtbert wrote it, use that one.") from None


def given_recipe(
    given: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str], files_of: TableFiles
) -> Recipe:
    """Returns the recipe that a caller of the Python API has given in one of four forms.

    Args:
        given: The path of a recipe file, the name of a shipped recipe, a dict with the content of a recipe file, or a
            ``Recipe``. Relative paths in a dict start from the working directory.
        overrides: Changes to single settings, each written as ``a.b=c``.
        files_of: Data files that replace those of the recipe, as ``{name: {split: path}}``. A name is that of a table,
            or of a task with files of its own.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If the recipe has mistakes, or if ``files_of`` contains a name that the recipe does not contain.
        TypeError: If ``given`` has another type, or contains an object that a recipe file cannot hold.
    """
    if not isinstance(given, str | Path | Mapping | Recipe):
        raise TypeError(f"recipe: must be a path, the name of a shipped one, a dict or a Recipe, found {shown(given)}.")
    name = (
        str(given)
        if isinstance(given, str | Path)
        else "given as a recipe"
        if isinstance(given, Recipe)
        else "given as a dict"
    )
    if isinstance(given, Recipe):
        raw = as_plain(given)
    elif isinstance(given, Mapping):
        raw = _anchor(_long(plain(given, f"recipe {name}")), Path(), name)
        base = raw.pop("extends", None)
        if not isinstance(base, str | None):
            raise ValueError(f"recipe {name}, extends: must be the name of a recipe, found {shown(base)}.")
        raw = raw if base is None else extend(_resolve(base, Path()), raw)
    else:
        raw = _resolve(name, Path())
    own, tables = _own_tasks(raw.get("tasks")), raw.get("tables") or {}
    if isinstance(tables, Mapping):
        _check_names(files_of, own, tables, raw)
    instead = {}
    if isinstance(given, Mapping) and isinstance(tables, Mapping):
        keys = {f"tasks.{few([name])}": name for name in own} | {f"tables.{few([name])}": name for name in tables}
        instead = {f"{key}.train": f", or data={{{shown(name)}: rows}}" for key, name in keys.items()}
    changed = {"tasks": {k: v for k, v in files_of.items() if k in own}} if own else {}
    changed |= {"tables": {k: v for k, v in files_of.items() if k in tables or k not in own}} if tables else {}
    return _validated(merge(raw, changed) if files_of else raw, overrides, name, instead)


def _own_tasks(tasks: Any) -> list[str]:
    """Returns the names of the tasks that read data files of their own, and not a table of the recipe.

    ``tasks`` is the content of ``tasks`` in a recipe file, before validation.
    """
    each = tasks.items() if isinstance(tasks, Mapping) else ()
    return [name for name, task in each if not isinstance(task, Mapping) or task.get("table") is None]


def _check_names(files_of: TableFiles, own: Sequence[str], tables: Mapping[str, Any], raw: Mapping[str, Any]) -> None:
    """Raises ValueError if a key of ``files_of`` names neither a table nor a task that has files of its own."""
    for name in files_of:
        if name in own or name in tables or not isinstance(raw.get("tasks"), Mapping):
            continue
        if name in raw["tasks"]:
            table = shown(raw["tasks"][name]["table"])
            raise ValueError(f"data: task {shown(name)} reads table {table}. Give data={{{table}: rows}}.")
        kind = "table and no task with data of its own is called" if tables else "task"
        known = [*tables, *own]
        said = f"data: no {kind} {shown(name)}" if tables else f"data: the recipe has no task {shown(name)}"
        raise ValueError(f"{said}.{near(str(name), map(str, known), f'It has {few(known)}.')}")


def with_absolute_files(recipe: Recipe, but: TableFiles) -> Recipe:
    """Returns the recipe with the paths of its data files made absolute.

    The argument ``but`` lists splits whose paths stay unchanged.
    """

    def absolute(source: Source) -> Source:
        root = recipe.root()
        paths = [str(root / path) for path in source.files]
        path = paths[0] if isinstance(source.path, str) else tuple(paths) or None
        hub = str(root / source.hub) if source.hub is not None and os.path.isdir(root / source.hub) else source.hub
        return source.model_copy(update={"path": path, "hub": hub})

    def change(name: str, holder: TableRecipe | TaskRecipe) -> dict[str, Source]:
        sources = {split: getattr(holder, split) for split in SPLITS if split not in but.get(name, {})}
        return {split: absolute(source) for split, source in sources.items() if source is not None}

    return recipe.with_sources(change)


def change_run_recipe(file: Path, change: Mapping[str, Any]) -> None:
    """Merges the settings in ``change`` into the recipe file of a run. All other settings stay the same."""
    files.write_text(file, yaml_text.dump(merge(yaml_text.read_yaml(file, "recipe", "tasks"), change)))


def _validated(
    raw: dict[str, Any], overrides: Sequence[str], name: str, instead: Mapping[str, str] | None = None
) -> Recipe:
    for override in overrides:
        raw = extend(raw, _long(_override(override)))
    return validate_recipe(_rooted(_anchor(raw, Path(), name), Path()), name, instead)


def dump_recipe(recipe: Recipe) -> str:
    """Returns the recipe as YAML text, from which :func:`load_recipe` reads an equal recipe."""
    return yaml_text.dump(as_plain(recipe))


def shipped_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return RECIPES.shipped()


def describe(name: str) -> str:
    """Returns the one-line description of a shipped recipe: the first comment in the recipe's file.

    >>> describe("paper/surgery")
    'Gradient surgery (table 4).'
    """
    return RECIPES.describe(name)


def _resolve(name: str, beside: Path) -> dict[str, Any]:
    """Returns the settings of a recipe file, merged into the settings of the recipes that it extends."""
    merged: dict[str, Any] = {}
    for file in reversed(RECIPES.read(name, beside)):
        raw = _long(file.raw)
        if not file.shipped:
            raw = _anchor(raw, file.path.parent, str(file.path))
        merged.pop("control", None)  # the base's control lacks more than one technique of this recipe
        merged = extend(merged, raw)
        if not file.shipped:
            merged = _rooted(merged, file.path.parent)
    return merged


def _long(raw: dict[str, Any]) -> dict[str, Any]:
    """Expands short forms in ``raw``, which is the content of a recipe. Changes ``raw`` itself, and returns it.

    For example, ``head: mlp`` becomes ``head: {kind: mlp}``. A recipe that extends this one can then add single
    settings.
    """
    tasks = raw.get("tasks")
    if isinstance(tasks, dict):
        tasks = raw["tasks"] = {k: long_label(task) if isinstance(task, dict) else task for k, task in tasks.items()}
    parts = [(task, "head") for task in tasks.values()] if isinstance(tasks, dict) else []
    parts += [(raw.get("model"), "pal"), (raw.get("train"), "sampler"), (raw.get("train"), "aggregation")]
    for part, key in parts:
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = {"kind": part[key]}
    return raw


def _anchor(raw: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """Returns a copy of ``raw`` in which the folders ``data.root`` and ``model.path`` are absolute paths.

    Relative paths start from ``folder``. A ``model.path`` that is not a folder stays unchanged: it may be a hub id.
    """
    raw = copy.deepcopy(raw)
    data, model = raw.get("data"), raw.get("model")
    try:
        key = "data.root"
        if isinstance(data, dict) and isinstance(data.get("root"), str):
            data["root"] = str(files.resolved(folder / data["root"]))
        key = "model.path"
        if isinstance(model, dict) and isinstance(model.get("path"), str) and model["path"] != "demo":
            local = folder / model["path"]
            if os.path.isdir(local) or os.path.islink(local):
                model["path"] = str(files.resolved(local))
    except ValueError as error:
        raise ValueError(f"recipe {clean(name)}, {key}: {error}") from None
    return raw


def _rooted(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Sets ``data.root`` to ``folder`` in the recipe content ``raw``, unless it is set already, and returns ``raw``."""
    data = raw.setdefault("data", {})
    if isinstance(data, dict) and data.get("root") is None:
        data["root"] = str(files.resolved(folder))
    return raw


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    parts = key.split(".")
    where = option("set", text[:LONGEST])
    if not equals or not all(parts):
        raise ValueError(f"{where}: give a.b=value, as in {option('set', 'train.lr=2e-5')}.")
    if len(parts) > DEEPEST:
        raise ValueError(f"{where}: a path of {len(parts)} keys, and no setting has one of more than {DEEPEST}.")
    nested: Any = yaml_text.parse(value, where)
    for part in reversed(parts):
        nested = {part: nested}
    result: dict[str, Any] = nested
    return result
