"""Files of a few rows for ``mtbert init``, and the recipe that it guesses for them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from mtbert.drafting.by_name import groups
from mtbert.drafting.draft import RESERVED
from mtbert.drafting.guessing import TableGuess, guess
from mtbert.drafting.looking import GivenFile, look
from mtbert.drafting.questions import Questions
from mtbert.drafting.writing import recipe_text
from mtbert.messages import plain_console

TEXTS = [f"the {a} {b} was {c}" for a in ("old", "new") for b in ("cat", "dog", "film") for c in ("dull", "fine")]


def csv(name: str, header: str, *columns: Sequence[object], sign: str = ",") -> str:
    """Writes a CSV file and returns its name. Shorter columns are repeated."""
    rows = max(map(len, columns))
    lines = [sign.join(str(column[i % len(column)]) for column in columns) for i in range(rows)]
    Path(name).write_text("\n".join([header, *lines]) + "\n")
    return name


def jsonl(name: str, *rows: dict[str, object]) -> str:
    """Writes a file with a JSON object on each line, 12 lines at least, and returns its name."""
    Path(name).write_text("".join(json.dumps(rows[i % len(rows)]) + "\n" for i in range(max(12, len(rows)))))
    return name


def guessed(*names: str, questions: Questions | None = None) -> list[TableGuess]:
    """Returns the tables that ``mtbert init`` guesses for files of the working folder."""
    questions = questions or Questions(plain_console(quiet=True), None)
    taken = set(RESERVED)
    return [guess(group, questions, taken) for group in groups([look(GivenFile(Path(name), name)) for name in names])]


def recipe(*names: str, questions: Questions | None = None) -> dict[str, dict[str, object]]:
    """Returns the guessed recipe as a YAML reader sees it."""
    found: dict[str, dict[str, object]] = yaml.safe_load(
        recipe_text(guessed(*names, questions=questions), Path("toy.yaml"))
    )
    return found


def only_task(*names: str) -> dict[str, object]:
    """Returns the only task of the guessed recipe."""
    (task,) = recipe(*names)["tasks"].values()
    assert isinstance(task, dict)
    return task


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
