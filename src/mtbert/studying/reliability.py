"""Reliability diagrams: how many of the answers with about the same probability are right.

Dimension key: N answers, K possible answers to an example, M bins of probabilities. The N answers come from all runs of
one recipe of the study.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from mtbert.answers.probabilities import Reliability, calibration_error, reliability
from mtbert.messages import count
from mtbert.studying.charts import Chart, Curve, Curves, best_beside_reference
from mtbert.studying.results import DevData, EndedRun, Results
from mtbert.studying.summary import Summary


def reliability_charts(results: Results, summary: Summary) -> Iterator[Chart]:
    """Draws the share of right answers against the confidence, for each task with probabilities.

    One panel shows the study's reference recipe and another its best recipe, each over all seeds. A recipe with
    calibration has two curves: before and after calibration.
    """
    for task, dev in results.dev.items():
        found = {
            row: _lines_of(dev, list(results.runs[row].values()))
            for row in best_beside_reference(results, summary, task)
        }
        rows = {row: lines for row, lines in found.items() if lines}
        if not rows:
            continue
        without = [row for row, lines in found.items() if not lines]
        yield Chart(
            f"reliability-{task}",
            f"Reliability: {task}",
            f"The share of right answers to dev examples of {task} over their confidence, in 15 bins. On the "
            "grey line, probabilities say how often answers are right. Below it, the model is too sure. A larger point "
            "stands for more answers." + "".join(f" {row} gives no probabilities." for row in without),
            "errors",
            [
                Curves(row, "confidence", "share of right answers", tuple(map(_curve_of, lines)), diagonal=True)
                for row, lines in rows.items()
            ],
        )


def _curve_of(line: tuple[str, Reliability, float]) -> Curve:
    name, bins, error = line
    some_M = bins.counts > 0
    return Curve(
        f"{name}, ece {error:.3f}".removeprefix(", "),
        bins.confidence[some_M],
        bins.accuracy[some_M],
        1 if name == "before calibration" else 0,
        "marks",
        tuple(count(int(number), "answer") for number in bins.counts[some_M]),
        bins.counts[some_M].astype(np.float64),
    )


def _lines_of(dev: DevData, runs: Sequence[EndedRun]) -> list[tuple[str, Reliability, float]]:
    """Returns a triple for each curve that is drawn: its name, its bins and its calibration error.

    The list is empty if the predictions of the runs give no probabilities.
    """
    predicted = [run.predicted[dev.task.name] for run in runs]
    lines = [("", [one.shown for one in predicted])]
    if any(one.calibrated is not None for one in predicted):
        before, after = [one.prediction for one in predicted], [one.shown for one in predicted]
        lines = [("before calibration", before), ("after calibration", after)]
    found = []
    for name, predictions in lines:
        options = _options_of(dev, runs, predictions)
        if options is not None:
            found.append((name, reliability(*options), calibration_error(*options)))
    return found


def _options_of(
    dev: DevData, runs: Sequence[EndedRun], predictions: Sequence[Tensor]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns a pair: the log-probabilities of K possible answers, ``[N, K]``, and the index of the right one, ``[N]``.

    ``predictions`` holds each run's predictions for dev. ``N`` is the number of known labels in dev, times the number
    of runs. Returns None if the predictions give no probabilities.
    """
    each = []
    for run, prediction in zip(runs, predictions, strict=True):
        if not prediction.isfinite().all():  # packed answers have no predictions
            return None
        options = run.recipe.tasks[dev.task.name].predicts.options(prediction.double().numpy(), dev.labels)
        if options is None:
            return None
        each.append(options)
    return np.concatenate([log_p_NK for log_p_NK, _ in each]), np.concatenate([true_N for _, true_N in each])
