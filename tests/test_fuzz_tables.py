"""Any bytes in a table of any format give rows, or one line that names the file.

``MTBERT_FUZZ=100000 pytest tests/test_fuzz_tables.py`` tries more.
"""

import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mtbert.data.labels import complete, labelled_examples
from mtbert.data.sources import Source, read
from mtbert.data.tables import Columns
from mtbert.messages import clean
from mtbert.task import Task

fuzzed = settings(
    max_examples=int(os.environ.get("MTBERT_FUZZ", "300")),
    deadline=None,
    derandomize="MTBERT_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NAMES = ["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.json.gz"]
HEADER = ["id", "text", "second", "label"]
ROWS = [["x1", "one", 'he said "so"', "1"], ["x2", "two, three", "", "0"], ["x3", "vier\tfünf", "six\nseven", "2.5"]]


def separated(sign: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=sign).writerows([HEADER, *ROWS])
    return out.getvalue().encode()


def parquet(columns: dict[str, list[Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


OBJECTS = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
VALID = [
    separated(","),
    separated(";"),
    separated("\t"),
    b'text\tlabel\n"open\t1\nclosed"\t2\n',
    "\n".join(map(json.dumps, OBJECTS)).encode(),
    json.dumps(OBJECTS, indent=1).encode(),
    parquet({name: [row[i] for row in ROWS] for i, name in enumerate(HEADER)}),
    gzip.compress(separated(","), mtime=0),
]
PIECES = [b'"', b'""', b"\t", b",", b";", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\x1b[2J", b"\x07"]
PIECES += [b"{", b"}", b"[", b"]", b":", b"null", b"NaN", b"1e999", b"-", b"\\ud83d", b"\\u0000", b"text", b"label"]
PIECES += ["\u202e".encode(), "\u2028".encode(), "\x85".encode(), b"1_0", b"9" * 5000, b"true", b"\xed\xa0\x80"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 6))):
        at, size = draw(st.integers(0, len(content))), draw(st.sampled_from([0, 0, 1, 2, 5, 40]))
        put = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4), st.just(b"")))
        content[at : at + size] = put
    return bytes(content)


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["1", "0", " nan"])
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
TABLES = st.lists(
    st.dictionaries(st.sampled_from([*HEADER, "te\nxt", "label\x1b"]) | st.text(max_size=3), VALUES, max_size=5),
    min_size=1,
    max_size=5,
)
COLUMNS = st.sampled_from(
    [
        Columns(),
        Columns(text=("text", "second"), id="id"),
        Columns(text=("second",), label="id"),
        Columns(text=("label",), label="text", id="label\x1b"),
    ]
)
TYPES = st.sampled_from(["classification", "ordinal", "binary", "regression"])


def rows_or_one_line(folder: Path, name: str, content: bytes, columns: Columns, labelled: bool, type_: str) -> None:
    """Reads a file with this content as training or prediction does; an error must be one line with the file's name."""
    (folder / name).write_bytes(content)
    source = Source(path=name, where={"label": 1} if len(content) % 5 == 0 else None)
    task = Task.model_validate({"name": "t", "type": type_, "inputs": "single" if len(columns.text) == 1 else "packed"})
    try:
        table = read(source, columns, folder, texts=len(columns.text), labelled=labelled)
        said = " ".join(table.warnings)
        assert all(text == text.strip() != "" for row in table.rows for text in row.texts)
        assert len(table.rows) > 0
        if labelled:
            made = labelled_examples(table, complete(task, [table]))
            assert [e.id for e in made] == [row.id for row in table.rows]
    except ValueError as error:
        said = str(error)
        assert name in said
        assert len(said) < 2000
    assert clean(said) == said


@fuzzed
@given(st.sampled_from(NAMES), st.binary(max_size=200), COLUMNS, st.booleans(), TYPES)
def test_any_bytes_give_rows_or_one_line(tmp_path_factory, name, content, columns, labelled, type_):
    rows_or_one_line(tmp_path_factory.getbasetemp(), name, content, columns, labelled, type_)


@fuzzed
@given(st.sampled_from(NAMES), mutated(), st.booleans(), COLUMNS, st.booleans(), TYPES)
@example("a.csv", b'text,label\na\r"b,1\n', False, Columns(), True, "binary")
def test_a_damaged_table_gives_rows_or_one_line(tmp_path_factory, name, content, packed, columns, labelled, type_):
    if packed and name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    rows_or_one_line(tmp_path_factory.getbasetemp(), name, content, columns, labelled, type_)


@fuzzed
@given(TABLES, st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.tsv", "a.parquet"]), COLUMNS, st.booleans(), TYPES)
def test_any_values_give_rows_or_one_line(tmp_path_factory, rows, name, columns, labelled, type_):
    if name == "a.json":
        content = json.dumps(rows)
    elif name == "a.jsonl":
        content = "\n".join(json.dumps(row, ensure_ascii=len(rows) % 2 == 0) for row in rows)
    else:
        names = list(dict.fromkeys(column for row in rows for column in row)) or ["text"]
        if name == "a.parquet":
            try:
                content = parquet({column: [row.get(column) for row in rows] for column in names})
            except (pa.ArrowException, OverflowError, UnicodeEncodeError):
                return  # Parquet cannot store it
        else:
            out = io.StringIO()
            writer = csv.writer(out, delimiter="," if name == "a.csv" else "\t")
            writer.writerows([names, *([row.get(column) for column in names] for row in rows)])
            content = out.getvalue()
    if isinstance(content, str):
        content = content.encode("utf-8", errors="surrogatepass")
    rows_or_one_line(tmp_path_factory.getbasetemp(), name, content, columns, labelled, type_)
