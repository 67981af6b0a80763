"""Folders of input files for ``predict`` with a pattern, and the parts that it writes."""

import csv
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from toy_run import WORDS

ROWS = 23


def rows_of(number: int, rows: int = ROWS) -> list[dict[str, Any]]:
    """Returns generated rows for the file with this number; two texts of them are empty."""
    draw = random.Random(number)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 9)))

    made = [
        {"id": f"{number}-{i}", "sentence": text(), "sentence1": text(), "sentence2": text(), "n": i}
        for i in range(rows)
    ]
    made[1]["sentence"] = made[-1]["sentence2"] = ""
    return made


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Writes rows into a file whose format follows from its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=10)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(
            text, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(text.getvalue())
    return path


def inputs(folder: Path, suffix: str = ".parquet", files: int = 2) -> str:
    """Writes ``files`` input files into ``folder``, and returns the pattern that finds them."""
    for number in range(files):
        write_rows(folder / f"f{number}{suffix}", rows_of(number))
    return str(folder / f"*{suffix}")


def read_rows(*paths: Path) -> list[dict[str, Any]]:
    """Returns the rows of files, one file after the other."""
    found: list[dict[str, Any]] = []
    for path in paths:
        if path.suffix == ".parquet":
            found += pq.read_table(path).to_pylist()
        elif path.suffix == ".jsonl":
            found += map(json.loads, path.read_text().splitlines())
        else:
            with path.open(newline="") as file:
                found += csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    return found


def parts(folder: Path) -> dict[str, bytes]:
    """Returns the content of each part in an output folder, by its place in the folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".mtbert" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
