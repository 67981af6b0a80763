"""Model folders and run state on disk: JSON, safetensors and tokenizer files, never anything executable.

A model folder is a plain Hugging Face encoder folder (``transformers.AutoModel`` reads it) with two
files beside it: ``mtbert.json`` (the tasks) and ``heads.safetensors``; a third, ``adapters.safetensors``, where
tasks have adapters. It holds what predicts: averaged weights, and low-rank changes merged. ``last/`` of a run holds
the run's state too, with the weights that train where they differ. ``predictions.safetensors`` holds what the saved
weights answer on dev, where dev was scored with them.

Dimension key: B examples, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from mtbert import files, metrics
from mtbert.data.tokenizer import load_tokenizer
from mtbert.messages import few, reason, shown
from mtbert.model.encoder import Encoder
from mtbert.model.lora import merged
from mtbert.model.model import Model
from mtbert.model.pal import Pal
from mtbert.model.stored import check_finite
from mtbert.model.weights import load_encoder, save_encoder
from mtbert.settings import Settings
from mtbert.task import Pooling, Task

REPAIR = "Train or copy the run again."
PREDICTIONS = "predictions.safetensors"
FORMAT = 1  # of mtbert.json; another number is refused


class Card(Settings):
    """The content of ``mtbert.json``: all that a model needs beyond its encoder and the weights of its heads."""

    format: int
    pooling: Pooling
    max_length: int = Field(ge=1, le=2**20)
    tasks: dict[str, Task] = Field(max_length=1000)
    pal: Pal | None = None
    step: int | None = Field(default=None, ge=0)  # optimizer steps that made it; null in older folders

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if not self.tasks and self.format == FORMAT:
            raise ValueError("tasks: there is none")
        for name, task in self.tasks.items():
            if task.name != name:
                raise ValueError(f"tasks: {shown(name)} has the name {shown(task.name)}")
            if task.is_class and task.labels is None:
                raise ValueError(f"tasks: {shown(name)} has no labels")
        unknown = set((self.pal and self.pal.tasks) or ()) - set(self.tasks)
        if unknown:
            raise ValueError(f"pal.tasks: there is no task {shown(min(unknown))}")
        return self


@dataclass(frozen=True)
class Predicted:
    """A model's predictions for one data set, in the order of its examples.

    ``raw`` is ``[B, K]`` logits, or ``[B]``: one logit, score or cosine, float32. ``decided`` is ``[B]``: class indices
    as int64, or scores mapped to 0..1, as float64.
    """

    raw: Tensor
    decided: Tensor

    def read_by(self, metric: str) -> npt.NDArray[Any]:
        """Returns what a metric reads, ``[B]``: raw logits or cosines where it ranks examples, else what is decided."""
        return (self.raw if metric in metrics.OF_RANKS else self.decided).numpy()


def model_folder(path: Path) -> Path | None:
    """The model folder at ``path``: itself, or the best (else the last) of a run; ``None`` if there is none."""
    if (path / "mtbert.json").is_file():
        return path
    for name in ("best", "last"):
        found = files.find_folder(path / name)
        if found is not None:
            return found
    return None


def save_model(model: Model, tokenizer: Tokenizer, folder: Path, step: int | None = None) -> None:
    """Writes a model folder's files into ``folder``; ``step`` is the number of optimizer steps that made the model."""
    save_encoder(merged(model.encoder), folder)
    save_tensors(model.heads.state_dict(), folder / "heads.safetensors")
    if model.pal is not None:
        save_tensors(model.adapters.state_dict(), folder / "adapters.safetensors")
    # Not by its own save, whose error of a full disk has no number.
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    card = Card(
        format=FORMAT,
        pooling=model.pooling,
        max_length=model.max_length,
        tasks=model.tasks,
        pal=model.pal,
        step=step,
    )
    (folder / "mtbert.json").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Loaded:
    """A model from disk with its tokenizer, the folder that it is from, and the optimizer steps that made it."""

    model: Model
    tokenizer: Tokenizer
    folder: Path
    step: int | None  # None where the folder does not say


def load_model(path: Path) -> Loaded:
    """Returns the model of a run or a model folder, on the CPU in float32.

    Raises:
        FileNotFoundError: If there is no model at ``path``.
        ValueError: If a file of it cannot be read; the message names the file.
    """
    folder = model_folder(path)
    if folder is None:
        raise FileNotFoundError(f"{path}: no trained model here (no mtbert.json, best/ or last/). Give a run's folder.")
    card = read_card(folder)
    encoder = load_encoder(str(folder)).encoder
    if not 0 < card.max_length <= encoder.config.max_length:
        raise ValueError(f"{folder / 'mtbert.json'}: max_length must be 1 to {encoder.config.max_length}.")
    model = Model(encoder, card.tasks, pooling=card.pooling, max_length=card.max_length, seed=None, adapters=card.pal)
    unclaimed = load_tasks(model, folder, list(card.tasks))
    if unclaimed:
        raise ValueError(
            f"{folder / 'mtbert.json'}: no task reads the saved {unclaimed[0]}, so this file is not of this model. "
            f"{REPAIR}"
        )
    return Loaded(model, matching_tokenizer(folder, encoder), folder, card.step)


