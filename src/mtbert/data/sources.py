"""From a file, a hub data set or the generated demo to examples; every mistake in the data is one line.

The same three steps for any source: :func:`read` gives rows of stripped strings, :func:`complete` finds a task's
classes or range in them, :func:`examples` turns labels into numbers.
"""

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from mtbert.batch import Example
from mtbert.data import demo
from mtbert.messages import count, few, near, reason, shown
from mtbert.settings import Settings
from mtbert.task import Task

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".parquet")
BOM = b"\xef\xbb\xbf"


class Columns(Settings):
    """Which columns hold what; ``columns: {text: [sentence1, sentence2], label: similarity, id: id}``."""

    text: tuple[str, ...] = Field(default=("text",), description="one or two column names")
    label: str | None = "label"
    id: str | None = Field(default=None, description="null: rows are numbered from 1")

    @field_validator("text", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if len(self.text) not in (1, 2) or len(set(self.text)) != len(self.text):
            raise ValueError(
                f"text must name one column or two different ones, found {few(self.text, most=4, quoted=True)}."
            )
        return self


class Source(Settings):
    """Where a table comes from: exactly one of ``path``, ``hub`` and ``generated``; a plain string is a path."""

    path: str | None = Field(default=None, description=f"a file; one of {', '.join(SUFFIXES)}")
    hub: str | None = Field(default=None, description="a data set of the Hugging Face hub, or a local folder of one")
    config: str | None = Field(default=None, description="hub only: the configuration, e.g. 'sst2' of 'nyu-mll/glue'")
    split: str | None = Field(default=None, description="hub: its name of the split; generated: train or dev")
    generated: str | None = Field(default=None, description="a task of the generated demo: sst, quora or sts")
    where: dict[str, Any] | None = Field(
        default=None, description="keep only rows whose columns hold these values: {is_duplicate: 1}"
    )

    @field_validator("where")
    @classmethod
    def _plain_values(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for column, wanted in (value or {}).items():
            if not isinstance(wanted, str | int | float):
                raise ValueError(
                    f"column {shown(column)} must be given a text, a number, true or false, found {shown(wanted)}."
                )
        return value

    @model_validator(mode="before")
    @classmethod
    def _path_by_default(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        given = [key for key in ("path", "hub", "generated") if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"a source needs exactly one of path, hub and generated, found {found}.")
        if self.config is not None and self.hub is None:
            raise ValueError(f"config is for hub data sets, found {shown(self.config)} beside {given[0]}. Drop config.")
        if self.path is not None and self.split is not None:
            raise ValueError(
                f"a file has no splits, found split {shown(self.split)}. Drop split, or name another file."
            )
        if self.generated is not None and self.where is not None:
            raise ValueError("generated rows have no columns to choose by, found where. Drop where.")
        if self.path is None and self.split is None:
            raise ValueError(f"{given[0]} needs a split. Add split: train, or another one it has.")
        if self.generated is not None:
            for key, value, known in (
                ("generated", self.generated, ("sst", "quora", "sts")),
                ("split", str(self.split), ("train", "dev")),
            ):
                if value not in known:
                    raise ValueError(
                        f"{key} must be one of {', '.join(known)}, found {shown(value)}.{near(value, known)}"
                    )
        return self


@dataclass(frozen=True)
class Row:
    """One row as written: stripped texts and label; ``line`` is its first line (or its number, from 1)."""

    line: int
    id: str
    texts: tuple[str, ...]
    label: str | None


@dataclass(frozen=True)
class Table:
    """The rows of a source; ``digest`` is the SHA-256 of the file's bytes, or else of the rows."""

    name: str
    rows: Sequence[Row]
    warnings: tuple[str, ...]
    digest: str
    column: str = "label"
    unit: str = "line"

    def at(self, row: Row) -> str:
        """Where a label stands, for messages: ``sts.csv, line 812, column 'similarity'``."""
        return _at(self.name, self.unit, row.line, self.column)


@dataclass(frozen=True)
class _Raw:
    """What the formats have in common: column names, and numbered records of any values."""

    columns: Sequence[str]
    records: Sequence[tuple[int, Mapping[str, object]]]
    unit: str = "line"
    header: str = ""  # where the names stand, for messages


def read(source: Source, columns: Columns, root: Path, *, texts: int, labelled: bool = True) -> Table:
    """The rows of a source, in order.

    Args:
        source: Where the rows are; ``generated`` ones have no columns, so ``columns`` is then not looked at.
        columns: The columns to read.
        root: The folder that relative paths start from.
        texts: The number of texts the task reads, 1 or 2.
        labelled: True drops, with one counted warning each, rows without a label and rows with an empty text. False
            (input of a prediction) keeps every row, and no labels; the id column may be missing.

    Raises:
        FileNotFoundError: If there is no such file; the message names the nearest one.
        ValueError: If the content cannot be read, or an unlabelled row has an empty text.
    """
    if source.generated is not None:
        return _generated(source.generated, str(source.split), texts, labelled)
    name = (
        source.path
        if source.path is not None
        else f"{source.hub} [{', '.join(filter(None, (source.config, source.split)))}]"
    )
    if len(columns.text) != texts:
        raise ValueError(
            f"{name}: the task reads {count(texts, 'text')}, but columns.text names {len(columns.text)}: "
            f"{_quoted(columns.text)}. Name {texts}, or change the task's inputs."
        )
    if labelled and columns.label is None:
        raise ValueError(f"{name}: labelled rows need a label column, found null. Set columns.label.")
    wanted = [("text", c) for c in columns.text]
    wanted += [("label", columns.label)] if labelled and columns.label is not None else []
    wanted += [("id", columns.id)] if columns.id is not None else []
    chosen = {column: _label(value) for column, value in (source.where or {}).items()}
    wanted += [("where", column) for column in chosen]
    if source.path is not None:
        data = _bytes(name, root / source.path)
        raw = _parse(name, Path(source.path).suffix.lower(), data)
        digest = hashlib.sha256(data).hexdigest()
    else:
        raw, digest = _hub(name, source, root, wanted), None
    if not labelled and columns.id not in raw.columns:
        columns = columns.model_copy(update={"id": None})
        wanted = [(key, column) for key, column in wanted if key != "id"]
    _check_columns(name, raw, wanted)
    if chosen:
        raw = replace(raw, records=[(line, record) for line, record in raw.records if _holds(record, chosen)])
        if not raw.records:
            raise ValueError(f"{name}: no row has {shown(source.where)}. Mend where, or drop it.")
    rows, warnings = _rows(name, raw, columns, labelled)
    return Table(name, rows, warnings, digest or _digest(rows), columns.label or "label", raw.unit)


def complete(task: Task, tables: Sequence[Table]) -> Task:
    """The task with its classes (of the first table) or its range (over all tables) filled in where null.

    Classes are sorted as numbers if all are numbers, else alphabetically.

    Raises:
        ValueError: If the classes are too few, or their order cannot be known; if a score is not a number, or all
            scores are equal.
    """
    if task.is_class:
        return task if task.labels is not None else task.model_copy(update={"labels": _classes(task, tables[0])})
    if task.range is not None:
        return task
    scores = [_score(t, r, r.label, None) for t in tables for r in t.rows if r.label is not None]
    if not scores or min(scores) == max(scores):
        found = f"all {len(scores)} scores are {scores[0]:g}" if scores else "there are no scores"
        raise ValueError(
            f"{tables[0].name}, column '{tables[0].column}': {found}. Check the column, or set the task's range."
        )
    return task.model_copy(update={"range": (min(scores), max(scores))})


def examples(table: Table, task: Task) -> list[Example]:
    """The rows as examples: labels become class indices, or scores in the task's own range.

    Raises:
        ValueError: If a label is not one of the task's classes, or not a number in its range.
    """
    index = {_whole(name.strip()): float(i) for i, name in enumerate(task.labels or ())}
    if len(index) != len(task.labels or ()):
        raise ValueError(f"task {task.name}, labels: two of {_quoted(task.labels or ())} are the same label. Drop one.")

    def number(row: Row) -> float | None:
        if row.label is None:
            return None
        if not task.is_class:
            return _score(table, row, row.label, task.range)
        if row.label not in index:
            raise ValueError(
                f"{table.at(row)}: '{row.label}' is not one of the classes {_quoted(tuple(index))}."
                f"{near(row.label, index)} Fix or drop the row, or add the class to the task's labels."
            )
        return index[row.label]

    return [Example(row.id, row.texts, number(row)) for row in table.rows]


def _classes(task: Task, table: Table) -> tuple[str, ...]:
    found = sorted({row.label for row in table.rows if row.label is not None})
    numbers = {name: n for name in found if (n := _number(name)) is not None}
    where = f"{table.name}, column '{table.column}'"
    if len(found) < 2 or (task.type == "binary" and len(found) != 2):
        need = "exactly 2" if task.type == "binary" else "at least 2"
        repair = "Use type: classification, or check the column." if len(found) > 2 else "Check the column."
        raise ValueError(
            f"{where}: type '{task.type}' needs {need} classes, found {len(found)}: {_quoted(found)}. {repair}"
        )
    if len(numbers) == len(found):
        return tuple(sorted(found, key=lambda name: numbers[name]))
    if task.type == "ordinal":
        raise ValueError(
            f"{where}: the order of the classes {_quoted(found)} is unknown. List them in order in the task's labels."
        )
    return tuple(found)


def _score(table: Table, row: Row, label: str, limits: tuple[float, float] | None) -> float:
    low, high = limits or (-math.inf, math.inf)
    repair = f"Give {low:g} to {high:g}, or drop the row." if limits else "Give a number, or drop the row."
    score = _number(label)
    if score is None:
        raise ValueError(f"{table.at(row)}: '{label}' is not a number. {repair}")
    if not low <= score <= high:
        raise ValueError(f"{table.at(row)}: {label} is outside the task's range. {repair}")
    return score


def _generated(task: str, split: str, texts: int, labelled: bool) -> Table:
    name = f"generated {task} [{split}]"
    made = demo.examples(task, split)
    rows = [Row(i, e.id, e.texts, _label(e.label) if labelled else None) for i, e in enumerate(made, 1)]
    if len(made[0].texts) != texts:
        raise ValueError(
            f"{name}: the task reads {count(texts, 'text')}, but the rows hold {len(made[0].texts)}. "
            "Change the task's inputs, or name another generated task."
        )
    return Table(name, rows, (), _digest(rows), unit="row")


def _bytes(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        folder = path.parent
        if not folder.is_dir():
            raise FileNotFoundError(f"{name}: there is no folder '{Path(name).parent}'. Check the path.") from None
        hint = near(path.name, [p.name for p in folder.iterdir() if p.is_file()])
        raise FileNotFoundError(f"{name}: there is no such file.{hint or ' Check the path.'}") from None
    except IsADirectoryError:
        raise ValueError(
            f"{name}: a folder, not a file. Name one of the files in it, or use hub: for a data set."
        ) from None
    except OSError as error:
        raise ValueError(f"{name}: cannot be read ({error.strerror}). Check the path and its permissions.") from None


def _parse(name: str, suffix: str, data: bytes) -> _Raw:
    if suffix not in SUFFIXES:
        raise ValueError(f"{name}: '{suffix}' is not a known kind of file. Use one of {', '.join(SUFFIXES)}.")
    if not data.removeprefix(BOM).strip():
        raise ValueError(f"{name}: the file is empty. Give a header line and rows.")
    if suffix == ".parquet":
        return _parquet(name, data)
    return _jsonl(name, _text(name, data)) if suffix == ".jsonl" else _csv(name, _text(name, data))


def _text(name: str, data: bytes) -> str:
    data = data.removeprefix(BOM)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{name}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from None
    if (nul := text.find("\0")) >= 0:
        line = text.count("\n", 0, nul) + 1
        raise ValueError(f"{name}, line {line}: a NUL character is not text. Save the file again as UTF-8 text.")
    return text


def _csv(name: str, text: str) -> _Raw:
    # Only a comma in the header can mean commas: a file of one column may have commas in its texts.
    top = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    delimiter = "," if "," in top and "\t" not in top else "\t"
    csv.field_size_limit(2**31 - 1)  # of the csv module as a whole; its own limit cuts off long texts
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    header_line, line = 1, 1
    records: list[tuple[int, Mapping[str, object]]] = []
    try:
        for fields in reader:
            start, line = line, reader.line_num + 1
            if not header:
                header, header_line = [field.strip() for field in fields], start
            elif len(fields) == len(header):
                records.append((start, dict(zip(header, fields, strict=True))))
            elif not fields:
                # A blank line is nothing in a wide file, and an empty text in a file of one column.
                if len(header) == 1:
                    records.append((start, {header[0]: ""}))
            else:
                sign = "tab" if delimiter == "\t" else "comma"
                raise ValueError(
                    f"{name}, line {start}: {count(len(fields), 'field')}, but the header has "
                    f"{len(header)}. Quote a text that holds a {sign}, or fix the row."
                )
    except csv.Error as error:
        what = str(error).replace("\t", "\\t")
        raise ValueError(
            f'{name}, line {line}: not a row of CSV ({what}). Close every quote, and write a quote inside one as "".'
        ) from None
    while len(header) == 1 and records and records[-1][1][header[0]] == "":
        records.pop()
    return _Raw(header, records, header=f", line {header_line}")


def _jsonl(name: str, text: str) -> _Raw:
    records: list[tuple[int, Mapping[str, object]]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = reason(error)
            raise ValueError(f"{name}, line {number}: not JSON ({what}). Give one object per line.") from None
        if not isinstance(record, dict):
            raise ValueError(
                f"{name}, line {number}: must be a JSON object, found {shown(record)}. Give one object per line."
            )
        records.append((number, record))
        columns.update(dict.fromkeys(record))
    return _Raw(tuple(columns), records)


def _parquet(name: str, data: bytes) -> _Raw:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name}: not a Parquet file ({reason(error)}). Write it again.") from None
    values = [column.to_pylist() for column in table.columns]
    rows = zip(*values, strict=True)
    names = table.column_names
    return _Raw(names, [(i, dict(zip(names, row, strict=True))) for i, row in enumerate(rows, 1)], unit="row")


def _hub(name: str, source: Source, root: Path, wanted: Sequence[tuple[str, str]]) -> _Raw:
    import datasets

    assert source.hub is not None
    local = root / source.hub
    try:
        data = datasets.load_dataset(str(local) if local.is_dir() else source.hub, source.config, split=source.split)
    except Exception as error:  # the library raises what its many readers and its network stack raise
        raise ValueError(
            f"{name}: cannot be loaded ({reason(error)}). Check hub, config and split, and the network."
        ) from error
    _check_columns(name, _Raw(data.column_names, ()), wanted)
    data = data.select_columns(list(dict.fromkeys(column for _, column in wanted)))
    classes = {key: f.names for key, f in data.features.items() if isinstance(f, datasets.ClassLabel)}

    def value(key: str, found: Any) -> object:
        if key not in classes or found is None:
            return found
        return classes[key][found] if found >= 0 else None  # -1: how hub data sets write "no label"

    records = [(i, {key: value(key, found) for key, found in record.items()}) for i, record in enumerate(data, 1)]
    return _Raw(data.column_names, records, unit="row")


def _check_columns(name: str, raw: _Raw, wanted: Iterable[tuple[str, str]]) -> None:
    for key, column in wanted:
        if column not in raw.columns:
            hint = near(column, raw.columns)
            if len(raw.columns) == 1 and ";" in raw.columns[0]:
                hint = " Separate columns by tabs or commas."
            raise ValueError(
                f"{name}{raw.header}: there is no column '{column}', found {_quoted(raw.columns)}.{hint} "
                f"Set {key if key == 'where' else f'columns.{key}'}."
            )
        if raw.columns.count(column) > 1:
            raise ValueError(
                f"{name}{raw.header}: {raw.columns.count(column)} columns are named '{column}'. Rename all but one."
            )


def _rows(name: str, raw: _Raw, columns: Columns, labelled: bool) -> tuple[list[Row], tuple[str, ...]]:
    if not raw.records:
        raise ValueError(f"{name}: a header but no rows. Add rows.")
    rows: list[Row] = []
    dropped: dict[str, list[int]] = {}
    for number, (line, record) in enumerate(raw.records, 1):
        at = partial(_at, name, raw.unit, line)
        texts = tuple(_as_text(at, column, record.get(column)) for column in columns.text)
        label = _as_label(at, columns.label, record.get(columns.label)) if labelled and columns.label else None
        if labelled and label is None:
            dropped.setdefault(f"without a label in column '{columns.label}'", []).append(line)
        elif labelled and "" in texts:
            dropped.setdefault("with an empty text", []).append(line)
        elif "" in texts:
            column = columns.text[texts.index("")]
            raise ValueError(f"{at(column)}: the text is empty. Give a text, or drop the row.")
        else:
            id_ = str(number) if columns.id is None else _as_id(at, columns.id, record.get(columns.id))
            rows.append(Row(line, id_, texts, label))
    drops = [f"dropped {count(len(at), 'row')} {what} (first: {raw.unit} {at[0]})" for what, at in dropped.items()]
    if not rows:
        raise ValueError(f"{name}: no usable row; {', '.join(drops)}. Check the file.")
    warnings = [f"{name}: {drop}." for drop in drops]
    first: dict[str, Row] = {}
    repeated = [row for row in rows if first.setdefault(row.id, row) is not row]
    if repeated:
        example = f"'{repeated[0].id}', {raw.unit} {repeated[0].line}"
        warnings.append(f"{name}: {count(len(repeated), 'row')} with an id used before (first: {example}).")
    return rows, tuple(warnings)


def _holds(record: Mapping[str, object], chosen: Mapping[str, str | None]) -> bool:
    return all(_same(_label(record.get(column)), value) for column, value in chosen.items())


def _same(found: str | None, wanted: str | None) -> bool:
    """Whether two labels are the same text, the same number, or the same truth value in any case."""
    if found is None or wanted is None or found == wanted:
        return found == wanted
    numbers = _number(found), _number(wanted)
    return numbers[0] == numbers[1] is not None or (wanted in ("true", "false") and found.lower() == wanted)


def _at(name: str, unit: str, line: int, column: str) -> str:
    return f"{name}, {unit} {line}, column '{column}'"


def _as_text(at: Callable[[str], str], column: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{at(column)}: the text must be a string, found {shown(value)}. Quote it, or drop the row.")
    try:
        if not value.isascii():
            value.encode("utf-8")
    except UnicodeEncodeError:  # half a character, from a \ud83d escape of JSON; a tokenizer cannot read it
        raise ValueError(f"{at(column)}: the text holds half a surrogate pair. Fix or drop the row.") from None
    return value.strip()


def _as_label(at: Callable[[str], str], column: str, value: object) -> str | None:
    if isinstance(value, (list, dict, bytes)):
        raise ValueError(f"{at(column)}: the label must be one value, found {shown(value)}. Fix or drop the row.")
    return _label(value)


def _as_id(at: Callable[[str], str], column: str, value: object) -> str:
    text = "" if value is None else str(value).strip()
    if not text:
        raise ValueError(f"{at(column)}: the id is empty. Give one, or set columns.id: null to number the rows.")
    return text


def _label(value: object) -> str | None:
    """A label as text; None where it is missing: nothing, or not a number."""
    text = "" if value is None else str(value).strip()
    if isinstance(value, bool):
        text = text.lower()
    return None if text.lower() in ("", "nan") else _whole(text)


@lru_cache(maxsize=1024)  # most labels come again
def _whole(text: str) -> str:
    """``1`` for ``1.0``, which is how class 1 comes out of a table that once had an empty cell."""
    return str(int(text.partition(".")[0])) if re.fullmatch(r"[+-]?[0-9]{1,15}\.0+", text) else text


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _digest(rows: Sequence[Row]) -> str:
    content = json.dumps([(row.id, row.texts, row.label) for row in rows], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _quoted(names: Sequence[str]) -> str:
    return few(names, quoted=True)
