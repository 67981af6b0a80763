"""Files of every format: what is read, and the one line that every mistake gives."""

import errno
import gzip
import hashlib
import io
import json
import os
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import ONE, PAIR, message, refusal, write

from mtbert.batch import Example
from mtbert.data import formats, plain
from mtbert.data.labels import complete, labelled_examples
from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns, Row
from mtbert.task import Task


def test_the_handout_form_is_read_and_dropped_rows_are_reported(tmp_path: Path):
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
    assert found.parts[0].digest == hashlib.sha256(content.encode()).hexdigest()
    quora = complete(Task(name="t", type="binary", inputs="packed"), [found])
    assert quora.labels == ("0", "1")
    assert labelled_examples(found, quora)[1] == Example("aa2", ('"So" it is?', 'He said "so"?'), 1.0)


def test_a_line_number_is_that_of_the_first_line_of_a_row(tmp_path: Path):
    source = write(tmp_path, "a.csv", 'text,label\r\n"one\r\n\r\nthree",x\r\n\r\nfour,y\r\n')
    rows = read(source, ONE, tmp_path, texts=1).rows
    assert rows == [Row(2, "1", ("one\r\n\r\nthree",), "x"), Row(6, "2", ("four",), "y")]


@pytest.mark.parametrize("sign", [",", "\t"])
def test_blank_lines_before_the_header_count(tmp_path: Path, sign: str):
    source = write(tmp_path, "a.csv", f"\n \r\ntext{sign}label\n\na{sign}1\nb{sign}2\n")
    assert [row.line for row in read(source, ONE, tmp_path, texts=1).rows] == [5, 6]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "A.CSV"])
def test_the_delimiter_is_what_the_header_shows(tmp_path: Path, name: str):
    for content in ("\ufefflabel\ttext\ta, b\nx\tone, two\tc\n", 'label,text\nx,"one, two"'):
        found = read(write(tmp_path, name, content), ONE, tmp_path, texts=1)
        assert found.rows == [Row(2, "1", ("one, two",), "x")]


def test_one_column_may_hold_commas_and_ends_with_its_last_text(tmp_path: Path):
    source = write(tmp_path, "a.txt", "text\none, two\nthree\n\n\n")
    found = read(source, ONE, tmp_path, texts=1, labelled=False)
    assert found.rows == [Row(2, "1", ("one, two",), None), Row(3, "2", ("three",), None)]


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
        (b'text,label\na,1\n"b"c,2\n', "a.csv, line 3: not a row of CSV (',' expected after '\"')"),
        (b"text,label\na,1\nb,c,2\n", "a.csv, line 3: 3 fields, but the header has 2. Quote a text that holds a comma"),
        (b"text\tlabel\na\n", "a.csv, line 2: 1 field, but the header has 2. Quote a text that holds a tab"),
        (
            b"\ntxt,label,id\na,1,2\n",
            "a.csv, line 2: there is no column 'text', found 'txt', 'label', 'id'. Did you mean",
        ),
        (
            b"text,lable\na,1\n",
            "no column 'label', found 'text', 'lable'. Did you mean 'lable'? Set tasks.TASK.columns.label.",
        ),
        (b"txt;label\na;1\n", "a.csv, line 1: there is no column 'text', found 'txt', 'label'. Did you mean 'txt'?"),
        (b"text;label\na;1;2\n", "a.csv, line 2: 3 fields, but the header has 2. Quote a text that holds a semicolon"),
        (b"text,label\na\rb,1\n", "a.csv, line 2: a carriage return (\\r) stands inside the row and ends no line."),
        (b"text\tlabel\na\t1\nb\rc\t2\n", "a.csv, line 3: a carriage return (\\r) stands inside the row"),
        (b"text,label,text\na,1,b\n", "a.csv, line 1: 2 columns are named 'text'"),
        (
            b"text,label\na,\n,1\nb,\n",
            "no usable row; dropped 2 rows without a label in column 'label' (first: line 2), d",
        ),
    ],
)
def test_a_broken_csv_is_one_line_that_names_the_place(tmp_path: Path, content: bytes, said: str):
    assert said in refusal(tmp_path, "a.csv", content)


@pytest.mark.parametrize("name", ["a.docx", "a", "a.parquet.gz", "a.csv.zip"])
def test_an_unknown_kind_of_file_is_refused(tmp_path: Path, name: str):
    kind = {"a.parquet.gz": ".parquet.gz", "a.csv.zip": ".zip", "a": ""}.get(name, ".docx")
    assert refusal(tmp_path, name, b"PK") == (
        f"{name}: '{kind}' is not a known kind of file. Use one of .csv, .tsv, .txt, .jsonl, .json, .conll, .parquet, "
        "or one of the first 6 with .gz behind it."
    )


@pytest.mark.parametrize("name", ["a.xlsx", "a.XLS", "a.ods"])
def test_a_spreadsheet_is_refused_with_the_way_out(tmp_path: Path, name: str):
    said = refusal(tmp_path, name, b"PK")
    assert said.startswith(f"{name}: a spreadsheet, which is not read. Save the sheet as CSV (UTF-8), or from Python: ")


