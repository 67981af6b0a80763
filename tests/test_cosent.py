"""CoSENT against its formula and sentence-transformers, and in extreme cases.

Dimension key: B rows, D width, S sentences, M tokens of a task.
"""

import math
from collections.abc import Sequence

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from tiny import model
from torch import Tensor, nn
from toy_sentences import (
    COSINE,
    batch_of,
    cosine,
    passed,
    random,
    with_gradients,
)

from mtbert.losses.cosent import CoSENT, cosent


def slow_cosent(cosines_B: Tensor, labels: Sequence[float], scale: float) -> Tensor:
    """Returns the loss by the printed formula, one pair of pairs at a time."""
    total = cosines_B.sum() * 0 + 1
    for i, cosine_i in enumerate(cosines_B):
        for j, cosine_j in enumerate(cosines_B):
            if labels[i] > labels[j]:
                total = total + (scale * (cosine_j - cosine_i)).exp()
    return total.log()


@pytest.mark.parametrize("labels", [[0.0, 0.2, 0.4, 0.8, 1.0], [0.4, 0.0, 0.4, 1.0, 0.0], [0.5] * 5])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_cosent_equals_the_formula_and_sentence_transformers(labels, scale):
    u_BD, v_BD = random(5, 3), random(5, 3, seed=1)
    cosines_B = torch.stack([cosine(u_D, v_D) for u_D, v_D in zip(u_BD, v_BD, strict=True)])
    found = with_gradients(cosent(cosines_B, torch.tensor(labels), scale), u_BD, v_BD)
    torch.testing.assert_close(found, with_gradients(slow_cosent(cosines_B, labels, scale), u_BD, v_BD))
    oracle = CoSENTLoss(nn.Identity(), scale=scale)  # type: ignore[arg-type]
    expected = oracle([{"sentence_embedding": u_BD}, {"sentence_embedding": v_BD}], torch.tensor(labels))
    torch.testing.assert_close(found, with_gradients(expected, u_BD, v_BD))


def test_cosent_of_two_pairs():
    # The higher label has the lower cosine by 0.5.
    found = cosent(torch.tensor([0.75, 0.25]), torch.tensor([0.0, 1.0]), 2.0)
    assert found.item() == pytest.approx(math.log(1 + math.e), rel=1e-6)


def test_cosent_depends_on_the_order_of_labels_and_not_on_that_of_rows():
    cosines_B, labels_B, order = random(5), torch.tensor([0.1, 0.3, 0.3, 0.7, 0.9]), [4, 2, 0, 1, 3]
    value = cosent(cosines_B, labels_B, 20.0)
    torch.testing.assert_close(cosent(cosines_B, labels_B**3, 20.0), value)
    torch.testing.assert_close(cosent(cosines_B[order], labels_B[order], 20.0), value)


@pytest.mark.parametrize("labels", [[], [1.0], [0.5, 0.5, 0.5], [math.nan, 1.0]])
def test_without_an_order_cosent_is_0_and_so_is_its_gradient(labels):
    cosines_B = random(len(labels))
    value, gradient = with_gradients(cosent(cosines_B, torch.tensor(labels), 20.0), cosines_B)
    assert (value.item(), gradient.tolist()) == (0.0, [0.0] * len(labels))


def test_cosent_is_finite_for_a_very_wrong_order():
    cosines_B = torch.tensor([1.0, -1.0], requires_grad=True)
    value, gradient = with_gradients(cosent(cosines_B, torch.tensor([0.0, 1.0]), 1e4), cosines_B)
    assert (value.item(), gradient.tolist()) == (2e4, [1e4, -1e4])


def test_the_settings_of_cosent_read_the_cosine_of_the_head():
    p = passed(model(COSINE), batch_of(COSINE, [0.0, 5.0, 2.0, 2.0, 4.0], [[0, 0]] * 5), "scores")
    expected = slow_cosent(p.out.prediction, [0.0, 5.0, 2.0, 2.0, 4.0], 3.0)
    torch.testing.assert_close(CoSENT(scale=3.0)(p), expected)
