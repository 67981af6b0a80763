"""``mtbert init``: what it guesses for columns of many shapes."""

from pathlib import Path

import pytest
import toy_files
from toy_files import TEXTS, csv, guessed, jsonl, only_task, recipe

here = toy_files.here
pytestmark = pytest.mark.usefixtures("here")

WORDS = [["Anna", "lives", "here"], ["old", "Bob", "sleeps"], ["we", "saw", "her"], ["it", "rains"]]
TAGS = [["B-PER", "O", "O"], ["O", "B-PER", "O"], ["O", "O", "O"], ["O", "O"]]


def told(name: str) -> tuple[str, str]:
    """Returns the guessed type of the only task of a file, and the reason for it."""
    ((table),) = guessed(name)
    (task,) = table.tasks
    return task.type, task.suits.because


@pytest.mark.parametrize(
    ("name", "cells", "type_", "because"),
    [
        ("stars", [1, 2, 3, 4, 5, 5], "ordinal", "5 whole numbers, 1 to 5"),
        ("stars", ["1.0", "2.0", "3.0"], "ordinal", "3 whole numbers, 1 to 3"),
        ("score", [1, 1.5, 2, 4.5], "regression", "4 numbers, 1 to 4.5"),
        ("price", [10, 200, 35, 47, 900, 1200], "regression", "6 whole numbers, 10 to 1200"),
        ("topic", ["art", "money", "sport"], "classification", "3 values, 'art', 'money' and 'sport'"),
        ("spam", [0, 1], "binary", "2 values, '0' and '1'"),
        ("tags", ["a;b", "a", "b", "c;a"], "multilabel", "3 different labels, with ';' between them, as in 'a;b'"),
        ("tags", ["a|b", "a", "b"], "multilabel", "2 different labels, with '|' between them, as in 'a|b'"),
        ("tags", ['"[""a"", ""b""]"', '"[""c""]"'], "multilabel", "lists of 3 different labels, 'a', 'b' and 1 more"),
    ],
)
def test_the_type_follows_from_the_cells(name: str, cells: list[object], type_: str, because: str):
    kind, why = told(csv("toy.csv", f"text,{name}", TEXTS, cells))
    assert (kind, why.replace("'a', 'b', 'c'", "'a', 'b' and 1 more")) == (type_, because)


def test_whole_numbers_from_0_in_a_column_named_label_are_codes_of_classes():
    kind, why = told(csv("toy.csv", "text,label", TEXTS, [0, 1, 2]))
    assert kind == "classification"
    assert why == '3 whole numbers, 0 to 2, as codes begin (name them: labels: {"0": NAME, "1": NAME, ...})'
    assert told(csv("toy.csv", "text,label", TEXTS, [1, 2, 3]))[0] == "ordinal"


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["yes", "no"], ["no", "yes"]),
        (["JA", "nein"], ["nein", "JA"]),
        (["True", "False"], ["False", "True"]),
        ([1, 0], ["0", "1"]),
        (["ham", "spam"], ["ham", "spam"]),
        (["match", "No match"], ["No match", "match"]),
        (["fair", "unfair"], ["unfair", "fair"]),
    ],
)
def test_the_yes_of_two_values_is_the_second_label(cells: list[object], labels: list[str]):
    assert only_task(csv("toy.csv", "text,same", TEXTS, cells))["labels"] == labels


def test_many_different_values_are_no_classes():
    values = [f"v{i % 300}" for i in range(900)]
    csv("toy.csv", "text,label", [f"the cat number {i} sleeps" for i in range(900)], values)
    with pytest.raises(ValueError, match=r"toy.csv: must have a column of labels, found 'text': texts; 'label': 300 "):
        guessed("toy.csv")
    csv("toy.csv", "text,label", TEXTS, [f"v{i}" for i in range(7)])  # fewer than two rows of each
    with pytest.raises(ValueError, match=r"'label': 7 different values in 12 rows, so no classes. Add one."):
        guessed("toy.csv")


def test_sentences_with_commas_are_texts_and_no_sets_of_labels():
    csv("toy.csv", "a;b;mood", [f"so, {text}, or not" for text in TEXTS], TEXTS, ["good", "bad"], sign=";")
    assert only_task("toy.csv")["columns"] == {"text": ["a", "b"], "label": "mood"}


