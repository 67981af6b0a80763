"""Sources of data: their settings, and the rows that each kind gives."""

import hashlib
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from reading import ONE, PAIR, message, refusal, write

from mtbert.batch import Example
from mtbert.data.labels import labelled_examples
from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns, Row
from mtbert.task import Task


def task(type_: str, **more: object) -> Task:
    return Task.model_validate({"name": "t", "type": type_, "inputs": "single", **more})


def test_a_plain_string_is_a_path_and_one_text_column():
    assert Source.model_validate("a/b.csv") == Source(path="a/b.csv")
    assert Source.model_validate(("a.csv", "b.csv")) == Source(path=("a.csv", "b.csv"))
    assert Columns.model_validate({"text": "s"}).text == ("s",)
    assert Columns.model_validate({"text": ["s", "t"]}).text == ("s", "t")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "exactly one of path, hub and generated, found none"),
        ({"path": "a.csv", "hub": "b"}, "found path and hub"),
        ({"path": "a.csv", "split": "train"}, "a file has no splits, found split 'train'"),
        ({"path": "a.csv", "config": "c"}, "found 'c' beside path"),
        ({"generated": "sst"}, "generated needs a split"),
        ({"generated": "quorra", "split": "dev"}, "found 'quorra'. Did you mean 'quora'?"),
        ({"generated": "sst", "split": "tran"}, "split must be one of train, dev, found 'tran'. Did you mean 'train'?"),
        ({"path": ("a.csv", "a.csv")}, "a list of files must name each file once, found ['a.csv', 'a.csv']."),
        ({"path": ()}, "a list of files must name at least one, found none. Name one."),
        ({"path": "a\udcff.csv"}, "the name must be UTF-8 text, found 'a\\udcff.csv'. Rename it."),
        ({"path": ("a.csv", "b\0.csv")}, "the name must be UTF-8 text, found 'b\\x00.csv'. Rename it."),
        ({"pth": "a.csv"}, "unknown key 'pth'. Did you mean 'path'?"),
    ],
)
def test_a_source_is_exactly_one_thing(given: dict[str, str], found: str):
    with pytest.raises(ValidationError, match=re.escape(found)):
        Source.model_validate(given)


@pytest.mark.parametrize(("text", "found"), [([], "none"), (["a", "a"], "'a', 'a'")])
def test_text_columns_are_one_or_several_different_ones(text: list[str], found: str):
    with pytest.raises(ValidationError, match=rf"found {found}\."):
        Columns.model_validate({"text": text})


def test_rows_are_numbered_as_in_the_file_even_after_a_dropped_one(tmp_path: Path):
    source = write(tmp_path, "a.csv", "text,label\na,1\nb,NaN\nc,nan\nd,2\n")
    found = read(source, ONE, tmp_path, texts=1)
    assert [row.id for row in found.rows] == ["1", "4"]
    assert found.warnings == ("a.csv: dropped 2 rows without a label in column 'label' (first: line 3).",)


def test_a_prediction_input_keeps_every_row_and_needs_no_label(tmp_path: Path):
    source = write(tmp_path, "a.csv", "text,label\na,\nb,1\n")
    found = read(source, Columns(text="text", label="label"), tmp_path, texts=1, labelled=False)
    assert [row.label for row in found.rows] == [None, None]
    assert list(labelled_examples(found, task("regression", range=(0.0, 1.0)))) == [
        Example("1", ("a",), None),
        Example("2", ("b",), None),
    ]
    read(source, Columns(text="text", label="gone"), tmp_path, texts=1, labelled=False)


def test_unlabelled_rows_without_the_id_column_are_numbered(tmp_path: Path):
    columns = Columns(text="text", id="id")
    source = write(tmp_path, "a.csv", "text\na\nb\n")
    assert [row.id for row in read(source, columns, tmp_path, texts=1, labelled=False).rows] == ["1", "2"]
    assert "there is no column 'id'" in refusal(tmp_path, "a.csv", "text,label\na,1\n", columns)


def test_a_column_that_the_recipe_uses_already_is_not_suggested(tmp_path: Path):
    said = refusal(tmp_path, "a.csv", "body,score\na,1\n", Columns(text="comment", label="score"))
    assert (
        said == "a.csv, line 1: there is no column 'comment', found 'body', 'score'. "
        "Set tasks.TASK.columns.text, or tables.TABLE.columns.text. "
        "(mtbert docs own-data)"
    )


