"""The report of a study: what its page says, what its errors are, and that it works in a browser."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import toy_study
from scipy import stats
from tiny import RECORD

from mtbert.batch import Example
from mtbert.checkpoint import Predicted
from mtbert.recipe import Recipe, load
from mtbert.study import errors, figures, plan, report, tables
from mtbert.study.results import Dev, Outline, Result, Results
from mtbert.study.statistics import Estimate
from mtbert.study.summary import Comparison, summarise
from mtbert.task import Task

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", "build/screenshots"))
HOSTILE = "</script><img src=x onerror=alert(1)> <b>bold</b> & co"
WORDS = "one two three four five six seven eight nine ten".split()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load("demo")


def dev(recipe: Recipe) -> dict[str, Dev]:
    """60 made-up examples of each task of the recipe."""
    draws = np.random.default_rng(0)
    found = {}
    for name, settings in recipe.tasks.items():
        task = settings.task
        examples = []
        for i in range(60):
            texts = tuple(" ".join(draws.choice(WORDS, 5)) + f" {name}{i}" for _ in range(task.texts))
            label = float(draws.integers(len(task.labels))) if task.labels else float(draws.uniform(0, 5))
            examples.append(Example(f"{name}-{i}", texts, label))
        examples[0] = replace(examples[0], texts=(HOSTILE, *examples[0].texts[1:]))
        found[name] = Dev(task, settings.metric, 1000, examples)
    return found


def predicted(task: Dev, skill: float, draws: np.random.Generator) -> Predicted:
    labels_B = task.labels_B
    if not task.task.is_class:
        scores_B = labels_B / 5 + draws.normal(0, 0.3 / skill, len(labels_B))
        return Predicted(torch.tensor(scores_B, dtype=torch.float32), torch.tensor(scores_B, dtype=torch.float64))
    if task.task.type == "binary":
        raw_B = torch.tensor((2 * labels_B - 1) * skill + draws.normal(0, 1.5, len(labels_B)))
        return Predicted(raw_B.float(), (raw_B > 0).long())
    raw_BK = draws.normal(0, 1, (len(labels_B), len(task.task.labels or ())))
    raw_BK[np.arange(len(labels_B)), labels_B.astype(int)] += skill
    return Predicted(torch.tensor(raw_BK).float(), torch.tensor(raw_BK.argmax(1)))


def step(number: int, tasks: list[str], joint: bool) -> dict[str, Any]:
    taken = tasks if joint else [tasks[number % len(tasks)]]
    line: dict[str, Any] = {"step": number, "losses": {f"{task}.loss": 1 / number for task in taken}}
    if joint:
        line["diagnostics"] = {"cos(a, b)": math.cos(number), "conflicting": 0.5}
    return line


@pytest.fixture(scope="module")
def results(recipe: Recipe) -> Results:
    """``plain``, ``strong`` (far better) and ``same`` (as good), three seeds each."""
    tasks = dev(recipe)
    runs: dict[str, dict[int, Result]] = {}
    for row, skill in (("plain", 1.0), ("strong", 3.0), ("same", 1.0)):
        for seed in range(3):
            draws = np.random.default_rng([seed, len(row)])
            answers = {name: predicted(d, skill, draws) for name, d in tasks.items()}
            steps = [step(n, list(tasks), joint=row == "strong") for n in range(1, 200)]
            runs.setdefault(row, {})[seed] = Result(row, seed, recipe, RECORD, answers, None, steps, 1.0, Path())
    outline = Outline(
        rows={"plain": None, "strong": "plain", "same": "plain"},
        sources=dict.fromkeys(("plain", "strong", "same"), "demo"),
        seeds=(0, 1, 2),
        reference="plain",
        threads=1,
    )
    return Results(outline, tasks, runs, ["same, seed 3"], ["runs differ in cpu: 2 kinds"])


@pytest.fixture(scope="module")
def page(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy-study")
    report.write(results, out)
    return out / report.FILE


# What is said -----------------------------------------------------------------------------------------


def test_the_answer_counts_techniques_by_verdict(results: Results):
    said = report.answer(results, summarise(results))
    assert said.startswith("By overall, 1 of 2 techniques help, 0 hurt, and 1 cannot be told apart from doing without.")


def test_one_run_alone_is_told_beside_the_best_constant_answer(results: Results):
    outline = results.outline.model_copy(update={"rows": {"plain": None}, "seeds": (0,)})
    alone = replace(results, outline=outline, runs={"plain": {0: results.runs["plain"][0]}})
    summary = summarise(alone)
    said = report.answer(alone, summary)
    assert said.startswith(f"plain: overall is {summary.rows['plain'].scores['overall'].mean:.4f} on dev, 95% interval")
    assert said.endswith(f"the best constant answer has {summary.baseline['overall']:.4f}.")


def parts(results: Results, **tasks: str) -> Results:
    """``results`` with rows that have some of their tasks alone, such as ``plain="sst quora"``."""
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


def test_without_controls_rows_are_told_against_the_reference(results: Results):
    plain = controls(results)
    said = report.answer(plain, summarise(plain))
    assert said.startswith(
        "By overall, 1 of 2 rows are better than plain, 0 are worse, and 1 cannot be told apart from it."
    )
    assert [line["row"] for line in report._findings(summarise(plain))] == ["strong", "same"]


def test_a_row_without_the_main_score_is_judged_by_its_only_common_task(results: Results):
    some = parts(results, plain="sst quora sts", strong="sst", same="quora sts")
    summary = summarise(some)
    said = report.answer(some, summary)
    assert said.startswith("By overall, 1 of 1 techniques help, 0 hurt, and 0 cannot be told apart from doing without.")
    assert "1 more have no overall in common with what they are compared with." in said
    (line,) = report._findings(summary)
    assert (line["row"], line["by"], line["main"]) == ("strong", "sst", line["tasks"][0][0])
    assert line["tasks"][1:] == [("", ""), ("", "")]  # not under the name of another task


def test_the_only_task_of_the_reference_is_the_main_score(results: Results):
    some = parts(results, plain="sst", strong="sst sts", same="sts")
    summary = summarise(some)
    assert summary.main == "sst"
    assert set(summary.comparisons["control"]) == {"strong"}  # same has no task in common with plain
    assert report.answer(some, summary).startswith("By sst, 1 of 1 techniques help")


def test_one_run_says_nothing_of_a_technique(results: Results, tmp_path: Path):
    runs = {row: {0: by_seed[0]} for row, by_seed in results.runs.items()}
    one = replace(results, runs=runs | {"same": results.runs["same"]})
    said = report.answer(one, summarise(one))
    assert "2 of these compare one seed each: they tell two runs apart, not two techniques." in said
    assert [row[2] for row in tables.compared(one, summarise(one), "control").rows] == ["1", "1", ""]


def test_a_collapsed_control_is_marked_where_a_row_is_compared_with_it(results: Results):
    def constant(run: Result) -> Result:
        sst = run.predicted["sst"]
        return replace(run, predicted=run.predicted | {"sst": Predicted(sst.raw, torch.ones_like(sst.decided))})

    plain = {seed: constant(run) if seed == 1 else run for seed, run in results.runs["plain"].items()}
    summary = summarise(replace(results, runs=results.runs | {"plain": plain}))
    assert report._findings(summary)[0]["other"] == "plain (collapsed: sst)"
    compared = tables.compared(results, summary, "control")
    assert [row[1] for row in compared.rows] == ["plain (collapsed: sst)"] * 2 + [""]


def test_rows_that_are_the_same_do_not_make_a_study_look_sharper(results: Results):
    same = replace(results, runs=results.runs | {"same": results.runs["plain"]})
    alone = parts(same, plain="sst quora sts", strong="sst quora sts")
    found, fewer = (summarise(r).comparisons["control"]["strong"]["sst"].difference for r in (same, alone))
    assert found == fewer
    assert summarise(same).detectable("control", "sst") == pytest.approx(found.detectable(0.05 / 2))


def test_every_row_of_a_papers_recipe_stands_in_its_table(results: Results):
    sources = {"plain": "paper/base", "strong": "paper/base", "same": "paper/smart-ceoll"}
    found = replace(results, outline=results.outline.model_copy(update={"sources": sources}))
    table = tables.paper(found, summarise(found), 4)
    assert [(row[0], row[1]) for row in table.rows] == [("plain", "0.505"), ("strong", "0.505"), ("same", "0.519")]
    ours = summarise(found).rows["strong"].scores["sst"].mean
    assert table.rows[1][table.columns.index("sst (ours)")] == f"{ours:.4f}"


def test_seeds_are_paired_by_their_number(results: Results):
    later = {seed: results.runs["strong"][seed] for seed in (1, 2)}
    found = summarise(replace(results, runs=results.runs | {"strong": later})).comparisons["control"]["strong"]["sst"]
    scores = {
        row: float(np.mean(r.predicted["sst"].decided.numpy() == results.dev["sst"].labels_B))
        for row, r in (("plain", results.runs["plain"][1]), ("strong", results.runs["strong"][1]))
    }
    first = scores["strong"] - scores["plain"]
    assert found.difference.seeds == 2
    only = summarise(replace(results, runs=results.runs | {"strong": {1: later[1]}}))
    assert only.comparisons["control"]["strong"]["sst"].difference.mean == pytest.approx(first)


def test_one_seed_has_mcnemars_p_for_an_accuracy(results: Results):
    one = replace(results, runs={row: {0: by_seed[0]} for row, by_seed in results.runs.items()})
    right = [
        one.runs[row][0].predicted["quora"].decided.numpy() == one.dev["quora"].labels_B for row in ("strong", "plain")
    ]
    expected = stats.binomtest(int((right[0] & ~right[1]).sum()), int((right[0] != right[1]).sum())).pvalue
    assert summarise(one).comparisons["control"]["strong"]["quora"].p == pytest.approx(expected)


def test_of_rows_that_are_no_more_nothing_stays(results: Results, tmp_path: Path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/against-control.tex").write_text("old")
    (tmp_path / "tables/errors-gone.md").write_text("old")
    (tmp_path / "tables/notes.txt").write_text("mine")
    report.write(results, tmp_path)
    assert not (tmp_path / "tables/errors-gone.md").exists()
    assert (tmp_path / "tables/notes.txt").read_text() == "mine"
    latex = (tmp_path / "tables/against-control.tex").read_text()
    assert "p by Holm over the rows" in latex  # what the marks mean stands with them
    runs = (tmp_path / "tables/runs.csv").read_text().splitlines()
    assert runs[0] == "row,seed,sst,quora,sts,overall"
    assert len(runs) == 10


def test_warnings_and_what_has_not_ended_are_on_the_page(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "runs differ in cpu: 2 kinds" in text
    assert "9 of 10 runs have ended." in text


def test_text_of_the_data_cannot_end_the_script_that_holds_it(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    held = text.split('id="data">')[1].split("</script>")[0]
    assert any(HOSTILE in example["texts"] for example in json.loads(held)["examples"])


def test_the_page_asks_no_one_for_anything(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)=["']?(http|//)|url\(|@import|fetch\(|XMLHttp""", text)


