"""Which texts say the same, and batches in which none of them meets another.

A text of the same cluster as another is no negative for it: Quora has one question in many pairs.

Dimension key: n examples.
"""

from collections import OrderedDict, deque

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mtbert.batch import Examples
from mtbert.columns import Ints, hashes, numbered


def clusters(examples: Examples, positives: bool) -> Ints:
    """A number for each text, ``[n, texts]``; equal texts share it.

    Args:
        examples: At least one; all with the same number of texts.
        positives: The two texts of an example with label 1 share a number too, and so do all texts that such
            examples link in a chain.
    """
    keys = np.stack([hashes(column) for column in examples.texts], axis=1)
    texts = numbered(keys.ravel()).reshape(keys.shape)
    if not positives:
        return texts
    linked = texts[examples.labels == 1]
    number = int(texts.max()) + 1
    links = coo_array((np.ones(len(linked)), (linked[:, 0], linked[:, -1])), shape=(number, number))
    joined: Ints = connected_components(links, directed=False)[1].astype(np.int64)
    return joined[texts]


def spread(order: Ints, clusters: Ints, batch_size: int) -> Ints:
    """The rows of ``order`` rearranged so that batches do not hold a cluster twice, and cut to whole batches.

    A row that would bring a cluster its batch already has waits, and comes before new rows into the next
    batch. When only such rows are left they are let in, so the last batches may hold a cluster twice; without
    a row that must wait, ``order`` stays as it is. The two texts of one row may be in one cluster.

    Args:
        order: Row numbers, each at most once.
        clusters: A number per text of every row, ``[n, texts]``, from :func:`clusters`.
        batch_size: Rows of a batch.

    Raises:
        ValueError: If there are fewer rows than one batch has.
    """
    if len(order) < batch_size:
        raise ValueError(
            f"{len(order)} rows do not fill one batch of {batch_size}. Lower batch_size, or give more rows."
        )
    of_row = list(map(tuple, clusters.tolist()))
    fresh = iter(order.tolist())
    # Waiting rows: by a cluster that kept them out, then by all their clusters, which makes them equivalent. So a
    # batch looks at few rows of a large cluster. What was served goes to the end.
    waiting: dict[int, OrderedDict[tuple[int, ...], deque[int]]] = {}
    held: set[int] = set()  # clusters of the batch
    rows: list[int] = []

    def place(row: int) -> None:
        if held.isdisjoint(of_row[row]):
            held.update(of_row[row])
            rows.append(row)
        else:
            obstacle = next(cluster for cluster in of_row[row] if cluster in held)
            waiting.setdefault(obstacle, OrderedDict()).setdefault(of_row[row], deque()).append(row)

    def serve(cluster: int, key: tuple[int, ...]) -> int:
        queues = waiting.pop(cluster)
        queue = queues.pop(key)
        row = queue.popleft()
        if queue:
            queues[key] = queue
        if queues:
            waiting[cluster] = queues
        return row

    for full in range(batch_size, len(order) + 1, batch_size):
        held.clear()
        for cluster in list(waiting):
            if len(rows) == full:
                break
            if cluster not in held and (key := next(filter(held.isdisjoint, waiting[cluster]), None)) is not None:
                place(serve(cluster, key))
        while len(rows) < full and (row := next(fresh, None)) is not None:
            place(row)
        while len(rows) < full:
            cluster, queues = next(iter(waiting.items()))
            rows.append(serve(cluster, next(iter(queues))))
    return np.array(rows, dtype=np.int64)
