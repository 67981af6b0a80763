"""A benchmark's rows: judged against their goals, kept in JSON, shown as a table."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.timing import Paired

ENOUGH = 5  # pairs; from fewer no goal is judged, as one slow spell would decide


@dataclass(frozen=True)
class Goal:
    """A bound; ``>= 2.5x`` is about a gain, ``<= 1.3x`` about a cost, ``<= 10 s`` about a plain number."""

    sense: Literal["<=", ">="]
    limit: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """From text such as ``<= 1.3x`` or ``<= 10 s``."""
        found = re.fullmatch(r"(<=|>=) ([0-9.]+) ?(\S+)", text)
        if found is None:
            raise ValueError(f"goal '{text}': write it as '<= 1.3x' or '<= 10 s'.")
        sense: Literal["<=", ">="] = "<=" if found[1] == "<=" else ">="
        return cls(sense, float(found[2]), found[3])

    def met(self, value: float) -> bool:
        """Whether ``value`` keeps the bound; the bound itself does."""
        return value <= self.limit if self.sense == "<=" else value >= self.limit


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the goals table; ``reached`` is None where what was measured cannot tell.

    ``ratio`` is theirs over ours where the goal is a gain (``>=``), ours over theirs where it is a cost. ``floor`` is
    the measured time over the least that the machine allows. ``points`` holds a curve, where there is one.
    """

    name: str
    ours: float | None = None
    theirs: float | None = None
    unit: str = ""
    ratio: float | None = None
    spread: float | None = None
    reach: str = ""
    reached: bool | None = None
    floor: float | None = None
    note: str = ""
    points: Mapping[str, list[float]] = field(default_factory=dict)
    failed: bool = False


def compared(name: str, reach: str, pairs: Paired, *, unit: str = "ms", scale: float = 1e3, **others: Any) -> Row:
    """A row of two sides, whose numbers are multiplied by ``scale`` to be in ``unit``."""
    goal = Goal.parse(reach)
    ratio, spread = pairs.gain() if goal.sense == ">=" else pairs.cost()
    return Row(
        name=name,
        ours=median(pairs.ours) * scale,
        theirs=median(pairs.theirs) * scale,
        unit=unit,
        ratio=ratio,
        spread=spread,
        reach=reach,
        reached=goal.met(ratio) if len(pairs.ours) >= ENOUGH else None,
        **others,
    )


def alone(name: str, reach: str, value: float, **others: Any) -> Row:
    """A row of one number, in the unit of its goal."""
    goal = Goal.parse(reach)
    return Row(name=name, ours=value, unit=goal.unit, reach=reach, reached=goal.met(value), **others)


def write(file: Path, head: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Writes ``head`` and the rows; whoever reads meanwhile finds the old file whole, or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps({**head, "rows": [asdict(row) for row in rows]}, indent=1) + "\n", encoding="utf-8")
    new.replace(file)


def read(file: Path, head: Mapping[str, Any]) -> dict[str, Row]:
    """The rows in ``file`` by name; none if it is not there or has another value under a key of ``head``."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    if any(found.get(key) != value for key, value in head.items()):
        return {}
    return {row["name"]: Row(**row) for row in found["rows"]}


def line(row: Row) -> str:
    """The row in one line: its name, what was found, and the goal."""
    found = [f"{_number(row.ratio)}x ± {_number(row.spread)}"] if row.spread is not None else []
    found += [f"{_number(row.ratio)}x"] if row.ratio is not None and row.spread is None else []
    found += [f"{_number(row.ours)} {row.unit}"] if row.ratio is None and row.ours is not None else []
    return (
        f"{row.name}: {', '.join(found) or _verdict(row)} (goal {row.reach}) {row.note if row.failed else ''}".rstrip()
    )


def show(rows: Iterable[Row], console: Console) -> None:
    """Prints the rows beside their goals, then the notes."""
    rows = list(rows)
    table = Table("row")
    for heading in ("ours", "theirs", "unit", "ratio", "spread", "goal", "reached", "over floor"):
        table.add_column(heading, justify="right")
    for row in rows:
        ours, theirs, ratio, spread, floor = map(_number, (row.ours, row.theirs, row.ratio, row.spread, row.floor))
        table.add_row(row.name, ours, theirs, row.unit, ratio, spread, row.reach, _verdict(row), floor)
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}", markup=False, soft_wrap=True)


def _verdict(row: Row) -> str:
    if row.reached is not None:
        return "yes" if row.reached else "no"
    return "failed" if row.failed else "not judged" if row.ours is not None or row.ratio is not None else "not measured"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