def test_a_missing_file_names_the_nearest_one(tmp_path: Path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", "sts-train.csv", "text,label\na,1\n")
    said = message(FileNotFoundError, read, Source(path="data/sts-trian.csv"), ONE, tmp_path, texts=1)
    assert said == "data/sts-trian.csv: there is no such file. Did you mean 'sts-train.csv'?"
    said = message(FileNotFoundError, read, Source(path="data/x.csv"), ONE, tmp_path, texts=1)
    assert said == "data/x.csv: there is no such file. Check the path."
    said = message(FileNotFoundError, read, Source(path="date/x.csv"), ONE, tmp_path, texts=1)
    assert said == "date/x.csv: there is no folder 'date'. Check the path."
    said = message(FileNotFoundError, read, Source(path="x.csv"), ONE, tmp_path / "no", texts=1)
    assert said.startswith(f"x.csv: there is no folder '{tmp_path / 'no'}'. Check the path.")


def test_a_folder_is_not_a_file(tmp_path: Path):
    (tmp_path / "data").mkdir()
    said = message(ValueError, read, Source(path="data"), ONE, tmp_path, texts=1)
    assert said.startswith("data: a folder, not a file.")
    said = message(ValueError, read, Source(path="x" * 300 + ".csv"), ONE, tmp_path, texts=1)
    assert "cannot be read (File name too long)" in said


def test_a_text_longer_than_the_csv_modules_own_limit_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "long " * 60_000 + ",1\n")
    (row,) = read(Source(path="a.csv"), Columns(text=("text",)), tmp_path, texts=1).rows
    assert len(row.texts[0]) == 60_000 * 5 - 1


# --- separators and quotes ---


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("text;label", "one, two;x"),
        ('"text";"label"', '"one, two";"x"'),
        ("label;text;price, net", "x;one, two;3"),  # the first sign under which both columns are there
        ("text,label;note", '"one, two",x'),
        ("text\tlabel;note,more\tlabel", "one, two\ta\tx"),
    ],
)
def test_the_separator_is_the_one_under_which_the_header_has_the_columns(tmp_path: Path, header: str, row: str):
    columns = Columns(text="text", label="label;note" if header.startswith("text,") else "label")
    found = read(write(tmp_path, "a.csv", f"{header}\n{row}\n"), columns, tmp_path, texts=1)
    assert [(r.texts, r.label) for r in found.rows] == [(("one, two",), "x")]


def test_a_column_that_may_be_missing_does_not_change_the_separator(tmp_path: Path):
    columns = Columns(text="text", id="id")
    table = read(write(tmp_path, "a.csv", "text;note, extra\none, two;x\n"), columns, tmp_path, texts=1, labelled=False)
    assert table.rows == [Row(2, "1", ("one, two",), None)]


def test_the_carriage_returns_of_an_old_mac_end_lines(tmp_path: Path):
    for content in ('text,label\ra,1\r"b\rc",2\r', 'text\tlabel\ra\t1\r"b\rc"\t2'):
        rows = read(write(tmp_path, "a.csv", content), ONE, tmp_path, texts=1).rows
        assert rows == [Row(2, "1", ("a",), "1"), Row(3, "2", ("b\rc",), "2")]


def test_a_carriage_return_inside_quotes_is_part_of_the_text(tmp_path: Path):
    for content in ('text,label\n"a\rb",1\n', 'text\tlabel\n"a\rb"\t1\n'):
        assert read(write(tmp_path, "a.csv", content), ONE, tmp_path, texts=1).rows == [Row(2, "1", ("a\rb",), "1")]


# --- packed files ---


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", "text,label\nö,x\n"),
        ("a.TSV.GZ", "text\tlabel\nö\tx\n"),
        ("a.jsonl.gz", '{"text": "ö", "label": "x"}'),
        ("a.json.gz", '[{"text": "ö", "label": "x"}]'),
    ],
)
def test_a_file_packed_by_gzip_is_read(tmp_path: Path, name: str, content: str):
    packed = gzip.compress(content.encode())
    found = read(write(tmp_path, name, packed), ONE, tmp_path, texts=1)
    assert [(row.texts, row.label) for row in found.rows] == [(("ö",), "x")]
    assert found.parts[0].digest == hashlib.sha256(packed).hexdigest()


def test_a_damaged_gzip_file_is_one_line(tmp_path: Path):
    packed = gzip.compress(os.urandom(100_000).hex().encode())
    assert refusal(tmp_path, "a.csv.gz", b"text,label\n").startswith("a.csv.gz: not a gzip file (")
    assert refusal(tmp_path, "a.csv.gz", packed[:1000]).startswith("a.csv.gz: not a")
    assert refusal(tmp_path, "a.csv.gz", packed[:5000] + b"x" * 100 + packed[5100:]).startswith("a.csv.gz: not a")


# --- files that are not tables, and absurd sizes ---


