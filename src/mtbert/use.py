"""Using a trained model: from Python (:func:`load`) and for the commands ``evaluate`` and ``predict``."""

import csv
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from mtbert import checkpoint, environment
from mtbert import evaluate as scoring
from mtbert import recipe as recipes
from mtbert.batch import Dataset, Example
from mtbert.checkpoint import Predicted
from mtbert.data import sources
from mtbert.data.sources import Source
from mtbert.display import score_table
from mtbert.evaluate import Evaluation
from mtbert.messages import warn
from mtbert.model.model import Model
from mtbert.prepare import prepare, tokenize
from mtbert.recipe import Recipe
from mtbert.task import Task

Texts = Sequence[str] | Sequence[tuple[str, str]]
SURROGATES = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are no UTF-8


@dataclass(frozen=True)
class Predictor:
    """A trained model and its tokenizer, ready to answer."""

    model: Model
    tokenizer: Tokenizer

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks it answers, by name."""
        return self.model.tasks

    def predict(self, task: str, texts: Texts) -> list[dict[str, Any]]:
        """One answer per text or pair, in order.

        Classes give ``{"label": ..., "p(a)": ..., ...}``, scores ``{"score": ...}`` in the task's range.

        Raises:
            ValueError: If there is no such task, or an example has the wrong number of texts or an empty one.
        """
        return self._decode(self._data(task, texts))

    def embed(self, task: str, texts: Texts) -> npt.NDArray[np.float32]:
        """The vectors that the task's head reads: ``[B, D]``, or ``[B, 2, D]`` for separate pairs, float32."""
        return self._embed(self._data(task, texts))

    def _data(self, task: str, texts: Texts) -> Dataset:
        chosen = self._task(task)
        examples = []
        for i, given in enumerate(texts):
            parts = (given,) if isinstance(given, str) else tuple(given)
            if len(parts) != chosen.texts:
                raise ValueError(f"task {task}, text {i}: takes {chosen.texts} text(s), found {len(parts)}: {given!r}.")
            if not all(isinstance(part, str) and part.strip() and not SURROGATES.search(part) for part in parts):
                raise ValueError(f"task {task}, text {i}: must be UTF-8 text and not empty, found {given!r:.80}.")
            examples.append(Example(str(i), tuple(part.strip() for part in parts), None))
        return self._tokens(chosen, examples)

    def _task(self, name: str) -> Task:
        if name not in self.tasks:
            raise ValueError(f"task {name}: this model has no such task. Use {' or '.join(self.tasks)}.")
        return self.tasks[name]

    def _tokens(self, task: Task, examples: Sequence[Example]) -> Dataset:
        return tokenize(task, examples, self.tokenizer, self.model.max_length)

    def _decode(self, data: Dataset) -> list[dict[str, Any]]:
        return scoring.decode(self.model, data.task, scoring.predict(self.model, data)) if len(data) else []

    def _embed(self, data: Dataset) -> npt.NDArray[np.float32]:
        if not len(data):
            pair = (2,) if data.task.sequences == 2 else ()
            return np.zeros((0, *pair, self.model.encoder.config.width), dtype=np.float32)
        vectors = scoring.embed(self.model, data)
        return (vectors[0] if len(vectors) == 1 else torch.stack(vectors, 1)).numpy()


def load(path: str | Path) -> Predictor:
    """The trained model of a run (its best on dev), or of one of its folders ``best/`` and ``last/``.

    Raises:
        FileNotFoundError: If there is no model at ``path``.
        ValueError: If one of its files is damaged; the message names it.
    """
    model, tokenizer = checkpoint.load_model(Path(path))
    device = environment.device("auto")
    model.compute = environment.precision("auto", device)
    return Predictor(model.to(device), tokenizer)


def evaluate(path: Path, split: str, task: str | None, console: Console) -> dict[str, Evaluation]:
    """Scores of the model at ``path`` on the dev data of its recipe, or on a labelled file; prints them as a table."""
    predictor, recipe = _as_trained(path)
    if split == "dev":
        names = [predictor._task(task).name] if task else [n for n, t in recipe.tasks.items() if t.scored]
        # The model's classes and range, not those of files that may have changed since.
        learnt = {n: predictor._task(n).model_dump(include={"labels", "range"}) for n in names}
        tasks = {n: recipe.tasks[n].model_copy(update=learnt[n]) for n in names}
        prepared = prepare(recipe.model_copy(update={"tasks": tasks}), predictor.tokenizer)
        for warning in (w for p in prepared.values() for w in p.warnings):
            warn(console, warning)
        data = {name: p.dev for name, p in prepared.items()}
    else:
        if task is None:
            raise ValueError(
                f"--split {split}: say whose labels these are, with --task {' or --task '.join(recipe.tasks)}."
            )
        data = {task: _read(predictor, recipe, task, split, console, labelled=True)}
    scores = {name: scoring.evaluate(predictor.model, d) for name, d in data.items()}
    console.print(score_table(recipe, scores, split))
    return scores


def answer(path: Path, task: str, file: str, console: Console) -> tuple[Dataset, Predicted]:
    """The rows of a labelled file, and what the model at ``path`` answers; warnings of reading go to ``console``.

    Raises:
        ValueError, FileNotFoundError: If the model or the file cannot be read, or the model has no such task.
    """
    predictor, recipe = _as_trained(path)
    data = _read(predictor, recipe, task, file, console, labelled=True)
    raw = scoring.predict(predictor.model, data)
    return data, Predicted(raw, torch.from_numpy(scoring.decide(predictor.model, data.task, raw)))


