"""Conversion of a caller's Python values to the plain values that a recipe file can hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtbert.messages import shown
from mtbert.yaml_text import DEEPEST_YAML


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