def test_the_same_results_give_the_same_files(results: Results, page: Path, tmp_path: Path):
    again = tmp_path / page.parent.name
    again.mkdir()
    report.write(results, again)
    first, second = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*.*")} for f in (page.parent, again))
    assert first == second


# Errors -----------------------------------------------------------------------------------------------


def one(task: Task, label: float, raw: list[Any], decided: float, recipe: Recipe, name: str) -> errors.Judged:
    d = Dev(task, "accuracy", 1, [Example("a", ("x",) * task.texts, label)])
    answers = {name: Predicted(torch.tensor(raw), torch.tensor([decided]))}
    return errors.judge(d, Result("r", 0, recipe, RECORD, answers, None, [], 0.0, Path()))


def test_an_answer_among_classes_is_as_wrong_as_its_label_is_improbable(recipe: Recipe, results: Results):
    sst = results.dev["sst"].task
    judged = one(sst, 0, [[0.0, math.log(2), math.log(5), 0.0, 0.0]], 2, recipe, "sst")
    assert judged.p_B[0] == pytest.approx(0.5)
    assert judged.loss_B[0] == pytest.approx(math.log(10))
    assert (judged.distance_B[0], judged.wrong_B[0]) == (2, True)


def test_an_answer_of_yes_or_no_has_the_probability_of_its_logit(recipe: Recipe, results: Results):
    quora = results.dev["quora"].task
    judged = one(quora, 0, [math.log(3)], 1, recipe, "quora")
    assert judged.p_B[0] == pytest.approx(0.75)
    assert judged.loss_B[0] == pytest.approx(math.log(4))
    judged = one(quora, 0, [-math.log(3)], 0, recipe, "quora")
    assert judged.p_B[0] == pytest.approx(0.75)
    assert judged.loss_B[0] == pytest.approx(math.log(4 / 3))
    assert not judged.wrong_B[0]


