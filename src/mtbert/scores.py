"""The scores of a model on its tasks, and the table that shows them on a terminal or in a notebook."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.table import Column, Table
from rich.text import Text

from mtbert.advice import command_line
from mtbert.messages import recorded_html, recorder, warn
from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation

FEW_ANSWERS = 10  # fewer equal answers than this are no sign of a collapse


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Mapping[str, Mapping[str, float]]):
    """The metrics of each task, as in ``scores["reviews"]["accuracy"]``. A notebook shows them as a table.

    Attributes:
        recipe: The recipe of the run. It names the main metric of each task.
        evaluations: The evaluation of each task: its metrics, the metrics of the best constant answer, and the number
            of examples.
        title: The title of the table: which model was scored, and on what data.
        warnings: Reasons to doubt the scores, such as dropped rows; one line each.
    """

    recipe: Recipe
    evaluations: Mapping[str, Evaluation]
    title: str
    warnings: tuple[str, ...] = ()

    @property
    def overall(self) -> float:
        """The mean of the main metrics of all tasks, after each metric is mapped to the range from 0 to 1."""
        return self.recipe.aggregate("overall", {name: one.metrics for name, one in self.evaluations.items()})

    @property
    def constant(self) -> dict[str, dict[str, float]]:
        """For each task, the metrics of the best constant answer. A model that has learnt something scores higher."""
        return {name: dict(one.baseline) for name, one in self.evaluations.items()}

    def __getitem__(self, task: str) -> Mapping[str, float]:
        return self.evaluations[task].metrics

    def __iter__(self) -> Iterator[str]:
        return iter(self.evaluations)

    def __len__(self) -> int:
        return len(self.evaluations)

    def __repr__(self) -> str:
        console = recorder()
        console.print(self._table())
        for line in self.warnings:
            warn(console, line)
        return console.export_text().rstrip()

    def _repr_html_(self) -> str:
        # Without the warnings: the call that made these scores has shown them in the notebook.
        console = recorder()
        console.print(self._table())
        return recorded_html(console)

    def _table(self) -> Table:
        return score_table(self.recipe, self.evaluations, self.title)


def _doubts(recipe: Recipe, scores: Mapping[str, Evaluation]) -> list[str]:
    """Returns a line for each task whose answers are nearly constant, or worse than the best constant answer."""
    found = []
    for name, score in scores.items():
        metric = recipe.tasks[name].metric
        if score.collapsed and score.examples >= FEW_ANSWERS:
            found.append(f"{name} has collapsed: nearly all of its answers are the same.")
        elif score.metrics[metric] < score.baseline[metric]:
            found.append(f"{name} is below the constant: always giving the same answer has a better {metric}.")
    return found


def _calibrated(scores: Mapping[str, Evaluation]) -> list[str]:
    """Returns a heading, followed by a line for each calibrated task. If no task is calibrated, the list is empty.

    The line of a task gives the measures of its probabilities, such as ``nll``, before and after calibration.
    """
    found = []
    for name, score in scores.items():
        changes = (f"{key} {before:.4f} to {score.metrics[key]:.4f}" for key, before in score.uncalibrated.items())
        if score.uncalibrated:
            found.append(f"{name}: {', '.join(changes)}")
    how = "Before and after calibration, which is fitted on rows held out of train, never on dev (lower is better):"
    return [how, *found] if found else []


def score_table(
    recipe: Recipe,
    scores: Mapping[str, Evaluation],
    title: str,
    other: tuple[str, Mapping[str, Evaluation]] | None = None,
) -> Table:
    """Returns a table that shows the scores of each task beside those of the best constant answer.

    It fits into 80 columns. Lines below the table show what calibration has changed, and name the tasks whose scores
    are doubtful.

    Args:
        recipe: The recipe of the run.
        scores: The evaluation of each task.
        title: The title of the table: which model was scored, and on what data.
        other: A short name for another model, and its evaluations. They get a column of their own.
    """
    table = Table(Column("task", overflow="fold"), Column("metric", no_wrap=True), title=title)
    beside = [] if other is None else [other[1]]
    for heading in ("score", "constant", *([] if other is None else [other[0]]), "examples"):
        table.add_column(heading, justify="right")
    below = [Text("\n".join(lines)) for lines in [_calibrated(scores)] if lines]
    if doubts := _doubts(recipe, scores):
        lines = [*doubts, f"What that means: {command_line('docs', 'scores')}"]
        below.append(Text("\n".join(lines), style="yellow"))
    if below:
        table.caption, table.caption_justify = Text("\n").join(below), "left"
    for name, score in scores.items():
        chosen = recipe.tasks[name].metric
        without_constant = {metric.name for metric in recipe.tasks[name].metrics if not metric.beside_constant}
        for metric, value in score.metrics.items():
            first = metric == chosen
            table.add_row(
                name if first else "",
                metric,
                f"{value:.4f}",
                "" if metric in without_constant else f"{score.baseline[metric]:.4f}",
                *(f"{found[name].metrics[metric]:.4f}" for found in beside),
                str(score.examples) if first else "",
                style=None if first else "dim",
            )
    if len(scores) == 1:
        return table
    aggregate = recipe.aggregate("overall", {name: score.metrics for name, score in scores.items()})
    constant = recipe.aggregate("overall", {name: score.baseline for name, score in scores.items()})
    table.add_section()
    others = [recipe.aggregate("overall", {n: s.metrics for n, s in found.items()}) for found in beside]
    table.add_row(
        "overall",
        "",
        f"{aggregate:.4f}",
        f"{constant:.4f}",
        *(f"{value:.4f}" for value in others),
        "",
        style="bold",
    )
    return table
