"""Draws rows of a table at random.

The drawn rows become dev, or are held out of train to fit decision thresholds and calibrations on them.
"""

from collections.abc import Sequence

import numpy as np

from mtbert.columns import Ints, TextColumn, taken
from mtbert.data import cache
from mtbert.data.cache import Kept, Spool
from mtbert.data.source_table import SourceTable
from mtbert.data.split import SplitBy, grouped_split, split_by_rows


def drawn(table: SourceTable, rows: Ints, fraction: float, seed: int, by: SplitBy) -> Ints:
    """Draws some of ``rows`` at random. Returns indices into ``rows``, in ascending order.

    Args:
        table: The table.
        rows: The rows of the table that take part in the draw.
        fraction: The share of these rows that is drawn.
        seed: The seed of the draw.
        by: The unit of the draw. With the value ``"texts"``, rows that share a text are drawn together or not at
            all. With the value ``"rows"``, each row is drawn on its own. A draw by texts is kept in the cache if there
            are many rows.

    Raises:
        Inseparable: If the draw is by texts, and shared texts link all rows.
        ValueError: If ``fraction`` is not between 0 and 1, or if there are too few rows.
    """
    if by == "rows":
        return split_by_rows(len(rows), fraction, seed)[1]
    texts = [taken(column, rows, len(table)) for column in table.linking]

    def make(spool: Spool) -> None:
        spool.add("dev", grouped_split(texts, fraction, seed)[1])

    def check(found: Kept) -> None:
        dev = found.array("dev", "<i8")
        cache.check_within(dev, 0, len(rows))
        cache.check_within(np.diff(dev), 1, len(rows))  # each row once, in order

    keep = len(rows) >= cache.FEWEST
    depends_on = [*digests_of(texts, keep), fraction, seed]
    return cache.kept("split", depends_on, make, check, keep=keep).arrays["dev"]


def digests_of(texts: Sequence[TextColumn], keep: bool) -> list[str]:
    """Returns a list with the SHA-256 of each column of texts. If ``keep`` is false, the list is empty."""
    return [column.digest() for column in texts] if keep else []
