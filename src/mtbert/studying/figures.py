"""The figures of a study, drawn as PNG and SVG.

Colours (palette of Okabe and Ito) always come with different dashes or markers, so that the figures can be read in grey
and by colour-blind people.

Dimension key: B examples, K classes, W windows of steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product, zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtbert.batch import Floats
from mtbert.studying.drawing import Drawn, best_beside_reference, cut_label, grid_of_panels, in_style
from mtbert.studying.reliability import reliability_pictures
from mtbert.studying.results import DevData, EndedRun, Results
from mtbert.studying.sets import co_occurrence
from mtbert.studying.summary import Summary, Verdict

WINDOWS = 60  # points of a curve over steps; each is the mean over a window of steps
LINES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#000000", (0, (1, 3))))
MARKS: Mapping[Verdict, tuple[str, str, str]] = {  # marker, line and fill
    "better": ("^", "#0072B2", "#0072B2"),
    "worse": ("v", "#D55E00", "#D55E00"),
    "unclear": ("o", "#555555", "#ffffff"),
}
NAMED_CLASSES = 12  # with more classes, a confusion matrix has no numbers

Points = Sequence[tuple[float, float]]  # step and value


def study_figures(results: Results, summary: Summary) -> list[Drawn]:
    """Returns the figures of a study or of a single run. A figure for which there are no data is left out."""
    with in_style():
        return [drawn for draw in DRAWINGS for drawn in draw(results, summary)]


def ablation(results: Results, summary: Summary) -> Iterator[Drawn]:
    """Plots how much the scores of each recipe of a study differ from the scores of the recipe's control.

    The control is another recipe of the study. Usually, it is the same recipe without one technique. There is one panel
    for each score. Each difference is drawn with its 95% interval.
    """
    compared = summary.comparisons["control"]
    scores = [s for s in summary.main_first if any(s in by for by in compared.values())]
    if not scores:
        return
    figure, axes = grid_of_panels(1, len(scores), 2.6, 0.34 * len(compared) + 1.1, sharey=True)
    names = [f"{row} − {next(iter(by.values())).other}" for row, by in compared.items()]
    for ax, score in zip(axes[0], scores, strict=True):
        ax.axvline(0, color="black", linewidth=0.8)
        for y, by in enumerate(compared.values()):
            if score in by:
                marker, line, fill = MARKS[by[score].verdict]
                low, high = by[score].difference.interval
                ax.plot([low, high], [y, y], color=line, linewidth=1.4)
                ax.plot(by[score].difference.mean, y, marker, color=line, markerfacecolor=fill)
        ax.set_title(score)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.grid(axis="x", alpha=0.3)
    figure.supxlabel("difference from the control; triangle: clear (p below 0.05 after Holm's correction)", fontsize=8)
    yield Drawn(
        "ablation",
        "What each technique changes",
        "The difference of each row from its control with its 95% interval. The table against-control has the numbers.",
        figure,
    )


def learning(results: Results, summary: Summary) -> Iterator[Drawn]:
    """Plots the losses of each task in each recipe of a study, and the dev scores if dev was scored more than once."""
    figure, panels = _by_row_and_task(results, list(results.dev), sharex=True)
    for (row, task), ax in panels.items():
        runs = results.runs[row].values()
        for result, style in zip(runs, _lines(len(runs)), strict=True):
            ax.plot(*_windows(_losses(result, task)), label=f"seed {result.seed}", **style)
    yield Drawn(
        "losses",
        "Training losses",
        f"The sum of each task's losses over training, as means of {WINDOWS} windows of steps, with a line per seed.",
        figure,
    )
    scored = {row: [_scored(r) for r in by.values()] for row, by in results.runs.items()}
    if all(len(points) < 2 for runs in scored.values() for points in runs):
        return
    titles = [f"{task} {dev.metric}" for task, dev in results.dev.items()]
    figure, panels = _by_row_and_task(results, titles, sharex=True, sharey="col")
    for (row, task), ax in panels.items():
        ax.axhline(summary.baseline[task], color="#999999", linewidth=0.8)
        for points, style in zip(scored[row], _lines(len(scored[row])), strict=True):
            known = [(step, s[task]["metrics"][results.dev[task].metric]) for step, s in points if task in s]
            ax.plot([x for x, _ in known], [y for _, y in known], marker=".", **style)
    yield Drawn(
        "learning",
        "Dev scores over training",
        "The score of each task on dev at every evaluation: one line for each seed. The grey line is the best constant "
        "answer.",
        figure,
    )


def conflict(results: Results, summary: Summary) -> Iterator[Drawn]:
    """Plots how the cosine between the gradients of two tasks changes during training, if the runs logged it."""
    cosines = {row: found for row, by_seed in results.runs.items() if (found := _cosines(_first(by_seed)))}
    if not cosines:
        return
    figure, axes = _curves(cosines)
    for ax in axes:
        ax.axhline(0, color="black", linewidth=0.8, zorder=1)  # below the curves
    yield Drawn(
        "conflict",
        "Gradient conflict over time",
        "The cosine between the gradients of two tasks over training, in each row's first seed. Below 0 they conflict.",
        figure,
    )


def sampling(results: Results, summary: Summary) -> Iterator[Drawn]:
    """Plots the share of steps that trained each task, for runs in which every step trained only one task."""
    shares = {row: found for row, by_seed in results.runs.items() if (found := _taken(_first(by_seed)))}
    if not shares:
        return
    figure, axes = _curves(shares)
    for ax in axes:
        ax.set_ylim(-0.03, 1.03)
    yield Drawn(
        "sampling",
        "Task sampling over time",
        "The share of the steps that trained each task, in each row's first seed.",
        figure,
    )


def confusion_matrices(results: Results, summary: Summary) -> Iterator[Drawn]:
    """Plots two confusion matrices for each task with classes: for the study's reference recipe and for its best one.

    Each matrix is the mean over the seeds of the recipe.
    """
    for task, dev in results.dev.items():
        rows = best_beside_reference(results, summary, task)
        if "confusion" not in dev.task.answer.labels.figures or not rows:
            continue
        found = _details(dev, next(iter(results.runs[rows[0]].values())))
        labels = found.get("types", found["labels"])
        figure, axes = grid_of_panels(1, len(rows), 0.42 * len(labels) + 1.8, 0.42 * len(labels) + 1.6)
        for ax, row in zip(axes[0], rows, strict=True):
            runs = list(results.runs[row].values())
            shares_KK = sum(_confusion(dev, run) for run in runs) / len(runs)
            ax.imshow(shares_KK, cmap="Greys", vmin=0, vmax=1)
            if len(labels) <= NAMED_CLASSES:
                for (i, j), share in np.ndenumerate(shares_KK):
                    ax.text(
                        j, i, f"{share:.0%}", ha="center", va="center", fontsize=7, color="w" if share > 0.5 else "k"
                    )
                ax.set_xticks(range(len(labels)), [cut_label(x) for x in labels], rotation=90)
                ax.set_yticks(range(len(labels)), [cut_label(x) for x in labels])
            ax.set_title(row)
            ax.set_xlabel("answer")
        axes[0][0].set_ylabel("label")
        yield Drawn(
            f"confusion-{task}",
            f"Confusion matrix: {task}",
            f"For each label of {task}, the shares of the answers over all seeds: {' and '.join(rows)}.",
            figure,
        )


def similarity(results: Results, summary: Summary) -> Iterator[Drawn]:
    """Plots the answers against the labels, for each task whose answers are scores.

    A scatter plot has a panel for the study's reference recipe and a panel for its best recipe. Each panel shows the
    run of the recipe with the first seed.
    """
    for task, dev in results.dev.items():
        rows = best_beside_reference(results, summary, task)
        if "similarity" not in dev.task.answer.labels.figures or not rows:
            continue
        low, high = dev.task.range or (0.0, 1.0)
        figure, axes = grid_of_panels(1, len(rows), 3.0, 3.0, sharey=True)
        for ax, row in zip(axes[0], rows, strict=True):
            run = _first(results.runs[row])
            answers_B = low + (high - low) * run.predicted[task].decision.numpy()
            ax.plot([low, high], [low, high], color="#999999", linewidth=0.8)
            ax.plot(dev.labels, answers_B, ".", color="#0072B2", alpha=0.35, markersize=3)
            ax.set_title(f"{row}, seed {run.seed}")
            ax.set_xlabel("label")
        axes[0][0].set_ylabel("answer")
        yield Drawn(
            f"similarity-{task}",
            f"Answers against labels: {task}",
            f"The label and the answer of each dev example of {task}: {' and '.join(rows)}.",
            figure,
        )


DRAWINGS = (
    ablation,
    learning,
    conflict,
    sampling,
    confusion_matrices,
    co_occurrence,
    similarity,
    reliability_pictures,
)


def _curves(by_row: Mapping[str, Mapping[str, Points]]) -> tuple[Figure, list[Axes]]:
    """Returns a figure and its panels. Each panel shows the curves of one recipe of the study over the steps."""
    figure, axes = _wrapped(by_row)
    for ax, curves in zip(axes, by_row.values(), strict=True):
        for (name, points), style in zip(curves.items(), _lines(len(curves)), strict=True):
            ax.plot(*_windows(points), label=name, **style)
        ax.legend(fontsize=6)
    figure.supxlabel("step", fontsize=8)
    return figure, axes


def _wrapped(panels: Mapping[str, object], across: int = 3) -> tuple[Figure, list[Axes]]:
    """Returns a figure and its panels, one for each key of ``panels``, with at most ``across`` of them side by side."""
    columns = min(across, len(panels))
    figure, axes = grid_of_panels(-(-len(panels) // columns), columns, 2.8, 1.9, sharex=True, sharey=True)
    for ax, name in zip_longest(axes.flat, panels):
        if name is None:
            ax.axis("off")
        else:
            ax.set_title(name)
    return figure, list(axes.flat)[: len(panels)]


def _by_row_and_task(
    results: Results, titles: Sequence[str], **share: Any
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Returns a figure, and a dict with a panel for each pair (recipe of the study, task).

    ``titles`` maps each task to a title.
    """
    figure, axes = grid_of_panels(len(results.runs), len(results.dev), 2.6, 1.25, **share)
    for row, of_row in zip(results.runs, axes, strict=True):
        of_row[0].set_ylabel(row, rotation=0, ha="right")
    for title, ax in zip(titles, axes[0], strict=True):
        ax.set_title(title)
    figure.supxlabel("step", fontsize=8)
    return figure, dict(zip(product(results.runs, results.dev), axes.flat, strict=True))


