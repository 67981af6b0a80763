"""Draws rows of train: the rows that become dev, and the held-out rows, which fit thresholds and calibrations."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mtbert.advice import see
from mtbert.batch import Examples, Rows
from mtbert.data.draw import drawn
from mtbert.data.source_table import SourceTable
from mtbert.data.split import Inseparable, far_from
from mtbert.messages import count, few, shown
from mtbert.recipe.parts import TaskRecipe
from mtbert.task import Task

MOST_HELD_OUT = 2000  # train rows that are held out for thresholds and calibration
SEEDS_TRIED = 20  # seeds that are tried if dev has an uneven share of the classes
MOST_TRIED = 10_000  # rows of a table; one draw of more rows takes over 50 ms
UNEVEN = 2.5  # a class of which dev has so many times the fraction of dev lacks rows in train
EXPECTED = 1.5  # a class of which dev should have so many rows must have one there


class NoDevRow(ValueError):
    """Raised if no row of a task was drawn as dev; ``better_seed`` is a ``dev_seed`` that draws one, or None."""

    def __init__(self, why: str, better_seed: int | None) -> None:
        super().__init__(why)
        self.better_seed = better_seed


@dataclass(frozen=True)
class DevRows:
    """The train rows that become dev.

    Attributes:
        places: The rows, as :meth:`SourceTable.places` encodes them.
        warnings: Warnings about the size of dev.
        own_warnings: A dict from the name of a task to a warning about the classes that dev has too many or too few of.
        better_seed: A ``dev_seed`` that draws the classes more evenly, if some are uneven and such a seed was found.
    """

    places: Rows
    warnings: tuple[str, ...]
    own_warnings: Mapping[str, str] = field(default_factory=dict)
    better_seed: int | None = None


def draw_dev(
    settings: TaskRecipe, whole: SourceTable, tasks: Mapping[str, Task], examples: Mapping[str, Examples]
) -> DevRows:
    """Draws the train rows that become dev.

    Rows that the source's filter ``where`` excludes take part in the draw. Therefore a change of the filter never moves
    a row from train to dev, or from dev to train. Rows without labels take part if the recipe has the table under
    ``tables``, but not if the table belongs to a task with files of its own.

    The draw does not depend on which label a row has. Therefore a corrected label moves no row. If dev has an uneven
    share of a class by chance, a warning says so.

    Args:
        settings: A task that reads the table.
        whole: The table, including rows that do not satisfy ``where``.
        tasks: All tasks that read the table.
        examples: The examples of each task in the rows that satisfy ``where``.

    Raises:
        NoDevRow: If at least one task can use none of the drawn rows. A task can use a row that satisfies ``where`` and
            has the task's label and texts.
        ValueError: If the rows cannot be split.
    """
    rows, owner = _rows(settings, whole), _owner(settings)
    repair = (
        f"Name a dev file with other texts, or set {owner}.dev_split: rows, which puts the same texts into train and "
        f"dev, so scores on dev are too good. {see('recipes/the-dev-split')}"
    )
    try:
        dev = drawn(whole, rows, settings.dev_fraction, settings.dev_seed, settings.dev_split)
    except Inseparable as error:
        raise ValueError(f"{whole.name}: dev cannot be split off. {error} {repair}") from None
    except ValueError as error:
        raise ValueError(f"{whole.name}: {error}") from None
    places = whole.places()[rows[dev]]
    drawn_of = _drawn_of(whole.chosen, tasks, places)
    if lacking := next((name for name, own in drawn_of.items() if not len(own)), None):
        better = _better_seed(settings, whole, tasks, examples, None)
        advice = "" if better is None else f", or set {owner}.dev_seed: {better}"
        raise NoDevRow(f"{whole.name}: no row is left for dev of task {lacking}. Name a dev file{advice}.", better)
    if far_from(settings.dev_fraction, len(dev), len(rows)):
        line = (
            f"{whole.name}: dev has {len(dev):,} of {count(len(rows), 'row')} instead of {settings.dev_fraction:.0%}, "
            f"because rows that share a text stay together. {repair}"
        )
        return DevRows(places, (line,))
    uneven = _uneven(settings.dev_fraction, tasks, examples, drawn_of)
    if not uneven:
        return DevRows(places, ())
    better = _better_seed(settings, whole, tasks, examples, sum(map(len, uneven.values())))
    if better is not None:
        advice = f"Set {owner}.dev_seed: {better}, which draws them more evenly"
    elif len(rows) > MOST_TRIED:
        advice = f"Try {owner}.dev_seed: {settings.dev_seed + 1}"
    else:
        advice = "Add rows of these classes"
    told = {
        name: f"{whole.name}: the rows drawn as dev have {few(classes, 5)}, where {settings.dev_fraction:.0%} of each "
        f"class should be there. {advice}, or name a dev file. {see('recipes/the-dev-split')}"
        for name, classes in uneven.items()
    }
    return DevRows(places, (), told, better)


def draw_held_out(share: float, settings: TaskRecipe, table: SourceTable, rows: Rows) -> Rows:
    """Draws train rows to hold out, and returns their indices in ``rows``, the list of all train rows of the table.

    The setting ``dev_split`` decides how rows are drawn. With the value ``"texts"``, held-out rows share no text with
    the other rows. With the value ``"rows"``, each row is drawn on its own, and a held-out row may share a text with
    other rows.

    Raises:
        ValueError: If ``dev_split`` is ``"texts"`` and shared texts link all rows, or if there are too few rows.
    """
    try:
        return drawn(table, rows, min(share, MOST_HELD_OUT / len(rows)), settings.dev_seed, settings.dev_split)
    except Inseparable:
        raise ValueError(
            f"{table.name}: no rows can be held out of train for thresholds or calibration, because all {len(rows):,} "
            "rows share texts. Add rows with other texts, or set train.held_out: 0."
        ) from None


def _rows(settings: TaskRecipe, whole: SourceTable) -> Rows:
    """Returns the rows of a table that take part in the draw of dev."""
    return whole.usable if settings.table is None else np.arange(len(whole))


def _owner(settings: TaskRecipe) -> str:
    """Returns the key of a task's table in the recipe: ``tables.NAME``, or ``tasks.NAME`` for a task with own files."""
    return f"tasks.{settings.name}" if settings.table is None else f"tables.{settings.table}"


