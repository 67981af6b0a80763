"""Memory that two processes on one machine share: each writes to its own part, and reads that of the other.

Through a socket, each number is copied four times, by the two processes and by the kernel. Through shared memory it is
copied twice.
"""

import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mtbert.processes import Processes

BYTES = 4  # of a number


@dataclass(frozen=True)
class SharedMemory:
    """Two flat float32 tensors in shared memory. This process writes ``mine``; the other process writes ``theirs``."""

    mine: Tensor
    theirs: Tensor


@dataclass(frozen=True)
class _Place:
    """The address of shared memory: a machine, a process ID, a file descriptor of the process, and the first bytes.

    The first bytes, ``mark``, are unique to this memory. A process that opens the memory checks these bytes,
    because two copies of a virtual machine may look like one machine, and a process on one copy may have the same ID as
    a process on the other copy.
    """

    machine: tuple[str, str]
    process: int
    descriptor: int
    mark: bytes


def share_memory(processes: Processes, partner: int, size: int) -> SharedMemory | None:
    """Returns memory that two processes share, with room for ``size`` numbers from each process.

    This process is one of the two, and ``partner`` is the rank of the other. Both processes must call this function.
    Both get None if they are on different machines, or if their system gives them no such memory. Both also get None if
    one process is not permitted to read the memory of the other, as in different containers.
    """
    mark = processes.rank.to_bytes(4, "big") + secrets.token_bytes(12)
    descriptor = _created(max(size * BYTES, len(mark)))
    try:
        mine = None if descriptor is None else _mapped(descriptor)
        machine = _machine()
        place = None
        if descriptor is not None and mine is not None and machine is not None:
            mine[: len(mark)] = mark
            place = _Place(machine, os.getpid(), descriptor, mark)
        theirs = _memory_at(processes.trade(partner, place))
        if not processes.trade(partner, theirs is not None) or mine is None or theirs is None:
            return None
        return SharedMemory(*(torch.frombuffer(memory, dtype=torch.float32) for memory in (mine, theirs)))
    finally:
        if descriptor is not None:
            os.close(descriptor)  # what is mapped stays


def _memory_at(place: _Place | None) -> mmap.mmap | None:
    """Returns the memory of another process; None if this process cannot map it."""
    if place is None or place.machine != _machine():
        return None
    try:
        descriptor = os.open(f"/proc/{place.process}/fd/{place.descriptor}", os.O_RDWR)
    except OSError:
        return None
    try:
        memory = _mapped(descriptor)
    finally:
        os.close(descriptor)
    return memory if memory is not None and memory[: len(place.mark)] == place.mark else None


def _created(size: int) -> int | None:
    """Returns the file descriptor of ``size`` bytes of new memory; None if the system gives no such memory."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("mtbert")
    except OSError:
        return None
    try:
        os.ftruncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _mapped(descriptor: int) -> mmap.mmap | None:
    """Maps the shared memory behind a file descriptor, and returns all of it; None if it cannot be mapped."""
    try:
        return mmap.mmap(descriptor, 0)
    except (OSError, ValueError):  # ValueError: it is empty
        return None


def _machine() -> tuple[str, str] | None:
    """Returns a value that the processes of one machine and one PID namespace have in common; None if it is unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
