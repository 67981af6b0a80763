"""Test files of a study: they are looked at once, and a file that cannot be read does not count as a look."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import toy_results
from rich.console import Console

from mtbert.studying import commands, held_out
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


def test_of_two_reports_at_once_only_one_looks_at_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = toy_results.study({"sum": [toy_results.RIGHT]})
    both, looks, ends = threading.Barrier(2), [], []

    def answer_file(folder: Path, name: str, file: str) -> Any:
        looks.append(name)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # the other one has time to look too
        return found.dev[name], found.runs["sum"][0].predicted[name], []

    monkeypatch.setattr(held_out, "answer_file", answer_file)
    monkeypatch.setattr(commands.results, "read_outline", lambda path: None)
    monkeypatch.setattr(commands.results, "read_study", lambda path: found)
    monkeypatch.setattr(commands, "_write", lambda *_: None)
    files = {name: tmp_path / f"{name}.csv" for name in TASKS}
    for name, file in files.items():
        file.write_text(name)

    def report() -> None:
        try:
            commands.report_on(tmp_path / "study", Console(quiet=True), "sum", files)
            ends.append("scored")
        except ValueError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=report) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert looks == list(TASKS)
    refused, scored = sorted(ends)
    assert scored == "scored"
    assert refused.startswith(f"{tmp_path}/study/{HELD_OUT_FILE}: row sum was scored on test before")
