"""The rows (measurements) of the benchmark: one function per group, which yields a :class:`Row` for each goal."""

from collections.abc import Callable, Iterator, Mapping

from benchmarks.families import family_group
from benchmarks.report import Row
from benchmarks.rows_growth import growth
from benchmarks.rows_prediction import help_, memory, scoring, together, tokenising
from benchmarks.rows_training import alternating, alternating_base, joint, pal, smart, surgery, trainer
from benchmarks.sides import GOALS, Settings
from mtbert.model.families.known import FAMILIES

Group = Callable[[Settings], Iterator[Row]]
GROUPS: Mapping[str, Group] = {
    "alternating": alternating,
    "trainer": trainer,
    "alternating-base": alternating_base,
    "joint": joint,
    "smart": smart,
    "surgery": surgery,
    "pal": pal,
    "scoring": scoring,
    "together": together,
    "tokenising": tokenising,
    "help": help_,
    "memory": memory,
    "growth": growth,
    **{name: family_group(name) for name in FAMILIES},
}


def rows_of(group: str) -> list[str]:
    """Returns the names of the rows in a group."""
    return [row for row in GOALS if row.split("/")[0] == group]
