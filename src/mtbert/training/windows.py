"""Memory that two processes on one machine share: each writes to its window, and reads that of the other.

Through a socket, each number is copied four times, by the two processes and by the kernel. Through shared memory it is
copied twice.
"""

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mtbert.processes import Processes

BYTES = 4  # of a number


@dataclass(frozen=True)
class Windows:
    """Two flat float32 tensors in shared memory. This process writes ``mine``; the other process writes ``theirs``."""

    mine: Tensor
    theirs: Tensor


@dataclass(frozen=True)
class _Place:
    """The address of shared memory: a machine, a process, a file descriptor of the process, and a size in bytes."""

    machine: tuple[str, str]
    process: int
    descriptor: int
    bytes: int


def open_windows(processes: Processes, partner: int, size: int) -> Windows | None:
    """Returns windows for ``size`` numbers each. The process ``partner`` must call this at the same time.

    Both processes get None if they are on different machines, or if their system has no such memory. The same
    happens if one process is not permitted to read the other's memory, as in different containers.
    """
    descriptor = os.memfd_create("mtbert") if hasattr(os, "memfd_create") else None
    try:
        mine, place = None, None
        if descriptor is not None:
            os.ftruncate(descriptor, size * BYTES)
            mine, place = _mapped(descriptor), _Place(_machine(), os.getpid(), descriptor, size * BYTES)
        theirs = _of(processes.trade(partner, place))
        if not processes.trade(partner, theirs is not None) or mine is None or theirs is None:
            return None
        return Windows(mine, theirs)
    finally:
        if descriptor is not None:
            os.close(descriptor)  # what is mapped stays


def _of(place: _Place | None) -> Tensor | None:
    """Returns the memory of another process; None if this process cannot map it."""
    if place is None or place.machine != _machine():
        return None
    try:
        descriptor = os.open(f"/proc/{place.process}/fd/{place.descriptor}", os.O_RDWR)
        try:
            return _mapped(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _mapped(descriptor: int) -> Tensor:
    return torch.frombuffer(mmap.mmap(descriptor, 0), dtype=torch.float32)


def _machine() -> tuple[str, str]:
    """Returns a value that only processes of the same machine and the same PID namespace have in common."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return "", str(os.getpid())  # equal to that of no other process
