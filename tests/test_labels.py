"""Labels in files become classes and scores."""

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from reading import message

from mtbert.answers import regression
from mtbert.cell_columns import CodedColumn
from mtbert.columns import NumberColumn, TextColumn
from mtbert.data.labels import complete, labelled_examples
from mtbert.data.mistakes import WrongLabel
from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns, Table, TableFile
from mtbert.task import Task


def table(*labels: str | None, name: str = "t.csv") -> Table:
    lines = np.arange(2, len(labels) + 2)
    texts = TextColumn.of(["a"] * len(labels))
    cells = CodedColumn.of(labels)
    return Table((TableFile(name, ""),), NumberColumn(lines), (texts,), cells, lines, (len(labels),), column="y")


def task(type_: str, **more: object) -> Task:
    return Task.model_validate({"name": "t", "type": type_, "inputs": "single", **more})


def test_classes_are_sorted_as_numbers_or_else_alphabetically():
    assert complete(task("classification"), [table("10", "9", "-1")]).labels == ("-1", "9", "10")
    assert complete(task("ordinal"), [table("10.5", "9.5", "9.5")]).labels == ("9.5", "10.5")
    assert complete(task("classification"), [table("b", "10", "9", "a")]).labels == ("10", "9", "a", "b")
    assert complete(task("binary"), [table("yes", "no")]).labels == ("no", "yes")


def test_labels_and_ranges_that_the_recipe_gives_stay():
    given = task("ordinal", labels=("low", "high"))
    assert complete(given, [table("high", "low", "mid")]) is given
    scores = task("regression", range=(0.0, 9.0))
    assert complete(scores, [table("1", "2")]) is scores


def test_labels_given_as_whole_floats_are_those_of_the_file():
    given = task("ordinal", labels=("1.0", "0.0"))
    assert [e.label for e in labelled_examples(table("0", "1"), given)] == [1.0, 0.0]


@pytest.mark.parametrize(
    "labels", [(False, True), ("False", "True"), ("false", "true"), {"FALSE": "no", "TRUE": "yes"}]
)
def test_true_and_false_are_the_same_class_however_program_or_recipe_write_them(labels: object):
    given = task("binary", labels=labels)
    read_ = [e.label for e in labelled_examples(table("True", "true", "TRUE", "False", "false", "FALSE"), given)]
    assert read_ == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_booleans_among_labels_and_codes_are_the_texts_that_cells_are_read_as():
    assert task("binary", labels=[False, True]).labels == ("false", "true")
    assert task("binary", labels=["no", "yes"], codes=[False, True]).codes == ("false", "true")
    coded = task("binary", labels={"0": False, True: True})
    assert (coded.labels, coded.codes) == (("false", "true"), ("0", "true"))


def test_true_and_false_that_differ_in_case_alone_stay_different_where_the_recipe_names_both():
    given = task("classification", labels=("True", "true", "maybe"))
    assert [e.label for e in labelled_examples(table("true", "True"), given)] == [1.0, 0.0]
    said = message(ValueError, labelled_examples, table("MAYBE"), given)
    assert "'MAYBE' is not one of the classes 'True', 'true', 'maybe'. Fix it" in said


def test_classes_are_those_of_train_and_the_range_is_that_of_all():
    train, dev = table("0", "1"), table("0", "2", name="d.csv")
    assert complete(task("classification"), [train, dev]).labels == ("0", "1")
    assert complete(task("regression"), [train, dev]).range == (0.0, 2.0)