def test_a_score_is_wrong_by_its_distance_in_the_range_of_labels(recipe: Recipe, results: Results):
    sts = results.dev["sts"].task
    judged = one(sts, 4.0, [1.3], 1.3, recipe, "sts")  # beyond the range: 5
    assert (judged.answer_B[0], judged.distance_B[0], judged.wrong_B[0]) == (5, 1, True)
    assert not one(sts, 4.0, [0.72], 0.72, recipe, "sts").wrong_B[0]


def test_overlap_is_words_of_both_over_words_of_either():
    assert errors.overlap(("A dog runs.", "a cat RUNS fast")) == pytest.approx(2 / 5)
    assert errors.overlap(("?", "!")) == 0


def test_an_example_is_fixed_when_most_seeds_of_the_row_have_it_right(results: Results):
    def wrong(*marks: bool) -> list[errors.Judged]:
        nothing = np.zeros(1)
        return [errors.Judged(nothing, nothing, nothing, nothing, np.array([m])) for m in marks]

    found = errors.Errors(results)
    for before, after, change in (
        ((True, True, False), (False, False, True), 1),
        ((False, False, True), (True, True, False), -1),
        ((True, True, True), (True, True, False), 0),
    ):
        found.judged["sst"] = {"plain": wrong(*before), "strong": wrong(*after)}
        assert found.change("sst", "strong") == [change]


