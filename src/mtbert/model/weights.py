"""Loads and saves encoders in folders with the Hugging Face layout: ``config.json`` beside the weights.

The names of the weights in a checkpoint are defined by the encoder's family: see :mod:`mtbert.model.families`.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file
from torch import Tensor

from mtbert.data.vocab_files import FETCH
from mtbert.messages import count, few, shown
from mtbert.model.config import read_config
from mtbert.model.download import find_encoder
from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.model.families.known import FAMILIES
from mtbert.model.stored import FLOATS, check_finite, stored
from mtbert.model.unfilled import unfilled
from mtbert.progress_bar import progress_of


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder, the folder that it was loaded from, and the weight names in which the two differ.

    ``missing`` are weights of the encoder that the folder lacks; these can only be weights of the pooler.
    ``unexpected`` are tensors in the folder that the encoder does not use, such as heads of pre-training.
    """

    encoder: Encoder
    folder: Path
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_encoder(path: str, *, dropout: float | None = None) -> LoadedEncoder:
    """Returns the encoder at ``path``, in float32 on the CPU.

    All shapes are checked against the config before any values are read.

    Args:
        path: A local folder, a hub id (``org/name``), or ``demo``.
        dropout: Replaces all dropout rates of the config; None keeps them.

    Raises:
        FileNotFoundError: If no such folder or hub id exists, or if the folder lacks a file.
        ValueError: If a file does not fit an encoder of a known family; the message names the file.
    """
    folder = find_encoder(path, read_config)
    config = read_config(folder / "config.json")
    if dropout is not None:
        config = replace(config, hidden_dropout=dropout, attention_dropout=dropout, embedding_dropout=None)
    with progress_of(f"loading the weights of {path}"):
        return _filled(folder, config)


def _filled(folder: Path, config: EncoderConfig) -> LoadedEncoder:
    """Returns an encoder of the given config, with the weights in ``folder``."""
    encoder = unfilled(config)
    needed = sum(p.numel() for p in encoder.behind(pooled=False))
    prefixes = FAMILIES[config.family].prefixes
    tensors = {_modern(name, prefixes): tensor for name, tensor in stored(folder, needed).items()}
    known = set(encoder_state(encoder))
    missing = tuple(sorted(known - set(tensors)))
    unexpected = tuple(sorted(n for n in set(tensors) - known if not n.endswith(("position_ids", "token_type_ids"))))
    _check_missing(folder, config, known, missing, unexpected, len(tensors))
    if missing:
        encoder = unfilled(replace(config, pooler=False))
    for name, expected in encoder_state(encoder).items():
        found = tensors[name]
        if found.shape != expected.shape:
            raise ValueError(
                f"{folder}: {name} must have shape {list(expected.shape)} by config.json, "
                f"found {shown(list(found.shape))}. Give a folder whose config.json belongs to its weights."
            )
        if found.dtype not in FLOATS:
            raise ValueError(
                f"{folder}: {name} must have numbers of one of {', '.join(FLOATS)}, found {shown(found.dtype)}. "
                "Give weights that are not quantized."
            )
    most = psutil.virtual_memory().total
    if 4 * needed > most:
        raise ValueError(
            f"{folder}: the weights take {4 * needed / 2**30:,.0f} GiB of memory, and this machine has "
            f"{most / 2**30:,.0f}. Choose a smaller encoder."
        )
    names = encoder_names(encoder.config).items()
    # cat copies, so that no parameter remains a view of a mapped file.
    state = {ours: torch.cat([tensors[name].read() for name in theirs]).float() for ours, theirs in names}
    try:
        check_finite(folder, state, FETCH)
    except ValueError:  # the weight has another name in its file, which the message should give
        for name in encoder_state(encoder):
            check_finite(tensors[name].file, {name: tensors[name].read().float()}, FETCH)
        raise
    encoder.load_state_dict(state, assign=True)
    return LoadedEncoder(encoder, folder, missing, unexpected)


def _check_missing(
    folder: Path,
    config: EncoderConfig,
    known: Collection[str],
    missing: Collection[str],
    unexpected: Collection[str],
    tensors: int,
) -> None:
    """Raises a ValueError if any of the ``missing`` weights does not belong to the pooler."""
    kind = config.source["model_type"]
    if len(missing) == len(known):
        raise ValueError(
            f"{folder}: no weight of a {kind} encoder among {count(tensors, 'tensor')}, "
            f"found {few(unexpected, most=3)}. Give a folder whose config.json belongs to its weights."
        )
    vital = {name for theirs in encoder_names(replace(config, pooler=False)).values() for name in theirs}
    lost = [name for name in missing if name in vital]
    if lost:
        raise ValueError(
            f"{folder}: {count(len(lost), 'weight')} of a {kind} encoder are missing: {few(lost, most=3)}. "
            "Give a folder whose config.json belongs to its weights, or fetch the model again."
        )


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Writes ``config.json`` and ``model.safetensors`` into ``folder``.

    Both ``transformers.AutoModel`` and :func:`load_encoder` can read them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous().cpu() for name, tensor in encoder_state(encoder).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hf_config(encoder), indent=2) + "\n", encoding="utf-8")


def encoder_state(encoder: Encoder) -> dict[str, Tensor]:
    """Returns the encoder's weights, keyed by their Hugging Face names.

    The names do not contain the prefix of the family, such as ``bert.``.
    """
    ours = encoder.state_dict()
    return {
        name: part
        for key, theirs in encoder_names(encoder.config).items()
        for name, part in zip(theirs, ours[key].chunk(len(theirs)), strict=True)
    }


def hf_config(encoder: Encoder) -> dict[str, Any]:
    """Returns the content of the ``config.json`` that is saved with the encoder.

    This is the content from which the encoder was built, with two changes: ``architectures`` names the class without a
    head, and ``dtype`` is the current dtype.
    """
    source = dict(encoder.config.source)
    source.pop("torch_dtype", None)
    dtype = str(encoder.word_embedding.weight.dtype).removeprefix("torch.")
    return source | {"architectures": [FAMILIES[encoder.config.family].types[source["model_type"]]], "dtype": dtype}


def encoder_names(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    """Returns a dict from each parameter of an encoder to the names of its tensors in a Hugging Face checkpoint.

    If a parameter has several tensors there, they are stacked in the order of the names.
    """
    names = FAMILIES[config.family].names
    return {name: tuple(_theirs(name, names)) for name in unfilled(config).state_dict()}


def _theirs(name: str, names: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    module, _, suffix = name.rpartition(".")
    number = re.match(r"layers\.(\d+)\.", module)
    if number is None:
        return (f"{theirs}.{suffix}" for theirs in names[module])
    return (f"{theirs.format(number[1])}.{suffix}" for theirs in names[f"layers.{{}}.{module[number.end() :]}"])


def _modern(name: str, prefixes: Iterable[str]) -> str:
    """Returns a weight name without the first of ``prefixes`` that it has, and with current names for LayerNorm.

    ``gamma`` becomes ``weight``, and ``beta`` becomes ``bias``.
    """
    name = name.removeprefix(next(filter(name.startswith, prefixes), ""))
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
