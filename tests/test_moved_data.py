"""A run whose data were moved resumes with ``--set data.root=FOLDER``, and remembers the new place."""

import shutil
from pathlib import Path

import pytest
import toy_run
from children import killed
from rich.console import Console
from typer.testing import CliRunner

from mtbert import cli
from mtbert.recipe.files import load_recipe
from mtbert.studying import results
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run

SILENT = Console(quiet=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a finished run of two steps, whose data are now in ``moved``."""
    toy_run.set_up(tmp_path)
    settings = load_recipe(str(tmp_path / "toy.yaml"), ["train.epochs=1", "train.rounds=2"])
    start_run(settings, tmp_path / "run", SILENT)
    (tmp_path / "data").rename(tmp_path / "moved")
    return tmp_path


def resume(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(cli.app, ["train", "--resume", str(folder / "run"), *words])
    return str(done.exception or "")


def test_a_run_resumes_with_its_data_at_a_new_place(folder: Path):
    assert "change it with --set data.root=FOLDER" in resume(folder)
    assert resume(folder, "--set", f"data.root={folder / 'moved'}") == ""
    assert resume(folder) == ""
    assert load_recipe(str(folder / "run/recipe.yaml")).root() == folder / "moved"
    assert list(results.read_run(folder / "run").dev) == ["sst", "quora", "sts"]


def test_a_run_can_get_a_new_place_of_data_and_more_epochs_at_once(folder: Path):
    assert resume(folder, "--set", f"data.root={folder / 'moved'}", "--epochs", "2") == ""
    assert load_recipe(str(folder / "run/recipe.yaml")).train.epochs == 2
    assert resume(folder) == ""


def test_other_data_at_the_new_place_are_refused_and_nothing_changes(folder: Path):
    before = (folder / "run/recipe.yaml").read_bytes()
    with (folder / "moved/sts.csv").open("a") as file:
        file.write("t99,a dog,a cat,1\n")
    assert "sts.csv: changed since the run in" in resume(folder, "--set", f"data.root={folder / 'moved'}")
    assert (folder / "run/recipe.yaml").read_bytes() == before


@pytest.mark.parametrize("change", ["train.lr=1", "data=x", "data.rootx=a", "tasks.sst.train=a.csv"])
def test_no_other_setting_of_a_run_can_be_changed(folder: Path, change: str):
    assert (
        resume(folder, "--set", change)
        == f"{change}: of a run that is resumed, only data.root may change. Leave it out."
    )


def test_a_kill_at_any_file_operation_leaves_a_run_that_resumes(folder: Path):
    shutil.copytree(folder / "run", folder / "before")
    moved = [f"data.root={folder / 'moved'}"]
    for operation in range(2, 60, 4):
        shutil.rmtree(folder / "run")
        shutil.copytree(folder / "before", folder / "run")
        died = killed(lambda: resume_run(folder / "run", SILENT, overrides=moved), operation)
        resume_run(folder / "run", SILENT, overrides=moved)
        assert not list((folder / "run").rglob(".*"))
        if not died:
            return
    raise AssertionError("it never came to its end")
