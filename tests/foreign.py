"""Foreign model folders with faults, and checks of the messages that refuse them."""

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
    """Changes keys of a JSON file; a value of None removes its key."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def retensor(folder: Path, change: Callable) -> None:
    """Replaces a folder's tensors by the result of calling ``change`` with them."""
    file = folder / "model.safetensors"
    save_file({name: t.contiguous() for name, t in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def replace_by(file: Path, kind: str) -> None:
    """Replaces ``file`` by something that is not a regular file: one of ``NO_FILES``."""
    file.unlink(missing_ok=True)
    if kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")


def refused(error: type[Exception], path: Path | str, *parts: str, load: Callable = load_encoder) -> None:
    """Checks that loading ``path`` raises an error whose message is one line that contains ``parts``."""
    with pytest.raises(error) as caught:
        load(str(path) if load is load_encoder else path)
    one_line(caught.value, *parts)


def one_line(error: BaseException, *parts: str) -> None:
    """Checks that the message of ``error`` is one line of moderate length that contains ``parts``."""
    message = str(error)
    assert clean(message) == message, message
    assert len(message) < 1000, message
    for part in parts:
        assert part in message