def test_a_cosine_is_as_wrong_as_it_lies_on_the_wrong_side(results: Results):
    recipe = load("demo", ["tasks.quora.inputs=separate", "tasks.quora.head=cosine", "tasks.quora.losses=[mse]"])
    labels, cosines, decided = (0, 1, 0, 1), [0.9, 0.6, 0.3, 0.8], [1, 0, 0, 1]
    d = Dev(results.dev["quora"].task, "accuracy", 1, [Example("a", ("x", "y"), label) for label in labels])
    answers = {"quora": Predicted(torch.tensor(cosines), torch.tensor(decided))}
    judged = errors.judge(d, Result("r", 0, recipe, RECORD, answers, None, [], 0.0, Path()))
    assert np.isnan(judged.p_B).all()
    # Parted at 0.7, between 0.6 and 0.8: what is wrong is above 0, what is right below.
    assert judged.loss_B == pytest.approx([0.2, 0.1, -0.4, -0.1], abs=1e-6)


def told(distances: list[float], losses: list[float] | None = None) -> errors.Judged:
    """Answers that are so far off, and wrong where they are off at all."""
    distance_B = np.array(distances, dtype=np.float64)
    loss_B = distance_B if losses is None else np.array(losses, dtype=np.float64)
    return errors.Judged(distance_B, distance_B, distance_B, loss_B, distance_B > 0)


