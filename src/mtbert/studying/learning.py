"""Charts of how training went, for a study or a single run, drawn from the logs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtbert.studying.charts import Chart, Curve, Curves, windows
from mtbert.studying.results import EndedRun, Results
from mtbert.studying.summary import Summary
from mtbert.studying.text_table import if_seeds

Points = Sequence[tuple[float, float]]  # step and value


def learning(results: Results, summary: Summary) -> Iterator[Chart]:
    """Draws a chart of dev scores and a chart of training losses, both over the steps of training.

    The chart of dev scores has only tasks that a run has scored more than once.
    """
    legend = tuple(results.runs) if len(results.runs) > 1 else ()
    panels = []
    for task, dev in results.dev.items():
        curves = [
            _curve(
                results, run, [(step, s[task]["metrics"][dev.metric]) for step, s in _scored(run) if task in s], "marks"
            )
            for run in _every(results)
        ]
        if any(len(curve.x_P) > 1 for curve in curves):
            level = ("the best constant answer", summary.baseline[task])
            shown = tuple(curve for curve in curves if len(curve.x_P))
            panels.append(Curves(f"{task}: {dev.metric}", "step", dev.metric, shown, level))
    if panels:
        alt = "The score of each task at every evaluation on dev"
        alt += ", with a line for each run. " if len(_every(results)) > 1 else ". "
        yield Chart(
            "learning",
            "Dev scores over training",
            alt + "The grey line is the score of the best constant answer.",
            "training",
            panels,
            legend,
        )
    panels = []
    for task in dict.fromkeys(task for run in _every(results) for task in run.recipe.tasks):
        curves = [c for run in _every(results) for c in _loss_curves(results, run, task) if len(c.x_P)]
        if curves:
            panels.append(Curves(task, "step", "loss", tuple(curves)))
    if panels:
        line = "run" if len(_every(results)) > 1 else "loss"
        alt = f"The losses of each task over training, averaged in windows of steps, with a line for each {line}."
        yield Chart("losses", "Training losses", alt, "training", panels, legend)


def _loss_curves(results: Results, run: EndedRun, task: str) -> list[Curve]:
    """Returns curves of a task's losses over the steps of ``run``.

    If ``results`` contains only this run, there is a curve for each loss. Otherwise, one curve shows the sum of the
    losses.
    """
    if len(results.runs) > 1 or len(results.runs[run.row]) > 1:
        return [_curve(results, run, _losses(run, task))]
    kinds = dict.fromkeys(k for line in run.steps for k in line.get("losses", {}) if k.rpartition(".")[0] == task)
    found = []
    for style, kind in enumerate(kinds):
        steps = [(line["step"], line["losses"][kind]) for line in run.steps if kind in line.get("losses", {})]
        found.append(Curve(kind.rpartition(".")[2], *windows(steps), style))
    return found


def step_sizes(results: Results, summary: Summary) -> Iterator[Chart]:
    """Draws the learning rate and the norm of the gradient over training, for the first seed of each recipe."""
    legend = tuple(results.runs) if len(results.runs) > 1 else ()
    panels = []
    for key, title in (("lr", "learning rate"), ("grad_norm", "norm of the gradient")):
        curves = [
            _curve(results, run, [(line["step"], line[key]) for line in run.steps if key in line])
            for run in map(_first, results.runs.values())
        ]
        if any(len(curve.x_P) for curve in curves):
            panels.append(Curves(title, "step", title, tuple(curve for curve in curves if len(curve.x_P))))
    if panels:
        alt = "The learning rate of each step, and the norm of its gradient before clipping"
        alt += f"{_first_seeds(results)}."
        yield Chart("steps", "Learning rate and gradient", alt, "training", panels, legend)


def conflict(results: Results, summary: Summary) -> Iterator[Chart]:
    """Draws how the cosine between the gradients of two tasks changes during training, if the runs logged it."""
    cosines = {row: found for row, by_seed in results.runs.items() if (found := _cosines(_first(by_seed)))}
    if cosines:
        alt = f"The cosine between the gradients of two tasks{_first_seeds(results)}. Below 0 they conflict."
        panels = [_by_name(row, "cosine", found, ("no conflict", 0.0)) for row, found in cosines.items()]
        yield Chart("conflict", "Gradient conflict over time", alt, "training", panels)


def sampling(results: Results, summary: Summary) -> Iterator[Chart]:
    """Plots, for each task, the share of the steps that trained it. Runs whose steps train all tasks have no plot."""
    shares = {row: found for row, by_seed in results.runs.items() if (found := _taken(_first(by_seed)))}
    if shares:
        alt = f"The share of the steps that trained each task{_first_seeds(results)}."
        panels = [_by_name(row, "share of the steps", found, None, (-0.03, 1.03)) for row, found in shares.items()]
        yield Chart("sampling", "Task sampling over time", alt, "training", panels)


def _by_name(
    title: str,
    y: str,
    points: Mapping[str, Points],
    level: tuple[str, float] | None,
    up: tuple[float, float] | None = None,
) -> Curves:
    curves = tuple(Curve(name, *windows(found), i) for i, (name, found) in enumerate(points.items()))
    return Curves(title, "step", y, curves, level, up=up)


def _first_seeds(results: Results) -> str:
    return if_seeds(results.runs, ", in the first seed of each recipe")


def _every(results: Results) -> list[EndedRun]:
    return [run for by_seed in results.runs.values() for run in by_seed.values()]


def _curve(results: Results, run: EndedRun, points: Points, form: Any = "line") -> Curve:
    name = f"seed {run.seed}" if len(results.runs) == 1 else f"{run.row}, seed {run.seed}"
    return Curve(name, *windows(points), list(results.runs).index(run.row), form)


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


def _first(by_seed: Mapping[int, EndedRun]) -> EndedRun:
    return next(iter(by_seed.values()))
