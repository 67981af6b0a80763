"""Rows in memory for two tasks, and a recipe for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import toy_run


def recipe(folder: Path) -> dict[str, Any]:
    """A recipe whose two tasks name no data."""
    return {
        "model": {"path": str(folder / "encoder"), "max_length": 24},
        "tasks": {
            "mood": {"type": "binary", "inputs": "single", "batch_size": 4, "labels": ["0", "1"]},
            "same": {
                "type": "regression",
                "inputs": "packed",
                "batch_size": 4,
                "range": [0, 5],
                "columns": {"text": ["one", "two"], "label": "score"},
            },
        },
        "train": {"epochs": 1, "threads": 1, "precision": "fp32"},
    }


def data(rows: int = 24) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def text() -> str:
        return " ".join(rng.choice(toy_run.WORDS, 6))

    mood = pd.DataFrame([{"text": text(), "label": i % 2, "other": [i]} for i in range(rows)])
    same = [{"one": text(), "two": text(), "score": i % 6} for i in range(rows)]
    return {"mood": {"train": mood, "dev": mood.head(8)}, "same": same}
