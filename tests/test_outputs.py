"""Files of answers and vectors: which files may be written, their content, and full disks."""

import csv
import errno
import json
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from full_disk import files_of_at_most
from safetensors.numpy import load_file

from mtbert import load
from mtbert.use import outputs
from mtbert.use.outputs import ANSWERS, VECTORS, Answered, answered, flat, write_answers, write_vectors

# Which files may be written --------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that looks like a run with a model, and one data file beside it."""
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    for name in ("recipe.yaml", "environment.json", "metrics.jsonl", "best/mtbert.json", "best/model.safetensors"):
        (run / name).write_text(name)
    (tmp_path / "train.csv").write_text("text,label\n")
    return run


def checked(
    run: Path, name: Path | str, known: tuple[str, ...] = ANSWERS, reads: dict[Path, str] | None = None
) -> Path:
    if reads is None:
        reads = {run.parent / "train.csv": "data of task topic"}
    return outputs.check_output("--output", str(name), known, run, reads)


def refusal(*given: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is what is tested
        checked(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_file_may_be_written_and_an_older_one_if_it_may_be_replaced(run, tmp_path):
    for name in ("new.csv", "NEW.CSV", "a b.jsonl"):
        assert checked(run, tmp_path / name) == tmp_path / name
    old = tmp_path / "old.parquet"
    old.write_bytes(b"x")
    assert refusal(run, old) == f"--output {old}: exists. Give another file, or replace it (overwrite=True)."
    assert outputs.check_output("--output", str(old), ANSWERS, run, {}, overwrite=True) == old
    (tmp_path / "link.csv").symlink_to(tmp_path / "behind.csv")
    assert checked(run, tmp_path / "link.csv") == tmp_path / "behind.csv"


@pytest.mark.parametrize(
    "name",
    ["run/metrics.jsonl", "run/new.csv", "run/best/new.csv", "run/../run/new.csv", "linked/new.csv", "alias.csv"],
)
def test_nothing_in_a_run_is_written_however_it_is_spelt(run, tmp_path, name):
    (tmp_path / "linked").symlink_to(run)
    (tmp_path / "alias.csv").symlink_to(run / "fresh.csv")
    where, what = (run / "best", "a model") if "best" in name else (run, "a run")
    assert refusal(run, tmp_path / name).endswith(f": lies in {where}, which is {what}. Give a file elsewhere.")


def test_nothing_in_a_model_is_written(run):
    said = refusal(run, run / "best/model.safetensors", VECTORS)
    assert said == (
        f"--output {run}/best/model.safetensors: lies in {run}/best, which is a model. Give a file elsewhere."
    )


@pytest.mark.parametrize(
    ("what", "marks"),
    [
        ("a study", ("study.json", "cells/plain-0/recipe.yaml")),
        ("a tuning", ("recipe.yaml", "tune.db")),
        ("a tuning", ("recipe.yaml", "storage.json")),
        ("a folder of answers in parts", (".mtbert/job.json",)),
        ("an encoder", ("config.json", "model.safetensors")),
        ("an encoder", ("config.json", "model.safetensors.index.json")),
        ("an encoder", ("config.json", "pytorch_model.bin")),
    ],
)
def test_nothing_in_a_kept_folder_of_any_kind_is_written_at_any_depth(run, tmp_path, what, marks):
    for mark in marks:
        (tmp_path / "kept" / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kept" / mark).write_text("x")
    (tmp_path / "kept/deep/er").mkdir(parents=True)
    assert f": lies in {tmp_path}/kept, which is {what}." in refusal(run, tmp_path / "kept/deep/er/a.csv")


def test_a_config_alone_does_not_make_a_folder_a_kept_one(run, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "recipe.yaml").write_text("tasks: {}")
    assert checked(run, tmp_path / "a.csv") == tmp_path / "a.csv"


@pytest.mark.parametrize("name", ["train.csv", "run/../train.csv", "symbolic.csv", "hard.csv"])
def test_a_source_of_the_recipe_is_not_written_under_any_name(run, tmp_path, name):
    (tmp_path / "symbolic.csv").symlink_to("train.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "train.csv")
    assert refusal(run, tmp_path / name) == f"--output {tmp_path / name}: is data of task topic. Give another."


def test_a_file_in_a_data_set_of_the_recipe_is_not_written(run, tmp_path):
    (tmp_path / "saved").mkdir()
    said = refusal(run, tmp_path / "saved/a.csv", ANSWERS, {tmp_path / "saved": "data of task topic"})
    assert said.endswith("saved/a.csv: is data of task topic. Give another.")


def test_a_hard_link_to_a_file_of_the_run_is_not_written(run, tmp_path):
    (tmp_path / "hard.jsonl").hardlink_to(run / "metrics.jsonl")
    assert refusal(run, tmp_path / "hard.jsonl").endswith(
        f"hard.jsonl: is also a file of {run}, which is kept. Give another."
    )


def test_something_other_than_a_file_is_not_written(run, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "null.csv").symlink_to("/dev/null")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for name, what in (
        ("pipe.csv", "a pipe, not a file."),
        ("folder.csv", "a folder, not a file."),
        ("null.csv", "a device, not a file."),
        ("loop.csv", "Too many levels of symbolic links"),
        ("gone/a.csv", "must be a file in a folder that exists."),
        ("a.csv.gz", "must end in .csv or .tsv or .jsonl or .parquet."),
        ("a", "must end in .csv"),
        ("\x1b[2J.txt", "/\\x1b[2J.txt: the file must end in"),
    ):
        assert what in refusal(run, tmp_path / name)
    for name in ("/dev/stdout", "/dev/null"):
        assert f"--output {name}: the file must end in" in refusal(run, name)


def test_a_folder_in_which_nothing_may_be_written_is_named_before_any_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert "the folder of this file is not writable. Give another file." in refusal(run, tmp_path / "a.csv")


def test_a_name_too_long_for_its_unfinished_file_is_refused_before_any_work(run, tmp_path):
    with pytest.raises(OSError, match="File name too long"):
        checked(run, tmp_path / ("a" * 248 + ".csv"))


# Answers ---------------------------------------------------------------------------------------------------

RAW = [
    {"text": 'a "b", c\td\r', "n": 1, "seen": date(2020, 1, 2), "ok": True, "many": [1, None]},
    {"text": "\ud83d \n x", "n": "o\rne", "seen": None, "ok": None, "many": {"a": float("nan")}},
]
GIVEN = ["text", "n", "seen", "ok", "many"]
MADE = [{"label": "yes", "p(yes)": 2 / 3}, {"label": "no", "p(yes)": 1.23456789e-7}]


def test_columns_stay_in_their_order_and_answers_follow_them_with_six_digits():
    found = answered(GIVEN, RAW, MADE)
    assert found.columns == [*GIVEN, "label", "p(yes)"]
    assert found.rows == [
        RAW[0] | {"label": "yes", "p(yes)": 0.666667},
        RAW[1] | {"label": "no", "p(yes)": 1.23457e-07},
    ]
    assert found.renamed == {}


def test_numbers_in_a_list_of_an_answer_have_six_digits_too():
    found = answered(["id"], [{"id": 1}], [{"scores": [0.123456789, None], "names": ["a", "b"]}])
    assert found.rows == [{"id": 1, "scores": [0.123457, None], "names": ["a", "b"]}]


def test_an_answer_never_takes_the_place_of_a_column():
    found = answered(
        ["label", "predicted_score"], [{"label": "gold", "predicted_score": 3}], [{"label": "x", "score": 1.0}]
    )
    assert found.rows == [{"label": "gold", "predicted_score": 3, "predicted_label": "x", "score": 1.0}]
    assert found.renamed == {"label": "predicted_label"}
    twice = answered(["score", "predicted_score"], [{"score": 1, "predicted_score": 2}], [{"score": 5.0}])
    assert twice.columns == ["score", "predicted_score", "predicted_predicted_score"]


def test_a_row_without_a_value_for_a_column_has_none_in_the_table():
    assert answered(["a", "b"], [{"a": 1}], [{"score": 0.5}]).rows == [{"a": 1, "b": None, "score": 0.5}]


SEVERAL = {"topic": {"label": "a", "p(a)": 2 / 3}, "quality": {"score": 1.23456789}}


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".jsonl", '{"text": "x", "topic": {"label": "a", "p(a)": 0.666667}, "quality": {"score": 1.23457}}\n'),
        (".csv", "text,topic.label,topic.p(a),quality.score\nx,a,0.666667,1.23457\n"),
        (".tsv", "text\ttopic.label\ttopic.p(a)\tquality.score\nx\ta\t0.666667\t1.23457\n"),
    ],
)
def test_answers_of_several_tasks_are_objects_in_json_and_columns_in_a_table(tmp_path, suffix, content):
    answers = SEVERAL if suffix == ".jsonl" else flat(SEVERAL)
    write_answers(answered(["text"], [{"text": "x"}], [dict(answers)]), tmp_path / "a", suffix)
    assert (tmp_path / "a").read_text() == content


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_of_text_comes_back_as_it_was(tmp_path, suffix, delimiter):
    file = tmp_path / f"a{suffix}"
    write_answers(answered(GIVEN, RAW, MADE), file, suffix)
    with file.open(newline="", encoding="utf-8") as opened:
        header, *rows = list(csv.reader(opened, delimiter=delimiter))
    assert header == [*GIVEN, "label", "p(yes)"]
    assert rows == [
        ['a "b", c\td\r', "1", "2020-01-02", "true", "[1, null]", "yes", "0.666667"],
        ["\\ud83d \n x", "o\rne", "", "", '{"a": null}', "no", "1.23457e-07"],
    ]
    assert b'"o\rne"' in file.read_bytes()  # quoted: a bare carriage return would end the line


def test_json_lines_keep_values_and_hold_only_what_json_can_express(tmp_path):
    write_answers(answered(GIVEN, RAW, MADE), tmp_path / "a.jsonl", ".jsonl")
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        RAW[0] | {"seen": "2020-01-02", "label": "yes", "p(yes)": 0.666667},
        RAW[1] | {"many": {"a": None}, "label": "no", "p(yes)": 1.23457e-07},
    ]