def table(found: errors.Errors, name: str) -> list[list[str]]:
    return [list(row) for t in found.tables() if t.name == name for row in t.rows]


def test_how_far_errors_are_and_which_a_row_fixes_and_breaks(results: Results):
    found = errors.Errors(results)
    right = [0.0] * 54
    found.judged["sst"] = {
        "plain": [told([0, 1, 1, 2, 3, 4, *right])] * 2,
        "strong": [told([1, 0, 0, 1, 3, 4, *right]), told([1, 0, 0, 1, 3, 4, *right])],
    }
    assert table(found, "errors-sst") == [
        ["plain", "91.7%", "3.3%", "1.7%", "3.3%", "40.0%"],
        ["strong", "93.3%", "3.3%", "0.0%", "3.3%", "50.0%"],
    ]
    (changes,) = (t for t in found.tables() if t.name == "changes")
    assert changes.columns[:3] == ("row", "sst fixed", "sst broken")
    assert next(row[1:3] for row in changes.rows if row[0] == "strong") == ("2", "1")
    assert [row[0] for row in changes.rows] == ["strong", "same"]
    assert "against plain" in changes.title


def test_errors_by_words_in_common(results: Results):
    found = errors.Errors(results)
    found.overlap = {"quora": np.array([0.0, 0.1, 0.2, 0.5, 1.0, 1.0])}
    found.judged["quora"] = {"plain": [told([1, 1, 0, 0, 0, 1]), told([1, 0, 0, 0, 0, 0])]}
    found.overlap["sts"], found.judged["sts"] = np.array([0.0, 0.1]), {"plain": [told([0.5, 2.0])]}
    assert table(found, "overlap-sts")[1][1] == "1.250"
    counts, plain = table(found, "overlap-quora")
    assert counts[1:6] == ["2", "1", "1", "0", "2"]
    assert plain[1:6] == ["0.750", "0.000", "0.000", "", "0.250"]
    assert float(plain[6]) == pytest.approx(
        -8.75 / 255**0.5, abs=1e-3
    )  # of ranks (1 2 3 4 5.5 5.5) and (6 4.5 2 2 2 4.5)


def test_the_browser_gets_the_answers_of_each_run(results: Results):
    found = errors.Errors(results)
    given = found.browser()
    shown = next(e for e in given["examples"] if e["task"] == "quora")
    number = next(i for i, e in enumerate(results.dev["quora"].examples) if e.id == shown["id"])
    judged = found.judged["quora"]["strong"][0]
    assert given["runs"][3] == "strong, seed 0"
    assert shown["answers"][3] == [
        judged.answer_B[number],
        round(judged.p_B[number], 4),
        judged.distance_B[number],
        round(judged.loss_B[number], 4),
    ]
    assert shown["answers"][3][1] % 1
    assert len(shown["answers"]) == len(shown["wrong"]) == 9


def test_the_browser_has_the_worst_and_what_was_most_surely_fixed_and_broken(
    results: Results, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(errors, "WORST", 2)
    monkeypatch.setattr(errors, "CHANGED", 1)
    found = errors.Errors(results)
    rest = [0.0] * 52
    found.judged["sst"] = {
        "plain": [told([9, 8, 0, 0, 2, 3, 0, 0, *rest])],
        "strong": [told([9, 8, 2, 3, 0, 0, 0, 1, *rest], [9, 8, 2, 3, -1, -3, 0, 1, *rest])],
    }
    # The worst two of both; then 5 is fixed by 6 nats, 4 by 3; 3 is broken by 3, 2 by 2, 7 by 1.
    assert found.examples("sst") == [0, 1, 3, 5]


# Figures ----------------------------------------------------------------------------------------------


def test_a_dollar_in_a_name_is_a_dollar(results: Results, tmp_path: Path):
    dev = results.dev["sst"]
    task = dev.task.model_copy(update={"labels": ("$x_$", "$5-$10", "b", "c", r"$\frac{$")})
    odd = replace(results, dev=results.dev | {"sst": replace(dev, task=task)})
    for drawn in figures.figures(odd, summarise(odd)):
        drawn.write(tmp_path)
    assert (tmp_path / "confusion-sst.svg").exists()


def test_findings_stand_with_those_told_apart_first_then_by_size(results: Results):
    lines = report._findings(summarise(results))
    assert [(line["row"], line["other"], line["said"]) for line in lines] == [
        ("strong", "plain", "helps"),
        ("same", "plain", "cannot be told apart"),
    ]
    assert lines[0]["p"] == "< 0.001"
    assert len(lines[0]["tasks"]) == 3


def test_of_two_told_apart_the_larger_stands_first(results: Results):
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
        ("c", "cannot be told apart", "0.400"),
    ]


