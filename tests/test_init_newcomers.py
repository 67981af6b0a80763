"""``mtbert init`` on files as newcomers have them: facts about rows, gaps, few rows, marks for missing values."""

import re
from pathlib import Path

import pytest
import toy_files
import yaml
from commands import Mtbert
from toy_files import TEXTS, csv, guessed, only_task

here = toy_files.here
pytestmark = pytest.mark.usefixtures("here")

ROWS = 60
FIRST = [f"{TEXTS[i % 12]} {i}" for i in range(ROWS)]
SECOND = [f"we think that {TEXTS[i % 12]} by {i}" for i in range(ROWS)]
STARS = [1, 5, 3, 4, 2, 5, 5]
BILLION = 10**9


def unused(*given: object) -> dict[str, str]:
    (table,) = guessed(csv("toy.csv", *given))  # type: ignore[arg-type]
    return {column.name: why for column, why in table.unused}


def test_facts_about_a_review_are_no_tasks_and_are_named():
    header = "rating,title,text,timestamp,helpful_votes,verified"
    facts = [[1400 * BILLION + 7919 * i for i in range(ROWS)], [0, 0, 2, 1, 0], ["true", "false", "true"]]
    columns = header, STARS, FIRST, SECOND, *facts
    assert only_task(csv("toy.csv", *columns))["columns"] == {"text": ["title", "text"], "label": "rating"}
    found = unused(*columns)
    assert found["timestamp"] == "dates or times"
    assert found["verified"] == "or a task of type binary"
    assert found["helpful_votes"].startswith("or a task of type ")


def test_counts_of_votes_and_the_confidence_of_annotators_are_no_tasks():
    facts = [[0, 1, 2], [0, 1], [1, 0, 0], [0.5, 1, 0.75], [0.4, 0.9, 0.7, 1]]
    header = "stars,useful,funny,cool,mood_confidence,upvote_ratio,text"
    assert only_task(csv("toy.csv", header, STARS, *facts, FIRST))["columns"] == {"text": "text", "label": "stars"}


def test_facts_about_a_comment_are_no_tasks_and_no_labels_of_a_set():
    header = "text,subreddit,created_utc,rater_id,example_very_unclear,anger,joy,fear"
    times = [f"{1546300800 + 977 * (i % 50)}.0" for i in range(ROWS)]
    marks = [[0, 1, 0], [1, 0, 0, 1], [0, 0, 1, 1, 0]]
    columns = header, FIRST, ["nba", "cats"], times, list(range(9)), ["True", "False", "False"], *marks
    assert only_task(csv("toy.csv", *columns))["columns"] == {"text": "text", "label": ["anger", "joy", "fear"]}
    assert sorted(unused(*columns)) == ["created_utc", "example_very_unclear", "rater_id", "subreddit"]
    assert unused(*columns)["created_utc"] == "dates or times"


def test_a_fact_is_the_label_if_nothing_else_is():
    task = only_task(csv("toy.csv", "text,verified", FIRST, ["true", "false", "true"]))
    assert task["columns"] == {"text": "text", "label": "verified"}


def lines(name: str) -> list[str]:
    from mtbert.drafting.writing import recipe_text

    return [line.strip() for line in recipe_text(guessed(name), Path("toy.yaml")).splitlines()]


def test_title_and_body_are_one_input_and_the_comment_says_how_to_read_one_of_them():
    found = lines(csv("toy.csv", "Title,Description,Category", FIRST, SECOND, ["a", "b", "c"]))
    assert "inputs: packed  # Title and Description of a row are read as one input, in one sequence" in found
    assert "text: [Title, Description]  # for one of them alone: text: Description, and inputs: single" in found
    pair = lines(csv("toy.csv", "question1,question2,same", FIRST, SECOND, ["no", "yes"]))
    assert "inputs: packed  # both texts in one sequence; or separate, for a vector of each" in pair


def test_the_text_is_the_column_with_most_words_and_its_gaps_are_told():
    notes = [f"a long note of many words about {text}" if i % 6 == 0 else "" for i, text in enumerate(FIRST)]
    some = [text if i % 2 else "" for i, text in enumerate(FIRST)]
    found = lines(csv("toy.csv", "note,text,label", notes, some, ["a", "b", "c"]))
    assert "text: text  # filled in 30 of 60 rows, and no others are read; most words; or note" in found


def test_labels_are_those_of_rows_with_a_text():
    some = [text if i % 3 == 0 else "" for i, text in enumerate(FIRST)]
    name = csv("toy.csv", "text,label", some, ["a", "b", "c"])  # rows with a text have label a alone
    with pytest.raises(
        ValueError, match=re.escape("toy.csv: 20 rows of 60 have a text in 'text', too few to learn 'label' f")
    ):
        guessed(name)
    name = csv("toy.csv", "text,label", some, ["a", "b", "c", "b", "a"])
    assert only_task(name)["type"] == "classification"
    assert guessed(name)[0].unused == []
    name = csv("toy.csv", "text,label", some, ["a", "b", "c", "b", "c", "c"])  # a and b
    assert only_task(name)["type"] == "binary"


def test_marks_for_missing_scores_are_named():
    name = csv("toy.csv", "text,score", FIRST, [f"{i % 37}.5" if i % 9 else "n/a" for i in range(ROWS)])
    with pytest.raises(ValueError, match=r"'score': numbers, but for 'n/a' in 7 rows; leave such cells empty\. Add"):
        guessed(name)


def test_columns_that_a_bar_separates_are_named():
    with pytest.raises(
        ValueError, match=r"line 1: a tab, a comma or a semicolon must separate columns, found 'text\|l"
    ):
        guessed(csv("toy.csv", "text|label", FIRST, ["a", "b"], sign="|"))


def test_a_line_for_excel_above_the_names_is_named():
    Path("toy.csv").write_text("sep=;\ntext;label\none;a\n")
    with pytest.raises(ValueError, match=r"^toy\.csv, line 1: 'sep=' is for Excel alone\. Remove this line\.$"):
        guessed("toy.csv")


def test_the_recipe_has_a_seed_that_draws_each_class_evenly(mtbert: Mtbert):
    rare = [9, 17, 1, 2, 3, 4]  # of which the default seed draws rows 9 and 17 as dev
    labels = ["b" if i + 1 in rare else "a" for i in range(ROWS)]
    done = mtbert("init", csv("toy.csv", "text,label", FIRST, labels), "--yes")
    assert done.code == 0
    assert "dev_seed" not in done.out + done.err
    assert (
        "    dev_seed: 1  # draws each class about evenly; 0, the default, does not\n" in Path("toy.yaml").read_text()
    )
    assert yaml.safe_load(Path("toy.yaml").read_text())["tasks"]["toy"]["dev_seed"] == 1


def test_the_seed_leaves_each_task_rows_in_dev(mtbert: Mtbert):
    mood = ["no" if i % 2 else "yes" for i in range(24)]
    stars = [(1, 5)[i % 2] if i in (3, 5, 6, 7, 9, 11, 12, 15) else "" for i in range(24)]
    done = mtbert("init", csv("toy.csv", "text,mood,stars", FIRST[:24], mood, stars), "--yes")
    assert (done.code, "no row is left" in done.err) == (0, False)
    assert "dev_seed: " in Path("toy.yaml").read_text()
