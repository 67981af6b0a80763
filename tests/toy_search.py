"""Rankings of toy sentences: a question about a noun, a candidate about this noun, and candidates about others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import toy_run

NOUNS = ("dog", "cat", "film", "plot")
OTHERS = ("good", "bad", "fine", "dull", "old", "new", "runs", "sleeps", "eats", "barks")
COLUMNS = ("query", "right", "wrong", "worse")


def rows(number: int, *, wrong: int = 2, seed: int = 0) -> list[tuple[str, ...]]:
    """Returns rows of a query, its right candidate, and wrong candidates. ``wrong`` is the number of wrong ones."""
    rng = np.random.default_rng(seed)

    def candidate(noun: str) -> str:
        return f"the {noun} {rng.choice(OTHERS)} was {rng.choice(OTHERS)} and {rng.choice(OTHERS)} very {noun}"

    found = []
    for _ in range(number):
        noun, *other = rng.permutation(NOUNS)[: wrong + 1]
        found.append((f"how {rng.choice(OTHERS)} is a {noun}", candidate(noun), *map(candidate, other)))
    return found


def write(file: Path, texts: Sequence[Sequence[str]]) -> None:
    """Writes rows of texts under the first of :data:`COLUMNS`."""
    lines = [",".join(COLUMNS[: len(texts[0])]), *(",".join(row) for row in texts)]
    file.write_text("\n".join(lines) + "\n")


def raw_recipe(folder: Path, **task: Any) -> dict[str, Any]:
    """Returns a recipe with one task, ``search``, for the encoder of :func:`toy_run.set_up`; writes its data."""
    write(folder / "data/search.csv", rows(80))
    write(folder / "data/search-dev.csv", rows(40, seed=1))
    raw = toy_run.raw_recipe(folder, lr=0.003, epochs=4)
    raw["tasks"] = {
        "search": {
            "type": "ranking",
            "inputs": "separate",
            "head": "cosine",
            "train": "search.csv",
            "dev": "search-dev.csv",
            "columns": {"text": ["query", "right", "wrong", "worse"]},
            "batch_size": 8,
        }
        | task
    }
    return raw
