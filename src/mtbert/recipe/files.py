"""Recipe files: ``extends``, ``--set`` overrides, folders that paths start from, shipped recipes."""

import copy
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mtbert import files, yaml_text
from mtbert.messages import clean, few, near, shown
from mtbert.recipe.settings import Recipe, as_plain, validate_recipe

RECIPE_FILE = "recipe.yaml"  # of a run, a tuning and a cell of a study

DEEPEST = 20  # keys of a path, recipes that extend each other


def load_recipe(name: str, overrides: Sequence[str] = (), beside: Path | None = None) -> Recipe:
    """Returns the recipe of that name or path, with ``a.b=c`` overrides on top; paths start from ``beside``.

    Raises:
        FileNotFoundError: If there is no such recipe; the message lists those shipped.
        ValueError: With one line per mistake: file, path of the key, what was found, what to do.
    """
    raw = _resolve(name, beside, ())
    for override in overrides:
        raw = merge(raw, _long(_override(override)))
    return validate_recipe(_rooted(_anchor(raw, Path(), name), Path()), name)


def dump_recipe(recipe: Recipe) -> str:
    """Returns the recipe as YAML that ``load`` reads back to an equal one."""
    return yaml_text.dump(as_plain(recipe))


def shipped_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(p.relative_to(_shipped()).with_suffix("").as_posix() for p in _shipped().rglob("*.yaml"))


def describe(name: str) -> str:
    """Returns what the shipped recipe of that name is, in one line: the first comment of its file.

    >>> describe("paper/surgery")
    'Gradient surgery (table 4).'
    """
    with (_shipped() / f"{name}.yaml").open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def _shipped() -> Path:
    """Returns the folder of the recipes that come with the package."""
    return Path(str(resources.files("mtbert") / "recipes"))


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``base`` with ``change`` laid over it, key by key; anything but a mapping replaces what was there."""
    result = dict(copy.deepcopy(base))
    for key, value in change.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merge(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def missing_file(what: str, name: str, path: Path, known: Sequence[str]) -> FileNotFoundError:
    """Returns the error about a recipe or study (``what``) that is neither the file ``path`` nor one of ``known``."""
    others = [Path(f"{path}.yaml"), path.with_suffix(".yaml"), path.with_suffix(".yml")] if path.name else []
    there = next((other.name for other in others if os.path.isfile(other)), None)
    if there is not None:
        hint = f" Did you mean {shown(str(Path(name).with_name(there)))}?"
    else:
        hint = near(name, known, f"Give a file, or one of: {', '.join(known)}.")
    return FileNotFoundError(f"{what} {few([name])}: no such file and no such shipped {what}.{hint}")


def _resolve(name: str, beside: Path | None, seen: tuple[Path, ...]) -> dict[str, Any]:
    path, is_shipped = _find(name, beside)
    if path in seen:
        chain = " -> ".join(p.name for p in (*seen, path))
        raise ValueError(f"recipe {clean(str(path))}: extends itself through {clean(chain)}.")
    if len(seen) == DEEPEST:
        raise ValueError(f"recipe {clean(str(path))}: the {DEEPEST}th that the one before extends. Extend fewer.")
    raw = yaml_text.read_yaml(path, "recipe", "tasks")
    base = raw.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ValueError(f"recipe {clean(str(path))}, extends: a name or a path, found {shown(base)}.")
    raw = _long(raw)
    if not is_shipped:
        raw = _anchor(raw, path.parent, str(path))
    if base is not None:
        extended = _resolve(base, path.parent, (*seen, path))
        extended.pop("control", None)  # what lacks one technique of the base lacks two things of this
        raw = merge(extended, raw)
    return raw if is_shipped else _rooted(raw, path.parent)


def _find(name: str, beside: Path | None) -> tuple[Path, bool]:
    if name in shipped_recipes():
        return _shipped() / f"{name}.yaml", True
    path = (beside or Path()) / name
    if name and os.path.exists(path):  # unlike Path.exists, no name is too long for it
        return files.resolved(path), False
    raise missing_file("recipe", name, path, shipped_recipes())


def _long(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with ``head: mlp`` written as ``head: {kind: mlp}``, so that changing its dropout keeps the kind."""
    tasks = raw.get("tasks")
    parts = [(task, "head") for task in tasks.values()] if isinstance(tasks, dict) else []
    parts += [(raw.get("model"), "pal"), (raw.get("train"), "sampler"), (raw.get("train"), "aggregation")]
    for part, key in parts:
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = {"kind": part[key]}
    return raw


def _anchor(raw: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """``raw`` with its relative folders made absolute: those written in a file start from that file's folder."""
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
    """``raw`` with its data in ``folder`` where it does not say."""
    data = raw.setdefault("data", {})
    if isinstance(data, dict) and data.get("root") is None:
        data["root"] = str(files.resolved(folder))
    return raw


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    parts = key.split(".")
    where = f"--set {few([text])}"
    if not equals or not all(parts):
        raise ValueError(f"{where}: give a.b=value, as in --set train.lr=2e-5.")
    if len(parts) > DEEPEST:
        raise ValueError(f"{where}: a path of {len(parts)} keys, and no setting has one of more than {DEEPEST}.")
    nested: Any = yaml_text.parse(value, where)
    for part in reversed(parts):
        nested = {part: nested}
    result: dict[str, Any] = nested
    return result
