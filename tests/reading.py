"""Helpers of the tests that read tables."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mtbert.data import kept_table
from mtbert.data.cache import Kept, Spool
from mtbert.data.source_table import SourceTable
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


def table_kept(table: SourceTable) -> Kept:
    """Returns the arrays that the cache keeps of a table, as they are read from it."""
    with Spool() as spool:
        kept_table.keep_table(table, spool)
        found = spool.kept()
    return Kept(dict(found.arrays), dict.fromkeys(found.arrays, "d"), json.loads(json.dumps(found.notes)))
