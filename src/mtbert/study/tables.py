"""The tables of a study: its rows with intervals and tests, and the paper's tables beside its printed numbers."""

from collections.abc import Sequence

from mtbert.study import published
from mtbert.study.held_out_scores import HeldOutScores
from mtbert.study.results import Results
from mtbert.study.statistics import Estimate
from mtbert.study.summary import OVERALL, Against, Comparison, Summary
from mtbert.study.text_table import EMPTY, TextTable


def study_tables(results: Results, summary: Summary, test: HeldOutScores | None = None) -> list[TextTable]:
    """All that fit the study; those of the paper where it has their rows, and what ``test`` recorded."""
    against: list[Against] = [other for other in ("control", "reference") if summary.comparisons[other]]
    if summary.comparisons["control"] == summary.comparisons["reference"]:
        against = against[:1]  # one table: each row's control is the reference
    return [
        data_table(results),
        dev_score_table(results, summary),
        *(difference_table(results, summary, other) for other in against),
        *([paper_data(results)] if any(_of_paper(results, number) for number in (2, 3, 4)) else []),
        *(paper(results, summary, number) for number in (2, 3, 4) if _of_paper(results, number)),
        *([on_test(results, test)] if test is not None else []),
    ]


def data_table(results: Results) -> TextTable:
    """How large the data are and what is in them."""
    rows = []
    for name, dev in results.dev.items():
        labels = ", ".join(dev.task.labels) if dev.task.labels else "{:g} to {:g}".format(*(dev.task.range or (0, 1)))
        rows.append((name, dev.task.type, dev.metric, labels, f"{dev.train:,}", f"{len(dev.examples):,}"))
    return TextTable("data", "Data", ("task", "type", "metric", "labels", "train", "dev"), tuple(rows))


def dev_score_table(results: Results, summary: Summary) -> TextTable:
    """Mean, standard deviation over seeds and 95% interval of each row and score."""
    columns = _scores_of(summary)
    rows = [("best constant", "", *(f"{summary.baseline[c]:.4f}" for c in columns))]
    for name, scored in summary.rows.items():
        cells = []
        for column in columns:
            told = _estimated(scored.scores.get(column))
            collapsed = scored.collapsed.get(column, 0)
            cells.append(told + (f" collapsed {collapsed}/{len(results.runs[name])}" if collapsed else ""))
        rows.append((name, str(len(results.runs[name])), *cells))
    return TextTable(
        "scores",
        "Scores on dev",
        ("row", "seeds", *columns),
        tuple(rows),
        (
            "Mean ± standard deviation over seeds [95% interval over seeds and examples; over examples alone for one "
            "seed]. collapsed: the answers are nearly all the same in so many of the seeds. Each run is scored with "
            "the model that predicts: the best on dev of its evaluations.",
        ),
    )


def run_table(results: Results, summary: Summary) -> TextTable:
    """The scores of each run, for statistics of one's own."""
    columns = _scores_of(summary)
    rows = [
        (row, str(seed), *(_number(of_seed.get(column)) for column in columns))
        for row, by_seed in results.runs.items()
        for seed, of_seed in zip(by_seed, summary.rows[row].by_seed, strict=True)
    ]
    return TextTable("runs", "Every run", ("row", "seed", *columns), tuple(rows))


def difference_table(results: Results, summary: Summary, against: Against) -> TextTable:
    """The difference of each row from its control, or from the reference, with what the study could have seen."""
    columns = [c for c in _scores_of(summary) if any(c in by for by in summary.comparisons[against].values())]
    rows = []
    for name, by_score in summary.comparisons[against].items():
        one = next(iter(by_score.values()))
        cells = (_difference(by_score.get(column)) for column in columns)
        rows.append((name, one.other + summary.collapse_mark(one.other), str(one.difference.seeds), *cells))
    least = [summary.detectable(against, column) for column in columns]
    rows.append(("detectable", "", "", *(EMPTY if x is None else f"{x:.4f}" for x in least)))
    return TextTable(
        f"against-{against}",
        "Each row less its control" if against == "control" else f"Each row less {results.outline.reference}",
        ("row", "less", "seeds", *columns),
        tuple(rows),
        (
            "Difference [95% interval over seeds and examples; over examples alone for one seed], p by Holm over the "
            "rows; * below 0.05. Paired by seed and by example. An interval is of one comparison, so it can leave out "
            "0 where p is above 0.05. For one seed p of an accuracy is McNemar's, and tells two runs apart, not two "
            "techniques. detectable: the true difference that the median row would be found with, four times in five.",
        ),
    )


