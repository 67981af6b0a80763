"""A trained model that gives answers about texts. :func:`load` returns it as a :class:`Predictor`.

Dimension key: B texts, D width of the encoder.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from mtbert import environment, files, scoring
from mtbert.batch import Dataset, Examples, Floats, Rows
from mtbert.columns import NumberColumn, TextColumn, taken
from mtbert.data.memory import index_of
from mtbert.messages import clean, few
from mtbert.model.model import Model
from mtbert.prepare import tokenize, tokenized
from mtbert.splits import TableSide, TaskSide
from mtbert.storage.model_folder import load_model
from mtbert.task import Task
from mtbert.use.given_texts import as_list, checked_row, fewest, parts_of
from mtbert.use.hub_runs import find_run, hub_name

Texts = str | tuple[str, str] | Iterable[str] | Iterable[Sequence[str]]


@dataclass(frozen=True, repr=False)
class Predictor:
    """A trained model with its tokenizer. Its methods give answers about texts."""

    model: Model
    tokenizer: Tokenizer
    folder: Path | None = None  # the model folder that it was loaded from
    step: int | None = None  # optimizer steps that it was trained for; None if unknown

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks for which the model gives answers, as a mapping from name to task."""
        return self.model.tasks

    def __call__(self, texts: Texts) -> list[dict[str, dict[str, Any]]]:
        """Returns a dict ``{task: answer}`` for each text or pair, with the answers of all tasks that can read it.

        A text is encoded only once for all tasks that encode it in the same way.

        Args:
            texts: A sequence of texts, or of pairs, where a pair is a tuple or list of two texts. A single text counts
                as a list of one text. If every task takes pairs, a tuple of two texts counts as a list of one pair.

        Returns:
            One dict per text or pair, in order. An answer has the form that :meth:`predict` describes.

        Raises:
            TypeError: If ``texts`` is not a sequence of texts.
            ValueError: If no task can read the inputs, an example has the wrong number of texts, or a text is empty.
            FloatingPointError: If an answer is not finite.
        """
        shortest = min(self.tasks.values(), key=fewest)
        items = as_list(shortest, texts)
        if not items:
            return []
        size = len(parts_of(items[0]) or ())
        # If no task takes that number of texts, the first task raises an error.
        known = size in (1, 2) or any(task.takes(size) for task in self.tasks.values())
        given = items if index_of(texts) is None else texts  # messages name the labels of an index
        return self.predict(self.taking(size if known else fewest(shortest)), given)

    def predict(self, task: str | Sequence[str], texts: Texts) -> list[dict[str, Any]]:
        """Returns one answer per text or pair; if ``task`` is a list, one dict ``{task: answer}`` per text or pair.

        Args:
            task: The name of a task, or a list of names. A text is encoded only once for all tasks that encode it in
                the same way.
            texts: A list, an array, a column or any other sequence of texts; for a task of pairs, a sequence of pairs.
                A single text counts as a list of one text. For a task of pairs, a tuple of two texts counts as a list
                of one pair. A ranking takes a query and its candidates in place of a pair: any number of candidates,
                but the same number for all queries.

        Returns:
            The form of an answer depends on the task: ``{"label": ..., "p(a)": ..., ...}`` for classes,
            ``{"label": ..., "cosine": ...}`` for a cosine head, ``{"score": ...}`` for scores, which are in the task's
            range, and ``{"first": ..., "ranks": [...], "cosines": [...]}`` for rankings, where candidates and ranks are
            counted from 1. Answers about words are ``{"spans": [...]}`` for entities, and
            ``{"words": [...], "tags": [...], "p": [...]}`` for plain tags.

        Raises:
            TypeError: If ``texts`` is not a sequence of texts.
            ValueError: If a task does not exist, if an example has the wrong number of texts, if a text is empty, or if
                some tasks take single texts and others take pairs.
            FloatingPointError: If an answer is not finite.
        """
        if isinstance(task, str):
            return self.answers(self.read(task, texts))
        return self.answers_together(self.read_together(task, texts))

    def vectors(self, task: str, texts: Texts) -> npt.NDArray[np.float32]:
        """Returns the vectors that the task's head reads, ``[B, D]``, float32.

        For pairs whose texts are encoded one by one, their shape is ``[B, 2, D]``. Arguments and errors are those of
        :meth:`predict`.
        """
        self.check_vectors(task)
        return self.vectors_of(self.read(task, texts))

    @property
    def name(self) -> str:
        """A short description of the model for people: its folder and, if known, the number of its training steps."""
        folder = "a model in memory" if self.folder is None else hub_name(self.folder) or clean(str(self.folder))
        return folder if self.step is None else f"{folder}, step {self.step:,}"

    def taking(self, texts: int) -> list[str]:
        """Returns the names of the tasks that can read an example with this number of texts.

        Raises:
            ValueError: If there is no such task.
        """
        names = [name for name, task in self.tasks.items() if task.takes(texts)]
        if not names:
            given, taken = ("single texts", "pairs") if texts == 1 else ("pairs", "single texts")
            raise ValueError(f"no task of this model takes {given}. Give {taken}; its tasks are {few(self.tasks)}.")
        return names

    def task(self, name: str) -> Task:
        """Returns the task with the name ``name``.

        Raises:
            ValueError: If the model has no such task; the message names the tasks that it has.
        """
        if name not in self.tasks:
            raise ValueError(f"task {few([name])}: this model has no such task. Use {' or '.join(self.tasks)}.")
        return self.tasks[name]

    def read(self, task: str, texts: Texts) -> Dataset:
        """Returns the texts as a data set of the task. The ids of the examples are 0, 1, 2 and so on."""
        return self.read_together([task], texts)[0]

    def read_together(self, tasks: Sequence[str], texts: Texts) -> list[Dataset]:
        """Returns a data set for each task, each with all the texts. The ids of the examples are 0, 1, 2 and so on."""
        if not tasks:
            raise ValueError(f"no task is named. Use {' or '.join(self.tasks)}.")
        chosen = [self.task(name) for name in dict.fromkeys(tasks)]
        first = min(chosen, key=fewest)
        for other in chosen:
            if not other.takes(fewest(first)):
                raise ValueError(
                    f"task {first.name} takes single texts, but task {other.name} pairs. Ask one after the other."
                )
        items = as_list(first, texts)
        size = first.texts or max(2, len(parts_of(items[0]) or ()) if items else 2)
        index = index_of(texts)
        rows = [checked_row(first, size, number, given, index) for number, given in enumerate(items, 1)]
        columns = [TextColumn.of(row[i] for row in rows) for i in range(size)]
        return self.datasets([task.name for task in chosen], NumberColumn(np.arange(len(rows))), columns)

    def datasets(
        self,
        tasks: Iterable[str],
        ids: TextColumn | NumberColumn,
        texts: Sequence[TextColumn],
        reads: Mapping[str, tuple[int, ...]] | None = None,
    ) -> list[Dataset]:
        """Returns one data set for each task, made from rows without labels.

        A task's data set leaves out rows in which a text of the task is empty. Tasks that encode texts in the same way
        share their tokens.

        Args:
            tasks: The names of the tasks.
            ids: The id of each row.
            texts: The texts of the rows, in columns.
            reads: For each task, the indices of the columns that it reads; None if every task reads all columns.
        """
        wanted = {name: self.task(name) for name in tasks}
        known = dict.fromkeys(wanted, tuple(range(len(texts)))) if reads is None else reads
        full = [column.stops > column.starts for column in texts]
        sides = {}
        for name, task in wanted.items():
            rows = np.flatnonzero(np.logical_and.reduce([full[i] for i in known[name]]))
            own = [taken(texts[i], rows, len(ids)) for i in known[name]]
            labels = task.answer.labels.read(task, [None] * len(rows))
            sides[name] = TaskSide(Examples(taken(ids, rows, len(ids)), own, labels), rows)
        side = TableSide(tuple(texts), sides)
        made = tokenized(side, wanted, known, self.tokenizer, self.model.max_length)
        return [_without_labels(made[name]) for name in wanted]

    def dataset(self, task: str, examples: Examples) -> Dataset:
        """Tokenises ``examples``, and returns them as a data set of the task called ``task``."""
        return tokenize(self.task(task), examples, self.tokenizer, self.model.max_length)

    def answers(self, data: Dataset) -> list[dict[str, Any]]:
        """Returns one answer per example, in the form that :meth:`predict` describes for a single task."""
        answers = self.answers_together([data])
        return [answers[row][data.task.name] for row in data.rows.tolist()]

    def answers_together(self, data: Sequence[Dataset], *, unsure: float | None = None) -> list[dict[str, Any]]:
        """Returns a dict ``{task: answer}`` for each row of the table that the data sets read.

        ``data`` holds one data set for each task, and all of them read the same table. For a row that is not in a
        task's data set, the answer of the task is None.

        ``unsure`` is a share, such as 0.1. If it is given, each answer with probabilities contains two more keys:
        ``probability``, the probability of the whole answer, and ``unsure``, which is true for the least certain
        answers of each task, up to the given share, and false for all others.
        """
        if not data[0].size:
            return []
        predictions = scoring.predict_together(self.model, data)
        answers = [
            scoring.decode(self.model, one.task, predictions[one.task.name], one.examples.texts[0]) for one in data
        ]
        table: list[dict[str, Any]] = [dict.fromkeys(one.task.name for one in data) for _ in range(data[0].size)]
        for one, found in zip(data, answers, strict=True):
            if unsure is not None and one.task.predicts.gives_probability:
                certainty_B = scoring.certainty(self.model, one.task, predictions[one.task.name])
                marked = set(least_certain(certainty_B, math.ceil(unsure * len(one))).tolist())
                for i, answer in enumerate(found):
                    answer |= {"probability": float(certainty_B[i]), "unsure": i in marked}
            for row, answer in zip(one.rows.tolist(), found, strict=True):
                table[row][one.task.name] = answer
        return table

    def check_vectors(self, task: str) -> None:
        """Raises ValueError if ``task`` gives each word a label. Such a task has no vector for a whole text."""
        if not self.task(task).has_vectors:
            raise ValueError(f"task {task}: has a state for each word, and no vector of a text. Ask another task.")

    def vectors_of(self, data: Dataset) -> npt.NDArray[np.float32]:
        """Returns the vector or vectors of each example of a data set, in the form that :meth:`vectors` describes."""
        if not len(data):
            pair = (len(data.sequences),) if len(data.sequences) > 1 else ()
            return np.zeros((0, *pair, self.model.encoder.config.width), dtype=np.float32)
        vectors = scoring.pooled_vectors(self.model, data)
        return (vectors[0] if len(vectors) == 1 else torch.stack(vectors, 1)).numpy()

    def __repr__(self) -> str:
        config = self.model.encoder.config
        size = sum(parameter.numel() for parameter in self.model.encoder.parameters())
        tasks = few([f"{task.name} ({task.type}, {task.inputs})" for task in self.tasks.values()])
        return "\n".join(
            [
                f"mtbert predictor of {self.name}",
                f"  tasks      {tasks}",
                f"  encoder    {config.family}, {config.layers} layers, width {config.width}, {size:,} parameters",
                f"  device     {next(self.model.parameters()).device}",
                f"  precision  {str(self.model.compute).removeprefix('torch.')}",
            ]
        )


