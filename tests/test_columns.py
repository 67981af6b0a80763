"""Columns return exactly the texts that were put in, and give equal texts equal numbers."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from mtbert import columns
from mtbert.cell_columns import CodedColumn
from mtbert.columns import GrowingColumn, NumberColumn, TextColumn, hashes, numbered

TEXTS = ["", "a", "zwölf", "\U0001f642\u200d", "a\0b", "", "漢字", " outer ", "x" * 2**22, "é" * 2**21, "ß"]


def test_every_text_comes_back_as_it_was_by_number_in_order_and_in_a_slice():
    column = TextColumn.of(TEXTS)
    assert len(column) == 11
    assert list(column) == TEXTS
    assert [column[i] for i in range(-11, 11)] == TEXTS * 2
    assert list(column[2:-2]) == TEXTS[2:-2]
    assert list(column[::-3]) == TEXTS[::-3]
    with pytest.raises(IndexError):
        column[11]


def test_the_block_is_utf8_and_the_offsets_count_its_bytes():
    column = TextColumn.of(["", "zwölf", "🙂", "a"])
    assert bytes(column.block) == b"zw\xc3\xb6lf\xf0\x9f\x99\x82a"
    assert column.starts.tolist() == [0, 0, 6, 10]
    assert column.stops.tolist() == [0, 6, 10, 11]
    assert column.starts.base is column.stops.base  # n + 1 offsets, as Arrow has them


def test_rows_are_taken_in_any_order_and_more_than_once_without_a_copy_of_the_block():
    column = TextColumn.of(TEXTS)
    taken = column.take(np.array([3, 0, 3, 2]))
    assert list(taken) == [TEXTS[3], "", TEXTS[3], "zwölf"]
    assert list(taken.take(np.array([2]))) == [TEXTS[3]]
    assert taken.block is column.block


@pytest.mark.parametrize(
    "size", [columns.ROWS_AT_ONCE - 1, columns.ROWS_AT_ONCE, columns.ROWS_AT_ONCE + 1, 2 * columns.ROWS_AT_ONCE]
)
def test_long_columns_are_whole(size: int):
    texts = [f"text {i}" + "é" * (i == size - 1) for i in range(size)]
    assert list(TextColumn.of(texts)) == texts
    codes = [f"{i % 7}" if i % 5 else None for i in range(size)]
    assert list(CodedColumn.of(codes)) == codes


def test_a_column_grows_by_parts():
    growing = GrowingColumn()
    for part in (["a"], [], ["é", ""], ("b",)):
        growing.extend(part)
    assert list(growing.column()) == ["a", "é", "", "b"]
    assert list(GrowingColumn().column()) == []


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(UnicodeEncodeError):
        TextColumn.of(["a", "\ud83d"])


def test_the_digest_depends_on_the_texts_and_on_their_places():
    given = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["ab", "d"]]
    assert len({TextColumn.of(texts).digest() for texts in given}) == len(given)
    column = TextColumn.of(["ab", "c"])
    assert TextColumn.of(["ab", "c"]).digest() == column.digest()
    assert column.take(np.array([1, 0])).digest() != column.digest()
    known = TextColumn(column.block, column.starts, column.stops, hashlib.sha256(b"abc").hexdigest())
    assert known.digest() == column.digest()


def test_a_column_of_numbers_gives_them_as_text():
    column = NumberColumn(np.array([1, 12, 7]))
    assert (list(column), column[-1], list(column[1:]), list(column.take(np.array([2, 0])))) == (
        ["1", "12", "7"],
        "7",
        ["12", "7"],
        ["7", "1"],
    )


def test_cells_are_numbered_by_their_first_row_and_missing_ones_marked():
    column = CodedColumn.of(["b", None, "a", "b", ""])
    assert (column.values, column.codes.tolist()) == (["b", "a", ""], [0, -1, 1, 0, 2])
    assert (list(column), column[-2], column[1], column[:2]) == (["b", None, "a", "b", ""], "b", None, ["b", None])


def test_texts_that_differ_only_in_case_and_outer_space_share_a_folded_hash_and_no_others_do():
    column = TextColumn.of(["Straße", " STRASSE\u2003", "strase", "\x1cA", "a", "a b", "ab", ""])
    assert numbered(column.folded).tolist() == [0, 0, 1, 2, 2, 3, 4, 5]
    assert numbered(hashes(column)).tolist() == list(range(8))


def test_hashes_are_the_same_in_every_process():
    assert hashes(["", "é"]).tobytes().hex() == "e4a6a0577479b2b4" + "cb1abf8beff3192f"
    code = "from mtbert.columns import hashes; print(int(hashes(['é'])[0]))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(said) == int(hashes(["é"])[0])


def test_keys_are_numbered_in_the_order_of_their_first_row():
    keys = np.random.default_rng(0).integers(50, size=400)
    first: dict[int, int] = {}
    assert numbered(keys).tolist() == [first.setdefault(key, len(first)) for key in keys.tolist()]
    assert numbered(np.array([], np.uint64)).tolist() == []
