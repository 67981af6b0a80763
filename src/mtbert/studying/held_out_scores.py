"""The test scores of one recipe of a study, stored in ``test.json``.

Only one recipe of a study is scored on test, and only once.
"""

from pathlib import Path

from mtbert import json_files
from mtbert.settings import Settings

HELD_OUT_FILE = "test.json"


class HeldOutScore(Settings):
    """A score of a study's recipe on test: the mean over the seeds, with the uncertainty of this mean."""

    mean: float
    sd: float | None  # over seeds; null for one seed
    interval: tuple[float, float] | None  # 95%, over seeds and examples; null if it is not known


class HeldOutScores(Settings):
    """The content of ``test.json``: all test scores of one recipe of a study."""

    row: str
    seeds: int
    files: dict[str, str]  # SHA-256 by task
    scores: dict[str, HeldOutScore]  # by task, and overall


def read_held_out(out: Path) -> HeldOutScores | None:
    """Returns the test scores of the study in the folder ``out``; None if none of its recipes was scored on test.

    Raises:
        ValueError: If the file with the scores is damaged.
    """
    file = out / HELD_OUT_FILE
    return json_files.read_settings(file, HeldOutScores, "Put the old file back.") if file.exists() else None
