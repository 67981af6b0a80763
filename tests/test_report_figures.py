"""The figures of a study: what is drawn, and from which numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_report

from mtbert.batch import Example, Examples
from mtbert.storage.predictions import Predicted
from mtbert.studying import figures
from mtbert.studying.reliability import reliability_pictures
from mtbert.studying.results import EndedRun, Results
from mtbert.studying.summary import summarise
from mtbert.studying.tables import data_table
from mtbert.task import Head

recipe = toy_report.recipe
results = toy_report.results
page = toy_report.page


def test_a_dollar_in_a_name_is_a_dollar(results: Results, tmp_path: Path):
    dev = results.dev["sst"]
    task = dev.task.model_copy(update={"labels": ("$x_$", "$5-$10", "b", "c", r"$\frac{$")})
    odd = replace(results, dev=results.dev | {"sst": replace(dev, task=task)})
    for drawn in figures.study_figures(odd, summarise(odd)):
        drawn.write(tmp_path)
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
    assert figures._losses(run, "sst") == [(1, 1.5), (3, 2.0)]
    x_W, y_W = figures._windows([(step, float(step)) for step in range(1, 2 * figures.WINDOWS + 1)])
    assert len(x_W) == figures.WINDOWS
    assert (x_W[0], y_W[-1]) == (1.5, 2 * figures.WINDOWS - 0.5)


def test_dev_scores_are_drawn_where_dev_was_scored_on_the_way(results: Results):
    def scored(step: int, sst: float) -> dict[str, Any]:
        found = {name: {"metrics": {d.metric: sst}} for name, d in results.dev.items()}
        return {"step": step, "evaluation": found}

    on_the_way = {
        row: {seed: replace(run, steps=[*run.steps, scored(100, 0.25), scored(200, 0.75)]) for seed, run in by.items()}
        for row, by in results.runs.items()
    }
    summary = summarise(results)
    assert [d.name for d in figures.learning(results, summary)] == ["losses"]
    drawn = list(figures.learning(replace(results, runs=on_the_way), summary))
    assert [d.name for d in drawn] == ["losses", "learning"]
    line = drawn[1].figure.axes[0].lines[1]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([100, 200], [0.25, 0.75])


def test_intervals_of_the_ablation_are_those_of_the_summary(results: Results):
    summary = summarise(results)
    (drawn,) = figures.ablation(results, summary)
    overall = drawn.figure.axes[0]
    assert overall.get_title() == "overall"
    assert [label.get_text() for label in overall.get_yticklabels()] == ["strong − plain", "same − plain"]
    low, high = summary.comparisons["control"]["strong"]["overall"].difference.interval
    assert list(overall.lines[1].get_xdata()) == [low, high]
    assert overall.lines[2].get_marker() == "^"
    assert overall.lines[4].get_marker() == "o"


def test_conflict_is_drawn_from_cosines_alone(results: Results):
    run = results.runs["strong"][0]
    logged = [(line["step"], line["diagnostics"]["cos(a, b)"]) for line in run.steps if "diagnostics" in line]
    assert len(logged) > 1
    assert figures._cosines(run) == {"cos(a, b)": logged}
    assert figures._cosines(results.runs["plain"][0]) == {}
    (drawn,) = figures.conflict(results, summarise(results))
    (ax,) = [ax for ax in drawn.figure.axes if ax.axison]
    curve, zero = ax.lines
    assert list(curve.get_ydata()) == pytest.approx(figures._windows(logged)[1])
    assert list(zero.get_ydata()) == [0, 0]


def test_a_confusion_matrix_is_shares_of_each_label(results: Results):
    d = replace(
        results.dev["quora"],
        examples=Examples.of(Example(str(i), ("a", "b"), label) for i, label in enumerate([0, 0, 0, 1])),
    )
    run = replace(results.runs["plain"][0], predicted={"quora": Predicted(torch.zeros(4), torch.tensor([0, 1, 1, 1]))})
    assert figures._confusion(d, run) == pytest.approx(np.array([[1 / 3, 2 / 3], [0, 1]]))


def test_every_figure_exists_in_both_formats(page: Path):
    names = {p.stem for p in (page.parent / "figures").iterdir()}
    assert names == {
        *("ablation", "losses", "conflict", "sampling"),
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
    drawn = {one.name: one for one in reliability_pictures(calibrated, summarise(calibrated))}
    assert set(drawn) == {"reliability-sst", "reliability-quora"}  # scores have no probabilities
    plain, both = drawn["reliability-quora"].figure.axes
    assert (plain.get_title(), both.get_title()) == ("plain", "strong")
    assert [len(ax.lines) for ax in (plain, both)] == [2, 3]  # with the diagonal
    labels = results.dev["quora"].labels
    raw = np.concatenate([run.predicted["quora"].prediction.numpy() for run in strong.values()])
    for line, scale, name in zip(both.lines[1:], (1, 0.5), ("before", "after"), strict=True):
        p = 1 / (1 + np.exp(-np.abs(scale * raw.astype(float))))
        right = (raw > 0) == np.tile(labels, 3)
        bins = np.ceil(p * 15).astype(int)
        means = [(p[bins == b].mean(), right[bins == b].mean()) for b in np.unique(bins)]
        assert np.column_stack([line.get_xdata(), line.get_ydata()]) == pytest.approx(np.array(means), abs=1e-6)
        error = sum((bins == b).mean() * abs(p[bins == b].mean() - right[bins == b].mean()) for b in np.unique(bins))
        assert line.get_label() == f"{name} calibration, ece {error:.3f}"


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
    drawn = {one.name: one for one in reliability_pictures(mixed, summarise(results))}
    assert drawn["reliability-quora"].alt.endswith("the model is too sure. strong gives no probabilities.")
    assert drawn["reliability-sst"].alt.endswith("the model is too sure.")
    assert data_table(mixed).notes == ()


def test_a_task_that_only_cosines_answer_is_said_to_have_no_reliability_picture(results: Results):
    cosines = with_cosines(results, *results.runs)
    assert {one.name for one in reliability_pictures(cosines, summarise(results))} == {"reliability-sst"}
    assert data_table(cosines).notes == (
        "no probabilities: quora. The head gives a cosine, so their measures and the reliability picture are "
        "missing. Use head: linear for them.",
    )


def test_sampling_is_drawn_only_where_steps_take_one_task(results: Results):
    assert set(figures._taken(results.runs["plain"][0])) == set(results.dev)
    assert figures._taken(results.runs["strong"][0]) == {}
