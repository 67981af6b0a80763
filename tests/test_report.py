"""The page of a study's report: what it says, what it compares, and that texts of the data cannot become code."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_report
from scipy import stats
from toy_report import HOSTILE

from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe
from mtbert.storage.predictions import Predicted
from mtbert.studying import report, tables
from mtbert.studying.results import EndedRun, Results
from mtbert.studying.statistics import Estimate
from mtbert.studying.summary import Comparison, summarise

recipe = toy_report.recipe
results = toy_report.results
page = toy_report.page


def parts(results: Results, **tasks: str) -> Results:
    """Returns ``results`` with only the given recipes of the study, and only the given tasks of each of them.

    For example, ``plain="sst quora"`` keeps the tasks sst and quora of the recipe called ``plain``.
    """
    runs = {
        row: {
            seed: replace(run, predicted={name: run.predicted[name] for name in tasks[row].split()})
            for seed, run in by_seed.items()
        }
        for row, by_seed in results.runs.items()
        if row in tasks
    }
    rows = {row: control for row, control in results.outline.rows.items() if row in tasks}
    return replace(results, outline=results.outline.model_copy(update={"rows": rows}), runs=runs)


def controls(results: Results, **of: str | None) -> Results:
    outline = results.outline.model_copy(update={"rows": dict.fromkeys(results.outline.rows) | of})
    return replace(results, outline=outline)


def test_without_controls_rows_are_compared_with_the_reference(results: Results):
    plain = controls(results)
    assert [line["said"] for line in report._findings(summarise(plain))] == ["better", "no clear difference"]
    assert [line["row"] for line in report._findings(summarise(plain))] == ["strong", "same"]


def test_a_row_without_the_main_score_is_judged_by_its_only_common_task(results: Results):
    some = parts(results, plain="sst quora sts", strong="sst", same="quora sts")
    summary = summarise(some)
    (line,) = report._findings(summary)
    assert (line["row"], line["by"], line["main"]) == ("strong", "sst", line["tasks"][0][0])
    assert line["tasks"][1:] == [("", ""), ("", "")]  # not under the name of another task


def test_the_only_task_of_the_reference_is_the_main_score(results: Results):
    some = parts(results, plain="sst", strong="sst sts", same="sts")
    summary = summarise(some)
    assert summary.main == "sst"
    assert set(summary.comparisons["control"]) == {"strong"}  # the row "same" has no task in common with "plain"
    assert [(line["row"], line["by"]) for line in report._findings(summary)] == [("strong", "sst")]


def test_a_comparison_says_how_many_seeds_it_has(results: Results):
    runs = {row: {0: by_seed[0]} for row, by_seed in results.runs.items()}
    one = replace(results, runs=runs | {"same": results.runs["same"]})
    assert [row[2] for row in tables.difference_table(one, summarise(one), "control").rows] == ["1", "1"]


def test_a_collapsed_control_is_marked_where_a_row_is_compared_with_it(results: Results):
    def constant(run: EndedRun) -> EndedRun:
        sst = run.predicted["sst"]
        return replace(run, predicted=run.predicted | {"sst": Predicted(sst.prediction, torch.ones_like(sst.decision))})

    plain = {seed: constant(run) if seed == 1 else run for seed, run in results.runs["plain"].items()}
    summary = summarise(replace(results, runs=results.runs | {"plain": plain}))
    assert report._findings(summary)[0]["other"] == "plain (collapsed: sst)"
    compared = tables.difference_table(results, summary, "control")
    assert [row[1] for row in compared.rows] == ["plain (collapsed: sst)"] * 2


def test_rows_that_are_the_same_do_not_make_a_study_look_sharper(results: Results):
    same = replace(results, runs=results.runs | {"same": results.runs["plain"]})
    alone = parts(same, plain="sst quora sts", strong="sst quora sts")
    found, fewer = (summarise(r).comparisons["control"]["strong"]["sst"].difference for r in (same, alone))
    assert found == fewer
    assert summarise(same).detectable("control", "sst") == pytest.approx(found.detectable(0.05 / 2))


def test_seeds_are_paired_by_their_number(results: Results):
    later = {seed: results.runs["strong"][seed] for seed in (1, 2)}
    found = summarise(replace(results, runs=results.runs | {"strong": later})).comparisons["control"]["strong"]["sst"]
    scores = {
        row: float(np.mean(r.predicted["sst"].decision.numpy() == results.dev["sst"].labels))
        for row, r in (("plain", results.runs["plain"][1]), ("strong", results.runs["strong"][1]))
    }
    first = scores["strong"] - scores["plain"]
    assert found.difference.seeds == 2
    only = summarise(replace(results, runs=results.runs | {"strong": {1: later[1]}}))
    assert only.comparisons["control"]["strong"]["sst"].difference.mean == pytest.approx(first)


def test_one_seed_has_mcnemars_p_for_an_accuracy(results: Results):
    one = replace(results, runs={row: {0: by_seed[0]} for row, by_seed in results.runs.items()})
    right = [
        one.runs[row][0].predicted["quora"].decision.numpy() == one.dev["quora"].labels for row in ("strong", "plain")
    ]
    expected = stats.binomtest(int((right[0] & ~right[1]).sum()), int((right[0] != right[1]).sum())).pvalue
    assert summarise(one).comparisons["control"]["strong"]["quora"].p == pytest.approx(expected)


def test_nothing_stays_of_rows_that_were_removed(results: Results, tmp_path: Path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/against-control.tex").write_text("old")
    (tmp_path / "tables/errors-gone.md").write_text("old")
    (tmp_path / "tables/notes.txt").write_text("mine")
    toy_report.written(results, tmp_path)
    assert not (tmp_path / "tables/errors-gone.md").exists()
    assert (tmp_path / "tables/notes.txt").read_text() == "mine"
    latex = (tmp_path / "tables/against-control.tex").read_text()
    assert "by Holm's method" in latex  # the meaning of the marks is beside them
    runs = (tmp_path / "tables/runs.csv").read_text().splitlines()
    assert runs[0] == "row,seed,sst,quora,sts,overall"
    assert len(runs) == 10


def test_warnings_and_runs_that_have_not_ended_are_on_the_page(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "Runs differ in cpu: there are 2 different ones." in text
    assert "Only 9 of 10 runs have ended." in text


def test_text_of_the_data_cannot_end_the_script_that_holds_it(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    held = text.split('id="data">')[1].split("</script>")[0]
    assert any(HOSTILE in example["texts"] for example in json.loads(held)["examples"])


def test_the_page_makes_no_requests(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)=["']?(http|//)|url\(|@import|fetch\(|XMLHttp""", text)


