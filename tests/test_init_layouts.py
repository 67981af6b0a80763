"""``mtbert init`` on the layouts of well-known public data sets: the recipe is one that a practitioner would write."""

import pytest
import toy_files
from toy_files import TEXTS, csv, guessed, jsonl, only_task, recipe

here = toy_files.here
pytestmark = pytest.mark.usefixtures("here")

ROWS = 60
FIRST = [f"{TEXTS[i % 12]} {i}" for i in range(ROWS)]
SECOND = [f"we think that {TEXTS[i % 12]} by {i}" for i in range(ROWS)]
IDS = [f"r{i}" for i in range(ROWS)]
NUMBERS = list(range(ROWS))
SHUFFLED = [7919 * i % 104729 for i in NUMBERS]

ONE_TASK = {
    "sst2": ("idx,sentence,label", [NUMBERS, FIRST, [0, 1]], "binary", "sentence", "label"),
    "trec": ("question,question_type", [FIRST, ["HUM", "LOC", "NUM"]], "classification", "question", "question_type"),
    "mnli": (
        "pairID,premise,premise_parse,hypothesis,genre,label",
        [IDS, FIRST, SECOND, SECOND, ["fiction", "slate"], [0, 1, 2]],
        "classification",
        ["premise", "hypothesis"],
        "label",
    ),
    "qqp": (
        "id,qid1,qid2,question1,question2,is_duplicate",
        [NUMBERS, NUMBERS, NUMBERS, FIRST, SECOND, [0, 1]],
        "binary",
        ["question1", "question2"],
        "is_duplicate",
    ),
    "stsb": (
        "genre,filename,year,score,sentence1,sentence2",
        [["news", "forums"], ["MSRvid", "images"], ["2012test", "2014"], [0.5, 2.75, 5, 3.2], FIRST, SECOND],
        "regression",
        ["sentence1", "sentence2"],
        "score",
    ),
    "boolq": (
        "question,title,answer,passage",
        [FIRST, [f"Old film {i}" for i in range(ROWS)], ["True", "False", "False"], SECOND],
        "binary",
        ["question", "passage"],
        "answer",
    ),
    "agnews": (
        "Class Index,Title,Description",
        [[1, 2, 3, 4], FIRST, SECOND],
        "classification",
        ["Title", "Description"],
        "Class Index",
    ),
    "emoji": ("text,label", [FIRST, list(range(20))], "classification", "text", "label"),
    "emotion": (
        "text,label,label_text",
        [FIRST, [0, 1, 2], ["joy", "rage", "fear"]],
        "classification",
        "text",
        "label",
    ),
    "sentiment": ("tweet,tweet_sentiment", [FIRST, ["pos", "neg", "so"]], "classification", "tweet", "tweet_sentiment"),
    "amazon": (
        "product_id,stars,review_body,language,timestamp",
        [IDS, [1, 2, 3, 4, 5], FIRST, ["de", "en"], SHUFFLED],
        "ordinal",
        "review_body",
        "stars",
    ),
    "esci": (
        "query,product_title,esci_label",
        [[f"shoe{i % 30}" for i in range(ROWS)], FIRST, ["E", "S", "C"]],
        "classification",
        ["query", "product_title"],
        "esci_label",
    ),
    "mail": (
        "text,document_type,lang",
        [FIRST, ["a short note", "the annual report"], ["de", "en", "fr"]],
        "binary",
        "text",
        "document_type",
    ),
}


@pytest.mark.parametrize("name", ONE_TASK)
def test_the_recipe_for_a_known_layout_has_these_texts_and_this_label(name: str):
    header, cells, type_, text, label = ONE_TASK[name]
    task = only_task(csv(f"{name}.csv", header, *cells))
    assert task["type"] == type_
    columns = task["columns"]
    assert isinstance(columns, dict)
    assert (columns["text"], columns["label"]) == (text, label)


