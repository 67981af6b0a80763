"""Tables and figures for tasks with sets of labels: how well each label is predicted, and which labels occur together.

Dimension key: B examples, K labels.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mtbert.answers import Array, Labels
from mtbert.answers.measures_of_sets import average_precisions, by_label
from mtbert.batch import Floats, Rows
from mtbert.messages import LONGEST, clean
from mtbert.ragged import all_values
from mtbert.studying.charts import Chart, Matrix, best_beside_reference
from mtbert.studying.results import DevData, EndedRun, Results
from mtbert.studying.summary import Summary
from mtbert.studying.text_table import TextTable, if_seeds

MOST_LABELS = 30  # labels in a table or a figure; of more labels, the commonest are shown


def label_tables(results: Results, summary: Summary) -> Iterator[TextTable]:
    """For each task whose labels are sets, yields a table with one line per label.

    A line shows the label's scores under two recipes of the study: the reference recipe and the best recipe.
    """
    for dev, rows in _tasks_with(results, summary, "by_label"):
        task = dev.task
        scores = {row: np.mean([_scores(dev, run) for run in results.runs[row].values()], axis=0) for row in rows}
        heads = ("precision", "recall", "f1", "average precision")
        named = heads if len(rows) == 1 else tuple(f"{head} ({row})" for row in rows for head in heads)
        labels_BK = all_values(dev.labels)
        listed = commonest(labels_BK)
        lines = tuple(
            (
                clean((task.labels or ())[k][:LONGEST]),
                str(int((labels_BK[:, k] == 1).sum())),
                *(f"{score:.4f}" for row in rows for score in scores[row][k]),
            )
            for k in listed
        )
        notes = [if_seeds(results.runs, "Means over the seeds. ") + "Only dev examples whose label is known count."]
        if len(listed) < labels_BK.shape[1]:
            notes.append(f"The {len(listed)} commonest of {labels_BK.shape[1]:,} labels.")
        yield TextTable(
            f"labels-{task.name}", f"By label: {task.name}", ("label", "examples", *named), lines, (" ".join(notes),)
        )


def co_occurrence(results: Results, summary: Summary) -> Iterator[Chart]:
    """Yields a chart for each task whose labels are sets. The chart shows how often two labels occur together.

    Each chart compares the labels of dev with the answers of two recipes of the study, over all seeds: the reference
    recipe and the best recipe.
    """
    for dev, rows in _tasks_with(results, summary, "co_occurrence"):
        labels_BK = all_values(dev.labels)
        listed = commonest(labels_BK)
        known_BK = ~np.isnan(labels_BK[:, listed])
        matrices = {"labels": shares_together(labels_BK[:, listed], known_BK)}
        for row in rows:
            decided = [run.predicted[dev.task.name].decision.numpy()[:, listed] for run in results.runs[row].values()]
            matrices[f"answers of {row}"] = shares_together(
                np.concatenate(decided), np.tile(known_BK, (len(decided), 1))
            )
        names = tuple((dev.task.labels or ())[k] for k in listed)
        few = "" if len(listed) == labels_BK.shape[1] else f" the {len(listed)} commonest labels of"
        yield Chart(
            f"together-{dev.task.name}",
            f"Labels that occur together: {dev.task.name}",
            f"For{few} {dev.task.name}: of the dev examples with one label, the shares that also have another, in the "
            f"labels and in the answers{if_seeds(results.runs, ' of all seeds')}, in percent. "
            "Without a number: no example has the first label.",
            "errors",
            [Matrix(title, names, shares_KK, "has", "also has") for title, shares_KK in matrices.items()],
        )


def commonest(labels_BK: Labels) -> Rows:
    """Returns the ascending indices of the labels to show: all labels or, if there are many, the most frequent ones."""
    counts_K = (labels_BK == 1).sum(0)
    return np.sort(np.argsort(-counts_K, kind="stable")[:MOST_LABELS])


def shares_together(sets_BK: Array, known_BK: Array) -> Floats:
    """Returns a matrix ``[K, K]``. Entry ``[i, j]`` is the share of the examples with label ``i`` that also have ``j``.

    Examples for which it is unknown whether they have label ``j`` are left out. An entry is ``nan`` if no example
    remains, or if ``i`` equals ``j``.
    """
    has_BK = ((sets_BK == 1) & known_BK).astype(np.float64)
    both_KK, all_KK = has_BK.T @ has_BK, has_BK.T @ known_BK.astype(np.float64)
    shares_KK: Floats = np.divide(both_KK, all_KK, out=np.full(all_KK.shape, np.nan), where=all_KK > 0)
    np.fill_diagonal(shares_KK, np.nan)
    return shares_KK


def _tasks_with(results: Results, summary: Summary, figure: str) -> Iterator[tuple[DevData, Sequence[str]]]:
    """Yields a pair for each task for which the report shows the figure named ``figure``, such as ``by_label``.

    The first item is the task's dev data. The second item lists the names of the recipes that the figure shows: the
    reference recipe of the study, and the recipe with the best score on the task.
    """
    for task, dev in results.dev.items():
        rows = best_beside_reference(results, summary, task)
        if figure in dev.task.answer.labels.figures and rows:
            yield dev, rows


def _scores(dev: DevData, run: EndedRun) -> Floats:
    """Returns how well ``run`` predicts each label: precision, recall, F1 and average precision, ``[K, 4]``."""
    predicted, labels_BK = run.predicted[dev.task.name], all_values(dev.labels)
    each = by_label(dev.task, predicted.decision.numpy(), labels_BK)
    ranked = average_precisions(predicted.prediction.numpy(), labels_BK)
    return np.array([(c.precision, c.recall, c.f1, ap) for c, ap in zip(each, ranked, strict=True)])
