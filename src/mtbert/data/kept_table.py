"""Storing the arrays of a source table in the cache, and making a table from stored arrays."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mtbert.cell_columns import CellColumn, CodedColumn, TextCells
from mtbert.columns import NumberColumn, TextColumn, WordColumn
from mtbert.data import cache
from mtbert.data.cache import Kept, Spool
from mtbert.data.cell_groups import CellGroup
from mtbert.data.source_table import Others, SourceTable, readings
from mtbert.data.tables import Columns, TableFile
from mtbert.number_cells import NumberCells


def keep_table(table: SourceTable, spool: Spool) -> None:
    """Adds the content of a table to ``spool``, which stores it in the cache.

    Row ids are not stored if they are 1, 2, 3 and so on. If the line numbers of the rows are consecutive, only the
    first line number is stored. :func:`loaded_table` restores the numbers that are not stored.
    """
    numbers = table.ids.numbers if isinstance(table.ids, NumberColumn) else None
    counted = numbers is not None and np.array_equal(numbers, np.arange(1, len(table) + 1))
    spool.notes |= {
        "parts": [[part.name, part.digest, part.unit] for part in table.parts],
        "ids": "texts" if numbers is None else "rows" if counted else "numbers",
        "ends": table.ends,
        "warnings": table.warnings,
        "words": [i for i, column in enumerate(table.texts) if isinstance(column, WordColumn)],
        "coded": [i for i, column in enumerate(table.labels) if isinstance(column, CodedColumn)],
        "others": table.others is not None,
        "lines": None,
    }
    if np.all(np.diff(table.lines) == 1):
        spool.notes["lines"] = int(table.lines[0])
    else:
        spool.add("lines", table.lines)
    if isinstance(table.ids, TextColumn):
        _keep_texts(spool, "ids", table.ids)
    elif not counted:
        spool.add("ids", table.ids.numbers)
    for i, column in enumerate(table.texts):
        _keep_texts(spool, f"text {i}", column)
    for i, cells in enumerate(table.labels):
        if isinstance(cells, NumberCells):
            spool.add(f"numbers {i}", cells.numbers.reshape(-1))
        elif isinstance(cells, TextCells):
            _keep_texts(spool, f"labels {i}", cells.texts)
        else:
            _keep_texts(spool, f"labels {i}", TextColumn.of(cells.values))
            spool.add(f"codes {i}", cells.codes)
    if table.others is not None:
        for i, mask in enumerate((table.others.rows, *table.others.labelled)):
            spool.add(f"others {i}", mask.view(np.uint8))


def loaded_table(kept: Kept, columns: Sequence[Columns]) -> SourceTable:
    """Returns the table that :func:`keep_table` stored as the arrays ``kept``.

    ``columns`` are the column settings of the tasks that read the table.

    Raises:
        ValueError: If the arrays are not those of a table.
    """
    notes = _Notes.model_validate(kept.notes)
    names, groups, read = readings(columns)
    rows = len(kept.array("text 0 offsets", "<i8")) - 1
    cache.check_offsets(np.array([0, *notes.ends]), rows)
    ids: TextColumn | NumberColumn
    if notes.ids == "texts":
        ids = _texts(kept, "ids", rows)
    else:
        ids = NumberColumn(kept.array("ids", "<i8", size=rows) if notes.ids == "numbers" else np.arange(1, rows + 1))
    first = notes.lines
    return SourceTable(
        parts=tuple(TableFile(*part) for part in notes.parts),
        ids=ids,
        texts=tuple(
            WordColumn.joining(column) if i in notes.words else column
            for i, column in enumerate(_texts(kept, f"text {i}", rows) for i in range(len(names)))
        ),
        labels=tuple(_cells(kept, i, group, i in notes.coded, rows) for i, group in enumerate(groups)),
        readings=read,
        lines=kept.array("lines", "<i8", size=rows) if first is None else np.arange(first, first + rows),
        ends=tuple(notes.ends),
        warnings=tuple(notes.warnings),
        others=_others(kept, len(groups), rows) if notes.others else None,
    )


class _Notes(BaseModel):
    """The facts that :func:`keep_table` stores in the cache beside the arrays of a source table."""

    model_config = ConfigDict(strict=True)

    parts: list[Annotated[list[str], Field(min_length=3, max_length=3)]]
    ids: Literal["texts", "rows", "numbers"]
    ends: list[int]
    warnings: list[str]
    words: list[int]  # the text columns whose words are given
    coded: list[int]  # the label columns that store each different text once
    others: bool
    lines: Annotated[int, Field(ge=0, lt=2**40)] | None


def _keep_texts(spool: Spool, name: str, column: TextColumn) -> None:
    spool.add(name, column.block)
    spool.add(f"{name} offsets", column.starts)
    spool.add(f"{name} offsets", column.stops[-1:])


def _texts(kept: Kept, name: str, rows: int | None = None) -> TextColumn:
    block = kept.array(name, "|u1")
    offsets = kept.array(f"{name} offsets", "<i8", size=None if rows is None else rows + 1)
    cache.check_offsets(offsets, len(block))
    return TextColumn.stored(block, offsets, kept.digests[name])


def _cells(kept: Kept, number: int, group: CellGroup, coded: bool, rows: int) -> CellColumn:
    if group.numbers is not None:
        width = len(group.names)
        numbers = kept.array(f"numbers {number}", group.numbers.dtype, size=rows * width)
        if not (np.isnan(numbers) | ((numbers >= 0) & (numbers < np.inf))).all():
            raise ValueError("numbers must be finite, and at least 0.")
        return NumberCells(group.names, numbers.reshape(rows, width), group.written)
    if not coded:
        return TextCells(_texts(kept, f"labels {number}", rows))
    values = list(_texts(kept, f"labels {number}"))
    codes = kept.array(f"codes {number}", "<i4", size=rows)
    cache.check_within(codes, -1, len(values))
    return CodedColumn(values, codes)


def _others(kept: Kept, groups: int, rows: int) -> Others:
    masks = [kept.array(f"others {i}", "|u1", size=rows) for i in range(groups + 1)]
    for mask in masks:
        cache.check_within(mask, 0, 2)
    return Others(masks[0].view(np.bool_), tuple(mask.view(np.bool_) for mask in masks[1:]))
