"""Exceptions for mistakes in a user's data. Each has a message for training, and another for using a trained model."""

from collections.abc import Sequence

from mtbert.messages import few, near, nearest, shown

_SHARED = "tasks.TASK.{key}, or tables.TABLE.{key}"  # where the tasks of a table share a column


class NoColumn(ValueError):
    """The error for a column that rows lack.

    The message advises the user to change the setting that names the column, such as ``tasks.TASK.columns.text``.

    Attributes:
        key: The setting that names the column, such as ``columns.text``.
        column: The name of the column.
        likely: The name of a similar column that the rows have; None if there is none.
    """

    def __init__(
        self, where: str, key: str, column: str, found: Sequence[object], unused: Sequence[str], see: str = ""
    ) -> None:
        self.key, self.column, self.likely = key, column, nearest(column, unused)
        said = f"{where}: there is no column {shown(column)}, found {few(found, quoted=True)}.{near(column, unused)}"
        self._said, self._see = said, f" {see}" if see else ""
        keys = {"where": "where", "columns.text": _SHARED, "columns.id": _SHARED}.get(key, "tasks.TASK.{key}")
        super().__init__(self.advising(f"Set {keys.format(key=key)}."))

    def advising(self, advice: str) -> str:
        """Returns the message with other advice."""
        return f"{self._said} {advice}{self._see}"


class WrongLabel(ValueError):
    """The error for a cell that cannot be read as a label.

    The error has two messages. ``said`` is the message for training. ``trained`` is the message for scoring a trained
    model, whose classes cannot change any more.
    """

    def __init__(self, said: str, trained: str) -> None:
        super().__init__(said)
        self.trained = trained
