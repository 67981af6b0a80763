"""Tab-separated fields: quotes as people write them and as programs write them."""

import random

import pytest

from mtbert.data import tabs


def rows(*lines: str) -> list[tuple[int, list[str]]]:
    return list(tabs.rows(["a\tb\n", *lines]))[1:]


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("x\ty\n", ["x", "y"]),
        ("x\t\r\n", ["x", ""]),
        ("\ty", ["", "y"]),
        ('"So" it is\ty\n', ['"So" it is', "y"]),
        ('He said "so"\t"y"\n', ['He said "so"', "y"]),
        ('5" screen\t6"\n', ['5" screen', '6"']),
        ('"not closed\ty\n', ['"not closed', "y"]),
        ('x\t"not closed\n', ["x", '"not closed']),
        ('"x" and "y"\t1\n', ['"x" and "y"', "1"]),
        ('"He said ""so"""\t1\n', ['He said "so"', "1"]),
        ('"tab\there"\t1\n', ["tab\there", "1"]),
        ('"tab\there"\n', ['"tab', 'here"']),  # read in this way, it has two fields
        ('""\t"""\n', ["", '"""']),
        ('"\t"\n', ['"', '"']),
    ],
)
def test_a_quote_encloses_a_field_only_where_it_begins_and_ends_it(line: str, fields: list[str]):
    assert rows(line) == [(2, fields)]


def test_a_quoted_field_may_go_over_several_lines():
    assert rows('"one\r\n', "\n", 'three"\t1\n', "x\ty\n") == [(2, ["one\r\n\nthree", "1"]), (5, ["x", "y"])]
    assert rows('x\t"one\n', 'he said ""so""\n', 'three"\n', "x\ty\n") == [
        (2, ["x", 'one\nhe said "so"\nthree']),
        (5, ["x", "y"]),
    ]


def test_a_quote_that_is_open_does_not_swallow_the_rows_that_follow():
    assert rows('"one\t1\n', '"two\t2\n', 'three"\t3\n') == [
        (2, ['"one', "1"]),
        (3, ['"two', "2"]),
        (4, ['three"', "3"]),
    ]
    assert rows('x\t"one\n', "\n", 'y\ttwo"\n') == [(2, ["x", '"one']), (3, []), (4, ["y", 'two"'])]
    assert rows('x\t"one\n', "two\n") == [(2, ["x", '"one']), (3, ["two"])]
    assert rows('"one\n', 'tw"o\t1\n') == [(2, ['"one']), (3, ['tw"o', "1"])]


def test_a_file_of_one_column_has_a_text_in_each_line():
    assert list(tabs.rows(["text\n", '"Hello", she said\n', '"open\n', 'close"\n'])) == [
        (1, ["text"]),
        (2, ['"Hello", she said']),
        (3, ['"open']),
        (4, ['close"']),
    ]


def test_a_carriage_return_outside_of_quotes_is_refused_with_its_line():
    for line in ("x\ry\t1\n", 'x\t"a" \r b\n'):
        with pytest.raises(tabs.BareReturn) as error:
            rows("x\ty\n", line)
        assert error.value.line == 3


@pytest.mark.parametrize("alphabet", ['ab" \n', 'ab" \t'])
def test_text_quoted_by_a_program_comes_back(alphabet: str):
    # A text with both tabs and line breaks could also be two rows that a person wrote, and it would be read as such.
    draw = random.Random(0)
    wanted = [["".join(draw.choices(alphabet, k=draw.randrange(9))) for _ in "ab"] for _ in range(2000)]
    lines: list[str] = []
    for row in wanted:
        quoted = ['"' + field.replace('"', '""') + '"' for field in row]
        lines += ("\t".join(quoted) + "\n").splitlines(keepends=True)
    assert [fields for _, fields in rows(*lines)] == wanted


def test_many_open_quotes_take_time_that_grows_with_their_number():
    lines = ['x\t"' + "y" * 50 + "\n"] * 100_000
    assert len(rows(*lines)) == 100_000
