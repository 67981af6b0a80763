"""Bregman proximal point: the divergence from the averaged model.

Dimension key: B examples, K classes, M tokens, D width, L tokens of a sequence.
"""

import copy

import pytest
import torch
from toy_passes import (
    OTHER,
    TASKS,
    assert_same,
    batch_of,
    examples,
    gradients,
    loud,
    passed,
    slow_divergence,
)

from mtbert.answers.divergence import symmetric_kl
from mtbert.losses.bregman import Bregman
from mtbert.model.model import Model


def moved(made: Model) -> Model:
    """Returns a copy of the model in which the weights have other values."""
    other = copy.deepcopy(made)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    return other


@pytest.mark.parametrize("kind", TASKS)
def test_bregman_is_the_mean_divergence_from_the_averaged_model(kind: str):
    task = TASKS[kind]
    made, batch = loud(task), batch_of(examples(task))
    ema = moved(made)
    other, prediction = ema(batch)["t"].prediction.detach(), made(batch)["t"].prediction
    parts = [slow_divergence(task, a, b, detached=False) for a, b in zip(prediction, other, strict=True)]
    found = Bregman().with_average(ema)(passed(made, batch))
    assert_same(found, torch.stack(parts).mean(), made, 1e-4 if "cosine" in kind else 1e-9)
    assert not gradients(found, ema)


def test_bregman_is_0_where_the_averaged_model_is_the_model():
    made, batch = loud(TASKS["ordinal"]), batch_of(examples(TASKS["ordinal"]))
    assert Bregman().with_average(copy.deepcopy(made))(passed(made, batch)).item() == 0.0


def test_the_averaged_model_has_no_dropout_and_draws_nothing():
    task = TASKS["ordinal"]
    made, batch = loud(task, OTHER, dropout=0.1), batch_of(examples(OTHER), examples(task))
    p = passed(made, batch)
    state = p.generator.get_state()
    expected = symmetric_kl(p.out.prediction, made(batch)["t"].prediction).mean()
    assert Bregman().with_average(made)(p).item() == pytest.approx(expected.item(), rel=1e-9)
    assert expected > 0.01
    assert torch.equal(p.generator.get_state(), state)
