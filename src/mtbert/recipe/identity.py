"""Digests of recipes, which show whether two runs have the same settings."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtbert import yaml_text
from mtbert.recipe.files import load_run_recipe
from mtbert.recipe.settings import Recipe
from mtbert.recipe.tables import without_table
from mtbert.recipe.train_settings import PAPER_ROUNDS, TrainRecipe
from mtbert.settings import Settings
from mtbert.yaml_files import merge


def identity(recipe: Recipe) -> str:
    """Returns the SHA-256 of all settings of a recipe except those that may change when a run is resumed.

    The settings that may change are ``data.root`` and the number of epochs. Settings that have their default value are
    left out too, so that new settings in later versions do not change the digest.
    """
    return _sha256(_compared(recipe))


def same_settings(file: Path, recipe: Recipe) -> bool:
    """Returns whether the recipe in ``file``, which a run or ``mtbert tune`` stored, has the settings of ``recipe``.

    ``data.root`` is not compared. ``train.held_out`` is compared only if rows are held out for a task.

    Raises:
        FileNotFoundError, ValueError: If ``file`` does not exist, or if the recipe in it has mistakes.
    """
    stored = load_run_recipe(file)
    return _compared(stored) == _compared(recipe) and stored.train.epochs == recipe.train.epochs


def _compared(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings of ``recipe`` on which its identity depends, as dicts, lists and plain values."""
    # Digests of earlier versions contain this name instead of the list.
    rounds = "paper" if recipe.train.rounds == PAPER_ROUNDS else recipe.train.rounds
    # Earlier versions held no rows out. Their digests are those of recipes that hold none out now.
    train = recipe.train.model_copy(update={"epochs": 1, "rounds": rounds, "held_out": TrainRecipe().held_out})
    found: dict[str, Any] = _chosen(recipe.placeless().model_copy(update={"train": train}))
    if any(map(recipe.holds_out, recipe.tasks)):
        found.setdefault("train", {})["held_out"] = recipe.train.held_out
    for name, task in recipe.tasks.items():
        if task.table is not None:
            found["tasks"][name] = without_table(found["tasks"][name])
    return found


def shortened(recipe: Recipe) -> dict[str, Any]:
    """Returns ``recipe`` as the content of a recipe file, without settings that have their default values."""
    found: dict[str, Any] = _chosen(recipe)
    for name, task in recipe.tasks.items():
        short = {key: value for key, value in found["tasks"][name].items() if key not in ("name", "soft")}
        if task.table is not None:
            short = without_table(short)
            if task.columns.text == recipe.tables[task.table].columns.text:
                short.get("columns", {}).pop("text", None)
            else:  # also where it is the default of a task, which is not that of its table
                short["columns"] = {**short.get("columns", {}), "text": list(task.columns.text)}
        found["tasks"][name] = short
    return found


def _chosen(value: Any) -> Any:
    """Returns ``value``, a recipe or a part of it, as dicts, lists and plain values.

    Settings with default values are left out, except ``kind``.
    """
    if isinstance(value, Settings):
        each = {name: (getattr(value, name), field) for name, field in type(value).model_fields.items()}
        return {
            name: _chosen(found)
            for name, (found, field) in each.items()
            if name == "kind" or found != field.get_default(call_default_factory=True)
        }
    if isinstance(value, Mapping):
        return {key: _chosen(item) for key, item in value.items()}
    return [_chosen(item) for item in value] if isinstance(value, tuple) else value


def recipe_digest(raw: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of ``raw``, the content of a recipe file.

    The digest does not depend on ``data.root`` or on the number of epochs.
    """
    return digest_with_epochs(merge(raw, {"train": {"epochs": 1}}))


def digest_with_epochs(raw: Mapping[str, Any]) -> str:
    """Returns a digest of a recipe's content, as older versions stored it. It depends on the number of epochs too."""
    return _sha256({**raw, "data": {"root": None}})


def _sha256(raw: Mapping[str, Any]) -> str:
    return hashlib.sha256(yaml_text.dump(raw).encode()).hexdigest()
