"""A run whose tasks read one table, from the recipe to its scores."""

import json
from pathlib import Path

import commands
import pytest
import toy_table
import yaml
from commands import Mtbert

from mtbert.studying import results

mtbert = commands.mtbert
table_folder = toy_table.table_folder


def test_three_tasks_of_a_table_train_and_are_scored(table_folder: Path, mtbert: Mtbert):
    assert mtbert("train", table_folder / "reviews.yaml", "--out", table_folder / "run").code == 0
    scored = mtbert("evaluate", table_folder / "run", "--json")
    assert set(json.loads(scored.out)["tasks"]) == {"stars", "spam", "topics"}


def test_a_model_is_scored_on_the_test_rows_of_its_table_and_files_can_move(table_folder: Path, mtbert: Mtbert):
    toy_table.write_table(table_folder / "data", "test.csv", rows=24, seed=2)
    assert mtbert("train", table_folder / "reviews.yaml", "--out", table_folder / "run").code == 0
    run = ("evaluate", table_folder / "run", "--split", "test", "--json")
    assert mtbert(*run).mistake == "the recipe of this run names no test data. Score a labelled file instead."
    done = mtbert(*run, "--set", "tables.reviews.test=test.csv")
    found = json.loads(done.out)["tasks"]
    assert {name: each["examples"] for name, each in found.items()} == {"stars": 16, "spam": 18, "topics": 15}
    one = mtbert(*run, "--set", "tables.reviews.test=test.csv", "--task", "spam")
    alone = json.loads(one.out)["tasks"]["spam"]
    assert alone["metrics"] == pytest.approx(found["spam"]["metrics"])
    assert alone["examples"] == 18
    assert mtbert(*run, "--set", "tables.reviews.batch_size=3").mistake.startswith(
        "--set tables.reviews.batch_size: the model was trained with this setting, so it cannot be changed. These can: "
        "data.root, and of tasks.NAME and tables.NAME: columns, train, dev, test, metric."
    )


def test_dev_is_scored_as_the_run_scored_it_also_for_one_task_alone(table_folder: Path, mtbert: Mtbert):
    toy_table.write_table(table_folder / "data", rows=120)
    assert mtbert("train", table_folder / "reviews.yaml", "--out", table_folder / "run").code == 0
    log = (table_folder / "run/metrics.jsonl").read_text().splitlines()
    logged = json.loads(log[-1])["evaluation"]
    for name in ("stars", "spam", "topics"):
        done = mtbert("evaluate", table_folder / "run", "--task", name, "--json")
        found = json.loads(done.out)["tasks"][name]
        assert found["metrics"] == pytest.approx(logged[name]["metrics"])
        assert "dropped 2 rows without a label" in done.err


def test_data_check_shows_the_rows_of_a_table_and_of_each_task(table_folder: Path, mtbert: Mtbert):
    toy_table.write_table(table_folder / "data", "dev.csv", rows=12, seed=0)
    changes = (
        "--set",
        "tables.reviews.dev=dev.csv",
        "--set",
        "tables.reviews.batch_size=10",
        "--set",
        "train.held_out=0",
    )
    done = mtbert("data", "check", table_folder / "reviews.yaml", *changes)
    head, rest = done.out.split("stars  ordinal, single")
    assert "table reviews  read by stars, spam, topics" in head
    assert [line.split() for line in head.splitlines() if line.startswith("  ")][1:7] == [
        ["rows", "59", "11"],
        ["each", "is", "seen", "in", "training", "1.02", "times"],
        ["batch", "size", "10"],
        ["with", "stars", "40", "67.8%", "8", "72.7%"],
        ["with", "spam", "45", "76.3%", "9", "81.8%"],
        ["with", "topics", "40", "67.8%", "7", "63.6%"],
    ]
    assert "in training" not in rest
    said = " ".join(rest.split())
    assert said.count("dropped 1 row without a label in columns 'stars', 'spam', 'film', 'pet'") == 2
    assert "table reviews, dev: 11 of 11 rows (100.0%) have a text that is in train too, so scores" in said
    assert "trains on" not in said  # nothing about pairs of tasks of one table
    assert "task topics: reviews.csv: left out" in said


def test_the_steps_of_a_run_are_known_also_if_a_table_has_the_name_of_its_task(table_folder: Path, mtbert: Mtbert):
    raw = toy_table.raw_table_recipe(table_folder)
    raw["tables"] = {"stars": raw["tables"]["reviews"]}
    raw["tasks"] = {name: task | {"table": "stars"} for name, task in raw["tasks"].items()}
    (table_folder / "same.yaml").write_text(yaml.safe_dump(raw))
    assert mtbert("train", table_folder / "same.yaml", "--out", table_folder / "run").code == 0
    found = results.read_run(table_folder / "run")
    ((ended,),) = (runs.values() for runs in found.runs.values())
    assert ended.steps[-1]["step"] == 6  # 47 rows, 8 at a time
    assert found.stopped is None
    text = (table_folder / "run/recipe.yaml").read_text()
    (table_folder / "run/recipe.yaml").write_text(text.replace("epochs: 1", "epochs: 3"))  # as if it had been stopped
    stopped = results.read_run(table_folder / "run").stopped
    assert stopped is not None
    assert (stopped.done, stopped.steps, stopped.epochs_done, stopped.epochs) == (6, 18, 1, 3)
