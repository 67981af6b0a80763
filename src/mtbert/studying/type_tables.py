"""The tables of a report that make sense only for some kinds of labels.

The tables and figures for a kind of labels are named in its ``LabelKind.figures``.

Dimension key: B examples, S seeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from mtbert.answers import FigureName, Judged, Labels
from mtbert.ragged import all_values
from mtbert.studying.results import DevData
from mtbert.studying.text_table import TextTable, if_seeds

NAMED_RANKS = ("1st", "2nd", "3rd")

ByRow = Mapping[str, Sequence[Judged]]
"""A dict from the name of each recipe of the study to the judged answers of its runs."""


def type_tables(dev: DevData, judged: ByRow) -> Iterator[TextTable]:
    """Yields the tables of a task's errors. Which tables these are depends on the task's type of labels."""
    for name in dev.task.answer.labels.figures:
        if name in TABLES:
            yield TABLES[name](dev, judged)


def distances(dev: DevData, judged: ByRow) -> TextTable:
    """Returns a table with the shares of answers that are right, 1 class off, 2 classes off, or more.

    The classes of the task are ordered. The table contains a line for each recipe of the study.
    """
    task, rows = dev.task.name, []
    for row, runs in judged.items():
        found_SB = np.stack([run.distance_B for run in runs])
        shares = [float(np.mean(found_SB == d)) for d in (0, 1, 2)] + [float(np.mean(found_SB > 2))]
        wrong = found_SB[found_SB > 0]
        near = f"{np.mean(wrong == 1):.1%}" if len(wrong) else ""
        rows.append((row, *(f"{share:.1%}" for share in shares), near))
    return TextTable(
        f"errors-{task}",
        f"How far off: {task}",
        ("row", "right", "1 class off", "2 off", "3 or more off", "errors that are 1 off"),
        tuple(rows),
        (
            f"Shares of all answers{if_seeds(judged, ' over all seeds')}; the last column is a share of the errors. "
            "Classes are in the recipe's order.",
        ),
    )


def ranks(dev: DevData, judged: ByRow) -> TextTable:
    """Returns a table with the shares of examples in which the right candidate comes first, second, third, or later."""
    task, candidates = dev.task.name, all_values(dev.labels).shape[1]
    listed = min(candidates, len(NAMED_RANKS))
    heads = [*NAMED_RANKS[:listed], *(["later"] if candidates > listed else [])]

    def shares(distances_SB: Labels) -> list[str]:
        found = [float(np.mean(distances_SB == rank)) for rank in range(listed)]
        found += [float(np.mean(distances_SB >= listed))] if candidates > listed else []
        return [f"{share:.1%}" for share in found]

    rows = [(row, *shares(np.stack([run.distance_B for run in runs]))) for row, runs in judged.items()]
    return TextTable(
        f"ranks-{task}",
        f"Rank of the right candidate: {task}",
        ("row", *heads),
        (("random order", *shares(np.arange(candidates, dtype=np.float64))), *rows),
        (f"Shares of all examples{if_seeds(judged, ' over all seeds')}. Each example has {candidates} candidates.",),
    )


TABLES: Mapping[FigureName, Callable[[DevData, ByRow], TextTable]] = {"distances": distances, "ranks": ranks}
