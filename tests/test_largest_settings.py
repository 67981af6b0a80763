"""Weights and exponents beyond what float32 bears are refused when a recipe is read; the largest allowed stay finite.

Dimension key: B batch, K classes.
"""

import re
from typing import Any

import pytest
import torch
from test_losses import passed
from test_recipe_parts import SST, whole

from mtbert.losses.classification import BinaryCrossEntropy, CrossEntropy
from mtbert.losses.known import LOSSES
from mtbert.losses.ordinal import ordinal_log_loss

HEAVIEST, HEAVIEST_CLASS, LIGHTEST_CLASS, LARGEST_ALPHA = 1e12, 1e6, 1e-6, 5.0


def with_loss(**loss: Any) -> dict[str, Any]:
    return SST | {"losses": [loss]}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (SST | {"weight": 1e38}, "tasks.sst.weight: must be less than or equal to 1000000000000, found 1e+38."),
        (with_loss(kind="ce", weight=1e38), "tasks.sst.losses.0.weight: must be less than or equal to 100000000"),
        (
            with_loss(kind="ce", class_weights=[1, 1e38, 1]),
            "tasks.sst.losses.0.class_weights.1: must be less than or equal to 1000000, found 1e+38.",
        ),
        (
            with_loss(kind="ce", class_weights=[1, 1, 1e-300]),
            "tasks.sst.losses.0.class_weights.2: must be greater than or equal to 1e-06, found 1e-300.",
        ),
        (with_loss(kind="oll", alpha=1e3), "tasks.sst.losses.0.alpha: must be less than or equal to 5, found 1000"),
    ],
)
def test_a_weight_or_exponent_that_float32_does_not_bear_is_refused(task: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        whole(sst=task)


@pytest.mark.parametrize("kind", LOSSES.classes)
def test_the_weight_of_every_loss_has_the_same_limit(kind: str):
    settings = LOSSES.classes[kind]
    assert settings(weight=HEAVIEST).weight == HEAVIEST
    for weight in (1e38, -1.0):
        with pytest.raises(ValueError, match="weight"):
            settings(weight=weight)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("eps", 1e-60, "train.eps: must be greater than or equal to 1e-15, found 1e-60."),
        ("eps", 1e38, "train.eps: must be less than or equal to 1, found 1e+38."),
        ("weight_decay", 1e38, "train.weight_decay: must be less than or equal to 1000, found 1e+38."),
    ],
)
def test_settings_of_adamw_that_float32_does_not_bear_are_refused(key: str, value: float, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        whole(train={key: value})


def test_the_smallest_eps_moves_no_weight_without_a_gradient():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([weight], lr=1.0, eps=1e-15, weight_decay=0.0)
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == 1.0


def test_the_largest_weights_leave_loss_and_gradient_finite():
    weights = (HEAVIEST_CLASS, LIGHTEST_CLASS)
    logits_BK = torch.tensor([[-50.0, 50.0], [50.0, -50.0]], requires_grad=True)
    two = [BinaryCrossEntropy(class_weights=pair) for pair in (weights, weights[::-1])]
    losses = [loss(passed(logits_BK[:, 0], [0.0, 1.0])) for loss in two]
    sets = BinaryCrossEntropy(class_weights=weights)._of_sets(logits_BK, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    losses += [CrossEntropy(class_weights=weights)(passed(logits_BK, [0.0, 1.0])), sets.mean()]
    total = sum(HEAVIEST * HEAVIEST * loss for loss in losses)
    assert isinstance(total, torch.Tensor)
    total.backward()
    assert total.isfinite()
    assert total > 1e30
    assert logits_BK.grad is not None
    assert logits_BK.grad.isfinite().all()


def test_the_largest_exponent_of_oll_is_finite_for_thousands_of_classes():
    assert ordinal_log_loss(torch.zeros(1, 2**12), torch.zeros(1), LARGEST_ALPHA).isfinite().all()
