"""``mtbert init``: the whole recipes that it writes, its questions, and what it refuses."""

import gzip
import re
from collections.abc import Sequence
from pathlib import Path

import commands
import pytest
import toy_files
import toy_run
from commands import Mtbert
from toy_files import TEXTS, csv, guessed, jsonl, only_task, recipe

from mtbert.drafting import looking
from mtbert.drafting.by_name import split_of
from mtbert.drafting.comments import Setting, commented
from mtbert.drafting.questions import Questions
from mtbert.messages import plain_console
from mtbert.recipe.files import load_recipe
from mtbert.yaml_text import inline, parse

here = toy_files.here
mtbert = commands.mtbert
pytestmark = pytest.mark.usefixtures("here")

ONE_TASK = """\
# mtbert init guessed this recipe from reviews.csv (12 rows), reviews-dev.csv (12 rows).
# A comment says why a setting was guessed, and what it may be instead. Change what is wrong.
# Then: mtbert data check reviews.yaml; mtbert train reviews.yaml
tasks:
  stars:
    # 3 whole numbers, 1 to 5, a guess from only 12 rows with a label; or regression, for scores between; or
    # classification, if they have no order
    type: ordinal
    inputs: single
    train: reviews.csv
    dev: reviews-dev.csv  # by its name
    columns:
      text: review
      label: stars
      id: id  # different in every row
    batch_size: 16
    # not used: date (dates or times)
model:
  # MiniLM, small and English; or answerdotai/ModernBERT-base (English, larger) or jhu-clsp/mmBERT-base (many
  # languages)
  path: demo
  pooling: mean  # as MiniLM was trained; cls for most others
  max_length: 64  # tokens; about nineteen of twenty texts have at most 12
train:
  epochs: 10  # at most; more if dev still improves at the end
  patience: 3  # training ends after 3 epochs in a row without a higher score on dev; null: never early
  lr: 0.0001  # for a small encoder such as MiniLM; 2e-5 to 5e-5 for a larger one
"""
TWO_TASKS_OF_PAIRS = """\
tables:  # files that several tasks read
  pairs:
    train: pairs.csv
    # dev: FILE  (without one, dev is a tenth of train that shares no text with the rest)
    columns:
      text: [first, second]  # for one of them alone: text: second, and inputs: single
    batch_size: 16
tasks:
  same:
    type: binary  # 2 values, 'no' and 'yes', a guess from only 12 rows with a label
    inputs: packed  # both texts in one sequence; or separate, for a vector of each
    table: pairs
    label: same
    labels: ['no', 'yes']  # the second is the yes
  near:
    # 4 numbers, 0 to 5, a guess from only 8 rows with a label; or classification, if they have no order; or
    # ordinal, if an answer is one of these numbers
    type: regression
    inputs: packed  # both texts in one sequence; or separate, for a vector of each
    table: pairs
    label: near
"""


def reviews() -> None:
    for name in ("reviews.csv", "reviews-dev.csv"):
        csv(name, "id,date,review,stars", [f"r{i}" for i in range(12)], ["2024-01-05", "2024-02-07"], TEXTS, [1, 5, 2])


def answering(*lines: str) -> Questions:
    left = iter(lines)
    return Questions(plain_console(quiet=True), lambda: next(left))


def test_the_recipe_of_one_task_is_this_text(mtbert: Mtbert):
    reviews()
    done = mtbert("init", "reviews.csv", "reviews-dev.csv", "--yes")
    assert (done.code, done.err) == (0, "")
    assert Path("reviews.yaml").read_text() == ONE_TASK
    first, second, third, *_, where, last = done.out.splitlines()
    assert first == "reviews.csv: 12 rows, texts in review"
    assert second == "  task stars: ordinal (3 whole numbers, 1 to 5, a guess from only 12 rows with a label)"
    assert third == "wrote reviews.yaml"
    assert where == "done: the recipe is reviews.yaml; look at its guesses"
    assert last == "next: mtbert train reviews.yaml"
    assert "stars, dev: 12 of 12 examples (100.0%) repeat a train example" in done.out  # data check has run


def test_ctrl_c_while_the_data_are_checked_names_the_command_that_checks_them(
    mtbert: Mtbert, monkeypatch: pytest.MonkeyPatch
):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    reviews()
    monkeypatch.setattr("mtbert.drafting.draft.check_data", stop)
    done = mtbert("init", "reviews.csv", "reviews-dev.csv", "--yes")
    said = "stopped. reviews.yaml is written, but its data are not checked. Check them with:"
    assert (done.code, done.err) == (130, f"mtbert: {said} mtbert data check reviews.yaml\n")
    assert Path("reviews.yaml").read_text() == ONE_TASK


