"""Helpers of the tests that read tables."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns

ONE = Columns(text="text")
PAIR = Columns(text=("sentence1", "sentence2"), label="is_duplicate", id="id")


def write(folder: Path, name: str, content: str | bytes) -> Source:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Source(path=name)


def message(error: type[Exception], call: Callable[..., object], *args: object, **kwargs: object) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refusal(folder: Path, name: str, content: str | bytes, columns: Columns = ONE, *, labelled: bool = True) -> str:
    source = write(folder, name, content)
    return message(ValueError, read, source, columns, folder, texts=len(columns.text), labelled=labelled)
