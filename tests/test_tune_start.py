"""The folder of a hyperparameter search: the search resumes after a kill at any moment.

The folder may have any name, and a full disk is one line.
"""

import errno
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
import toy_run
from children import killed
from toy_tuning import SILENT, put_scores, ranged, trials

from mtbert import locks
from mtbert.studying.tunable import Tuning
from mtbert.studying.tuning import run_tuning
from mtbert.training.run import Run

LR = {"train.lr": [1e-3, 1e-4]}
WHOLE = ["lock", "ranged-tuned.yaml", "recipe.yaml", "trials", "trials.csv", "tune.db"]


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe with ranges, whose runs only report a score."""
    toy_run.set_up(tmp_path)
    put_scores(monkeypatch, lambda number: [0.25 + number / 8])
    return ranged(tmp_path, LR)


def everything(out: Path) -> list[str]:
    """Returns the names of all files in a folder, without the journals that SQLite keeps while it writes."""
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.name != "tune.db-journal")


@pytest.fixture
def hasty() -> Iterator[None]:
    """Makes SQLite skip syncing: the tests kill processes but do not cut the power."""

    def trust(connection: object, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", trust)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", trust)


@pytest.mark.usefixtures("hasty")
def test_a_tuning_killed_at_any_file_operation_resumes_and_leaves_nothing_behind(name: str, tmp_path: Path):
    whole = Tuning(name, (), False, tmp_path / "whole")
    run_tuning(whole, 1, SILENT)

    def act(out: Path) -> None:
        # SQLite's own writes cannot be intercepted here, so it is killed before it makes them permanent.
        place, wrote = os.open(tmp_path, os.O_RDONLY), [False]

        def executes(_c: object, _u: object, statement: str, *_: object) -> None:
            wrote[0] |= not statement.startswith(("SELECT", "PRAGMA"))

        def commits(_: object) -> None:
            if wrote[0]:
                os.fsync(place)
            wrote[0] = False

        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", executes)
        sqlalchemy.event.listen(sqlalchemy.Engine, "commit", commits)
        run_tuning(Tuning(name, (), False, out), 1, SILENT)

    operation, tried = 0, 0
    while killed(lambda: act(tmp_path / f"out{operation}"), operation):  # noqa: B023 - it is over before the next
        out = tmp_path / f"out{operation}"
        run_tuning(Tuning(name, (), False, out), 1, SILENT)
        assert everything(out) == everything(whole.out), operation
        for file in ("recipe.yaml", "ranged-tuned.yaml", "trials.csv"):
            assert (out / file).read_bytes() == (whole.out / file).read_bytes(), operation
        tried += 1
        operation += 1 if operation < 24 else 3  # the first 24 belong to the start; later ones repeat with each trial
    assert tried >= 22


def test_a_start_that_was_cut_off_is_not_taken_for_a_foreign_folder(name: str, tmp_path: Path):
    out = tmp_path / "tuned"
    out.mkdir()
    (out / ".recipe.yaml.new").write_text("half")
    run_tuning(Tuning(name, (), False, out), 1, SILENT)
    assert sorted(path.name for path in out.iterdir()) == WHOLE
    other = tmp_path / "other"
    other.mkdir()
    (other / "recipe.yaml.new").write_text("mine")
    with pytest.raises(ValueError, match=r"other: exists and is no tuning\."):
        run_tuning(Tuning(name, (), False, other), 1, SILENT)
    assert [path.name for path in other.iterdir()] == ["recipe.yaml.new"]


def test_one_of_two_tunings_started_at_once_reports_the_other(name: str, tmp_path: Path):
    out = tmp_path / "tuned"
    out.mkdir()
    with locks.alone(out, "tune"):
        with pytest.raises(ValueError, match="another mtbert tune is at work there"):
            run_tuning(Tuning(name, (), False, out), 1, SILENT)
        assert [path.name for path in out.iterdir()] == ["lock"]


@pytest.mark.parametrize("folder", ["a?b", "a%20b", "a%b", "a#b", "a b", "a'b\"c", "a&b=c;d", "a{b}", "é", "a:b@c"])
def test_a_folder_of_any_name_holds_its_storage(
    name: str, tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for number in (1, 2):
        run_tuning(Tuning(name, (), False, Path(folder)), number, SILENT)
    assert os.listdir() == [folder]
    assert sorted(path.name for path in Path(folder).iterdir()) == WHOLE
    assert len(trials(Path(folder))) == 2


@pytest.mark.parametrize("room", [100, 5_000, 40_000])
def test_a_full_disk_is_named_with_the_file_and_the_tuning_resumes_later(name: str, tmp_path: Path, room: int):
    out = tmp_path / "tuned"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match=re.escape(str(out))) as error:
            run_tuning(Tuning(name, (), False, out), 1, SILENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.errno in (errno.ENOSPC, errno.EFBIG)
    run_tuning(Tuning(name, (), False, out), 1, SILENT)
    assert sorted(path.name for path in out.iterdir()) == WHOLE


def test_a_trial_on_a_full_disk_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy_run.set_up(tmp_path)
    name, out = ranged(tmp_path, LR), tmp_path / "tuned"
    run_tuning(Tuning(name, (), False, out), 1, SILENT)
    with monkeypatch.context() as patch:

        def step(_: Run) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(Run, "step", step)
        with pytest.raises(OSError, match=r"No space left on device: '.*tuned/trials/1'"):
            run_tuning(Tuning(name, (), False, out), 2, SILENT)
    run_tuning(Tuning(name, (), False, out), 2, SILENT)
    assert [trial["state"] for trial in trials(out)] == ["complete", "complete"]
    assert not list(out.rglob("*.safetensors"))


def test_weights_that_a_kill_left_of_an_ended_trial_are_removed(name: str, tmp_path: Path):
    out = tmp_path / "tuned"
    run_tuning(Tuning(name, (), False, out), 1, SILENT)
    (out / "trials/0/run/best").mkdir()
    (out / "trials/0/run/best/model.safetensors").write_bytes(b"weights")
    run_tuning(Tuning(name, (), False, out), 1, SILENT)
    assert not (out / "trials/0/run/best").exists()
    assert (out / "trials/0/run/metrics.jsonl").exists()


def test_a_full_storage_is_reported_in_the_words_of_sqlite(name: str, tmp_path: Path):
    out = tmp_path / "tuned"
    run_tuning(Tuning(name, (), False, out), 1, SILENT)

    def full(connection: object, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
        connection.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", full)
    try:
        with pytest.raises(OSError, match="database or disk is full") as error:
            run_tuning(Tuning(name, (), False, out), 1000, SILENT)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "connect", full)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(out / "tune.db"))