def test_labels_in_other_words_are_named_as_such():
    (table,) = guessed(csv("toy.csv", *ONE_TASK["emotion"][:1], *ONE_TASK["emotion"][1]))
    assert [(column.name, why) for column, why in table.unused] == [("label_text", "label in other words")]
    (table,) = guessed(csv("toy.csv", "text,mood,label", FIRST, ["joy", "rage", "fear"], [0, 1, 2]))
    assert [(column.name, why) for column, why in table.unused] == [("mood", "label in other words")]
    header = "text,kind,topic_name,topic"  # kind and topic_name go together in these rows by chance
    made = recipe(csv("toy.csv", header, FIRST, ["x", "y", "z"], ["art", "film", "law"], ["A", "F", "L"]))
    assert list(made["tasks"]) == ["kind", "topic_name"]


def test_columns_of_tags_are_a_task_each_and_no_sets():
    rows = [
        {"tokens": ["Anna", "saw", "Bob"], "pos_tags": [3, 1, 3], "chunk_tags": [4, 5, 4], "ner_tags": [1, 0, 2]},
        {"tokens": ["it", "rains"], "pos_tags": [2, 1], "chunk_tags": [4, 5], "ner_tags": [0, 0]},
    ]
    made = recipe(jsonl("conll.jsonl", *rows))
    assert {name: task["type"] for name, task in made["tasks"].items()} == {  # type: ignore[index]
        "pos_tags": "tokens",
        "chunk_tags": "tokens",
        "ner_tags": "tokens",
    }


def test_the_votes_beside_a_gold_label_are_no_task():
    votes = [["a", "a", "b"], ["b", "b", "c"], ["c", "c", "a"]]
    rows = [
        {"gold_label": "abc"[i % 3], "sentence1": FIRST[i], "sentence2": SECOND[i], "votes": votes[i % 3]}
        for i in range(ROWS)
    ]
    assert only_task(jsonl("snli.jsonl", *rows))["columns"] == {
        "text": ["sentence1", "sentence2"],
        "label": "gold_label",
    }


def test_numbers_of_fine_and_coarse_classes_are_classes():
    made = recipe(csv("trec.csv", "text,coarse_label,fine_label", FIRST, [0, 1, 2, 3], list(range(15))))
    assert [task["type"] for task in made["tasks"].values()] == ["classification", "classification"]  # type: ignore[index]


def test_marks_for_several_qualities_are_a_task_each():
    marks = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 2, 4, 1, 3]]
    made = recipe(csv("marks.csv", "prompt,response,helpfulness,coherence,verbosity", FIRST, SECOND, *marks))
    assert made["tables"]["marks"]["columns"] == {"text": ["prompt", "response"]}  # type: ignore[index]
    assert [task["type"] for task in made["tasks"].values()] == ["ordinal"] * 3  # type: ignore[index]


def test_names_of_authors_and_of_forums_are_neither_half_of_a_pair_nor_a_task():
    authors = [f"fan-{'abcdef'[i // 10]}-{'abcdefghij'[i % 10]}" for i in range(ROWS)]
    columns = [FIRST, IDS, authors, ["nba", "funny"], [0, 1, 0], [1, 0, 0, 1], [0, 0, 1, 1, 0]]
    task = only_task(csv("emotions.csv", "text,id,author,subreddit,anger,joy,fear", *columns))
    assert task["columns"] == {"text": "text", "label": ["anger", "joy", "fear"], "id": "id"}


# Names that look like ids, dates and texts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cells", "type_"),
    [
        ("category_id", [11, 14, 19, 25], "classification"),
        ("label_id", [0, 1, 2, 3], "classification"),
        ("topicId", [11, 14, 19, 25], "classification"),
        ("label", SHUFFLED, "regression"),
        ("price", SHUFFLED, "regression"),  # as ids differ, but there is no other label
        ("label", [1990, 1991, 1992, 1993, 1994], "ordinal"),
        ("year", [1990, 1991, 1992, 1993, 1994], "ordinal"),
        ("text_label", ["a", "b"], "binary"),
        ("answer", ["A", "B", "C"], "classification"),
    ],
)
def test_a_column_is_the_label_although_its_name_or_numbers_look_otherwise(name: str, cells: list[object], type_: str):
    task = only_task(csv("toy.csv", f"text,{name}", FIRST, cells))
    assert (task["type"], task.get("label", task["columns"]["label"])) == (type_, name)  # type: ignore[index]
    assert task["columns"]["text"] == "text"  # type: ignore[index]
    assert "id" not in task["columns"]  # type: ignore[operator]


