"""Code that all routes share: it checks the texts of a request, and gets the model's answers or vectors.

Dimension key: B texts, D width of the encoder.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
import torch

from mtbert import scoring
from mtbert.columns import TextColumn
from mtbert.messages import clean, count, few, near, shown
from mtbert.task import Task
from mtbert.use.given_texts import checked_texts
from mtbert.use.outputs import rounded
from mtbert.use.predictor import Predictor
from mtbert.use.serve.batching import Batcher
from mtbert.use.serve.errors import Refused
from mtbert.use.serve.limits import Limits
from mtbert.use.serve.together import Asked, BatchResult, Vectors, join_results

GivenRow = str | Sequence[str]  # a text, a pair of texts, or a query and its candidates


@dataclass(frozen=True)
class Service:
    """Answers the requests of clients with a model."""

    predictor: Predictor
    batcher: Batcher
    limits: Limits

    @property
    def name(self) -> str:
        """The name of the model for clients: the name of the run's folder, without the folders above it."""
        folder = self.predictor.folder
        if folder is None:
            return "model"
        return clean(folder.resolve().parent.name if folder.name in ("best", "last") else folder.name)

    @property
    def longest_text(self) -> int:
        """The largest number of characters that a text may have.

        If ``limits.characters`` is None, this is 8 times the largest number of tokens that the model reads, but at
        least 20,000.
        """
        return self.limits.characters or max(20_000, 8 * self.predictor.model.max_length)

    @property
    def version(self) -> str:
        """The version of mtbert."""
        return metadata.version("mtbert")

    def task(self, name: str) -> Task:
        """Returns the task called ``name``.

        Raises:
            Refused: If there is no such task.
        """
        tasks = self.predictor.tasks
        if name not in tasks:
            raise Refused(404, f"no task {shown(name)}.{near(name, tasks)} The tasks are {few(tasks)}.")
        return tasks[name]

    def example(self, name: str) -> dict[str, Any]:
        """Returns a made-up answer of the task called ``name``, to show the keys in the answers of this task."""
        task = self.task(name)
        shape = [abs(size) for size in task.predicts.shape(task)]  # -1: the number of candidates
        return scoring.decode(self.predictor.model, task, torch.zeros(1, *shape), TextColumn.of(["a"]))[0]

    async def answers(self, names: Iterable[str], texts: Sequence[GivenRow]) -> BatchResult:
        """Returns the answers to rows of texts, and the indices of the rows that were cut because they were too long.

        The answers are a list with one dict ``{task: answer}`` per row. A row is answered by those tasks in ``names``
        that take as many texts as the row has. The numbers in the answers are rounded, as in the files of
        ``mtbert predict``.

        Raises:
            Refused: If a task does not exist, if a text is not allowed, or if no task takes as many texts as a row has.
        """
        tasks = [self.task(name) for name in dict.fromkeys(names)]
        if not tasks:
            raise Refused(422, "tasks: is empty. Name a task, or leave it out.")
        rows = self._rows(tasks, texts)
        if not rows:
            return BatchResult([], None, (), 0)
        found = await self.batcher.ask(Asked(tuple(task.name for task in tasks), rows))
        return replace(found, answers=list(map(rounded, found.answers)))

    async def vectors(self, name: str | None, texts: Sequence[str], *, cut: bool = True) -> tuple[Vectors, int]:
        """Returns a vector for each text, ``[B, D]``, and how many tokens were encoded.

        The vectors are the input of a task's head. The task is the one called ``name``, or the default task if ``name``
        is None. If ``cut`` is false, texts that are longer than the model reads are refused.

        Raises:
            Refused: If there is no such task, if the task cannot turn a single text into a vector, or if a text is not
                allowed.
        """
        task = self.embedding() if name is None else self.task(name)
        if not _embeds(task):
            raise Refused(422, f"task {task.name} has no vectors of single texts. Use {few(self.embedders())}.")
        self._check_number(len(texts))
        checked = [text for (text,) in self._checked([(text,) for text in texts])]
        if not checked:
            return np.zeros((0, self.predictor.model.encoder.config.width), dtype=np.float32), 0
        size = 1 if task.texts == 1 else 2  # each text of a pair is encoded alone, so two texts make a row
        rest = len(checked) % size
        rows = [tuple(checked[i : i + size]) for i in range(0, len(checked) - rest, size)]
        asked = [tuple(rows), ((checked[-1],) * size,) * rest]  # the text that is left fills a row of its own
        parts = [self.batcher.ask(Asked((task.name,), each, vectors=True)) for each in asked if each]
        results = await asyncio.gather(*parts)
        found = join_results(results)
        self.check_cut(found, cut)
        assert found.vectors is not None
        twice = results[-1].tokens // 2 if rest else 0
        return found.vectors.reshape(-1, found.vectors.shape[-1])[: len(checked)], found.tokens - twice

    def check_cut(self, found: BatchResult, allowed: bool) -> None:
        """Raises :class:`Refused` if texts were cut and ``allowed`` is false."""
        if found.cut and not allowed:
            most = count(self.predictor.model.max_length, "token")
            raise Refused(413, f"inputs: a text is longer than the model reads, {most}. Shorten it, or let it be cut.")

    def embedding(self) -> Task:
        """Returns the task whose vectors a client gets if its request names no task.

        This is the first task that compares texts by their vectors. If there is none, it is the first task of single
        texts that has vectors.

        Raises:
            Refused: If no task has vectors of single texts.
        """
        names = self.embedders()
        if not names:
            raise Refused(422, "no task of this model has vectors of single texts.")
        return self.predictor.tasks[names[0]]

    def embedders(self) -> list[str]:
        """Returns the names of the tasks that can turn a single text into a vector.

        Tasks whose head compares the vectors of several texts come first.
        """
        found = [task for task in self.predictor.tasks.values() if _embeds(task)]
        return [task.name for task in sorted(found, key=lambda task: task.inputs != "separate")]

    def _rows(self, tasks: Sequence[Task], texts: Sequence[GivenRow]) -> tuple[tuple[str, ...], ...]:
        """Returns the texts of each row, checked. Raises :class:`Refused` if a row is not allowed."""
        self._check_number(sum(1 if isinstance(given, str) else len(given) for given in texts))
        rows = [(given,) if isinstance(given, str) else tuple(given) for given in texts]
        for i, row in enumerate(rows, 1):
            if not any(task.takes(len(row)) for task in tasks):
                raise Refused(422, f"text {i}: has {count(len(row), 'text')}, but {_taken(tasks)}.")
        return self._checked(rows)

    def _check_number(self, texts: int) -> None:
        most = self.limits.texts
        if texts > most:
            raise Refused(413, f"a request may have {count(most, 'text')}, found {texts:,}. Send several.")

    def _checked(self, rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
        for i, row in enumerate(rows, 1):
            longest = max(map(len, row))
            if longest > self.longest_text:
                most = count(self.longest_text, "character")
                raise Refused(
                    413, f"text {i}: may have {most}, found {longest:,}. Shorten it: a model reads its start."
                )
        found = []
        for i, row in enumerate(rows, 1):
            try:
                found.append(checked_texts(f"text {i}", row))
            except ValueError as error:
                raise Refused(422, str(error)) from None
        return tuple(found)


def _embeds(task: Task) -> bool:
    """Returns whether a task has a vector for each single text.

    A task that assigns a label to each word has no such vectors. A task that reads several texts as one sequence has
    none either.
    """
    return task.has_vectors and task.inputs != "packed"


def _taken(tasks: Sequence[Task]) -> str:
    """Returns a phrase that says how many texts a row of each task has."""
    sizes = {1: "one text", 2: "two texts", None: "a query and its candidates"}
    return few([f"task {task.name} takes {sizes[task.texts]}" for task in tasks])
