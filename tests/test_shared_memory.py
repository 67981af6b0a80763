"""Memory that two processes share: it is proved to be that of the other one, and a system may refuse it."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mtbert.processes import Processes
from mtbert.training import shared_memory
from mtbert.training.shared_memory import share_memory


class Other(Processes):
    """A partner that gives back what it gets, after ``change``."""

    rank, size = 0, 2

    def __init__(self, change: Callable[[Any], Any] = lambda place: place) -> None:
        self.change = change
        self.got: list[Any] = []

    def trade(self, partner: int, value: Any) -> Any:
        self.got.append(value)
        return value if value is None or isinstance(value, bool) else self.change(value)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_memory_with_the_right_mark_is_shared():
    found = share_memory(Other(), 1, 3)
    assert found is not None
    found.mine[:3] = 7.0
    assert found.theirs[:3].tolist() == [7.0] * 3
    assert found.mine.shape == (4,)  # room for the mark


@pytest.mark.parametrize(
    "change",
    [
        # A copy of a virtual machine: the same machine, process, descriptor, and even the same random numbers.
        lambda place: replace(place, mark=b"\0\0\0\1" + place.mark[4:]),
        lambda place: replace(place, mark=place.mark[:4] + bytes(12)),
        lambda place: replace(place, machine=("another", "machine")),
        lambda place: replace(place, process=2**22 + 1),  # above the largest number of a process
        lambda place: replace(place, descriptor=2**30),
    ],
)
def test_memory_of_something_else_is_not_taken_for_that_of_the_partner(change: Callable[[Any], Any]):
    before, other = descriptors(), Other(change)
    assert share_memory(other, 1, 100) is None
    assert other.got[1] is False
    assert descriptors() == before


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["os.memfd_create", "os.ftruncate", "mmap.mmap"])
def test_a_system_that_refuses_memory_shares_none(monkeypatch: pytest.MonkeyPatch, call: str, error: int):
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(f"mtbert.training.shared_memory.{call}", refuse)
    before, other = descriptors(), Other()
    assert share_memory(other, 1, 100) is None
    assert other.got == [None, False]
    assert descriptors() == before


def test_a_machine_that_cannot_be_told_from_others_shares_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_memory, "_machine", lambda: None)
    other = Other()
    assert share_memory(other, 1, 100) is None
    assert other.got == [None, False]


def test_a_file_of_another_process_that_is_empty_is_not_mapped():
    with os.fdopen(os.memfd_create("empty")) as empty:
        assert share_memory(Other(lambda place: replace(place, descriptor=empty.fileno())), 1, 100) is None


def test_two_processes_never_have_the_same_mark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_memory.secrets, "token_bytes", bytes)  # as on two copies of one virtual machine
    marks = []
    for rank in (0, 1):
        other = Other()
        other.rank = rank
        share_memory(other, 1 - rank, 1)
        marks.append(other.got[0].mark)
    assert marks == [bytes(16), b"\0\0\0\1" + bytes(12)]