@pytest.mark.parametrize(
    ("type_", "labels", "said"),
    [
        ("ordinal", ("low", "high"), "t.csv, column 'y': the order of the classes 'high', 'low' is unknown. List them"),
        (
            "ordinal",
            ("1", "['1', '2']"),
            "is unknown. For lists such as '['1', '2']' use columns.votes, or type: multilabel.",
        ),
        (
            "binary",
            ("0", "1", "2"),
            "t.csv, column 'y': type 'binary' needs exactly 2 classes, found 3: '0', '1', '2'. U",
        ),
        ("binary", ("1", "1"), "needs exactly 2 classes, found 1: '1'. Check the column."),
        ("classification", ("a",), "type 'classification' needs at least 2 classes, found 1: 'a'."),
        (
            "regression",
            ("3", "3.0"),
            "t.csv, column 'y': all 2 scores are 3. Check the column, or set the task's range.",
        ),
        (
            "regression",
            ("3", "n/a"),
            "t.csv, line 3, column 'y': 'n/a' is not a number. Give a number, or leave the cell empty.",
        ),
    ],
)
def test_labels_that_make_no_task_are_refused(type_: str, labels: tuple[str, ...], said: str):
    assert said in message(ValueError, complete, task(type_), [table(*labels)])


def test_a_list_among_labels_points_to_votes_and_sets():
    said = message(ValueError, labelled_examples, table("1", "['1', '2']"), task("ordinal", labels=("1", "2")))
    assert said.endswith(
        "For lists such as '['1', '2']' use columns.votes, or type: multilabel. (mtbert docs own-data)"
    )


def test_a_long_list_of_classes_is_cut():
    said = message(ValueError, complete, task("ordinal"), [table(*(f"c{i:04}" for i in range(1500)))])
    assert "'c0011' and 1,488 more is unknown" in said


@pytest.mark.parametrize("label", ["n/a", "inf", "1_0", "nan"])
def test_a_score_is_a_finite_number(label: str):
    said = message(ValueError, labelled_examples, table("1", label), task("regression", range=(0.0, 5.0)))
    assert said == (
        f"t.csv, line 3, column 'y': '{label}' is not a number. Give 0 to 5, or leave the cell empty. "
        "(mtbert docs own-data)"
    )


@pytest.mark.parametrize("label", ["5.01", "-0.1"])
def test_a_score_is_in_the_range(label: str):
    said = message(ValueError, labelled_examples, table("0", "5", label), task("regression", range=(0.0, 5.0)))
    assert said == (
        f"t.csv, line 4, column 'y': {label} is outside the task's range. Give 0 to 5, or leave the cell empty. "
        "(mtbert docs own-data)"
    )


def test_a_class_unknown_to_train_is_refused_with_the_nearest():
    said = message(
        ValueError, labelled_examples, table("good", "gud", name="d.csv"), task("binary", labels=("bad", "good"))
    )
    assert said == (
        "d.csv, line 3, column 'y': 'gud' is not one of the classes 'bad', 'good'. Did you mean 'good'? "
        "Fix it, leave the cell empty, or add the class to the task's labels. "
        "(mtbert docs own-data)"
    )


def test_scores_stay_in_their_own_range():
    assert [e.label for e in labelled_examples(table("4.2", "0", None), task("regression", range=(0.0, 5.0)))] == [
        4.2,
        0.0,
        None,
    ]


def test_labels_that_mean_the_same_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    task = Task(name="t", type="classification", inputs="single", labels=("1", "1.0"))
    table = read(Source(path="a.csv"), Columns(text=("text",)), tmp_path, texts=1)
    with pytest.raises(ValueError, match=r"task t, labels: two of .*'1', '1\.0'.* are the same label"):
        labelled_examples(table, task)


# --- names of classes that files write as codes ---


def test_a_mapping_of_labels_gives_names_to_what_files_write():
    given = task("binary", labels={0: "bad", 1.0: "good"})
    assert (given.labels, given.codes) == (("bad", "good"), ("0", "1.0"))
    assert Task.model_validate(given.model_dump()) == given
    assert complete(given, [table("0", "1")]) is given
    assert [e.label for e in labelled_examples(table("1", "0", None), given)] == [1.0, 0.0, None]
    assert task("binary", labels={True: "yes", "false": "no"}).codes == ("true", "false")
    said = message(ValueError, labelled_examples, table("good"), given)
    assert said.startswith("t.csv, line 2, column 'y': 'good' is not one of the classes '0', '1'.")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": {0: "a", 1: "a"}}, "labels must differ from each other"),
        ({"labels": {0: "a", 1: 5}}, "valid string"),
        ({"labels": {0: "a"}}, "needs at least 2 labels, found 1"),
        ({"labels": {0: "a", 1: "b"}, "codes": ("0", "1")}, "codes beside it say it twice. Drop codes."),
        ({"labels": ("a", "b"), "codes": ("0",)}, "codes must be one for each of labels, found 1 for 2."),
        ({"codes": ("0", "1")}, "codes must be one for each of labels, found 2 for 0."),
    ],
)
def test_a_mapping_of_labels_that_makes_no_sense_is_refused(given: dict[str, object], said: str):
    with pytest.raises(ValidationError, match=re.escape(said)):
        task("classification", **given)


