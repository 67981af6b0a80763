"""The numbers that are fitted on held-out rows: which they are, by which weights, in which order, and their limits.

Dimension key: B examples, K numbers of one answer.
"""

import re

import numpy as np
import pytest
import torch
from scipy.special import logit
from test_calibration import drawn, yes_or_no

from mtbert.answers.calibration import LIMITS
from mtbert.answers.fitting import (
    CLASSES,
    COSINE_OF_YES_OR_NO,
    NOTHING_FITTED,
    SETS,
    YES_OR_NO,
    calibrated,
    check_fitted,
    doubts,
    fit_numbers,
    row_weights,
    start,
)


def test_a_threshold_is_fitted_on_calibrated_predictions():
    logits_B, labels_B = yes_or_no(0)
    logits_BK, labels_BK = logits_B[:, None] - 0.2, labels_B[:, None]
    alone = fit_numbers(SETS, ["threshold"], logits_BK, labels_BK)
    both = fit_numbers(SETS, ["threshold", "scale"], logits_BK, labels_BK)
    assert both["threshold"] == pytest.approx(both["scale"] * alone["threshold"], abs=1e-6)
    assert abs(both["scale"] - 1) > 0.1
    assert set(fit_numbers(COSINE_OF_YES_OR_NO, ["threshold"], logits_B, labels_B)) == {"threshold"}
    assert set(fit_numbers(YES_OR_NO, ["knots"], logits_B, labels_B)) == {"knots"}
    assert fit_numbers(NOTHING_FITTED, ["threshold"], logits_B, labels_B) == {}


@pytest.mark.parametrize(
    ("fits", "calibrate", "held_out", "names"),
    [
        (COSINE_OF_YES_OR_NO, False, False, ("threshold",)),
        (COSINE_OF_YES_OR_NO, True, True, ("threshold",)),
        (SETS, False, False, ()),
        (SETS, False, True, ("threshold",)),
        (SETS, "isotonic", True, ("threshold", "scale")),
        (YES_OR_NO, False, True, ()),
        (YES_OR_NO, True, True, ("scale", "bias")),
        (YES_OR_NO, "isotonic", True, ("knots",)),
        (NOTHING_FITTED, True, True, ()),
    ],
)
def test_what_is_fitted_depends_on_the_recipe(fits, calibrate, held_out, names):
    assert fits.names(calibrate, held_out=held_out) == names


def test_numbers_that_are_not_fitted_yet_change_nothing():
    logits_BK = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    fitted = {name: torch.tensor(number) for name, number in start(("scale", "bias"), (3,)).items()}
    assert torch.equal(calibrated(logits_BK, fitted).float(), logits_BK)
    assert calibrated(logits_BK, {"threshold": torch.zeros(3)}) is logits_BK
    knots = {"knots": torch.tensor(start(("knots",), ())["knots"])}
    assert calibrated(logits_BK[:, 0], knots).tolist() == pytest.approx(logits_BK[:, 0].tolist(), abs=2e-3)
    assert start(("threshold",), (3,))["threshold"].tolist() == [0, 0, 0]


def test_yes_or_no_is_scaled_before_it_is_moved():
    fitted = {"scale": torch.tensor(2.0), "bias": torch.tensor(-1.0)}
    assert calibrated(torch.tensor([0.0, 1.0]), fitted).tolist() == [-1.0, 1.0]


def test_logit_of_the_first_knots_is_a_straight_line():
    logits_Q, p_Q = start(("knots",), ())["knots"]
    assert logit(p_Q) == pytest.approx(logits_Q)


# Weights ----------------------------------------------------------------------------------------------------


def test_weights_add_up_to_the_effective_number_of_rows():
    assert row_weights(3, None).tolist() == [1, 1, 1]
    assert row_weights(3, np.array([5.0, 5.0, 5.0])) == pytest.approx([1, 1, 1])
    assert row_weights(3, np.array([1.0, 2.0, 3.0])) == pytest.approx(np.array([1, 2, 3]) * 6 / 14)  # 36 / 14 in all
    assert row_weights(2, np.array([1e100, 1e-100])) == pytest.approx([1, 0])
    assert row_weights(2, np.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("fits", "names"),
    [
        (CLASSES, ("scale",)),
        (YES_OR_NO, ("scale", "bias")),
        (YES_OR_NO, ("knots",)),
        (SETS, ("threshold", "scale")),
        (COSINE_OF_YES_OR_NO, ("threshold",)),
    ],
)
def test_only_ratios_of_weights_count_and_rows_of_weight_0_do_not(fits, names):
    logits, labels_B = drawn(0, rows=40) if fits is CLASSES else yes_or_no(0, rows=40)
    labels = labels_B
    if fits is SETS:
        logits, labels = logits[:, None], labels_B[:, None]
    weights_B = np.random.default_rng(2).integers(0, 4, 40).astype(float)
    counts_B = weights_B > 0
    found = fit_numbers(fits, names, logits, labels, weights_B)
    scaled = fit_numbers(fits, names, logits, labels, 1e90 * weights_B)
    without = fit_numbers(fits, names, logits[counts_B], labels[counts_B], weights_B[counts_B])
    all_same = fit_numbers(fits, names, logits, labels, np.full(40, 7.0))
    unweighted = fit_numbers(fits, names, logits, labels)
    for name, number in found.items():
        assert scaled[name] == pytest.approx(number, abs=1e-6), name
        assert without[name] == pytest.approx(number, abs=1e-6), name
        assert all_same[name] == pytest.approx(unweighted[name], abs=1e-6), name
    assert any(not np.allclose(number, unweighted[name], atol=1e-3) for name, number in found.items())


