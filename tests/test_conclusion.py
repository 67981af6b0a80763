"""The words at the top of a report: what a study shows, how sure that is, and what to do next."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy_report
import toy_results
from toy_results import LABELS, OTHER, RIGHT, WORSE

from mtbert.studying.conclusion import Conclusion, _still_rising, conclude, recipe_to_take
from mtbert.studying.errors import Errors
from mtbert.studying.results import Results
from mtbert.studying.statistics import Estimate, estimate
from mtbert.studying.summary import Comparison, Summary, summarise
from mtbert.training import history

recipe = toy_report.recipe
results = toy_report.results


def words(results: Results, summary: Summary | None = None) -> Conclusion:
    return conclude(results, summarise(results) if summary is None else summary, Errors(results))


def of(mean: float, p: float, seeds: int = 3, se: float = 0.01, of_examples: float = 0.0) -> Comparison:
    return Comparison("plain", Estimate(mean, 0.1, se, math.inf, seeds, of_examples), p, p)


def judged(results: Results, by_row: dict[str, Comparison], against: str = "control") -> Conclusion:
    """Returns the words about a study in which these differences in ``overall`` were found."""
    made = summarise(results)
    found = {row: {"overall": one} for row, one in by_row.items()}
    rows = dict.fromkeys(("plain", *by_row), made.rows["plain"])
    other = {"control": found, "reference": found} if against == "control" else {"control": {}, "reference": found}
    return words(results, replace(made, rows=rows, comparisons=other))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"a": of(0.1, 0.01)}, "a helps: +0.100 in overall."),
        ({"a": of(-0.1, 0.01)}, "a hurts: -0.100 in overall."),
        ({"a": of(0.1, 0.5)}, "a is not proven to help or to hurt."),
        (
            {"a": of(0.1, 0.5), "b": of(-0.2, 0.06), "c": of(0.0, 1.0)},
            "None of the 3 techniques is proven to help or to hurt.",
        ),
        (
            {"a": of(0.1, 0.01), "b": of(0.2, 0.01), "c": of(0.0, 1.0)},
            "2 of 3 techniques help: b (+0.200) and a (+0.100). The other shows no clear effect.",
        ),
        (
            {"a": of(0.1, 0.01), "b": of(-0.2, 0.01), "c": of(0.0, 1.0), "d": of(0.1, 1.0)},
            "1 of 4 techniques helps: a (+0.100). 1 hurts: b (-0.200). The other 2 show no clear effect.",
        ),
        (
            {"a": of(-0.1, 0.01), "b": of(0.0, 1.0)},
            "None of the 2 techniques is proven to help. 1 hurts: a (-0.100). The other shows no clear effect.",
        ),
    ],
)
def test_the_first_sentence_says_which_techniques_help(results: Results, found: dict[str, Comparison], said: str):
    assert judged(results, found).headline == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"a": of(0.1, 0.01)}, "a is better than plain: +0.100 in overall."),
        ({"a": of(0.1, 0.5)}, "a is not proven better or worse than plain."),
        ({"a": of(0.1, 0.5), "b": of(0.0, 1.0)}, "None of the 2 recipes is proven better or worse than plain."),
        (
            {"a": of(-0.1, 0.01), "b": of(-0.2, 0.01), "c": of(0.0, 1.0)},
            "None of the 3 recipes is proven better than plain. 2 are worse than plain: a (-0.100) and b (-0.200). "
            "The other is not clearly different.",
        ),
    ],
)
def test_without_controls_the_first_sentence_is_about_recipes(
    results: Results, found: dict[str, Comparison], said: str
):
    assert judged(results, found, "reference").headline == said


def test_many_names_are_cut(results: Results):
    found = {f"row{i}": of(0.1 - i / 1000, 0.01) for i in range(7)}
    assert judged(results, found).headline == (
        "7 of 7 techniques help: row0 (+0.100), row1 (+0.099), row2 (+0.098), row3 (+0.097), row4 (+0.096) and 2 more."
    )


def test_the_limits_say_what_the_numbers_are_and_what_could_have_been_missed(results: Results):
    summary = summarise(results)
    assert words(results, summary).limits == (
        "The numbers are differences in overall, the mean score over 3 tasks, on dev.",
        "The scores hold for texts like the dev examples (sst: generated sst [dev]; quora: generated quora [dev]; "
        "sts: generated sts [dev]). They say nothing about other kinds of texts.",
        "With 3 seeds, a study like this one finds a true difference of "
        f"{summary.detectable('control', 'overall'):.3f} four times out of five. A smaller one is easily missed.",
    )


@pytest.mark.parametrize(("seeds", "told"), [(1, True), (2, False), (3, False)])
def test_only_comparisons_of_one_seed_each_are_called_so(results: Results, seeds: int, told: bool):
    limits = judged(results, {"a": of(0.2, 0.02, seeds)}).limits
    said = "1 comparison has one seed, which compares two runs and says little about the technique."
    assert (said in limits) is told


def test_a_row_without_the_main_score_has_no_verdict(results: Results):
    made = summarise(results)
    compared = {"strong": {"overall": of(0.1, 0.01)}, "same": {"sst": of(0.1, 0.01), "sts": of(0.1, 0.01)}}
    found = words(results, replace(made, comparisons={"control": compared, "reference": compared}))
    assert found.headline == "strong helps: +0.100 in overall."
    assert "1 more row has no overall that its control has too, and so no verdict." in found.limits


def test_the_steps_begin_with_what_is_missing_and_end_with_the_errors(results: Results):
    steps = words(results).steps
    assert steps[0] == "Finish the study: 1 of 10 runs has not ended. Run the same mtbert study command again."
    assert steps[1].startswith("Take strong: it is clearly better than plain (+0.")
    assert steps[1].endswith("so score it once on test files: mtbert report STUDY --row --test.")
    assert steps[-1].startswith("Read the errors of ")


def test_the_reference_is_kept_where_nothing_is_clearly_better(results: Results):
    two = toy_results.study({"base": [WORSE, OTHER], "more": [OTHER, WORSE | {"sst": LABELS["sst"]}]})
    summary = summarise(two)
    assert summary.comparisons["reference"]["more"]["overall"].verdict == "unclear"
    assert recipe_to_take(two, summary) == ("base", "more")
    assert (
        "Keep base: no other recipe is clearly better. more has the highest mean, but chance alone could "
        "explain that." in words(two, summary).steps
    )


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (of(0.0, 1.0, se=0.02, of_examples=0.0003), "Get more dev examples if a smaller difference matters: 75% of"),
        (of(0.0, 1.0, se=0.02, of_examples=0.0001), "Run more seeds if a smaller difference matters: 75% of"),
        (of(0.0, 1.0, 1), "Run more seeds, three at least: with one seed, the chance between runs is not measured."),
    ],
)
def test_the_larger_part_of_the_uncertainty_decides_what_there_should_be_more_of(
    results: Results, one: Comparison, said: str
):
    assert any(step.startswith(said) for step in judged(results, {"a": one}).steps)


def test_the_part_of_the_examples_is_the_variance_over_resamples():
    resampled_RS = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]])
    assert estimate(np.array([1.0, 2.0]), resampled_RS).of_examples == pytest.approx(1.0)
    assert estimate(np.array([1.0]), resampled_RS[:, :1]).of_examples == pytest.approx(1.0)


def test_twice_the_seeds_make_the_part_of_the_seeds_half_as_large(results: Results):
    made = judged(results, {"a": of(0.0, 1.0, se=0.02, of_examples=0.0001)})
    least = Estimate(0.0, 0.1, 0.02, math.inf, 3).detectable(0.05)
    assert f"With 6 seeds, a difference of about {least * math.sqrt(0.625):.3f} would be found." in made.steps[-2]


def test_a_collapse_is_a_step(results: Results):
    collapsed = toy_results.study({"base": [WORSE | {"sst": (2,) * 8}], "more": [RIGHT]})
    assert any("give nearly the same answer to everything: base (collapsed: sst)." in s for s in words(collapsed).steps)


def test_the_errors_to_read_first_are_of_the_task_that_is_wrong_most_often():
    # 1 of 8 answers of sst is wrong and 3 of 8 of quora, all of which are 1 where the label is 0.
    one = toy_results.study({"base": [OTHER | {"sts": RIGHT["sts"]}]})
    assert Errors(one).most_wrong("base") == ("quora", 0.375, ("0", "1"))
    assert words(one).steps[-3] == (
        "Read the errors of quora first: 38% of the answers of 'base' are wrong there, most often 1 where the label "
        "is 0."
    )
    assert Errors(toy_results.study({"base": [RIGHT]})).most_wrong("base") is None


def test_a_single_run_is_shown_beside_the_best_constant_answer():
    found = words(toy_results.study({"base": [WORSE]}))
    # The scores are 6/8, 5/8 and a correlation of -1; those of the best constant answers are 3/8, 5/8 and 0.
    assert found.headline == (
        "'base' scores 0.458 out of 1 on the dev examples, on average over 3 tasks. "
        "Always giving the same answer would score 0.500."
    )
    assert "Not clearly better than the best constant answer: quora, sts." in found.limits
    assert found.steps[-1].startswith("To compare settings, run a study with several seeds")


def test_the_words_about_a_single_task_are_counted_in_right_answers():
    results = toy_results.study({"base": [{"quora": WORSE["quora"]}]}, labels={"quora": LABELS["quora"]})
    assert words(results).headline == (
        "'base' answers 62.5% of the 8 dev examples of quora correctly. Always giving the same answer would be right "
        "for 62.5%."
    )
    results = toy_results.study({"base": [{"sts": RIGHT["sts"]}] * 2}, labels={"sts": LABELS["sts"]})
    assert words(results).headline == (
        "'base' scores 1.000 out of 1 on the dev examples of sts, by pearson (the mean over 2 seeds). Always giving "
        "the same answer would score 0.000."
    )


def test_a_score_without_an_interval_is_not_called_clearly_better():
    found = words(toy_results.study({"base": [RIGHT]}))
    assert "overall has no interval, because it is the same for every choice of the dev examples." in found.limits
    assert not any(line.startswith("Every task is clearly better") for line in found.limits)


def test_a_run_whose_last_score_is_its_highest_should_train_longer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "selected", lambda line, recipe: line["evaluation"])
    run = replace(toy_results.result("base", 0, RIGHT), folder=Path("runs/mine"))

    def advice(*scores: float) -> list[str]:
        return _still_rising(replace(run, steps=[{"step": 0}, *({"step": 1, "evaluation": s} for s in scores)]))

    assert advice(0.5, 0.7) == [
        "Train longer: the last evaluation was the best one. mtbert train --resume runs/mine --epochs "
        f"{2 * run.recipe.train.epochs} goes on."
    ]
    assert advice(0.7, 0.5) == advice(0.7) == advice(0.9, 1.0, 1.0) == []
