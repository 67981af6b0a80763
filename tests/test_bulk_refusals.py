"""``predict`` with a pattern: every mistake in files, folders and options is one line, and nothing is destroyed."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_parts import inputs, parts, rows_of, write_rows


@pytest.fixture
def predicted(toy, mtbert, tmp_path):
    """Calls ``predict`` with a pattern below ``in`` and the output folder ``out``."""

    def run(pattern: str = "*.parquet", *more: object):
        call = ("--input", tmp_path / "in" / pattern, "--output", f"{tmp_path}/out/", "--part-rows", 10)
        return mtbert("predict", toy / "run", *call, *more)

    return run


def test_a_pattern_without_a_file_is_one_line(predicted, tmp_path):
    (tmp_path / "in").mkdir()
    said = predicted().mistake
    assert said == f"--input '{tmp_path}/in/*.parquet': no file matches. Check the pattern, and put it in quotes."
    assert not (tmp_path / "out").exists()


def test_a_folder_as_input_is_one_line(predicted, tmp_path):
    (tmp_path / "in").mkdir()
    assert predicted(".").mistake.endswith(
        ": a folder. Give a pattern for the files in it, such as 'FOLDER/*.parquet'."
    )


def test_a_file_that_is_not_parquet_is_found_before_anything_is_answered(predicted, tmp_path):
    inputs(tmp_path / "in")
    (tmp_path / "in/f1.parquet").write_bytes(b"no")
    assert predicted().mistake.startswith(f"{tmp_path}/in/f1.parquet: not a Parquet file (")
    assert not (tmp_path / "out").exists()


def test_a_damaged_line_is_one_line_and_the_parts_before_it_stay(predicted, tmp_path):
    inputs(tmp_path / "in", ".csv", files=1)
    file = tmp_path / "in/f0.csv"
    good = file.read_text()
    file.write_text(good + 'x,"open')
    assert predicted("*.csv").mistake.startswith(f"{file}, line 25: not a row of CSV (")
    assert list(parts(tmp_path / "out")) == ["f0-00000.csv", "f0-00001.csv"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sentence": None}, "{a}: has a column 'sentence', but {b} has none."),
        ({"more": 1}, "{b}: has a column 'more', but {a} has none."),
        ({"n": "text"}, "{b}, column 'n': is of type string, but int64 in {a}."),
    ],
)
def test_files_with_other_columns_are_one_line(predicted, tmp_path, change, said):
    write_rows(tmp_path / "in/a.parquet", rows_of(0))
    rows = [{k: v for k, v in (row | change).items() if v is not None} for row in rows_of(1)]
    write_rows(tmp_path / "in/b.parquet", rows)
    alike = " All files must have the same columns, or be scored into folders of their own."
    assert predicted().mistake == said.format(a=tmp_path / "in/a.parquet", b=tmp_path / "in/b.parquet") + alike


def test_a_column_that_no_file_has_is_one_line(predicted, tmp_path):
    inputs(tmp_path / "in")
    said = predicted("*.parquet", "--task", "sst", "--set", "tasks.sst.columns.text=sentense").mistake
    assert said.startswith(f"{tmp_path}/in/f0.parquet: there is no column 'sentense', found ")
    assert said.endswith("Task sst reads it. To name another column: --set tasks.sst.columns.text=sentence")


def test_objects_with_the_name_of_an_answer_in_one_file_alone_are_one_line(predicted, tmp_path):
    inputs(tmp_path / "in", ".jsonl")
    write_rows(tmp_path / "in/f1.jsonl", [row | {"sst": 1} for row in rows_of(1)])
    said = predicted("*.jsonl").mistake
    assert said.startswith(f"{tmp_path}/in/f1.jsonl: has a column 'sst', which is the name of an answer in the parts")


def test_an_answer_with_the_name_of_a_column_gets_another_name_in_all_parts(predicted, tmp_path):
    for number in (0, 1):
        write_rows(tmp_path / f"in/{number}.parquet", [row | {"sts.score": "x"} for row in rows_of(number)])
    done = predicted()
    assert "the answers to it are in 'predicted_sts.score'." in done.err
    names = [pq.read_schema(path).names for path in (tmp_path / "out").glob("*.parquet")]
    assert len(names) == 6
    assert all(each[5] == "sts.score" and each[-1] == "predicted_sts.score" for each in names)


def test_parts_of_another_model_tasks_or_size_are_not_mixed(toy, predicted, mtbert, tmp_path):
    pattern = inputs(tmp_path / "in")
    assert predicted().code == 0
    before = parts(tmp_path / "out")
    start = f"--output {tmp_path}/out: its parts were made with"
    assert predicted("*.parquet", "--task", "sst").mistake.startswith(f"{start} other tasks (('sst', 'quora', 'sts'), ")
    assert predicted("*.parquet", "--part-rows", 20).mistake.startswith(f"{start} another --part-rows (10, not 20). ")
    last = (toy / "run/last", "--input", pattern, "--output", tmp_path / "out", "--part-rows", 10)
    (tmp_path / "other").mkdir()
    assert mtbert("predict", *last).code in (0, 2)
    record = tmp_path / "out/.mtbert/job.json"
    record.write_text(record.read_text().replace('"model": "', '"model": "0'))
    assert predicted().mistake.startswith(f"{start} another model. ")
    assert parts(tmp_path / "out") == before


def test_an_input_that_changed_is_one_line_and_one_that_was_only_touched_is_not(predicted, tmp_path):
    inputs(tmp_path / "in")
    assert predicted().code == 0
    file = tmp_path / "in/f0.parquet"
    os.utime(file, (1, 1))
    assert predicted().code == 0
    write_rows(file, rows_of(7))
    out = tmp_path / "out"
    said = predicted().mistake
    assert said == (
        f"{file}: has changed since {out}/f0-00000.parquet was made from it. Remove {out}/f0-*.parquet to have its "
        "parts made again, or give another folder."
    )
    for part in out.glob("f0-*"):
        part.unlink()
    assert predicted().code == 0
    assert pq.read_table(out / "f0-00000.parquet")["id"].to_pylist()[0] == "7-0"


def test_folders_that_hold_something_else_are_not_written(toy, mtbert, predicted, tmp_path):
    pattern = inputs(tmp_path / "in")
    said = mtbert("predict", toy / "run", "--input", pattern, "--output", tmp_path / "in").mistake
    assert said.startswith(f"--output {tmp_path}/in: holds input files, such as '{tmp_path}/in/f0.parquet'.")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    assert predicted().mistake.startswith(f"--output {tmp_path}/out: holds 'mine.txt', which predict has not written.")
    said = mtbert("predict", toy / "run", "--input", pattern, "--output", f"{toy}/run/parts/").mistake
    assert said.endswith("which is a run. Give a file elsewhere.")


def test_parts_in_a_folder_of_the_pattern_are_no_input_of_the_next_call(toy, mtbert, tmp_path):
    write_rows(tmp_path / "in/year=1/a.parquet", rows_of(0))
    call = ("--input", f"{tmp_path}/in/**/*.parquet", "--output", f"{tmp_path}/in/out/", "--part-rows", 10)
    for _ in range(2):
        done = mtbert("predict", toy / "run", *call)
        assert done.err.splitlines()[-1].startswith("done: 23 rows with the answers of sst, quora, sts in 3 parts in ")
    assert set(parts(tmp_path / "in/out")) == {f"year=1/a-0000{part}.parquet" for part in range(3)}


def test_names_that_would_clash_or_cannot_be_shown_are_one_line(predicted, tmp_path):
    inputs(tmp_path / "in", ".csv", files=1)
    (tmp_path / "in/f0.csv.gz").write_bytes(b"")
    assert predicted("*").mistake.endswith(
        f": its parts would have the names of those of {tmp_path}/in/f0.csv. Rename one."
    )
    (tmp_path / "in/f0.csv.gz").rename(tmp_path / "in/f0\x1b[2J.csv")
    said = predicted("*").mistake
    assert said == f"{tmp_path}/in/f0\\x1b[2J.csv: its name has characters that cannot be shown. Rename it."
    (tmp_path / "in/f0\x1b[2J.csv").rename(tmp_path / "in/f0.xlsx")
    assert "files to score in parts end in .csv, .tsv, .jsonl, .parquet." in predicted("*").mistake
    (tmp_path / "in/f0.xlsx").rename(tmp_path / "in/f0.tsv")
    assert predicted("*").mistake.startswith(f"{tmp_path}/in/f0.tsv: ends in .tsv, but {tmp_path}/in/f0.csv in .csv.")


def test_a_file_without_rows_has_no_part_and_the_others_have(predicted, tmp_path):
    inputs(tmp_path / "in")
    table = pq.read_table(tmp_path / "in/f0.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "in/empty.parquet")
    done = predicted()
    assert done.err.splitlines()[0] == f"warning: {tmp_path}/in/empty.parquet: no rows, so no part."
    assert done.err.splitlines()[-1].endswith(
        " done: 46 rows with the answers of sst, quora, sts in 6 parts in {out}/"[1:].format(out=tmp_path / "out")
    )


def test_two_columns_of_one_name_are_one_line(predicted, tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table([["a"], ["b"]], names=["sentence", "sentence"]), tmp_path / "in/a.parquet")
    assert predicted().mistake.endswith("a.parquet: 2 columns are named 'sentence'. Rename all but one.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--unsure", "0.1"), "--unsure: marks a share of the rows of one file, and answers go into parts."),
        (("--task", "sst", "--vectors", "v.npy"), "--vectors: is for one file, and answers go into parts."),
        (("--part", "3/2"), "--part must be I/N with I from 1 to N, found 3/2."),
        (("--ray", "local"), "--ray: Ray is not installed. Run: pip install 'mtbert[ray]'"),
    ],
)
def test_options_that_parts_do_not_have_are_one_line(predicted, tmp_path, monkeypatch, options, said):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    inputs(tmp_path / "in")
    assert predicted("*.parquet", *options).mistake.startswith(said)


def test_options_of_parts_are_refused_for_one_file(toy, mtbert, tmp_path):
    inputs(tmp_path / "in")
    for option, value in (("--part", "1/2"), ("--part-rows", 5), ("--ray", "local")):
        call = ("--input", tmp_path / "in/f0.parquet", "--output", tmp_path / "a.csv", option, value)
        assert mtbert("predict", toy / "run", *call).mistake.startswith(f"{option}: is for parts. Give a pattern as ")
    said = mtbert("predict", toy / "run", "--input", tmp_path / "in/*.parquet").mistake
    assert said.endswith("a pattern, so answers go into parts. Give --output FOLDER.")


def test_a_file_whose_name_is_a_pattern_is_read_as_one_file(toy, mtbert, tmp_path):
    file: Path = write_rows(tmp_path / "in/a[1].csv", rows_of(0))
    done = mtbert("predict", toy / "run", "--input", file, "--output", tmp_path / "a.csv")
    assert done.err.splitlines()[-1] == f"done: 23 rows with the answers of sst, quora, sts in {tmp_path}/a.csv"


# Which files are read ----------------------------------------------------------------------------------------


def test_a_pattern_that_leads_up_behind_a_wildcard_is_refused(predicted, tmp_path):
    inputs(tmp_path / "in")
    said = predicted("*/../../f0.parquet").mistake
    assert said.endswith("has '..' behind a wildcard. Begin the pattern with the folder that it means.")
    assert not (tmp_path / "out").exists()


def test_a_pattern_with_two_stars_twice_finds_each_file_once(toy, mtbert, tmp_path):
    write_rows(tmp_path / "in/deep/er/a.csv", rows_of(0))
    up = tmp_path / "in/../in"  # before the wildcard, this is an ordinary folder
    call = ("--input", f"{up}/**/**/*.csv", "--output", f"{tmp_path}/out/", "--part-rows", 30)
    assert mtbert("predict", toy / "run", *call).code == 0
    assert list(parts(tmp_path / "out")) == ["deep/er/a-00000.csv"]


@pytest.mark.parametrize("pattern", ["a-00000.csv", "*.csv"])
def test_input_in_the_output_folder_is_said(toy, mtbert, tmp_path, pattern):
    out = tmp_path / "out"
    assert mtbert("predict", toy / "run", "--input", write_rows(tmp_path / "a.csv", rows_of(0)), "--output", f"{out}/")
    said = mtbert("predict", toy / "run", "--input", out / pattern, "--output", f"{out}/").mistake
    assert said.startswith(
        f"--input '{out}/{pattern}': finds only files in the output folder {out}, where predict writes its parts."
    )


def test_parts_are_not_overwritten_by_answers_to_one_file_or_by_parts_of_another_call(toy, mtbert, tmp_path):
    pattern = inputs(tmp_path / "in", ".csv")
    assert mtbert("predict", toy / "run", "--input", pattern, "--output", f"{tmp_path}/out/").code == 0
    before = parts(tmp_path / "out")
    for name in ("f0-00000.csv", "new.csv", "deeper/"):
        call = ("--input", tmp_path / "in/f0.csv", "--output", f"{tmp_path}/out/{name}")
        said = mtbert("predict", toy / "run", *call).mistake
        assert said.endswith(f"lies in {tmp_path}/out, which is a folder of answers in parts. Give a file elsewhere.")
    assert parts(tmp_path / "out") == before


# JSON lines --------------------------------------------------------------------------------------------------


def test_json_lines_that_lack_a_key_are_found_before_anything_is_answered(predicted, tmp_path):
    inputs(tmp_path / "in", ".jsonl")
    rows = [{key: value for key, value in row.items() if key != "sentence2"} for row in rows_of(1)]
    write_rows(tmp_path / "in/f1.jsonl", rows)
    assert predicted("*.jsonl").mistake.startswith(f"{tmp_path}/in/f1.jsonl: there is no column 'sentence2', found ")
    assert not (tmp_path / "out").exists()


def test_json_lines_may_lack_a_key_that_a_later_object_has(predicted, tmp_path):
    inputs(tmp_path / "in", ".jsonl")
    rows = rows_of(1)
    for row in rows[:-3]:
        del row["sentence2"]
    write_rows(tmp_path / "in/f1.jsonl", rows)
    assert predicted("*.jsonl").code == 0
    assert len(parts(tmp_path / "out")) == 6


@pytest.mark.parametrize("empty", ["a.jsonl", "f00.jsonl", "z.jsonl"])  # the first, a middle one and the last
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_of_json_lines_is_a_file_without_rows(predicted, tmp_path, empty, content):
    inputs(tmp_path / "in", ".jsonl")
    (tmp_path / "in" / empty).write_text(content)
    done = predicted("*.jsonl")
    assert f"warning: {tmp_path}/in/{empty}: no rows, so no part." in done.err.splitlines()
    assert done.err.splitlines()[-1].startswith("done: 46 rows with the answers of sst, quora, sts in 6 parts in ")


def test_empty_files_alone_are_one_line(predicted, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "in" / name).write_text("")
    said = predicted("*.jsonl").mistake
    assert said == f"{tmp_path}/in/a.jsonl: the file is empty, and so is every other input file. Give rows."
