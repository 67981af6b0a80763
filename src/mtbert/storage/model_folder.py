"""Model folders: a plain Hugging Face encoder folder with the tasks and their heads beside it.

``transformers.AutoModel`` reads the encoder. ``mtbert.json`` holds the tasks, ``heads.safetensors`` the weights of
their heads, and ``adapters.safetensors`` those of their adapters, where they have any. A folder holds what predicts:
averaged weights, and low-rank changes merged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from mtbert import files
from mtbert.data.tokenizer import load_tokenizer
from mtbert.messages import few
from mtbert.model.encoder import Encoder
from mtbert.model.lora import merged
from mtbert.model.model import Model
from mtbert.model.stored import check_finite
from mtbert.model.weights import load_encoder, save_encoder
from mtbert.storage.card import FORMAT, Card, read_card
from mtbert.storage.tensors import COPY_AGAIN, read_tensors, save_tensors


def find_model_folder(path: Path) -> Path | None:
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
    folder = find_model_folder(path)
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
            f"{COPY_AGAIN}"
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
                    f"{file}: the {what} of task {name} must have {_shapes(expected)}, found {_shapes(found)}. "
                    f"{COPY_AGAIN}"
                )
            check_finite(file, {prefix + key: tensor for key, tensor in saved.items()}, COPY_AGAIN)
            part.to_empty(device="cpu").load_state_dict(saved)  # it may have shapes alone until here
        unclaimed += tensors
    return unclaimed


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return few([f"{name} {list(shape)}" for name, shape in shapes.items()], most=4) if shapes else "nothing"
