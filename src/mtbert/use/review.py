"""The command ``review``: chooses the rows of a pool that a person should label next.

A pool is a file with texts for a task. The command chooses the rows of the pool about which the model is least certain.
The least certain row is chosen first. A row of the pool is left out in these cases:

- The row has a label for the task already.
- Train has a row with the same texts and a label for the task.
- A text of the row is also in dev.
- The row has almost the same words as a row that is already chosen.

The chosen rows are written to a file. The file has all columns that the recipe reads from train, under the names that
the columns have in train. After labelling, the file can be one more train file.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from mtbert import scoring, splits
from mtbert.advice import option
from mtbert.batch import Example, Examples, Floats
from mtbert.columns import TextColumn
from mtbert.data.cells import is_given
from mtbert.data.split import linking
from mtbert.messages import as_warnings, clean, count, few, reason, tell, tell_end, warn
from mtbert.progress_bar import followed, progress_of
from mtbert.recipe.label_columns import how_to_label
from mtbert.recipe.settings import Recipe
from mtbert.use import outputs
from mtbert.use.hub_runs import find_run
from mtbert.use.inputs import Pool, pool
from mtbert.use.outputs import OutputRow
from mtbert.use.predictor import least_certain, load
from mtbert.use.trained import early_model, recipe_of, recipe_targets, renamed_texts, with_own_columns

REVIEWED = (".csv", ".tsv", ".jsonl")
ALIKE = 0.8  # share of words: texts with more words in common nearly repeat each other
_WORDS = re.compile(r"\w+")


def review_run(
    path: Path,
    task: str,
    source: str,
    top: int,
    output: str,
    console: Console,
    *,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> int:
    """Finds the rows of a pool about which a model is least certain, writes them to a file, and returns their number.

    Args:
        path: The folder of a run, or of a model in it.
        task: The task for which the rows will be labelled.
        source: The pool: a file with texts for the task. If it lacks the task's text column, the task reads another,
            see :func:`mtbert.use.input_columns.fitting`. It may have labels; a row with a label for the task is left
            out, and a warning says how many rows are left out for this reason.
        top: The largest number of rows to write.
        output: The file to write. It has every column that the recipe reads from the train file of ``task``, including
            columns for other tasks. The ids and the texts come from the pool, the label columns are empty, and the
            weight columns hold 1. Two more columns hold the model's answer and the probability of this answer. The
            least certain row comes first.
        console: Shows warnings and what was written.
        overrides: Changes to the run's recipe, as ``a.b=c``. If a change sets the name of a column, this name is used
            only for the pool. The columns of train and of ``output`` keep the names that the run's recipe has.
        overwrite: Whether to replace an existing file.

    Raises:
        ValueError, FileNotFoundError: If the model, its recipe or the pool cannot be read, the task does not exist,
            the task's answers have no probabilities, no row is left to label, or ``output`` must not be written. Then
            nothing is written.
    """
    if top < 1:
        raise ValueError(f"{option('top')} must be at least 1, found {top}.")
    path = find_run(path)
    recipe = recipe_of(path, overrides)
    home, reads = recipe_targets(path, recipe)
    reads = {Path(source): "the input file", **reads}
    target = outputs.check_output(option("output"), output, REVIEWED, home, reads, overwrite=overwrite)
    predictor = load(path)
    with followed(console):
        given = pool(predictor, recipe, task, source, renamed_texts(path, recipe))
        data = given.data
        tell(console, (*as_warnings(early_model(predictor, path)), *given.notes))
        prediction = scoring.predict_examples(predictor.model, data)
        trained = with_own_columns(path, recipe)
        known, why = _known(trained, task)
    certainty_B = scoring.certainty(predictor.model, data.task, prediction)
    if why:
        warn(console, f"train of task {task} cannot be read, so rows of it may be among these ({why}).")
    columns, pool_rows = recipe.tasks[task].columns, [given.whole.rows[row] for row in data.rows]
    labelled_B = np.array([any(is_given(row.get(name)) for name in columns.labels) for row in pool_rows], np.bool_)
    in_dev_B = ~labelled_B & _in_dev(recipe, task, given, pool_rows, known.dev)
    with followed(console), progress_of("choosing rows"):
        chosen = _chosen(data.examples, np.where(labelled_B | in_dev_B, np.inf, certainty_B), known.trained, top)
    if not chosen:
        raise ValueError(
            f"{clean(source)}: has no row to label. Each is in train, has a text of dev, has a label, or has an empty "
            "text. Give another pool."
        )
    if labelled_B.any():
        named = few(columns.labels, quoted=True)
        warn(console, f"{source}: left out {count(int(labelled_B.sum()), 'row')} with a label in {named}.")
    if in_dev_B.any():
        warn(console, f"{source}: left out {count(int(in_dev_B.sum()), 'row')} with a text that is also in dev.")
    answers = scoring.decode(predictor.model, data.task, prediction)
    prefix = "" if columns.id in given.whole.columns else f"{known.free_prefix(Path(source).stem)}-"
    columns = trained.tasks[task].columns
    rows = [
        _row(
            _unlabelled(trained, recipe, task, data.examples[i], pool_rows[i], prefix),
            answers[i],
            float(certainty_B[i]),
            columns.separator or ";",
        )
        for i in chosen
    ]
    outputs.write_answers(outputs.Answered(tuple(rows[0]), rows, {}), target, target.suffix.lower())
    tell_end(console, f"{count(len(rows), 'row')} to label in {clean(output)}. {how_to_label(data.task, columns)}")
    return len(rows)


@dataclass(frozen=True)
class KnownRows:
    """Texts and ids in train and dev. A row that is chosen for labelling must not repeat them.

    Each text is stored as a key, see :func:`_keys`.

    Attributes:
        trained: The texts of each row of train that has a label for the task. A chosen row must not have the same
            texts as one of these rows.
        dev: The texts of dev, without the wrong candidates of rankings. A chosen row must have none of these texts.
        ids: The ids of the rows in train and dev.
    """

    trained: Set[tuple[bytes, ...]] = frozenset()
    dev: Set[bytes] = frozenset()
    ids: Set[str] = frozenset()

    def free_prefix(self, stem: str) -> str:
        """Returns a prefix for new ids: ``stem``, or ``stem`` with a number.

        No id in :attr:`ids` starts with this prefix and a hyphen.
        """
        prefixes = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        return next(prefix for prefix in prefixes if not any(id_.startswith(f"{prefix}-") for id_ in self.ids))


def _known(recipe: Recipe, task: str) -> tuple[KnownRows, str]:
    """Returns the rows of train and dev, and an error message.

    If the rows can be read, the message is an empty text. Otherwise, it says why they cannot be read, and the
    :class:`KnownRows` is empty.
    """
    try:
        with splits.rooted(recipe):
            table = splits.split_table(recipe, recipe.tasks[task].source_name)
    except (ValueError, OSError) as error:
        return KnownRows(), reason(error)
    sides = [side for side in (table.train, table.held_out, table.dev) if side is not None]
    linked = {i for reads in table.reads.values() for i in linking(reads)}
    (empty,) = _keys([TextColumn.of([""])])
    known = KnownRows(
        trained={key for side in sides[:-1] for key in _keys(side.tasks[task].examples.texts)},
        dev={key[0] for i in linked for key in _keys([table.dev.texts[i]]) if key != empty},
        ids={id_ for side in sides for of_task in side.tasks.values() for id_ in of_task.examples.ids},
    )
    return known, ""


def _in_dev(
    recipe: Recipe, task: str, given: Pool, rows: Sequence[Mapping[str, object]], dev: Set[bytes]
) -> npt.NDArray[np.bool_]:
    """Returns for each row in ``rows`` whether one of its texts is also a text of the dev split, ``[B]``.

    The texts of a row are those in the columns that the task, or another task of the same table, reads. The wrong
    candidates of rankings do not count.

    Args:
        recipe: The recipe of the run.
        task: The name of the task.
        given: The pool: a file with rows to label.
        rows: Rows of the pool, with all columns of the file.
        dev: The keys (see :func:`_keys`) of the texts in the dev split.
    """
    own = dict(zip(given.texts, given.data.examples.texts, strict=True))
    readers = recipe.tasks_by_table()[recipe.tasks[task].source_name]
    found_B = np.zeros(len(rows), np.bool_)
    others = (reader.columns.text for reader in readers if reader.name != task)
    for name in {name for columns in (given.texts, *others) for name in linking(columns)}:
        column = own[name] if name in own else TextColumn.of(_as_text(row.get(name)) for row in rows)
        found_B |= [key in dev for (key,) in _keys([column])]
    return found_B


def _as_text(cell: object) -> str:
    """Returns the text in a cell of the pool. A list of words becomes one text. A missing text becomes an empty one."""
    return " ".join(map(str, cell)) if isinstance(cell, list) else str("" if cell is None else cell)


def _keys(texts: Sequence[TextColumn]) -> Iterator[tuple[bytes, ...]]:
    """Yields a key for each row, made from the row's texts.

    Rows have the same key if their texts differ only in case or in whitespace at the beginning or end.
    """
    return zip(*([key.tobytes() for key in column.folded] for column in texts), strict=True)


def _chosen(examples: Examples, certainty_B: Floats, known: Set[tuple[bytes, ...]], top: int) -> list[int]:
    """Returns the indices of the rows to label, at most ``top``, the least certain first.

    Leaves out rows whose texts are in ``known``, rows with an infinite certainty, and rows that are nearly equal to a
    row chosen earlier.
    """
    keys, seen = list(_keys(examples.texts)), set(known)
    chosen: list[int] = []
    words: list[tuple[frozenset[str], ...]] = []
    for i in least_certain(certainty_B, len(examples)).tolist():
        if len(chosen) == top or certainty_B[i] == np.inf:
            break
        if keys[i] in seen:
            continue
        seen.add(keys[i])
        own = tuple(frozenset(_WORDS.findall(text.casefold())) for text in examples[i].texts)
        if not any(_alike(own, other) for other in words):
            chosen.append(i)
            words.append(own)
    return chosen


def _alike(one: Iterable[frozenset[str]], other: Iterable[frozenset[str]]) -> bool:
    """Returns whether the corresponding texts of two rows contain almost the same words."""
    return all(len(a & b) > ALIKE * len(a | b) for a, b in zip(one, other, strict=False))


def _unlabelled(
    recipe: Recipe, of_pool: Recipe, task: str, one: Example, given: Mapping[str, object], prefix: str
) -> OutputRow:
    """Returns a row of the pool in the form of a train row: with all columns that the recipe reads, but without labels.

    Args:
        recipe: The recipe. Its column names are those of the train files.
        of_pool: The same recipe, with the column names of the pool: the file with rows to choose from.
        task: The task for which the row will be labelled.
        one: The row as an example: its id, and the texts that ``task`` reads.
        given: The same row as a dict from each column of the pool to the cell.
        prefix: The text that is put before the id.
    """
    readers = recipe.tasks_by_table()[recipe.tasks[task].source_name]
    columns = recipe.tasks[task].columns
    found: OutputRow = {} if columns.id is None else {columns.id: prefix + one.id}
    found |= dict(zip(columns.text, one.texts, strict=True))
    for reader in readers:
        for own, read in zip(reader.columns.text, of_pool.tasks[reader.name].columns.text, strict=True):
            found.setdefault(own, given.get(read))
    for reader in readers:
        found |= dict.fromkeys(reader.columns.labels)
    for reader in readers:
        if reader.columns.weight is not None:
            found.setdefault(reader.columns.weight, 1)
    return (recipe.tasks[task].train.where or {}) | found


def _row(found: OutputRow, answer: OutputRow, p: float, separator: str) -> OutputRow:
    """Adds the model's answer and the answer's probability ``p`` to the row ``found``, and returns this row.

    The model's answer is the first value in ``answer``. If the value is a list of labels, the labels are joined by
    ``separator``.
    """
    said = next(iter(answer.values()))  # the answer itself; what follows are probabilities
    said = separator.join(said) if isinstance(said, list) else said
    for name, value in (("answer", said), ("probability", float(f"{p:.{outputs.DIGITS}g}"))):
        found[outputs.free_name(name, found)] = value
    return found
