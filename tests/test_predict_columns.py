"""The columns of an input file that tasks read if the file lacks those of the recipe, and the messages about it."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mtbert.advice import worded_for_shell
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.use.input_columns import Fitting, fitting
from mtbert.use.predictor import Predictor


@pytest.fixture(autouse=True)
def _shell() -> Iterator[None]:
    with worded_for_shell():
        yield


PAIRED = {"type": "binary", "inputs": "packed"}


def task(texts: Any, label: str = "label", **keys: Any) -> dict[str, Any]:
    """Returns a task of single texts, or of the keys given, that reads the columns ``texts``."""
    return {
        "type": "binary",
        "inputs": "single",
        "train": f"{label}.csv",
        "columns": {"text": texts, "label": label, "id": "id", "weight": "w"},
    } | keys


RECIPE = {
    "topic": task("message", "topic"),
    "mood": task("review", "mood"),
    "same": task(["question", "other"], "same", **PAIRED),
    "like": task(["one", "two"], "like", **PAIRED),
    "third": task("body", "third"),
}
FOUR = ("topic", "mood", "same", "like")


def fitted(
    found: str, named: Sequence[str] = (), *, leave: Sequence[str] = FOUR, fixed: str = "", settable: bool = True
) -> Fitting:
    """Returns how the tasks ``leave`` of ``RECIPE`` answer a file ``in.csv`` with the columns ``found``."""
    recipe: Recipe = validate_recipe({"tasks": {name: RECIPE[name] for name in leave}}, "r")
    predictor = SimpleNamespace(tasks=recipe.tasks, task=recipe.tasks.__getitem__)
    given = cast(Predictor, predictor), recipe, named, "in.csv", found.split(), fixed.split()
    return fitting(*given, settable=settable)


def read(fits: Fitting) -> dict[str, str]:
    return {name: " ".join(fits.recipe.tasks[name].columns.text) for name in fits.tasks}


def lines(fits: Fitting) -> list[str]:
    return [f"warning: {note.text}" if note.warning else note.text for note in fits.notes]


def test_tasks_whose_column_is_missing_answer_about_the_text_that_other_tasks_read():
    fits = fitted("id message note topic", leave=["topic", "mood"])
    assert read(fits) == {"topic": "message", "mood": "message"}
    assert lines(fits) == [
        "in.csv: 'message' is the only text, so these tasks read it: mood (no column 'review'). To name "
        "another column: --set tasks.mood.columns.text=COLUMN"
    ]


def test_tasks_of_pairs_do_so_with_a_pair():
    fits = fitted("question other", leave=["same", "like"])
    assert read(fits) == {"same": "question other", "like": "question other"}
    assert lines(fits) == [
        "in.csv: 'question', 'other' is the only pair of texts, so these tasks read it: like (no column "
        "'one', 'two'). To name another column: --set 'tasks.like.columns.text=[COLUMN, OTHER]'"
    ]


def test_a_column_that_is_alone_beside_ids_labels_and_weights_is_the_text_of_all_tasks_of_single_texts():
    fits = fitted("id text topic w", leave=["topic", "mood", "same"])
    assert read(fits) == {"topic": "text", "mood": "text"}
    assert lines(fits) == [
        "in.csv: 'text' is the only text, so these tasks read it: topic (no column 'message'), mood (no "
        "column 'review'). To name another column: --set tasks.topic.columns.text=COLUMN",
        "warning: in.csv: left out: same (no column 'question', 'other').",  # one column makes no pair
    ]


def test_a_column_beside_a_pair_is_no_text_of_its_own_and_the_message_says_how_to_name_it():
    fits = fitted("question other note", leave=["topic", "same"])
    assert read(fits) == {"same": "question other"}
    assert lines(fits) == [
        "warning: in.csv: left out: topic (no column 'message'). To name columns: "
        "--set tasks.topic.columns.text=question"
    ]
    fits = fitted("number message", leave=["topic", "same"])  # no pair of a number and a text that another task reads
    assert lines(fits) == ["warning: in.csv: left out: same (no column 'question', 'other')."]


def test_where_two_tasks_read_two_texts_a_third_answers_only_about_a_column_that_is_named():
    both = fitted("message review")
    assert (read(both), lines(both)[0][:38]) == (
        {"topic": "message", "mood": "review"},
        "warning: in.csv: left out: same (no co",
    )
    fits = fitted("message review", leave=["topic", "mood", "third"])
    assert read(fits) == {"topic": "message", "mood": "review"}
    assert lines(fits) == [
        "warning: in.csv: left out: third (no column 'body'). To name columns: --set tasks.third.columns.text=message"
    ]


def test_a_named_task_reads_what_it_would_read_among_all_and_only_its_column_is_told():
    fits = fitted("message", ["mood"])
    assert read(fits) == {"mood": "message"}
    assert lines(fits) == [
        "in.csv: 'message' is the only text, so these tasks read it: mood (no column 'review'). To name "
        "another column: --set tasks.mood.columns.text=COLUMN"
    ]
    assert lines(fitted("message", ["topic"])) == []


@pytest.mark.parametrize(
    ("found", "named", "said"),
    [
        ("a b", ["mood"], "in.csv: there is no column 'review', found 'a', 'b'. Task mood reads it. To name another "
         "column: --set tasks.mood.columns.text=a"),
        ("a reviews", ["mood"], "To name another column: --set tasks.mood.columns.text=reviews"),
        ("a b c", ["topic", "same"], "--set tasks.topic.columns.text=a"),
        ("a", ["same"], "in.csv: there is no column 'question', found 'a'. Task same reads it."),
        ("a b", [], "in.csv: no task can answer: topic (no column 'message'), mood (no column 'review'), same (no "
         "column 'question', 'other'), like (no column 'one', 'two'). To name columns: --set "
         "tasks.topic.columns.text=a --set tasks.mood.columns.text=a --set 'tasks.same.columns.text=[a, b]'"),
        ("id", [], "like (no column 'one', 'two'). Give a file that has texts."),
    ],
)  # fmt: skip
def test_a_file_without_the_text_of_a_task_is_refused_with_its_own_columns_in_the_option(
    found: str, named: Sequence[str], said: str
):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fitted(found, named)
    assert str(error.value).endswith(said)


def test_a_column_that_the_user_has_set_is_not_exchanged_for_another():
    with pytest.raises(ValueError, match=r"there is no column 'review', found 'message'\. Task mood reads it\."):
        fitted("message", ["mood"], fixed="mood")
    assert read(fitted("message", fixed="mood")) == {"topic": "message"}


def test_a_command_that_cannot_set_columns_does_not_advise_it():
    assert lines(fitted("question other note", leave=["topic", "same"], settable=False)) == [
        "warning: in.csv: left out: topic (no column 'message')."
    ]
    assert lines(fitted("message", ["mood"], settable=False)) == [
        "in.csv: 'message' is the only text, so these tasks read it: mood (no column 'review')."
    ]
    with pytest.raises(ValueError, match=r"Task mood reads it\. Rename the column in the file\.$"):
        fitted("a b", ["mood"], settable=False)


def test_a_name_that_yaml_or_a_shell_would_misread_is_quoted_in_the_option():
    with pytest.raises(ValueError, match=r"columns\.text='\"'\"'2024'\"'\"''$"):
        fitted("2024 8", ["mood"])
