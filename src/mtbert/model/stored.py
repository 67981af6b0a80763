"""The names and shapes of the tensors in a model folder, listed before any values are read.

No code from a file is executed. A PyTorch file is a pickle, so it is refused if its size does not fit the encoder, or
if it refers to a class or function that plain tensors do not need.
"""

import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mtbert import files, json_files
from mtbert.data.vocab_files import FETCH
from mtbert.messages import clean, reason, shown
from mtbert.model.download import SAFETENSORS_FILES, TORCH_FILE

FLOATS = ("F64", "F32", "F16", "BF16")  # safetensors' names of the floating-point dtypes
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_LARGEST_PICKLE = 64 * 2**20  # bytes of names and shapes in a PyTorch file; those of 400 tensors take 40,000
# The names that a pickle of plain tensors needs. PyTorch's own list also allows bytearray, which can allocate any
# amount of memory.
_HARMLESS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch (\w+Storage|Size)"
    r"|torch\.nn\.parameter Parameter"
)


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its shape, its dtype, and a function that returns the tensor itself."""

    file: Path
    shape: tuple[int, ...]
    dtype: str  # safetensors' name of the dtype, such as F32
    read: Callable[[], Tensor]  # returns the tensor


def stored(folder: Path, numbers: int) -> dict[str, Stored]:
    """Returns the tensors in ``folder``, keyed by their names in the weight files.

    Args:
        folder: A folder that holds the weights as ``model.safetensors``, as several shards with an index, or as
            ``pytorch_model.bin``.
        numbers: The number of parameters of the encoder. It limits the size of a PyTorch file, which is always loaded
            whole.

    Raises:
        FileNotFoundError: If the folder has no weights.
        ValueError: If a file cannot be read; the message names the file.
    """
    whole, index, torch_file = (folder / name for name in (*SAFETENSORS_FILES[:2], TORCH_FILE))
    if os.path.lexists(whole):
        return _safetensors(whole)
    if os.path.lexists(index):
        return {name: tensor for shard in _shards(index) for name, tensor in _safetensors(folder / shard).items()}
    if os.path.lexists(torch_file):
        return _torch(torch_file, numbers)
    raise FileNotFoundError(f"{folder}: no model.safetensors and no {TORCH_FILE}. Give the folder of a whole model.")


def check_finite(file: Path, tensors: Mapping[str, Tensor], repair: str) -> None:
    """Checks that all numbers in ``tensors`` are finite.

    Raises:
        ValueError: If a number is nan or infinite. The message names ``file`` and the tensor, and ends with the value
            of ``repair``, a sentence that says what to do.
    """
    for name, tensor in tensors.items():
        # A sum takes a tenth of the time of isfinite, and it is finite only if all numbers are.
        if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            raise ValueError(f"{file}: {clean(name)} has numbers that are nan or infinite. {repair}")


def _safetensors(file: Path) -> dict[str, Stored]:
    files.check_safetensors(file, FETCH)
    try:
        opened: Any = safe_open(file, framework="pt")  # its methods have no type annotations
        parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118, not iterable itself
        return {
            name: Stored(file, tuple(part.get_shape()), part.get_dtype(), partial(opened.get_tensor, name))
            for name, part in parts.items()
        }
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a whole safetensors file ({reason(error)}). {FETCH}") from None


class _Index(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    # Maps the name of each tensor to a file beside the index. The pattern excludes paths to other folders.
    weight_map: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors$")]] = Field(
        min_length=1
    )


def _shards(index: Path) -> list[str]:
    value = json_files.read_json(index, FETCH)
    try:
        return sorted(set(_Index.model_validate(value).weight_map.values()))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{shown(part)}: " for part in first["loc"][1:])
        raise ValueError(
            f"{index}: not an index of weights (weight_map must name files such as model-00001-of-00002.safetensors "
            f"beside it, found {where}{shown(first['input'])}). {FETCH}"
        ) from None


# PyTorch files ---------------------------------------------------------------------------------------------


def _torch(file: Path, numbers: int) -> dict[str, Stored]:
    files.check_regular(file, FETCH)
    size, most = file.stat().st_size, 4 * 8 * numbers + 2**24  # float64, and heads three times as large as the encoder
    if size > most:
        raise ValueError(
            f"{file}: has {size:,} bytes, but by config.json the weights take at most {most:,}. "
            "Give a folder whose config.json belongs to its weights."
        )
    try:
        _look_through(file, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of old formats; a failure must remain a one-line message
            state = torch.load(file, map_location="cpu", weights_only=True)
        return {_text(name): _plain(file, name, tensor) for name, tensor in _items(state) if isinstance(tensor, Tensor)}
    except Exception as error:  # the unpickler raises exceptions of many types
        raise ValueError(f"{file}: not a file of plain tensors ({reason(error)}). Use model.safetensors.") from None


def _look_through(file: Path, size: int) -> None:
    """Raises a ValueError if a PyTorch file is not safe to load.

    The content of a safe file is no larger after unpacking than the file itself, and refers only to classes and
    functions that plain tensors need.
    """
    with file.open("rb") as opened:
        if opened.read(4) != b"PK\x03\x04":  # torch itself distinguishes its two formats in this way
            opened.seek(0)
            for _ in range(5):  # the old format has five pickles: magic number, version, machine, tensors, storages
                _check_names(opened)
            return
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > size:
            raise ValueError(f"unpacks to {unpacked:,} bytes, more than its own {size:,}")
        for member in members:
            if member.filename.endswith(".pkl"):
                if member.file_size > _LARGEST_PICKLE:
                    raise ValueError(f"its names take {member.file_size:,} bytes, at most {_LARGEST_PICKLE:,} are read")
                with archive.open(member) as opened:
                    _check_names(opened)


def _check_names(pickle: Any) -> None:
    for operation, argument, _ in pickletools.genops(pickle):
        named = operation.name in ("GLOBAL", "INST", "STACK_GLOBAL")
        if named and not (isinstance(argument, str) and _HARMLESS.fullmatch(argument)):
            raise ValueError(f"names {shown(argument)}, which no plain tensor needs")


def _items(state: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(state, dict):
        raise ValueError(f"a {type(state).__name__}")
    yield from state.items()


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"a tensor's name is {shown(name)}, not a text")
    return name


def _plain(file: Path, name: Any, tensor: Tensor) -> Stored:
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise ValueError(f"{shown(name)} is not a plain tensor")
    return Stored(file, tuple(tensor.shape), _DTYPES.get(tensor.dtype, str(tensor.dtype)), lambda: tensor.detach())
