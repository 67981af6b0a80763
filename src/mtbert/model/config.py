"""The architecture of an encoder, read from the ``config.json`` of a Hugging Face model folder.

Each encoder family defines which keys and values are valid.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from mtbert.data.vocab_files import FETCH
from mtbert.json_files import read_json
from mtbert.messages import clean, near, shown
from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import Config
from mtbert.model.families.known import FAMILIES

LARGEST = 16 * 2**20  # bytes of a config.json; a file with 20,000 class names has about one MiB


def read_config(file: Path) -> EncoderConfig:
    """Returns the architecture of the encoder that a ``config.json`` describes.

    Optional keys that are missing get the defaults of transformers. ``EncoderConfig.source`` keeps the whole content of
    the file, so that saving the encoder loses no key.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file does not describe an encoder of a known family.
    """
    return parse_config(
        read_json(file, "Give the folder of a model with a whole config.json beside its weights.", LARGEST), file
    )


def parse_config(source: Any, file: Path) -> EncoderConfig:
    """Returns the architecture of an encoder from ``source``, the content of its ``config.json``.

    Raises:
        ValueError: If ``source`` does not describe an encoder of a known family. The message names ``file``.
    """
    if not isinstance(source, dict):
        raise ValueError(f"{file}: must hold an object, found {type(source).__name__}. {FETCH}")
    kind = source.get("model_type")
    family = next((f for f in FAMILIES.values() if isinstance(kind, str) and kind in f.types), None)
    if family is None:
        known = [name for f in FAMILIES.values() for name in f.types]
        raise ValueError(
            f"{file}: model_type must be one of {', '.join(known)}, found {shown(kind)}."
            f"{near(kind, known) if isinstance(kind, str) else ''} Choose an encoder of these families."
        )
    try:
        settings = family.config.model_validate(source)
    except ValidationError as error:
        raise ValueError(f"{file}: {_first(error, family.config, source)}") from None
    _check_fixed(file, source, family.fixed(settings), family.config)
    config = replace(family.encoder(settings), source=source)
    if config.max_length < 1:
        raise ValueError(
            f"{file}: max_position_embeddings must be more than {config.position_offset}, the first position, "
            f"found {settings.max_position_embeddings}. {FETCH}"
        )
    if config.width % config.heads:
        raise ValueError(f"{file}: {config.heads} heads do not divide width {config.width}. {FETCH}")
    with torch.device("meta"):  # which costs no memory
        rotary = config.layer(config, 0).attention.rotary
    if rotary is not None and config.width // config.heads % 2:
        raise ValueError(
            f"{file}: rotary positions need heads of an even width, found {config.heads} heads in width "
            f"{config.width}. {FETCH}"
        )
    return config


def _check_fixed(file: Path, source: Mapping[str, Any], fixed: Mapping[str, Any], kind: type[Config]) -> None:
    """Raises ValueError if ``source``, the content of a ``config.json``, has a value that mtbert does not support.

    If ``source`` has a key that ``fixed`` has too, the value in ``source`` must be null or the value in ``fixed``. Any
    other key in ``source`` that is about rotary positions must be a field of ``kind``, or have the value null or false.
    """
    for key, value in source.items():
        other = key not in kind.model_fields and not {"rope", "rotary"}.isdisjoint(key.split("_"))
        if (key in fixed or other) and value is not None and value != fixed.get(key, False):
            must = json.dumps(fixed[key]) if key in fixed else "null or false"
            repair = f"Choose another {source['model_type']} encoder."
            raise ValueError(f"{file}: {clean(key)} must be {must}, found {shown(value)}. {repair}")


def _first(error: ValidationError, kind: type[Config], source: Mapping[str, Any]) -> str:
    """Returns a message about the first validation error, in the form ``KEY must be A, found B. REPAIR``."""
    key = str(error.errors(include_url=False)[0]["loc"][0])
    found = shown(source[key]) if key in source else "nothing"
    setting: Any = kind.model_fields[key]
    return f"{key} must be {setting.description}, found {found}. {setting.json_schema_extra['repair']}"
