"""Guessing the tasks of data files: for each task, its text columns, its label columns and its answer type."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mtbert.answers.seen import CLOSE, SeenColumn, Suits
from mtbert.data.cells import readable
from mtbert.drafting.by_name import FileGroup
from mtbert.drafting.looking import SeenFile
from mtbert.drafting.questions import Questions
from mtbert.drafting.roles import FILLED, ColumnRoles, Label, is_likely_text, is_pair, roles, suited
from mtbert.messages import count, few, shown
from mtbert.task import LONGEST_NAME

FEW_ROWS = 20  # fewer labelled rows are too few to tell a type of answer well


@dataclass(frozen=True)
class TaskGuess:
    """A task: its name, its type, the other types that it may have, and its columns."""

    name: str
    type: str
    suits: Suits
    others: Sequence[tuple[str, Suits]]
    columns: Sequence[SeenColumn]
    texts: Sequence[SeenColumn]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that the answer type of the task needs, such as ``labels``."""
        return self.suits.settings

    @property
    def because(self) -> str:
        """Why the type was guessed.

        If some rows have no label, or fewer than ``FEW_ROWS`` rows have a label, the text also says how many rows have
        a label.
        """
        if not self.columns:
            return self.suits.because
        rows, labelled = len(self.columns[0].cells), len(self.columns[0].filled)
        if labelled < FEW_ROWS:
            return f"{self.suits.because}, a guess from only {count(labelled, 'row')} with a label"
        return self.suits.because + (f", in {labelled:,} of {rows:,} rows" if labelled < rows else "")


@dataclass(frozen=True)
class TableGuess:
    """A table with its tasks.

    Attributes:
        name: A name for the table in a recipe.
        group: The train, dev and test files of the table. A dev or test file that lacks a column that the tasks read is
            left out.
        tasks: The tasks that read the table, at least one.
        texts: The text columns that most of the tasks read.
        other_texts: Columns of texts that no task reads.
        id: The column of ids, or None.
        unused: Further columns that might be used, each with the reason why it is not.
        remarks: Sentences about files that are not used.
    """

    name: str
    group: FileGroup
    tasks: Sequence[TaskGuess]
    texts: Sequence[SeenColumn]
    other_texts: Sequence[SeenColumn]
    id: SeenColumn | None
    unused: Sequence[tuple[SeenColumn, str]]
    remarks: Sequence[str]

    @property
    def rows(self) -> int:
        """The number of train rows that were looked at."""
        return sum(file.rows for file in self.group.train)


def guess(group: FileGroup, questions: Questions, taken: set[str]) -> TableGuess:
    """Returns the tasks of a table. The names of its tasks and of the table are added to ``taken``.

    Raises:
        ValueError: If the files have no column of texts, or none of labels.
    """
    columns = _columns(group.train)
    found = _with_dev(roles(columns, has_dev=bool(group.dev)), group)
    place = few([readable(file.place.name) for file in group.train], 3)
    if not found.texts:
        raise ValueError(f"{place}: must have a column of texts, found {_told(columns, found)}. Add one.")
    if not found.labels:
        raise ValueError(
            f"{place}: must have a column of labels, found {_told(columns, found)}. Add one, with two rows "
            "of each class at least."
        )
    labels = _labels(found, questions, place)
    left = [label for label in (*found.labels, *found.doubtful) if label not in labels]
    texts = _texts(found, labels, questions, place)
    labels = [label if group.dev else _in_full_rows(label, texts, place) for label in labels]
    name = _name(group.name or "rows", taken)
    taken |= {name} if len(labels) > 1 else set()
    tasks = [_task(label, texts, questions, place, group.name, taken) for label in labels]
    unused = [(column, f"or a task of type {label.types[0][0]}") for label in left for column in label.columns]
    read = {column.name for task in tasks for column in (*task.columns, *task.texts)}
    needed = {*read, *(column for task in tasks for column in _named(task.suits))}
    remarks: list[str] = []
    dev, test = (_with_columns(files, needed, remarks) for files in (group.dev, group.test))
    made = FileGroup(group.name, group.train, dev, test)
    others = [column for column in found.texts if column.name not in read]
    return TableGuess(name, made, tasks, texts, others, found.id, [*unused, *found.unused], remarks)


def _columns(files: Sequence[SeenFile]) -> list[SeenColumn]:
    """Returns the columns of ``files``, with columns of the same name joined to one column that holds all their cells.

    Columns whose names do not occur in the first file are left out.
    """
    by_name = [{column.name: column for column in file.columns} for file in files]
    if len(files) == 1:
        return list(by_name[0].values())
    return [
        SeenColumn(name, [cell for file in by_name if name in file for cell in file[name].cells]) for name in by_name[0]
    ]


