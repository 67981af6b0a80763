"""The lock of a folder: putting the folder back after a kill, races with other processes, and waiting."""

import fcntl
import os
import threading
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