@pytest.mark.parametrize(
    ("header", "ids"),
    [
        ("doc", [f"{i}" for i in range(12)]),
        ("doc", [f"{7919 * i % 104729}" for i in range(24)]),
        ("id", [f"{7919 * i % 104729}" for i in range(12)]),
        ("key", [f"row-{i}" for i in range(12)]),
        ("userId", ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st", "uv", "wx"]),
    ],
)
def test_a_column_that_differs_in_every_row_is_the_id(header: str, ids: list[str]):
    texts = TEXTS if len(ids) == 12 else [*TEXTS, *(f"so {text}" for text in TEXTS)]
    task = only_task(csv("toy.csv", f"{header},text,mood", ids, texts, ["good", "bad"]))
    assert task["columns"] == {"text": "text", "label": "mood", "id": header}


@pytest.mark.parametrize(
    ("header", "cells", "why"),
    [
        ("when", ["2024-01-02", "2024-11-30"], "dates or times"),
        ("wann", ["2.1.2024", "30.11.2024"], "dates or times"),
        ("year", ["1999", "2004", "2010"], "dates or times"),
        ("page", ["https://a.example/1", "https://a.example/2"], "links"),
        ("nothing", [""], "empty"),
        ("lang", ["en"], "the same value in every row, 'en'"),
        ("user_id", ["7", "8", "9"], "ids that repeat"),
        ("note", ["3,5", "4,0", "1,5"], "numbers with a decimal comma; write 3.5, not 3,5"),
        ("", [f"{i}" for i in range(12)], None),  # the number of the row, which pandas adds
    ],
)
def test_a_column_without_use_is_named_with_the_reason(header: str, cells: list[str], why: str | None):
    (table,) = guessed(csv("toy.csv", f"{header};text;mood", cells, TEXTS, ["good", "bad"], sign=";"))
    assert [(column.name, reason) for column, reason in table.unused] == ([(header, why)] if why else [])
    assert [task.name for task in table.tasks] == ["mood"]
    assert table.id is None


def test_a_column_named_label_leaves_others_as_remarks():
    (table,) = guessed(
        csv("toy.csv", "text,label,country,upvotes", TEXTS, ["a", "b"], ["de", "fr", "it"], [1, 90, 400])
    )
    assert [task.type for task in table.tasks] == ["binary"]
    assert [(column.name, why) for column, why in table.unused] == [
        ("country", "or a task of type classification"),
        ("upvotes", "or a task of type regression"),
    ]


def test_many_whole_numbers_are_scores_only_if_there_are_no_other_labels():
    numbers = [1, 90, 400, 7, 55, 120]
    (table,) = guessed(csv("toy.csv", "text,mood,upvotes", TEXTS, ["a", "b"], numbers))
    assert [task.name for task in table.tasks] == ["mood"]
    assert [column.name for column, _ in table.unused] == ["upvotes"]
    assert only_task(csv("toy.csv", "text,upvotes", TEXTS, numbers))["type"] == "regression"


def test_two_columns_of_texts_are_a_pair_in_the_order_of_the_file():
    task = only_task(csv("toy.csv", "frage,antwort,gut", TEXTS, [f"because {t} today" for t in TEXTS], ["ja", "nein"]))
    assert (task["inputs"], task["columns"]) == ("packed", {"text": ["frage", "antwort"], "label": "gut"})


def test_a_column_of_texts_with_gaps_is_no_half_of_a_pair():
    task = only_task(csv("toy.csv", "title,review,spam", ["one of them", "", "", "and another", "", ""], TEXTS, [0, 1]))
    assert (task["inputs"], task["columns"]) == ("single", {"text": "review", "label": "spam"})


def test_of_three_columns_of_texts_those_with_numbered_names_are_a_pair():
    why = [f"we think that {text} in the end" for text in TEXTS]
    task = only_task(csv("toy.csv", "why,question1,question2,same", why, TEXTS, TEXTS[::-1], [0, 1]))
    assert task["columns"] == {"text": ["question1", "question2"], "label": "same"}
    task = only_task(csv("toy.csv", "a_text,body,summary,same", TEXTS, why, TEXTS[::-1], [0, 1]))
    assert (task["inputs"], task["columns"]) == ("single", {"text": "body", "label": "same"})


def test_several_columns_of_labels_are_tasks_of_a_table_also_if_most_labels_are_missing():
    made = recipe(csv("toy.csv", "text,topic,spam", TEXTS, ["a", "", "b", "", "c", ""], [*[0, 1] * 2, *[""] * 8]))
    assert made["tables"] == {"toy": {"train": "toy.csv", "columns": {"text": "text"}, "batch_size": 16}}
    assert made["tasks"]["spam"] == {
        "type": "binary", "inputs": "single", "table": "toy", "label": "spam", "labels": ["0", "1"]
    }  # fmt: skip
    assert made["tasks"]["topic"]["type"] == "classification"  # type: ignore[index]


def test_three_columns_of_0_and_1_are_one_task_of_sets_and_two_are_two_tasks():
    three = csv("toy.csv", "text,rude,threat,spam", TEXTS, [0, 1], [1, 0, 0], [0, 0, 1, 1])
    assert only_task(three)["columns"] == {"text": "text", "label": ["rude", "threat", "spam"]}
    two = recipe(csv("toy.csv", "text,rude,threat", TEXTS, [0, 1], [1, 0, 0]))
    assert {name: task["type"] for name, task in two["tasks"].items()} == {"rude": "binary", "threat": "binary"}  # type: ignore[index]


def test_lists_are_sets_of_labels_and_votes_if_one_names_a_label_twice():
    rows = [{"text": text, "tags": tags} for text, tags in zip(TEXTS, [["a", "b"], [], ["c"]] * 4, strict=True)]
    assert only_task(jsonl("toy.jsonl", *rows))["type"] == "multilabel"
    rows = [{"text": text, "votes": ["a", "a", "b"]} for text in TEXTS]
    task = only_task(jsonl("toy.jsonl", *rows))
    assert (task["type"], task["columns"]) == ("classification", {"text": "text", "votes": "votes"})


def test_tags_are_known_by_their_number_and_a_class_beside_them_is_a_task_of_the_same_table():
    rows = [{"words": w, "tags": t, "kind": "ab"[i % 2]} for i, (w, t) in enumerate(zip(WORDS, TAGS, strict=True))]
    made = recipe(jsonl("toy.jsonl", *rows))
    assert made["tables"]["toy"]["columns"] == {"text": "words"}  # type: ignore[index]
    assert made["tasks"]["tags"] == {"type": "tokens", "inputs": "single", "table": "toy", "label": "tags"}
    assert made["tasks"]["kind"]["type"] == "binary"  # type: ignore[index]


def test_tags_in_a_conll_file_in_cells_and_as_places_are_labels_of_words():
    sentences = ["\n".join(f"{w} {t}" for w, t in zip(*each, strict=True)) for each in zip(WORDS, TAGS, strict=True)]
    Path("toy.conll").write_text("\n\n".join(sentences) + "\n")
    assert only_task("toy.conll")["type"] == "tokens"
    columns = [" ".join(words) for words in WORDS], [" ".join(tags) for tags in TAGS]
    assert only_task(csv("toy.csv", "text,tags", *columns))["columns"] == {"text": "text", "label": "tags"}
    place = {"start": 0, "end": 4, "label": "PER"}
    rows = [{"text": f"Anna {text}.", "label": [place]} for text in TEXTS]
    assert told(jsonl("toy.jsonl", *rows)) == ("tokens", "places in texts")


def test_a_query_with_a_right_and_wrong_texts_is_a_ranking():
    task = only_task(csv("toy.csv", "query,pos,neg_1,neg_2", TEXTS, TEXTS[1:], TEXTS[2:], TEXTS[3:]))
    assert task["columns"] == {"text": ["query", "pos", "neg_1", "neg_2"]}
    assert (task["type"], task["inputs"], task["head"], task["no_duplicates"]) == (
        "ranking",
        "separate",
        "cosine",
        True,
    )


def test_a_type_without_a_word_about_columns_is_never_guessed():
    from mtbert.answers.label_kind import LabelKind

    assert LabelKind.suits(None, [], []) is None  # type: ignore[arg-type]
