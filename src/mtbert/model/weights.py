"""Encoders from and to folders in the Hugging Face layout: config.json beside the weights."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file
from torch import Tensor

from mtbert.messages import count, few, shown
from mtbert.model.config import FETCH, MODEL_TYPES, read_config
from mtbert.model.encoder import Encoder, EncoderConfig, Family
from mtbert.model.hub import find_folder
from mtbert.model.stored import FLOATS, check_finite, stored

PREFIX = re.compile(r"^(bert|roberta|electra|distilbert)\.")

# Our module: its name in a checkpoint; query, key and value become one.
_BERT = {
    "word_embedding": ("embeddings.word_embeddings",),
    "position_embedding": ("embeddings.position_embeddings",),
    "segment_embedding": ("embeddings.token_type_embeddings",),
    "embedding_norm": ("embeddings.LayerNorm",),
    "embedding_projection": ("embeddings_project",),
    "pooler": ("pooler.dense",),
}
_BERT_LAYER = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_output": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "intermediate": ("intermediate.dense",),
    "output": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}
_DISTILBERT_LAYER = {
    "qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention_output": ("attention.out_lin",),
    "attention_norm": ("sa_layer_norm",),
    "intermediate": ("ffn.lin1",),
    "output": ("ffn.lin2",),
    "output_norm": ("output_layer_norm",),
}


@dataclass(frozen=True)
class Loaded:
    """An encoder, the folder it came from, and the names that did not match between the two.

    ``missing`` can only name the pooler; ``unexpected`` are tensors without a place in an encoder, such
    as the heads of pre-training.
    """

    encoder: Encoder
    folder: Path
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_encoder(path: str, *, dropout: float | None = None) -> Loaded:
    """Returns the encoder at ``path``: a folder, a hub id (``org/name``), or ``demo``; float32, on the CPU.

    Shapes are compared with those of its config before any number is read. ``dropout`` replaces both rates of its
    config.

    Raises:
        FileNotFoundError: If there is no such folder or hub id, or a file is missing in it.
        ValueError: If the files are not those of a supported encoder; the message names the file.
    """
    folder = find_folder(path)
    config = read_config(folder / "config.json")
    if dropout is not None:
        config = replace(config, hidden_dropout=dropout, attention_dropout=dropout)
    encoder = _unfilled(config)
    needed = sum(p.numel() for name, p in encoder.named_parameters() if not name.startswith("pooler."))
    tensors = {_modern(name): tensor for name, tensor in stored(folder, needed).items()}
    known = set(encoder_state(encoder))
    missing = tuple(sorted(known - set(tensors)))
    unexpected = tuple(sorted(n for n in set(tensors) - known if not n.endswith(("position_ids", "token_type_ids"))))
    _check_missing(folder, config, known, missing, unexpected, len(tensors))
    if missing:
        encoder = _unfilled(replace(config, pooler=False))
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
    # cat copies, so that no parameter stays a view of a mapped file.
    state = {ours: torch.cat([tensors[name].read() for name in theirs]).float() for ours, theirs in names}
    try:
        check_finite(folder, state, FETCH)
    except ValueError:  # in the file it has another name
        for name in encoder_state(encoder):
            check_finite(tensors[name].file, {name: tensors[name].read().float()}, FETCH)
        raise
    encoder.load_state_dict(state, assign=True)
    return Loaded(encoder, folder, missing, unexpected)


def _unfilled(config: EncoderConfig) -> Encoder:
    """Returns an encoder without numbers: no time, memory, or global random number is spent on them."""
    with torch.device("meta"):
        return Encoder(config)


def _check_missing(
    folder: Path,
    config: EncoderConfig,
    known: Collection[str],
    missing: Collection[str],
    unexpected: Collection[str],
    tensors: int,
) -> None:
    """Raises ValueError if more than the pooler is missing."""
    kind = config.source["model_type"]
    if len(missing) == len(known):
        raise ValueError(
            f"{folder}: no weight of a {kind} encoder among {count(tensors, 'tensor')}, "
            f"found {few(unexpected, most=3)}. Give a folder whose config.json belongs to its weights."
        )
    lost = [name for name in missing if not name.startswith("pooler.")]
    if lost:
        raise ValueError(
            f"{folder}: {count(len(lost), 'weight')} of a {kind} encoder are missing: {few(lost, most=3)}. "
            "Give a folder whose config.json belongs to its weights, or fetch the model again."
        )


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Writes config.json and model.safetensors, which ``transformers.AutoModel`` and :func:`load_encoder` read."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous().cpu() for name, tensor in encoder_state(encoder).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hf_config(encoder), indent=2) + "\n", encoding="utf-8")


def encoder_state(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's weights under their Hugging Face names, without the prefix of the base model."""
    ours = encoder.state_dict()
    return {
        name: part
        for key, theirs in encoder_names(encoder.config).items()
        for name, part in zip(theirs, ours[key].chunk(len(theirs)), strict=True)
    }


def hf_config(encoder: Encoder) -> dict[str, Any]:
    """The config.json the encoder was read from, naming the bare model and today's type of number."""
    source = dict(encoder.config.source)
    source.pop("torch_dtype", None)
    dtype = str(encoder.word_embedding.weight.dtype).removeprefix("torch.")
    return source | {"architectures": [MODEL_TYPES[source["model_type"]][1]], "dtype": dtype}


def encoder_names(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    """Our parameter names and those of a checkpoint, which are stacked in this order: the whole mapping."""
    return {name: tuple(_theirs(name, config.family)) for name in _unfilled(config).state_dict()}


def _theirs(name: str, family: Family) -> Iterator[str]:
    module, _, suffix = name.rpartition(".")
    if module.startswith("layers."):
        _, layer, module = module.split(".")
        table, stack = (_DISTILBERT_LAYER, "transformer") if family == "distilbert" else (_BERT_LAYER, "encoder")
        return (f"{stack}.layer.{layer}.{theirs}.{suffix}" for theirs in table[module])
    return (f"{theirs}.{suffix}" for theirs in _BERT[module])


def _modern(name: str) -> str:
    """A checkpoint's name without its prefix, and with LayerNorm's parameters as they are called today."""
    name = PREFIX.sub("", name)
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