def test_the_recipe_of_several_tasks_has_a_table():
    near = [0, 2.5, 5, 1.5, "", 0, 2.5, 5, "", 5, "", ""]
    csv("pairs.csv", "first,second,same,near", TEXTS, [f"{text} again" for text in TEXTS], ["no", "yes"], near)
    from mtbert.drafting.writing import recipe_text

    text = recipe_text(guessed("pairs.csv"), Path("pairs.yaml"))
    assert text.partition("train pairs.yaml\n")[2].partition("model:")[0] == TWO_TASKS_OF_PAIRS


def test_a_guessed_recipe_trains(mtbert: Mtbert):
    encoder = toy_run.encoder_folder(Path("encoder"))
    csv("part-1.csv", "text,label,mood", TEXTS, ["a", "b"], [1, 2, 3])
    csv("part-2.csv", "text,label,mood", [f"{text} not" for text in TEXTS], ["b", "a"], [3, 2, 1])
    assert mtbert("init", "part-1.csv", "part-2.csv", "--out", "toy.yaml").code == 0
    small = ["--set", f"model.path={encoder}", "--set", "model.max_length=16", "--set", "train.epochs=1"]
    assert mtbert("train", "toy.yaml", *small, "--out", "run").code == 0
    assert load_recipe("toy.yaml").tasks["part-1"].train.files == ("part-1.csv", "part-2.csv")


def test_names_that_yaml_must_escape_are_read_back(mtbert: Mtbert):
    names = ["the: text", '# label\'s\\ "kind"', "- id"]
    rows = [dict(zip(names, (TEXTS[i], ["a: b", "yes"][i % 2], f"r{i}"), strict=True)) for i in range(12)]
    name = jsonl('it\'s #1: "data".jsonl', *rows)
    assert mtbert("init", name, "--out", "toy.yaml").code == 0
    (task,) = load_recipe("toy.yaml").tasks.values()
    assert (task.train.path, task.columns.text, task.columns.label, task.labels) == (
        name, (names[0],), names[1], ("a: b", "yes")
    )  # fmt: skip
    assert task.name == "label-s-kind"


@pytest.mark.parametrize("value", ["a\nb", "no", "1", "", " a", "a: b", "#", "[x", "ü", "\x1b[2J", ["a\nb", "1"], 0.5])
def test_a_value_on_one_line_is_read_back(value: object):
    text = inline(value)
    assert text.isprintable()
    assert parse(f"key: {text}  # why", "toy") == {"key": value}


def test_a_comment_with_a_line_break_stays_a_comment():
    text = commented([Setting("a", 1, "x\ny: 2"), Setting("", why="z\n" * 40 + "b: 3")])
    assert parse(text, "toy") == {"a": 1}


# Files --------------------------------------------------------------------------------------------------------


def test_files_of_other_names_are_tasks_of_their_own_and_rounds_follow_their_sizes():
    csv("topics.csv", "text,label", TEXTS, ["a", "b", "c"])
    csv("moods.csv", "text,label", [f"{text} {i}" for i in range(20) for text in TEXTS], ["good", "bad"])
    made = recipe("topics.csv", "moods.csv")
    assert {name: task["train"] for name, task in made["tasks"].items()} == {  # type: ignore[index]
        "topics": "topics.csv",
        "moods": "moods.csv",
    }
    assert made["train"]["rounds"] == 10  # 10 times the one batch of topics; moods has 15
    assert recipe("moods.csv")["train"] == {"epochs": 10, "patience": 3, "lr": 1e-4}


def test_two_columns_of_one_name_in_two_files_are_two_tasks():
    csv("a.csv", "text,mood", TEXTS, ["good", "bad"])
    csv("b.csv", "body,mood", TEXTS, [1, 2, 3])
    assert list(recipe("a.csv", "b.csv")["tasks"]) == ["mood", "mood-2"]


@pytest.mark.parametrize(
    ("stem", "found"),
    [
        ("train", ("", "train")),
        ("dev", ("", "dev")),
        ("ids-sst-valid", ("ids-sst", "dev")),
        ("Reviews_Validation", ("Reviews", "dev")),
        ("test-00000-of-00002", ("", "test")),
        ("latest", ("latest", "train")),
        ("reviews.2024", ("reviews.2024", "train")),
    ],
)
def test_the_split_is_a_word_in_the_name(stem: str, found: tuple[str, str]):
    assert split_of(stem) == found