def test_codes_that_mean_the_same_are_refused():
    said = message(ValueError, labelled_examples, table("1"), task("binary", labels={1: "a", "1.0": "b"}))
    assert said == "task t, labels: two of '1', '1.0' are the same label. Drop one."


# --- ranges ---


@pytest.mark.parametrize(
    ("limits", "score", "fraction"),
    [
        ((0.0, 5.0), 1.25, 0.25),
        ((-1e100, 1e100), 0.0, 0.5),
        ((1.0, 1.0 + 2**-50), 1.0 + 2**-51, 0.5),
        ((0.0, 1e-100), 1e-100, 1.0),
    ],
)
def test_a_score_has_a_place_in_its_range_whatever_the_range(
    limits: tuple[float, float], score: float, fraction: float
):
    given = task("regression", range=limits)
    assert regression.fraction(given, np.array([score])).tolist() == [fraction]
    assert regression.at(given, fraction) == score


@pytest.mark.parametrize("scores", [("-1e308", "1e308"), ("0", "1.1e100"), ("0", "1e-101"), ("5e-324", "0")])
def test_scores_that_cannot_be_computed_with_are_refused_with_their_column(scores: tuple[str, str]):
    low, high = sorted(map(float, scores))
    said = message(ValueError, complete, task("regression"), [table(*scores)])
    assert said == (
        "t.csv, column 'y': scores must be between -1e100 and 1e100, its ends at least 1e-100 apart, "
        f"found {low!r} to {high!r}. Scale them, or check the column. (mtbert docs own-data)"
    )
    with pytest.raises(ValidationError, match=re.escape(f"its ends at least 1e-100 apart, found [{low!r}, {high!r}].")):
        task("regression", range=(low, high))


def test_a_foreign_label_is_shown_escaped_and_cut():
    for type_, more in (("binary", {"labels": ("a", "b")}), ("regression", {"range": (0.0, 1.0)})):
        said = message(ValueError, labelled_examples, table("\x1b[2J\r" + "x" * 10_000_000), task(type_, **more))
        assert said.startswith("t.csv, line 2, column 'y': '\\x1b[2J\\rxxx")
        assert len(said) < 300


