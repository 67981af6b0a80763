"""The YAML that our files may have: plain values of YAML 1.2, and a line for everything else."""

from pathlib import Path

import pytest
from recipe_files import refusal

from mtbert import yaml_text
from mtbert.recipe import load


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
            "recipe mine.yaml, line 4: not YAML: key 'a' stands twice. Mend the line.",
        ),
        ("tasks:\n\ta: 1\n", "recipe mine.yaml, line 2: not YAML: found character '\\t'"),
        (
            "a: !!python/name:os.system {}\n",
            "recipe mine.yaml, line 1: not YAML: the tag '!!python/name:os.system' means nothing here.",
        ),
        ("a: &x [*x]\n", "recipe mine.yaml, line 1: not YAML: what 'x' stands for holds itself. Mend the line."),
        ("a: \x01\n", "recipe mine.yaml: not YAML: unacceptable character #x0001"),
        (b"# \xe9\n", "recipe mine.yaml: not UTF-8 at byte 2. Save the file as UTF-8."),
        ("- a\n", "recipe mine.yaml: a recipe is a mapping with the key 'tasks', found a list."),
        ("", "recipe mine.yaml: a recipe is a mapping with the key 'tasks', found nothing."),
        ("extends: [base]\n", "recipe mine.yaml, extends: a name or a path, found ['base']."),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content, said):
    assert refusal(tmp_path, content).startswith(said)


@pytest.mark.parametrize("text", ["a: !!timestamp abc", "a: !!bool zz", "tasks: !!map [a]", "a: &x [*x]"])
def test_a_strange_yaml_value_is_one_line(text: str, tmp_path: Path):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="not YAML") as error:
        load(str(path))
    assert "\n" not in str(error.value)


def test_aliases_of_aliases_end_at_once(tmp_path: Path):
    path = tmp_path / "bomb.yaml"
    path.write_text(
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    )
    with pytest.raises(ValueError, match="line 6: not YAML: more than 100,000 values"):
        load(str(path))
