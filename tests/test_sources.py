"""Reading of tables: what every kind of source gives, and the one line that every mistake gives."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from mtbert.batch import Example
from mtbert.data.sources import Columns, Row, Source, Table, complete, examples, read
from mtbert.task import Task

ONE = Columns(text="text")
PAIR = Columns(text=("sentence1", "sentence2"), label="is_duplicate", id="id")


def write(folder: Path, name: str, content: str | bytes) -> Source:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Source(path=name)


def table(*labels: str | None, name: str = "t.csv") -> Table:
    return Table(name, [Row(i, str(i), ("a",), label) for i, label in enumerate(labels, 2)], (), "", column="y")


def task(type_: str, **more: object) -> Task:
    return Task.model_validate({"name": "t", "type": type_, "inputs": "single", **more})


def message(error: type[Exception], call: Callable[..., object], *args: object, **kwargs: object) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refusal(folder: Path, name: str, content: str | bytes, columns: Columns = ONE, *, labelled: bool = True) -> str:
    source = write(folder, name, content)
    return message(ValueError, read, source, columns, folder, texts=len(columns.text), labelled=labelled)


# --- settings ---


def test_a_plain_string_is_a_path_and_one_text_column():
    assert Source.model_validate("a/b.csv") == Source(path="a/b.csv")
    assert Columns.model_validate({"text": "s"}).text == ("s",)
    assert Columns.model_validate({"text": ["s", "t"]}).text == ("s", "t")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "exactly one of path, hub and generated, found none"),
        ({"path": "a.csv", "hub": "b"}, "found path and hub"),
        ({"path": "a.csv", "split": "train"}, "a file has no splits, found split 'train'"),
        ({"path": "a.csv", "config": "c"}, "found 'c' beside path"),
        ({"hub": "b"}, "hub needs a split"),
        ({"generated": "quorra", "split": "dev"}, "found 'quorra'. Did you mean 'quora'?"),
        ({"generated": "sst", "split": "tran"}, "split must be one of train, dev, found 'tran'. Did you mean 'train'?"),
        ({"pth": "a.csv"}, "unknown key 'pth'. Did you mean 'path'?"),
    ],
)
def test_a_source_is_exactly_one_thing(given: dict[str, str], found: str):
    with pytest.raises(ValidationError, match=re.escape(found)):
        Source.model_validate(given)


@pytest.mark.parametrize(
    ("text", "found"), [([], "none"), (["a", "b", "c"], "'a', 'b', 'c'"), (["a", "a"], "'a', 'a'")]
)
def test_text_columns_are_one_or_two_different_ones(text: list[str], found: str):
    with pytest.raises(ValidationError, match=rf"found {found}\."):
        Columns.model_validate({"text": text})


# --- files that are right ---


def test_the_handout_form_is_read_and_what_is_dropped_is_said(tmp_path: Path):
    content = (
        "\tid\tsentence1\tsentence2\tis_duplicate\n"
        "0\taa1\t Is it red?\t Is it blue?\t0.0\n"
        '7\taa2\t "So" it is?\t"He said ""so""?"\t1.0\n'
        "9\taa3\t Is it green?\t Is it warm?\t\n"
        "12\taa4\t Is it old?\t\t1.0\n"
        "13\taa5\t One, two?\t Two, one?\t1.0\n"
    )
    found = read(write(tmp_path, "quora-train.csv", content), PAIR, tmp_path, texts=2)
    assert found.rows == [
        Row(2, "aa1", ("Is it red?", "Is it blue?"), "0"),
        Row(3, "aa2", ('"So" it is?', 'He said "so"?'), "1"),
        Row(6, "aa5", ("One, two?", "Two, one?"), "1"),
    ]
    assert found.warnings == (
        "quora-train.csv: dropped 1 row without a label in column 'is_duplicate' (first: line 4).",
        "quora-train.csv: dropped 1 row with an empty text (first: line 5).",
    )
    assert (found.name, found.column) == ("quora-train.csv", "is_duplicate")
    assert found.digest == hashlib.sha256(content.encode()).hexdigest()
    quora = complete(task("binary", inputs="packed"), [found])
    assert quora.labels == ("0", "1")
    assert examples(found, quora)[1] == Example("aa2", ('"So" it is?', 'He said "so"?'), 1.0)


def test_a_line_number_is_that_of_the_first_line_of_a_row(tmp_path: Path):
    source = write(tmp_path, "a.csv", 'text,label\r\n"one\r\n\r\nthree",x\r\n\r\nfour,y\r\n')
    rows = read(source, ONE, tmp_path, texts=1).rows
    assert rows == [Row(2, "1", ("one\r\n\r\nthree",), "x"), Row(6, "2", ("four",), "y")]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "A.CSV"])
def test_the_delimiter_is_what_the_header_shows(tmp_path: Path, name: str):
    for content in ("\ufefflabel\ttext\ta, b\nx\tone, two\tc\n", 'label,text\nx,"one, two"'):
        found = read(write(tmp_path, name, content), ONE, tmp_path, texts=1)
        assert found.rows == [Row(2, "1", ("one, two",), "x")]


def test_one_column_may_hold_commas_and_ends_with_its_last_text(tmp_path: Path):
    source = write(tmp_path, "a.txt", "text\none, two\nthree\n\n\n")
    found = read(source, ONE, tmp_path, texts=1, labelled=False)
    assert found.rows == [Row(2, "1", ("one, two",), None), Row(3, "2", ("three",), None)]


def test_rows_are_numbered_as_in_the_file_also_after_a_dropped_one(tmp_path: Path):
    source = write(tmp_path, "a.csv", "text,label\na,1\nb,NaN\nc,nan\nd,2\n")
    found = read(source, ONE, tmp_path, texts=1)
    assert [row.id for row in found.rows] == ["1", "4"]
    assert found.warnings == ("a.csv: dropped 2 rows without a label in column 'label' (first: line 3).",)


def test_a_prediction_input_keeps_every_row_and_needs_no_label(tmp_path: Path):
    source = write(tmp_path, "a.csv", "text,label\na,\nb,1\n")
    found = read(source, Columns(text="text", label="label"), tmp_path, texts=1, labelled=False)
    assert [row.label for row in found.rows] == [None, None]
    assert examples(found, task("regression", range=(0.0, 1.0))) == [
        Example("1", ("a",), None),
        Example("2", ("b",), None),
    ]
    read(source, Columns(text="text", label="gone"), tmp_path, texts=1, labelled=False)


def test_unlabelled_rows_without_the_id_column_are_numbered(tmp_path: Path):
    columns = Columns(text="text", id="id")
    source = write(tmp_path, "a.csv", "text\na\nb\n")
    assert [row.id for row in read(source, columns, tmp_path, texts=1, labelled=False).rows] == ["1", "2"]
    assert "there is no column 'id'" in refusal(tmp_path, "a.csv", "text,label\na,1\n", columns)


def test_a_repeated_id_is_a_counted_warning(tmp_path: Path):
    source = write(tmp_path, "a.csv", "id,text,label\nx,a,1\ny,b,2\nx,c,3\nx,d,3\n")
    found = read(source, Columns(text="text", id="id"), tmp_path, texts=1)
    assert found.warnings == ("a.csv: 2 rows with an id used before (first: 'x', line 4).",)
    assert len(found.rows) == 4


def test_jsonl_values_of_any_kind_become_labels(tmp_path: Path):
    lines = [
        '{"text": " a "}',
        '{"text": " a ", "label": 1}',
        '{"text": "b", "label": 1.0, "more": []}',
        "",
        '{"text": "c", "label": true}',
        '{"text": "d", "label": NaN}',
        '{"text": null, "label": "x"}',
        '{"text": "f", "label": "2.50"}',
    ]
    found = read(write(tmp_path, "a.jsonl", "\r\n".join(lines) + "\n"), ONE, tmp_path, texts=1)
    assert found.rows == [
        Row(2, "2", ("a",), "1"),
        Row(3, "3", ("b",), "1"),
        Row(5, "4", ("c",), "true"),
        Row(8, "7", ("f",), "2.50"),
    ]
    assert found.warnings == (
        "a.jsonl: dropped 2 rows without a label in column 'label' (first: line 1).",
        "a.jsonl: dropped 1 row with an empty text (first: line 7).",
    )


def test_parquet_is_read_and_counts_rows(tmp_path: Path):
    data = {"id": [7, 8, 9], "s": ["a", " b", "c"], "t": ["d", "e", "f"], "y": [0.0, None, 3.25]}
    pq.write_table(pa.table(data), tmp_path / "a.parquet")
    found = read(Source(path="a.parquet"), Columns(text=("s", "t"), label="y", id="id"), tmp_path, texts=2)
    assert found.rows == [Row(1, "7", ("a", "d"), "0"), Row(3, "9", ("c", "f"), "3.25")]
    assert found.warnings == ("a.parquet: dropped 1 row without a label in column 'y' (first: row 2).",)
    assert found.at(found.rows[1]) == "a.parquet, row 3, column 'y'"


def test_a_hub_data_set_gives_names_of_classes_and_can_be_a_local_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"text": [" a", "b", "c"], "label": [1, 0, -1]}, features=features)
    (tmp_path / "mine").mkdir()
    made.to_parquet(tmp_path / "mine" / "train.parquet")
    source = Source(hub="mine", split="train")
    found = read(source, ONE, tmp_path, texts=1)
    assert found.rows == [Row(1, "1", ("a",), "yes"), Row(2, "2", ("b",), "no")]
    assert found.warnings == ("mine [train]: dropped 1 row without a label in column 'label' (first: row 3).",)
    assert re.fullmatch("[0-9a-f]{64}", found.digest)
    assert found.digest == read(source, ONE, tmp_path, texts=1).digest
    said = message(ValueError, read, source, Columns(text="txt"), tmp_path, texts=1)
    assert said == (
        "mine [train]: there is no column 'txt', found 'text', 'label'. Did you mean 'text'? Set columns.text."
    )
    said = message(ValueError, read, Source(hub="mine", split="tset"), ONE, tmp_path, texts=1)
    assert said.startswith("mine [tset]: cannot be loaded (")
    assert '"tset"' in said
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    said = message(ValueError, read, Source(hub="nobody/nothing", split="train"), ONE, tmp_path, texts=1)
    assert said.startswith("nobody/nothing [train]: cannot be loaded (")


def test_generated_rows_ignore_columns_and_never_change(tmp_path: Path):
    source = Source(generated="sts", split="dev")
    found = read(source, ONE, tmp_path, texts=2)
    assert found == read(source, PAIR, tmp_path, texts=2)
    assert all(len(row.texts) == 2 and row.label is not None for row in found.rows)
    assert found.digest != read(Source(generated="sts", split="train"), ONE, tmp_path, texts=2).digest
    said = message(ValueError, read, source, ONE, tmp_path, texts=1)
    assert said.startswith("generated sts [dev]: the task reads 1 text, but the rows hold 2.")


def test_generated_labels_are_written_as_in_a_file(tmp_path: Path):
    found = read(Source(generated="sst", split="dev"), ONE, tmp_path, texts=1)
    assert {row.label for row in found.rows} == set("01234")
    unlabelled = read(Source(generated="sst", split="dev"), ONE, tmp_path, texts=1, labelled=False)
    assert {row.label for row in unlabelled.rows} == {None}


# --- files that are wrong: where, what, and the repair ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a.csv: the file is empty"),
        (b"\xef\xbb\xbf\n", "a.csv: the file is empty"),
        (b"text,label\n", "a.csv: a header but no rows"),
        (b"text,label\na,1\nb\xff,2\n", "a.csv, line 3: byte 0xff is not UTF-8. Save the file as UTF-8."),
        (b"\xef\xbb\xbftext,label\na,1\n\n\xe9,2\n", "a.csv, line 4: byte 0xe9 is not UTF-8"),
        (b"text,label\na,1\nb\0,2\n", "a.csv, line 3: a NUL character"),
        (b'text,label\na,1\n"b,2\nc,3\nd,4\n', "a.csv, line 3: not a row of CSV (unexpected end of data)"),
        (b'text\tlabel\na\t1\n"b"c\t2\n', "a.csv, line 3: not a row of CSV ('\\t' expected after '\"')"),
        (b"text,label\na,1\nb,c,2\n", "a.csv, line 3: 3 fields, but the header has 2. Quote a text that holds a comma"),
        (b"text\tlabel\na\n", "a.csv, line 2: 1 field, but the header has 2. Quote a text that holds a tab"),
        (
            b"\ntxt,label,id\na,1,2\n",
            "a.csv, line 2: there is no column 'text', found 'txt', 'label', 'id'. Did you mean",
        ),
        (b"text,lable\na,1\n", "no column 'label', found 'text', 'lable'. Did you mean 'lable'? Set columns.label."),
        (b"text;label\na;1\n", "no column 'text', found 'text;label'. Separate columns by tabs or commas."),
        (b"text,label,text\na,1,b\n", "a.csv, line 1: 2 columns are named 'text'"),
        (
            b"text,label\na,\n,1\nb,\n",
            "no usable row; dropped 2 rows without a label in column 'label' (first: line 2), d",
        ),
    ],
)
def test_a_broken_csv_is_one_line_that_names_the_place(tmp_path: Path, content: bytes, said: str):
    assert said in refusal(tmp_path, "a.csv", content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a", "label": 1}\n{"text": "b", \n', "a.jsonl, line 2: not JSON ("),
        ("[" * 100_000, "a.jsonl, line 1: not JSON ("),
        ('\n["a", 1]\n', "a.jsonl, line 2: must be a JSON object, found ['a', 1]"),
        (
            '{"text": "a", "label": 1}\n{"text": 5, "label": 1}\n',
            "line 2, column 'text': the text must be a string, found 5",
        ),
        ('{"text": "a", "label": [1]}\n', "line 1, column 'label': the label must be one value, found [1]"),
        ('{"text": "a\\ud83d", "label": 1}\n', "line 1, column 'text': the text holds half a surrogate pair"),
        ('{"txt": "a", "label": 1}\n', "a.jsonl: there is no column 'text', found 'txt', 'label'. Did you mean 'txt'?"),
    ],
)
def test_a_broken_jsonl_is_one_line_that_names_the_place(tmp_path: Path, content: str, said: str):
    assert said in refusal(tmp_path, "a.jsonl", content)


def test_a_broken_parquet_is_one_line(tmp_path: Path):
    assert refusal(tmp_path, "a.parquet", "text,label\na,1\n").startswith("a.parquet: not a Parquet file (")


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path):
    said = refusal(tmp_path, "a.xlsx", b"PK")
    assert said == "a.xlsx: '.xlsx' is not a known kind of file. Use one of .csv, .tsv, .txt, .jsonl, .parquet."


def test_an_empty_text_to_predict_is_refused(tmp_path: Path):
    columns = Columns(text=("s", "t"))
    said = refusal(tmp_path, "a.csv", "s,t\na,b\nc,  \n", columns, labelled=False)
    assert said == "a.csv, line 3, column 't': the text is empty. Give a text, or drop the row."
    assert "a.txt, line 3, column 'text'" in refusal(tmp_path, "a.txt", "text\na\n\nb\n", labelled=False)


def test_an_empty_id_is_refused(tmp_path: Path):
    said = refusal(tmp_path, "a.csv", "id,text,label\nx,a,1\n ,b,2\n", Columns(text="text", id="id"))
    assert said.startswith("a.csv, line 3, column 'id': the id is empty.")


def test_a_missing_file_names_the_nearest_one(tmp_path: Path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", "sts-train.csv", "text,label\na,1\n")
    said = message(FileNotFoundError, read, Source(path="data/sts-trian.csv"), ONE, tmp_path, texts=1)
    assert said == "data/sts-trian.csv: there is no such file. Did you mean 'sts-train.csv'?"
    said = message(FileNotFoundError, read, Source(path="data/x.csv"), ONE, tmp_path, texts=1)
    assert said == "data/x.csv: there is no such file. Check the path."
    said = message(FileNotFoundError, read, Source(path="date/x.csv"), ONE, tmp_path, texts=1)
    assert said == "date/x.csv: there is no folder 'date'. Check the path."


def test_a_folder_is_not_a_file(tmp_path: Path):
    (tmp_path / "data").mkdir()
    said = message(ValueError, read, Source(path="data"), ONE, tmp_path, texts=1)
    assert said.startswith("data: a folder, not a file.")
    said = message(ValueError, read, Source(path="x" * 300 + ".csv"), ONE, tmp_path, texts=1)
    assert "cannot be read (File name too long)" in said


def test_the_number_of_text_columns_is_that_of_the_task(tmp_path: Path):
    source = write(tmp_path, "a.csv", "text,label\na,1\n")
    said = message(ValueError, read, source, ONE, tmp_path, texts=2)
    assert said.startswith("a.csv: the task reads 2 texts, but columns.text names 1: 'text'.")
    said = message(ValueError, read, source, PAIR, tmp_path, texts=1)
    assert said.startswith("a.csv: the task reads 1 text, but columns.text names 2: 'sentence1', 'sentence2'.")


def test_labelled_rows_need_a_label_column(tmp_path: Path):
    source = write(tmp_path, "a.csv", "text\na\n")
    said = message(ValueError, read, source, Columns(text="text", label=None), tmp_path, texts=1)
    assert said == "a.csv: labelled rows need a label column, found null. Set columns.label."


# --- classes and ranges ---


def test_classes_are_sorted_as_numbers_or_else_alphabetically():
    assert complete(task("classification"), [table("10", "9", "-1")]).labels == ("-1", "9", "10")
    assert complete(task("ordinal"), [table("10.5", "9.5", "9.5")]).labels == ("9.5", "10.5")
    assert complete(task("classification"), [table("b", "10", "9", "a")]).labels == ("10", "9", "a", "b")
    assert complete(task("binary"), [table("yes", "no")]).labels == ("no", "yes")


def test_what_the_recipe_says_stays():
    given = task("ordinal", labels=("low", "high"))
    assert complete(given, [table("high", "low", "mid")]) is given
    scores = task("regression", range=(0.0, 9.0))
    assert complete(scores, [table("1", "2")]) is scores


def test_labels_given_as_whole_floats_are_those_of_the_file():
    given = task("ordinal", labels=("1.0", "0.0"))
    assert [e.label for e in examples(table("0", "1"), given)] == [1.0, 0.0]


def test_classes_are_those_of_train_and_the_range_is_that_of_all():
    train, dev = table("0", "1"), table("0", "2", name="d.csv")
    assert complete(task("classification"), [train, dev]).labels == ("0", "1")
    assert complete(task("regression"), [train, dev]).range == (0.0, 2.0)


@pytest.mark.parametrize(
    ("type_", "labels", "said"),
    [
        ("ordinal", ("low", "high"), "t.csv, column 'y': the order of the classes 'high', 'low' is unknown. List them"),
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
            "t.csv, line 3, column 'y': 'n/a' is not a number. Give a number, or drop the row.",
        ),
    ],
)
def test_labels_that_make_no_task_are_refused(type_: str, labels: tuple[str, ...], said: str):
    assert said in message(ValueError, complete, task(type_), [table(*labels)])


def test_a_long_list_of_classes_is_cut():
    said = message(ValueError, complete, task("ordinal"), [table(*(f"c{i:04}" for i in range(1500)))])
    assert "'c0011' and 1,488 more is unknown" in said


@pytest.mark.parametrize("label", ["n/a", "inf", "1_0", "nan"])
def test_a_score_is_a_finite_number(label: str):
    said = message(ValueError, examples, table("1", label), task("regression", range=(0.0, 5.0)))
    assert said == f"t.csv, line 3, column 'y': '{label}' is not a number. Give 0 to 5, or drop the row."


@pytest.mark.parametrize("label", ["5.01", "-0.1"])
def test_a_score_is_in_the_range(label: str):
    said = message(ValueError, examples, table("0", "5", label), task("regression", range=(0.0, 5.0)))
    assert said == f"t.csv, line 4, column 'y': {label} is outside the task's range. Give 0 to 5, or drop the row."


def test_a_class_unknown_to_train_is_refused_with_the_nearest():
    said = message(ValueError, examples, table("good", "gud", name="d.csv"), task("binary", labels=("bad", "good")))
    assert said == (
        "d.csv, line 3, column 'y': 'gud' is not one of the classes 'bad', 'good'. Did you mean 'good'? "
        "Fix or drop the row, or add the class to the task's labels."
    )


def test_scores_stay_in_their_own_range():
    assert [e.label for e in examples(table("4.2", "0", None), task("regression", range=(0.0, 5.0)))] == [
        4.2,
        0.0,
        None,
    ]


def test_the_digest_of_a_file_is_of_its_bytes(tmp_path: Path):
    first = read(write(tmp_path, "a.jsonl", json.dumps({"text": "a", "label": 1})), ONE, tmp_path, texts=1)
    second = read(write(tmp_path, "a.jsonl", json.dumps({"text": "a", "label": 2})), ONE, tmp_path, texts=1)
    assert first.digest != second.digest


def test_a_text_longer_than_the_csv_modules_own_limit_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "long " * 60_000 + ",1\n")
    (row,) = read(Source(path="a.csv"), Columns(text=("text",)), tmp_path, texts=1).rows
    assert len(row.texts[0]) == 60_000 * 5 - 1


def test_labels_that_mean_the_same_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    task = Task(name="t", type="classification", inputs="single", labels=("1", "1.0"))
    table = read(Source(path="a.csv"), Columns(text=("text",)), tmp_path, texts=1)
    with pytest.raises(ValueError, match=r"task t, labels: two of .*'1', '1\.0'.* are the same label"):
        examples(table, task)


# --- a part of the rows ---


@pytest.mark.parametrize("wanted", [1, "1", 1.0])
def test_where_keeps_the_rows_with_that_value_and_their_lines(tmp_path: Path, wanted: object):
    rows = "id,sentence1,sentence2,is_duplicate\na,x,y,1\nb,x,y,0\nc,x,z,1.0\n"
    source = write(tmp_path, "q.csv", rows).model_copy(update={"where": {"is_duplicate": wanted}})
    found = read(source, PAIR, tmp_path, texts=2)
    assert [(row.id, row.line) for row in found.rows] == [("a", 2), ("c", 4)]
    assert found.digest == hashlib.sha256(rows.encode()).hexdigest()


def test_where_may_look_at_any_column_and_says_when_nothing_is_left(tmp_path: Path):
    write(tmp_path, "q.csv", "text,label,lang\nx,1,en\ny,0,de\n")
    source = Source(path="q.csv", where={"lang": "de"})
    assert [row.texts for row in read(source, ONE, tmp_path, texts=1).rows] == [("y",)]
    write(tmp_path, "w.csv", "text,label,new,size\nx,1,True,2.50\ny,0,False,3\n")
    for where in ({"new": True}, {"size": 2.5}, {"new": "True"}, {"size": "2.50"}):
        assert [row.texts for row in read(Source(path="w.csv", where=where), ONE, tmp_path, texts=1).rows] == [("x",)]
    said = message(ValueError, read, Source(path="q.csv", where={"lang": "fr"}), ONE, tmp_path, texts=1)
    assert said == "q.csv: no row has {'lang': 'fr'}. Mend where, or drop it."
    said = message(ValueError, read, Source(path="q.csv", where={"land": "fr"}), ONE, tmp_path, texts=1)
    assert said.startswith(
        "q.csv, line 1: there is no column 'land', found 'text', 'label', 'lang'. Did you mean 'lang'"
    )
    with pytest.raises(ValidationError, match="generated rows have no columns to choose by"):
        Source(generated="sst", split="dev", where={"label": 1})
