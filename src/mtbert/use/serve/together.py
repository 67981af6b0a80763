"""Functions that answer several requests together, so that one pass through the encoder serves them all.

Dimension key: B rows, D width of the encoder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtbert import scoring
from mtbert.batch import Dataset, Rows
from mtbert.columns import NumberColumn, TextColumn
from mtbert.prepare import token_form
from mtbert.use.predictor import Predictor
from mtbert.use.serve.engines import Engine

Vectors = npt.NDArray[np.float32]
Answers = list[dict[str, dict[str, Any]]]  # of each row: the answer of each task that takes such a row


@dataclass(frozen=True)
class Asked:
    """The tasks and the texts of one request. A task gives answers only to rows with as many texts as the task takes.

    Attributes:
        tasks: The names of the tasks.
        rows: The texts of each row, checked.
        vectors: Whether the result holds vectors instead of answers. If so, ``tasks`` has exactly one name.
    """

    tasks: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    vectors: bool = False


@dataclass(frozen=True)
class BatchResult:
    """The result for one of the requests that were answered together.

    Attributes:
        answers: The answers to each row; empty if vectors were asked for.
        vectors: The vectors of each row, ``[B, texts, D]``; None if answers were asked for.
        cut: The indices of the rows that are longer than the model reads, in ascending order. Their ends were cut off.
        tokens: How many tokens the rows have. If two tasks read a row in different ways, its tokens count twice.
    """

    answers: Answers
    vectors: Vectors | None
    cut: tuple[int, ...]
    tokens: int


def join_results(parts: Sequence[BatchResult]) -> BatchResult:
    """Joins the results for the parts of a request, and returns the result for the whole request.

    ``parts`` holds the results in the order of the rows of the request.
    """
    vectors = [part.vectors for part in parts if part.vectors is not None]
    cut, start = list[int](), 0
    for part in parts:
        cut += [start + row for row in part.cut]
        start += len(part.answers) if part.vectors is None else len(part.vectors)
    return BatchResult(
        [row for part in parts for row in part.answers],
        np.concatenate(vectors) if vectors else None,
        tuple(cut),
        sum(part.tokens for part in parts),
    )


def answer_all(predictor: Predictor, engine: Engine, asked: Sequence[Asked]) -> list[BatchResult]:
    """Returns the results for all requests. A row is encoded once for all tasks that read it in the same way.

    Raises:
        FloatingPointError: If an answer is not finite.
    """
    answers: list[Answers] = [[{} for _ in one.rows] for one in asked]
    vectors: list[list[Vectors]] = [[] for _ in asked]
    cut: list[set[int]] = [set() for _ in asked]
    by_size: dict[int, list[tuple[int, int]]] = {}
    for q, one in enumerate(asked):
        for r, row in enumerate(one.rows):
            by_size.setdefault(len(row), []).append((q, r))
    tokens = np.zeros(len(asked), np.int64)
    for size, places in by_size.items():
        columns = [TextColumn.of(asked[q].rows[r][i] for q, r in places) for i in range(size)]
        wanted = _wanted(predictor, asked, places, size)
        owners = np.array([q for q, _ in places])
        data = []
        for rows, together in _datasets(predictor, wanted, columns):
            for at in rows[together[0].cut].tolist():
                q, r = places[at]
                cut[q].add(r)
            np.add.at(tokens, owners[rows], together[0].lengths_of(np.arange(len(rows))))
            data += together
        raw = engine(data, vectors=any(asked[q].vectors for q in set(owners.tolist())))
        for name, places_of_task in wanted.items():
            prediction, *read = raw[name]
            own_texts = columns[0].take(np.array(places_of_task))
            decoded = scoring.decode(predictor.model, predictor.task(name), prediction, own_texts)
            for i, at in enumerate(places_of_task):
                q, r = places[at]
                if asked[q].vectors:
                    vectors[q].append(np.stack([part[i].numpy() for part in read]))
                else:
                    answers[q][r][name] = decoded[i]
    return [
        BatchResult(
            [] if one.vectors else answers[q],
            np.stack(vectors[q]) if one.vectors else None,
            tuple(sorted(cut[q])),
            int(tokens[q]),
        )
        for q, one in enumerate(asked)
    ]


def _wanted(
    predictor: Predictor, asked: Sequence[Asked], places: Sequence[tuple[int, int]], size: int
) -> dict[str, list[int]]:
    """Returns for each task the rows that it must answer. Tasks that must answer no row are left out.

    Args:
        predictor: The model.
        asked: The requests. Each request names the tasks that should answer its rows.
        places: Rows of these requests, all with the same number of texts. ``(q, r)`` is row ``r`` of request ``q``.
            In the result, the number ``i`` means the row ``places[i]``.
        size: The number of texts in each row. A task that takes another number of texts does not answer.
    """
    found: dict[str, list[int]] = {name: [] for name, task in predictor.tasks.items() if task.takes(size)}
    for at, (q, _) in enumerate(places):
        for name in asked[q].tasks:
            if name in found:
                found[name].append(at)
    return {name: rows for name, rows in found.items() if rows}


def _datasets(
    predictor: Predictor, wanted: Mapping[str, list[int]], columns: Sequence[TextColumn]
) -> Iterator[tuple[Rows, list[Dataset]]]:
    """Yields a pair for each group of tasks that read texts in the same way: rows, and a data set for each task.

    The rows are those for which any task of the group gives an answer. A data set holds only the rows for which its own
    task gives an answer.
    """
    forms: dict[object, list[str]] = {}
    for name in wanted:
        forms.setdefault(token_form(predictor.task(name), columns), []).append(name)
    for names in forms.values():
        rows = np.unique(np.concatenate([wanted[name] for name in names]))
        whole = predictor.datasets(names, NumberColumn(rows), [column.take(rows) for column in columns])
        yield rows, [one.only(np.searchsorted(rows, wanted[name])) for name, one in zip(names, whole, strict=True)]
