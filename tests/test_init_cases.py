"""``mtbert init`` in cases that a user meets seldom: a file that appears, odd cells and answers, tiny and huge data."""

from pathlib import Path

import commands
import pytest
import toy_files
import yaml
from commands import Mtbert
from toy_files import TEXTS, csv, guessed, only_task, recipe

from mtbert.answers.seen import SeenColumn, Suits
from mtbert.drafting.by_name import FileGroup
from mtbert.drafting.draft import draft
from mtbert.drafting.guessing import TableGuess, TaskGuess
from mtbert.drafting.language import looks_english
from mtbert.drafting.looking import GivenFile, SeenFile
from mtbert.drafting.questions import Questions
from mtbert.drafting.writing import recipe_text
from mtbert.files import write_new
from mtbert.messages import plain_console
from mtbert.recipe.files import load_recipe

here = toy_files.here
mtbert = commands.mtbert
pytestmark = pytest.mark.usefixtures("here")


# Files and cells ------------------------------------------------------------------------------------------------


def test_a_recipe_that_appears_while_questions_are_answered_is_not_replaced():
    csv("toy.csv", "text,stars", TEXTS, [1, 2, 3])

    def answer() -> str:
        Path("toy.yaml").write_text("mine")
        return ""

    with pytest.raises(FileExistsError, match=r"toy\.yaml"):
        draft(["toy.csv"], None, plain_console(quiet=True), answer)
    assert Path("toy.yaml").read_text() == "mine"


def test_a_new_file_is_never_written_over_another():
    Path("a").write_text("mine")
    with pytest.raises(FileExistsError):
        write_new(Path("a"), "other")
    assert Path("a").read_text() == "mine"


