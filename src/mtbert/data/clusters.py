"""Clusters of texts that mean the same, and an order of rows that avoids using a cluster twice in a batch.

Texts of the same cluster must not be used as negatives of each other. In Quora's data, for example, many pairs contain
the same question.

Dimension key: n examples.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence

import numpy as np

from mtbert.batch import Examples, Rows
from mtbert.columns import Ints, hashes, numbered


def clusters(examples: Examples, positives: bool) -> Ints:
    """Returns the index of each text's cluster, ``[n, texts]``. Equal texts share a cluster.

    Args:
        examples: The examples, at least one.
        positives: Whether the two texts of an example with label 1 share a cluster too. All texts that are linked by a
            chain of examples with label 1 are then in one cluster.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys = np.stack([hashes(column) for column in examples.texts], axis=1)
    texts = numbered(keys.ravel()).reshape(keys.shape)
    if not positives:
        return texts
    linked = texts[examples.labels == 1]
    number = int(texts.max()) + 1
    links = coo_array((np.ones(len(linked)), (linked[:, 0], linked[:, -1])), shape=(number, number))
    joined: Ints = connected_components(links, directed=False)[1].astype(np.int64)
    return joined[texts]


def clusters_of_table(size: int, parts: Sequence[tuple[Rows, Rows]]) -> Rows:
    """Returns an array with the cluster index of each text in a table, ``[size, texts]``.

    The array holds a row for each row of the table. Its columns are the texts of the first task, then the texts of the
    second task, and so on. Texts in one cluster are equal or mean the same. Texts of different tasks are never in one
    cluster. If a task does not read a row, each of the task's texts in this row has a cluster of its own.

    Args:
        size: The number of rows in the table.
        parts: For each task, the indices of its rows in the table, and the clusters of the texts in these rows.
    """
    columns, first = [], 0
    for rows, found in parts:
        whole = first + found.max(initial=-1) + 1 + np.arange(size * found.shape[1]).reshape(size, -1)
        whole[rows] = first + found
        columns.append(whole)
        first = int(whole.max()) + 1
    return np.concatenate(columns, 1)


def spread(order: Ints, clusters: Ints, batch_size: int) -> Ints:
    """Returns the rows of ``order``, rearranged so that the rows of a batch share no cluster if possible.

    A row that shares a cluster with an earlier row of its batch waits for a later batch. Waiting rows come before new
    ones. If only waiting rows are left, a batch may contain a cluster twice. Rows at the end that do not fill a batch
    are left out.

    Args:
        order: Indices of rows, without duplicates.
        clusters: The index of each text's cluster, ``[n, texts]``, from :func:`clusters`.
        batch_size: The number of rows in a batch.

    Raises:
        ValueError: If there are too few rows for one batch.
    """
    if len(order) < batch_size:
        raise ValueError(
            f"{len(order)} rows do not fill one batch of {batch_size}. Lower batch_size, or give more rows."
        )
    of_row = list(map(tuple, clusters.tolist()))
    fresh = iter(order.tolist())
    # Waiting rows, by a cluster that kept them out and then by all of their clusters. Rows with the same clusters are
    # interchangeable, so a batch looks at few rows of a large cluster. A cluster that was served goes to the end.
    waiting: dict[int, OrderedDict[tuple[int, ...], deque[int]]] = {}
    held: set[int] = set()  # the clusters in the current batch
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
