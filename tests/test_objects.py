"""Tables in JSON: an object on each line, or an array of objects."""

import json
from pathlib import Path

import pytest
from reading import ONE, message, refusal, write

from mtbert.data.sources import read
from mtbert.data.tables import Columns, Row


def test_jsonl_values_of_any_kind_become_labels(tmp_path: Path):
    lines = [
        '{"text": " a "}',
        '{"text": " a ", "label": 1}',
        '{"text": "b", "label": 1.0, "more": []}',
        "",
        '{"text": "c", "label": true}',
        '{"text": "d", "label": NaN}',
        '{"text": null, "label": "x"}',
        '{"text": "f", "label": "2.50"}',
    ]
    found = read(write(tmp_path, "a.jsonl", "\r\n".join(lines) + "\n"), ONE, tmp_path, texts=1)
    assert found.rows == [
        Row(2, "2", ("a",), "1"),
        Row(3, "3", ("b",), "1"),
        Row(5, "4", ("c",), "true"),
        Row(8, "7", ("f",), "2.50"),
    ]
    assert found.warnings == (
        "a.jsonl: dropped 2 rows without a label in column 'label' (first: line 1).",
        "a.jsonl: dropped 1 row with an empty text (first: line 7).",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a", "label": 1}\n{"text": "b", \n', "a.jsonl, line 2: not JSON ("),
        ("[" * 100_000, "a.jsonl, line 1: not JSON ("),
        ('\n["a", 1]\n', "a.jsonl, line 2: must be a JSON object, found ['a', 1]"),
        (
            '{"text": "a", "label": 1}\n{"text": 5, "label": 1}\n',
            "line 2, column 'text': the text must be a string, found 5",
        ),
        ('{"text": "a", "label": [1]}\n', "line 1, column 'label': the label must be one value, found [1]"),
        ('{"text": "a\\ud83d", "label": 1}\n', "line 1, column 'text': the text holds half a surrogate pair"),
        ('{"txt": "a", "label": 1}\n', "a.jsonl: there is no column 'text', found 'txt', 'label'. Did you mean 'txt'?"),
    ],
)
def test_a_broken_jsonl_is_one_line_that_names_the_place(tmp_path: Path, content: str, said: str):
    assert said in refusal(tmp_path, "a.jsonl", content)


def test_an_array_of_objects_is_read_and_its_items_are_counted(tmp_path: Path):
    values = [{"text": " a\n]", "label": 1}, {"label": "x"}, {"text": "c", "label": 2.0, "more": {"a": [1]}}]
    for content in (json.dumps(values), "\ufeff\r\n " + json.dumps(values, indent=2) + "\n"):
        found = read(write(tmp_path, "a.json", content), ONE, tmp_path, texts=1)
        assert found.rows == [Row(1, "1", ("a\n]",), "1"), Row(3, "3", ("c",), "2")]
        assert found.warnings == ("a.json: dropped 1 row with an empty text (first: item 2).",)


def test_an_array_of_many_parts_is_read_whole(tmp_path: Path):
    values = [{"text": f"{'é' * (i % 2000)}{i}", "label": i} for i in range(4000)]  # some megabytes
    found = read(write(tmp_path, "a.json", json.dumps(values, ensure_ascii=False)), ONE, tmp_path, texts=1)
    assert [(row.line, row.texts[0], row.label) for row in found.rows] == [
        (i + 1, values[i]["text"], str(i)) for i in range(4000)
    ]


def test_json_may_also_hold_one_object_per_line(tmp_path: Path):
    found = read(write(tmp_path, "a.json", '\n{"text": "a", "label": 1}\n'), ONE, tmp_path, texts=1)
    assert found.rows == [Row(2, "1", ("a",), "1")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "a.json: the file is empty. Give a list of objects, or one object per line."),
        ("[ ]", "a.json: the file is empty."),
        ('[{"text": "a", "label": 1},\n 5]', "a.json, item 2: must be a JSON object, found 5."),
        (
            '[{"text": "a", "label": 1},\n {"text": ',
            "a.json, line 2: not JSON (Expecting value). Give a list of objects",
        ),
        ('[{"text": "a", "label": 1},\n]', "a.json, line 2: not JSON (Expecting value)"),
        ('[{"text": "a", "label": 1}\n{"text": "b"}]', "a.json, line 2: not JSON (Expecting ',' or ']')"),
        ('[{"text": "a", "label": 1}', "a.json, line 1: not JSON (Expecting ',' or ']')"),
        ('[{"text": "a", "label": 1}]\n[]', "a.json, line 2: not JSON (more after the end of the list)"),
        ("[" * 100_000, "a.json, line 1: not JSON ("),
        ('{\n "text": "a"}', "a.json, line 1: not JSON ("),
        ('[{"text": "a", "label": %s}]' % ("9" * 5000), "a.json, line 1: not JSON (Exceeds the limit"),
        ('[{"text": 3, "label": 1}]', "a.json, item 1, column 'text': the text must be a string, found 3."),
        ('[{"text": "a", "label": "\\ud83d"}]', "item 1, column 'label': the label holds half a surrogate pair."),
    ],
)
def test_a_broken_array_is_one_line_that_names_the_place(tmp_path: Path, content: str, said: str):
    assert said in refusal(tmp_path, "a.json", content)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ('{"text": 5, "label": 1}', "{", "a.jsonl, line 2: not JSON"),
        ('{"text": 5, "lable": 1}', '{"text": "a"}', "a.jsonl: there is no column 'label', found 'text', 'lable'."),
        ('{"text": 5, "label": 1}', '{"text": 6}', "a.jsonl, line 1, column 'text': the text must be a string"),
    ],
)
def test_a_mistake_of_the_file_comes_before_one_in_a_cell(tmp_path: Path, first: str, second: str, said: str):
    source = write(tmp_path, "a.jsonl", f"{first}\n{second}\n")
    assert message(ValueError, read, source, ONE, tmp_path, texts=1).startswith(said)


def test_an_id_that_only_a_later_object_has_is_missing_before(tmp_path: Path):
    columns = Columns(text="text", id="id")
    source = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b"}\n')
    assert list(read(source, columns, tmp_path, texts=1, labelled=False).ids) == ["1", "2"]
    source = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b", "id": "x"}\n{"text": 3}\n')
    said = message(ValueError, read, source, columns, tmp_path, texts=1, labelled=False)
    assert said.startswith("a.jsonl, line 1, column 'id': the id is empty.")
