"""A toy table that three tasks read, and a recipe for it. Some labels in the table are missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_run
import yaml

ROWS = 60
TABLE = {"train": "reviews.csv", "dev_fraction": 0.2, "batch_size": 8, "columns": {"text": "body", "id": "key"}}
TASKS = {
    "stars": {"type": "ordinal", "inputs": "single", "table": "reviews", "label": "stars"},
    "spam": {"type": "binary", "inputs": "single", "table": "reviews", "label": "spam", "labels": ["no", "yes"]},
    "topics": {
        "type": "multilabel",
        "inputs": "packed",
        "table": "reviews",
        "columns": {"text": ["title", "body"], "label": ["film", "pet"]},
    },
}


def write_table(folder: Path, name: str = "reviews.csv", rows: int = ROWS, seed: int = 0) -> Path:
    """Writes rows with random texts.

    Every third row lacks stars, every fourth row lacks spam, every fifth row lacks topics, and every sixth row lacks a
    title. Every sixtieth row has no label at all.
    """
    rng = np.random.default_rng(seed)

    def text() -> str:
        return " ".join(rng.choice(toy_run.WORDS, rng.integers(2, 9)))

    def line(i: int) -> str:
        stars, spam = "" if i % 3 == 0 else str(i % 4), "" if i % 4 == 0 else ("no", "yes")[i % 2]
        topics = "," if i % 5 == 0 else f"{i % 2},{i % 3 % 2}"
        return f"r{i},{'' if i % 6 == 1 else text()},{text()} {i},{stars},{spam},{topics}"

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("\n".join(["key,title,body,stars,spam,film,pet", *map(line, range(rows))]) + "\n")
    return file


def raw_table_recipe(folder: Path, **train: Any) -> dict[str, Any]:
    """Returns a recipe of the three tasks for :func:`write_table` in ``folder/data``."""
    settings = {"epochs": 1, "lr": 1e-3, "threads": 1, "precision": "fp32"} | train
    return {
        "data": {"root": str(folder / "data")},
        "model": {"path": str(folder / "encoder"), "max_length": 24},
        "tables": {"reviews": TABLE},
        "tasks": TASKS,
        "train": settings,
    }


def set_up_table(folder: Path) -> Path:
    """Writes an encoder, the table and a recipe into ``folder``, and returns the path of the recipe."""
    toy_run.encoder_folder(folder / "encoder")
    write_table(folder / "data")
    path = folder / "reviews.yaml"
    path.write_text(yaml.safe_dump(raw_table_recipe(folder), sort_keys=False))
    return path


@pytest.fixture
def table_folder(tmp_path: Path) -> Path:
    """A folder with the complete set-up, for one test."""
    set_up_table(tmp_path)
    return tmp_path