def test_rows_that_are_counted_or_have_ids_are_not_labelled_by_them():
    for name, cells in (("doc", NUMBERS), ("doc_id", SHUFFLED), ("user_id", [7, 8, 9])):
        with pytest.raises(ValueError, match="must have a column of labels"):
            guessed(csv("toy.csv", f"text,{name}", FIRST, cells))


@pytest.mark.parametrize(("cells", "type_"), [(SHUFFLED, "regression"), ([1990, 1991, 1992, 1993, 1994], "ordinal")])
def test_a_column_named_label_wins_over_others_even_if_its_numbers_look_like_ids_or_years(
    cells: list[object], type_: str
):
    task = only_task(csv("toy.csv", "text,label,mood", FIRST, cells, [1, 2, 3]))
    assert (task["type"], task["columns"]) == (type_, {"text": "text", "label": "label"})


def test_times_are_no_ids():
    (table,) = guessed(csv("toy.csv", "text,mood,timestamp", FIRST, ["good", "bad"], SHUFFLED))
    assert (table.id, [column.name for column, _ in table.unused]) == (None, ["timestamp"])


def test_very_long_values_are_no_classes():
    with pytest.raises(ValueError, match="must have a column of labels"):
        guessed(csv("toy.csv", "text,kind", FIRST, ["a" * 81, "b" * 81]))
    assert only_task(csv("toy.csv", "text,kind", FIRST, ["a" * 80, "b" * 80]))["type"] == "binary"


# Labels that are few, or in dev alone -----------------------------------------------------------------------------


def test_a_column_with_few_labels_is_doubtful_if_dev_must_be_split_off():
    rare = [*["x", "y"] * 4, *[""] * (ROWS - 8)]
    name = csv("toy.csv", "text,mood,rare", FIRST, [1, 2, 3], rare)
    (table,) = guessed(name)
    assert [task.name for task in table.tasks] == ["mood"]
    assert [(column.name, why) for column, why in table.unused] == [("rare", "or a task of type binary")]
    csv("toy-dev.csv", "text,mood,rare", SECOND, [1, 2, 3], ["x", "y"])
    assert list(recipe(name, "toy-dev.csv")["tasks"]) == ["mood", "rare"]
    assert list(recipe(csv("alone.csv", "text,rare", FIRST, rare))["tasks"]) == ["rare"]


@pytest.mark.parametrize(
    ("train", "dev", "type_", "because"),
    [
        (["a", "b"], ["a", "b", "c"], "classification", "3 values, 'a', 'b' and 'c'"),
        ([1, 2, 3], [1.5, 2, 3], "regression", "4 numbers, 1 to 3"),
        (["a", "b"], ["b", "a"], "binary", "2 values, 'a' and 'b'"),
    ],
)
def test_the_type_suits_the_labels_of_dev_too_but_not_those_of_test(
    train: list[object], dev: list[object], type_: str, because: str
):
    csv("toy.csv", "text,kind,id", FIRST, train, NUMBERS)
    csv("toy-dev.csv", "text,kind,id", SECOND, dev, NUMBERS)
    csv("toy-test.csv", "text,kind,id", SECOND, ["x", "y"], NUMBERS)
    (table,) = guessed("toy.csv", "toy-dev.csv", "toy-test.csv")
    (task,) = table.tasks
    assert (task.type, task.because) == (type_, because)
    assert table.id is not None  # although the ids of dev are those of train again
