"""Reading and writing safetensors files, with errors that name the file."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtbert import files
from mtbert.messages import reason

COPY_AGAIN = "Train or copy the run again."


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Returns a dict from the name of each tensor in a safetensors file to the tensor itself, on the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read or is damaged. The message names the file.
    """
    files.check_safetensors(file, COPY_AGAIN)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged or half-written ({reason(error)}). {COPY_AGAIN}") from None
    except OSError as error:
        why = error.strerror or reason(error)
        raise ValueError(f"{file}: cannot be read ({why}). {COPY_AGAIN}") from None


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Writes ``tensors`` into a safetensors file.

    Raises:
        OSError: If the disk fails; the error names the file.
    """
    with files.naming(file):
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