def test_a_repeated_id_is_a_counted_warning(tmp_path: Path):
    source = write(tmp_path, "a.csv", "id,text,label\nx,a,1\ny,b,2\nx,c,3\nx,d,3\n")
    found = read(source, Columns(text="text", id="id"), tmp_path, texts=1)
    assert found.warnings == ("a.csv: 2 rows with an id used before (first: 'x', line 4).",)
    assert len(found.rows) == 4


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
    assert re.fullmatch("[0-9a-f]{64}", found.parts[0].digest)
    assert found.parts[0].digest == read(source, ONE, tmp_path, texts=1).parts[0].digest
    said = message(ValueError, read, source, Columns(text="txt"), tmp_path, texts=1)
    assert said == (
        "mine [train]: there is no column 'txt', found 'text', 'label'. Did you mean 'text'? Set "
        "tasks.TASK.columns.text, or tables.TABLE.columns.text. (mtbert docs own-data)"
    )
    said = message(ValueError, read, Source(hub="mine", split="tset"), ONE, tmp_path, texts=1)
    assert said.startswith("mine [tset]: cannot be loaded (")
    assert '"tset"' in said
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    said = message(ValueError, read, Source(hub="nobody/nothing", split="train"), ONE, tmp_path, texts=1)
    assert said.startswith("nobody/nothing [train]: cannot be loaded (")


def test_a_data_set_that_was_saved_without_splits_needs_no_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    made = datasets.Dataset.from_dict({"text": [" a", "b"], "label": [1, 0]})
    made.save_to_disk(tmp_path / "one")
    found = read(Source(hub="one"), ONE, tmp_path, texts=1)
    assert found.rows == [Row(1, "1", ("a",), "1"), Row(2, "2", ("b",), "0")]
    assert found.name == "one"
    datasets.DatasetDict(train=made).save_to_disk(tmp_path / "several")
    assert read(Source(hub="several", split="train"), ONE, tmp_path, texts=1).rows == found.rows
    said = message(ValueError, read, Source(hub="several"), ONE, tmp_path, texts=1)
    assert said.startswith("several: hub needs a split. Add split: train, or another one that the data set has.")
    said = message(ValueError, read, Source(hub="one", split="train"), ONE, tmp_path, texts=1)
    assert said.startswith("one [train]: cannot be loaded (it is one data set without splits, but split 'train' was")


def test_generated_rows_ignore_columns_and_never_change(tmp_path: Path):
    source = Source(generated="sts", split="dev")
    found = read(source, ONE, tmp_path, texts=2)
    again = read(source, PAIR, tmp_path, texts=2)
    assert (found.rows, found.parts) == (again.rows, again.parts)
    assert found.parts[0].digest == "ef59b617313537918969a721475dc6c03941cff5073f09c2089c58b69de47b7b"
    assert all(len(row.texts) == 2 and row.label is not None for row in found.rows)
    assert found.parts[0].digest != read(Source(generated="sts", split="train"), ONE, tmp_path, texts=2).parts[0].digest
    said = message(ValueError, read, source, ONE, tmp_path, texts=1)
    assert said.startswith("generated sts [dev]: the task reads 1 text, but the rows hold 2.")


def test_generated_labels_are_written_as_in_a_file(tmp_path: Path):
    found = read(Source(generated="sst", split="dev"), ONE, tmp_path, texts=1)
    assert {row.label for row in found.rows} == set("01234")
    unlabelled = read(Source(generated="sst", split="dev"), ONE, tmp_path, texts=1, labelled=False)
    assert {row.label for row in unlabelled.rows} == {None}


def test_an_empty_text_to_predict_is_refused(tmp_path: Path):
    columns = Columns(text=("s", "t"))
    said = refusal(tmp_path, "a.csv", "s,t\na,b\nc,  \n", columns, labelled=False)
    assert said == "a.csv, line 3, column 't': the text is empty. Give a text, or drop the row."
    assert "a.txt, line 3, column 'text'" in refusal(tmp_path, "a.txt", "text\na\n\nb\n", labelled=False)


def test_an_empty_id_is_refused(tmp_path: Path):
    said = refusal(tmp_path, "a.csv", "id,text,label\nx,a,1\n ,b,2\n", Columns(text="text", id="id"))
    assert said.startswith("a.csv, line 3, column 'id': the id is empty.")


def test_the_number_of_text_columns_is_that_of_the_task(tmp_path: Path):
    source = write(tmp_path, "a.csv", "text,label\na,1\n")
    said = message(ValueError, read, source, ONE, tmp_path, texts=2)
    assert said.startswith("a.csv: the task reads 2 texts, but columns.text names 1: 'text'.")
    said = message(ValueError, read, source, PAIR, tmp_path, texts=1)
    assert said.startswith("a.csv: the task reads 1 text, but columns.text names 2: 'sentence1', 'sentence2'.")


