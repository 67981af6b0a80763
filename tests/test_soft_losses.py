"""Losses of soft labels and of weighted examples, against slow references.

Dimension key: B examples, K classes.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from mtbert.losses import Own, Pass, WholeBatch
from mtbert.losses.classification import BinaryCrossEntropy, CrossEntropy
from mtbert.losses.known import LOSSES
from mtbert.losses.ordinal import OrdinalLogLoss
from mtbert.losses.regression import MeanSquaredError

Loss = Callable[[Pass], Tensor]
CLASSES = 4
OF_CLASSES: list[Loss] = [
    CrossEntropy(),
    CrossEntropy(smoothing=0.2),
    CrossEntropy(class_weights=(0.5, 1.0, 2.0, 4.0)),
    CrossEntropy(smoothing=0.1, class_weights=(0.5, 1.0, 2.0, 4.0)),
    OrdinalLogLoss(),
    OrdinalLogLoss(alpha=0),
    OrdinalLogLoss(alpha=1),
]
OF_YES_NO: list[Loss] = [
    BinaryCrossEntropy(),
    BinaryCrossEntropy(smoothing=0.2),
    BinaryCrossEntropy(class_weights=(0.5, 3.0)),
    BinaryCrossEntropy(smoothing=0.1, class_weights=(0.5, 3.0)),
]


def passed(prediction: Tensor, labels: Tensor, weights: Tensor | None = None) -> Pass:
    out = SimpleNamespace(prediction=prediction)
    nothing = cast("Any", None)
    return Pass(nothing, nothing, nothing, cast("Any", out), labels, nothing, nothing, weights=weights)


def logits(*shape: int, scale: float = 3.0) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * scale
    return drawn.requires_grad_()


def distributions(rows: int) -> Tensor:
    return torch.rand(rows, CLASSES, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(1)


def same(found: Tensor, expected: Tensor, x: Tensor, tolerance: float = 1e-12) -> None:
    """Compares two losses and their gradients."""
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    one, two = (torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in (found, expected))
    torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


# Distributions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", OF_CLASSES, ids=repr)
def test_the_loss_of_a_distribution_is_the_mean_of_the_losses_of_its_classes(loss: Loss):
    x, q = logits(7, CLASSES), distributions(7)
    slow = x.new_zeros(())
    for row in range(7):
        for k in range(CLASSES):
            slow = slow + q[row, k] * loss(passed(x[row : row + 1], torch.tensor([float(k)]))) / 7
    same(loss(passed(x, q)), slow, x)


@pytest.mark.parametrize("loss", OF_YES_NO, ids=repr)
def test_the_loss_of_a_share_of_yes_is_the_mean_of_the_losses_of_yes_and_no(loss: Loss):
    x, q = logits(7), distributions(7)[:, 0]
    slow = x.new_zeros(())
    for row in range(7):
        yes, no = (loss(passed(x[row : row + 1], torch.tensor([label]))) for label in (1.0, 0.0))
        slow = slow + (q[row] * yes + (1 - q[row]) * no) / 7
    same(loss(passed(x, q)), slow, x, 1e-7)  # labels of hard passes are float32


@pytest.mark.parametrize("loss", OF_CLASSES, ids=repr)
def test_a_distribution_on_one_class_has_the_loss_of_that_class(loss: Loss):
    x, labels = logits(CLASSES, CLASSES), torch.tensor([2.0, 0.0, 3.0, 1.0])
    one_hot = torch.nn.functional.one_hot(labels.long(), CLASSES).float()
    same(loss(passed(x, one_hot)), loss(passed(x, labels)), x, 1e-15)


@pytest.mark.parametrize("loss", OF_CLASSES, ids=repr)
@pytest.mark.parametrize("scale", [0.0, 1e4, 1e8])
def test_losses_of_distributions_are_finite_for_any_prediction(loss: Loss, scale: float):
    x = logits(5, CLASSES, scale=scale)
    value = loss(passed(x, distributions(5)))
    (gradient,) = torch.autograd.grad(value, x)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_ordinal_log_loss_of_a_distribution_equals_a_literal():
    x = torch.log(torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64))
    found = OrdinalLogLoss(alpha=2)(passed(x, torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64)))
    expected = -0.5 * (1 * np.log(0.75) + 4 * np.log(0.75)) - 0.5 * (4 * np.log(0.5) + 1 * np.log(0.75))
    assert float(found) == pytest.approx(expected, rel=1e-12)


# Weights ----------------------------------------------------------------------------------------------------

WEIGHTS = torch.tensor([0.0, 0.5, 2.0, 1.0, 3.5, 1.0, 0.0])


@pytest.mark.parametrize("loss", [*OF_CLASSES, *OF_YES_NO, MeanSquaredError()], ids=repr)
def test_examples_count_by_their_weights(loss: Loss):
    classes = loss in OF_CLASSES
    x = logits(7, CLASSES) if classes else logits(7)
    labels = torch.tensor([2.0, 0.0, 3.0, 1.0, 1.0, 0.0, 2.0]) if classes else distributions(7)[:, 1]
    slow = x.new_zeros(())
    for row, weight in enumerate(WEIGHTS.tolist()):
        slow = slow + weight * loss(passed(x[row : row + 1], labels[row : row + 1])) / float(WEIGHTS.sum())
    same(loss(passed(x, labels, WEIGHTS)), slow, x)


@pytest.mark.parametrize("loss", [*OF_CLASSES, *OF_YES_NO, MeanSquaredError()], ids=repr)
def test_equal_weights_change_nothing(loss: Loss):
    classes = loss in OF_CLASSES
    x = logits(5, CLASSES) if classes else logits(5)
    labels = distributions(5) if classes else distributions(5)[:, 0]
    same(loss(passed(x, labels, torch.full((5,), 3.0))), loss(passed(x, labels)), x)


def test_examples_of_weight_0_count_for_nothing_even_if_their_loss_is_infinite():
    losses = torch.tensor([1.0, float("inf"), 3.0], requires_grad=True)
    mean = passed(losses, losses, torch.tensor([1.0, 0.0, 3.0])).mean(losses)
    assert float(mean.detach()) == 2.5
    assert torch.autograd.grad(mean, losses)[0].tolist() == [0.25, 0.0, 0.75]


def test_the_mean_of_examples_that_all_have_weight_0_is_0():
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = passed(losses, losses, torch.zeros(2)).mean(losses)
    assert float(mean.detach()) == 0.0
    assert torch.autograd.grad(mean, losses)[0].tolist() == [0.0, 0.0]


def test_a_loss_says_that_it_compares_examples_exactly_if_it_needs_the_whole_batch():
    for name, kind in LOSSES.classes.items():
        settings = kind()
        loss = settings.with_own(torch.nn.Identity()) if isinstance(settings, Own) else settings
        assert isinstance(loss, WholeBatch) == settings.needs.compares, name
