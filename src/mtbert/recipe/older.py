"""Conversion of recipes that earlier versions of mtbert stored in the folders of runs."""

import copy
from pathlib import Path
from typing import Any

from mtbert.advice import option
from mtbert.recipe.tables import drop_inherited
from mtbert.recipe.train_settings import PAPER_ROUNDS


def modern(raw: dict[str, Any]) -> dict[str, Any]:
    """Returns an equivalent recipe in which the keys and values of earlier versions are replaced by today's.

    If the settings ``train`` have no ``held_out``, ``held_out: 0`` is added, because earlier versions held no rows out.

    >>> modern({"tasks": {"a": {"batch_size": 8}}, "train": {"accumulate": 2, "rounds": "paper"}})
    {'tasks': {'a': {'batch_size': 16}}, 'train': {'rounds': ['min', 'min', 'min', 'max'], 'held_out': 0}}
    """
    raw = copy.deepcopy(raw)
    drop_inherited(raw)  # earlier versions wrote the text columns of a table into each of its tasks
    train, tasks = raw.get("train"), raw.get("tasks")
    if isinstance(train, dict) and train.get("rounds") == "paper":
        train["rounds"] = list(PAPER_ROUNDS)
    if isinstance(train, dict):
        train.setdefault("held_out", 0)  # earlier versions fitted thresholds on rows that they also trained on
    batches = _accumulated(raw)
    if batches > 1 and isinstance(train, dict) and isinstance(tasks, dict):
        del train["accumulate"]
        for task in tasks.values():
            if isinstance(task, dict) and isinstance(task.get("batch_size"), int):
                task["batch_size"] *= batches
    return raw


def check_resumable(raw: dict[str, Any], run: Path) -> None:
    """Raises ValueError if ``run`` was begun by an older version of mtbert whose steps this version cannot repeat."""
    if _accumulated(raw) > 1:
        raise ValueError(
            f"{run}: has train.accumulate, which is no setting any more, so its steps cannot be repeated bit for bit. "
            f"Its model works as before; to train it on, start a new run with {option('set', f'model.path={run}')}."
        )


def _accumulated(raw: dict[str, Any]) -> int:
    """Returns the number of gradient accumulation steps in a recipe of an earlier version; 1 if it sets none."""
    train = raw.get("train")
    found = train.get("accumulate", 1) if isinstance(train, dict) else 1
    return found if isinstance(found, int) else 1
