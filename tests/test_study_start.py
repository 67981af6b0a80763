"""Starting a study: after a kill at any file operation, it resumes and leaves nothing behind. A full disk is named."""

import contextlib
import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy_run
from rich.console import Console

from mtbert import files, locks
from mtbert.studying import commands, plan, results
from mtbert.studying.plan import Plan
from mtbert.studying.runs import RunPlace, lay_out, run_place

SILENT = Console(quiet=True)


class Killed(BaseException):
    pass


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of two runs that are not really run."""
    toy_run.set_up(tmp_path)
    (tmp_path / "study.yaml").write_text("rows: {sum: toy.yaml}\nseeds: [0, 1]\n")
    monkeypatch.setattr("mtbert.studying.commands.run_all", lambda *_, **__: {})
    return plan.load_study(str(tmp_path / "study.yaml"))


def operations(patch: pytest.MonkeyPatch, number: int) -> None:
    """Imitates a kill of the process before its file operation number ``number``."""
    left = number

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left <= 0:  # a dead process does nothing more, not even in a finally clause
                raise Killed
            left -= 1
            return real(*arguments, **options)

        return call

    for owner, name in ((Path, "mkdir"), (Path, "write_bytes"), (Path, "replace"), (Path, "unlink"), (os, "unlink")):
        patch.setattr(owner, name, counted(getattr(owner, name)))


def test_a_study_killed_at_any_file_operation_of_its_start_resumes_and_leaves_nothing_behind(
    study: Plan, tmp_path: Path
):
    for number in range(100):
        out = tmp_path / f"out{number}"
        with pytest.MonkeyPatch.context() as patch:
            operations(patch, number)
            with contextlib.suppress(Killed):
                commands.run_study(study, out, 1, SILENT)
                break
        commands.run_study(study, out, 1, SILENT)
        assert results.read_outline(out).seeds == (0, 1)
        assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
            "cells/lock",
            "cells/sum-0/recipe.yaml",
            "cells/sum-1/recipe.yaml",
            "lock",
            "study.json",
        ], number
    assert 5 < number < 100  # the number of operations that were tried


def test_a_study_whose_files_are_not_there_starts_no_run_and_writes_nothing(study: Plan, tmp_path: Path):
    out = tmp_path / "out"
    (tmp_path / "data/quora.csv").unlink()
    said = r"^.*quora\.csv: there is no such file\..* Relative paths start from data\.root, here '.*'; change it with"
    with pytest.raises(FileNotFoundError, match=said):
        commands.run_study(study, out, 1, SILENT)
    assert not out.exists()
    for seed in (0, 1):  # runs that have ended need no data any more
        (out / f"cells/sum-{seed}").mkdir(parents=True)
        (out / f"cells/sum-{seed}/ended.json").write_text("{}")
    (out / "study.json").write_text("{}")
    with pytest.raises(ValueError, match=r"study\.json"):
        commands.run_study(study, out, 1, SILENT)


def test_a_command_begins_a_study_only_when_no_other_command_begins_or_ends_it(study: Plan, tmp_path: Path):
    out = tmp_path / "out"
    with locks.alone(out, "study"):
        (out / ".study.json.new").write_text("what the other one is writing")
        other = threading.Thread(target=commands.run_study, args=(study, out, 1, SILENT))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert sorted(path.name for path in out.iterdir()) == [".study.json.new", "lock"]
    other.join(60)
    assert results.read_outline(out).seeds == (0, 1)


def test_no_lock_is_put_into_a_folder_that_is_not_a_study(study: Plan, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no study"):
        commands.run_study(study, out, 1, SILENT)
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_only_the_studys_own_half_written_file_is_removed(study: Plan, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".study.json.new").write_text("{")
    (out / ".mine.new").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no study"):
        commands.run_study(study, out, 1, SILENT)
    assert (out / ".mine.new").read_text() == "mine"


def test_files_that_only_training_needs_are_removed_even_after_a_kill_kept_them(study: Plan, tmp_path: Path):
    one = run_place(tmp_path / "out", "sum", 0)
    for name in ("best", "last"):
        (one.run / name).mkdir(parents=True)
    one.tidy()
    assert (one.run / "last").exists()  # the run has not ended
    one.ended.write_text('{"seconds": 1.0}')
    lay_out({one: study.rows["sum"].recipe})
    assert not (one.run / "last").exists()
    older = RunPlace(tmp_path / "older")
    (older.run / "last").mkdir(parents=True)
    older.ended.write_text('{"seconds": 1.0}')
    older.tidy()
    assert (older.run / "last").exists()  # an ended run of an older version has nothing else


def test_recipes_that_are_there_are_not_written_again(study: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, recipe = run_place(tmp_path / "out", "sum", 0), study.rows["sum"].recipe
    lay_out({one: recipe})
    one.run.mkdir()
    (one.run / "recipe.yaml").write_bytes(one.recipe.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", pytest.fail)
        patch.setattr(Path, "rename", pytest.fail)
        patch.setattr(Path, "replace", pytest.fail)
        lay_out({one: recipe})
    moved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": "elsewhere"})})
    lay_out({one: moved})
    assert "root: elsewhere" in one.recipe.read_text()
    assert "root: elsewhere" in (one.run / "recipe.yaml").read_text()


def test_a_study_says_how_many_threads_each_run_gets(study: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    file = io.StringIO()
    commands.run_study(study, tmp_path / "out", 2, Console(file=file, width=200))
    assert file.getvalue().splitlines() == [
        "1 row, 2 seeds, 2 at a time, each with 1 of 8 threads",
        "2 of 2 runs left: sum-0 (waiting), sum-1 (waiting). To see all, give --list.",
    ]


def test_a_full_disk_is_one_line_and_the_study_resumes_later(study: Plan, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:

        def full(self: Path, content: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left") as error:
            commands.run_study(study, tmp_path / "out", 1, SILENT)
    assert error.value.filename == str(tmp_path / "out/study.json")
    assert error.value.errno in files.FULL
    commands.run_study(study, tmp_path / "out", 1, SILENT)
    assert results.read_outline(tmp_path / "out").reference == "sum"
