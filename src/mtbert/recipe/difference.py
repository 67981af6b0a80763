"""The settings in which two recipes differ."""

import json
from collections.abc import Iterator, Mapping

from mtbert.messages import clean
from mtbert.recipe.settings import Recipe, as_plain


def different_settings(before: Recipe, after: Recipe) -> list[str]:
    """Returns a line for each setting in which two recipes differ, such as ``train.lr: 2e-05 -> 0.001``.

    A key that only one of the recipes has is ``absent`` in the other.
    """
    old, new = (dict(_leaves(as_plain(recipe))) for recipe in (before, after))
    keys = dict.fromkeys((*old, *new))
    return [
        f"{clean(key)}: {clean(old.get(key, 'absent'))} -> {clean(new.get(key, 'absent'))}"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _leaves(settings: Mapping[str, object], place: str = "") -> Iterator[tuple[str, str]]:
    """Yields each setting that is not itself a group of settings: its path, and its value as JSON."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", json.dumps(value, ensure_ascii=False)
