"""Checks of the texts that a caller gives to a trained model. Texts are counted from 1."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from mtbert.data.memory import index_label
from mtbert.messages import count, shown
from mtbert.task import Task

_NO_TEXTS = (bytes, bytearray, Mapping, Set)  # types that are iterable but are not sequences of texts
NO_TEXT = "Give it a text, or leave it out."
SURROGATES = re.compile("[\ud800-\udfff]")  # Python represents bytes that are not UTF-8 by these characters


def fewest(task: Task) -> int:
    """Returns the smallest number of texts that an example of the task can have."""
    return task.texts or 2


def as_list(task: Task, texts: Any) -> list[Any]:
    """Returns the texts or pairs that a caller gave, as a list.

    Raises:
        TypeError: If ``texts`` is a DataFrame, bytes, a mapping or a set, or if it cannot be iterated.
    """
    if isinstance(texts, str):
        return [texts]
    together = task.texts != 1 and isinstance(texts, tuple) and task.takes(len(texts))
    if together and all(isinstance(text, str) for text in texts):
        return [texts]
    repair = "Give a list of texts" if task.texts == 1 else "Give a list of pairs, as [(one, other)]"
    repair = "Give a list of queries with their candidates, as [(query, one, other)]" if task.texts is None else repair
    kind = type(texts).__name__
    if kind == "DataFrame":  # known by its name, because none of the libraries that have one is imported here
        columns = 'its column, as frame["text"]' if task.texts == 1 else 'frame[["one", "other"]].values.tolist()'
        raise TypeError(f"task {task.name}: texts must not be a whole DataFrame. Give {columns}.")
    if isinstance(texts, _NO_TEXTS):
        raise TypeError(f"task {task.name}: texts must be a sequence, found {kind}. {repair}.")
    try:
        return list(texts)
    except TypeError:
        raise TypeError(f"task {task.name}: texts must be a sequence, found {kind}. {repair}.") from None


def parts_of(given: Any) -> tuple[Any, ...] | None:
    """Returns the texts of one example as a tuple; None if ``given`` is neither a text nor a sequence."""
    if isinstance(given, str):
        return (given,)
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, _NO_TEXTS) else None


def checked_row(task: Task, size: int, number: int, given: Any, index: Any) -> tuple[str, ...]:
    """Checks one example, and returns its texts.

    Args:
        task: The task that reads the example.
        size: The number of texts that the example must have.
        number: The number of the example among all examples, counted from 1. Error messages contain it.
        given: The example, as the caller gave it.
        index: The index of the pandas Series that has the examples; None for other sequences.

    Raises:
        ValueError: If there are not exactly ``size`` texts, or if one of them is empty or not text.
    """
    where = f"task {task.name}, text {number}{index_label(index, number)}"
    parts = parts_of(given)
    if parts is None:
        wanted = {1: "text", 2: "a pair of texts", None: "a query and its candidates"}[task.texts]
        raise ValueError(f"{where}: must be {wanted}, found {shown(given)}. {NO_TEXT}")
    if len(parts) != size:
        wanted = count(size, "text")
        if task.texts is None:
            wanted = (
                f"a query and {count(size - 1, 'candidate')}{', as the first one does' if number > 1 else ' at least'}"
            )
        raise ValueError(f"{where}: takes {wanted}, found {len(parts)}: {shown(given)}.")
    return checked_texts(where, parts, given)


def checked_texts(where: str, parts: Sequence[Any], given: Any = None) -> tuple[str, ...]:
    """Returns the texts of one example. Raises a ValueError if a text is empty or not UTF-8.

    The error message begins with ``where``, and quotes the faulty text or, if ``given`` is not None, quotes ``given``.
    """
    for part in parts:
        if not isinstance(part, str) or not part.strip() or SURROGATES.search(part):
            found = shown(part if given is None else given)
            raise ValueError(f"{where}: must be UTF-8 text and not empty, found {found}. {NO_TEXT}")
    return tuple(map(str, parts))
