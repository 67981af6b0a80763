"""Rows from memory: every kind gives the same table, and mistakes name task, row and column."""

import copy
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mtbert.answers.known import ANSWER_TYPES
from mtbert.data.memory import arrow_table, by_split, name_of
from mtbert.data.sources import Source, read_all
from mtbert.data.tables import Columns

NAME = "data of task reviews"
ROWS = [{"text": "fine", "label": 1, "more": [1]}, {"text": "dull", "label": 0, "more": [2]}]


class Polars:
    """Stands in for a polars DataFrame, which is known by the name of its type."""

    def to_arrow(self) -> pa.Table:
        return pa.table({"text": pa.array(["fine", "dull"], pa.large_string()), "label": [1, 0]})


Polars.__name__, Polars.__module__ = "DataFrame", "polars.dataframe.frame"

KINDS = {
    "list": lambda: ROWS,
    "tuple": lambda: tuple(ROWS),
    "pandas": lambda: pd.DataFrame(ROWS, index=[7, 7]),
    "pandas strings": lambda: pd.DataFrame(ROWS).astype({"text": "string"}),
    "pandas categories": lambda: pd.DataFrame(ROWS).astype({"text": "category", "label": "category"}),
    "polars": Polars,
    "datasets": lambda: datasets.Dataset.from_list([{"text": "?", "label": 2, "more": [0]}, *ROWS]).select([1, 2]),
    "arrow": lambda: pa.Table.from_pylist(ROWS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_rows_gives_the_columns_that_are_read_and_stays_as_it_is(kind: str):
    rows = KINDS[kind]()
    before = copy.deepcopy(rows)
    table = arrow_table(rows, [Columns()], NAME)
    assert table.column_names == ["text", "label"]
    assert table.column("text").to_pylist() == ["fine", "dull"]
    assert [str(value) for value in table.column("label").to_pylist()] == ["1", "0"]
    if isinstance(rows, pd.DataFrame):
        pd.testing.assert_frame_equal(rows, before)
    elif isinstance(rows, list | tuple):
        assert rows == before


OF_CLASSES = Columns().read_by(ANSWER_TYPES["classification"])
LISTS = "Fix or drop the row, or use columns.votes, columns.shares or type: multilabel."


def test_classes_of_a_data_set_have_their_names_and_minus_one_is_no_label(tmp_path: Path):
    one = datasets.ClassLabel(names=["bad", "good"])
    features = {
        "text": datasets.Value("string"),
        "label": one,
        "votes": datasets.List(one),
        "n": datasets.Value("int8"),
    }
    rows = [{"text": "x", "label": label, "votes": [0, 1, -1], "n": -1} for label in (1, -1, None, 0)]
    given = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    labels, ratings, numbers = Columns(), Columns(votes="votes"), Columns(label="n")
    table = arrow_table(given, [labels, ratings, numbers], NAME)
    assert table.column("label").to_pylist() == ["good", None, None, "bad"]
    assert table.column("votes").to_pylist() == ['["bad", "good"]'] * 4
    assert table.column("n").to_pylist() == [-1, -1, -1, -1]
    given.save_to_disk(tmp_path / "saved")
    stored = read_all(Source(hub="saved"), [labels, ratings, numbers], tmp_path, texts=[1, 1, 1])
    assert list(stored.labels[0]) == table.column("label").to_pylist()
    assert list(stored.labels[1]) == table.column("votes").to_pylist()


@pytest.mark.parametrize("make", [list, pd.DataFrame])
def test_labels_of_several_types_are_read_as_in_a_file(make: Any):
    labels = [True, 1.0, "b ", None, float("nan"), Decimal("2.5"), np.int64(3), np.bool_(False), 2**70, 1.5]
    table = arrow_table(make([{"text": "x", "label": label} for label in labels]), [Columns()], NAME)
    expected = ["true", "1", "b", None, None, "2.5", "3", "false", str(2**70), "1.5"]
    assert table.column("label").to_pylist() == expected


@pytest.mark.parametrize("make", [list, lambda rows: pd.DataFrame(rows, dtype=object)], ids=["list", "pandas"])
@pytest.mark.parametrize(
    "nothing", [None, float("nan"), np.float32("nan"), pd.NaT, pd.NA, np.datetime64("NaT")], ids=repr
)
def test_what_pandas_and_numpy_call_missing_is_a_missing_text_label_and_id(make: Any, nothing: object):
    rows = [{"text": "a", "label": "x", "id": "1"}, {"text": nothing, "label": nothing, "id": nothing}]
    table = arrow_table(make(rows), [Columns(id="id")], NAME)
    assert [value or None for value in table.to_pylist()[1].values()] == [None, None, None]


def test_columns_are_those_of_the_recipe():
    rows = [{"one": "a", "two": "b", "stars": 4.5, "key": 7}]
    table = arrow_table(rows, [Columns(text=("one", "two"), label="stars", id="key")], NAME)
    assert table.to_pylist() == [{"one": "a", "two": "b", "stars": "4.5", "key": "7"}]
    assert arrow_table(rows, [Columns(text=("two",), label=None)], NAME).to_pylist() == [{"two": "b"}]


def rows_with(column: str, value: object) -> list[dict[str, object]]:
    return [{"text": "a", "label": 1}, {"text": "b", "label": 0}, {"text": "c", "label": 1, column: value}]


@pytest.mark.parametrize(
    ("make", "place"),
    [(list, "row 3"), (lambda rows: pd.DataFrame(rows, [7, 8, "z"], dtype=object), "row 3, index 'z'")],
    ids=["list", "pandas"],
)
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("text", 3, "the text must be a string, found 3. Quote it, or drop the row."),
        ("text", ["a", "b"], "the text must be a string, found ['a', 'b']. Fix or drop the row."),
        ("text", "half \ud83d", "the text holds half a surrogate pair. Fix or drop the row."),
        ("label", [1, 2], f"the label must be one value, found [1, 2]. {LISTS}"),
        ("label", {"a": 1}, "the label must be one value, found {'a': 1}. Fix or drop the row."),
        ("label", {1}, "the label must be one value, found {1}. Fix or drop the row."),
        ("label", np.array([1, 2]), f"the label must be one value, found [1, 2]. {LISTS}"),
        ("label", 1j, "the label must be one value, found 1j. Fix or drop the row."),
        pytest.param("label", 10**5000, "the label is too long a number. Give it as text, or drop the row.", id="long"),
        ("label", b"x", "the label must be one value, found b'x'. Fix or drop the row."),
    ],
)
def test_a_wrong_value_is_named_by_task_row_and_column(make: Any, place: str, column: str, value: object, said: str):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        arrow_table(make(rows_with(column, value)), [OF_CLASSES], NAME)
    assert str(error.value) == f"{NAME}, {place}, column '{column}': {said}"


