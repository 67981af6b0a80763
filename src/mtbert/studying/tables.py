"""The tables of a study: its data, its scores, comparisons of its recipes, and numbers from a publication."""

import math
import textwrap
from collections.abc import Mapping

from mtbert.messages import few
from mtbert.studying.charts import interval_text
from mtbert.studying.held_out_scores import HeldOutScores
from mtbert.studying.results import Results
from mtbert.studying.settings import OVERALL, Printed
from mtbert.studying.statistics import Estimate
from mtbert.studying.summary import Against, Comparison, Summary
from mtbert.studying.text_table import EMPTY, NumberCell, TextTable, counted, if_seeds

MOST_OF_LABELS = 100  # characters of the list of a task's labels


def study_tables(results: Results, summary: Summary, test: HeldOutScores | None = None) -> list[TextTable]:
    """Returns the tables that are shown on the terminal.

    Args:
        results: The results of the study.
        summary: The statistics of the study.
        test: The test scores of one recipe of the study; None if no recipe was scored on test.
    """
    against: list[Against] = [other for other in ("control", "reference") if summary.comparisons[other]]
    if summary.comparisons["control"] == summary.comparisons["reference"]:
        against = against[:1]  # one table: each row's control is the reference
    return [
        data_table(results),
        dev_score_table(results, summary),
        *(difference_table(results, summary, other) for other in against),
        *(beside for beside in _printed(results, summary) if beside.rows),
        *([held_out_table(results, summary, test)] if test is not None else []),
    ]


def data_table(results: Results) -> TextTable:
    """Returns a table with the type, the metric, the labels and the number of train and dev examples of each task."""
    some = any(dev.held_out for dev in results.dev.values())
    rows = []
    for name, dev in results.dev.items():
        labels = textwrap.shorten(dev.task.answer.labels.summary(dev.task), MOST_OF_LABELS, placeholder=" …")
        held_out = [counted(dev.held_out)] if some else []
        sizes = counted(dev.train), *held_out, counted(len(dev.examples))
        rows.append((name, dev.task.type, dev.metric, labels, *sizes))
    heads = ("task", "type", "metric", "labels", "train", *(["held out"] if some else []), "dev")
    notes = ["held out: rows of train on which thresholds and calibration are fitted; no run trains on them."] * some
    without = [name for name in results.dev if _lacks_probabilities(results, name)]
    if without:
        notes.append(
            f"no probabilities: {few(without)}. The head gives a cosine, so their measures and the reliability picture "
            "are missing. Use head: linear for them."
        )
    return TextTable("data", "Data", heads, tuple(rows), tuple(notes))


def _lacks_probabilities(results: Results, name: str) -> bool:
    """Returns True if probabilities are possible for the answers to the task ``name``, but no run gives them."""
    tasks = [
        run.recipe.tasks[name] for runs in results.runs.values() for run in runs.values() if name in run.recipe.tasks
    ]
    could = any(metric.probabilities for task in tasks for metric in task.answer.metrics)
    return could and not any(task.predicts.gives_probability for task in tasks)


def dev_score_table(results: Results, summary: Summary) -> TextTable:
    """Returns a table of the dev scores of each recipe of the study.

    A cell contains the mean of a score, the standard deviation of the score over seeds, and the 95% interval of the
    mean.
    """
    columns = _scores_of(summary)
    rows = [("best constant", "", *(f"{summary.baseline[c]:.4f}" for c in columns))]
    for name, scored in summary.rows.items():
        cells = []
        for column in columns:
            score = _estimated(scored.scores.get(column))
            collapsed = scored.collapsed.get(column, 0)
            if collapsed:
                words = f"{score} collapsed {collapsed}/{len(results.runs[name])}"
                score = NumberCell(words, {**score.numbers, "collapsed": str(collapsed)})
            cells.append(score)
        rows.append((name, str(len(results.runs[name])), *cells))
    collapses = any(number for scored in summary.rows.values() for number in scored.collapsed.values())
    explained = " collapsed 1/3: in 1 of 3 runs, nearly all answers are the same." if collapses else ""
    return TextTable(
        "scores",
        "Scores on dev",
        ("row", "seeds", *columns),
        tuple(rows),
        (
            if_seeds(
                results.runs,
                "Mean over the seeds ± their standard deviation [95% interval]. The interval covers the chance in "
                "seeds and examples; with one seed, in examples alone.",
                "Score [95% interval]. The interval covers the chance in the choice of the examples.",
            )
            + " The scores of a run are those of its best evaluation on dev, whose model predicts. best constant: the "
            "score of giving always the same answer." + explained,
        ),
    )


