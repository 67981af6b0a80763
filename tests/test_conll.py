"""CoNLL files: words and tags by line, texts apart by blank lines, and lines that do not fit."""

import gzip
import re
from pathlib import Path

import pytest

from mtbert.data.formats import opened


def records(folder: Path, content: str, *wanted: str, name: str = "a.conll") -> list[tuple[int, list[object]]]:
    (folder / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    with opened(name, folder / name, wanted) as found:
        return [(line, list(values)) for line, values in found.rows]


def test_a_text_is_the_lines_up_to_a_blank_one(tmp_path: Path):
    content = "\n-DOCSTART- O\n\nAnna B-PER\nlives O\n\n\n \n# O\n"
    expected = [(4, [["Anna", "lives"], ["B-PER", "O"]]), (9, [["#"], ["O"]])]
    assert records(tmp_path, content, "text", "label") == expected
    assert records(tmp_path, content.replace("\n", "\r\n"), "text", "label") == expected
    assert records(tmp_path, content.replace(" ", "\t"), "text", "label", name="a.conll.gz")[0] == expected[0]


def test_the_first_field_is_the_word_the_last_one_the_label_and_others_have_numbers(tmp_path: Path):
    content = "EU NNP I-NP B-ORG\nsays VBZ I-VP O\n"
    wanted = ("label", "2", "3", "text", "other")
    assert records(tmp_path, content, *wanted) == [
        (1, [["B-ORG", "O"], ["NNP", "VBZ"], ["I-NP", "I-VP"], ["EU", "says"], None])
    ]
    with opened("a.conll", tmp_path / "a.conll", (), every=True) as found:
        assert list(found.columns) == ["text", "2", "3", "label"]
        assert [values for _, values in found.rows] == [
            [["EU", "says"], ["NNP", "VBZ"], ["I-NP", "I-VP"], ["B-ORG", "O"]]
        ]


def test_words_alone_are_a_file_without_labels(tmp_path: Path):
    assert records(tmp_path, "a\nb\n\nc", "text", "label") == [(1, [["a", "b"], None]), (4, [["c"], None])]


def test_tabs_let_a_word_hold_no_break_spaces(tmp_path: Path):
    assert records(tmp_path, "1\u00a0000\tNUM\n", "text") == [(1, [["1\u00a0000"]])]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "a.conll: the file is empty. Give a word and its tag on each line."),
        ("\n \n", "a.conll: the file is empty."),
        ("a O\n\nb O\nc\n", "a.conll, line 4: 1 field, but line 1 has 2. Give each word and its tags a line"),
        ("a O\nb O O\n", "a.conll, line 2: 3 fields, but line 1 has 2."),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_line(tmp_path: Path, content: str, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        records(tmp_path, content, "text", "label")