def test_recipes_are_told_as_what_differs_from_the_control(results: Results, recipe: Recipe):
    other = load("demo", ["train.lr=0.5"])
    changed = replace(results, runs=results.runs | {"strong": {0: replace(results.runs["strong"][0], recipe=other)}})
    told = dict(report._recipes(changed))
    assert list(told) == ["plain", "strong, against plain", "same, against plain"]
    assert "tasks:" in told["plain"]
    changes = [line for line in told["strong, against plain"].splitlines() if line[0] in "+-"]
    assert changes == [f"-  lr: {recipe.train.lr:g}", "+  lr: 0.5"]
    assert told["same, against plain"] == ""


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
    assert figures._cosines(results.runs["strong"][0]) == ["cos(a, b)"]
    assert figures._cosines(results.runs["plain"][0]) == []


def test_a_confusion_matrix_is_shares_of_each_label(results: Results):
    d = replace(
        results.dev["quora"], examples=[Example(str(i), ("a", "b"), label) for i, label in enumerate([0, 0, 0, 1])]
    )
    run = replace(results.runs["plain"][0], predicted={"quora": Predicted(torch.zeros(4), torch.tensor([0, 1, 1, 1]))})
    assert figures._confusion(d, run) == pytest.approx(np.array([[1 / 3, 2 / 3], [0, 1]]))


def test_every_figure_is_there_in_both_forms(page: Path):
    names = {p.stem for p in (page.parent / "figures").iterdir()}
    assert names == {
        *("ablation", "losses", "conflict", "sampling"),
        *("confusion-sst", "confusion-quora", "similarity-sts"),
    }
    assert len(list((page.parent / "figures").iterdir())) == 2 * len(names)


def test_sampling_is_drawn_only_where_steps_take_one_task(results: Results):
    assert set(figures._taken(results.runs["plain"][0])) == set(results.dev)
    assert figures._taken(results.runs["strong"][0]) == {}


# In a browser -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium here: install Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    yield from visit(browser, page)


def visit(browser: Any, page: Path, **context: Any) -> Iterator[Any]:
    """The page, opened; it must not complain, nor ask for anything but itself."""
    said: list[str] = []
    asked: list[str] = []
    within = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context))
    tab = within.new_page()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    yield tab
    within.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]


def column(tab: Any, number: int) -> list[str]:
    return [str(text) for text in tab.locator(f"#browser tbody td:nth-child({number})").all_inner_texts()]


def counted(tab: Any) -> int:
    return int(tab.locator("#count").inner_text().split()[0])


def test_filters_by_task_label_answer_text_and_run(opened: Any, results: Results):
    opened.select_option("[name=task]", "quora")
    labels = results.dev["quora"].task.labels or ()
    opened.select_option("[name=label]", "0")
    opened.select_option("[name=answer]", "1")
    assert counted(opened) > 0
    assert set(column(opened, 2)) == {labels[0]}
    assert set(column(opened, 3)) == {labels[1]}
    opened.select_option("[name=label]", "1")
    assert counted(opened) == 0  # errors only: what is labelled 1 and answered 1 is right
    opened.uncheck("[name=wrong]")
    assert counted(opened) > 0
    opened.select_option("[name=label]", "")
    opened.select_option("[name=answer]", "")
    everything = counted(opened)
    opened.fill("[name=text]", "QUORA0")
    assert counted(opened) == 1
    opened.fill("[name=text]", "")
    opened.check("[name=wrong]")
    before = column(opened, 3), counted(opened)
    opened.select_option("[name=run]", "3")  # strong, seed 0
    assert (column(opened, 3), counted(opened)) != before
    assert counted(opened) < before[1] <= everything