def _as_trained(path: Path) -> tuple[Predictor, Recipe]:
    """The model at ``path``, with the precision of its training, and its recipe."""
    predictor, recipe = load(path), _recipe(path)
    device = next(predictor.model.parameters()).device
    predictor.model.compute = environment.precision(recipe.train.precision, device)
    return predictor, recipe


def predict(
    path: Path,
    task: str,
    source: str | None,
    output: str,
    text: str | None,
    text_pair: str | None,
    embeddings: Path | None,
    console: Console,
) -> None:
    """Answers ``task`` for one text (or pair) or for a file, as the command of this name describes it."""
    if (source is None) == (text is None) or (text_pair is not None and text is None):
        raise ValueError("give --input FILE, or --text (with --text-pair for a pair). See: mtbert predict --help")
    _check_file(output, ANSWERS, "--output")
    _check_file(str(embeddings or "-"), VECTORS, "--embeddings")
    for option, file in (("--output", output), ("--embeddings", str(embeddings))):
        if source not in (None, "-") and _same_file(file, str(source)):
            raise ValueError(f"{option} {file}: is the input file. Give another.")
    predictor = load(path)
    chosen = predictor._task(task)
    if text is not None:
        data = predictor._data(task, [text] if text_pair is None else [(text, text_pair)])
    else:
        data = _read(predictor, _recipe(path), task, str(source), console, labelled=False)
    answers = predictor._decode(data)
    if text is not None and output == "-":
        console.file = sys.stdout
        console.print(_told(answers[0]), soft_wrap=True)
    else:
        _write_answers([{"id": e.id} | a for e, a in zip(data.examples, answers, strict=True)], chosen, output)
        if output != "-":
            console.print(f"{len(answers)} answers in {output}", soft_wrap=True)
    if embeddings is not None:
        _write_vectors(predictor._embed(data), embeddings)
        console.print(f"{len(answers)} vectors in {embeddings}", soft_wrap=True)


def _same_file(a: str, b: str) -> bool:
    return Path(a).exists() and Path(b).exists() and Path(a).samefile(b)


ANSWERS = (".csv", ".tsv", ".jsonl")
VECTORS = (".npy", ".safetensors")


def _check_file(name: str, known: tuple[str, ...], option: str) -> None:
    """Refuses, before any work, a file that cannot be written in the end."""
    if name == "-":
        return
    if Path(name).suffix not in known:
        raise ValueError(f"{option} {name}: the file must end in {' or '.join(known)}.")
    if not Path(name).parent.is_dir() or Path(name).is_dir():
        raise ValueError(f"{option} {name}: must be a file in a folder that is there. Make the folder, or change it.")


def _recipe(path: Path) -> Recipe:
    """The recipe of the run that ``path`` is, or is a part of."""
    for folder in (path, path.resolve().parent):
        if (folder / "recipe.yaml").is_file():
            return recipes.load(str(folder / "recipe.yaml"))
    raise FileNotFoundError(
        f"{path}: no recipe.yaml here or one folder up, so columns are unknown. Give a run's folder."
    )


def _read(predictor: Predictor, recipe: Recipe, task: str, file: str, console: Console, *, labelled: bool) -> Dataset:
    """The rows of a file with the columns that the recipe names, relative to the current folder."""
    chosen = predictor._task(task)
    if task not in recipe.tasks:
        raise ValueError(f"task {task}: the recipe of this run does not have it, so its columns are unknown.")
    columns = recipe.tasks[task].columns
    if file != "-":
        table = sources.read(Source(path=file), columns, Path(), texts=chosen.texts, labelled=labelled)
    else:
        if sys.stdin is None:
            raise ValueError("--input -: standard input is closed. Give a file.")
        content = sys.stdin.buffer.read().removeprefix(sources.BOM)
        with tempfile.TemporaryDirectory() as folder:
            name = "standard-input.jsonl" if content.lstrip().startswith(b"{") else "standard-input.csv"
            (Path(folder) / name).write_bytes(content)
            table = sources.read(Source(path=name), columns, Path(folder), texts=chosen.texts, labelled=labelled)
    for warning in table.warnings:
        warn(console, warning)
    return predictor._tokens(chosen, sources.examples(table, chosen))


def _told(answer: Mapping[str, Any]) -> str:
    return "  ".join(f"{key} {value:.4f}" if isinstance(value, float) else str(value) for key, value in answer.items())


def _write_answers(answers: Iterable[Mapping[str, Any]], task: Task, output: str) -> None:
    """Writes one line per answer; a file appears only when it is whole."""
    rows = list(answers)

    def write(file: Any) -> None:
        if output.endswith(".jsonl"):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        names = list(rows[0]) if rows else ["id"]
        writer = csv.DictWriter(file, names, delimiter="\t" if output.endswith(".tsv") else ",", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

    if output == "-":
        write(sys.stdout)
        return
    path = Path(output)
    unfinished = path.with_name(f".{path.name}.new")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        write(file)
    unfinished.replace(path)


def _write_vectors(vectors: npt.NDArray[np.float32], path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, vectors)
    else:
        save_file({"vectors": vectors}, path)