def _lines(number: int) -> list[dict[str, Any]]:
    return [
        {"color": colour, "linestyle": dash, "linewidth": 1.1}
        for colour, dash in (LINES[i % len(LINES)] for i in range(number))
    ]


def _windows(points: Points) -> tuple[Floats, Floats]:
    """Splits a curve into windows; returns the mean step and the mean value of each window, as two arrays ``[W]``."""
    if not points:
        return np.zeros(0), np.zeros(0)
    parts = np.array_split(np.array(points, dtype=np.float64), min(WINDOWS, len(points)))
    x_W, y_W = np.stack([part.mean(0) for part in parts]).T
    return x_W, y_W


def _losses(result: EndedRun, task: str) -> Points:
    """Returns a pair for each step that trained ``task``: the step, and the sum of all losses of ``task`` in it."""
    found = []
    for line in result.steps:
        values = [v for key, v in line.get("losses", {}).items() if key.startswith(f"{task}.")]
        if values:
            found.append((line["step"], sum(values)))
    return found


def _scored(result: EndedRun) -> list[tuple[int, Mapping[str, Any]]]:
    return [(line["step"], line["evaluation"]) for line in result.steps if "evaluation" in line]


def _cosines(result: EndedRun) -> dict[str, Points]:
    """Returns a dict: for each pair of tasks, points ``(step, cosine)`` with the cosine between their gradients.

    Pairs that do not occur in the first 50 lines of the log are left out.
    """
    logged = [(line["step"], line.get("diagnostics", {})) for line in result.steps]
    keys = sorted({key for _, found in logged[:50] for key in found if key.startswith("cos(")})
    return {key: [(step, found[key]) for step, found in logged if key in found] for key in keys}


def _taken(result: EndedRun) -> dict[str, Points]:
    """Returns a curve for each task: 1 at steps that trained the task, and 0 at all other steps.

    Returns an empty dict if there is only one task, or if some step trained several tasks.
    """
    tasks = [task for task in result.recipe.tasks if _losses(result, task)]
    steps = {task: {step for step, _ in _losses(result, task)} for task in tasks}
    every = sorted(set().union(*steps.values()))
    if len(tasks) < 2 or sum(map(len, steps.values())) > len(every):
        return {}
    return {task: [(step, float(step in steps[task])) for step in every] for task in tasks}


def _confusion(dev: DevData, run: EndedRun) -> Floats:
    """Returns a matrix ``[K, K]`` whose entry (i, j) is the share of the examples with label i that got answer j."""
    counts_KK = np.array(_details(dev, run)["confusion"], np.float64)
    shares_KK: Floats = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
    return shares_KK


def _details(dev: DevData, run: EndedRun) -> dict[str, Any]:
    decided_B = run.predicted[dev.task.name].decision.numpy()
    return dev.task.answer.labels.details(dev.task, decided_B, dev.labels)


def _first(by_seed: Mapping[int, EndedRun]) -> EndedRun:
    return next(iter(by_seed.values()))
