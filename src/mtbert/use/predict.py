"""The command ``predict``, which writes a trained model's answers for a text, a pair of texts, or a file's rows."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mtbert import scoring
from mtbert.batch import Dataset
from mtbert.data.whole import Whole
from mtbert.messages import Note, as_warnings, clean, count, few, shown, tell, tell_end, warn
from mtbert.numbers import number
from mtbert.part_share import share_of
from mtbert.progress_bar import followed, progress_of
from mtbert.recipe.settings import Recipe
from mtbert.use import outputs
from mtbert.use.bulk import is_bulk, score_files
from mtbert.use.hub_runs import find_run
from mtbert.use.input_columns import answering
from mtbert.use.inputs import unlabelled
from mtbert.use.outputs import STANDARD_OUTPUT
from mtbert.use.predictor import Predictor, load
from mtbert.use.scorer import output_row
from mtbert.use.trained import early_model, find_recipe, recipe_of, recipe_targets, renamed_texts


@dataclass(frozen=True)
class Question:
    """A request to ``predict``: the tasks that answer, the text or file to read, and the file for the answers.

    The file name ``-`` means standard input or output. If ``tasks`` names exactly one task, answers are written without
    the task's name. Otherwise, each answer is written under the name of its task.
    """

    tasks: tuple[str, ...] = ()  # none: all that take such inputs
    source: str | None = None
    text: str | None = None
    text_pair: str | None = None
    output: str = STANDARD_OUTPUT
    vectors: str | None = None
    overrides: tuple[str, ...] = ()
    unsure: float | None = None  # the share of the answers of each task that are marked as the least certain
    part_rows: int | None = None  # this and the next two are for parts, see :func:`mtbert.use.bulk.score_files`
    share: str | None = None  # I/N
    ray: str | None = None
    overwrite: bool = False  # whether an existing file is replaced


# Answers -----------------------------------------------------------------------------------------------------


def predict_run(path: Path, question: Question, console: Console) -> None:
    """Answers the request ``question`` with the model in ``path``, and writes the answers where the request says.

    Everything else, such as warnings, is printed on ``console``.

    Raises:
        ValueError, FileNotFoundError: If the request, the model or the input cannot be used, or if writing an output
            file would destroy a file that is still needed. Nothing is written then.
    """
    source, text, pair = question.source, question.text, question.text_pair
    if (source is None) == (text is None) or (pair is not None and text is None):
        raise ValueError("give --input FILE, or --text (with --text-pair for a pair). See: mtbert predict --help")
    if question.unsure is not None and source is None:
        raise ValueError("--unsure marks a share of the rows of a file, and there is one text. Give --input FILE.")
    for task in question.tasks:
        if question.tasks.count(task) > 1:
            raise ValueError(f"--task {clean(task)}: is given more than once. Give it once.")
    if is_bulk(source, question.output):
        _score_parts(path, question, console)
        return
    for option, value in (("--part", question.share), ("--part-rows", question.part_rows), ("--ray", question.ray)):
        if value is not None:
            raise ValueError(f"{option}: is for parts. Give a pattern as --input, and a folder as --output.")
    to_screen = question.output == STANDARD_OUTPUT
    if to_screen and sys.stdout is None:
        raise ValueError("standard output is closed. Give --output FILE.")
    alone = question.tasks[0] if len(question.tasks) == 1 else None
    if question.vectors is not None and alone is None:
        raise ValueError(
            f"--vectors {clean(question.vectors)}: a task has vectors of its own, so give exactly one --task, found "
            f"{len(question.tasks)}."
        )
    recipe, path = None, find_run(path)
    optional = not question.tasks or not to_screen or question.vectors is not None
    if source is not None or question.overrides or (optional and find_recipe(path) is not None):
        recipe = recipe_of(path, question.overrides)
    output, vectors_file = _targets(path, question, recipe)
    with followed(console):
        predictor = load(path)
    for line in early_model(predictor, path):
        warn(console, line)
    if question.vectors is not None and alone is not None:
        predictor.check_vectors(alone)
    with followed(console):
        if recipe is not None and source is not None:
            data, given, notes = unlabelled(predictor, recipe, question.tasks, source, renamed_texts(path, recipe))
        else:
            data, given, notes = _one_row(predictor, recipe, question)
        if question.unsure is not None:
            notes += as_warnings(_unmarked(question, data))
        tell(console, notes)
        answers = predictor.answers_together(data, unsure=question.unsure)
    done = ""
    if text is not None and to_screen:
        console.file = sys.stdout
        width = max(map(len, answers[0]))
        for task, answer in answers[0].items():
            before = "" if alone else f"{task:{width}}  "
            console.print(before + answer_line(answer), soft_wrap=True)
    else:
        suffix = Path(question.output).suffix.lower()
        blank = {one.task.name: dict.fromkeys(answers[one.rows[0]][one.task.name]) for one in data}
        rows = (output_row(row, blank, recipe, alone, suffix) for row in answers)
        written = outputs.answered(given.columns, given.rows, rows)
        for name, renamed in written.renamed.items():
            warn(console, f"the input has a column {shown(name)}, so the answers to it are in {shown(renamed)}.")
        with nullcontext() if to_screen else followed(console), progress_of(f"writing {question.output}"):
            outputs.write_answers(written, output, suffix)
        if not to_screen:
            what = "answer" if alone else "row"
            whose = "" if alone else f" with the answers of {few(blank)}"
            done = f"{count(len(answers), what)}{whose} in {clean(question.output)}"
    if vectors_file is not None:
        outputs.write_vectors(predictor.vectors_of(data[0]), vectors_file)
        vectors = f"{count(len(answers), 'vector')} in {clean(str(question.vectors))}"
        done = f"{done}; {vectors}" if done else vectors
    if done:
        tell_end(console, done)


def _score_parts(path: Path, question: Question, console: Console) -> None:
    for option, given, why in (
        ("--unsure", question.unsure, "marks a share of the rows of one file"),
        ("--vectors", question.vectors, "is for one file"),
        ("--overwrite", question.overwrite or None, "replaces one file"),
    ):
        if given is not None:
            raise ValueError(
                f"{option}: {why}, and answers go into parts. Drop it, or give one file and one output file."
            )
    if question.output == STANDARD_OUTPUT:
        raise ValueError(
            f"--input {shown(question.source)}: a pattern, so answers go into parts. Give --output FOLDER."
        )
    score_files(
        find_run(path),
        str(question.source),
        question.output,
        console,
        tasks=question.tasks,
        overrides=question.overrides,
        part_rows=question.part_rows,
        share=share_of(question.share),
        ray=question.ray,
    )


def unsure_share(text: str) -> float:
    """Returns the value of the option ``--unsure`` as a number: the share of answers to mark as unsure.

    Raises:
        ValueError: If the value is not a number between 0 and 1.
    """
    share = number(text)
    if share is None or not 0 < share < 1:
        raise ValueError(f"--unsure must be a share between 0 and 1, found {clean(text)}. Give a share such as 0.1.")
    return share


def _unmarked(question: Question, data: Sequence[Dataset]) -> list[str]:
    """Returns a list of at most one warning, which names all tasks whose answers cannot be marked as unsure.

    Raises a ValueError if ``question.tasks`` names one of these tasks, or if no task has answers that can be marked.
    """
    without = [one.task for one in data if not one.task.predicts.gives_probability]
    if without and (question.tasks or len(without) == len(data)):
        raise ValueError(f"--unsure: {scoring.no_certainty(without[0])}")
    names = few([task.name for task in without])
    why = "because a type and head of this kind give no probability of a whole answer"
    return [f"--unsure: no answer of {names} is marked, {why}."] if without else []


def _one_row(
    predictor: Predictor, recipe: Recipe | None, question: Question
) -> tuple[list[Dataset], Whole, list[Note]]:
    """Returns a triple: a data set for each task, a table with a single row, and notes.

    Each data set has a single example. The example and the row both consist of the text, or the two texts, of
    ``question``.
    """
    texts = tuple(each for each in (question.text, question.text_pair) if each is not None)
    for task in question.tasks:
        if predictor.task(task).texts != 1 and len(texts) == 1:
            raise ValueError(f"task {clean(task)}: reads pairs of texts. Give --text-pair too.")
    tasks, warnings = list(question.tasks), list[str]()
    if not tasks:
        tasks = predictor.taking(len(texts))
    if not question.tasks and recipe is not None:
        tasks, warnings = answering(recipe, tasks, "--text", {})
    data = predictor.read_together(tasks, [texts[0]] if len(texts) == 1 else [texts])
    columns = ("text", "text_pair")[: len(texts)]
    return data, Whole(columns, [dict(zip(columns, data[0].examples[0].texts, strict=True))]), as_warnings(warnings)


def _targets(path: Path, question: Question, recipe: Recipe | None) -> tuple[Path | None, Path | None]:
    """Returns two paths: the file for answers and the file for vectors. A path is None if its file is not wanted.

    Raises a ValueError if one of them must not be written, for example because it is the input file.
    """
    home, reads = recipe_targets(path, recipe)
    if question.source not in (None, STANDARD_OUTPUT):
        reads[Path(str(question.source))] = "the input file"

    def checked(option: str, name: str, known: Sequence[str]) -> Path:
        return outputs.check_output(option, name, known, home, reads, overwrite=question.overwrite)

    output = vectors = None
    if question.output != STANDARD_OUTPUT:
        output = checked("--output", question.output, outputs.ANSWERS)
    if question.vectors is not None:
        vectors = checked("--vectors", question.vectors, outputs.VECTORS)
        if output == vectors:
            raise ValueError(f"--vectors {clean(question.vectors)}: is the file of --output. Give another.")
    return output, vectors


def answer_line(answer: Mapping[str, Any]) -> str:
    """Returns an answer as one line. Values that are texts appear without their names; other values follow their names.

    >>> answer_line({"label": "good", "p(good)": 0.75, "also": ["fair", "fine"], "mood": None})
    'good  p(good) 0.7500  also fair, fine  mood none'
    """
    return "  ".join(
        clean(value) if isinstance(value, str) else f"{clean(key)} {_told(value)}" for key, value in answer.items()
    )


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_told, value)) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{clean(key)} {_told(part)}" for key, part in value.items())
    if value is None:
        return "none"
    return f"{value:.4f}" if isinstance(value, float) else clean(str(value))