def run_table(results: Results, summary: Summary) -> TextTable:
    """Returns a table of the scores of every single run, so that readers can compute further statistics."""
    columns = _scores_of(summary)
    rows = [
        (row, str(seed), *(_number(of_seed.get(column)) for column in columns))
        for row, by_seed in results.runs.items()
        for seed, of_seed in zip(by_seed, summary.rows[row].by_seed, strict=True)
    ]
    return TextTable("runs", "Every run", ("row", "seed", *columns), tuple(rows))


def difference_table(results: Results, summary: Summary, against: Against) -> TextTable:
    """Returns a table of score differences between each recipe of the study and another recipe.

    If ``against`` is ``"reference"``, each recipe is compared with the study's reference recipe. If ``against`` is
    ``"control"``, each recipe is compared with its control, a recipe that usually lacks only one technique. The last
    note below the table says the smallest difference that the study could be expected to find.
    """
    columns = [c for c in _scores_of(summary) if any(c in by for by in summary.comparisons[against].values())]
    rows = []
    for name, by_score in summary.comparisons[against].items():
        one = next(iter(by_score.values()))
        cells = (_difference(by_score.get(column)) for column in columns)
        rows.append((name, one.other + summary.collapse_mark(one.other), str(one.difference.seeds), *cells))
    least = {column: x for column in columns if (x := summary.detectable(against, column)) is not None}
    return TextTable(
        f"against-{against}",
        "Each row compared with its control"
        if against == "control"
        else f"Each row compared with {results.outline.reference}",
        ("row", "compared with", "seeds", *columns),
        tuple(rows),
        (
            "The row's score minus the other row's [95% interval] and p, with * if p is below 0.05. Runs are paired by "
            "seed, answers by example. The interval covers the chance in seeds and examples; with one seed, in "
            "examples alone. p is corrected for the number of rows by Holm's method and the interval is not, so an "
            "interval can exclude 0 although p is above 0.05. With one seed, the p of an accuracy is McNemar's, and it "
            "compares two runs, not two techniques.",
            *([_findable(least)] if least else []),
        ),
    )


def _findable(least: Mapping[str, float]) -> str:
    """Returns a text for the report that lists the numbers in ``least``.

    ``least`` maps each score to the smallest true difference that the study could be expected to detect. Infinity is
    shown as ``none``.
    """
    found = few([f"{score} {'none' if math.isinf(x) else f'{x:.4f}'}" for score, x in least.items()], len(least))
    return (
        f"The smallest true difference that this study could be expected to find: {found}. Four of five such studies "
        "would find it in the median row. A smaller one may be missed."
    )


def _printed(results: Results, summary: Summary) -> list[TextTable]:
    """Returns tables that compare numbers from another source, such as a paper, with those of the study.

    The list is empty if the study's file gives no such numbers.
    """
    printed = results.outline.printed
    return [] if printed is None else [printed_sizes(results, printed), printed_scores(results, summary, printed)]


def printed_sizes(results: Results, printed: Printed) -> TextTable:
    """Returns a table of the sizes of this study's data sets, and of the sizes that a publication gives for them."""
    rows = [
        (name, *map(counted, (its.train, dev.train, its.dev, len(dev.examples), its.test)))
        for name, dev in results.dev.items()
        if (its := printed.sizes.get(name)) is not None
    ]
    heads = ("train (printed)", "train (here)", "dev (printed)", "dev (here)", "test (printed)")
    return TextTable(
        "printed-sizes", f"Numbers of examples: printed by {printed.source}, and here", ("task", *heads), tuple(rows)
    )


