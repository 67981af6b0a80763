"""Functions that infer settings of a task from its label columns, and that check whether the columns fit the task."""

from collections.abc import Mapping
from typing import Any

from mtbert.data.tables import Columns
from mtbert.messages import clean, few, shown
from mtbert.task import Task


def with_columns(data: Any) -> Any:
    """Returns the settings of a task, with ``soft`` and ``labels`` filled in from ``columns``.

    ``soft`` becomes ``votes`` or ``shares``, depending on which of the two is a key of ``columns``. If neither is a
    key, ``soft`` becomes None.

    If ``labels`` is missing and ``columns`` lists a column for each label, ``labels`` becomes this list. For example,
    ``columns: {label: [toxic, insult]}`` sets ``labels`` to ``[toxic, insult]``.

    Raises:
        ValueError: If ``soft`` is given and differs from the value that follows from ``columns``.
    """
    if not isinstance(data, Mapping):
        return data
    columns, found = data.get("columns"), dict(data)

    def column(key: str) -> Any:
        return columns.get(key) if isinstance(columns, Mapping) else getattr(columns, key, None)

    soft = next((key for key in ("votes", "shares") if column(key) is not None), None)
    if found.get("soft") not in (None, soft):
        raise ValueError(
            f"soft: {shown(found['soft'])} follows from columns. Drop soft, and set columns.votes or shares."
        )
    found["soft"] = soft
    named = next((each for key in ("label", "shares") if isinstance(each := column(key), list | tuple) and each), None)
    if named is not None and found.get("labels") is None:
        found["labels"] = named
    return found


def how_to_label(task: Task, columns: Columns) -> str:
    """Returns a sentence that tells a person what to write into the label columns of a row of the task.

    After a person has done this, training can read the row. The task must have classes or sets of labels.
    """
    names = task.labels or ()
    into = f"Write into {few(columns.labels, quoted=True)}"
    choices = few([f"{code} for {name}" for code, name in zip(task.codes, names, strict=True)] if task.codes else names)
    several, between = isinstance(columns.truth, tuple), f"with {shown(columns.separator or ';')} between them"
    if columns.shares is not None and several:
        return f"{into} the share of each, which sum to 1 in a row."
    if columns.shares is not None:
        first = f"[1{', 0' * (len(names) - 1)}]"
        return f"{into} the list of the shares of {choices}, which sum to 1: {first} if all is {clean(names[0])}."
    if columns.votes is not None:
        return f"{into} a vote each: {choices}." if several else f"{into} the votes {between}: {choices}."
    if several:
        return f"{into} 1 for a label that the row has, and 0 for one that it lacks."
    if columns.separator is not None:
        return f"{into} the labels of the row {between}, or [] if it has none: {choices}."
    return f"{into}: {choices}."


def check_columns(task: Task, columns: Columns, *, generated: bool) -> None:
    """Raises ValueError if the columns do not fit the labels of the task.

    ``generated`` says whether the rows of the task are generated. If they are, also raises ValueError if ``columns``
    names a column that generated rows never have.
    """
    written = task.codes or task.labels or ()
    named = columns.label or columns.shares
    if isinstance(named, tuple) and set(named) != set(written):
        raise ValueError(
            f"columns.{columns.label_key} and labels must name the same, found {few(named, quoted=True)} and "
            f"{few(written, quoted=True)}. Drop labels, or map each column to its label."
        )
    if isinstance(columns.shares, str) and not task.labels:
        raise ValueError(
            f"columns.shares: {shown(columns.shares)} holds numbers in the order of labels, found no labels. "
            "Name the labels in their order."
        )
    other = next((key for key in ("votes", "shares", "weight") if getattr(columns, key) is not None), None)
    if generated and other:
        raise ValueError(f"generated rows have one label each and no weights, found columns.{other}. Drop it.")
