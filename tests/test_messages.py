import io

import pytest
from rich.console import Console

from mtbert import messages


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "'plain'"),
        ("größe 中文 👩\u200d🚀", "'größe 中文 👩\u200d🚀'"),
        ("\x1b[2J\x07a\nb\r", r"'\x1b[2J\x07a\nb\r'"),
        ("\u202eabc", r"'\u202eabc'"),
        ("\ud83d", r"'\ud83d'"),
        (b"\xff\x00", r"b'\xff\x00'"),
        (3.5, "3.5"),
        (["a\n"], r"['a\n']"),
    ],
)
def test_a_foreign_value_is_shown_on_one_line(value: object, expected: str):
    assert messages.shown(value) == expected


def test_a_huge_value_is_cut():
    assert messages.shown("x" * 10_000_000) == "'" + "x" * 77 + "...'"
    assert messages.shown(b"\0" * 10_000_000).endswith("...")
    assert len(messages.shown("\x1b" * 10_000_000)) <= 82
    assert not messages.shown("a" * 76 + "\x1b" * 9).endswith("\\...'")


def test_a_value_that_cannot_be_written_is_shown_by_its_type():
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("two\nlines")

    assert messages.shown(10**5000) == "<int>"
    assert messages.shown([10**5000]) == "<list>"
    assert messages.shown(Broken()) == "<Broken>"


def test_a_message_of_several_lines_keeps_them_and_nothing_else_that_moves_the_cursor():
    assert messages.clean("a\nb\rmtbert: all is well\x1b[A", lines=True) == "a\nb\\rmtbert: all is well\\x1b[A"
    assert messages.clean("a\nb") == r"a\nb"


def test_a_name_that_only_looks_the_same_is_shown_to_differ():
    assert messages.near("text", ["text\x07", "other"]) == r" Did you mean 'text\x07'?"
    assert messages.near("text", ["zzz"], "Known: zzz.") == " Known: zzz."
    assert messages.near("text", ["text"]) == ""


def test_of_equally_similar_names_the_one_with_the_same_letters_is_meant():
    assert messages.near("lable", ["table", "label", "labels"]) == " Did you mean 'label'?"
    assert messages.near("lable", ["table", "labels"]) == " Did you mean 'table'?"


def test_a_long_list_is_cut_and_the_rest_counted():
    assert messages.few([], 3) == "none"
    assert messages.few([1, 2, 3], 3) == "1, 2, 3"
    assert messages.few(["a\n", "b", "c", "d"], 2, quoted=True) == r"'a\n', 'b' and 2 more"


def test_a_reason_is_one_line_and_never_empty():
    assert messages.reason(ValueError("\n  first.\nsecond")) == "first"
    assert messages.reason(RecursionError()) == "RecursionError"


def test_a_warning_cannot_forge_another_line():
    file = io.StringIO()
    messages.warn(Console(file=file, width=40), "label '[b]x\nwarning: all is well\r'" + "y" * 10_000)
    assert file.getvalue().startswith(r"warning: label '[b]x\nwarning: all is well\r'yyy")
    assert len(file.getvalue().splitlines()) == 1
    assert len(file.getvalue()) < 2100