def test_only_regular_files_are_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "endless.jsonl").symlink_to("/dev/zero")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for name, said in {
        "pipe.csv": "pipe.csv: a pipe, not a file. Check the path.",
        "endless.jsonl": "endless.jsonl: a device, not a file. Check the path.",
        "loop.csv": "loop.csv: cannot be read (Too many levels of symbolic links). Check the path and its permissions.",
    }.items():
        assert message(ValueError, read, Source(path=name), ONE, tmp_path, texts=1) == said


def test_a_file_of_absurd_size_is_refused_at_once(tmp_path: Path):
    (tmp_path / "a.csv").touch()
    os.truncate(tmp_path / "a.csv", 50 * 2**30)
    said = message(ValueError, read, Source(path="a.csv"), ONE, tmp_path, texts=1)
    assert said == "a.csv: has 53,687,091,200 bytes, but at most 4,294,967,296 are read. Check the path."
    os.truncate(tmp_path / "a.csv", 2**31)
    said = message(ValueError, read, Source(path="a.csv"), ONE, tmp_path, texts=1)
    assert said.startswith("a.csv, line 1: a NUL character is not text.")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.jsonl",
            b'{"text": "a", "label": 1}\n{"text": "' + b"x" * 2**22,
            "a.jsonl, line 2: more than 4,194,304 char",
        ),
        ("a.json", b'[{"text": "a", "more": [' + b"1.5," * 2**20, "or an item of more than 4,194,304 characters"),
        (
            "a.csv",
            b'text,label\n"' + b"a,1\n" * 2**21,
            "line 2: not a row of CSV (a field of more than 4,194,304 char",
        ),
        ("a.tsv", b"text\tlabel\n" + b"x" * 2**22 + b"\n", "a.tsv, line 2: more than 4,194,304 characters"),
        (
            "a.csv.gz",
            gzip.compress(b"text,label\n" + b"x" * 2**27),
            "a.csv.gz, line 2: more than 4,194,304 characters",
        ),
    ],
)
def test_a_row_of_absurd_size_is_one_line_in_little_memory(tmp_path: Path, name: str, content: bytes, said: str):
    before = resource.getrlimit(resource.RLIMIT_AS)
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + 2**30, before[1]))
    try:
        assert said in refusal(tmp_path, name, content)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# --- foreign text in messages ---


EVIL = "te\x1b[2Jxt\x07\nmtbert: all is well"


def test_names_and_values_of_a_file_are_shown_escaped_and_cut(tmp_path: Path):
    said = refusal(tmp_path, "a.jsonl", json.dumps({EVIL: 1, "label": 1}))
    assert said == (
        "a.jsonl: there is no column 'text', found 'te\\x1b[2Jxt\\x07\\nmtbert: all is well', 'label'. "
        "Set tasks.TASK.columns.text, or tables.TABLE.columns.text. (mtbert docs own-data)"
    )
    said = refusal(tmp_path, "a.csv", "text\x07,label\na,1\n")
    assert "found 'text\\x07', 'label'. Did you mean 'text\\x07'?" in said
    said = refusal(tmp_path, "a.jsonl", json.dumps({"text": [EVIL] * 10_000, "label": 1}))
    assert "\x1b" not in said
    assert len(said) < 300
    said = refusal(tmp_path, "b\x1b[2J\nd.csv", "text,label\na\n")
    assert said.startswith("b\\x1b[2J\\nd.csv, line 2: 1 field")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "b,a\n2,1\n,3\n"),
        ("a.jsonl", '{"b": "2", "a": "1"}\n{"a": "3", "b": ""}\n'),
        ("a.parquet", None),
    ],
)
def test_all_columns_are_returned_if_none_are_named(tmp_path: Path, name: str, content: str | None):
    if content is None:
        pq.write_table(pa.table({"b": ["2", ""], "a": ["1", "3"]}), tmp_path / name)
    else:
        write(tmp_path, name, content)
    with formats.opened(name, tmp_path / name, (), every=True) as records:
        assert [list(values) for _, values in records.rows] == [["2", "1"], ["", "3"]]
        assert list(records.columns) == ["b", "a"]


# A disk that fails ---------------------------------------------------------------------------------------------


class Failing(io.RawIOBase):
    """A file whose disk fails after the first read."""

    def __init__(self) -> None:
        self.reads = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.reads += 1
        if self.reads > 1:
            raise OSError(errno.EIO, "Input/output error")
        buffer[:9] = b"text\na\nb\n"
        return 9


def test_a_disk_that_fails_while_a_file_is_read_is_a_line_about_this_file():
    with plain.decoded("a.csv", io.BufferedReader(Failing()), packed=False) as text:
        rows = iter(text)
        assert next(rows) == "text\n"
        with pytest.raises(
            ValueError, match=r"^a\.csv: cannot be read \(Input/output error\)\. Check the path and its"
        ):
            list(rows)


def test_an_error_of_another_file_is_not_blamed_on_the_file_that_is_open(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text\na\n")
    with (
        pytest.raises(OSError, match=r"Errno 28.*b\.csv") as caught,
        formats.opened("a.csv", tmp_path / "a.csv", ["text"]),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "b.csv")
    assert caught.value.filename == "b.csv"