def _without_labels(data: Dataset) -> Dataset:
    """Returns ``data``. If its task assigns a label to each word, returns a copy without these labels instead."""
    words = data.words(np.arange(len(data)))
    return data if words is None else replace(data, examples=data.examples.unlabelled(words))


def least_certain(certainty_B: Floats, number: int) -> Rows:
    """Returns the indices of the least certain answers, at most ``number``, beginning with the least certain one."""
    return np.argsort(certainty_B, kind="stable")[:number]


def load(path: str | Path) -> Predictor:
    """Returns a predictor for the model at ``path``, which is one of these:

    - The folder of a model, such as ``best/`` or ``last/`` in the folder of a run.
    - The folder of a run. Its best model is loaded or, if there is none yet, its newest.
    - ``user/name`` or ``user/name@revision``, a model that ``mtbert push`` has put on the Hugging Face Hub. The model
      is fetched once, and then found in the cache without a network. If ``path`` exists on this machine, nothing is
      fetched. If there is a local folder ``user``, a name without revision is never fetched.

    Raises:
        FileNotFoundError: If there is no model at ``path``.
        ConnectionError: If the model must be fetched, and the network or the Hub fails.
        ValueError: If a file of the model is damaged; the message names the file.
    """
    loaded = load_model(find_run(path))
    device = environment.device("auto")
    loaded.model.compute = environment.precision("auto", device)
    return Predictor(loaded.model.to(device), loaded.tokenizer, files.meant(loaded.folder), loaded.step)
