"""Leaks, which are dev examples with a text of train: how they are counted, and where a run says so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import toy_results
import toy_run
import toy_table
from rich.console import Console
from tiny import RECORD
from toy_results import OTHER, RIGHT

from mtbert.columns import TextColumn
from mtbert.data import cache
from mtbert.data.leaks import leak_line, leaks
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.studying.conclusion import conclude
from mtbert.studying.errors import Errors
from mtbert.studying.summary import summarise
from mtbert.training import session, start
from mtbert.training.assemble import assemble, check_data
from mtbert.yaml_files import merge

folder = toy_run.shared_folder
table_folder = toy_table.table_folder


def texts(*columns: str) -> list[TextColumn]:
    """Returns columns of one-letter texts; a dot is an empty text."""
    return [TextColumn.of("" if letter == "." else letter for letter in column) for column in columns]


TRAIN, DEV = texts("ab.", "xy"), {"one": texts("A.q"), "two": texts("qq", "rY"), "none": texts("..z")}


def test_examples_with_a_text_of_train_are_counted_by_task():
    assert leaks(TRAIN, DEV) == {"one": 1, "two": 1}
    assert leaks([], DEV) == leaks(TRAIN, {}) == {}


def test_counts_come_from_the_cache_until_a_text_changes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "FEWEST", 1)
    first = leaks(TRAIN, DEV)
    monkeypatch.setattr("mtbert.data.leaks.hashes", lambda _: pytest.fail("counted again"))
    assert leaks(TRAIN, DEV) == first
    monkeypatch.undo()
    monkeypatch.setattr(cache, "FEWEST", 1)
    assert leaks(texts("abq", "xy"), DEV) == {"one": 2, "two": 2}
    assert leaks(TRAIN, DEV | {"none": texts("..x")}) == {"one": 1, "two": 1, "none": 1}


def test_a_warning_has_the_number_and_the_share():
    said = "have a text that is in train too, so scores on dev may be too good."
    assert leak_line(1, 3) == f"dev: 1 of 3 examples (33.3%) {said}"
    assert leak_line(1200, 2000, "row") == f"dev: 1,200 of 2,000 rows (60.0%) {said}"


def made(folder: Path, **tasks: object) -> Recipe:
    return validate_recipe(merge(toy_run.raw_recipe(folder), {"tasks": tasks}), "toy")


def test_texts_that_another_task_trains_on_count(folder: Path):
    found = assemble(made(folder))
    assert found.leaked == {"sts": 44}  # its dev file is its train file
    first = toy_run.raw_recipe(folder)["tasks"]["sst"] | {"train": "quora.csv", "losses": ["ce"]}
    first |= {"columns": {"text": "sentence1", "label": "is_duplicate", "id": "id"}, "dev": "quora.csv"}
    assert assemble(made(folder, first=first, sts=None, sst=None)).leaked == {
        "quora": len(found.data["quora"].dev),
        "first": 60,
    }


def test_a_table_that_is_split_by_texts_has_no_leaks(table_folder: Path):
    raw = toy_table.raw_table_recipe(table_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtbert.training.assemble.leaks", lambda *_: pytest.fail("compared"))
        assert assemble(validate_recipe(raw, "r")).leaked == {}
    raw["tables"] = {"reviews": toy_table.TABLE | {"dev": "reviews.csv"}}
    assert set(assemble(validate_recipe(raw, "r")).leaked) == {"stars", "spam", "topics"}


def test_a_run_prints_its_leaks_and_keeps_them(folder: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(session, "lead", lambda *given: given[-1])
    notes = start.start_run(made(folder), tmp_path / "run", Console(width=200))
    said = (
        "task sts: dev: 44 of 44 examples (100.0%) have a text that is in train too, so scores on dev may be too good."
    )
    assert [note.text for note in notes if note.warning] == [said]
    assert f"warning: {said}" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/environment.json").read_text())["leaked"] == {"sts": 44}


def test_data_check_advises_a_split_by_texts_only_if_there_is_one(folder: Path, tmp_path: Path):
    said = "so scores on dev may be too good. "
    free = "Without dev, a part of train would be held out as dev, and share no text with it."
    pair = {"type": "binary", "inputs": "packed", "columns": {"text": ["a", "b"], "label": "c"}, "train": "chain.csv"}
    rows = "".join(f"the text {i},the text {i + 1},{i % 2}\n" for i in range(40))
    (folder / "data/chain.csv").write_text("a,b,c\n" + rows)
    (folder / "data/part.csv").write_text("a,b,c\nthe text 3,a new one,1\na dog,a cat,0\n")
    free_rows = "".join(f"the text {i},another {i},{i % 2}\n" for i in range(40))
    (folder / "data/free.csv").write_text("a,b,c\n" + free_rows)
    for change, advice in (
        ({"dev": "part.csv"}, "Name another dev file, with other texts."),
        ({"dev_split": "rows"}, "Name a dev file with other texts."),
        ({"dev": "part.csv", "train": "free.csv"}, free),
    ):
        found = check_data(made(folder, pair=pair | change, sst=None, quora=None, sts=None))
        assert [line.partition(said)[2] for line in found.warnings if said in line] == [advice]
    by_rows = made(folder, pair=pair | {"dev_split": "rows"}, sst=None, quora=None, sts=None)
    assert assemble(by_rows).leaked == {"pair": 4}  # all of dev


@pytest.mark.parametrize("rows", [{"a": [RIGHT, OTHER]}, {"a": [RIGHT, RIGHT], "b": [OTHER, OTHER]}])
def test_a_report_says_which_scores_leaks_make_doubtful(rows: dict[str, list[toy_results.Answers]]):
    found = toy_results.study(rows)
    assert not any("too good" in line for line in conclude(found, summarise(found), Errors(found)).limits)
    leaked = {"sst": 2, "sts": 1}
    runs = {
        row: {0: replace(by[0], record=RECORD.model_copy(update={"leaked": leaked})), 1: by[1]}
        for row, by in found.runs.items()
    }
    found = replace(found, runs=runs)
    said = "Scores on dev may be too good, because texts of train are in dev too: "
    said += "25.0% of the examples of sst and 12.5% of the examples of sts."
    assert said in conclude(found, summarise(found), Errors(found)).limits
