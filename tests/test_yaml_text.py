"""The subset of YAML that recipes and studies may use: plain values of YAML 1.2; everything else is one line."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from recipe_files import refusal

from mtbert import yaml_text
from mtbert.recipe.files import load_recipe


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("2E4", 2e4),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("08", 8),
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("~", None),
        ("", None),
        ("-.inf", float("-inf")),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text, value):
    found = yaml_text.parse(f"a: {text}", "r")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "tasks:\n  a: 1\n  b: 2\n  a: 3\n",
            "recipe mine.yaml, line 4: not YAML: key 'a' occurs twice. Mend the line.",
        ),
        ("tasks:\n\ta: 1\n", "recipe mine.yaml, line 2: not YAML: found character '\\t'"),
        (
            "a: !!python/name:os.system {}\n",
            "recipe mine.yaml, line 1: not YAML: the tag '!!python/name:os.system' is not supported.",
        ),
        (
            "a: &x [*x]\n",
            "recipe mine.yaml, line 1: not YAML: the value of the anchor 'x' contains itself. Mend the line.",
        ),
        ("a: \x01\n", "recipe mine.yaml: not YAML: unacceptable character #x0001"),
        (b"# \xe9\n", "recipe mine.yaml: not UTF-8 at byte 2. Save the file as UTF-8."),
        ("- a\n", "recipe mine.yaml: a recipe is a mapping with the key 'tasks', found a list."),
        ("", "recipe mine.yaml: a recipe is a mapping with the key 'tasks', found nothing."),
        ("extends: [base]\n", "recipe mine.yaml, extends: a name or a path, found ['base']."),
    ],
)
def test_a_file_that_is_not_a_recipe_is_refused(tmp_path, content, said):
    assert refusal(tmp_path, content).startswith(said)


@pytest.mark.parametrize("text", ["a: !!timestamp abc", "a: !!bool zz", "tasks: !!map [a]", "a: &x [*x]"])
def test_a_strange_yaml_value_is_one_line(text: str, tmp_path: Path):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="not YAML") as error:
        load_recipe(str(path))
    assert "\n" not in str(error.value)


def test_aliases_of_aliases_end_at_once(tmp_path: Path):
    path = tmp_path / "bomb.yaml"
    path.write_text(
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    )
    with pytest.raises(ValueError, match="line 6: not YAML: more than 100,000 values"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("2", "'2'"),
        ("null", "'null'"),
        ("true", "'true'"),
        ("1.5", "'1.5'"),
        ("? [a]\n", "that is a list"),
        ("? {a: b}\n", "that is a dict"),
    ],
)
def test_a_key_that_is_not_text_is_named_with_its_line(key: str, shown: str):
    with pytest.raises(ValueError, match="not text") as error:
        yaml_text.parse(f"a: 1\n{key}: 1\n", "r")
    assert str(error.value) == (
        f"r, line 2: not YAML: the key {shown} is not text; quote what looks like a number. Mend the line."
    )


@pytest.mark.parametrize("tag", ["timestamp 2020-01-01", "binary aGk=", "set {a}", "omap [a: 1]", "merge x"])
def test_values_that_json_lacks_are_refused_even_as_keys(tag: str):
    for text in (f"a: !!{tag}", f"!!{tag}: 1", f"[!!{tag}]"):
        with pytest.raises(ValueError, match=rf"^r, line 1: not YAML: the tag '!!{tag.split()[0]}' is not supported"):
            yaml_text.parse(text, "r")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 51 + "]" * 51, "r, line 1: not YAML: more than 50 lists and mappings inside each other"),
        ("- x\n" * 100_000, "r, line 100000: not YAML: more than 100,000 values"),
        ("a: &x [1, 2]\nb: [" + "*x, " * 40_000 + "]", "r, line 2: not YAML: more than 100,000 values"),
        ("1" * 41, "r, line 1: not YAML: a number of 41 digits"),
        ('"a\\0"', r"r, line 1: not YAML: 'a\x00' contains something that is not a character"),
        ('"\\ud800"', r"r, line 1: not YAML: '\ud800' contains something that is not a character"),
        ("*x", "r, line 1: not YAML: there is no anchor 'x'"),
        ("a\n---\nb", "r, line 2: not YAML: a second document begins"),
        ("!!int x", "r, line 1: not YAML: 'x' is not a valid int"),
        ('"\\UFFFFFFFF"', "r: not YAML: "),
        ("%YAML 2.0\n--- a", "r, line 1: not YAML: found incompatible YAML document"),
        ("a: 'b", "r, line 1: not YAML: found unexpected end of stream"),
    ],
)
def test_text_that_could_break_a_reader_is_one_line(text: str, said: str):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}") as error:
        yaml_text.parse(text, "r")
    assert str(error.value).isprintable()


def test_depth_and_values_up_to_the_limits_are_read():
    deep = yaml_text.parse("[" * 50 + "]" * 50, "r")
    for _ in range(49):
        (deep,) = deep
    assert deep == []
    assert yaml_text.parse("- x\n" * 99_999, "r") == ["x"] * 99_999
    assert yaml_text.parse("- []\n" * 100, "r") == [[]] * 100  # side by side, not nested
    assert yaml_text.parse("9" * 40, "r") == 10**40 - 1


def test_an_anchor_stands_for_its_value_even_after_its_name_is_used_again():
    assert yaml_text.parse("a: &x 1\nb: *x\nc: &x [&y 2, *y]\nd: *x", "r") == {"a": 1, "b": 1, "c": [2, 2], "d": [2, 2]}


@pytest.mark.parametrize("value", ["é\U0001f600\x7f\u2028\x85", "\udcff", {"a": [None, True, 1.5, -3, "no", ""]}])
def test_json_and_a_dump_are_read_back(value: object):
    assert yaml_text.parse(json.dumps(value), "r") == value
    assert yaml_text.parse(yaml_text.dump(value), "r") == value


def test_keys_in_their_tens_of_thousands_are_read_in_time():
    begun = time.process_time()
    assert len(yaml_text.parse("".join(f"k{i}: x\n" for i in range(49_000)), "r")) == 49_000
    assert time.process_time() - begun < 20  # comparing every key with all earlier ones would take minutes


def test_a_file_over_a_mebibyte_is_not_read(tmp_path: Path):
    said = refusal(tmp_path, b"#" * (2**20 + 1))
    assert said == "recipe mine.yaml: has 1,048,577 bytes, but at most 1,048,576 are read. Name another file."


def test_a_pipe_and_a_folder_are_not_recipes(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, kind in (("pipe.yaml", "a pipe"), (".", "a folder")):
        with pytest.raises(ValueError, match=f": {kind}, not a file. Name another file.$"):
            load_recipe(str(tmp_path / name))
