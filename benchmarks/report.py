"""The rows (measurements) of a benchmark: how they are judged by goals, stored as JSON, and shown as a table."""

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

ENOUGH = 5  # pairs; with fewer, one slow phase of the machine could decide whether a goal is reached


@dataclass(frozen=True)
class Goal:
    """A bound, such as ``>= 2.5x`` for a gain, ``<= 1.3x`` for a cost, or ``<= 10 s`` for a plain number."""

    sense: Literal["<=", ">="]
    limit: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """Returns the goal that a text such as ``<= 1.3x`` or ``<= 10 s`` describes."""
        found = re.fullmatch(r"(<=|>=) ([0-9.]+) ?(\S+)", text)
        if found is None:
            raise ValueError(f"goal '{text}': write it as '<= 1.3x' or '<= 10 s'.")
        sense: Literal["<=", ">="] = "<=" if found[1] == "<=" else ">="
        return cls(sense, float(found[2]), found[3])

    def met(self, value: float) -> bool:
        """Returns whether ``value`` is within the bound, which is inclusive."""
        return value <= self.limit if self.sense == "<=" else value >= self.limit


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement of the benchmark: a row of the printed table, with its goal.

    ``ratio`` is theirs over ours if the goal is a gain (``>=``), and ours over theirs if it is a cost. ``reached`` is
    None if the measurement cannot decide. ``floor`` is the measured time divided by the least time that the machine
    allows. ``points`` holds the points of a curve; it is empty if the row has no curve.
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
    """Returns a row that compares two sides; their numbers are multiplied by ``scale`` to be in ``unit``."""
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
    """Returns a row with a single number, in the unit of its goal."""
    goal = Goal.parse(reach)
    return Row(name=name, ours=value, unit=goal.unit, reach=reach, reached=goal.met(value), **others)


def write(file: Path, head: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Writes ``head`` and the rows into ``file`` atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps({**head, "rows": [asdict(row) for row in rows]}, indent=1) + "\n", encoding="utf-8")
    new.replace(file)


def read(file: Path, head: Mapping[str, Any]) -> dict[str, Row]:
    """Returns the rows in ``file`` by name; none if the file does not exist or disagrees with ``head`` on a key."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    if any(found.get(key) != value for key, value in head.items()):
        return {}
    return {row["name"]: Row(**row) for row in found["rows"]}


def line(row: Row) -> str:
    """Returns a row as one line: its name, what was measured, and the goal."""
    found = [f"{_number(row.ratio)}x ± {_number(row.spread)}"] if row.spread is not None else []
    found += [f"{_number(row.ratio)}x"] if row.ratio is not None and row.spread is None else []
    found += [f"{_number(row.ours)} {row.unit}"] if row.ratio is None and row.ours is not None else []
    return (
        f"{row.name}: {', '.join(found) or _verdict(row)} (goal {row.reach}) {row.note if row.failed else ''}".rstrip()
    )


def show(rows: Iterable[Row], console: Console) -> None:
    """Prints the rows with their goals, then the notes."""
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
