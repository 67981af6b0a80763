"""Calibrations, fitted on held-out rows, against slow references and literals.

Dimension key: B examples, K classes or labels.
"""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax

from mtbert.answers import calibration
from mtbert.answers.calibration import (
    ISOTONIC,
    KNOTS,
    PLATT,
    TEMPERATURE_OF_CLASSES,
    TEMPERATURE_OF_LABELS,
    Calibration,
    class_loss,
    curve,
    label_loss,
)
from mtbert.answers.fitting import calibrated, check_fitted


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


def fitted_numbers(way: Calibration, logits: np.ndarray, labels: np.ndarray, weights=None) -> dict[str, np.ndarray]:
    found = way.fit(logits, labels, np.ones(len(labels)) if weights is None else weights)
    return dict(zip(way.names, found, strict=True))


# The formulas, written out, with the standard deviations of the priors -------------------------------------


def slow_class_loss(logits_BK: np.ndarray, labels_B: np.ndarray, weights_B: np.ndarray, scale: float) -> float:
    n, classes, total = sum(weights_B), logits_BK.shape[1], (math.log(scale) / 0.5) ** 2 / 2
    for x_K, y, w in zip(scale * logits_BK, labels_B, weights_B, strict=True):
        log_sum = math.log(sum(math.exp(x) for x in x_K))
        target_K = [(n * (k == y) + 1 / classes) / (n + 1) for k in range(classes)]
        total -= w * sum(t * (x - log_sum) for t, x in zip(target_K, x_K, strict=True))
    return total


def slow_label_loss(logits, labels, weights, scale: float, bias: float = 0.0) -> float:
    n, total = sum(weights), (math.log(scale) / 0.5) ** 2 / 2 + bias**2 / 2
    for x, y, w in zip(logits, labels, weights, strict=True):
        p, target = 1 / (1 + math.exp(-scale * x - bias)), (n * y + 0.5) / (n + 1)
        total -= w * (target * math.log(p) + (1 - target) * math.log(1 - p))
    return total


# Temperature ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_temperature_has_a_lower_loss_against_smoothed_targets(seed: int, weighted: bool):
    logits_BK, labels_B = drawn(seed, rows=60)
    weights_B = np.random.default_rng(seed).uniform(0.1, 5, 60) if weighted else np.ones(60)
    scale = float(fitted_numbers(TEMPERATURE_OF_CLASSES, logits_BK, labels_B, weights_B)["scale"])
    best = min(np.linspace(0.1, 1, 91), key=lambda scale: slow_class_loss(logits_BK, labels_B, weights_B, scale))
    assert scale == pytest.approx(best, abs=0.01)
    assert slow_class_loss(logits_BK, labels_B, weights_B, scale) <= slow_class_loss(
        logits_BK, labels_B, weights_B, best
    )


def test_the_temperature_of_many_rows_is_the_true_one():
    assert fitted_numbers(TEMPERATURE_OF_CLASSES, *drawn(0, rows=4000))["scale"] == pytest.approx(0.25, abs=0.02)


def test_the_temperature_of_sets_leaves_unknown_labels_out():
    logits_B, labels_B = yes_or_no(0)
    logits_BK, labels_BK = np.stack([logits_B, 0.5 * logits_B], 1), np.stack([labels_B, labels_B[::-1]], 1)
    known_BK = np.random.default_rng(1).random(labels_BK.shape) < 0.7
    weights_B = np.random.default_rng(2).uniform(0.1, 2, len(labels_B))
    weights_N = np.stack([weights_B, weights_B], 1)[known_BK]

    def loss(scale: float) -> float:
        return slow_label_loss(logits_BK[known_BK], labels_BK[known_BK], weights_N, scale)

    labels_BK[~known_BK] = np.nan
    scale = float(fitted_numbers(TEMPERATURE_OF_LABELS, logits_BK, labels_BK, weights_B)["scale"])
    best = min(np.linspace(0.01, 1, 400), key=loss)
    assert scale == pytest.approx(best, abs=0.003)


def test_rows_that_are_all_right_do_not_make_answers_certain():
    logits_BK, labels_B = np.eye(3).repeat(10, 0), np.arange(3.0).repeat(10)
    scale = fitted_numbers(TEMPERATURE_OF_CLASSES, logits_BK, labels_B)["scale"]
    best = min(np.linspace(1, 8, 701), key=lambda scale: slow_class_loss(logits_BK, labels_B, np.ones(30), scale))
    assert scale == pytest.approx(best, abs=0.01)
    p = np.exp(log_softmax(scale * logits_BK, axis=1)).max(1)
    assert 0.9 < p.max() < 31 / 32


