"""Folders that somebody else made, and how a refusal of one looks."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mtbert.messages import clean
from mtbert.model.weights import load_encoder

NO_FILES = ("a folder", "a pipe", "a device")


def edit(file: Path, **changes: object) -> None:
    """Changes keys of a JSON file; ``None`` removes one."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def retensor(folder: Path, change: Callable) -> None:
    """Rewrites a folder's tensors as ``change`` of their dictionary."""
    file = folder / "model.safetensors"
    save_file({name: t.contiguous() for name, t in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def replace_by(file: Path, kind: str) -> None:
    """Puts one of ``NO_FILES`` in the place of ``file``."""
    file.unlink(missing_ok=True)
    if kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")


def refused(error: type[Exception], path: Path | str, *parts: str, load: Callable = load_encoder) -> None:
    """Loads what is at ``path``: it must end in one line that holds ``parts``."""
    with pytest.raises(error) as caught:
        load(str(path) if load is load_encoder else path)
    one_line(caught.value, *parts)


def one_line(error: BaseException, *parts: str) -> None:
    """Checks that the message of ``error`` is one line of moderate length that holds ``parts``."""
    message = str(error)
    assert clean(message) == message, message
    assert len(message) < 1000, message
    for part in parts:
        assert part in message