def _drawn_of(table: SourceTable, tasks: Mapping[str, Task], places: Rows) -> dict[str, Rows]:
    """Returns for each task the examples in the rows that were drawn as dev, as indices into all examples of the task.

    ``places`` lists the rows that were drawn, by the numbers from :meth:`SourceTable.places`.
    """
    here = np.isin(table.places(), places)
    return {name: np.flatnonzero(here[reads]) for name, reads in zip(tasks, table.reads, strict=True)}


def _uneven(
    fraction: float, tasks: Mapping[str, Task], examples: Mapping[str, Examples], drawn_of: Mapping[str, Rows]
) -> dict[str, list[str]]:
    """Returns for each task a list of the uneven classes, each with its number of examples in dev.

    An element of a list is a text such as ``0 of 20 examples of 'sad'``. A class is uneven if dev has far too many
    of its examples, or none. For the rule, see :func:`_is_uneven`. Tasks without an uneven class are left out.

    Args:
        fraction: The share of the examples that should be in dev.
        tasks: The tasks.
        examples: All examples of each task, in train and dev together.
        drawn_of: For each task, the indices of the examples that become dev.
    """
    found: dict[str, list[str]] = {}
    for name, task in tasks.items():
        labels, kind = examples[name].labels, task.answer.labels
        of_all = kind.distribution(task, labels)
        if not of_all.classes:
            continue
        numbers = zip(of_all.counts, kind.distribution(task, labels[drawn_of[name]]).counts, strict=True)
        uneven = [
            f"{number:,} of {count(size, 'example')} of {shown(label)}"
            for (label, size), (_, number) in numbers
            if _is_uneven(fraction, number, size)
        ]
        found |= {name: uneven} if uneven else {}
    return found


def _is_uneven(fraction: float, dev: int, size: int) -> bool:
    """Returns whether dev has far too many or far too few examples of a class.

    The class has ``size`` examples in train and dev together. The number of its examples in dev is ``dev``, and should
    be ``fraction * size``.

    - Far too many: all examples of the class. Two or more are also far too many if they are more than ``UNEVEN`` times
      the number that should be in dev.
    - Far too few: none, if at least ``EXPECTED`` examples should be in dev.

    >>> [_is_uneven(0.1, dev, 25) for dev in (0, 1, 6, 7)], _is_uneven(0.1, 1, 1), _is_uneven(0.1, 0, 5)
    ([True, False, False, True], True, False)
    """
    if not dev:
        return fraction * size >= EXPECTED
    return dev == size or (dev > 1 and dev > UNEVEN * fraction * size)


def _better_seed(
    settings: TaskRecipe,
    whole: SourceTable,
    tasks: Mapping[str, Task],
    examples: Mapping[str, Examples],
    worse: int | None,
) -> int | None:
    """Returns the ``dev_seed`` that draws dev with the fewest uneven classes, or None if no seed is good enough.

    A class is uneven if dev has far too many of its examples, or none. For the rule, see :func:`_is_uneven`.

    The ``SEEDS_TRIED`` seeds after the seed of the recipe are tried. If the table has more than ``MOST_TRIED`` rows, no
    seed is tried. A seed is good enough if dev has about the right size, if each task has an example in train and in
    dev, and if the number of uneven classes is less than ``worse``. If ``worse`` is None, any number of classes may be
    uneven.
    """
    rows, best = _rows(settings, whole), None
    if len(rows) > MOST_TRIED:
        return None
    for seed in range(settings.dev_seed + 1, settings.dev_seed + 1 + SEEDS_TRIED):
        dev = drawn(whole, rows, settings.dev_fraction, seed, settings.dev_split)
        if far_from(settings.dev_fraction, len(dev), len(rows)):
            continue
        drawn_of = _drawn_of(whole.chosen, tasks, whole.places()[rows[dev]])
        if not all(0 < len(own) < len(examples[name]) for name, own in drawn_of.items()):
            continue
        number = sum(map(len, _uneven(settings.dev_fraction, tasks, examples, drawn_of).values()))
        if worse is None or number < worse:
            best, worse = seed, number
        if not worse:
            break
    return best
