"""Label columns: the task settings that follow from them, and checks that they fit the task."""

from collections.abc import Mapping
from typing import Any

from mtbert.data.tables import Columns
from mtbert.messages import few, shown
from mtbert.task import Task


def with_columns(data: Any) -> Any:
    """Returns the settings of a task, in which ``soft`` and ``labels`` have been filled in from ``columns``.

    For example, ``columns: {label: [toxic, insult]}`` sets ``labels`` if they are not given.

    Raises:
        ValueError: If ``soft`` is given and contradicts the columns.
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
