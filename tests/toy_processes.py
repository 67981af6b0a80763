"""Several processes that train one run together, connected by gloo on this machine."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed import FileStore, destroy_process_group, is_initialized

from mtbert.processes import ALONE, Connected, Processes

Work = Callable[[Processes], Any]
SECONDS = 120  # a test that hangs ends after this time


def in_processes(size: int, work: Work) -> list[Any]:
    """Returns what ``work`` returns in each of ``size`` forked processes, in the order of their ranks.

    One process is not forked: its ``work`` is called here. A process that raises an error returns the error, and one
    that ends without an answer returns an EOFError.
    """
    if size == 1:
        return [work(ALONE)]
    (found,) = in_groups([(size, work)])
    return found


def in_groups(groups: Sequence[tuple[int, Work]], hanging: Collection[tuple[int, int]] = ()) -> list[list[Any]]:
    """Returns what :func:`in_processes` returns for each size and work. All of them run at the same time.

    ``hanging`` holds processes that are killed once all others have answered, each as its group and its rank.
    """
    fork = multiprocessing.get_context("fork")  # starts in milliseconds, because everything is imported already
    places = [(group, rank) for group, (size, _) in enumerate(groups) for rank in range(size)]
    with tempfile.TemporaryDirectory() as folder:
        pipes = {place: fork.Pipe(duplex=False) for place in places}
        children = {}
        for group, rank in places:
            size, work = groups[group]
            others = [write for place, (_, write) in pipes.items() if place != (group, rank)]
            store = Path(folder) / str(group)
            arguments = (store, rank, size, work, pipes[group, rank][1], others)
            children[group, rank] = fork.Process(target=_child, args=arguments)
        for child in children.values():
            child.start()
        for _, write in pipes.values():
            write.close()
        try:
            found = {place: _received(read) for place, (read, _) in pipes.items() if place not in hanging}
            for place in hanging:
                children[place].kill()
                found[place] = _received(pipes[place][0])
            return [[found[group, rank] for rank in range(size)] for group, (size, _) in enumerate(groups)]
        finally:
            for child in children.values():
                child.join(10)
                child.kill()


def _received(pipe: Any) -> Any:
    try:
        return pipe.recv() if pipe.poll(SECONDS) else TimeoutError()
    except EOFError as error:  # the process was killed
        return error


def _child(store: Path, rank: int, size: int, work: Work, pipe: Any, others: Sequence[Any]) -> None:
    for other in others:  # so that the end of its own process closes it
        other.close()
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        found = work(Connected(FileStore(str(store)), rank, size))
    except Exception as error:
        traceback.print_exc()
        pipe.send(error)
    else:
        pipe.send(found)
        if is_initialized():
            destroy_process_group()
    os._exit(0)  # without the parent's clean-up
