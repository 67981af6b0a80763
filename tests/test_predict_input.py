"""The input of ``predict``: every column comes back as it was, and standard input has a limit."""

import csv
import io

import pytest

from mtbert import use


@pytest.mark.parametrize("name", ["a.csv", "-"])
def test_columns_come_back_as_they_were_under_the_separator_that_the_task_needs(toy, mtbert, tmp_path, name):
    content = 'sentence;note, extra\nthe dog runs;one, two\n"not; bad";three\n'
    (tmp_path / "a.csv").write_text(content)
    file = tmp_path / name if name != "-" else name
    done = mtbert("predict", toy / "run", "--task", "sst", "--input", file, stdin=content)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [list(row)[:4] for row in rows] == [["id", "sentence", "note, extra", "label"]] * 2
    assert [list(row.values())[:3] for row in rows] == [
        ["1", "the dog runs", "one, two"],
        ["2", "not; bad", "three"],
    ]


def test_standard_input_is_copied_in_parts_and_has_a_limit(toy, mtbert, monkeypatch):
    content = "\ufeffid,sentence\n" + "".join(f"x{i},not bad {i}\n" for i in range(9))
    size = len(content.encode())
    monkeypatch.setattr(use, "COPIED", 16)
    monkeypatch.setattr(use, "LARGEST", size)
    done = mtbert("predict", toy / "run", "--task", "sst", "--input", "-", stdin=content)
    assert [row["sentence"] for row in csv.DictReader(io.StringIO(done.out))] == [f"not bad {i}" for i in range(9)]
    monkeypatch.setattr(use, "LARGEST", size - 1)
    said = mtbert("predict", toy / "run", "--task", "sst", "--input", "-", stdin=content).mistake
    assert said == f"--input -: more than {size - 1} bytes. Give fewer rows at a time."
