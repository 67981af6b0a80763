"""Rows from memory whose cells hold lists: of labels, votes, words, tags and places."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtbert.answers.known import ANSWER_TYPES
from mtbert.data.memory import arrow_table
from mtbert.data.tables import Columns

SETS = Columns(separator=";")
VOTES = Columns.model_validate({"votes": "label", "separator": ";"})
SHARES = Columns.model_validate({"shares": "label"})
WORDS = Columns().read_by(ANSWER_TYPES["tokens"])


def cells(given: object, columns: Columns, column: str = "label", text: object = "Anna lives") -> list[Any]:
    rows: list[dict[str, object]] = [{"text": text, "label": None}, {"text": text, "label": None}]
    rows[1][column] = given
    return list(arrow_table(rows, [columns], "rows")[column].to_pylist())


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.float32("nan")])
def test_a_missing_value_inside_a_list_is_no_label(missing: object):
    said = "rows, row 2, column 'label': a label of a set must not be empty, found ['a', None]. Fix or drop the row."
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        cells(["a", missing], SETS)
    assert cells(["a", missing], VOTES) == [None, '["a"]']
    assert cells([missing], VOTES) == [None, None]
    with pytest.raises(ValueError, match=r"row 2, column 'label': tag 2 must be a text or a number, found None\."):
        cells(["O", missing], WORDS)


def test_lists_may_hold_values_of_numpy():
    assert cells(np.array(["a", "b"]), SETS) == [None, '["a", "b"]']
    assert cells([np.str_("a"), np.int64(3)], SETS) == [None, '["a", "3"]']
    assert cells((np.float32(0.25), np.array(0.75)), SHARES) == [None, "[0.25, 0.75]"]
    span = {"start": np.int64(0), "end": np.int64(4), "label": np.str_("PER")}
    found = cells(np.array([span], object), WORDS)[1]
    assert json.loads(found) == [{"start": 0, "end": 4, "label": "PER"}]
    assert cells(np.array(["Anna", "lives"]), WORDS, "text", ["Anna"]) == [["Anna"], ["Anna", "lives"]]


@pytest.mark.parametrize(
    ("columns", "column", "must"),
    [
        (SETS, "label", "the label must be one value or a list"),
        (VOTES, "label", "the votes must be one value or a list"),
        (SHARES, "label", "the shares must be one value or a list"),
        (WORDS, "label", "the label must be one value or a list"),
        (WORDS, "text", "the text must be a string or a list"),
        (SETS, "text", "the text must be a string"),
    ],
)
def test_a_value_that_is_no_list_is_refused_with_the_forms_that_are_read(columns: Columns, column: str, must: str):
    with pytest.raises(ValueError, match=f"^rows, row 2, column '{column}': {must}, found 1j\\. Fix or drop the row"):
        cells(1j, columns, column)
