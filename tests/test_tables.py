"""The tables of a study, cell by cell, and the findings at the top of its report."""

import csv
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_results
from toy_results import LABELS, OTHER, RIGHT, WORSE

from mtbert.batch import Example, Examples
from mtbert.recipe.files import load_recipe
from mtbert.storage.predictions import Predicted
from mtbert.studying import errors, report, tables
from mtbert.studying.results import DevData, Results
from mtbert.studying.statistics import Estimate
from mtbert.studying.summary import Comparison, Summary, summarise
from mtbert.studying.text_table import TextTable
from mtbert.task import Task


@pytest.fixture(scope="module")
def results() -> Results:
    collapsed = WORSE | {"sst": (2,) * 8}
    return toy_results.study({"base": [WORSE, collapsed], "more": [RIGHT, OTHER]}, controls={"more": "base"})


@pytest.fixture(scope="module")
def summary(results: Results) -> Summary:
    return summarise(results)


def test_the_data_have_a_line_for_each_task(results: Results):
    assert tables.data_table(results).columns == ("task", "type", "metric", "labels", "train", "dev")
    assert tables.data_table(replace(results, dev=toy_results.dev(train=1234))).rows == (
        ("sst", "ordinal", "accuracy", "0, 1, 2, 3, 4", "1,234", "8"),
        ("quora", "binary", "accuracy", "0, 1", "1,234", "8"),
        ("sts", "regression", "pearson", "0 to 5", "1,234", "8"),
    )


def test_scores_stand_below_the_best_constant_and_a_collapse_is_marked(results: Results, summary: Summary):
    table = tables.dev_score_table(results, summary)
    assert table.columns == ("row", "seeds", "sst", "quora", "sts", "overall")
    assert table.rows[0] == ("best constant", "", "0.3750", "0.6250", "0.0000", "0.5000")
    base = dict(zip(table.columns, table.rows[1], strict=True))
    # 6 and 3 of 8 are right: a mean of 0.5625 and a standard deviation of 3/8 over the root of 2.
    assert re.fullmatch(r"0\.5625 ± 0\.2652 \[-?\d\.\d{4}, \d\.\d{4}\] collapsed 1/2", base["sst"])
    assert re.fullmatch(r"0\.6250 ± 0\.0000 \[\d\.\d{4}, \d\.\d{4}\]", base["quora"])
    assert base["seeds"] == "2"


def test_one_seed_has_no_deviation(results: Results):
    one = toy_results.study({"base": [WORSE]})
    (_, row) = tables.dev_score_table(one, summarise(one)).rows
    assert re.fullmatch(r"0\.7500 \[\d\.\d{4}, \d\.\d{4}\]", row[2])


def test_every_run_stands_with_its_own_scores(results: Results, summary: Summary):
    assert tables.run_table(results, summary).rows == (
        ("base", "0", "0.7500", "0.6250", "-1.0000", "0.4583"),
        ("base", "1", "0.3750", "0.6250", "-1.0000", "0.3333"),
        ("more", "0", "1.0000", "1.0000", "1.0000", "1.0000"),
        ("more", "1", "0.8750", "0.6250", "-1.0000", "0.5000"),
    )


def of(mean: float, p: float, corrected: float, seeds: int = 3) -> Comparison:
    return Comparison("base", Estimate(mean, 0.1, 0.01, math.inf, seeds), p, corrected)


def with_comparisons(summary: Summary, **by_score: Comparison) -> Summary:
    return replace(summary, comparisons={"control": {"more": by_score}, "reference": {}})


def test_a_difference_is_shown_with_the_corrected_p_and_a_star_below_005(results: Results, summary: Summary):
    made = with_comparisons(
        summary, sst=of(0.1, 0.0001, 0.0009), quora=of(-0.1, 0.001, 0.06), overall=of(0.2, 0.01, 0.02)
    )
    table = tables.difference_table(results, made, "control")
    assert table.columns == ("row", "compared with", "seeds", "sst", "quora", "overall")
    assert table.rows[0] == (
        *("more", "base (collapsed: sst)", "3"),
        "+0.1000 [+0.0804, +0.1196] p < 0.001*",
        "-0.1000 [-0.1196, -0.0804] p 0.060",
        "+0.2000 [+0.1804, +0.2196] p 0.020*",
    )
    # What could have been found is no row: 2.8016 standard errors of 0.01, as in textbooks.
    assert len(table.rows) == 1
    assert table.notes[-1] == (
        "The smallest true difference that this study could be expected to find: sst 0.0280, quora 0.0280, overall "
        "0.0280. Four of five such studies would find it in the median row. A smaller one may be missed."
    )


@pytest.mark.parametrize(("p", "told"), [(0.0009, "< 0.001"), (0.001, "0.001"), (0.0496, "0.050"), (1.0, "1.000")])
def test_a_small_p_is_not_shown_as_0(p: float, told: str):
    assert tables.p_value(p) == told


