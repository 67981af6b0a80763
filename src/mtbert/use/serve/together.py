"""Answers the questions of several requests together, with one pass through the encoder for all rows of one form.

Dimension key: B rows, D width of the encoder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtbert import scoring
from mtbert.batch import Dataset
from mtbert.columns import NumberColumn, TextColumn
from mtbert.prepare import token_form
from mtbert.use.predictor import Predictor
from mtbert.use.serve.engines import Engine, Raw

Vectors = npt.NDArray[np.float32]
Answers = list[dict[str, dict[str, Any]]]  # of each row: the answer of each task that takes such a row


@dataclass(frozen=True)
class Asked:
    """The question of one request: rows of texts and tasks. A row is answered by those tasks that take its texts.

    Attributes:
        tasks: The names of the tasks.
        rows: The texts of each row, checked.
        vectors: Whether the vectors of the only task are wanted, in place of answers.
    """

    tasks: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    vectors: bool = False


@dataclass(frozen=True)
class BatchResults:
    """The results for several questions, in their order, and the number of tokens that were encoded for them.

    A result is a list of answers, or the vectors ``[B, texts, D]`` of all rows.
    """

    results: tuple[Answers | Vectors, ...]
    tokens: int


def answer_all(predictor: Predictor, engine: Engine, asked: Sequence[Asked]) -> BatchResults:
    """Returns the results for all questions. A row is encoded once for all tasks that read it in the same way.

    Raises:
        FloatingPointError: If an answer is not finite.
    """
    answers: list[Answers] = [[{} for _ in one.rows] for one in asked]
    vectors: list[list[Vectors]] = [[] for _ in asked]
    by_size: dict[int, list[tuple[int, int]]] = {}
    for q, one in enumerate(asked):
        for r, row in enumerate(one.rows):
            by_size.setdefault(len(row), []).append((q, r))
    tokens = 0
    for size, places in by_size.items():
        columns = [TextColumn.of(asked[q].rows[r][i] for q, r in places) for i in range(size)]
        wanted = _wanted(predictor, asked, places, size)
        data = list(_datasets(predictor, wanted, columns))
        tokens += sum({id(s): int(s.offsets[-1]) for one in data for s in one.sequences}.values())
        raw = engine(data, vectors=any(asked[q].vectors for q, _ in places))
        for name, rows in wanted.items():
            decoded = _decoded(predictor, name, raw[name], columns[0].take(np.array(rows)))
            for i, at in enumerate(rows):
                q, r = places[at]
                if asked[q].vectors:
                    vectors[q].append(np.stack([part[i].numpy() for part in raw[name].vectors]))
                else:
                    answers[q][r][name] = decoded[i]
    results = (np.stack(v) if one.vectors else a for one, a, v in zip(asked, answers, vectors, strict=True))
    return BatchResults(tuple(results), tokens)


def _wanted(
    predictor: Predictor, asked: Sequence[Asked], places: Sequence[tuple[int, int]], size: int
) -> dict[str, list[int]]:
    """Returns a dict from the name of each task to the indices of the places whose rows it answers."""
    found: dict[str, list[int]] = {name: [] for name, task in predictor.tasks.items() if task.takes(size)}
    for at, (q, _) in enumerate(places):
        for name in asked[q].tasks:
            if name in found:
                found[name].append(at)
    return {name: rows for name, rows in found.items() if rows}


def _datasets(
    predictor: Predictor, wanted: Mapping[str, list[int]], columns: Sequence[TextColumn]
) -> Iterator[Dataset]:
    """Yields a data set for each task with the rows that it answers. Tasks that read texts alike share the tokens."""
    forms: dict[object, list[str]] = {}
    for name in wanted:
        forms.setdefault(token_form(predictor.task(name), columns), []).append(name)
    for names in forms.values():
        rows = np.unique(np.concatenate([wanted[name] for name in names]))
        whole = predictor.datasets(names, NumberColumn(rows), [column.take(rows) for column in columns])
        for name, data in zip(names, whole, strict=True):
            yield data.only(np.searchsorted(rows, wanted[name]))


def _decoded(predictor: Predictor, name: str, raw: Raw, texts: TextColumn) -> list[dict[str, Any]]:
    return scoring.decode(predictor.model, predictor.task(name), raw.prediction, texts)