def printed_scores(results: Results, summary: Summary, printed: Printed) -> TextTable:
    """Returns a table that shows dev scores from another source, such as a paper, beside the means of the study."""
    keys = _printed_keys(results, summary)
    by_row = {row: scores for row in results.runs if (scores := printed.dev.get(row, {})).keys() & keys.values()}
    columns = [name for name, key in keys.items() if any(key in scores for scores in by_row.values())]
    rows = []
    for row, scores in by_row.items():
        here = summary.rows[row].scores
        cells = []
        for name in columns:
            cells += [printed.said(scores.get(keys[name])), f"{here[name].mean:.4f}" if name in here else EMPTY]
        rows.append((row, *cells))
    notes = [] if printed.note is None else [printed.note]
    for row, scores in by_row.items():
        formula = printed.contradicted(scores)
        if formula is not None:
            notes.append(
                f"{row}: the printed scores of the tasks give an overall of {formula:.4f}, and the printed overall is "
                f"{printed.said(scores[OVERALL])}."
            )
    return TextTable(
        "printed-scores",
        f"Scores on dev: printed by {printed.source}, and here",
        ("row", *(f"{name} ({where})" for name in columns for where in ("printed", "here"))),
        tuple(rows),
        tuple(notes),
    )


def held_out_table(results: Results, summary: Summary, test: HeldOutScores) -> TextTable:
    """Returns a table with the test scores of one recipe of a study, and with a paper's test scores for this recipe."""
    printed = results.outline.printed
    theirs = {} if printed is None else printed.test.get(test.row, {})
    keys = _printed_keys(results, summary)
    heads, cells = [], []
    for name, score in test.scores.items():
        if printed is not None and keys.get(name) in theirs:
            heads.append(f"{name} (printed)")
            cells.append(printed.said(theirs[keys[name]]))
        heads.append(name)
        cells.append(_score(score.mean, score.sd, score.interval))
    notes = (
        "Mean ± standard deviation over seeds [95% interval]. The row was scored once, on files that no run had seen."
    )
    return TextTable(
        "test",
        "Scores on test",
        ("row", "seeds", *heads),
        ((test.row, str(test.seeds), *cells),),
        (notes, *([f"printed: by {printed.source}."] if printed is not None and theirs else [])),
    )


def _printed_keys(results: Results, summary: Summary) -> dict[str, str]:
    """Returns a dict from a score's name in the study, such as ``sts``, to its key in :class:`Printed`."""
    return {name: f"{name}.{results.dev[name].metric}" if name in results.dev else name for name in _scores_of(summary)}


def _scores_of(summary: Summary) -> list[str]:
    return [name for name in summary.baseline if any(name in row.scores for row in summary.rows.values())]


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.4f}"


def _estimated(estimate: Estimate | None) -> NumberCell:
    if estimate is None:
        return NumberCell(EMPTY, {})
    return _score(estimate.mean, estimate.sd if estimate.seeds > 1 else None, estimate.interval)


def _score(mean: float, sd: float | None, interval: tuple[float, float] | None) -> NumberCell:
    spread = {} if sd is None else {"sd": f"{sd:.4f}"}
    text = f"{mean:.4f}{'' if sd is None else f' ± {sd:.4f}'} {interval_text(interval, '{:.4f}'.format)}"
    return NumberCell(text, {"": f"{mean:.4f}", **spread, **_ends(interval)})


def _ends(interval: tuple[float, float] | None) -> dict[str, str]:
    return {} if interval is None else {"low": f"{interval[0]:.4f}", "high": f"{interval[1]:.4f}"}


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return EMPTY
    star = "" if comparison.verdict == "unclear" else "*"
    mean, interval = comparison.difference.mean, comparison.difference.interval
    ends = interval_text(interval, "{:+.4f}".format)
    text = f"{mean:+.4f} {ends} p {p_value(comparison.corrected)}{star}"
    return NumberCell(text, {"": f"{mean:.4f}", **_ends(interval), "p": f"{comparison.corrected:.4g}"})


def p_value(p: float) -> str:
    """Returns a p-value as text with three decimal places; values below 0.001 become ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
