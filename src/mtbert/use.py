"""The commands ``predict`` and ``evaluate``: a trained model, the data of its recipe or a user's file, and answers."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mtbert import breakdown, environment, files, outputs
from mtbert import evaluate as scoring
from mtbert import recipe as recipes
from mtbert.batch import Dataset
from mtbert.breakdown import Scored
from mtbert.checkpoint import Predicted
from mtbert.data import formats, labels, sources, whole
from mtbert.data.records import LARGEST
from mtbert.data.sources import Source
from mtbert.data.whole import Whole
from mtbert.display import score_table
from mtbert.evaluate import Evaluation
from mtbert.messages import clean, count, few, shown, warn
from mtbert.outputs import STANDARD_OUTPUT
from mtbert.predictor import Predictor, load
from mtbert.prepare import prepare, read_test
from mtbert.recipe import Recipe
from mtbert.task import Task

# Parts of a task's recipe that a finished model does not depend on.
CHANGEABLE = ("columns", "train", "dev", "test", "metric")
COPIED = 2**20  # bytes of standard input at a time


@dataclass(frozen=True)
class Question:
    """The question that ``predict`` answers, and where the answers go; ``-`` is standard input and output."""

    task: str
    source: str | None = None
    text: str | None = None
    text_pair: str | None = None
    output: str = STANDARD_OUTPUT
    embeddings: str | None = None
    overrides: tuple[str, ...] = ()


# Scores ------------------------------------------------------------------------------------------------------


def evaluate(
    path: Path,
    split: str,
    task: str | None,
    console: Console,
    warnings: Console,
    *,
    overrides: Sequence[str] = (),
    as_json: bool = False,
) -> dict[str, Evaluation]:
    """Scores the model at ``path`` on dev or test data of its recipe, or on a labelled file, and prints the scores.

    Args:
        path: The folder of a run, or of a model in it.
        split: ``dev``, ``test``, or a labelled file of ``task``.
        task: The only task to score; ``None``: all whose predictions were trained.
        console: Gets the tables, and nothing else.
        warnings: Gets the warnings of reading.
        overrides: Changes of the run's recipe, as ``a.b=c``.
        as_json: True writes all that is known to standard output as JSON, in place of tables.
    """
    predictor, recipe = _as_trained(path, overrides)
    _tell_of_early_model(predictor, path, warnings)
    if split == "dev":
        data = _dev(predictor, recipe, task, warnings)
    elif split == "test":
        data = _test(predictor, recipe, task, warnings)
    elif task is None:
        raise ValueError(
            f"--split {clean(split)}: say whose labels these are, with --task {' or --task '.join(recipe.tasks)}."
        )
    else:
        data = {task: _labelled(predictor, recipe, task, split, warnings)}
    scored = {name: _score(predictor, d) for name, d in data.items()}
    for one in scored.values():
        for warning in scoring.undefined(one.data, one.predicted, one.evaluation.metrics):
            warn(warnings, warning)
    scores = {name: s.evaluation for name, s in scored.items()}
    if as_json:
        found = breakdown.as_json(recipe, scored, str(predictor.folder), predictor.step, split)
        files.write_output((json.dumps(found, indent=2, allow_nan=False) + "\n").encode())
        return scores
    console.print(score_table(recipe, scores, f"{clean(split)}: {predictor.name}"))
    for one in scored.values():
        for table in breakdown.tables(one):
            console.print(table, soft_wrap=isinstance(table, str))
    return scores


def answer(path: Path, task: str, file: str, console: Console) -> tuple[Dataset, Predicted]:
    """Returns the rows of a labelled file, and what the model at ``path`` answers; ``console`` gets warnings.

    Raises:
        ValueError, FileNotFoundError: If the model or the file cannot be read, or the model has no such task.
    """
    predictor, recipe = _as_trained(path, ())
    data = _labelled(predictor, recipe, task, file, console)
    return data, scoring.answer(predictor.model, data)


def _score(predictor: Predictor, data: Dataset) -> Scored:
    predicted = scoring.answer(predictor.model, data)
    return Scored(data, predicted, scoring.judge(data, predicted))


def _dev(predictor: Predictor, recipe: Recipe, task: str | None, warnings: Console) -> dict[str, Dataset]:
    names = [_both(predictor, recipe, task).name] if task else [n for n, t in recipe.tasks.items() if t.scored]
    # The model's classes and range, not those of files that may have changed since.
    learnt = {n: predictor.task(n).model_dump(include={"labels", "range"}) for n in names}
    tasks = {n: recipe.tasks[n].model_copy(update=learnt[n]) for n in names}
    prepared = prepare(recipe.model_copy(update={"tasks": tasks}), predictor.tokenizer)
    for warning in (w for p in prepared.values() for w in p.warnings):
        warn(warnings, warning)
    return {name: p.dev for name, p in prepared.items()}


def _test(predictor: Predictor, recipe: Recipe, task: str | None, warnings: Console) -> dict[str, Dataset]:
    scored = (n for n, t in recipe.tasks.items() if t.scored and t.test is not None)
    names = [_both(predictor, recipe, task).name] if task else list(scored)
    if not names:
        raise ValueError("--split test: the recipe of this run names no test data. Give a labelled file.")
    read = {name: read_test(recipe, predictor.task(name), predictor.tokenizer) for name in names}
    for warning in (w for _, found in read.values() for w in found):
        warn(warnings, warning)
    return {name: data for name, (data, _) in read.items()}


# Answers -----------------------------------------------------------------------------------------------------


def predict(path: Path, question: Question, console: Console) -> None:
    """Answers a question as the command of this name describes it; ``console`` gets all but the answers.

    Raises:
        ValueError, FileNotFoundError: If the question, the model or the input cannot be used, or a file may not be
            written; then nothing is.
    """
    source, text, pair = question.source, question.text, question.text_pair
    if (source is None) == (text is None) or (pair is not None and text is None):
        raise ValueError("give --input FILE, or --text (with --text-pair for a pair). See: mtbert predict --help")
    to_screen = question.output == STANDARD_OUTPUT
    if to_screen and sys.stdout is None:
        raise ValueError("standard output is closed. Give --output FILE.")
    recipe = None
    if source is not None or question.overrides or not to_screen or question.embeddings is not None:
        recipe = _recipe(path, question.overrides, needed=source is not None or bool(question.overrides))
    output, vectors = _targets(path, question, recipe)
    predictor = load(path)
    _tell_of_early_model(predictor, path, console)
    if text is not None:
        if predictor.task(question.task).texts == 2 and pair is None:
            raise ValueError(f"task {clean(question.task)}: reads pairs of texts. Give --text-pair too.")
        data = predictor.read(question.task, [text] if pair is None else [(text, pair)])
        given = Whole(("text", "text_pair")[: len(data.examples[0].texts)], ())
        given = Whole(given.columns, [dict(zip(given.columns, data.examples[0].texts, strict=True))])
    else:
        assert recipe is not None
        data, given = _unlabelled(predictor, recipe, question.task, str(source), console)
    answers = predictor.answers(data)
    if text is not None and to_screen:
        console.file = sys.stdout
        console.print(_answer_line(answers[0]), soft_wrap=True)
    else:
        written = outputs.answered(given.columns, given.rows, answers)
        for name, renamed in written.renamed.items():
            warn(console, f"the input has a column {shown(name)}, so the answers to it are in {shown(renamed)}.")
        outputs.write_answers(written, output, Path(question.output).suffix.lower())
        if not to_screen:
            console.print(f"{count(len(answers), 'answer')} in {clean(question.output)}", soft_wrap=True)
    if vectors is not None:
        outputs.write_vectors(predictor.vectors(data), vectors)
        console.print(f"{count(len(answers), 'vector')} in {clean(str(question.embeddings))}", soft_wrap=True)


def _tell_of_early_model(predictor: Predictor, path: Path, console: Console) -> None:
    """Warns where a run has no best model yet, so that the newest one answers for it."""
    if predictor.folder is not None and predictor.folder.name == "last" and predictor.folder != path:
        warn(console, f"{predictor.name}: the run stopped before its first evaluation, so its newest model answers.")


def _targets(path: Path, question: Question, recipe: Recipe | None) -> tuple[Path | None, Path | None]:
    """Returns the files to write answers and vectors to, if they may be written."""
    reads: dict[Path, str] = {}
    if question.source not in (None, STANDARD_OUTPUT):
        reads[Path(str(question.source))] = "the input file"
    for name, task in (recipe.tasks if recipe is not None else {}).items():
        for source in (s for field in type(task).model_fields if isinstance(s := getattr(task, field), Source)):
            for file in filter(None, (*source.files, source.hub)):
                assert recipe is not None
                reads[recipe.root() / file] = f"data of task {name}"
    home = path.resolve().parent if (path.resolve().parent / recipes.FILE).is_file() else path

    def checked(option: str, name: str, known: Sequence[str]) -> Path:
        return outputs.check(option, name, known, home, reads)

    output = vectors = None
    if question.output != STANDARD_OUTPUT:
        output = checked("--output", question.output, outputs.ANSWERS)
    if question.embeddings is not None:
        vectors = checked("--embeddings", question.embeddings, outputs.VECTORS)
        if output == vectors:
            raise ValueError(f"--embeddings {clean(question.embeddings)}: is the file of --output. Give another.")
    return output, vectors


def _answer_line(answer: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{clean(key)} {value:.4f}" if isinstance(value, float) else clean(value) for key, value in answer.items()
    )


# Models, recipes and files -----------------------------------------------------------------------------------


def _as_trained(path: Path, overrides: Sequence[str]) -> tuple[Predictor, Recipe]:
    """Returns the model at ``path``, with the precision of its training, and its recipe."""
    predictor, recipe = load(path), _recipe(path, overrides, needed=True)
    assert recipe is not None
    device = next(predictor.model.parameters()).device
    predictor.model.compute = environment.precision(recipe.train.precision, device)
    return predictor, recipe


def _recipe(path: Path, overrides: Sequence[str], *, needed: bool) -> Recipe | None:
    """Returns the recipe of the run that ``path`` is, or is a part of, with changes that leave its model what it is.

    Raises:
        FileNotFoundError: If it is ``needed`` and not there.
        ValueError: If it is damaged, or a change is about something that the trained model fixes.
    """
    for folder in (path, path.resolve().parent):
        file = folder / recipes.FILE
        if file.is_file():
            found, changed = recipes.load(str(file)), recipes.load(str(file), overrides)
            for key in _differences(recipes.plain(found), recipes.plain(changed)):
                if key[:2] != ("data", "root") and not (key[0] == "tasks" and key[2:3] and key[2] in CHANGEABLE):
                    raise ValueError(
                        f"--set {clean('.'.join(key))}: the model was trained with this setting, which stays. Here "
                        f"can be changed: data.root, and of tasks.NAME: {few(CHANGEABLE)}."
                    )
            return changed
    if not needed:
        return None
    raise FileNotFoundError(
        f"{path}: no {recipes.FILE} here or one folder up, so columns are unknown. Give a run's folder."
    )


def _differences(a: object, b: object, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Gives the keys at which two nested mappings differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys((*a, *b)):
            yield from _differences(a.get(key), b.get(key), (*at, str(key)))
    elif a != b:
        yield at


def _labelled(predictor: Predictor, recipe: Recipe, task: str, file: str, warnings: Console) -> Dataset:
    return _read(predictor, recipe, task, file, Path(), warnings, labelled=True)


def _unlabelled(predictor: Predictor, recipe: Recipe, task: str, file: str, warnings: Console) -> tuple[Dataset, Whole]:
    """Returns the rows of an input, and all of its columns, with numbers where it has no ids."""
    with _input(file) as (name, folder):
        data = _read(predictor, recipe, task, name, folder, warnings, labelled=False)
        columns = recipe.tasks[task].columns
        given = whole.read(name, folder / name, (*columns.text, *([columns.id] if columns.id is not None else [])))
    ignored = [c for c in given.columns if c not in (*columns.text, columns.id)]
    if ignored:
        warn(warnings, f"{name}: columns that the task does not read, copied as they are: {few(ignored, quoted=True)}.")
    id_ = columns.id
    if id_ is None or id_ in given.columns:
        return data, given
    warn(warnings, f"{name}: there is no column {shown(id_)}, so rows are numbered from 1 in a column of that name.")
    rows = [{id_: e.id} | dict(row) for e, row in zip(data.examples, given.rows, strict=True)]
    return data, Whole((id_, *given.columns), rows)


@contextmanager
def _input(file: str) -> Iterator[tuple[str, Path]]:
    """Gives the name of an input, and the folder that it starts from; ``-`` is standard input."""
    if file != STANDARD_OUTPUT:
        yield file, Path()
        return
    if sys.stdin is None:
        raise ValueError("--input -: standard input is closed. Give a file.")
    part = sys.stdin.buffer.read(COPIED)
    kind = "jsonl" if part.removeprefix(formats.BOM).lstrip().startswith(b"{") else "csv"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"standard-input.{kind}"
        left = LARGEST
        with files.naming(place), place.open("wb") as copy:
            while part:
                left -= len(part)
                if left < 0:
                    raise ValueError(f"--input -: more than {LARGEST:,} bytes. Give fewer rows at a time.")
                copy.write(part)
                part = sys.stdin.buffer.read(COPIED)
        yield place.name, Path(folder)


def _read(
    predictor: Predictor, recipe: Recipe, task: str, file: str, root: Path, warnings: Console, *, labelled: bool
) -> Dataset:
    """Returns the rows of a file with the columns that the recipe names."""
    chosen = _both(predictor, recipe, task)
    columns = recipe.tasks[task].columns
    table = sources.read(Source(path=file), columns, root, texts=chosen.texts, labelled=labelled)
    for warning in table.warnings:
        warn(warnings, warning)
    return predictor.dataset(task, labels.examples(table, chosen))


def _both(predictor: Predictor, recipe: Recipe, task: str) -> Task:
    """Returns the model's task of that name, if the recipe has it too."""
    chosen = predictor.task(task)
    if task not in recipe.tasks:
        raise ValueError(f"task {task}: the recipe of this run does not have it, so its columns are unknown.")
    return chosen