def test_a_test_file_without_labels_is_left_out_with_a_remark():
    csv("train.csv", "text,label", TEXTS, ["a", "b"])
    csv("dev.csv", "text,label", TEXTS, ["a", "b"])
    csv("test.csv", "text", TEXTS)
    (table,) = guessed("train.csv", "dev.csv", "test.csv")
    assert [file.place.name for file in (*table.group.train, *table.group.dev)] == ["train.csv", "dev.csv"]
    assert table.group.test == []
    assert table.remarks == ["not used: test.csv has no column 'label'"]


def test_a_dev_file_alone_is_trained_on_and_one_beside_another_name_is_refused():
    csv("my-dev.csv", "text,label", TEXTS, ["a", "b"])
    csv("other.csv", "text,label", TEXTS, ["a", "b"])
    assert only_task("my-dev.csv")["train"] == "my-dev.csv"
    with pytest.raises(ValueError, match=r"^my-dev.csv: dev or test data by the name, but of no train file here."):
        guessed("my-dev.csv", "other.csv")


def test_semicolons_separate_columns_although_a_name_has_a_comma():
    csv("toy.csv", "Beschreibung;Note (gut, schlecht)", TEXTS, ["gut", "schlecht"], sign=";")
    assert only_task("toy.csv")["columns"] == {"text": "Beschreibung", "label": "Note (gut, schlecht)"}


def test_other_formats_and_saved_data_sets_are_read():
    import datasets

    Path("toy.csv.gz").write_bytes(gzip.compress(Path(csv("toy.csv", "text,mood", TEXTS, ["a", "b"])).read_bytes()))
    assert only_task("toy.csv.gz")["train"] == "toy.csv.gz"
    data = datasets.Dataset.from_dict({"text": TEXTS, "mood": [0, 1] * 6})
    data = data.cast_column("mood", datasets.ClassLabel(names=["bad", "good"]))
    data.to_parquet("toy.parquet")
    assert only_task("toy.parquet")["labels"] == ["0", "1"]
    datasets.DatasetDict(train=data, validation=data).save_to_disk("saved")
    places = looking.given_files(["saved", "toy.csv", "./toy.csv"])
    assert [place.name for place in places] == ["saved/train", "saved/validation", "toy.csv"]
    task = only_task(*(place.name for place in places[:2]))
    assert (task["train"], task["dev"]) == ({"hub": "saved/train"}, {"hub": "saved/validation"})
    assert task["labels"] == ["bad", "good"]


def test_only_the_first_rows_of_a_large_file_are_looked_at(monkeypatch: pytest.MonkeyPatch):
    csv("toy.csv", "text,mood", [*TEXTS, '"an open quote'], ["good", "bad"])
    monkeypatch.setattr(looking, "MOST_LOOKED_AT", 8)
    (table,) = guessed("toy.csv")
    assert (table.rows, table.group.train[0].whole) == (8, False)
    from mtbert.drafting.writing import recipe_text

    assert "from toy.csv (the first 8 rows)." in recipe_text([table], Path("toy.yaml"))


# Questions ------------------------------------------------------------------------------------------------------


def test_answers_replace_guesses():
    csv("toy.csv", "title,body,stars,spam", TEXTS[::-1], [f"{text} indeed" for text in TEXTS], [1, 2, 3], [0, 1])
    assert recipe("toy.csv", questions=answering("", "", "")) == recipe("toy.csv")
    made = recipe("toy.csv", questions=answering("1", "2", "2"))  # stars alone; body alone; the second type
    assert made["tasks"]["stars"] | {"batch_size": 0} == {
        "type": "regression",
        "inputs": "single",
        "train": "toy.csv",
        "columns": {"text": "body", "label": "stars"},
        "batch_size": 0,
    }


def test_a_wrong_answer_is_asked_again(capsys: pytest.CaptureFixture[str]):
    lines = iter(["4", "x", "1 2", "2"])
    questions = Questions(plain_console(), lambda: next(lines))
    assert questions.one("Which?", ["a", "b", "c"]) == 1
    assert capsys.readouterr().out.count("Type a number from 1 to 3, or a name.") == 3
    assert answering("3, 1").several("Which?", ["a", "b", "c"], [0]) == [2, 0]
    assert answering("").several("Which?", ["a", "b", "c"], [1, 2]) == [1, 2]
    assert answering().one("Which?", ["a"]) == 0  # nothing to ask