def test_the_same_results_give_the_same_files(results: Results, page: Path, tmp_path: Path):
    again = tmp_path / page.parent.name
    again.mkdir()
    toy_report.written(results, again)
    first, second = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*.*")} for f in (page.parent, again))
    assert first == second


def test_findings_are_sorted_by_significance_and_then_by_size(results: Results):
    lines = report._findings(summarise(results))
    assert [(line["row"], line["other"], line["said"]) for line in lines] == [
        ("strong", "plain", "helps"),
        ("same", "plain", "no clear effect"),
    ]
    assert lines[0]["p"] == "< 0.001"
    assert len(lines[0]["tasks"]) == 3


def test_the_larger_of_two_significant_findings_comes_first(results: Results):
    def compared(mean: float, p: float) -> Comparison:
        return Comparison("plain", Estimate(mean, 0.01, 0.01, math.inf, 3), p, p)

    by = {"a": compared(-0.2, 0.002), "b": compared(0.1, 0.0001), "c": compared(0.3, 0.4), "d": compared(0.2, 0.04)}
    summary = summarise(results)
    made = replace(
        summary,
        rows=dict.fromkeys(("plain", *by), summary.rows["plain"]),
        comparisons={"control": {row: {"overall": c} for row, c in by.items()}, "reference": {}},
    )
    lines = report._findings(made)
    assert [(line["row"], line["said"], line["p"]) for line in lines] == [
        ("d", "helps", "0.040"),
        ("b", "helps", "< 0.001"),
        ("a", "hurts", "0.002"),
        ("c", "no clear effect", "0.400"),
    ]


def test_recipes_are_shown_by_what_differs_from_the_control(results: Results, recipe: Recipe):
    other = load_recipe("demo", ["train.lr=0.5"])
    changed = replace(results, runs=results.runs | {"strong": {0: replace(results.runs["strong"][0], recipe=other)}})
    told = dict(report._recipes(changed))
    assert list(told) == ["plain", "strong, differences from plain", "same, differences from plain"]
    assert "tasks:" in told["plain"]
    changes = [line for line in told["strong, differences from plain"].splitlines() if line[0] in "+-"]
    assert changes == [f"-  lr: {recipe.train.lr:g}", "+  lr: 0.5"]
    assert told["same, differences from plain"] == ""
