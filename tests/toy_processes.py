"""Several processes that train one run together, connected by gloo on this machine."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed import FileStore, destroy_process_group, is_initialized

from mtbert.processes import ALONE, Connected, Processes

Work = Callable[[Processes], Any]
SECONDS = 120  # a test that hangs ends after this time


def in_processes(size: int, work: Work, stopped: int | None = None) -> list[Any]:
    """Returns what ``work`` returns in each of ``size`` forked processes, in the order of their ranks.

    One process is not forked: its ``work`` is called here. A process that raises an error returns the error. The
    process ``stopped`` is killed once all others have answered.
    """
    if size == 1:
        return [work(ALONE)]
    fork = multiprocessing.get_context("fork")  # starts in milliseconds, because everything is imported already
    with tempfile.TemporaryDirectory() as folder:
        pipes = [fork.Pipe(duplex=False) for _ in range(size)]
        children = [
            fork.Process(target=_child, args=(Path(folder), rank, work, [write for _, write in pipes]))
            for rank in range(size)
        ]
        for child in children:
            child.start()
        for _, write in pipes:
            write.close()
        try:
            found = {rank: _received(pipes[rank][0]) for rank in range(size) if rank != stopped}
            if stopped is not None:
                children[stopped].kill()
                found[stopped] = _received(pipes[stopped][0])
            return [found[rank] for rank in range(size)]
        finally:
            for child in children:
                child.join(10)
                child.kill()


def _received(pipe: Any) -> Any:
    try:
        return pipe.recv() if pipe.poll(SECONDS) else TimeoutError()
    except EOFError as error:  # the process was killed
        return error


def _child(folder: Path, rank: int, work: Work, pipes: Sequence[Any]) -> None:
    size, pipe = len(pipes), pipes[rank]
    for other in pipes:
        if other is not pipe:  # so that the end of its own process closes it
            other.close()
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        found = work(Connected(FileStore(str(folder / "store")), rank, size))
    except Exception as error:
        traceback.print_exc()
        pipe.send(error)
    else:
        pipe.send(found)
        if is_initialized():
            destroy_process_group()
    os._exit(0)  # without the parent's clean-up
