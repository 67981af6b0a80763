"""Conversion of a caller's Python values to the plain values that a recipe file, or a command, can hold."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtbert.messages import shown
from mtbert.yaml_text import DEEPEST_YAML

Changes = Mapping[str, Any] | Sequence[str]


def overrides_of(changes: Changes) -> list[str]:
    """Returns the changes of settings that a caller gave, each written as ``a.b=c``.

    Args:
        changes: A dict such as ``{"train.lr": 2e-5}`` or a list such as ``["train.lr=2e-5"]``.

    Raises:
        TypeError: If ``changes`` is neither, or contains an object that a recipe file cannot hold.
    """
    if isinstance(changes, Mapping):
        return [f"{path}={json.dumps(plain(value, f'changes, {shown(path)}'))}" for path, value in changes.items()]
    listed = list(changes)
    if isinstance(changes, str) or not all(isinstance(change, str) for change in listed):
        said = 'must be a dict or a list of texts such as ["train.lr=1e-3"]'
        raise TypeError(f"changes: {said}, found {shown(changes)}.")
    return listed


def path_of(what: str, given: object) -> Path:
    """Returns a path that a caller gave. Raises a TypeError if ``given`` is no path; the message begins with ``what``.

    >>> path_of("out", "runs/mine").name
    'mine'
    """
    if not isinstance(given, str | Path):
        raise TypeError(f"{what}: must be a path or a name, found {type(given).__name__}.")
    return Path(given)


def folder_name(given: object, shipped: Sequence[str]) -> str:
    """Returns a name for the folder of a run, a study or a hyperparameter search.

    If ``given`` is a name in ``shipped``, returns this name. If ``given`` is any other str or a path, returns the file
    name without its extension, such as ``mine`` for ``recipes/mine.yaml``. If ``given`` is anything else, such as a
    dict, returns ``run``.
    """
    if not isinstance(given, str | Path):
        return "run"
    return str(given) if str(given) in shipped else Path(given).stem


def plain(value: Any, what: str) -> Any:
    """Returns a copy of ``value`` in which tuples are lists, paths are strings, and NumPy numbers are Python numbers.

    Args:
        value: A nested structure of dicts, lists and single values.
        what: The name of the value in error messages.

    Raises:
        TypeError: If ``value`` contains an object that a recipe file cannot hold.
        ValueError: If ``value`` is nested too deeply, for example because a list contains itself.

    >>> plain({"rates": (np.float32(0.5), 1), "path": Path("a/b")}, "recipe")
    {'rates': [0.5, 1], 'path': 'a/b'}
    """

    def walk(value: Any, depth: int) -> Any:
        if depth > DEEPEST_YAML:
            raise ValueError(
                f"{what}: has more than {DEEPEST_YAML} lists and dicts inside each other. Make it flatter."
            )
        if isinstance(value, Mapping):
            return {key: walk(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item, depth + 1) for item in value]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Path):
            return str(value)
        if not isinstance(value, str | int | float | None):
            raise TypeError(
                f"{what}: must hold dicts, lists, texts, numbers, true, false and None, found {shown(value)}. "
                "Convert it."
            )
        return value

    return walk(value, 0)
