"""Tuning with a database: several commands share the trials, and no password is shown or written."""

import fcntl
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import toy_postgres
import toy_run
from children import Child
from toy_postgres import PASSWORD, Server
from toy_tuning import SILENT, put_scores, ranged, trials

from mtbert import locks
from mtbert.studying.trial_run import trial_folder
from mtbert.studying.tunable import Tuning
from mtbert.studying.tuning import _claim_next, _running, run_tuning

postgres = toy_postgres.postgres
LR = {"train.lr": {"low": 1e-5, "high": 1e-2, "log": True}}
FOR_ITS_TURN = ("fcntl.flock", (fcntl.LOCK_EX,))  # the audit event of waiting for a lock


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe with a range, whose runs only note who trains them, wait while there is a file ``hold``, and score."""
    toy_run.set_up(tmp_path)

    def scores_of(number: int) -> list[float]:
        with (tmp_path / f"trained-{number}").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.05)
        while (tmp_path / "hold").exists():
            time.sleep(0.01)
        return [0.25 + number / 64]

    put_scores(monkeypatch, scores_of)
    monkeypatch.setattr("mtbert.studying.tuning.SECONDS_BETWEEN_LOOKS", 0.05)
    return ranged(tmp_path, LR)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'trials.db'}"
    server: Server = request.getfixturevalue("postgres")
    return server.url()


def trained(folder: Path) -> dict[int, list[str]]:
    """Returns by trial the processes that have trained it."""
    found = {int(file.name[8:]): file.read_text().split() for file in folder.glob("trained-*")}
    return {number: found[number] for number in sorted(found)}


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def command(tuning: Tuning, number: int) -> Child:
    return Child(partial(run_tuning, tuning, number, SILENT))


def test_three_commands_share_the_trials(name: str, tmp_path: Path, url: str):
    tuning = Tuning(name, (), False, tmp_path / "tuned", url)
    each = [command(tuning, 9) for _ in range(3)]
    assert [child.said() for child in each] == ["done"] * 3
    found = trained(tmp_path)
    assert list(found) == list(range(9))
    assert {len(by) for by in found.values()} == {1}
    assert len({by for (by,) in found.values()}) > 1
    assert {row["state"] for row in trials(tuning.out)} == {"complete"}
    assert len({row["train.lr"] for row in trials(tuning.out)}) == 9
    run_tuning(tuning, 10, SILENT)  # a later command goes on
    assert list(trained(tmp_path)) == list(range(10))
    assert len(trials(tuning.out)) == 10


def test_the_trial_of_a_killed_command_is_resumed_by_another_that_waits_for_it(name: str, tmp_path: Path, url: str):
    tuning, hold = Tuning(name, (), False, tmp_path / "tuned", url), tmp_path / "hold"
    hold.touch()
    first = command(tuning, 2)
    until(lambda: list(trained(tmp_path)) == [0])
    second = command(tuning, 2)
    until(lambda: list(trained(tmp_path)) == [0, 1])
    assert first.process.pid is not None
    os.kill(first.process.pid, signal.SIGKILL)
    assert first.said() == "killed"
    hold.unlink()
    assert second.said() == "done"
    pids = [str(child.process.pid) for child in (first, second)]
    assert trained(tmp_path) == {0: pids, 1: pids[1:]}
    assert [row["state"] for row in trials(tuning.out)] == ["complete", "complete"]


def test_a_trial_that_ends_between_the_look_and_the_claim_of_another_command_is_not_trained_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tuning, hold = Tuning(name, (), False, tmp_path / "tuned", f"sqlite:///{tmp_path / 'trials.db'}"), tmp_path / "hold"
    hold.touch()
    first = command(tuning, 1)
    until(lambda: list(trained(tmp_path)) == [0])
    looked: list[int] = []

    def look(study: optuna.Study) -> dict[int, optuna.trial.FrozenTrial]:
        begun = _running(study)
        looked.append(len(begun))
        if len(looked) == 1:
            hold.unlink()  # the trial of the first command ends only now
            until(lambda: not locks.is_locked(trial_folder(tuning, 0)))
        return begun

    monkeypatch.setattr("mtbert.studying.tuning._running", look)
    run_tuning(tuning, 1, SILENT)
    assert first.said() == "done"
    assert looked == [1, 0, 0]
    assert trained(tmp_path) == {0: [str(first.process.pid)]}
    assert [row["state"] for row in trials(tuning.out)] == ["complete"]


def test_a_command_that_begins_while_another_makes_the_last_trial_makes_no_further_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tuning, waits = (
        Tuning(name, (), False, tmp_path / "tuned", f"sqlite:///{tmp_path / 'trials.db'}"),
        tmp_path / "waits",
    )
    run_tuning(tuning, 1, SILENT)
    ready, go, made = tmp_path / "ready", tmp_path / "go", optuna.Study.ask

    def claim_next(*given: Any) -> Any:
        ready.touch()
        until(go.exists)
        sys.addaudithook(lambda event, given: waits.touch() if (event, given[1:]) == FOR_ITS_TURN else None)
        return _claim_next(*given)

    with monkeypatch.context() as patch:
        patch.setattr("mtbert.studying.tuning._claim_next", claim_next)
        other = command(tuning, 2)  # forked before this process has any lock, which a fork would share
    until(ready.exists)

    def ask(study: optuna.Study) -> optuna.Trial:
        go.touch()
        until(lambda: waits.exists() or other.ended)
        return made(study)

    monkeypatch.setattr(optuna.Study, "ask", ask)
    run_tuning(tuning, 2, SILENT)
    assert other.said() == "done"
    assert trained(tmp_path) == {0: [str(os.getpid())], 1: [str(os.getpid())]}


def test_a_folder_and_its_database_belong_together(name: str, tmp_path: Path):
    first, other = (f"sqlite:///{tmp_path / file}" for file in ("first.db", "other.db"))
    out = tmp_path / "tuned"
    run_tuning(Tuning(name, (), False, out, first), 1, SILENT)
    with pytest.raises(ValueError, match=rf"^{out}: its trials are in {first}\. Give it with storage\.$"):
        run_tuning(Tuning(name, (), False, out), 2, SILENT)
    with pytest.raises(ValueError, match=rf"^{other}: has no trials of {out}, which are in {first}\. Give that one\.$"):
        run_tuning(Tuning(name, (), False, out, other), 2, SILENT)
    run_tuning(Tuning(name, (), False, tmp_path / "file"), 1, SILENT)
    with pytest.raises(ValueError, match=r"file: its trials are in .*file/tune\.db\. Drop storage, or give another"):
        run_tuning(Tuning(name, (), False, tmp_path / "file", first), 2, SILENT)
    trial_folder(Tuning(name, (), False, out), 0).mkdir(parents=True, exist_ok=True)
    (out / "storage.json").rename(tmp_path / "kept.json")
    with pytest.raises(ValueError, match=rf"^{out}/storage\.json: not there, although there are trials\."):
        run_tuning(Tuning(name, (), False, out, first), 2, SILENT)
    (tmp_path / "kept.json").rename(out / "storage.json")
    run_tuning(Tuning(name, (), False, tmp_path / "second", first), 2, SILENT)  # two searches in one database
    assert [len(trials(folder)) for folder in (out, tmp_path / "second")] == [1, 2]


def test_other_ranges_are_refused_while_another_command_is_at_work(name: str, tmp_path: Path):
    tuning = Tuning(name, (), False, tmp_path / "tuned", f"sqlite:///{tmp_path / 'trials.db'}")
    (tmp_path / "hold").touch()
    first = command(tuning, 1)
    until(lambda: trained(tmp_path))
    changed = Tuning(name, ("train.seed=4",), False, tuning.out, tuning.storage)
    with pytest.raises(ValueError, match=r"recipe\.yaml: has other settings, ranges or data to score on\."):
        run_tuning(changed, 2, SILENT)
    (tmp_path / "hold").unlink()
    assert first.said() == "done"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "my password",
            r"^storage: must be the URL of a database\. Give for example storage='postgresql://USER@HOST",
        ),
        ("postgresql://u:s3cret@h:port/d", r"^storage: must be the URL of a database\. "),
        ("nosuch://u:s3cret@h/d", r"^storage: nosuch is no database that is known\. "),
        (
            "mysql+mysqldb://u:s3cret@h/d",
            r"^storage: the driver of mysql\+mysqldb is not installed\. Run: pip install ",
        ),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(name: str, tmp_path: Path, url: str, message: str):
    with pytest.raises(ValueError, match=message) as error:
        run_tuning(Tuning(name, (), False, tmp_path / "tuned", url), 1, SILENT)
    assert "s3cret" not in str(error.value)
    assert "my password" not in str(error.value)


def test_a_password_is_neither_shown_nor_written(name: str, tmp_path: Path, postgres: Server, mtbert):
    out = tmp_path / "tuned"
    done = mtbert("tune", name, "--trials", 2, "--out", out, "--storage", postgres.url())
    assert done.code == 0, done
    told = [done.out, done.err]
    for wrong in (postgres.url("wr0ng-one"), postgres.url(database="nowhere"), postgres.url() + "?password=wr0ng-one"):
        done = mtbert("tune", name, "--trials", 3, "--out", out, "--storage", wrong)
        assert done.code == 1, done
        assert done.err.startswith(f"mtbert: {postgres.name.removesuffix('postgres')}"), done
        assert done.err.count("\n") == 1
        told += [done.out, done.err]
    assert "password authentication failed" in told[3]
    assert f"{Tuning(name, (), False, out, postgres.url())}".count(PASSWORD) == 0
    assert not [text for text in told if PASSWORD in text or "wr0ng-one" in text]
    written = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert out / "storage.json" in written
    assert not [path for path, content in written.items() if PASSWORD.encode() in content]
    assert postgres.name.encode() in written[out / "storage.json"]


def test_a_server_that_is_gone_is_one_line(name: str, tmp_path: Path, postgres: Server, mtbert):
    gone = postgres.url().replace(str(postgres.port), "1")
    done = mtbert("tune", name, "--trials", 1, "--out", tmp_path / "tuned", "--storage", gone)
    assert done.code == 1, done
    assert "127.0.0.1:1/postgres: connection failed: " in done.err
    assert done.err.endswith("Check --storage and the server, and start again.\n")
    assert not trial_folder(Tuning(name, (), False, tmp_path / "tuned"), 0).exists()


def test_a_database_of_something_else_is_refused(name: str, tmp_path: Path):
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table version_info (x text)")
    other.close()
    with pytest.raises((ValueError, ConnectionError), match=r"^sqlite:///.*other\.db: "):
        run_tuning(Tuning(name, (), False, tmp_path / "tuned", f"sqlite:///{tmp_path / 'other.db'}"), 1, SILENT)


def test_a_missing_driver_names_the_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"^storage: the driver of postgresql is not installed\. .*'mtbert\[tune\]'"):
        run_tuning(Tuning(name, (), False, tmp_path / "tuned", "postgresql://u:s3cret@127.0.0.1/d"), 1, SILENT)
