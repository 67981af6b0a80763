"""Computes answers to the rows of a large file, one block of rows at a time, and names the output columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from mtbert import scoring
from mtbert.answers.of_words import OfWords
from mtbert.columns import NumberColumn, TextColumn
from mtbert.data import sources
from mtbert.data.reader import Reader
from mtbert.data.streams import Block
from mtbert.data.tables import TableFile
from mtbert.recipe.settings import Recipe
from mtbert.use import outputs
from mtbert.use.input_columns import id_columns, text_columns
from mtbert.use.inputs import columns_read, datasets_of, known_task
from mtbert.use.outputs import OutputRow
from mtbert.use.predictor import Predictor

DRAWN = 64  # predictions that are drawn to learn the types of answers


@dataclass(frozen=True)
class ScoredBlock:
    """The answers to the rows of a block.

    Attributes:
        rows: For each row, a dict from output column to value. The dict has only the columns that hold answers.
        without: For each task, the number of rows without an answer, because a text is empty.
        numbers: If the file has no id column but the recipe names one, the number of each row in the file, as text.
    """

    rows: list[OutputRow]
    without: Mapping[str, int]
    numbers: list[str] | None


class Scorer:
    """Computes the tasks' answers to the rows of input files, one block of rows at a time.

    All input files have the same columns. One pass through the encoder serves all tasks.

    Args:
        predictor: The model.
        recipe: The recipe of the model's run. The recipe says which columns each task reads.
        tasks: The names of the tasks.
        single: Whether answers are written without the name of the task. There must then be only one task.
        columns: The names of the columns in the input files.
        name: The name of an input file, for messages.
        suffix: The ending of the output files.

    Raises:
        ValueError: If the model or the recipe lacks a task, or if the recipe names too few or too many text columns for
            a task.
    """

    def __init__(
        self,
        predictor: Predictor,
        recipe: Recipe,
        tasks: Sequence[str],
        *,
        single: bool,
        columns: Sequence[str],
        name: str,
        suffix: str,
    ) -> None:
        self.predictor, self.recipe, self.tasks, self.suffix = predictor, recipe, tuple(tasks), suffix
        self._single = self.tasks[0] if single else None
        self._chosen = [known_task(predictor, recipe, task) for task in tasks]
        ids = id_columns(recipe, tasks)
        self._id = next((id_ for id_ in ids if id_ in columns), None)
        self.numbered = ids[0] if ids and self._id is None else None
        self._columns, self._words = columns_read(recipe, self._chosen, self._id)
        sources.check_texts(name, self._columns, [task.texts for task in self._chosen])
        self._drawn = {task.name: self._draw(index) for index, task in enumerate(self._chosen)}
        self._blank = {task: dict.fromkeys(answers[0]) for task, answers in self._drawn.items()}
        self.names = outputs.answer_names(self.output_columns(columns), self._row(dict.fromkeys(self.tasks)))

    @property
    def wanted(self) -> list[str]:
        """The columns that every file must have."""
        return [*text_columns(self.recipe, self.tasks), *([self._id] if self._id is not None else [])]

    def output_columns(self, columns: Sequence[str]) -> list[str]:
        """Returns the names of the output's columns that come before those of the answers.

        They are ``columns``, the columns of the input. If the recipe names an id column that the input lacks, the id
        column is added in front.
        """
        return [*([self.numbered] if self.numbered is not None else []), *columns]

    def score(self, block: Block) -> ScoredBlock:
        """Returns the answers to the rows of a block.

        Raises:
            ValueError: If a cell cannot be read. The message names the line and the column.
            FloatingPointError: If an answer is not finite.
        """
        reader = Reader(self._columns, {}, labelled=False, words=self._words, gaps=True)
        reader.read(block.name, block.records(reader.wanted))
        table = reader.table([TableFile(block.name, "", block.unit)])
        numbers = NumberColumn(np.arange(block.first + 1, block.first + block.size + 1))
        if self._id is None:
            table = replace(table, ids=numbers)
        data = datasets_of(self.predictor, self.tasks, table)
        found: list[dict[str, Any]] = [{} for _ in range(block.size)]
        if asked := [one for one in data if len(one)]:
            found = self.predictor.answers_together(asked)
        rows = [self._row({task: row.get(task) for task in self.tasks}) for row in found]
        return ScoredBlock(
            [{self.names[key]: outputs.rounded(value) for key, value in row.items()} for row in rows],
            {one.task.name: block.size - len(one) for one in data},
            list(numbers) if self.numbered is not None else None,
        )

    @cached_property
    def types(self) -> dict[str, Any]:
        """The Arrow type of each answer, by the name that it has in the output."""
        import pyarrow as pa

        rows = [self._row({task: answers[i] for task, answers in self._drawn.items()}) for i in range(DRAWN)]
        return {self.names[key]: pa.infer_type([outputs.rounded(row[key]) for row in rows]) for key in rows[0]}

    def _row(self, answers: Mapping[str, OutputRow | None]) -> OutputRow:
        return output_row(answers, self._blank, self.recipe, self._single, self.suffix)

    def _draw(self, index: int) -> list[OutputRow]:
        """Returns made-up answers of a task, which show the columns of the output and the type of each column.

        The answers follow from random predictions with a fixed seed. There are many answers, because a list in an
        answer is often empty, and an empty list does not show its type.
        """
        task = self._chosen[index]
        candidates = len(self._columns[index].text) - 1
        shape = [candidates if size == -1 else size for size in task.predicts.shape(task)]
        words = "a b c d e f g h".split()
        rows = DRAWN * len(words) if isinstance(task.predicts, OfWords) else DRAWN
        prediction = 4 * torch.randn(rows, *shape, generator=torch.Generator().manual_seed(0))
        return scoring.decode(self.predictor.model, task, prediction, TextColumn.of([" ".join(words)] * DRAWN))


def output_row(
    row: Mapping[str, OutputRow | None],
    blank: Mapping[str, OutputRow],
    recipe: Recipe | None,
    single_task: str | None,
    suffix: str,
) -> OutputRow:
    """Returns the columns of an output row: the answer of ``single_task`` or, if this is None, of every task.

    ``row`` maps each task to its answer, or to None if the answer is missing. If ``single_task`` is None and the output
    is JSON lines, a missing answer is written as null. In all other cases, a missing answer becomes ``blank[task]``,
    which has the columns of an answer, without values.
    """
    if single_task is None and suffix == ".jsonl":
        return dict(row)
    filled = {task: blank[task] if answer is None else answer for task, answer in row.items()}
    if suffix in outputs.SEPARATED:
        filled = {task: _joined(recipe, task, answer) for task, answer in filled.items()}
    return outputs.flat(filled) if single_task is None else filled[single_task]


def _joined(recipe: Recipe | None, task: str, answer: OutputRow) -> OutputRow:
    """Returns ``answer`` with each list in it joined into one text by the separator that the recipe gives.

    If the recipe gives none, returns ``answer`` unchanged.
    """
    known = recipe.tasks.get(task) if recipe is not None else None
    separator = None if known is None else known.columns.separator
    return answer if separator is None else outputs.joined(answer, separator)
