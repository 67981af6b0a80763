"""Test files of a study: only regular files are read, and an unreadable file does not count as a look at the test."""

import os
from pathlib import Path

import pytest
import toy_results
from rich.console import Console

from mtbert.studying import held_out
from mtbert.studying.held_out_scores import HELD_OUT_FILE

TASKS = ("sst", "quora", "sts")


def test_a_test_file_that_is_not_a_regular_file_is_named_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "test.csv").write_text("id\n")
    found = toy_results.study({"sum": [toy_results.RIGHT]})
    for place, said in (
        (tmp_path / "gone.csv", f"{tmp_path}/gone.csv: not there."),
        (tmp_path / "pipe", f"{tmp_path}/pipe: a pipe, not a file."),
        (Path("/dev/zero"), "/dev/zero: a device, not a file."),
        (tmp_path, f"{tmp_path}: a folder, not a file."),
    ):
        files = dict.fromkeys(TASKS, tmp_path / "test.csv") | {"sts": place}
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            held_out.score_held_out(found, "sum", files, tmp_path, Console(quiet=True))
        assert str(error.value) == f"{said} Give --test TASK=FILE with a labelled file."
    assert not (tmp_path / HELD_OUT_FILE).exists()
