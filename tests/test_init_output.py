"""``mtbert init``: where it writes, what it prints, and what it leaves after a refusal."""

import sys
from pathlib import Path

import commands
import pytest
import toy_files
from commands import Mtbert
from toy_files import TEXTS, csv, guessed

from mtbert import cli
from mtbert.drafting.writing import recipe_text
from mtbert.recipe.files import load_recipe

here = toy_files.here
mtbert = commands.mtbert
pytestmark = pytest.mark.usefixtures("here")


def test_a_recipe_in_a_linked_folder_names_files_from_where_the_folder_is(mtbert: Mtbert):
    Path("deep/er/dir").mkdir(parents=True)
    Path("link").symlink_to("deep/er/dir")
    Path("toy.csv").symlink_to(Path(csv("data.csv", "text,mood", TEXTS, ["good", "bad"])))
    done = mtbert("init", "toy.csv", "--yes", "--out", "link/x.yaml")
    assert done.code == 0, done
    assert load_recipe("link/x.yaml").tasks["mood"].train.path == "../../../toy.csv"  # the link, not data.csv


def test_a_recipe_whose_data_are_refused_stays_and_the_error_says_what_to_do(mtbert: Mtbert):
    csv("toy.csv", "text,mood", TEXTS, ["good", "bad"])
    csv("toy-dev.csv", "text,mood", TEXTS, [""])
    done = mtbert("init", "toy.csv", "toy-dev.csv", "--yes", "--out", "my toy.yaml")
    assert done.code == 2
    end = "my toy.yaml is written; mend the data or the recipe, then: mtbert data check 'my toy.yaml'\n"
    assert done.err.endswith(end)
    assert Path("my toy.yaml").is_file()


def test_a_dev_file_that_is_not_used_is_a_warning(mtbert: Mtbert):
    csv("toy.csv", "text,mood", TEXTS, ["good", "bad"])
    csv("toy-dev.csv", "text,feeling", TEXTS, ["good", "bad"])
    assert "warning: not used: toy-dev.csv has no column 'mood'\n" in mtbert("init", "toy.csv", "toy-dev.csv").out


def test_nobody_is_asked_if_there_is_no_standard_input(monkeypatch: pytest.MonkeyPatch):
    csv("toy.csv", "text,stars", TEXTS, [1, 2, 3])
    monkeypatch.setattr(sys, "argv", ["mtbert", "init", "toy.csv"])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert Path("toy.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "word"),
    [("x;id", "'x;id.yaml'"), ("a b", "'a b.yaml'"), ("-x", "./-x.yaml"), ("e\x1b[31mvil", "'e\\x1b[31mvil.yaml'")],
)
def test_names_are_printed_without_control_characters_and_commands_can_be_pasted(name: str, word: str, mtbert: Mtbert):
    csv(f"{name}.csv", "text,mood", TEXTS, ["good", "bad"])
    done = mtbert("init", "--yes", "--", f"{name}.csv")
    assert done.code == 0, done
    assert "\x1b" not in done.out
    assert f"next: mtbert train {word}\n" in done.out
    (first,) = [line for line in Path(f"{name}.yaml").read_text().splitlines() if line.startswith("# Then: ")]
    assert first == f"# Then: mtbert data check {word}; mtbert train {word}"


def test_only_the_first_unused_columns_are_named():
    header = ",".join(["text", "mood", *(f"c{i}" for i in range(50))])
    guesses = guessed(csv("toy.csv", header, TEXTS, ["good", "bad"], *[["same"]] * 50))
    lines = [line.strip() for line in recipe_text(guesses, Path("toy.yaml")).splitlines() if "# not used" in line]
    assert len(lines) == 21
    assert lines[-2:] == ["# not used: c19 (the same value in every row, 'same')", "# not used: 30 more columns"]


def test_a_broken_link_is_not_written_through(mtbert: Mtbert):
    csv("toy.csv", "text,mood", TEXTS, ["good", "bad"])
    Path("x.yaml").symlink_to("gone.yaml")
    message = "x.yaml: there is such a file, which stays as it is. Give --out NAME.yaml."
    assert mtbert("init", "toy.csv", "--out", "x.yaml").mistake == message
    assert not Path("gone.yaml").exists()
