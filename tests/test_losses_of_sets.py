"""Losses of sets of labels against slow references, with labels missing and for predictions that overflow a formula.

Dimension key: B batch, K labels.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from one_step import backward
from tiny import CPU, dataset, model
from torch import Tensor

from mtbert.batch import Output
from mtbert.collate import collate
from mtbert.losses import Pass
from mtbert.losses.asymmetric import Asymmetric, asymmetric_loss
from mtbert.losses.classification import BinaryCrossEntropy
from mtbert.recipe.settings import validate_recipe
from mtbert.task import Head, Task
from mtbert.training.objective import Objective

NAN = math.nan
TASK = Task(name="t", type="multilabel", inputs="single", labels=("a", "b", "c"), head=Head(dropout=0.0))
MODEL = model(TASK)
BATCH = collate([(dataset(TASK, [2, 3], labels=[(0, 1, 0), (1, 1, 0)]), np.arange(2))], CPU)


def passed(prediction: Tensor, labels: Tensor) -> Pass:
    """Returns a pass with the given prediction."""
    out = Output(torch.zeros(1), torch.zeros(1), (), prediction)
    generator = torch.Generator()
    return Pass(MODEL, BATCH, TASK, out, labels, generator, generator.get_state())


def drawn() -> tuple[Tensor, Tensor]:
    """Returns logits and labels of 40 rows. A third of the labels and all labels of the last row are missing."""
    rng = np.random.default_rng(0)
    labels = (rng.random((40, 3)) < 0.3).astype(float)
    labels[rng.random((40, 3)) < 1 / 3] = NAN
    labels[-1] = NAN
    return torch.tensor(3 * rng.normal(size=(40, 3)), requires_grad=True), torch.tensor(labels)


def slow(logits: Tensor, labels: Tensor, of_label: Callable[[Tensor, float, int], Tensor]) -> Tensor:
    """Returns the mean over rows of the mean over the row's known labels, computed one label after the other."""
    total = logits.new_zeros(())
    for row, given in zip(logits, labels.tolist(), strict=True):
        known = [k for k, y in enumerate(given) if not math.isnan(y)]
        for k in known:
            total = total + of_label(row[k], given[k], k) / len(known)
    return total / len(logits)


def same(found: Tensor, expected: Tensor, logits: Tensor) -> None:
    """Compares two losses and their gradients."""
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    one, two = (torch.autograd.grad(loss, logits)[0] for loss in (found, expected))
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weights", [None, (2.0, 0.5, 7.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_bce_of_sets_and_its_gradient_equal_a_slow_reference(weights: tuple[float, ...] | None, smoothing: float):
    logits, labels = drawn()

    def of_label(z: Tensor, y: float, k: int) -> Tensor:
        p, target = 1 / (1 + torch.exp(-z)), y * (1 - smoothing) + smoothing / 2
        return -(target * (weights or (1.0,) * 3)[k] * torch.log(p) + (1 - target) * torch.log(1 - p))

    found = BinaryCrossEntropy(class_weights=weights, smoothing=smoothing)(passed(logits, labels))
    same(found, slow(logits, labels, of_label), logits)


@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "clip"), [(0.0, 4.0, 0.05), (1.0, 2.0, 0.0), (0.0, 0.5, 0.3), (2.5, 0.0, 0.05)]
)
def test_asl_and_its_gradient_equal_a_slow_reference(gamma_pos: float, gamma_neg: float, clip: float):
    logits, labels = drawn()

    def of_label(z: Tensor, y: float, k: int) -> Tensor:
        p = 1 / (1 + torch.exp(-z))
        if y == 1:
            return -((1 - p) ** gamma_pos) * torch.log(p)
        return z * 0 if p <= clip else -((p - clip) ** gamma_neg) * torch.log(1 - (p - clip))

    found = Asymmetric(gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip)(passed(logits, labels))
    same(found, slow(logits, labels, of_label), logits)


def test_asl_of_two_labels_by_hand():
    logits = torch.tensor([[math.log(4.0), math.log(0.25 / 0.75)]], dtype=torch.float64)
    found = asymmetric_loss(logits, torch.tensor([[True, False]]), 1.0, 2.0, 0.05)
    # p = 0.8 and 0.25
    expected = [-0.2 * math.log(0.8), -(0.2**2) * math.log(0.8)]
    assert found.tolist() == [pytest.approx(expected)]


def test_asl_without_its_three_settings_is_bce():
    logits, labels = drawn()
    same(
        Asymmetric(gamma_pos=0, gamma_neg=0, clip=0)(passed(logits, labels)),
        BinaryCrossEntropy()(passed(logits, labels)),
        logits,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("yes", [True, False])
def test_asl_of_sure_predictions_is_finite_and_has_finite_gradients(gamma: float, clip: float, yes: bool):
    logits = torch.tensor([[-1e4, -100.0, -20.0, 20.0, 100.0, 1e4]], requires_grad=True)
    found = asymmetric_loss(logits, torch.full((1, 6), yes), gamma, gamma, clip)
    found.sum().backward()
    assert found.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert float(found[0, -1 if yes else 0].detach()) == pytest.approx(0, abs=1e-6)
    if clip == 0:
        assert float(found[0, 0 if yes else -1].detach()) == pytest.approx(1e4)


def test_balanced_weights_of_sets_are_the_rows_without_a_label_over_those_with_it():
    found = BinaryCrossEntropy(class_weights="balanced").balanced([(6, 2), (1, 4), (5, 5)])
    assert found.class_weights == (3.0, 0.25, 1.0)


@pytest.mark.parametrize("loss", ["bce", "asl"])
def test_a_step_cut_into_passes_has_the_gradient_of_the_whole_with_labels_missing(loss: str):
    data = dataset(TASK, [5, 9, 3, 7], labels=[(1, NAN, NAN), (0, 1, NAN), (1, 1, 0), (NAN, NAN, 0)])
    found = []
    for budget in (None, 12):
        raw = {
            "tasks": {
                "t": {"type": "multilabel", "inputs": "single", "labels": ["a", "b", "c"], "train": "x.csv"}
                | {"losses": [loss]}
            },
            "train": {"token_budget": budget},
        }
        network = model(TASK).eval()
        objective = Objective(validate_recipe(raw, "r"), network, torch.Generator(), None)
        backward(objective, [(data, np.arange(4))])
        found.append([p.grad for p in network.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    for whole, cut in zip(*found, strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-6)