def test_the_digest_of_a_file_is_of_its_bytes(tmp_path: Path):
    first = read(write(tmp_path, "a.jsonl", json.dumps({"text": "a", "label": 1})), ONE, tmp_path, texts=1)
    second = read(write(tmp_path, "a.jsonl", json.dumps({"text": "a", "label": 2})), ONE, tmp_path, texts=1)
    assert first.parts[0].digest != second.parts[0].digest


@pytest.mark.parametrize("wanted", [1, "1", 1.0])
def test_where_keeps_the_rows_with_that_value_and_their_lines(tmp_path: Path, wanted: object):
    rows = "id,sentence1,sentence2,is_duplicate\na,x,y,1\nb,x,y,0\nc,x,z,1.0\n"
    source = write(tmp_path, "q.csv", rows).model_copy(update={"where": {"is_duplicate": wanted}})
    found = read(source, PAIR, tmp_path, texts=2)
    assert [(row.id, row.line) for row in found.rows] == [("a", 2), ("c", 4)]
    assert found.parts[0].digest == hashlib.sha256(rows.encode()).hexdigest()


def test_where_may_look_at_any_column_and_reports_when_nothing_is_left(tmp_path: Path):
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


# --- several files ---


def test_rows_of_several_files_follow_each_other_and_keep_their_places(tmp_path: Path):
    contents = {"a.csv": "id,text,label\nx,a,1\ny,b,\n", "b.jsonl": '{"id": "x", "text": "c", "label": "?"}\n'}
    for name, content in contents.items():
        write(tmp_path, name, content)
    source = Source(path=("a.csv", "b.jsonl", "c.parquet"))
    pq.write_table(pa.table({"text": ["", "d"], "label": [1, 2], "id": ["v", "w"]}), tmp_path / "c.parquet")
    found = read(source, Columns(text="text", id="id"), tmp_path, texts=1)
    assert found.rows == [Row(2, "x", ("a",), "1", 0), Row(1, "x", ("c",), "?", 1), Row(2, "w", ("d",), "2", 2)]
    assert found.name == "a.csv, b.jsonl, c.parquet"
    assert [found.at(row) for row in range(len(found))] == [
        "a.csv, line 2, column 'label'",
        "b.jsonl, line 1, column 'label'",
        "c.parquet, row 2, column 'label'",
    ]
    assert found.warnings == (
        "a.csv: dropped 1 row without a label in column 'label' (first: line 3).",
        "c.parquet: dropped 1 row with an empty text (first: row 1).",
        "b.jsonl: 1 row with an id used before (first: 'x', line 1).",
    )
    assert {part.name: part.digest for part in found.parts} == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in source.files
    }
    said = message(ValueError, labelled_examples, found, task("binary", labels=("1", "2")))
    assert said.startswith("b.jsonl, line 1, column 'label': '?' is not one of the classes '1', '2'.")


def test_rows_of_several_files_are_numbered_continuously(tmp_path: Path):
    for name in ("a.csv", "b.csv"):
        write(tmp_path, name, f"text,label\n{name}1,1\n{name}2,2\n")
    found = read(Source(path=("b.csv", "a.csv")), ONE, tmp_path, texts=1)
    assert [(row.id, row.texts) for row in found.rows] == [
        ("1", ("b.csv1",)),
        ("2", ("b.csv2",)),
        ("3", ("a.csv1",)),
        ("4", ("a.csv2",)),
    ]


def test_a_mistake_in_one_of_several_files_names_that_file(tmp_path: Path):
    write(tmp_path, "a.csv", "text,label,lang\na,1,en\n")
    write(tmp_path, "b.csv", "text,label\nb,1\n")
    both = Source(path=("a.csv", "b.csv"), where={"lang": "de"})
    assert message(ValueError, read, both, ONE, tmp_path, texts=1).startswith(
        "b.csv, line 1: there is no column 'lang'"
    )
    write(tmp_path, "b.csv", "text,label,lang\nb,1,fr\n")
    said = message(ValueError, read, both, ONE, tmp_path, texts=1)
    assert said == "a.csv, b.csv: no row has {'lang': 'de'}. Mend where, or drop it."
    write(tmp_path, "b.csv", "text,label,lang\nb,1,de\n")
    assert [row.texts for row in read(both, ONE, tmp_path, texts=1).rows] == [("b",)]
