"""The numbers that are fitted on held-out rows, against slow references and literals.

Dimension key: B examples, K numbers of one answer.
"""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, logit

from mtbert.answers import fitting
from mtbert.answers.fitting import (
    COSINE_OF_YES_OR_NO,
    ISOTONIC,
    KNOTS,
    NOTHING_FITTED,
    PLATT,
    SETS,
    TEMPERATURE_OF_CLASSES,
    TEMPERATURE_OF_LABELS,
    YES_OR_NO,
    best_f1_of_each,
    calibrated,
    check_fitted,
    fit_numbers,
    start,
)


def drawn(seed: int, rows: int = 400, classes: int = 3, sharp: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits ``[B, K]`` that are ``sharp`` times too large, and labels drawn from the honest probabilities."""
    rng = np.random.default_rng(seed)
    honest_BK = rng.normal(0, 1, (rows, classes))
    p_BK = np.exp(log_softmax(honest_BK, axis=1))
    labels_B = np.array([rng.choice(classes, p=p_K) for p_K in p_BK], float)
    return sharp * honest_BK, labels_B


def yes_or_no(seed: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits_B = rng.normal(0, 3, rows)
    return logits_B, (rng.random(rows) < expit(0.5 * logits_B - 1)).astype(float)


# Temperature ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_no_other_temperature_has_a_lower_loss_against_smoothed_targets(seed: int):
    logits_BK, labels_B = drawn(seed)
    rows, classes = logits_BK.shape
    targets_BK = (rows * np.eye(classes)[labels_B.astype(int)] + 1) / (rows + classes)

    def loss(scale: float) -> float:  # the formula, written out
        return float(np.mean([-t @ log_softmax(scale * x) for t, x in zip(targets_BK, logits_BK, strict=True)]))

    (scale,) = TEMPERATURE_OF_CLASSES.fit(logits_BK, labels_B)
    best = min(np.linspace(0.05, 1, 200), key=loss)
    assert scale == pytest.approx(best, abs=0.005)
    assert scale == pytest.approx(0.25, abs=0.05)  # the logits are 4 times too large
    assert loss(float(scale)) <= loss(best)


def test_the_temperature_of_sets_leaves_unknown_labels_out():
    logits_B, labels_B = yes_or_no(0)
    logits_BK, labels_BK = np.stack([logits_B, 0.5 * logits_B], 1), np.stack([labels_B, labels_B[::-1]], 1)
    known_BK = np.random.default_rng(1).random(labels_BK.shape) < 0.7
    n = known_BK.sum()

    def loss(scale: float) -> float:
        targets = [(n * y + 1) / (n + 2) for y in labels_BK[known_BK]]
        p = expit(scale * logits_BK[known_BK])
        return -sum(t * math.log(q) + (1 - t) * math.log(1 - q) for t, q in zip(targets, p, strict=True)) / n

    (scale,) = TEMPERATURE_OF_LABELS.fit(logits_BK, np.where(known_BK, labels_BK, np.nan))
    best = min(np.linspace(0.01, 1, 400), key=loss)
    assert scale == pytest.approx(best, abs=0.003)


def test_rows_that_are_all_right_do_not_make_answers_certain():
    logits_BK, labels_B = np.eye(3).repeat(10, 0), np.arange(3.0).repeat(10)
    (scale,) = TEMPERATURE_OF_CLASSES.fit(logits_BK, labels_B)
    p = np.exp(log_softmax(scale * logits_BK, axis=1)).max(1)
    assert p == pytest.approx(31 / 33, abs=1e-5)  # 30 rows and one more of each class


# Yes or no --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_platt_is_as_good_as_the_best_of_a_grid(seed: int):
    logits_B, labels_B = yes_or_no(seed)
    n = len(labels_B)
    target_B = (n * labels_B + 1) / (n + 2)

    def loss(scale: float, bias: float) -> float:
        p_B = expit(scale * logits_B + bias)
        return float(-(target_B * np.log(p_B) + (1 - target_B) * np.log(1 - p_B)).mean())

    scale, bias = map(float, PLATT.fit(logits_B, labels_B))
    grid = [(a, b) for a in np.linspace(0.2, 1, 41) for b in np.linspace(-2, 0.5, 51)]
    best = min(grid, key=lambda point: loss(*point))
    assert (scale, bias) == (pytest.approx(best[0], abs=0.03), pytest.approx(best[1], abs=0.06))
    assert loss(scale, bias) <= loss(*best)
    assert loss(scale, bias) == pytest.approx(fitting.label_loss(logits_B, labels_B, scale, bias))


def test_platt_never_turns_the_order_of_answers_around():
    logits_B, labels_B = yes_or_no(0)
    scale, bias = PLATT.fit(-logits_B, labels_B)
    assert scale == pytest.approx(0.01)
    assert math.isfinite(bias)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_held_out_rows_of_one_label_do_not_make_answers_certain(label: float):
    logits_B, labels_B = np.array([-1.0, 0.0, 2.0, 3.0]), np.full(4, label)
    for calibration in (PLATT, ISOTONIC):
        numbers = dict(zip(calibration.names, calibration.fit(logits_B, labels_B), strict=True))
        fitted = {name: torch.tensor(number, dtype=torch.float32) for name, number in numbers.items()}
        p_B = calibrated(torch.tensor([0.0, 2.0]), fitted).sigmoid()
        assert (p_B - label).abs().tolist() == pytest.approx([1 / 6] * 2, abs=0.02)


def slow_isotonic(x_B: np.ndarray, y_B: np.ndarray) -> np.ndarray:
    """Returns the best function that never falls, at each x: the largest mean over windows to the left, and so on."""
    order = np.argsort(x_B)
    y = y_B[order]
    best = [max(min(y[i : j + 1].mean() for j in range(k, len(y))) for i in range(k + 1)) for k in range(len(y))]
    found = np.empty(len(y))
    found[order] = best
    return found


def test_isotonic_is_the_best_function_that_never_falls():
    logits_B, labels_B = yes_or_no(2, rows=60)
    (knots,) = ISOTONIC.fit(logits_B, labels_B)
    assert knots.shape == (2, KNOTS)
    check_fitted({"knots": knots})
    found = calibrated(torch.tensor(logits_B), {"knots": torch.tensor(knots)})
    expected = slow_isotonic(logits_B, (60 * labels_B + 1) / 62)
    assert found.sigmoid().numpy() == pytest.approx(expected, abs=1e-6)
    far = calibrated(torch.tensor([-1e9, 1e9]), {"knots": torch.tensor(knots)}).sigmoid()
    assert far.tolist() == pytest.approx([expected.min(), expected.max()])


def test_an_isotonic_function_of_too_many_knots_is_thinned_out():
    rng = np.random.default_rng(0)
    x_B = np.arange(3000.0)
    labels_B = (rng.random(3000) < x_B / 3000).astype(float)
    before = fitting.KNOTS
    try:
        fitting.KNOTS = 8
        (knots,) = ISOTONIC.fit(x_B, labels_B)
    finally:
        fitting.KNOTS = before
    assert knots.shape == (2, 8)
    assert (knots[0, 0], knots[0, -1]) == (0, 2999)
    check_fitted({"knots": knots})


# Thresholds of sets -------------------------------------------------------------------------------------------


def f1(yes_B: np.ndarray, given_B: np.ndarray) -> float:
    return float(2 * (yes_B & given_B).sum() / max(yes_B.sum() + given_B.sum(), 1))


@pytest.mark.parametrize("seed", range(20))
def test_each_label_gets_the_threshold_of_its_best_f1(seed: int):
    rng = np.random.default_rng(seed)
    logits_BK = np.round(rng.normal(0, 1, (40, 3)), 1)  # rounded, so that some are equal
    labels_BK = (rng.random((40, 3)) < expit(logits_BK - 1)).astype(float)
    labels_BK[rng.random((40, 3)) < 0.1] = np.nan
    for k, threshold in enumerate(best_f1_of_each(logits_BK, labels_BK)):
        known_B = ~np.isnan(labels_BK[:, k])
        x_B, given_B = logits_BK[known_B, k], labels_BK[known_B, k] == 1
        if min(given_B.sum(), (~given_B).sum()) < 5:
            assert threshold == 0
            continue
        best = max(f1(x_B > t, given_B) for t in (-9.0, *x_B))
        assert f1(x_B > threshold, given_B) == pytest.approx(best)
        edges = [*((a + b) / 2 for a, b in pairwise(np.unique(x_B))), x_B.min() - 1]
        as_good = [t for t in edges if f1(x_B > t, given_B) == pytest.approx(best)]
        assert abs(threshold) == pytest.approx(min(map(abs, as_good)))


def test_a_label_that_few_rows_have_or_lack_keeps_a_probability_of_one_half():
    x_BK = np.linspace(-3, -1, 10)[:, None].repeat(3, 1)
    four, five = np.arange(10) >= 6, np.arange(10) >= 5
    thresholds = best_f1_of_each(x_BK, np.stack([four, ~four, five], 1).astype(float))
    assert thresholds[:2].tolist() == [0, 0]
    assert -3 < thresholds[2] < -1


# Together ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"scale": np.array(-1.0)}, "scale must be 0.01 to 100, found -1."),
        ({"scale": np.array(0.009)}, "scale must be 0.01 to 100, found 0.009."),
        ({"scale": np.array(3e38)}, "scale must be 0.01 to 100, found 3e+38."),
        ({"bias": np.array(-3e38)}, "bias must be -10000 to 10000, found -3e+38."),
        ({"knots": np.array([[1.0, 0.0], [0.1, 0.2]])}, "knots must rise"),
        ({"knots": np.array([[0.0, 1.0], [0.3, 0.2]])}, "knots must rise"),
        (
            {"knots": np.array([[0.0, 1.0], [0.0, 0.2]])},
            "knots must rise, with probabilities above 0 and below 1, found others.",
        ),
        ({"knots": np.array([[0.0, 1.0], [0.5, 1.0]])}, "knots must rise"),
    ],
)
def test_numbers_that_no_fit_gives_are_refused(numbers, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        check_fitted(numbers)


@pytest.mark.parametrize("name", ["scale", "bias"])
def test_the_limits_of_fitted_numbers_are_accepted_as_they_are_saved(name):
    for limit in fitting.LIMITS[name]:
        check_fitted({name: np.float32(limit)})


def test_logit_of_the_first_knots_is_a_straight_line():
    logits_Q, p_Q = start(("knots",), ())["knots"]
    assert logit(p_Q) == pytest.approx(logits_Q)


# Soft labels --------------------------------------------------------------------------------------------------


def test_distributions_that_name_one_class_give_the_temperature_of_that_class():
    logits_BK, labels_B = drawn(0)
    (hard,), (soft,) = (TEMPERATURE_OF_CLASSES.fit(logits_BK, y) for y in (labels_B, np.eye(3)[labels_B.astype(int)]))
    assert hard == soft


def test_calibration_to_shares_meets_the_shares():
    logits_BK = drawn(0)[0]
    shares_BK = np.exp(log_softmax(0.25 * logits_BK, axis=1))
    (scale,) = TEMPERATURE_OF_CLASSES.fit(logits_BK, shares_BK)
    assert scale == pytest.approx(0.25, abs=0.01)
    logits_B = logits_BK[:, 0]
    scale, bias = PLATT.fit(logits_B, expit(0.5 * logits_B - 1))
    assert (scale, bias) == (pytest.approx(0.5, abs=0.01), pytest.approx(-1, abs=0.02))
