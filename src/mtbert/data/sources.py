"""The sources of a table (files, a hub data set, or the generated demo), and how they are read."""

import hashlib
import json
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from mtbert.cell_columns import CellColumn, GrowingCells
from mtbert.columns import TextColumn
from mtbert.data import cache, cells, formats, hub, kept_table
from mtbert.data.cell_groups import CellGroup
from mtbert.data.cells import quoted, readable
from mtbert.data.reader import Reader
from mtbert.data.records import Records
from mtbert.data.source_table import SourceTable, readings
from mtbert.data.tables import Columns, Table, TableFile, names
from mtbert.messages import count, near, shown
from mtbert.settings import Settings


class Source(Settings):
    """Where the rows of a table come from. Exactly one of ``path``, ``hub`` and ``generated`` is set.

    A plain string means a path, and a list of strings means several files with the same columns.
    """

    path: str | tuple[str, ...] | None = Field(
        default=None, description=f"a file, or a list of files; each one of {', '.join(formats.SUFFIXES)}"
    )
    hub: str | None = Field(default=None, description="a data set of the Hugging Face hub, or a local folder of one")
    config: str | None = Field(default=None, description="hub only: the configuration, e.g. 'sst2' of 'nyu-mll/glue'")
    split: str | None = Field(
        default=None,
        description="hub: the name of the split, or null for a saved data set without splits; generated: train or dev",
    )
    generated: str | None = Field(default=None, description="a task of the generated demo: sst, quora or sts")
    where: dict[str, Any] | None = Field(
        default=None, description="keep only rows whose columns hold these values: {is_duplicate: 1}"
    )

    @field_validator("path", "hub")
    @classmethod
    def _can_be_a_name(cls, value: Any) -> Any:
        given = value if isinstance(value, tuple) else () if value is None else (value,)
        for name in given:
            cells.check_name(name)
        if value == ():
            raise ValueError("a list of files must name at least one, found none. Name one.")
        if isinstance(value, tuple) and len(set(value)) != len(value):
            raise ValueError(f"a list of files must name each file once, found [{quoted(value)}].")
        return value

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
        return {"path": value} if isinstance(value, str | tuple | list) else value

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
        if self.generated is not None and self.split is None:
            raise ValueError("generated needs a split. Add split: train, or split: dev.")
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

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the files as written in the recipe. Empty if the rows do not come from files."""
        return (self.path,) if isinstance(self.path, str) else self.path or ()

    def shares(self, other: "Source") -> bool:
        """Returns whether this source and ``other`` are assumed to have rows in common.

        Different filters (setting ``where``) are assumed to select different rows of a file. Sources with different
        filters therefore have no rows in common. Otherwise, two sources that read the same file have rows in common. A
        source without files has rows in common only with an equal source.
        """
        if self.files and other.files:
            parts = None not in (self.where, other.where) and self.where != other.where
            return bool(set(self.files) & set(other.files)) and not parts
        return self == other


def read(
    source: Source,
    columns: Columns,
    root: Path,
    *,
    texts: int | None,
    labelled: bool = True,
    words: Collection[str] = (),
) -> Table:
    """Returns those rows of a source that one task reads. Several files are read one after the other.

    Args:
        source: The source.
        columns: The columns to read. Their names are ignored if the source is ``generated``.
        root: The folder from which relative paths start.
        texts: The number of texts that the task reads, 1 or 2. If None, the task reads every column in
            ``columns.text``.
        labelled: Whether to read labels. If true, rows without a label or with an empty text are dropped, and a warning
            counts them. If false, as for the input of a prediction, no row is dropped, and the id column may be
            missing.
        words: Text columns whose cells may be lists of words. A column whose words have labels need not be named here.

    Raises:
        FileNotFoundError: If there is no such file. The message suggests the file with the most similar name.
        ValueError: If the content cannot be read, or if a text is empty and ``labelled`` is false.
    """
    made = _read(source, [columns], root, [texts], labelled, words=words)
    return made.table(0) if labelled else made.unlabelled()


def read_texts(
    source: Source,
    columns: Sequence[Columns],
    root: Path,
    *,
    texts: Sequence[int | None],
    words: Collection[str],
    gaps: bool,
) -> SourceTable:
    """Returns the rows of a source, with the texts that its tasks read but without labels.

    The id column may be missing. :func:`read_all` describes ``source``, ``columns``, ``root`` and ``texts``, and
    :func:`read` describes ``words``. ``gaps`` says whether a text may be empty.

    Raises:
        FileNotFoundError: If there is no such file. The message suggests the file with the most similar name.
        ValueError: If the content cannot be read, or if a text is empty and ``gaps`` is false.
    """
    return _read(source, columns, root, texts, labelled=False, words=words, gaps=gaps)


def read_all(
    source: Source, columns: Sequence[Columns], root: Path, *, texts: Sequence[int | None], whole: bool = False
) -> SourceTable:
    """Returns the rows of a source, with all columns that its tasks read.

    Args:
        source: The source.
        columns: The columns that each task reads. All tasks have the same id column. If the source is ``generated``,
            the names of the columns are ignored.
        root: The folder from which relative paths start.
        texts: The number of texts that each task reads, 1 or 2; None for a ranking, which may read any number of texts.
        whole: Whether to also read the rows that the source's ``where`` excludes. They are needed to split the data,
            see :class:`mtbert.data.source_table.Others`.

    Raises:
        FileNotFoundError: If there is no such file. The message suggests the file with the most similar name.
        ValueError: If the content cannot be read, or no task can read any row.
    """
    return _read(source, columns, root, texts, labelled=True, whole=whole)


def _read(
    source: Source,
    columns: Sequence[Columns],
    root: Path,
    texts: Sequence[int | None],
    labelled: bool,
    whole: bool = False,
    words: Collection[str] = (),
    gaps: bool = False,
) -> SourceTable:
    if source.generated is not None:
        return _generated(source, columns, texts, labelled)
    found = ", ".join(filter(None, (source.config, source.split)))
    named = list(map(readable, source.files or [f"{source.hub} [{found}]" if found else str(source.hub)]))
    check_texts(named[0], columns, texts)
    where = {key: cells.as_label(value) for key, value in (source.where or {}).items()}
    reader = Reader(columns, where, labelled, whole=whole, words=words, gaps=gaps)
    parts = []
    for i, name in enumerate(named):
        with _opened(source, i, name, root, reader.wanted) as records:
            reader.read(name, records)
            parts.append(TableFile(name, "" if records.digest is None else records.digest(), records.unit))
    if not reader.chosen:
        raise ValueError(f"{names(parts)}: no row has {shown(source.where)}. Mend where, or drop it.")
    table = reader.table(parts)
    return table if source.hub is None else _digested(table)


def check_texts(name: str, columns: Sequence[Columns], texts: Sequence[int | None]) -> None:
    """Raises a ValueError if a task's settings name more or fewer text columns than the task reads.

    Args:
        name: The name of the source in the message.
        columns: The column settings of each task.
        texts: The number of texts that each task reads; None for any number.
    """
    for each, number in zip(columns, texts, strict=True):
        if number not in (None, len(each.text)):
            raise ValueError(
                f"{name}: the task reads {count(number, 'text')}, but columns.text names {len(each.text)}: "
                f"{quoted(each.text)}. Name {number}, or change the task's inputs."
            )


def check_files_of(source: Source, root: Path) -> None:
    """Checks that the files of a source exist and can be opened.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file has an unknown format or cannot be opened.
    """
    for file in source.files:
        formats.check_file(readable(file), root / file)


def read_kept(
    source: Source, columns: Sequence[Columns], root: Path, *, texts: Sequence[int | None], whole: bool = False
) -> SourceTable:
    """Returns the rows of a source, with all columns that its tasks read, from the user's cache folder if possible.

    The arguments are those of :func:`read_all`, which reads the rows if they are not in the cache.
    """
    if not source.files:
        return read_all(source, columns, root, texts=texts, whole=whole)
    paths = [root / name for name in source.files]
    try:
        digests = [cache.file_digest(path) for path in paths]
    except (OSError, ValueError):  # read_all() below raises the error with its place
        return read_all(source, columns, root, texts=texts, whole=whole)
    depends_on = [source.files, digests, source.where, texts, [each.reads for each in columns], whole]
    with suppress(OSError, ValueError):
        return kept_table.loaded_table(cache.look_up("table", depends_on), columns)
    table = read_all(source, columns, root, texts=texts, whole=whole)
    if len(table) < cache.FEWEST or [part.digest for part in table.parts] != digests:
        return table
    with suppress(OSError, ValueError):
        cache.put("table", depends_on, partial(kept_table.keep_table, table))
        for path, digest in zip(paths, digests, strict=True):
            cache.remember(path, digest)
        return kept_table.loaded_table(cache.look_up("table", depends_on), columns)
    return table


def _opened(source: Source, file: int, name: str, root: Path, wanted: Sequence[str]) -> AbstractContextManager[Records]:
    if source.hub is not None:
        return hub.opened_data_set(name, source.hub, source.config, source.split, root, wanted)
    return formats.opened(name, root / source.files[file], wanted)


def _generated(source: Source, columns: Sequence[Columns], texts: Sequence[int | None], labelled: bool) -> SourceTable:
    from mtbert.data import demo

    task, split = str(source.generated), str(source.split)
    name = f"generated {task} [{split}]"
    made = demo.examples(task, split)
    if any(each.words for each in columns):
        raise ValueError(f"{name}: its rows have no labels of words. Name a file, or change the task's type.")
    for number in (given or len(each.text) for given, each in zip(texts, columns, strict=True)):
        if len(made[0].texts) != number:
            raise ValueError(
                f"{name}: the task reads {count(number, 'text')}, but the rows hold {len(made[0].texts)}. "
                "Change the task's inputs, or name another generated task."
            )
    _, groups, found = readings(columns)
    return _digested(
        SourceTable(
            parts=(TableFile(name, "", "row"),),
            ids=TextColumn.of(e.id for e in made),
            texts=tuple(map(TextColumn.of, zip(*(e.texts for e in made), strict=True))),
            labels=tuple(_generated_labels(each, [e.label for e in made]) for each in groups if labelled),
            readings=tuple(
                replace(reading, texts=tuple(range(len(made[0].texts))), named=("label",)) for reading in found
            ),
            lines=np.arange(1, len(made) + 1),
            ends=(len(made),),
        )
    )


def _generated_labels(group: CellGroup, labels: Sequence[object]) -> CellColumn:
    column = group.growing()
    if isinstance(column, GrowingCells):
        column.extend(list(map(group.convert, labels)))
    elif group.numbers is not None:
        column.extend((group.numbers.read(label),) for label in labels)
    return column.column()


def _digested(table: SourceTable) -> SourceTable:
    """Returns a copy of ``table`` that has a digest: the SHA-256 of the table's rows.

    Only tables from the Hub and generated tables need this digest. A table that is read from files has a digest of each
    file instead.
    """
    digest = hashlib.sha256()
    chosen = table.chosen
    for each in map(chosen.table, range(len(chosen.readings))) if chosen.labels else [chosen.unlabelled()]:
        digest.update(b"[")
        for number in range(len(each)):
            row = each.row(number)
            weight = () if each.weights is None else (each.weights[number],)
            written = json.dumps((row.id, row.texts, row.label, *weight), separators=(",", ":"))
            digest.update(f"{',' if number else ''}{written}".encode())
        digest.update(b"]")
    return replace(table, parts=(replace(table.parts[0], digest=digest.hexdigest()),))
