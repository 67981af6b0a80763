"""The charts of a study: what is drawn, and from which numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_report

from mtbert.batch import Example, Examples
from mtbert.storage.predictions import Predicted
from mtbert.studying import figures, learning
from mtbert.studying.charts import WINDOWS, Chart, Matrix, windows
from mtbert.studying.drawing import figure_of, write_figure
from mtbert.studying.errors import Errors, Judged
from mtbert.studying.reliability import reliability_charts
from mtbert.studying.results import EndedRun, Results
from mtbert.studying.summary import summarise
from mtbert.studying.tables import data_table
from mtbert.task import Head

recipe = toy_report.recipe
results = toy_report.results
page = toy_report.page


def charts_of(results: Results) -> list[Chart]:
    return figures.study_charts(results, summarise(results), Errors(results))


def test_a_dollar_in_a_name_is_a_dollar(results: Results, tmp_path: Path):
    dev = results.dev["sst"]
    task = dev.task.model_copy(update={"labels": ("$x_$", "$5-$10", "b", "c", r"$\frac{$")})
    odd = replace(results, dev=results.dev | {"sst": replace(dev, task=task)})
    for chart in charts_of(odd):
        write_figure(chart, tmp_path)
    assert (tmp_path / "confusion-sst.svg").exists()


def test_losses_of_a_step_are_summed_by_task_and_averaged_in_windows(results: Results):
    run = replace(
        results.runs["plain"][0],
        steps=[
            {"step": 1, "losses": {"sst.ce": 1.0, "sst.oll": 0.5, "sst2.ce": 9.0}},
            {"step": 2, "losses": {"sts.mse": 7.0}},
            {"step": 3, "losses": {"sst.ce": 2.0}},
            {"step": 3, "evaluation": {}},
        ],
    )
    assert learning._losses(run, "sst") == [(1, 1.5), (3, 2.0)]
    x_W, y_W = windows([(step, float(step)) for step in range(1, 2 * WINDOWS + 1)])
    assert len(x_W) == WINDOWS
    assert (x_W[0], y_W[-1]) == (1.5, 2 * WINDOWS - 0.5)


def test_dev_scores_are_drawn_where_dev_was_scored_on_the_way(results: Results):
    def scored(step: int, sst: float) -> dict[str, Any]:
        found = {name: {"metrics": {d.metric: sst}} for name, d in results.dev.items()}
        return {"step": step, "evaluation": found}

    on_the_way = {
        row: {seed: replace(run, steps=[*run.steps, scored(100, 0.25), scored(200, 0.75)]) for seed, run in by.items()}
        for row, by in results.runs.items()
    }
    summary = summarise(results)
    assert [chart.name for chart in learning.learning(results, summary)] == ["losses"]
    drawn = list(learning.learning(replace(results, runs=on_the_way), summary))
    assert [chart.name for chart in drawn] == ["learning", "losses"]
    assert drawn[0].legend == ("plain", "strong", "same")
    panel = drawn[0].panels[0]
    assert [(c.name, c.style) for c in panel.curves][2:4] == [("plain, seed 2", 0), ("strong, seed 0", 1)]
    assert (list(panel.curves[0].x_P), list(panel.curves[0].y_P)) == ([100, 200], [0.25, 0.75])
    assert panel.level == ("the best constant answer", summary.baseline["sst"])


def test_a_single_run_shows_each_loss_of_a_task_and_its_learning_rate(results: Results):
    steps = [{"step": n, "losses": {"sst.ce": n / 4, "sst.oll": 1.0}, "lr": n / 8, "grad_norm": 2.0} for n in (1, 2)]
    run = replace(results.runs["plain"][0], steps=steps)
    outline = results.outline.model_copy(update={"rows": {"plain": None}, "seeds": (0,)})
    one = replace(results, outline=outline, runs={"plain": {0: run}})
    losses, steps_taken = (next(draw(one, summarise(one))) for draw in (learning.learning, learning.step_sizes))
    ((ce, oll),) = (panel.curves for panel in losses.panels)
    assert (ce.name, list(ce.y_P), oll.name, list(oll.y_P)) == ("ce", [0.25, 0.5], "oll", [1, 1])
    assert [list(panel.curves[0].y_P) for panel in steps_taken.panels] == [[0.125, 0.25], [2, 2]]


def test_intervals_of_the_effects_are_those_of_the_summary(results: Results):
    summary = summarise(results)
    (drawn,) = figures.effects(results, summary)
    assert [panel.title for panel in drawn.panels] == ["overall", "sst", "quora", "sts"]
    lines = drawn.panels[0].lines
    assert [(line.name, line.verdict) for line in lines] == [("strong", "better"), ("same", "unclear")]
    for line in lines:
        found = summary.comparisons["control"][line.name]["overall"].difference
        assert (line.value, line.interval) == (found.mean, found.interval)
    axes = figure_of(drawn).axes[0]
    assert list(axes.lines[1].get_xdata()) == list(lines[0].interval or ())
    assert (axes.lines[2].get_marker(), axes.lines[4].get_marker()) == ("^", "o")


def test_rows_with_other_deciding_scores_stand_together_with_the_name_of_the_score(results: Results):
    summary = summarise(results)
    of = summary.comparisons["reference"]
    compared = {"strong": {"sst": of["strong"]["sst"]}, "same": {"overall": of["same"]["overall"]}}
    (drawn,) = figures.effects(results, replace(summary, comparisons={"control": {}, "reference": compared}))
    assert [panel.title for panel in drawn.panels] == ["the deciding score"]  # no panel repeats a line of another
    assert {line.name for line in drawn.panels[0].lines} == {"strong (sst)", "same (overall)"}
    assert drawn.title == "How the recipes differ from plain"


def test_a_single_recipe_is_drawn_beside_the_best_constant_answers(results: Results):
    outline = results.outline.model_copy(update={"rows": {"plain": None}})
    one = replace(results, outline=outline, runs={"plain": results.runs["plain"]})
    summary = summarise(one)
    (drawn,) = figures.dev_scores(one, summary)
    assert [(line.name, line.beside) for line in drawn.panels[0].lines] == [
        (name, summary.baseline[name]) for name in ("overall", "sst", "quora", "sts")
    ]


def test_errors_by_words_in_common_have_a_line_for_each_row(results: Results):
    errors = Errors(results)
    errors.overlap = {"quora": np.array([0.0, 0.1, 1.0])}
    judged = [Judged(*(np.array(x, np.float64) for x in ([0, 0, 0],) * 4), np.array([True, False, True]))]
    errors.judged["quora"] = {"strong": judged}
    ((panel,),) = (chart.panels for chart in figures.overlaps(results, summarise(results), errors))
    (curve,) = panel.curves
    assert (list(curve.x_P), list(curve.y_P), curve.more) == ([0, 4], [0.5, 1.0], ("2 examples", "1 examples"))
    assert panel.names == ("0–20%", "20–40%", "40–60%", "60–80%", "80–100%")


def test_conflict_is_drawn_from_cosines_alone(results: Results):
    run = results.runs["strong"][0]
    logged = [(line["step"], line["diagnostics"]["cos(a, b)"]) for line in run.steps if "diagnostics" in line]
    assert len(logged) > 1
    assert learning._cosines(run) == {"cos(a, b)": logged}
    assert learning._cosines(results.runs["plain"][0]) == {}
    (drawn,) = learning.conflict(results, summarise(results))
    ((panel,), (curve,)) = (drawn.panels, drawn.panels[0].curves)
    assert list(curve.y_P) == pytest.approx(windows(logged)[1])
    assert panel.level == ("no conflict", 0.0)


def test_a_confusion_matrix_is_shares_of_each_label(results: Results):
    d = replace(
        results.dev["quora"],
        examples=Examples.of(Example(str(i), ("a", "b"), label) for i, label in enumerate([0, 0, 0, 1])),
    )
    run = replace(results.runs["plain"][0], predicted={"quora": Predicted(torch.zeros(4), torch.tensor([0, 1, 1, 1]))})
    results = replace(results, dev={"quora": d}, runs={"plain": {0: run, 1: run}})
    (chart,) = figures.confusion_matrices(results, summarise(results))
    (matrix,) = chart.panels
    assert isinstance(matrix, Matrix)
    assert matrix.shares_KK == pytest.approx(np.array([[1 / 3, 2 / 3], [0, 1]]))


def test_of_many_labels_a_confusion_matrix_has_those_with_the_most_errors():
    counts_KK = np.diag(np.full(200, 5.0))
    for k in range(15):
        counts_KK[k, 100 + k] = 2 + k
    counts_KK[60, 61] = 1
    assert figures._most_confused(counts_KK) == [*range(15), *range(100, 115)]
    assert figures._most_confused(counts_KK[:3, :3]) == [0, 1, 2]


def test_every_figure_exists_in_both_formats(page: Path):
    names = {p.stem for p in (page.parent / "figures").iterdir()}
    assert names == {
        *("effects", "scores", "losses", "conflict", "sampling", "overlap"),
        *("confusion-sst", "confusion-quora", "similarity-sts"),
        *("reliability-sst", "reliability-quora"),
    }
    assert len(list((page.parent / "figures").iterdir())) == 2 * len(names)


def test_the_reliability_shows_each_row_before_and_after_its_calibration(results: Results):
    def halved(run: EndedRun) -> EndedRun:
        quora = run.predicted["quora"]
        return replace(run, predicted=run.predicted | {"quora": replace(quora, calibrated=quora.prediction / 2)})

    strong = {seed: halved(run) for seed, run in results.runs["strong"].items()}
    calibrated = replace(results, runs=results.runs | {"strong": strong})
    drawn = {one.name: one for one in reliability_charts(calibrated, summarise(calibrated))}
    assert set(drawn) == {"reliability-sst", "reliability-quora"}  # scores have no probabilities
    plain, both = drawn["reliability-quora"].panels
    assert (plain.title, both.title) == ("plain", "strong")
    assert [len(panel.curves) for panel in (plain, both)] == [1, 2]
    labels = results.dev["quora"].labels
    raw = np.concatenate([run.predicted["quora"].prediction.numpy() for run in strong.values()])
    for line, scale, name in zip(both.curves, (1, 0.5), ("before", "after"), strict=True):
        p = 1 / (1 + np.exp(-np.abs(scale * raw.astype(float))))
        right = (raw > 0) == np.tile(labels, 3)
        bins = np.ceil(p * 15).astype(int)
        means = [(p[bins == b].mean(), right[bins == b].mean()) for b in np.unique(bins)]
        assert np.column_stack([line.x_P, line.y_P]) == pytest.approx(np.array(means), abs=1e-6)
        error = sum((bins == b).mean() * abs(p[bins == b].mean() - right[bins == b].mean()) for b in np.unique(bins))
        assert line.name == f"{name} calibration, ece {error:.3f}"


def with_cosines(results: Results, *rows: str) -> Results:
    """Returns the results as if the given recipes of the study answered quora by a cosine."""
    runs = dict(results.runs)
    for row in rows:
        for seed, run in runs[row].items():
            quora = run.recipe.tasks["quora"].model_copy(update={"inputs": "separate", "head": Head(kind="cosine")})
            recipe = run.recipe.model_copy(update={"tasks": run.recipe.tasks | {"quora": quora}})
            runs[row] = runs[row] | {seed: replace(run, recipe=recipe)}
    return replace(results, runs=runs)


def test_a_row_of_cosines_is_said_to_give_no_probabilities(results: Results):
    mixed = with_cosines(results, "strong")
    drawn = {one.name: one for one in reliability_charts(mixed, summarise(results))}
    assert drawn["reliability-quora"].alt.endswith("for more answers. strong gives no probabilities.")
    assert drawn["reliability-sst"].alt.endswith("for more answers.")
    assert data_table(mixed).notes == ()


def test_a_task_that_only_cosines_answer_is_said_to_have_no_reliability_picture(results: Results):
    cosines = with_cosines(results, *results.runs)
    assert {one.name for one in reliability_charts(cosines, summarise(results))} == {"reliability-sst"}
    assert data_table(cosines).notes == (
        "no probabilities: quora. The head gives a cosine, so their measures and the reliability picture are "
        "missing. Use head: linear for them.",
    )


def test_sampling_is_drawn_only_where_steps_take_one_task(results: Results):
    assert set(learning._taken(results.runs["plain"][0])) == set(results.dev)
    assert learning._taken(results.runs["strong"][0]) == {}