def paper_data(results: Results) -> TextTable:
    """The paper's table 1: how many rows its data have, beside ours."""
    rows = [
        (name, f"{its.train:,}", f"{dev.train:,}", f"{its.dev:,}", f"{len(dev.examples):,}", f"{its.test:,}")
        for name, dev in results.dev.items()
        if (its := published.SIZES.get(name)) is not None
    ]
    heads = ("train (paper)", "train (ours)", "dev (paper)", "dev (ours)", "test (paper)")
    return TextTable("paper-table-1", published.TITLES[1], ("task", *heads), tuple(rows))


def paper(results: Results, summary: Summary, number: int) -> TextTable:
    """One of the paper's tables: its printed numbers beside ours."""
    found = _of_paper(results, number)
    columns = [c for c in _scores_of(summary) if any(c in scores for _, scores in found)]
    rows = []
    for name, scores in found:
        ours = summary.rows[name].scores
        cells = []
        for column in columns:
            cells += [f"{scores[column]:.3f}" if column in scores else EMPTY]
            cells += [f"{ours[column].mean:.4f}" if column in ours else EMPTY]
        rows.append((name, *cells))
    heads = [head for column in columns for head in (f"{column} (paper)", f"{column} (ours)")]
    return TextTable(
        f"paper-table-{number}",
        published.TITLES[number],
        ("row", *heads),
        tuple(rows),
        ("The paper's are single runs of BERT-base on its own split of Quora.", *_contradictions(found)),
    )


def _contradictions(found: Sequence[tuple[str, published.Scores]]) -> tuple[str, ...]:
    """A note on the rows whose printed overall the paper's own formula does not give."""
    told = [
        f"{formula:.4f} for {name}, where it prints {scores[OVERALL]:.3f}"
        for name, scores in found
        if (formula := published.contradicted(scores)) is not None
    ]
    return (
        (f"From the scores that the paper prints, its formula for overall gives {', and '.join(told)}.",)
        if told
        else ()
    )


def on_test(results: Results, test: HeldOutScores) -> TextTable:
    """The paper's table 5: the row that was chosen for it, and what the paper prints of it if it is the paper's."""
    its = published.ROWS[5].get(results.outline.sources.get(test.row, ""), {})
    cells = []
    for name, score in test.scores.items():
        cells += [f"{its[name]:.3f}" if name in its else EMPTY, _told(score.mean, score.sd, score.interval)]
    heads = [head for name in test.scores for head in (f"{name} (paper)", f"{name} (ours)")]
    return TextTable(
        "paper-table-5",
        published.TITLES[5],
        ("row", "seeds", *heads),
        ((test.row, str(test.seeds), *cells),),
        ("Scored once, on files that nothing was chosen by. Mean ± standard deviation over seeds [95% interval].",),
    )


def _of_paper(results: Results, number: int) -> list[tuple[str, published.Scores]]:
    """The rows of one of the paper's tables that the study has, with what the paper prints."""
    return [
        (row, scores)
        for source, scores in published.ROWS[number].items()
        for row, of_row in results.outline.sources.items()
        if of_row == source and row in results.runs
    ]


def _scores_of(summary: Summary) -> list[str]:
    return [name for name in summary.baseline if any(name in row.scores for row in summary.rows.values())]


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.4f}"


def _estimated(estimate: Estimate | None) -> str:
    if estimate is None:
        return EMPTY
    return _told(estimate.mean, estimate.sd if estimate.seeds > 1 else None, estimate.interval)


def _told(mean: float, sd: float | None, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{mean:.4f}" + ("" if sd is None else f" ± {sd:.4f}") + f" [{low:.4f}, {high:.4f}]"


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return EMPTY
    low, high = comparison.difference.interval
    star = "" if comparison.verdict == "cannot be told apart" else "*"
    return f"{comparison.difference.mean:+.4f} [{low:+.4f}, {high:+.4f}] p {p_value(comparison.corrected)}{star}"


def p_value(p: float) -> str:
    """For people."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