def matching_tokenizer(folder: Path, encoder: Encoder) -> Tokenizer:
    """The tokenizer of ``folder``.

    Raises:
        ValueError: If it gives ids that ``encoder`` has no embedding for.
    """
    tokenizer = load_tokenizer(folder)
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= encoder.config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer gives ids up to {highest}, but the encoder has {encoder.config.vocab_size} "
            "embeddings. Copy the tokenizer's files that belong to these weights."
        )
    return tokenizer


def read_card(folder: Path) -> Card:
    """The validated ``mtbert.json`` of a model folder."""
    file = folder / "mtbert.json"
    card = files.read_settings(file, Card, REPAIR)
    if card.format != FORMAT:
        raise ValueError(f"{file}: format {card.format}; this version reads {FORMAT}. Use the mtbert that wrote it.")
    return card


def check_card(model: Model, folder: Path) -> None:
    """Raises ValueError, which names ``mtbert.json``, unless the model in ``folder`` has the settings of ``model``."""
    card = read_card(folder)
    for name in ("pooling", "max_length", "tasks", "pal"):
        if getattr(card, name) != getattr(model, name):
            raise ValueError(f"{folder / 'mtbert.json'}: not of this run, which has another {name}. {REPAIR}")


def load_tasks(model: Model, folder: Path, names: Sequence[str]) -> list[str]:
    """Gives the heads and adapters of the tasks ``names`` the weights saved in ``folder``.

    Returns the names of the saved tensors that are of none of these tasks.
    """
    unclaimed: list[str] = []
    for parts, what, file in (
        (model.heads, "head", folder / "heads.safetensors"),
        (model.adapters, "adapter", folder / "adapters.safetensors"),
    ):
        wanted = {name: parts[f"for_{name}"] for name in names if f"for_{name}" in parts}
        tensors = read_tensors(file) if wanted or file.exists() else {}
        for name, part in wanted.items():
            prefix = f"for_{name}."
            saved = {k.removeprefix(prefix): tensors.pop(k) for k in list(tensors) if k.startswith(prefix)}
            expected = {k: tuple(v.shape) for k, v in part.state_dict().items()}
            found = {k: tuple(v.shape) for k, v in saved.items()}
            if expected != found:
                raise ValueError(
                    f"{file}: the {what} of task {name} must have {_shapes(expected)}, found {_shapes(found)}. {REPAIR}"
                )
            check_finite(file, {prefix + key: tensor for key, tensor in saved.items()}, REPAIR)
            part.to_empty(device="cpu").load_state_dict(saved)  # it may have shapes alone until here
        unclaimed += tensors
    return unclaimed


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return few([f"{name} {list(shape)}" for name, shape in shapes.items()], most=4) if shapes else "nothing"


def save_predictions(predicted: Mapping[str, Predicted], folder: Path) -> None:
    """Writes each task's predictions on dev into ``folder``."""
    tensors = {f"{name}.raw": p.raw for name, p in predicted.items()}
    save_tensors(tensors | {f"{name}.decided": p.decided for name, p in predicted.items()}, folder / PREDICTIONS)


def load_predictions(folder: Path) -> dict[str, Predicted]:
    """Each task's predictions on dev, as :func:`save_predictions` wrote them.

    Raises:
        ValueError, FileNotFoundError: If there are none, or they are damaged; the message names the file.
    """
    tensors = read_tensors(folder / PREDICTIONS)
    names = dict.fromkeys(key.rpartition(".")[0] for key in tensors)
    try:
        return {name: Predicted(tensors[f"{name}.raw"], tensors[f"{name}.decided"]) for name in names}
    except KeyError as error:
        raise ValueError(f"{folder / PREDICTIONS}: has no {error}. {REPAIR}") from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU."""
    files.check_safetensors(file, REPAIR)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged or half-written ({reason(error)}). {REPAIR}") from None
    except OSError as error:
        why = error.strerror or reason(error)
        raise ValueError(f"{file}: cannot be read ({why}). {REPAIR}") from None


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Writes a safetensors file."""
    with files.naming(file):
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
