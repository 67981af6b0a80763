"""A run whose tasks read one table, from the recipe to its scores."""

import json
from pathlib import Path

import commands
import toy_table
from commands import Mtbert

mtbert = commands.mtbert
table_folder = toy_table.table_folder


def test_three_tasks_of_a_table_train_and_are_scored(table_folder: Path, mtbert: Mtbert):
    assert mtbert("train", table_folder / "reviews.yaml", "--out", table_folder / "run").code == 0
    scored = mtbert("evaluate", table_folder / "run", "--json")
    assert set(json.loads(scored.out)["tasks"]) == {"stars", "spam", "topics"}
