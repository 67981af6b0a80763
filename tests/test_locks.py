"""The lock of a folder: putting the folder back after a kill, races with other processes, and waiting."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mtbert import locks


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    """A folder with content and a lock that a kill left beside its place."""
    (tmp_path / ".run.old").mkdir()
    for name in ("content", "lock"):
        (tmp_path / ".run.old" / name).touch()
    return tmp_path / "run"


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes every attempt at a lock fail with the given error number."""

    def refuse_with(number: int) -> None:
        def refuse(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        for name in ("flock", "lockf"):
            monkeypatch.setattr(fcntl, name, refuse)

    return refuse_with


@pytest.mark.parametrize("others", [("content", "lock"), ()])
def test_if_another_process_puts_the_folder_back_first_its_lock_is_tried_next(
    cut_off: Path, others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    real = Path.rename
    descriptors = len(os.listdir("/proc/self/fd"))

    def late(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        target.mkdir()
        for name in others or ("other",):
            (target / name).touch()
        return real(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with locks.alone(cut_off, "train") as held:
        assert held.folder == cut_off
        assert sorted(path.name for path in cut_off.iterdir()) == sorted({*(others or ("other",)), "lock"})
        assert not (cut_off.parent / ".run.old").exists()  # settled
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_disk_error_while_a_folder_is_put_back_is_raised_and_the_lock_released(
    cut_off: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(self))

    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(PermissionError), locks.alone(cut_off, "train"):
            pass
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    with locks.alone(cut_off, "train"):
        assert (cut_off / "content").exists()


def test_a_waiting_process_gets_the_lock_when_the_other_is_done(tmp_path: Path):
    (tmp_path / "kept").touch()
    order = []

    def late() -> None:
        with locks.alone(tmp_path, "study", wait=True):
            order.append("second")

    with locks.alone(tmp_path, "study"):
        waiting = threading.Thread(target=late)
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]


def test_a_process_that_only_looks_does_not_take_a_claim_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    looking = [os.open(tmp_path / locks.LOCK, os.O_RDONLY | os.O_CREAT)]
    fcntl.flock(looking[0], fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda seconds: os.close(looking.pop()))
    held = locks.claim_folder(tmp_path)
    assert held is not None
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert locks.claim_folder(tmp_path) is None
    held.leave()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize(
    "act",
    [
        lambda place: locks.alone(place, "train").__enter__(),
        lambda place: locks.alone(place, "study", wait=True).__enter__(),
        lambda place: locks.claimed(place, "a").__enter__(),
        locks.claim_folder,
        locks.is_locked,
        lambda place: locks.presence(place).__enter__().only(),
        lambda place: locks.presence(place).__enter__().share(),
    ],
)
def test_a_file_system_without_locks_is_one_line_that_names_the_folder_and_says_what_to_do(
    tmp_path: Path, number: int, act: Callable[[Path], object], without_locks: Callable[[int], None]
):
    (tmp_path / locks.LOCK).touch()
    without_locks(number)
    with pytest.raises(ValueError, match=r"so two commands could .* Give a folder on another disk, or mount ") as error:
        act(tmp_path)
    said = f"{tmp_path}: the file system of this folder has no locks ({os.strerror(number)})"
    assert str(error.value).startswith(said)


def test_on_a_file_system_without_locks_no_new_folder_remains(tmp_path: Path, without_locks: Callable[[int], None]):
    without_locks(errno.ENOLCK)
    with pytest.raises(ValueError, match="has no locks"), locks.alone(tmp_path / "runs/mine", "train"):
        pass
    assert not list(tmp_path.iterdir())


def test_another_error_of_a_lock_names_its_file(tmp_path: Path, without_locks: Callable[[int], None]):
    without_locks(errno.EIO)
    with pytest.raises(OSError, match="Input/output error") as error, locks.alone(tmp_path, "train"):
        pass
    assert error.value.filename == str(tmp_path / locks.LOCK)
