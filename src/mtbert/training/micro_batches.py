"""Micro-batches: the examples of a step are divided among several forward passes, so that a step fits into memory."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mtbert.batch import TaskRows
from mtbert.collate import share_rows


def micro_batches(
    parts: Sequence[TaskRows], budget: int | None, apart: Callable[[str], bool] = lambda _: False
) -> Iterator[list[TaskRows]]:
    """Divides the examples of a step among forward passes, and yields the examples of each pass.

    The rows of a pass have at most ``budget`` tokens together. A longer row gets a pass of its own. If ``budget`` is
    None, one pass has all examples.

    ``apart`` takes the name of a task, and returns True if the task must not share rows with other tasks. If several of
    the remaining tasks read the same row, the row is in the same pass for all of them, and its tokens count once.
    """
    if not parts:
        return
    if budget is None:
        yield list(parts)
        return
    micro: list[TaskRows] = []
    tokens = 0
    for span in share_rows(parts, apart):
        first = 0
        for i, length in enumerate(span.lengths().tolist()):
            if tokens and tokens + length > budget:
                yield [*micro, *span.cut(np.arange(first, i))]
                micro, tokens, first = [], 0, i
            tokens += length
        micro += span.cut(np.arange(first, len(span.rows)))
    yield micro