def test_text_of_the_data_is_shown_as_text(opened: Any):
    opened.uncheck("[name=wrong]")
    opened.fill("[name=text]", "onerror")
    found = []
    for task in ("sst", "quora", "sts"):
        opened.select_option("[name=task]", task)
        found += column(opened, 1)
    assert any(HOSTILE in text for text in found)
    assert opened.locator("#browser tbody img, #browser tbody b").count() == 0


def test_sorts_by_any_column_with_the_keyboard(opened: Any):
    opened.uncheck("[name=wrong]")
    losses = [float(x) for x in column(opened, 6)]
    assert losses == sorted(losses, reverse=True)
    button = opened.locator("#browser button[data-key=loss]")
    button.focus()
    opened.keyboard.press("Enter")
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    losses = [float(x) for x in column(opened, 6)]
    assert losses == sorted(losses)
    opened.keyboard.press("Shift+Tab")
    opened.keyboard.press("Enter")
    assert opened.locator("[aria-sort]").count() == 1
    distances = [float(x) for x in column(opened, 5)]
    assert distances == sorted(distances, reverse=True)


def test_more_examples_come_on_demand(opened: Any):
    opened.uncheck("[name=wrong]")
    assert len(column(opened, 1)) == 25
    opened.click("#more")
    assert len(column(opened, 1)) == min(50, counted(opened))


def test_everything_can_be_reached_with_tab(opened: Any):
    controls = opened.locator("select:enabled, input, #browser button, nav a, .scroll").count()
    reached = set()
    for _ in range(controls + 40):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("e = document.activeElement, [...document.querySelectorAll('*')].indexOf(e)"))
    wanted = opened.evaluate(
        "[...document.querySelectorAll('select:enabled, input, #browser button, nav a, .scroll')]"
        ".map(e => [...document.querySelectorAll('*')].indexOf(e))"
    )
    assert set(wanted) <= reached


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("light", {}),
        ("dark", {"color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}),
    ],
)
def test_nothing_sticks_out_of_the_window(browser: Any, page: Path, name: str, context: dict[str, Any]):
    for tab in visit(browser, page, **context):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SCREENSHOTS / f"report-{name}.png", full_page=True)
        assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        assert dark == (name == "dark")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the shipped study, on a toy encoder, with one of its seeds and in two rounds."""
    folder = tmp_path_factory.mktemp("demo")
    shipped = (resources.files("mtbert") / "studies" / "demo.yaml").read_text(encoding="utf-8")
    assert "seeds: [0, 1, 2]" in shipped
    (folder / "demo.yaml").write_text(shipped.replace("seeds: [0, 1, 2]", "seeds: [0]"), encoding="utf-8")
    encoder = toy_run.encoder_folder(folder / "encoder")
    changes = ["train.rounds=2", "train.threads=1", f"model.path={encoder}", "model.max_length=32"]
    toy_study.run_here(plan.load(str(folder / "demo.yaml"), changes), folder / "out")
    return folder / "out" / report.FILE


def test_the_demo_study_writes_its_report(demo: Path):
    assert "of 2 techniques" in demo.read_text(encoding="utf-8")
    assert {p.stem for p in (demo.parent / "figures").iterdir()} >= {"ablation", "losses", "conflict", "confusion-sst"}


def test_the_report_of_the_demo_study_opens(browser: Any, demo: Path):
    for tab in visit(browser, demo):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SCREENSHOTS / "report-demo.png", full_page=True)
        assert "2 techniques" in tab.locator(".answer").inner_text()
        assert tab.locator("#findings + .scroll tbody tr").count() == 2
        assert counted(tab) > 0
