"""Reliability diagrams: how many of the answers with about the same probability are right.

Dimension key: N answers, K possible answers to an example, M bins of probabilities. The N answers come from all runs of
one recipe of the study.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from mtbert.answers.probabilities import Reliability, calibration_error, reliability
from mtbert.studying.drawing import Drawn, best_beside_reference, grid_of_panels
from mtbert.studying.results import DevData, EndedRun, Results
from mtbert.studying.summary import Summary

BEFORE = {"color": "#D55E00", "marker": "v", "linestyle": "--"}
AFTER = {"color": "#0072B2", "marker": "o", "linestyle": "-"}


def reliability_pictures(results: Results, summary: Summary) -> Iterator[Drawn]:
    """Plots the share of right answers against the confidence, for each task with probabilities.

    A figure shows curves for the study's reference recipe and for its best recipe, over all seeds. A recipe with
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
        figure, axes = grid_of_panels(1, len(rows), 2.6, 2.4, sharey=True)
        for ax, (row, lines) in zip(axes[0], rows.items(), strict=True):
            ax.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
            for name, bins, error in lines:
                some_M = bins.counts > 0
                style = BEFORE if name == "before calibration" else AFTER
                label = f"{name}, ece {error:.3f}".removeprefix(", ")
                ax.plot(
                    bins.confidence[some_M], bins.accuracy[some_M], markersize=3, linewidth=1.1, label=label, **style
                )
            ax.set_title(row)
            ax.set_xlabel("confidence")
            ax.legend(fontsize=6)
        axes[0][0].set_ylabel("share of right answers")
        yield Drawn(
            f"reliability-{task}",
            f"Reliability: {task}",
            f"The share of right answers to dev examples of {task} over their confidence, in 15 bins: "
            f"{' and '.join(rows)}. On the grey line, probabilities say how often answers are right. Below it, the "
            "model is too sure." + "".join(f" {row} gives no probabilities." for row in without),
            figure,
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