def test_a_handful_of_rows_moves_no_scale_far():
    """Ten rows that all are right by a hair: the scale was 62 without a prior."""
    logits_BK, labels_B = 0.05 * np.eye(3)[np.arange(10) % 3], np.arange(10.0) % 3
    assert 1 < fitted_numbers(TEMPERATURE_OF_CLASSES, logits_BK, labels_B)["scale"] < 1.2
    numbers = fitted_numbers(PLATT, 0.05 * (np.arange(10) % 2 - 0.5), np.arange(10.0) % 2)
    assert 1 < numbers["scale"] < 1.2


@pytest.mark.parametrize("classes", [2, 77])
def test_honest_probabilities_of_many_classes_stay_as_they_are(classes: int):
    """One more row for each class, as in Platt's paper, made 77 classes lose 0.3 nats on 200 rows."""
    logits_BK, labels_B = drawn(0, rows=200, classes=classes, sharp=1.0)
    assert fitted_numbers(TEMPERATURE_OF_CLASSES, logits_BK, labels_B)["scale"] == pytest.approx(1, abs=0.15)


# Yes or no --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_platt_is_as_good_as_the_best_of_a_grid(seed: int, weighted: bool):
    logits_B, labels_B = yes_or_no(seed, rows=80)
    weights_B = np.random.default_rng(seed).uniform(0.1, 5, 80) if weighted else np.ones(80)
    numbers = fitted_numbers(PLATT, logits_B, labels_B, weights_B)
    scale, bias = float(numbers["scale"]), float(numbers["bias"])

    def loss(point: tuple[float, float]) -> float:
        return slow_label_loss(logits_B, labels_B, weights_B, *point)

    best = min(((a, b) for a in np.linspace(0.2, 1, 41) for b in np.linspace(-2, 0.5, 26)), key=loss)
    assert (scale, bias) == (pytest.approx(best[0], abs=0.03), pytest.approx(best[1], abs=0.11))
    assert loss((scale, bias)) <= loss(best)


def test_the_losses_are_those_of_the_formulas():
    rng = np.random.default_rng(0)
    (logits_BK, classes_B), (logits_B, labels_B) = drawn(0, rows=20), yes_or_no(0, rows=20)
    weights_B = rng.uniform(0.1, 3, 20)
    prior = (math.log(0.7) / 0.5) ** 2 / 2
    assert class_loss(logits_BK, classes_B, weights_B, 0.7) == pytest.approx(
        slow_class_loss(logits_BK, classes_B, weights_B, 0.7) - prior
    )
    assert label_loss(logits_B, labels_B, weights_B, 0.7, -0.3) == pytest.approx(
        slow_label_loss(logits_B, labels_B, weights_B, 0.7, -0.3) - prior - 0.3**2 / 2
    )


def test_platt_never_turns_the_order_of_answers_around():
    logits_B, labels_B = yes_or_no(0, rows=4000)
    numbers = fitted_numbers(PLATT, -logits_B, labels_B)
    assert numbers["scale"] == pytest.approx(0.01, abs=0.01)
    assert math.isfinite(numbers["bias"])


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_held_out_rows_of_one_label_do_not_make_answers_certain(label: float):
    logits_B, labels_B = np.tile([-1.0, 0.0, 2.0, 3.0], 5), np.full(20, label)
    for way in (PLATT, ISOTONIC):
        numbers = fitted_numbers(way, logits_B, labels_B)
        fitted = {name: torch.tensor(number, dtype=torch.float32) for name, number in numbers.items()}
        p_B = calibrated(torch.tensor([0.0, 2.0]), fitted).sigmoid()
        assert all(0.01 < abs(p - label) < 0.25 for p in p_B.tolist())


def slow_isotonic(x_B: np.ndarray, y_B: np.ndarray, w_B: np.ndarray) -> np.ndarray:
    """Returns the best function that never falls, at each x: the largest mean over windows to the left, and so on."""
    order = np.argsort(x_B)
    y, w = y_B[order], w_B[order]

    def mean(i: int, j: int) -> float:
        return float(w[i : j + 1] @ y[i : j + 1] / w[i : j + 1].sum())

    best = [max(min(mean(i, j) for j in range(k, len(y))) for i in range(k + 1)) for k in range(len(y))]
    found = np.empty(len(y))
    found[order] = best
    return found


