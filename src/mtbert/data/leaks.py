"""Leaks: dev examples with a text that some task trains on. Scores on such examples may be too good."""

from collections.abc import Mapping, Sequence

import numpy as np

from mtbert.columns import TextColumn, hashes
from mtbert.data import cache
from mtbert.data.cache import Kept, Spool
from mtbert.data.draw import digests_of
from mtbert.messages import count


def leaks(train: Sequence[TextColumn], dev: Mapping[str, Sequence[TextColumn]]) -> dict[str, int]:
    """Returns, by task, how many of its dev examples have a text that is also in ``train``.

    Case, and spaces around a text, do not matter; an empty text does not count. Tasks without such examples are left
    out. The result is kept in the cache if there are many rows.

    Args:
        train: Columns that together hold all texts that tasks train on. The columns may have different lengths.
        dev: For each task, the columns of texts of its dev examples.
    """

    def make(spool: Spool) -> None:
        known = np.unique(np.concatenate([column.folded for column in train]))
        known = known[known != hashes([""])]
        counts = [np.any([np.isin(column.folded, known) for column in texts], axis=0).sum() for texts in dev.values()]
        spool.add("counts", np.array(counts, np.int64))

    def check(found: Kept) -> None:
        cache.check_within(
            found.array("counts", "<i8", size=len(dev)), 0, 1 + max(len(texts[0]) for texts in dev.values())
        )

    if not train or not dev:
        return {}
    keep = sum(map(len, train)) >= cache.FEWEST
    depends_on = [digests_of(texts, keep) for texts in (train, *dev.values())]
    counts = cache.kept("leaks", depends_on, make, check, keep=keep).arrays["counts"]
    return {task: int(number) for task, number in zip(dev, counts, strict=True) if number}


def leak_line(number: int, size: int, noun: str = "example", split: str = "dev") -> str:
    """Returns a warning that some examples of dev or test have a text that is also in train.

    ``number`` is the number of these examples, and ``size`` is the number of all examples of ``split``.
    """
    return (
        f"{split}: {number:,} of {count(size, noun)} ({number / size:.1%}) have a text that is in train too, "
        f"so scores on {split} may be too good."
    )