def test_an_answer_may_be_typed_as_its_number_or_its_name(capsys: pytest.CaptureFixture[str]):
    answers = ["stars  (5 whole numbers)", "film, pet  (yes or no)", "1", "the mood"]
    for typed, chosen in (
        ("stars", [0]),
        (" film, pet ", [1]),
        ("1", [0]),  # the number, although a column has this name
        ("the mood, stars", [3, 0]),
        ("stars 3 stars", [0, 2]),
    ):
        assert answering(typed).several("Which?", answers, [1]) == chosen
    assert answering("the mood").one("Which?", answers) == 3
    lines = iter(["moods", "stars pet", "film, pet"])
    assert Questions(plain_console(), lambda: next(lines)).several("Which?", answers, [0]) == [1]
    assert capsys.readouterr().out.count("Type numbers from 1 to 4, or names.") == 2


# Refusals -------------------------------------------------------------------------------------------------------

LONG = "a line of eight words and a few more, of"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("toy.csv", b"", "toy.csv: the file is empty."),
        ("toy.csv", b"text,label\n", "toy.csv: a header but no rows. Add rows."),
        ("toy.csv", "text,label\nüber,a\n".encode("latin-1"), "toy.csv, line 2: byte 0xfc is not UTF-8."),
        ("toy.csv", b"\0\1\2", "toy.csv, line 1: a NUL character is not text."),
        ("toy.csv", b"text,text\na,b\n", "toy.csv, line 1: 2 columns are named 'text'. Rename all but one."),
        ("toy.csv", b"text\nan old cat\nthe dog\n", "must have a column of labels, found 'text': texts. Add one"),
        ("toy.csv", b"text,label\nan old cat,a\n", "'label': 1 different value in 1 row, so no classes. Add one"),
        ("toy.csv", b"spam\n1\n0\n1\n0\n", "must have a column of texts, found 'spam': 2 values, '0' and '1'."),
        ("toy.csv", f"{LONG},pos\n".encode() * 4, "line 1: must name the columns, found what looks like a row,"),
        ("toy.csv", b"so good,pos\n" + b"well,neg\nah,pos\n" * 2, "toy.csv, line 1: must name the columns,"),
        ("toy.csv", b"so good,1\nwell,0\nah,1\nno,0\n", "found what looks like a row, 'so good', '1'. Write a line"),
        ("toy.xlsx", b"PK", "toy.xlsx: a spreadsheet, which is not read."),
        ("toy.yml", b"a: b", "toy.yml: '.yml' is not a known kind of file."),
    ],
)  # fmt: skip
def test_a_file_without_a_task_is_refused_and_no_recipe_is_written(
    mtbert: Mtbert, name: str, content: bytes, message: str
):
    Path(name).write_bytes(content)
    assert message in mtbert("init", name).mistake
    assert list(Path().iterdir()) == [Path(name)]


def refused(mtbert: Mtbert, message: str, *arguments: Sequence[object]) -> None:
    assert re.search(message, mtbert("init", *arguments).mistake)


def test_a_recipe_that_exists_is_never_replaced(mtbert: Mtbert):
    reviews()
    Path("reviews.yaml").write_text("mine")
    refused(mtbert, "^reviews.yaml: there is such a file, which stays as it is. Give --out NAME.yaml.", "reviews.csv")
    refused(mtbert, "^reviews.yaml: there is such a file", "reviews.csv", "--out", "reviews.yaml")
    assert Path("reviews.yaml").read_text() == "mine"
    refused(mtbert, "^reviews.csv: a recipe must be a .yaml file", "reviews.csv", "--out", "reviews.csv")
    refused(mtbert, "^no/toy.yaml: must be a file in a folder that exists", "reviews.csv", "--out", "no/toy.yaml")


def test_a_missing_file_and_a_folder_without_data_are_refused(mtbert: Mtbert):
    refused(mtbert, "^gone.csv: there is no such file", "gone.csv")
    Path("folder").mkdir()
    refused(mtbert, "^folder: a folder that datasets did not save. Give the files in it", "folder")


def test_paths_start_from_the_folder_of_the_recipe(mtbert: Mtbert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reviews()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert mtbert("init", tmp_path / "reviews.csv").code == 0
    assert load_recipe("reviews.yaml").tasks["stars"].train.path == "../reviews.csv"