def _with_dev(found: ColumnRoles, group: FileGroup) -> ColumnRoles:
    """Returns a copy of ``found`` whose answer types suit not only the labels in train, but also the labels in dev.

    The answer types stay as they are if there is no dev, or if no type suits both the labels in train and in dev.
    """
    if not group.dev:
        return found
    both = {column.name: column for column in _columns([*group.train, *group.dev])}
    texts = [both[text.name] for text in found.texts]

    def typed(label: Label) -> Label:
        return replace(label, types=suited([both[c.name] for c in label.columns], texts) or label.types)

    return replace(found, labels=[*map(typed, found.labels)], doubtful=[*map(typed, found.doubtful)])


def _told(columns: Sequence[SeenColumn], found: ColumnRoles) -> str:
    why = {column.name: reason for column, reason in found.unused}
    why |= {text.name: "texts" for text in found.texts} | ({found.id.name: "ids"} if found.id else {})
    why |= {column.name: label.best.because for label in found.labels for column in label.columns}
    return "; ".join(f"{shown(column.name)}: {why.get(column.name, 'unknown')}" for column in columns[:12])


def _labels(found: ColumnRoles, questions: Questions, place: str) -> list[Label]:
    choices = [*found.labels, *found.doubtful]
    answers = [f"{few([c.name for c in label.columns])}  ({label.best.because})" for label in choices]
    chosen = questions.several(f"{place}: which are the labels?", answers, range(len(found.labels)))
    return [choices[number] for number in chosen]


def _in_full_rows(label: Label, texts: Sequence[SeenColumn], place: str) -> Label:
    """Returns a copy of ``label`` with the answer types that suit the full rows of a file.

    A row is full if none of its texts is empty. If the other rows make no difference, returns ``label`` unchanged.

    Raises:
        ValueError: If no answer type suits the full rows. The message says that these rows are too few.
    """
    rows = [i for i, cells in enumerate(zip(*(text.cells for text in texts), strict=True)) if None not in cells]
    if label.best.columns.get("text") or not label.columns or len(rows) == len(texts[0].cells):
        return label

    def full(columns: Sequence[SeenColumn]) -> list[SeenColumn]:
        return [SeenColumn(column.name, [column.cells[i] for i in rows]) for column in columns]

    types = suited(full(label.columns), full(texts))
    if not types:
        names, read = (few([c.name for c in columns], quoted=True) for columns in (label.columns, texts))
        raise ValueError(
            f"{place}: {count(len(rows), 'row')} of {len(texts[0].cells):,} have a text in {read}, too few to learn "
            f"{names} from. Fill in texts, with two rows of each class at least."
        )
    return replace(label, types=types)


def _texts(found: ColumnRoles, labels: Sequence[Label], questions: Questions, place: str) -> list[SeenColumn]:
    """Returns the text columns that the tasks read: one column, or two that form a pair.

    A task does not read these columns if its answer type names text columns of its own, as ``ranking`` does.
    """
    if all(label.best.columns.get("text") for label in labels):
        return [*found.texts[:1]]
    filled = [c for c in found.texts if len(c.filled) >= FILLED * len(c.cells)]
    pairs = [(a, b) for i, a in enumerate(filled) for b in filled[i + 1 :] if is_pair(a, b)]
    likely = [column for column in filled if is_likely_text(column)] or filled
    pair = pairs[0] if pairs else tuple(likely) if len(likely) == 2 else None
    singles = [[column] for column in sorted(found.texts, key=lambda text: -sum(text.words))]
    choices = [list(pair), *singles] if pair else singles
    answers = [" and ".join(c.name for c in choice) + " as a pair" * (len(choice) > 1) for choice in choices]
    return choices[questions.one(f"{place}: which are the texts?", answers)]


def _task(
    label: Label, texts: Sequence[SeenColumn], questions: Questions, place: str, table: str, taken: set[str]
) -> TaskGuess:
    types = list(label.types)
    close = [each for each in types if label.best.degree - each[1].degree < CLOSE]
    question = f"{place}, {few([c.name for c in label.columns])}: {label.best.because}. Which type of answer?"
    chosen = types[questions.one(question, [f"{name}  {suits.when}" for name, suits in close])]
    plain = not label.columns or label.columns[0].named_any_label
    name = _name((table if plain else "") or label.name or "task", taken)
    taken.add(name)
    single = chosen[1].settings.get("inputs") == "single"
    read = sorted(texts, key=lambda text: -text.mean_words)[:1] if single else texts
    return TaskGuess(name, *chosen, [each for each in types if each != chosen], label.columns, read)


def _with_columns(files: Sequence[SeenFile], needed: set[str], remarks: list[str]) -> list[SeenFile]:
    kept = []
    for file in files:
        lacking = sorted(needed - set(file.names))
        if lacking:
            remarks.append(f"not used: {readable(file.place.name)} has no column {few(lacking, quoted=True)}")
        else:
            kept.append(file)
    return kept


def _named(suits: Suits) -> Iterable[str]:
    for key, value in suits.columns.items():
        if key == "separator":
            continue
        yield from (value,) if isinstance(value, str) else value


def _name(wanted: str, taken: set[str]) -> str:
    """Returns a valid name for a task or table. The name is made from ``wanted`` and is not in ``taken``."""
    plain = unicodedata.normalize("NFKD", wanted.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-_")[: LONGEST_NAME - 5] or "task"
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found