def test_line_breaks_in_cells_stay_inside_them(mtbert: Mtbert):
    labels = ["very\ngood", "bad"]
    lines = [f'"{text}\nindeed","{labels[i % 2]}"' for i, text in enumerate(TEXTS)]
    Path("toy.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    assert mtbert("init", "toy.csv").code == 0
    task = load_recipe("toy.yaml").tasks["toy"]
    assert set(task.labels or ()) == set(labels)
    assert all(line.lstrip().startswith("#") or ":" in line for line in Path("toy.yaml").read_text().splitlines())


def test_a_dev_file_without_a_column_of_train_is_left_out_and_the_recipe_says_so():
    csv("toy.csv", "text,mood", TEXTS, ["good", "bad"])
    csv("toy-dev.csv", "text,feeling", TEXTS, ["good", "bad"])
    assert "dev" not in only_task("toy.csv", "toy-dev.csv")
    text = recipe_text(guessed("toy.csv", "toy-dev.csv"), Path("toy.yaml"))
    assert "    # dev: FILE  (without one," in text
    assert "    # not used: toy-dev.csv has no column 'mood'\n" in text


# Answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["0", "-1", "4", "99999999999999999999", "1.5", "²", "two", "1 2", "1,1,2"])
def test_an_answer_that_is_no_number_of_a_choice_is_asked_again(wrong: str, capsys: pytest.CaptureFixture[str]):
    lines = iter([wrong, "3"])
    assert Questions(plain_console(), lambda: next(lines)).one("Which?", ["a", "b", "c"]) == 2
    assert capsys.readouterr().out.count("Type a number from 1 to 3, or a name.") == 1


@pytest.mark.parametrize("wrong", ["0", "1 4", "-1 2", "1 x"])
def test_answers_of_which_one_is_no_choice_are_asked_again(wrong: str):
    lines = iter([wrong, "3 1"])
    assert Questions(plain_console(quiet=True), lambda: next(lines)).several("Which?", ["a", "b", "c"], [0]) == [2, 0]


# Few and many rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labelled", "doubt"), [(19, ", a guess from only 19 rows with a label"), (20, "")])
def test_a_guess_from_few_labelled_rows_says_so(labelled: int, doubt: str, mtbert: Mtbert):
    stars = [i % 3 + 1 if i < labelled else "" for i in range(30)]
    csv("toy.csv", "text,stars", [f"{TEXTS[i % 12]} {i}" for i in range(30)], stars)
    done = mtbert("init", "toy.csv")
    expected = doubt or ", in 20 of 30 rows"
    assert f"  task stars: ordinal (3 whole numbers, 1 to 3{expected})\n" in done.out
    assert f"# 3 whole numbers, 1 to 3{expected};" in Path("toy.yaml").read_text()


def table(name: str, rows: int) -> TableGuess:
    """Returns a table of as many rows, of which one was kept."""
    column = SeenColumn("text", ["a text"])
    seen = SeenFile(GivenFile(Path(f"{name}.csv"), f"{name}.csv"), [column], rows, whole=True)
    task = TaskGuess(name, "binary", Suits(1.0, "two values", "if so"), [], [SeenColumn("same", ["no"])], [column])
    return TableGuess(name, FileGroup(name, [seen], dev=[seen]), [task], [column], [], None, [], [])


PATIENT = {"patience": 3}


@pytest.mark.parametrize(
    ("sizes", "train"),
    [
        ([1], {"epochs": 10, **PATIENT}),
        ([3_000], {"epochs": 7, **PATIENT}),
        ([4_000], {"epochs": 5, **PATIENT}),
        ([5_000], {"epochs": 4}),  # patience could not end it earlier
        ([50_000], {"epochs": 1}),
        ([10**7], {"epochs": 1}),
        ([40, 40], {"rounds": "max", "epochs": 10, **PATIENT}),
        ([160, 1600], {"rounds": "max", "epochs": 10, **PATIENT}),
        ([160, 1601], {"rounds": 100, "epochs": 10, **PATIENT}),  # ten passes over the smaller table
        ([16, 10**7], {"rounds": 10, "epochs": 10, **PATIENT}),
        ([10**6, 10**7], {"rounds": "max", "epochs": 1}),
    ],
)
def test_epochs_and_rounds_follow_the_number_of_rows(sizes: list[int], train: dict[str, object]):
    tables = [table(f"t{i}", rows) for i, rows in enumerate(sizes)]
    assert yaml.safe_load(recipe_text(tables, Path("toy.yaml")))["train"] == {**train, "lr": 1e-4}


# Languages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("The cat is on the mat, and it sleeps.", True),
        ("great value", True),
        ("12345 :-)", True),
        ("a café in Zürich that you like", True),
        ("Der Film ist in der Mitte nicht gut.", False),
        ("Le film est bon et je vous le dis.", False),
        ("La película no es mala y me gusta.", False),
        ("Il film non è bello per me.", False),
        ("O filme não é bom.", False),
        ("Het is een film van niets en niet meer.", False),
        ("Фильм был хороший, но длинный.", False),
        ("这部电影很好看。", False),
    ],
)
def test_the_language_is_told_by_letters_and_frequent_words(text: str, english: bool):
    assert looks_english([text] * 3) is english
    assert looks_english([text, *["the cat and the dog"] * 9]) is True


@pytest.mark.parametrize("text", ["der alte film ist nicht gut", "the old film was good"])
def test_texts_that_are_not_english_bring_a_hint_to_take_another_encoder(text: str, mtbert: Mtbert):
    csv("toy.csv", "text,mood", [f"{text} {i}" for i in range(40)], ["good", "bad"])
    done = mtbert("init", "toy.csv")
    foreign = text.startswith("der")
    hint = "warning: the texts do not look English, and the recipe has an English encoder. Set model.path to one for "
    assert (f"{hint}their language, such as jhu-clsp/mmBERT-base (many languages).\n" in done.out) is foreign
    comment = " ".join(Path("toy.yaml").read_text().replace("\n  # ", " ").split())
    assert ("The texts do not look English, so take one for their language" in comment) is foreign
    assert recipe("toy.csv")["model"]["path"] == "demo"