def test_values_of_an_arrow_table_are_named_too():
    with pytest.raises(ValueError, match=r"row 1, column 'text': the text must be a string, found 3\."):
        arrow_table(pa.table({"text": [3, 4], "label": [1, 2]}), [Columns()], NAME)
    table = pa.table({"text": ["a", "b"], "label": [[1], [2]]})
    with pytest.raises(ValueError, match=r"row 1, column 'label': the label must be one value, found \[1\]"):
        arrow_table(table, [Columns()], NAME)


def test_a_column_that_the_recipe_uses_already_is_not_suggested():
    columns = Columns(text="comment", label="score")
    keys = "tasks.TASK.columns.text, or tables.TABLE.columns.text"
    said = f"^{NAME}: there is no column 'comment', found 'body', 'score'. Set {keys}.$"
    with pytest.raises(ValueError, match=said):
        arrow_table([{"body": "a", "score": 1}], [columns], NAME)


@pytest.mark.parametrize("make", [list, pd.DataFrame, pa.Table.from_pylist])
def test_a_missing_column_is_said_with_the_nearest(make: Any):
    said = f"^{NAME}: there is no column 'label', found 'text', 'labels'. Did you mean 'labels'? Set "
    said += "tasks.TASK.columns.label.$"
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        arrow_table(make([{"text": "a", "labels": 1}]), [Columns()], NAME)


def test_a_column_that_is_there_twice_is_refused():
    frame = pd.DataFrame([["a", "b", 1]], columns=["text", "text", "label"])
    with pytest.raises(ValueError, match=f"^{NAME}: 2 columns are named 'text'. Rename all but one."):
        arrow_table(frame, [Columns()], NAME)


@pytest.mark.parametrize("rows", [[], pd.DataFrame({"text": [], "label": []}), pa.table({"text": pa.array([])})])
def test_no_rows_are_refused(rows: Any):
    with pytest.raises(ValueError, match=f"^{NAME}: no rows. Add rows.$"):
        arrow_table(rows, [Columns()], NAME)


@pytest.mark.parametrize(
    ("rows", "found"),
    [("a.csv", "builtins.str"), (3, "builtins.int"), (pd.Series(["a"]), "pandas.Series"), ({1}, "builtins.set")],
)
def test_rows_of_another_type_are_refused(rows: Any, found: str):
    said = (
        f"{NAME}: must be a pandas or polars DataFrame, a datasets.Dataset, a pyarrow Table or a list of dicts, found"
    )
    with pytest.raises(TypeError, match=f"^{said} {re.escape(found)}. Convert it.$"):
        arrow_table(rows, [Columns()], NAME)


def test_an_item_that_is_no_dict_is_named_by_its_row():
    with pytest.raises(TypeError, match=f"^{NAME}, row 2: must be a dict, found 'b'. Give a list of dicts.$"):
        arrow_table([{"text": "a", "label": 1}, "b"], [Columns()], NAME)


def test_splits_are_train_dev_and_test():
    assert by_split("t", ROWS) == {"train": ROWS}
    assert by_split("t", {"dev": ROWS, "train": ROWS}) == {"dev": ROWS, "train": ROWS}
    assert [name_of("task", "t", split) for split in ("train", "dev")] == ["data of task t", "data of task t, dev"]
    with pytest.raises(ValueError, match=r"^data of t: there is no split 'tran'\. Did you mean 'train'\?$"):
        by_split("t", {"tran": ROWS})
    with pytest.raises(ValueError, match=r"there is no split 'label'\. Give rows, or a dict of train, dev, test\.$"):
        by_split("t", {"label": [1]})
    with pytest.raises(ValueError, match=r"^data of t: no split\."):
        by_split("t", {})