def test_a_table_is_written_as_markdown_csv_and_latex(tmp_path: Path):
    TextTable("t", "A_title & 5%", ("row_a", "b"), (("x_y", "0.4500"), ("p, q", "1")), ("50% of $x$.",)).write(tmp_path)
    markdown = (tmp_path / "t.md").read_text()
    assert markdown.startswith("**A_title & 5%**\n\n| row_a   | b      |\n")
    assert markdown.endswith("\n\n50% of $x$.\n")
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["row_a", "b"], ["x_y", "0.4500"], ["p, q", "1"]]
    latex = (tmp_path / "t.tex").read_text()
    assert r"\caption{A\_title \& 5\%. 50\% of \$x\$.}" in latex
    assert r"x\_y & 0.4500 \\" in latex
    assert r"row\_a & b \\" in latex


# Findings --------------------------------------------------------------------------------


def test_a_task_beside_a_finding_is_marked_by_its_own_verdict(summary: Summary):
    made = with_comparisons(summary, sst=of(-0.1, 0.01, 0.02), quora=of(0.1, 0.2, 0.4), overall=of(0.2, 0.01, 0.02))
    (line,) = report._findings(made)
    assert line["verdict"] == "better"
    assert line["tasks"] == [
        ("-0.100 [-0.120, -0.080]", "worse"),
        ("+0.100 [+0.080, +0.120]", "unclear"),
        ("", ""),
    ]


# Errors ------------------------------------------------------------------------------------------------


def judged(labels: list[float], decided: list[float], limits: tuple[float, float]) -> errors.Judged:
    task = Task(name="sts", type="regression", inputs="packed", range=limits)
    dev = DevData(task, "pearson", 1, Examples.of(Example(str(i), ("a", "b"), y) for i, y in enumerate(labels)))
    answers = {"sts": Predicted(torch.tensor(decided), torch.tensor(decided, dtype=torch.float64))}
    return errors.judge(dev, replace(toy_results.result("r", 0, RIGHT), predicted=answers))


def test_a_score_of_a_range_that_does_not_begin_at_0_is_mapped_and_judged_in_it():
    # A tenth of the range from 2 to 6 is 0.4.
    found = judged([4.0, 4.0, 6.0], [0.5, 0.62, 1.5], (2.0, 6.0))
    assert found.answer == pytest.approx([4.0, 4.48, 6.0])
    assert found.distance_B == pytest.approx([0.0, 0.48, 0.0])
    assert found.wrong_B.tolist() == [False, True, False]


@pytest.mark.parametrize(("decided", "losses"), [((0, 0), (-0.3, 0.0)), ((1, 1), (0.0, -0.3))])
def test_cosines_with_equal_answers_are_split_at_the_outermost_one(
    decided: tuple[int, int], losses: tuple[float, float]
):
    recipe = load_recipe("demo", ["tasks.quora.inputs=separate", "tasks.quora.head=cosine", "tasks.quora.losses=[mse]"])
    dev = toy_results.dev({"quora": (0, 1)})["quora"]
    # The labels are no and yes. If all answers are no, the threshold is the largest cosine, 0.9; if yes, the smallest.
    cosines = [0.6, 0.9]
    answers = {"quora": Predicted(torch.tensor(cosines), torch.tensor(decided))}
    found = errors.judge(dev, replace(toy_results.result("r", 0, RIGHT), recipe=recipe, predicted=answers))
    assert found.loss_B == pytest.approx(losses, abs=1e-6)


def test_half_of_the_seeds_are_not_most():
    results = toy_results.study({"base": [RIGHT, WORSE], "more": [RIGHT, RIGHT]})
    found = errors.Errors(results)
    assert found.change("sst", "more") == pytest.approx(np.zeros(8))  # the base is wrong in one of two seeds
    again = errors.Errors(toy_results.study({"base": [WORSE, WORSE], "more": [RIGHT, WORSE]}))
    assert again.change("sst", "more") == pytest.approx((np.array(WORSE["sst"]) != LABELS["sst"]).astype(int))


@pytest.mark.parametrize("answers", [[WORSE, RIGHT], [WORSE]])
def test_if_each_control_is_the_reference_there_is_one_table_of_differences(answers: list):
    def names(**controls: str) -> list[str]:
        rows = {"base": [RIGHT] * len(answers), "more": answers, "most": answers}
        found = toy_results.study(rows, controls=controls)
        return [t.name for t in tables.study_tables(found, summarise(found)) if t.name.startswith("against")]

    assert names(more="base", most="base") == ["against-control"]
    assert names(more="base", most="more") == ["against-control", "against-reference"]


def test_distances_are_shown_only_for_ordered_classes(results: Results):
    def named(found: Results) -> list[str]:
        return [t.name for t in errors.Errors(found).tables() if t.name.startswith("errors-")]

    assert named(results) == ["errors-sst"]
    dev = results.dev["sst"]
    unordered = replace(dev, task=dev.task.model_copy(update={"type": "classification"}))
    assert named(replace(results, dev={**results.dev, "sst": unordered})) == []


def test_without_errors_there_is_no_share_of_near_ones():
    found = toy_results.study({"base": [RIGHT]})
    table = next(t for t in errors.Errors(found).tables() if t.name == "errors-sst")
    assert table.rows == (("base", "100.0%", "0.0%", "0.0%", "0.0%", ""),)
