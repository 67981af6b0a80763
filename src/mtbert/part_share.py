"""Divides a list of work among several commands: the command with ``--part I/N`` takes every N-th item."""

from dataclasses import dataclass

from mtbert.advice import option
from mtbert.messages import clean


@dataclass(frozen=True)
class PartShare:
    """One of several equal shares of a list of items. ``PartShare()`` has all items.

    Attributes:
        number: The index of this share, counted from 0.
        of: The number of shares.
    """

    number: int = 0
    of: int = 1

    def has(self, item: int) -> bool:
        """Returns whether the item with this number, counted from 0, belongs to the share."""
        return item % self.of == self.number


def share_of(text: str | None) -> PartShare:
    """Returns the share of the work that ``text`` names. For example, ``2/8`` is the second of eight equal shares.

    ``text`` is the value of the option ``--part``. If it is None, the share is the whole work.

    Raises:
        ValueError: If ``text`` is not I/N with I from 1 to N.
    """
    if text is None:
        return PartShare()
    number, slash, of = text.partition("/")
    if not (slash and all(part.isascii() and part.isdecimal() and len(part) < 7 for part in (number, of))) or not (
        1 <= int(number) <= int(of)
    ):
        raise ValueError(
            f"{option('part')} must be I/N with I from 1 to N, found {clean(text)}. Give for example "
            f"{option('part', '2/8')}."
        )
    return PartShare(int(number) - 1, int(of))
