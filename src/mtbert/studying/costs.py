"""The table of the time and memory that the runs of a study took."""

import numpy as np

from mtbert.progress_bar import clock
from mtbert.studying.results import EndedRun, Results
from mtbert.studying.text_table import EMPTY, TextTable, if_seeds


def cost_table(results: Results) -> TextTable:
    """Returns a table with a line for each recipe: steps, time and memory of a run, as means over the seeds."""
    rows = []
    for row, by_seed in results.runs.items():
        runs = list(by_seed.values())
        steps, seconds = _mean([_steps(run) for run in runs]), _mean([run.seconds for run in runs])
        tokens = _mean([float(sum(line.get("tokens", 0) for line in run.steps)) for run in runs])
        known = [run.memory for run in runs if run.memory is not None]
        rows.append(
            (
                row,
                f"{steps:,.0f}",
                clock(seconds) if seconds else EMPTY,
                f"{steps / seconds:.2f}" if seconds else EMPTY,
                f"{tokens / seconds:,.0f}" if seconds and tokens else EMPTY,
                f"{max(known) / 2**30:.2f} GiB" if known else EMPTY,
            )
        )
    return TextTable(
        "costs",
        "Time and memory",
        ("row", "steps", "time of training", "steps per second", "tokens per second", "most memory"),
        tuple(rows),
        (
            f"{if_seeds(results.runs, 'Means over the seeds. ')}The time is that of the steps, without scoring dev. "
            "Memory is that of the whole process or, on a GPU, that of PyTorch on the GPU"
            f"{if_seeds(results.runs, '; the largest of all seeds')}.",
        ),
    )


def _steps(run: EndedRun) -> float:
    return float(sum("evaluation" not in line for line in run.steps))


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
