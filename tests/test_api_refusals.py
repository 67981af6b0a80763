"""From Python: what is no recipe, no data, no path and no text is refused in one line that says what to give."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_run

import mtbert
from mtbert import files
from mtbert.recipe.files import given_recipe
from mtbert.recipe.given import plain

RECIPE = {"tasks": {"mood": {"type": "binary", "inputs": "single", "train": "mood.csv"}}}
ROWS = [{"text": "a", "label": 1}]


@pytest.mark.parametrize("given", [ROWS, "a.csv", 3, []])
def test_data_that_are_not_rows_by_task_are_refused(given: Any, tmp_path: Path):
    found = f"found {type(given).__name__}. Give {{NAME: rows}}, with names of the recipe."
    said = f"data: must be a dict of rows by task or table, {found}"
    with pytest.raises(TypeError, match=f"^{re.escape(said)}$"):
        mtbert.train(RECIPE, data=given, out=tmp_path / "run")


@pytest.mark.parametrize("task", [3, None, ("a", "b")])
def test_a_task_of_data_that_is_no_text_is_refused(task: Any, tmp_path: Path):
    said = f"data: the recipe has no task {task!r}. It has mood."
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        mtbert.train(RECIPE, data={task: ROWS}, out=tmp_path / "run")


@pytest.mark.parametrize("given", [ROWS, {"mood": ROWS}, 3])
def test_rows_to_score_are_refused_without_being_shown(given: Any):
    said = f"split: must be 'dev', 'test' or the path of a labelled file, found {type(given).__name__}. Give rows"
    with pytest.raises(TypeError, match=f"^{re.escape(said)} as data={{TASK: rows}}\\.$"):
        mtbert.evaluate("run", given)


def test_a_task_without_train_may_have_data_in_its_place(tmp_path: Path):
    for tasks, said in (
        ({"mood": {"type": "binary", "inputs": "single"}}, "tasks.mood.train: must be given, or data={'mood': rows}."),
        ({"mood": 3}, "tasks.mood: must be a mapping, found 3."),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(f'recipe given as a dict, {said}')}$"):
            mtbert.train({"tasks": tasks}, out=tmp_path / "run")


@pytest.mark.parametrize("given", [3, False, ["base"], b"base"])
def test_what_is_no_recipe_is_refused(given: Any):
    with pytest.raises(TypeError, match=f"^recipe: must be a path, .*, found {re.escape(repr(given))}\\.$"):
        mtbert.train(given)


def test_a_recipe_may_hold_numbers_of_numpy_paths_and_tuples(tmp_path: Path):
    toy_run.set_up(tmp_path)
    train = {"lr": np.float32(0.5), "epochs": np.int64(3), "rounds": ("min", np.int8(2))}
    model = {"path": tmp_path / "encoder"}
    recipe = given_recipe(RECIPE | {"train": train, "model": model}, (), {})
    assert (recipe.train.lr, recipe.train.epochs, recipe.train.rounds) == (0.5, 3, ("min", 2))
    assert recipe.model.path == str(tmp_path / "encoder")


def test_changes_may_hold_numbers_of_numpy(tmp_path: Path):
    toy_run.set_up(tmp_path)
    changes = {"train.lr": np.float32(0.5), "train.epochs": np.int64(1), "train.rounds": (1,)}
    written = mtbert.train(tmp_path / "toy.yaml", out=tmp_path / "run", changes=changes).path / "recipe.yaml"
    assert "lr: 0.5\n" in written.read_text()


def test_a_recipe_that_holds_itself_or_something_foreign_is_refused():
    ring: dict[str, Any] = {**RECIPE}
    ring["train"] = ring
    with pytest.raises(ValueError, match=r"^recipe given as a dict: has more than 50 lists and dicts inside"):
        given_recipe(ring, (), {})
    for value in (object, {1}, range(3), b"a", 1j):
        with pytest.raises(TypeError, match=rf"^recipe given as a dict: must hold .* found {re.escape(repr(value))}\."):
            given_recipe(RECIPE | {"train": {"lr": [value]}}, (), {})
    with pytest.raises(ValueError, match=r"^recipe given as a dict, extends: must be the name of a recipe, found 3\."):
        given_recipe(RECIPE | {"extends": 3}, (), {})


def test_plain_values_stay_as_they_are_and_are_not_shared():
    given = {"a": [1, 2.5, "x", True, None, {"b": []}]}
    made = plain(given, "recipe")
    assert made == given
    made["a"][5]["b"].append(1)
    assert given["a"][5] == {"b": []}


@pytest.mark.parametrize("changes", ["train.lr=1", [3], [None]])
def test_changes_that_are_no_dict_and_no_list_of_texts_are_refused(changes: Any):
    with pytest.raises(TypeError, match=f"^changes: must be a dict or a list of .*, found {re.escape(repr(changes))}"):
        mtbert.train(RECIPE, changes=changes)
    with pytest.raises(TypeError, match=r"^changes, 'train.lr': must hold .* found <class 'object'>\."):
        mtbert.train(RECIPE, changes={"train.lr": object})


def test_what_is_no_path_is_refused():
    for call, what in (
        (lambda given: mtbert.train(RECIPE, out=given), "out"),
        (lambda given: mtbert.train(resume=given), "resume"),
        (mtbert.evaluate, "run"),
        (mtbert.tune, "recipe"),
    ):
        with pytest.raises(TypeError, match=f"^{what}: must be a path or a name, found dict.$"):
            call({"a": 1})
    with pytest.raises(TypeError, match=r"^study: must be a path or a name, found list\.$"):
        mtbert.study(["demo"])  # type: ignore[arg-type]


def test_a_study_and_a_tuning_need_one_worker_and_one_trial():
    with pytest.raises(ValueError, match=r"^study: workers must be at least 1, found 0\.$"):
        mtbert.study("demo", workers=0)
    with pytest.raises(ValueError, match=r"^tune: trials must be at least 1, found -1\.$"):
        mtbert.tune("demo", trials=-1)


def test_the_working_folder_is_no_out_but_may_be_resumed_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy_run.set_up(tmp_path)
    run = mtbert.train(tmp_path / "toy.yaml", out=tmp_path / "run", changes={"train.epochs": 1, "train.rounds": 1})
    monkeypatch.chdir(run.path)
    for out in (".", "", "../run", run.path):
        with pytest.raises(ValueError, match=rf"^{re.escape(str(Path(out)))}: the working folder\. Give another"):
            mtbert.train(tmp_path / "toy.yaml", out=out, overwrite=True)
    assert mtbert.evaluate(".").overall == run.scores.overall
    assert mtbert.train(resume=".", epochs=2).path == Path()
    monkeypatch.chdir(run.path / "best")
    assert mtbert.evaluate("..").overall <= 1
    assert sorted(os.listdir(tmp_path)) == ["data", "encoder", "run", "toy.yaml"]


def test_the_root_of_all_folders_has_no_folder_beside_it():
    with pytest.raises(ValueError, match=r"^/: the root of all folders\. Give another path\.$"):
        files.find_folder(Path("/"))


def test_what_does_not_go_together_is_refused():
    for given in ({}, {"recipe": "demo", "resume": "runs/x"}, {"resume": "runs/x", "overwrite": True}):
        with pytest.raises(ValueError, match=r"^train: give a recipe, or resume=RUN without recipe, data"):
            mtbert.train(**given)
    with pytest.raises(ValueError, match=r"^train: epochs is for resume"):
        mtbert.train("demo", epochs=3)
