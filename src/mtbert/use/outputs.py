"""The output files of ``predict``: checks that a file may be written, and writes answers and vectors."""

import csv
import io
import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtbert import files
from mtbert.advice import option
from mtbert.environment import ENVIRONMENT_FILE
from mtbert.messages import clean
from mtbert.recipe.files import RECIPE_FILE

ANSWERS = (".csv", ".tsv", ".jsonl", ".parquet")
SEPARATED = ("", ".csv", ".tsv")  # standard output too
VECTORS = (".npy", ".safetensors")
DIGITS = 6  # significant digits of a number in a file, or in a response of the server
RENAMED_PREFIX = "predicted_"  # put before the name of an answer that is also the name of an input column
STANDARD_OUTPUT = "-"
RECORDS = ".mtbert"  # readers of a folder of Parquet files skip names that begin with a full stop
JOB_FILE = "job.json"

# Folders in which predict writes nothing: what each one is, and the files that it is recognized by.
KEPT = (
    ("a model", ("mtbert.json",)),
    ("a run", (RECIPE_FILE, ENVIRONMENT_FILE)),
    ("a study", ("study.json", "cells")),
    ("a tuning", (RECIPE_FILE, "tune.db")),
    ("a tuning", (RECIPE_FILE, "storage.json")),
    ("a folder of answers in parts", (f"{RECORDS}/{JOB_FILE}",)),
    ("an encoder", ("config.json", "model.safetensors")),
    ("an encoder", ("config.json", "model.safetensors.index.json")),
    ("an encoder", ("config.json", "pytorch_model.bin")),
)

OutputRow = dict[str, object]


# Which files may be written ----------------------------------------------------------------------------------


def check_output(
    role: str, name: str, known: Sequence[str], model: Path, reads: Mapping[Path, str], *, overwrite: bool = False
) -> Path:
    """Checks that ``predict`` may write the output file ``name``, and returns its path with symbolic links resolved.

    Args:
        role: The option that names the file, as the user gives it.
        name: The file, as the user gave it.
        known: The endings that the file may have.
        model: The folder of the run or model that predicts.
        reads: Files and folders that must not be overwritten, each with a phrase that says what it is.

    Raises:
        ValueError: If the file cannot be written, or must not be overwritten; the message says why.
    """
    shown = f"{role} {clean(name)}"
    if Path(name).suffix.lower() not in known:
        raise ValueError(f"{shown}: the file must end in {' or '.join(known)}.")
    real = Path(os.path.realpath(name))
    try:
        for place in (Path(name), real):
            files.check_target(place, "Give another file.")
    except ValueError as error:
        raise ValueError(f"{role} {clean(str(error))}") from None
    check_place(shown, real, model, reads)
    if real.exists() and not overwrite:
        raise ValueError(f"{shown}: exists. Give another file, or replace it ({option('overwrite', True)}).")
    return real


def check_place(shown: str, real: Path, model: Path, reads: Mapping[Path, str], *, parts: Path | None = None) -> None:
    """Checks that ``predict`` may write an output file.

    Args:
        shown: The beginning of every error message, which names the file.
        real: The path of the file, with symbolic links resolved.
        model: The folder of the run or model that predicts.
        reads: Files and folders that must not be overwritten, each with a phrase that says what it is.
        parts: The output folder, if ``predict`` writes several files into one. The folder may hold answers already.

    Raises:
        ValueError: If the file must not be overwritten, or lies in a folder in which ``predict`` must not write, such
            as the folder of a run, a model, a study or an encoder.
    """
    for read, what in reads.items():
        if _same(real, read) or (read.is_dir() and real.is_relative_to(os.path.realpath(read))):
            raise ValueError(f"{shown}: is {what}. Give another.")
    for folder in real.parents:
        for what, marks in KEPT:
            own = folder == parts and marks == (f"{RECORDS}/{JOB_FILE}",)
            if not own and all((folder / mark).exists() for mark in marks):
                raise ValueError(f"{shown}: lies in {clean(str(folder))}, which is {what}. Give a file elsewhere.")
    if real.exists() and real.stat().st_nlink > 1 and any(_same(real, file) for file in model.rglob("*")):
        raise ValueError(f"{shown}: is also a file of {clean(str(model))}, which is kept. Give another.")


def _same(a: Path, b: Path) -> bool:
    if a.exists() and b.exists():
        return a.samefile(b)
    return a == Path(os.path.realpath(b))


# Answers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """A table with the rows of the input and the answers to each of them."""

    columns: Sequence[str]  # the input columns, followed by the answers
    rows: Sequence[OutputRow]
    renamed: Mapping[str, str]  # answers whose name was also an input column: old name to new name


def flat(answers: Mapping[str, Mapping[str, object]]) -> OutputRow:
    """Returns one flat dict with the answers that several tasks give for one row.

    The name of the task comes before each key:

    >>> flat({"topic": {"label": "a", "p(a)": 0.9}, "quality": {"score": 3.5}})
    {'topic.label': 'a', 'topic.p(a)': 0.9, 'quality.score': 3.5}
    """
    return {f"{task}.{key}": value for task, answer in answers.items() for key, value in answer.items()}


