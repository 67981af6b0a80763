"""Recipes that extend other recipes: settings are merged key by key, and null drops a setting."""

import copy
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from mtbert.recipe.settings import Recipe
from mtbert.settings import Settings


def extend(base: Mapping[str, Any], change: Mapping[str, Any], kind: object = Recipe) -> dict[str, Any]:
    """Returns ``base`` with ``change`` merged into it: mappings are merged key by key, other values are replaced.

    Where null is a valid value, null in ``change`` replaces the old value. Elsewhere, it removes the setting.

    Args:
        base: The content of a recipe, or of a part of it.
        change: What another recipe says in the same place.
        kind: The type of this part of a recipe.

    >>> extend({"tasks": {"a": {"batch_size": 8, "dev": "d.csv"}}}, {"tasks": {"a": {"batch_size": None, "dev": None}}})
    {'tasks': {'a': {'dev': None}}}
    """
    result = dict(copy.deepcopy(base))
    for key, value in change.items():
        old, kinds = result.get(key), list(_kinds_of(kind, key))
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            named = [each for each in kinds if get_origin(each) is dict or _is_settings(each)]
            result[key] = extend(old, value, named[0] if len(named) == 1 else None)
        elif value is None and key in result and kinds and NoneType not in kinds:
            del result[key]
        else:
            result[key] = copy.deepcopy(value)
    return result


def _kinds_of(kind: object, key: str) -> Iterator[object]:
    """Yields the types that the value of ``key`` may have in a part of a recipe. ``kind`` is the type of this part.

    Yields nothing if ``kind`` is neither a dict type nor a subclass of ``Settings`` with a field ``key``.
    """
    if get_origin(kind) is dict:
        yield from _members(get_args(kind)[1])
    elif isinstance(kind, type) and issubclass(kind, Settings) and key in kind.model_fields:
        yield from _members(kind.model_fields[key].annotation)


def _members(annotation: object) -> Iterator[object]:
    """Yields the members of a union, or the type itself, each without its ``Annotated`` wrapper."""
    if get_origin(annotation) is dict or not (inner := get_args(annotation)):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _members(inner[0])
    else:
        for each in inner:
            yield from _members(each)


def _is_settings(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)
