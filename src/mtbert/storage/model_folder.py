"""Model folders: an encoder folder that Hugging Face's ``transformers.AutoModel`` can read, plus tasks and heads.

``mtbert.json`` holds the tasks, and ``heads.safetensors`` holds the weights of their heads. If tasks have adapters,
``adapters.safetensors`` holds the weights of the adapters. If each task has its own top layers, these are in
``tops.safetensors``, and the top layers in the encoder folder still have the weights from before training. A model
folder is ready for prediction: weights are averaged if the run averages them, and LoRA is merged into the encoder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from mtbert import files
from mtbert.advice import see
from mtbert.answers.fitting import FittedName, check_fitted, start
from mtbert.data.tokenizer import load_tokenizer
from mtbert.json_files import write_settings
from mtbert.messages import few
from mtbert.model.encoder import Encoder
from mtbert.model.lora import merged
from mtbert.model.model import Model
from mtbert.model.stored import check_finite
from mtbert.model.weights import load_encoder, save_encoder
from mtbert.storage.card import FORMAT, Card, read_card
from mtbert.storage.tensors import COPY_AGAIN, read_tensors, save_tensors
from mtbert.storage.tokenizer_settings import TOKENIZER_SETTINGS, tokenizer_settings


def find_model_folder(path: Path) -> Path | None:
    """Returns the model folder that ``path`` stands for, or None if there is none.

    The folders ``path``, ``path/best`` and ``path/last`` are tried in this order.
    """
    if (path / "mtbert.json").is_file():
        return path
    for name in ("best", "last"):
        found = files.find_folder(path / name)
        if found is not None:
            return found
    return None


def save_model(model: Model, tokenizer: Tokenizer, folder: Path, step: int | None = None) -> None:
    """Writes the files of a model folder. ``step`` is the number of optimizer steps that the model was trained for."""
    save_encoder(merged(model.encoder), folder)
    save_tensors(model.heads.state_dict(), folder / "heads.safetensors")
    if model.pal is not None:
        save_tensors(model.adapters.state_dict(), folder / "adapters.safetensors")
    if model.unshare:
        save_tensors(model.tops.state_dict(), folder / "tops.safetensors")
    # Tokenizer.save is not used: its error on a full disk has no error number.
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    settings = tokenizer_settings(
        tokenizer, model.encoder.config, model.max_length, model.encoder.config.segment_types > 1
    )
    (folder / TOKENIZER_SETTINGS).write_text(
        json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    card = Card(
        format=FORMAT,
        pooling=model.pooling,
        max_length=model.max_length,
        tasks=model.tasks,
        pal=model.pal,
        fitted={name: tuple(model.fitted(name)) for name in model.tasks},
        unshare=model.unshare,
        step=step,
    )
    write_settings(folder / "mtbert.json", card)


@dataclass(frozen=True)
class LoadedModel:
    """A model that was loaded from disk, with its tokenizer, its folder and its number of training steps."""

    model: Model
    tokenizer: Tokenizer
    folder: Path  # the model folder that it was loaded from
    step: int | None  # optimizer steps that it was trained for; None if the folder does not say


def load_model(path: Path) -> LoadedModel:
    """Returns the model in the folder of a run or in a model folder, on the CPU in float32.

    Raises:
        FileNotFoundError: If there is no model at ``path``.
        ValueError: If a file of the model is damaged or does not fit the other files. The message names the file.
    """
    folder = find_model_folder(path)
    if folder is None:
        raise FileNotFoundError(
            f"{path}: no trained model here (no mtbert.json, best/ or last/). Give a run's folder. {see('run-folder')}"
        )
    card = read_card(folder)
    encoder = load_encoder(str(folder)).encoder
    for name, found, most in (
        ("max_length", card.max_length, encoder.config.max_length),
        ("unshare", card.unshare, encoder.config.layers),
    ):
        if found > most:
            raise ValueError(
                f"{folder / 'mtbert.json'}: {name} must be at most {most} for this encoder, found {found}. {COPY_AGAIN}"
            )
    try:
        model = Model(
            encoder,
            card.tasks,
            pooling=card.pooling,
            max_length=card.max_length,
            seed=None,
            adapters=card.pal,
            fitted=card.fitted_numbers,
            unshare=card.unshare,
        )
    except ValueError as error:  # the encoder lacks what a head needs
        raise ValueError(f"{folder / 'mtbert.json'}: {error}") from None
    unclaimed = load_tasks(model, folder, list(card.tasks), card.saved_numbers)
    if unclaimed:
        raise ValueError(
            f"{folder / 'mtbert.json'}: no task reads the saved {unclaimed[0]}, so this file is not of this model. "
            f"{COPY_AGAIN}"
        )
    return LoadedModel(model, matching_tokenizer(folder, encoder), folder, card.step)


def matching_tokenizer(folder: Path, encoder: Encoder) -> Tokenizer:
    """Returns the tokenizer in ``folder``, and checks that it matches ``encoder``.

    Raises:
        ValueError: If the tokenizer produces ids for which ``encoder`` has no embedding.
    """
    tokenizer = load_tokenizer(folder)
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= encoder.config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer gives ids up to {highest}, but the encoder has {encoder.config.vocab_size} "
            "embeddings. Copy the tokenizer's files that belong to these weights."
        )
    return tokenizer


def load_tasks(
    model: Model,
    folder: Path,
    names: Sequence[str],
    fitted: Mapping[str, Sequence[FittedName]],
    *,
    tops: bool = True,
) -> list[str]:
    """Loads the saved heads, adapters and own top layers of the tasks in ``names`` into ``model``.

    Args:
        model: The model.
        folder: The model folder.
        names: The names of the tasks.
        fitted: For each task, the names of the fitted numbers in its saved head, such as ``threshold``. Those that
            ``model`` lacks are not loaded.
        tops: Whether the saved tasks have their own top layers. If not, the top layers of ``model`` stay as they are.

    Returns:
        The names of the saved tensors that belong to none of these tasks.

    Raises:
        FileNotFoundError, ValueError: If a file is missing or damaged, or if a tensor does not fit. The message names
            the file.
    """
    unclaimed: list[str] = []
    kinds = [
        (model.heads, "head", folder / "heads.safetensors"),
        (model.adapters, "adapter", folder / "adapters.safetensors"),
    ]
    if tops:
        kinds.append((model.tops, "copy of the top layers", folder / "tops.safetensors"))
    for parts, what, file in kinds:
        wanted = {name: parts[f"for_{name}"] for name in names if f"for_{name}" in parts}
        tensors = read_tensors(file) if wanted or file.exists() else {}
        for name, part in wanted.items():
            prefix = f"for_{name}."
            saved = {k.removeprefix(prefix): tensors.pop(k) for k in list(tensors) if k.startswith(prefix)}
            ours = part.state_dict()
            if what == "head":
                numbers = start(fitted[name], model.head(name).shape)
                ours = {k: v for k, v in ours.items() if k not in model.fitted(name)} | numbers
            expected = {k: tuple(v.shape) for k, v in ours.items()}
            found = {k: tuple(v.shape) for k, v in saved.items()}
            if expected != found:
                raise ValueError(
                    f"{file}: the {what} of task {name} must have {_shapes(expected)}, found {_shapes(found)}. "
                    f"{COPY_AGAIN}"
                )
            check_finite(file, {prefix + key: tensor for key, tensor in saved.items()}, COPY_AGAIN)
            if what == "head":
                _check_fitted(file, prefix, saved)
            # Copies, so that no parameter remains a view of a mapped file. They are assigned, because the part may have
            # been on the meta device so far; to_empty would import sympy first, which takes a second.
            state = {key: saved.get(key, value).to(value.dtype, copy=True) for key, value in part.state_dict().items()}
            part.load_state_dict(state, assign=True)
        unclaimed += tensors
    return unclaimed


def _check_fitted(file: Path, prefix: str, saved: Mapping[str, Tensor]) -> None:
    try:
        check_fitted({name: tensor.numpy() for name, tensor in saved.items()})
    except ValueError as error:
        raise ValueError(f"{file}: {prefix}{error} {COPY_AGAIN}") from None


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return few([f"{name} {list(shape)}" for name, shape in shapes.items()], most=4) if shapes else "nothing"