@pytest.mark.parametrize(
    ("type_", "labels", "found", "said"),
    [
        ("binary", ("no", "yes"), ("0", "1"), 'If these are codes, give labels: {"0": no, "1": yes}.'),
        ("ordinal", ("low", "mid", "high"), ("3", "1", "2"), 'give labels: {"1": low, "2": mid, "3": high}.'),
        ("ordinal", ("low", "mid", "high"), ("1",), 'give labels: {"0": low, "1": mid, "2": high}.'),
        ("binary", ("no", "yes"), ("True", "False"), 'give labels: {"false": no, "true": yes}.'),
        ("binary", ("no", "yes"), ("True", "maybe"), "Fix it, leave the cell empty, or add the class"),
        ("ordinal", ("no", "mid", "yes"), ("True",), "Fix it, leave the cell empty, or add the class"),
        ("binary", ("no", "yes"), ("0", "maybe"), "Fix it, leave the cell empty, or add the class"),
        ("binary", ("no", "yes"), ("0", "2"), "Fix it, leave the cell empty, or add the class"),
        ("binary", ("no", "yes"), ("nein", "ja"), "Fix it, leave the cell empty, or add the class"),
    ],
)
def test_numbers_in_place_of_named_classes_may_be_codes(type_: str, labels: tuple, found: tuple, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        labelled_examples(table(*found), task(type_, labels=labels))


TRAINED = "The model was trained on these classes"
NEVER = f"{TRAINED} alone, so it never gives this answer. Fix or drop such rows."


@pytest.mark.parametrize(
    ("labels", "found", "said", "trained"),
    [
        # Codes that are classes would turn 3 stars into 5.
        (("1", "2", "4", "5"), ("3",), "Fix it, leave the cell empty, or add the class to the task's labels.", NEVER),
        (("0", "2", "9"), ("2", "0", "1"), "Fix it, leave the cell empty, or add the class to", NEVER),
        (
            ("false", "true"),
            ("1", "0"),
            'If these are codes, give labels: {"0": false, "1": true}.',
            f"{TRAINED}. If these are codes, write 'false' for 0, 'true' for 1.",
        ),
        (("bad", "good"), ("[1]",), "For lists such as '[1]' use columns.votes, or type: multilabel.", NEVER),
    ],
)
def test_the_advice_about_an_unknown_class_is_another_once_a_model_is_trained(
    labels: tuple, found: tuple, said: str, trained: str
):
    with pytest.raises(WrongLabel) as error:
        labelled_examples(table(*found), task("classification", labels=labels))
    assert said in str(error.value)
    assert TRAINED not in str(error.value)
    assert error.value.trained.endswith(f"{trained} (mtbert docs own-data)")
    assert error.value.trained.startswith("t.csv, line ")


@pytest.mark.parametrize(
    ("type_", "cell", "keys"),
    [
        ("multilabel", '["b"]', {}),
        ("tokens", '["O", "b"]', {}),
        ("classification", '["a", "b"]', {"soft": "votes"}),
    ],
)
def test_the_advice_stays_with_a_class_inside_a_set_a_list_of_tags_or_votes(type_: str, cell: str, keys: dict):
    labels = ("O", "a")
    with pytest.raises(WrongLabel) as error:
        labelled_examples(table('["a"]', cell), task(type_, labels=labels, **keys))
    assert error.value.trained.startswith("t.csv, line 3, column 'y': ")
    assert error.value.trained.endswith(f"'b' is not one of the classes 'O', 'a'. {NEVER} (mtbert docs own-data)")
    assert str(error.value).startswith("t.csv, line 3, column 'y': ")
    assert "add the class to the task's labels" in str(error.value)


def test_cells_that_hold_the_same_wrong_label_are_counted():
    wrong = (
        "t.csv, line 3, column 'y': 'n/a' is not a number. Give 0 to 5, or leave the cell empty. 3 cells hold this. "
    )
    cells = table("1", "n/a", None, "n/a", "x", "n/a")
    ranged = task("regression", range=(0.0, 5.0))
    assert message(ValueError, labelled_examples, cells, ranged) == f"{wrong}(mtbert docs own-data)"
    assert "leave the cell empty. 3 cells hold this. (" in message(ValueError, complete, task("regression"), [cells])


@pytest.mark.parametrize("cell", ["", "  ", "nan", "NaN", "NAN"])
def test_a_label_is_missing_if_its_cell_is_empty_or_nan(tmp_path: Path, cell: str):
    (tmp_path / "a.csv").write_text(f"text,label\none,x\ntwo,{cell}\n")
    found = read(Source(path="a.csv"), Columns(), tmp_path, texts=1)
    assert list(found.labels) == ["x"]
    assert found.warnings == ("a.csv: dropped 1 row without a label in column 'label' (first: line 3).",)


@pytest.mark.parametrize("cell", ["null", "None", "NA", "N/A", "n/a", "-"])
def test_other_words_for_nothing_are_labels(tmp_path: Path, cell: str):
    (tmp_path / "a.csv").write_text(f"text,label\none,x\ntwo,{cell}\n")
    assert list(read(Source(path="a.csv"), Columns(), tmp_path, texts=1).labels) == ["x", cell]