def answered(columns: Sequence[str], given: Iterable[Mapping[str, object]], answers: Iterable[OutputRow]) -> Answered:
    """Returns a table with all columns of the input, unchanged, followed by the columns of the answers.

    Numbers in answers are rounded to ``DIGITS`` significant digits. If an answer has the name of an input column, the
    answer gets the prefix ``predicted_``, and the input column stays as it is.

    Args:
        columns: The names of the input columns.
        given: The rows of the input.
        answers: For each row of the input, a dict from the name of each answer to its value.
    """
    names: dict[str, str] = {}
    rows = []
    for record, answer in zip(given, answers, strict=True):
        if not names:
            names = answer_names(columns, answer)
        rows.append({c: record.get(c) for c in columns} | {names[k]: rounded(v) for k, v in answer.items()})
    return Answered([*columns, *names.values()], rows, {k: v for k, v in names.items() if k != v})


def answer_names(columns: Collection[str], keys: Iterable[str]) -> dict[str, str]:
    """Returns a dict that maps the name of each answer in ``keys`` to the name of the output column for the answer.

    No output column has the name of an input column or of another output column. ``columns`` contains the names of the
    input columns.
    """
    names: dict[str, str] = {}
    for key in keys:
        names[key] = free_name(key, (*columns, *names.values()))
    return names


def joined(answer: OutputRow, separator: str) -> OutputRow:
    """Returns the answer with each list of texts replaced by one text: the items, with ``separator`` between them.

    A list stays a list if it is empty, or if an item contains ``separator``.
    """
    return {
        name: separator.join(value)
        if isinstance(value, list) and value and not any(separator in text for text in value)
        else value
        for name, value in answer.items()
    }


def free_name(name: str, taken: Collection[str]) -> str:
    """Returns a name that is not in ``taken``.

    The name is ``name`` itself, or ``name`` with ``RENAMED_PREFIX`` before it, once or several times.
    """
    while name in taken:
        name = RENAMED_PREFIX + name
    return name


def rounded(value: Any) -> Any:
    """Returns ``value`` with each number in it rounded to ``DIGITS`` significant digits."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write_answers(answered: Answered, file: Path | None, suffix: str) -> None:
    """Writes a table of answers atomically into ``file``, or to standard output if ``file`` is None.

    Args:
        answered: The table.
        file: The file to write; must not be None for Parquet.
        suffix: The ending of one of the formats in :data:`ANSWERS`; an empty text means CSV.

    Raises:
        OSError: If writing fails, for example on a full disk. The error names the file; its old content stays.
    """
    if suffix == ".parquet":
        assert file is not None
        files.write(file, lambda new: _write_parquet(answered, new))
        return
    content = as_bytes(answered, suffix)
    if file is not None:
        files.write(file, lambda new: new.write_bytes(content))
    else:
        files.write_output(content)


def as_bytes(answered: Answered, suffix: str, *, header: bool = True) -> bytes:
    """Returns a table of answers as the content of a text file.

    Args:
        answered: The table.
        suffix: ``.csv``, ``.tsv`` or ``.jsonl``; an empty text means CSV.
        header: Whether CSV and TSV begin with a line of column names.
    """
    if suffix == ".jsonl":
        text = _json_lines(answered)
    else:
        text = _separated(answered, "\t" if suffix == ".tsv" else ",", header)
    # A JSON escape can stand for half a surrogate pair, which UTF-8 cannot encode; it is written as an escape again.
    return text.encode("utf-8", errors="backslashreplace")


def _separated(answered: Answered, delimiter: str, header: bool) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    quoted = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    top = [answered.columns] if header else []
    for row in (*top, *([_cell(row[c]) for c in answered.columns] for row in answered.rows)):
        # csv.writer leaves a bare carriage return unquoted, and readers would take it for the end of a line.
        (quoted if any("\r" in cell for cell in row) else writer).writerow(row)
    return file.getvalue()


def _cell(value: object) -> str:
    """Returns a value as the text of a cell: JSON for a list, dict or boolean, and an empty text for None."""
    if value is None:
        return ""
    if isinstance(value, bool | dict | list | tuple):
        return json.dumps(_plain(value), ensure_ascii=False, default=str)
    return str(value)


def _json_lines(answered: Answered) -> str:
    return "".join(
        json.dumps({c: _plain(row[c]) for c in answered.columns}, ensure_ascii=False, default=str) + "\n"
        for row in answered.rows
    )


def _plain(value: object) -> object:
    """Returns ``value`` with each nan and infinite number replaced by None, because JSON cannot represent them."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(answered: Answered, file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(name: str) -> Any:
        values = [row[name] for row in answered.rows]
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):  # values of several types, or broken text
            texts = [None if value is None else _cell(value) for value in values]
            return pa.array([t and t.encode("utf-8", errors="backslashreplace").decode() for t in texts], pa.string())

    columns = [column(name) for name in answered.columns]
    with file.open("wb") as opened:
        pq.write_table(pa.table(columns, names=list(answered.columns)), opened)


# Vectors -----------------------------------------------------------------------------------------------------


def write_vectors(vectors: npt.NDArray[np.float32], file: Path) -> None:
    """Writes ``vectors`` atomically into a ``.npy`` or ``.safetensors`` file.

    Raises:
        OSError: If writing fails, for example on a full disk. The error names the file; its old content stays.
    """
    array = np.ascontiguousarray(vectors)  # safetensors would write the numbers of another layout in the wrong order

    def fill(new: Path) -> None:
        if file.suffix.lower() == ".npy":
            _write_npy(array, new)
        else:
            from safetensors.numpy import save_file

            save_file({"vectors": array}, new)

    files.write(file, fill)


def _write_npy(array: npt.NDArray[np.float32], file: Path) -> None:
    # numpy.save bypasses Python's file object, so its error on a full disk has no error number.
    with file.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, np.lib.format.header_data_from_array_1_0(array))
        opened.write(array.data)
