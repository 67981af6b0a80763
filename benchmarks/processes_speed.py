"""Measures the training speed of two processes with one thread each against one process with two threads, in pairs.

    python -m benchmarks.processes_speed
    python -m benchmarks.processes_speed --pairs 9 --recipe demo --set train.precision=fp32

Both sides make the same steps in turn, so that a slow phase of the machine affects both. The two processes have a core
each. A ratio is the time of one process over that of two processes for the same steps: their tokens per second, since
both have the same tokens.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

STEPS = 5  # in each turn


def work(rank: int, size: int, store: str, recipe: str, changes: Sequence[str], pipe: Connection) -> None:
    """Makes steps whenever ``pipe`` asks, and answers with seconds, seconds of communication, and tokens."""
    import torch
    from torch.distributed import FileStore

    from mtbert import processes
    from mtbert.recipe.files import load_recipe
    from mtbert.training.assemble import assemble

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    together = processes.ALONE if size == 1 else processes.Connected(FileStore(store), rank, size)
    if size > 1:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    endless = ["train={rounds: 1000000, epochs: 1, schedule: constant, warmup: 0}"]
    threads = [f"train.shards={size}", f"train.threads={2 // size}"]
    run = assemble(load_recipe(recipe, [*endless, *threads, *changes])).run(together)
    assert torch.get_num_threads() == 2 // size
    pipe.send("ready")
    while (steps := pipe.recv()) is not None:
        begun = time.perf_counter()
        tokens = sum(run.step().tokens for _ in range(steps))
        pipe.send((time.perf_counter() - begun, tokens))


def main() -> None:
    """Prints the ratio of each pair, and their median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    chosen = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder:
        ours, theirs = [], []
        for size, side in ((2, ours), (1, theirs)):
            for rank in range(size):
                pipe, end = spawn.Pipe()
                given = (rank, size, str(Path(folder) / "store"), chosen.recipe, chosen.changes, end)
                spawn.Process(target=work, args=given, daemon=True).start()
                side.append(pipe)
        for pipe in (*ours, *theirs):
            assert pipe.recv() == "ready"

        def turn(side: list[Connection], steps: int) -> tuple[float, int]:
            for pipe in side:
                pipe.send(steps)
            return max(pipe.recv() for pipe in side)

        ratios = []
        for pair in range(-2, chosen.pairs):
            (two, tokens), (one, same) = turn(ours, STEPS), turn(theirs, STEPS)
            assert tokens == same
            if pair >= 0:
                ratios.append(one / two)
                each = f"{1e3 * two / STEPS:.0f} ms a step in two processes, {1e3 * one / STEPS:.0f} ms in one"
                print(f"{each}, {tokens / STEPS:.0f} tokens: {ratios[-1]:.3f}", flush=True)
        for pipe in (*ours, *theirs):
            pipe.send(None)
        ordered = sorted(ratios)
        print(f"median {ordered[len(ordered) // 2]:.3f}, from {ordered[0]:.3f} to {ordered[-1]:.3f}")


if __name__ == "__main__":
    main()