@pytest.mark.parametrize("weighted", [False, True])
def test_isotonic_is_the_best_function_that_never_falls(weighted: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calibration, "FEWEST_ISOTONIC", 50)
    logits_B, labels_B = yes_or_no(2, rows=60)
    weights_B = np.random.default_rng(0).uniform(0.5, 5, 60) if weighted else np.ones(60)
    knots = fitted_numbers(ISOTONIC, logits_B, labels_B, weights_B)["knots"]
    assert knots.shape == (2, KNOTS)
    check_fitted({"knots": knots})
    found = calibrated(torch.tensor(logits_B), {"knots": torch.tensor(knots)})
    n = weights_B.sum()
    expected = slow_isotonic(logits_B, (n * labels_B + 0.5) / (n + 1), weights_B)
    assert found.sigmoid().numpy() == pytest.approx(expected, abs=1e-6)
    far = calibrated(torch.tensor([-1e9, 1e9]), {"knots": torch.tensor(knots)}).sigmoid()
    assert far.tolist() == pytest.approx([expected.min(), expected.max()])


def test_an_isotonic_function_of_too_many_knots_is_thinned_out(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    x_B = np.arange(3000.0)
    labels_B = (rng.random(3000) < x_B / 3000).astype(float)
    monkeypatch.setattr(calibration, "KNOTS", 8)
    knots = fitted_numbers(ISOTONIC, x_B, labels_B)["knots"]
    assert knots.shape == (2, 8)
    assert (knots[0, 0], knots[0, -1]) == (0, 2999)
    check_fitted({"knots": knots})


def test_on_few_rows_an_isotonic_function_is_the_curve_of_platt():
    logits_B, labels_B = yes_or_no(0, rows=299)
    platt = fitted_numbers(PLATT, logits_B, labels_B)
    knots = fitted_numbers(ISOTONIC, logits_B, labels_B)["knots"]
    check_fitted({"knots": knots})
    x_B = torch.linspace(-8, 8, 50, dtype=torch.float64)
    found = calibrated(x_B, {"knots": torch.tensor(knots)})
    assert found.numpy() == pytest.approx(platt["scale"] * x_B.numpy() + platt["bias"], abs=2e-3)
    more = fitted_numbers(ISOTONIC, *yes_or_no(0, rows=300))["knots"]
    assert len(np.unique(more[1])) < KNOTS


def test_the_curve_passes_through_its_literals():
    knots = curve(2.0, -1.0)
    assert np.interp([0.5, 1.0], *knots) == pytest.approx([0.5, expit(1.0)], abs=1e-3)
    assert (knots[0, 0], knots[0, -1]) == (-4.5, 5.5)


# Weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [TEMPERATURE_OF_CLASSES, TEMPERATURE_OF_LABELS, PLATT, ISOTONIC])
def test_a_row_of_weight_three_counts_as_three_rows(way: Calibration, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calibration, "FEWEST_ISOTONIC", 50)
    logits, labels = drawn(0, rows=40) if way is TEMPERATURE_OF_CLASSES else yes_or_no(0, rows=40)
    weights_B = np.random.default_rng(0).integers(1, 4, 40)
    found = fitted_numbers(way, logits, labels, weights_B.astype(float))
    expected = fitted_numbers(way, logits.repeat(weights_B, 0), labels.repeat(weights_B))
    for name, number in found.items():
        assert number == pytest.approx(expected[name], abs=1e-6), name
    assert any(not np.allclose(number, fitted_numbers(way, logits, labels)[name]) for name, number in found.items())


# Soft labels --------------------------------------------------------------------------------------------------


def test_distributions_that_name_one_class_give_the_temperature_of_that_class():
    logits_BK, labels_B = drawn(0)
    hard, soft = (
        fitted_numbers(TEMPERATURE_OF_CLASSES, logits_BK, y) for y in (labels_B, np.eye(3)[labels_B.astype(int)])
    )
    assert hard == soft


def test_calibration_to_shares_meets_the_shares():
    logits_BK = drawn(0)[0]
    shares_BK = np.exp(log_softmax(0.25 * logits_BK, axis=1))
    assert fitted_numbers(TEMPERATURE_OF_CLASSES, logits_BK, shares_BK)["scale"] == pytest.approx(0.25, abs=0.01)
    logits_B = logits_BK[:, 0]
    numbers = fitted_numbers(PLATT, logits_B, expit(0.5 * logits_B - 1))
    assert numbers == {"scale": pytest.approx(0.5, abs=0.02), "bias": pytest.approx(-1, abs=0.03)}
