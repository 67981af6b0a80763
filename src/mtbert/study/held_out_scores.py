"""The scores of one row of a study on test files, ``test.json``: made once, and kept for good."""

from pathlib import Path

from mtbert import json_files
from mtbert.settings import Settings

HELD_OUT_FILE = "test.json"


class HeldOutScore(Settings):
    """Over the seeds of a row; ``interval`` is that of :class:`Estimate`."""

    mean: float
    sd: float | None  # null for one seed
    interval: tuple[float, float]


class HeldOutScores(Settings):
    """A row's scores on test. A folder has one such record, for good."""

    row: str
    seeds: int
    files: dict[str, str]  # SHA-256 by task
    scores: dict[str, HeldOutScore]  # by task, and overall


def read_held_out(out: Path) -> HeldOutScores | None:
    """Returns the record that :func:`score` made in ``out``, ``None`` if there is none.

    Raises:
        ValueError: If the record is damaged.
    """
    file = out / HELD_OUT_FILE
    return json_files.read_settings(file, HeldOutScores, "Put the old file back.") if file.exists() else None