# Few rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("scale", "bias"), ("knots",)])
def test_on_fewer_than_ten_rows_nothing_is_calibrated(names):
    logits_B, labels_B = yes_or_no(0, rows=10)
    nothing = start(names, ())
    nine, ten = (fit_numbers(YES_OR_NO, names, logits_B[:n], labels_B[:n]) for n in (9, 10))
    assert all(np.array_equal(number, nothing[name]) for name, number in nine.items())
    assert not any(np.allclose(number, nothing[name]) for name, number in ten.items())
    unequal_B = np.array([1.0] * 9 + [0.01])  # ten rows that say as much as nine
    found = fit_numbers(YES_OR_NO, names, logits_B, labels_B, unequal_B)
    assert all(np.array_equal(number, nothing[name]) for name, number in found.items())


SCARCE = "a calibration needs 10, so probabilities stay as they are. Raise train.held_out, or drop train.calibrate."
ISOTONIC = "an isotonic function needs 300, so Platt's method takes its place. Raise train.held_out, or set "
CHANCE = "with fewer than 10, the threshold is left to chance. Raise train.held_out."


@pytest.mark.parametrize(
    ("fits", "calibrate", "rows", "said"),
    [
        (CLASSES, True, 9, [f"9 held-out rows: {SCARCE}"]),
        (CLASSES, True, 10, []),
        (CLASSES, False, 1, []),
        (CLASSES, "isotonic", 299, []),
        (YES_OR_NO, True, 1, [f"1 held-out row: {SCARCE}"]),
        (YES_OR_NO, "isotonic", 9, [f"9 held-out rows: {SCARCE}"]),
        (YES_OR_NO, "isotonic", 299, [f"299 held-out rows: {ISOTONIC}train.calibrate: true."]),
        (YES_OR_NO, "isotonic", 300, []),
        (COSINE_OF_YES_OR_NO, True, 9, [f"9 held-out rows: {CHANCE}"]),
        (COSINE_OF_YES_OR_NO, False, 10, []),
        (NOTHING_FITTED, True, 1, []),
    ],
)
def test_one_line_says_that_too_few_rows_are_held_out(fits, calibrate, rows, said):
    assert doubts(fits, calibrate, ("no", "yes"), np.zeros(rows)) == said


def test_the_line_about_weighted_rows_says_what_they_are_worth():
    (line,) = doubts(CLASSES, True, ("a", "b"), np.zeros(12), np.array([1.0] * 6 + [0.0] * 6))
    assert line.startswith("12 held-out rows, worth 6 by their weights: a calibration needs 10")


def test_the_labels_that_keep_their_threshold_are_named():
    labels_BK = np.stack([np.arange(20) < n for n in (4, 5, 15, 16)], 1).astype(float)
    (line,) = doubts(SETS, False, ("a", "b", "c", "d"), labels_BK)
    assert line.startswith(
        "20 held-out rows: fewer than 5 have, or lack, 'a', 'd', so these labels keep the threshold of "
    )
    assert doubts(SETS, True, ("b", "c"), labels_BK[:, 1:3]) == []


# Limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"scale": np.array(-1.0)}, "scale must be 0.01 to 100, found -1."),
        ({"scale": np.array(0.009)}, "scale must be 0.01 to 100, found 0.009."),
        ({"scale": np.array(3e38)}, "scale must be 0.01 to 100, found 3e+38."),
        ({"bias": np.array(-3e38)}, "bias must be -10000 to 10000, found -3e+38."),
        ({"knots": np.array([[1.0, 0.0], [0.1, 0.2]])}, "knots must rise"),
        ({"knots": np.array([[0.0, 1.0], [0.3, 0.2]])}, "knots must rise"),
        ({"knots": np.array([[0.0, 1.0], [0.0, 0.2]])}, "knots must rise, with probabilities above 0 and below 1, fou"),
        ({"knots": np.array([[0.0, 1.0], [0.5, 1.0]])}, "knots must rise"),
    ],
)
def test_numbers_that_no_fit_gives_are_refused(numbers, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        check_fitted(numbers)


@pytest.mark.parametrize("name", ["scale", "bias"])
def test_the_limits_of_fitted_numbers_are_accepted_as_they_are_saved(name):
    for limit in LIMITS[name]:
        check_fitted({name: np.float32(limit)})


def test_a_function_between_knots_is_that_of_numpy_also_where_knots_share_a_place():
    rng = np.random.default_rng(0)
    for _ in range(30):
        x_Q = np.sort(rng.integers(-4, 5, 12)).astype(np.float64)  # many are equal
        p_Q = np.sort(rng.uniform(0.01, 0.99, 12))
        x_B = np.concatenate([x_Q, rng.uniform(-6, 6, 50), [-1e9, 1e9]])
        found = calibrated(torch.tensor(x_B), {"knots": torch.tensor(np.stack([x_Q, p_Q]))}).sigmoid()
        np.testing.assert_allclose(found.numpy(), np.interp(x_B, x_Q, p_Q), atol=1e-12)
