"""Files of the cache whose digests fit but whose content does not: they are made anew, and nothing else happens."""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_cache
from reading import table_kept
from test_cache import kept, made

from mtbert.cell_columns import CodedColumn
from mtbert.columns import NumberColumn, TextColumn
from mtbert.data import cache, kept_table
from mtbert.data.source_table import SourceTable, readings
from mtbert.data.tables import Columns, TableFile

folder = test_cache.folder
SEAL = 40  # bytes at the end


def forge(file: Path, change: Callable[[Any, bytearray], Any]) -> None:
    """Writes a changed footer, or changed arrays, and every digest anew."""
    content = file.read_bytes()
    length = int.from_bytes(content[-8:], "little")
    body, footer = bytearray(content[: -SEAL - length]), json.loads(content[-SEAL - length : -SEAL])
    found = change(footer, body)
    written = found if isinstance(found, bytes) else json.dumps(footer).encode()
    seal = hashlib.sha256(file.name.encode() + written).digest()
    file.write_bytes(bytes(body) + written + seal + len(written).to_bytes(8, "little"))


def replace(name: str, values: list[int]) -> Callable[[Any, bytearray], None]:
    """Returns a change that puts another array in the place of one of the same type."""

    def change(footer: Any, body: bytearray) -> None:
        dtype = footer["arrays"][name][0]
        block = np.array(values, dtype).tobytes()
        body += bytes(-len(body) % cache.ALIGNED)
        footer["arrays"][name] = [dtype, len(body), len(block), hashlib.sha256(block).hexdigest()]
        body += block

    return change


def entry(at: int, value: object) -> Callable[[Any, bytearray], None]:
    return lambda footer, _: footer["arrays"]["offsets"].__setitem__(at, value)


FOOTERS: dict[str, Callable[[Any, bytearray], Any]] = {
    "no JSON": lambda *_: b"{",
    "a list": lambda *_: b"[]",
    "deep": lambda *_: b"[" * 10**5 + b"]" * 10**5,
    "no arrays": lambda footer, _: footer.pop("arrays") and None,
    "no notes": lambda footer, _: footer.pop("notes") and None,
    "notes in a list": lambda footer, _: footer.update(notes=[]),
    "an array of objects": entry(0, "|O"),
    "a type that is none": entry(0, [["a", "O"]]),
    "another type": entry(0, "|u1"),
    "a place before the file": entry(1, -64),
    "a place behind the file": entry(1, 2**62),
    "a place in words": entry(1, "0"),
    "half a value": entry(2, 3),
    "no digest": lambda footer, _: footer["arrays"]["offsets"].pop() and None,
    "no offsets": lambda footer, _: footer["arrays"].pop("offsets") and None,
}
TOKENS = {
    "offsets that go back": replace("offsets", [0, 12, 6, *range(18, 5994, 6), 5993, 6001]),
    "too few offsets": replace("offsets", [0, 6001]),
    "offsets past the end": replace("offsets", [*range(0, 6000, 6), 6002]),
    "an empty sequence": replace("offsets", [0, 0, *range(12, 6000, 6), 6001]),
    "tokens that are not in the vocabulary": replace("ids", [8] * 6001),
    "a cut row that is not there": replace("cut", [1000]),
    "too few segments": replace("segments", [0]),
    "a third segment": replace("segments", [2] * 6001),
}


@pytest.mark.parametrize("change", [*FOOTERS.values(), *TOKENS.values()], ids=[*FOOTERS, *TOKENS])
def test_tokens_that_cannot_be_are_made_anew(change: Callable[[Any, bytearray], Any], folder: Path):
    expected = made()
    kept()
    (file,) = folder.iterdir()
    content = file.read_bytes()
    forge(file, change)
    assert file.read_bytes() != content
    found = kept()
    for name in ("ids", "segments", "offsets"):
        assert getattr(found[0], name).tolist() == getattr(expected[0], name).tolist()
    assert file.read_bytes() == content


def test_a_footer_that_claims_to_be_larger_than_any_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    kept()
    (file,) = folder.iterdir()
    content = file.read_bytes()
    length = int.from_bytes(content[-8:], "little")
    monkeypatch.setattr(cache, "LARGEST_FOOTER", length - 1)
    inode = file.stat().st_ino
    kept()
    assert file.stat().st_ino != inode  # written anew


COLUMNS = Columns()


def table() -> SourceTable:
    texts = TextColumn.of(["a", "b é", "c"])
    labels = CodedColumn(["x", "y"], np.array([0, 1, 0], np.int32))
    (reading,) = readings([COLUMNS])[2]
    return SourceTable(
        (TableFile("t.csv", "d", "line"),),
        TextColumn.of("123"),
        (texts,),
        (labels,),
        (reading,),
        np.array([2, 5, 6]),
        (3,),
    )


def test_a_table_is_loaded_as_it_was():
    assert kept_table.loaded_table(table_kept(table()), [COLUMNS]).table(0).rows == table().table(0).rows


NOTES: tuple[object, ...] = (None, "x", {}, [[1]], 10**30, 1.5, -1, 3, True)


@pytest.mark.parametrize("note", ["parts", "ids", "ends", "warnings", "lines", "words", "coded", "others"])
def test_notes_of_a_table_that_cannot_be_are_refused(note: str):
    refused = 0
    for value in NOTES:
        found = table_kept(table())
        if value in {"lines": (None, 3)}.get(note, ()):
            continue
        found.notes[note] = value  # type: ignore[index]
        with pytest.raises(ValueError, match=r"."):
            kept_table.loaded_table(found, [COLUMNS])
        refused += 1
    assert refused >= 7
    found = table_kept(table())
    found.notes.pop(note)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=f"{note}"):
        kept_table.loaded_table(found, [COLUMNS])


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("codes 0", np.array([0, 2, 0], np.int32)),
        ("codes 0", np.array([0, -2, 0], np.int32)),
        ("codes 0", np.array([0, 1], np.int32)),
        ("codes 0", np.array([0, 1, 0], np.int64)),
        ("lines", np.array([1, 2])),
        ("ids offsets", np.array([0, 1, 2])),
        ("text 0 offsets", np.array([0, 1, 6])),
        ("text 0 offsets", np.array([0, 5, 1, 6])),
        ("text 0 offsets", np.array([0, 1, 5, 7])),
        ("text 0 offsets", np.array([1, 1, 5, 6])),
        ("text 0 offsets", np.array([0, 1, 5, 6], np.int32)),
        ("labels 0 offsets", np.array([0])),
        ("labels 0 offsets", np.zeros(0, np.int64)),
        ("text 0", np.zeros(5, np.uint8)),
    ],
)
def test_arrays_of_a_table_that_cannot_be_are_refused(name: str, array: Any):
    found = table_kept(table())
    assert name in found.arrays
    found.arrays[name] = array  # type: ignore[index]
    with pytest.raises(ValueError, match=r"."):
        kept_table.loaded_table(found, [COLUMNS])
    found = table_kept(table())
    del found.arrays[name]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=f"^{name}: not an array of"):
        kept_table.loaded_table(found, [COLUMNS])


def test_numbers_that_only_count_are_loaded_too():
    counted = copy.copy(table())
    object.__setattr__(counted, "ids", NumberColumn(np.arange(1, 4)))
    object.__setattr__(counted, "lines", np.arange(2, 5))
    assert kept_table.loaded_table(table_kept(counted), [COLUMNS]).table(0).rows == counted.table(0).rows