def test_parquet_keeps_the_types_of_columns_and_turns_mixed_ones_into_text(tmp_path):
    given = [
        {"n": 1, "when": date(2020, 1, 2), "price": Decimal("1.50"), "mixed": 1, "half": "\ud83d"},
        {"n": None, "when": None, "price": None, "mixed": "a", "half": "b"},
    ]
    write_answers(answered(list(given[0]), given, MADE), tmp_path / "a.parquet", ".parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.to_pylist() == [
        given[0] | {"mixed": "1", "half": "\\ud83d", "label": "yes", "p(yes)": 0.666667},
        given[1] | {"label": "no", "p(yes)": 1.23457e-07},
    ]
    assert str(table.schema.field("n").type) == "int64"


def test_answers_and_vectors_of_a_file_are_those_of_its_rows(toy, mtbert, tmp_path):
    texts = ["a dog runs", "the film is very dull", "old"]
    (tmp_path / "in.csv").write_text("id,sentence\n" + "".join(f"x,{text}\n" for text in texts))
    call = ("--input", tmp_path / "in.csv", "--output", tmp_path / "a.jsonl", "--vectors", tmp_path / "v.npy")
    assert mtbert("predict", toy / "run", "--task", "sst", *call).code == 0
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    model = load(toy / "run")
    expected = [float(f"{answer['p(1)']:.6g}") for answer in model.predict("sst", texts)]
    assert [row["p(1)"] for row in found] == expected
    assert len(set(expected)) == 3
    vectors = model.vectors("sst", texts)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), vectors)
    assert len(np.unique(vectors, axis=0)) == 3


# Vectors, and a disk without room -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4), (0, 4)])
@pytest.mark.parametrize("fortran", [False, True])
def test_vectors_come_back_bitwise(tmp_path, shape, fortran):
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    vectors = np.asfortranarray(vectors) if fortran else vectors
    write_vectors(vectors, tmp_path / "v.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), vectors, strict=True)
    write_vectors(vectors, tmp_path / "V.safetensors")
    np.testing.assert_array_equal(load_file(tmp_path / "V.safetensors")["vectors"], vectors, strict=True)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "v.npy", "v.safetensors"])
def test_a_full_disk_names_the_file_and_leaves_the_old_one_unchanged(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(b"old")
    many = Answered(["x"], [{"x": str(np.random.default_rng(i).bytes(99))} for i in range(500)], {})
    vectors = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    with pytest.raises(OSError, match=name) as caught, files_of_at_most(4096):
        if name.startswith("a"):
            write_answers(many, file, file.suffix)
        else:
            write_vectors(vectors, file)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(file))
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
