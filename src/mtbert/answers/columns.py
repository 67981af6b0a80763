"""Functions that check whether a recipe's columns can hold the labels of an answer type."""

from typing import Any

from mtbert.answers.values import ColumnFacts
from mtbert.messages import few, shown


def check_named(given: ColumnFacts) -> None:
    """Raises ValueError if the recipe gives no label column: null, or an empty list."""
    if given.label == ():
        raise ValueError("label names no column. Name one.")
    if given.label is None and given.votes is None and given.shares is None:
        raise ValueError("label must name a column, found null. Name one, or drop label for the column 'label'.")


def one_label(name: str, given: ColumnFacts, *, instead: str) -> dict[str, Any]:
    """Checks that the label columns suit an answer type with one label per row. The label may be given as votes.

    Returns ``{}``, which means that no column setting is changed.

    Args:
        name: The name of the answer type.
        given: The column settings of a recipe.
        instead: Advice for a user whose recipe names several label columns, written without a full stop.

    Raises:
        ValueError: If the recipe names several label columns, or a separator that would be used for sets of labels.
    """
    check_named(given)
    if isinstance(given.label, tuple):
        found = f"[{few(given.label, quoted=True)}]"
        raise ValueError(f"label: {found} is for sets of labels, found type '{name}'. {instead}.")
    if given.separator is not None and not isinstance(given.votes, str):
        found = shown(given.separator)
        raise ValueError(f"separator: {found} is for sets of labels, found type '{name}'. Drop it.")
    return {}
