"""Measures the CPU time of a model's answers: with PyTorch, with ONNX graphs, and with graphs of 8-bit weights.

    python -m benchmarks.exports runs/demo --rounds 5

Everything runs on one thread, in turns, and CPU time is counted, so that other programs on the machine disturb little.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mtbert import scoring
from mtbert.batch import Dataset
from mtbert.use.evaluate import dev_sets
from mtbert.use.export.check import some_rows
from mtbert.use.export.engine import make_engine
from mtbert.use.predictor import Predictor, load
from mtbert.use.trained import recipe_of

TEXTS = 256  # of a batch
SINGLES = 30  # texts that are answered one by one

Run = Callable[[Dataset], object]


def runners(predictor: Predictor) -> dict[str, Run]:
    """Returns the functions that answer a data set, by name."""
    exact, rounded = (make_engine(predictor.model, int8=int8, threads=1) for int8 in (False, True))
    return {
        "torch": lambda data: scoring.predict_together(predictor.model, [data]),
        "onnx": lambda data: exact([data]),
        "onnx, int8": lambda data: rounded([data]),
    }


def seconds(run: Run, data: Dataset) -> float:
    start = time.process_time()
    run(data)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--task", help="the task to answer; default: the first")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor = load(given.run)
    predictor.model.to("cpu").compute = torch.float32
    task = given.task or next(iter(predictor.tasks))
    data = some_rows(dev_sets(predictor, recipe_of(given.run, ()), [task])[0][task], TEXTS)
    texts = list(zip(*data.examples.texts, strict=True))[:SINGLES]
    singles = [predictor.read(task, [text if len(text) > 1 else text[0]]) for text in texts]
    chosen = runners(predictor)
    for run in chosen.values():
        run(data)
    batches: dict[str, list[float]] = {name: [] for name in chosen}
    ones: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(given.rounds):
        for name, run in chosen.items():
            batches[name].append(seconds(run, data))
            ones[name].append(float(np.mean([seconds(run, one) for one in singles])))
    print(
        f"{task}: {len(data)} texts of {data.lengths.mean():.0f} tokens, one thread, CPU time, median of {given.rounds}"
    )
    for name in chosen:
        batch, one = np.median(batches[name]), np.median(ones[name])
        print(f"{name:12}  {len(data) / batch:6.0f} answers/s in batches  {1000 * one:6.1f} ms for a text alone")


if __name__ == "__main__":
    main()
