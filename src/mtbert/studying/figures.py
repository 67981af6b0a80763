"""The charts of a study or of a single run, from the answers and logs of its runs.

Dimension key: B examples, K classes.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from mtbert.batch import Floats
from mtbert.messages import count
from mtbert.studying.charts import Chart, Curve, Curves, Interval, Intervals, Matrix, best_beside_reference
from mtbert.studying.conclusion import judged_rows, shown_against
from mtbert.studying.errors import OVERLAP_BINS, Errors
from mtbert.studying.learning import conflict, learning, sampling, step_sizes
from mtbert.studying.reliability import reliability_charts
from mtbert.studying.results import DevData, EndedRun, Results
from mtbert.studying.sets import MOST_LABELS, co_occurrence
from mtbert.studying.summary import Comparison, Summary
from mtbert.studying.tables import p_value
from mtbert.studying.text_table import if_seeds


def study_charts(results: Results, summary: Summary, errors: Errors) -> list[Chart]:
    """Returns the charts of a study or of a single run. A chart for which there are no data is left out."""
    drawn = [chart for draw in DRAWINGS for chart in draw(results, summary)]
    return [*drawn, *overlaps(results, summary, errors)]


# Scores ----------------------------------------------------------------------------------------------------


def effects(results: Results, summary: Summary) -> Iterator[Chart]:
    """Draws, for each recipe of a study, how far its scores are above or below the scores of its control.

    If no recipe has a control, all recipes are compared with the reference recipe. The first panel shows the score that
    decides which recipe is better. Each further panel shows another score.
    """
    against = shown_against(summary)
    judged, compared = judged_rows(summary, against), summary.comparisons[against]
    if not judged:
        return
    scores = {score for score, _ in judged.values()}
    panels = [
        Intervals(
            summary.main if scores == {summary.main} else "the deciding score",
            tuple(
                _difference(row if scores == {summary.main} else f"{row} ({score})", one)
                for row, (score, one) in judged.items()
            ),
        )
    ]
    for score in summary.main_first[1:]:
        rows = [row for row in compared if score in compared[row]]
        if any(judged.get(row, ("",))[0] != score for row in rows):
            ordered = [*(row for row in judged if row in rows), *(row for row in rows if row not in judged)]
            panels.append(Intervals(score, tuple(_difference(row, compared[row][score]) for row in ordered)))
    other = "its control" if against == "control" else results.outline.reference
    yield Chart(
        "effects",
        "What each technique changes" if against == "control" else f"How the recipes differ from {other}",
        f"The score of each recipe minus that of {other}, with its 95% interval. A triangle marks a clear difference: "
        "p is below 0.05 after Holm's correction for the number of rows. A circle marks one that chance could explain.",
        "effects",
        panels,
    )


def _difference(name: str, one: Comparison) -> Interval:
    more = f"p {p_value(one.corrected)}, compared with {one.other}, {count(one.difference.seeds, 'seed')}"
    return Interval(name, one.difference.mean, one.difference.interval, one.verdict, more=more)


def dev_scores(results: Results, summary: Summary) -> Iterator[Chart]:
    """Draws the dev scores of a study's recipes.

    If the study has only one recipe, each score is drawn beside the score of the best constant answer.
    """
    alt = if_seeds(
        results.runs,
        "The mean score on dev over the seeds, with its 95% interval, which covers the chance in seeds and examples.",
        "The score on dev, with its 95% interval, which covers the chance in the choice of the examples.",
    )
    if len(summary.rows) == 1:
        ((row, scored),) = summary.rows.items()
        lines = [
            Interval(
                name,
                found.mean,
                found.interval,
                beside=summary.baseline[name],
                more=f"the best constant answer has {summary.baseline[name]:.3f}",
            )
            for name in summary.main_first
            if (found := scored.scores.get(name)) is not None
        ]
        panels = [Intervals(row, tuple(lines), None, signed=False)] if lines else []
        alt += " The small grey line is the score of the best constant answer."
    else:
        panels = [
            Intervals(
                score,
                tuple(
                    Interval(row, found.mean, found.interval)
                    for row, scored in summary.rows.items()
                    if (found := scored.scores.get(score)) is not None
                ),
                None,
                signed=False,
            )
            for score in summary.main_first
        ]
    if panels:
        yield Chart("scores", "Scores on dev", alt, "scores", panels)


# Errors ----------------------------------------------------------------------------------------------------


def confusion_matrices(results: Results, summary: Summary) -> Iterator[Chart]:
    """Draws two confusion matrices for each task with classes: for the study's reference recipe and for its best one.

    Each matrix is the mean over the seeds of the recipe.
    """
    for task, dev in results.dev.items():
        rows = best_beside_reference(results, summary, task)
        if "confusion" not in dev.task.answer.labels.figures or not rows:
            continue
        found = _details(dev, _first(results.runs[rows[0]]))
        labels = tuple(map(str, found.get("types", found["labels"])))
        over_seeds = if_seeds(results.runs, ", over all seeds")
        counts = {row: _total(_confusion(dev, run) for run in results.runs[row].values()) for row in rows}
        drawn = _most_confused(_total(counts.values()))
        panels = []
        for row, counts_KK in counts.items():
            shares_KK = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
            names = tuple(labels[k] for k in drawn)
            panels.append(Matrix(row, names, shares_KK[np.ix_(drawn, drawn)], "true label", "answer"))
        left = f" Drawn are the {len(drawn)} of {len(labels)} labels with the most errors." * (len(drawn) < len(labels))
        yield Chart(
            f"confusion-{task}",
            f"Confusion matrix: {task}",
            f"A row is a true label of {task}. Its cells are the shares of the answers, in percent{over_seeds}.{left}",
            "errors",
            panels,
        )


def similarity(results: Results, summary: Summary) -> Iterator[Chart]:
    """Draws the answers against the labels, for each task whose answers are scores.

    One panel shows the study's reference recipe, and another shows the best recipe, each with its first seed.
    """
    for task, dev in results.dev.items():
        rows = best_beside_reference(results, summary, task)
        if "similarity" not in dev.task.answer.labels.figures or not rows:
            continue
        low, high = dev.task.range or (0.0, 1.0)
        panels = []
        for row in rows:
            run = _first(results.runs[row])
            answers_B = low + (high - low) * run.predicted[task].decision.numpy()
            curve = Curve("label and answer", np.asarray(dev.labels, np.float64), answers_B, form="dots")
            title = f"{row}{if_seeds(results.runs, f', seed {run.seed}')}"
            panels.append(Curves(title, "label", "answer", (curve,), diagonal=True))
        alt = f"Label and answer of each dev example of {task}. On the grey line both agree."
        yield Chart(f"similarity-{task}", f"Answers against labels: {task}", alt, "errors", panels)


def overlaps(results: Results, summary: Summary, errors: Errors) -> Iterator[Chart]:
    """Draws how the error on pairs of texts depends on the words that both texts have, with a line for each recipe."""
    names = tuple(f"{100 * low:.0f}–{high:.0%}" for low, high in pairwise(OVERLAP_BINS))
    panels = []
    for task in errors.overlap:
        graded = results.dev[task].task.answer.labels.graded
        curves = []
        for row, means in errors.by_overlap(task).items():
            known = [i for i, (_, number) in enumerate(means) if number]
            xs, ys = np.array(known, np.float64), np.array([means[i][0] for i in known])
            more = tuple(f"{means[i][1]:,} examples" for i in known)
            curves.append(Curve(row, xs, ys, list(results.runs).index(row), "marks", more))
        if curves:
            y = "mean distance" if graded else "share of errors"
            ends = (-0.5, len(names) - 0.5)  # each name stands below the middle of its bin
            panels.append(Curves(f"{task}: {y}", "words in common", y, tuple(curves), across=ends, names=names))
    if panels:
        alt = "The error on dev by the share of words that are in both texts, of those in either"
        alt += if_seeds(results.runs, ", over all seeds") + "."
        legend = tuple(results.runs) if len(results.runs) > 1 else ()
        yield Chart("overlap", "Errors by words in common", alt, "errors", panels, legend)


DRAWINGS = (
    effects,
    dev_scores,
    learning,
    step_sizes,
    conflict,
    sampling,
    confusion_matrices,
    co_occurrence,
    similarity,
    reliability_charts,
)


def _confusion(dev: DevData, run: EndedRun) -> Floats:
    """Returns a matrix ``[K, K]`` whose entry (i, j) is the number of examples with label i that got answer j."""
    return np.array(_details(dev, run)["confusion"], np.float64)


def _total(counts: Iterable[Floats]) -> Floats:
    total: Floats = np.sum(list(counts), axis=0)
    return total


def _most_confused(counts_KK: Floats) -> list[int]:
    """Returns the ascending indices of the labels to draw: all or, if there are many, those with the most errors."""
    wrong_K = counts_KK.sum(0) + counts_KK.sum(1) - 2 * counts_KK.diagonal()
    return sorted(np.argsort(-wrong_K, kind="stable")[:MOST_LABELS].tolist())


def _details(dev: DevData, run: EndedRun) -> dict[str, Any]:
    decided_B = run.predicted[dev.task.name].decision.numpy()
    return dev.task.answer.labels.details(dev.task, decided_B, dev.labels)


def _first(by_seed: Mapping[int, EndedRun]) -> EndedRun:
    return next(iter(by_seed.values()))
