"""The numbers of a study, computed from given answers."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import toy_results
from sklearn.metrics import f1_score
from toy_results import LABELS, OTHER, RIGHT, WORSE

from mtbert.studying import statistics
from mtbert.studying.report import undefined_metrics
from mtbert.studying.results import Results
from mtbert.studying.statistics import Estimate
from mtbert.studying.summary import Comparison, Summary, summarise


def compared(mean: float, p: float, corrected: float) -> Comparison:
    return Comparison("base", Estimate(mean, 0.1, 0.1, math.inf, 3), p, corrected)


@pytest.mark.parametrize(
    ("mean", "p", "corrected", "verdict"),
    [
        (0.1, 0.001, 0.049, "better"),
        (-0.1, 0.001, 0.049, "worse"),
        (0.1, 0.001, 0.051, "unclear"),
        (-0.1, 0.049, 0.5, "unclear"),
    ],
)
def test_a_verdict_follows_from_the_corrected_p(mean: float, p: float, corrected: float, verdict: str):
    assert compared(mean, p, corrected).verdict == verdict


def test_scores_and_those_of_the_best_constant_equal_a_calculation_by_hand():
    found = summarise(toy_results.study({"base": [WORSE, RIGHT]}))
    assert found.rows["base"].by_seed[0] == pytest.approx(
        {"sst": 6 / 8, "quora": 5 / 8, "sts": -1.0, "overall": (6 / 8 + 5 / 8 + 0) / 3}
    )
    assert found.rows["base"].scores["overall"].mean == pytest.approx((11 / 24 + 1) / 2)
    # Class 2 has 3 of 8, no has 5 of 8, and a correlation of 0 counts as 1/2.
    assert found.baseline == pytest.approx({"sst": 3 / 8, "quora": 5 / 8, "sts": 0.0, "overall": (1 + 0.5) / 3})


def test_resampled_overalls_map_correlations_too():
    found = summarise(toy_results.study({"base": [WORSE]})).rows["base"].scores
    parts = [found[task].se for task in ("sst", "quora")]
    # The correlation is -1 in every resample, so overall varies only with the two accuracies.
    assert found["sts"].se == pytest.approx(0, abs=1e-6)
    assert found["overall"].se == pytest.approx(math.hypot(*parts) / 3, rel=0.1)


def test_intervals_know_the_range_and_the_examples_of_each_score():
    found = summarise(toy_results.study({"base": [RIGHT], "worse": [WORSE]}, controls={"worse": "base"}))
    perfect, other = found.rows["base"].scores, found.rows["worse"].scores
    assert perfect["sst"].interval == pytest.approx((0.67559, 1), abs=1e-5)  # Wilson's interval of 8 out of 8
    assert other["quora"].interval == pytest.approx((0.30574, 0.86316), abs=1e-5)  # of 5 out of 8
    assert perfect["sts"].interval is None
    assert perfect["overall"].interval is None
    differences = found.comparisons["control"]["worse"]
    bounds = {name: one.difference.bounds for name, one in differences.items()}
    assert bounds == {"sst": (-1, 1), "quora": (-1, 1), "sts": (-2, 2), "overall": (-1, 1)}


def three(*, seeds: int = 3) -> Results:
    """A study of a base and two other recipes, one of which is close to the base; answers differ from seed to seed."""
    draws = np.random.default_rng(0)

    def answers(wrong: int) -> dict[str, tuple[float, ...]]:
        sst = list(LABELS["sst"])
        for i in draws.permutation(8)[:wrong]:
            sst[i] = (sst[i] + 1) % 5
        quora = [1 - y if draws.random() < 0.3 else y for y in LABELS["quora"]]
        return {
            "sst": tuple(sst),
            "quora": tuple(quora),
            "sts": tuple(y / 5 + draws.normal(0, 0.2) for y in LABELS["sts"]),
        }

    rows = {
        row: [answers(wrong) for wrong in numbers[:seeds]]
        for row, numbers in (("base", (5, 6, 7)), ("near", (5, 5, 6)), ("far", (0, 1, 0)))
    }
    return toy_results.study(rows, controls={"near": "base", "far": "base"})


def test_holm_corrects_over_the_rows_of_one_score():
    found = summarise(three()).comparisons["control"]
    for key in ("sst", "quora", "sts", "overall"):
        p = [found[row][key].p for row in ("near", "far")]
        assert [found[row][key].corrected for row in ("near", "far")] == statistics.holm(p)
    assert found["far"]["sst"].corrected == pytest.approx(2 * found["far"]["sst"].p)


def test_a_difference_is_the_row_minus_the_other():
    found = summarise(toy_results.study({"base": [WORSE], "more": [OTHER]}, controls={"more": "base"}))
    assert found.comparisons["control"]["more"]["sst"].difference.mean == pytest.approx(1 / 8)
    assert found.comparisons["reference"]["more"]["overall"].difference.mean == pytest.approx(1 / 24)


def test_mcnemar_is_for_accuracies_of_one_seed_alone():
    several = summarise(three(seeds=2)).comparisons["control"]["far"]
    assert all(c.p == c.difference.p for c in several.values())
    one = summarise(three(seeds=1)).comparisons["control"]["far"]
    assert one["sst"].p != one["sst"].difference.p
    assert one["sts"].p == one["sts"].difference.p
    assert one["overall"].p == one["overall"].difference.p


def test_mcnemar_is_not_for_macro_f1(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics, "resample", partial(statistics.resample, resamples=50))
    one = three(seeds=1)
    one = replace(one, dev=one.dev | {"sst": replace(one.dev["sst"], metric="macro_f1")})
    found = summarise(one)
    sst = found.comparisons["control"]["far"]["sst"]
    assert sst.p == sst.difference.p
    predicted = one.runs["far"][0].predicted["sst"].decision.numpy()
    expected = f1_score(one.dev["sst"].labels, predicted, average="macro", zero_division=0.0)
    assert found.rows["far"].scores["sst"].mean == pytest.approx(expected)


def test_the_detectable_difference_is_that_of_the_median_row():
    by_row = {row: {"overall": compared(0.0, 1.0, 1.0)} for row in "abc"}
    for row, se in (("a", 0.01), ("b", 0.02), ("c", 0.09)):
        difference = Estimate(0.0, 0.1, se, math.inf, 3)
        by_row[row]["overall"] = replace(by_row[row]["overall"], difference=difference)
    summary = Summary({}, {}, {"control": by_row, "reference": {}}, "overall")
    # Holm's first step over three rows: the two-sided quantile at 0.05 / 3, and 0.8416 for a power of 0.8.
    assert summary.detectable("control", "overall") == pytest.approx(0.02 * (2.39398 + 0.84162), rel=1e-4)
    assert summary.detectable("reference", "overall") is None


def test_a_collapse_is_counted_over_the_seeds():
    constant = {"sst": (2,) * 8, "quora": (0,) * 8, "sts": (0.5,) * 8}
    study = toy_results.study({"base": [RIGHT, constant | {"sts": RIGHT["sts"]}, constant]})
    found = summarise(study).rows["base"]
    assert found.collapsed == {"sst": 2, "quora": 2, "sts": 1}
    assert undefined_metrics(study) == ["task sts: correlation with a constant is undefined; reported as 0."]
    assert undefined_metrics(toy_results.study({"base": [RIGHT]})) == []


def test_overall_is_over_the_tasks_of_the_reference():
    both = toy_results.study({"base": [WORSE], "more": [RIGHT]})
    found = summarise(toy_results.without(both, "base", "quora"))
    assert found.baseline["overall"] == pytest.approx((3 / 8 + 1 / 2) / 2)
    assert found.rows["base"].scores["overall"].mean == pytest.approx((6 / 8 + 0) / 2)
    assert found.rows["more"].scores["quora"].mean == 1
