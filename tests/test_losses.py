"""Losses against their formulas, and for predictions so sure that the formulas overflow.

Dimension key: B batch, K classes.
"""

import math

import numpy as np
import pytest
import torch
from one_step import backward
from tiny import CPU, dataset, model

from mtbert.batch import Output, StepBatch
from mtbert.collate import collate
from mtbert.losses import Pass
from mtbert.losses.classification import BinaryCrossEntropy, CrossEntropy
from mtbert.losses.ordinal import OrdinalLogLoss, ordinal_log_loss
from mtbert.losses.regression import MeanSquaredError
from mtbert.recipe.settings import validate_recipe
from mtbert.task import Head, Task
from mtbert.training.objective import Objective

ORDINAL = Task(name="t", type="ordinal", inputs="single", labels=("0", "1", "2", "3", "4"))
MODEL = model(ORDINAL)
BATCH: StepBatch = collate([(dataset(ORDINAL, [2, 3], labels=[0, 1]), np.arange(2))], CPU)


def passed(prediction: torch.Tensor, labels: list[float]) -> Pass:
    """Returns a pass with the given prediction."""
    out = Output(torch.zeros(1), torch.zeros(1), (), prediction)
    generator = torch.Generator()
    return Pass(MODEL, BATCH, ORDINAL, out, torch.tensor(labels), generator, generator.get_state())


def slow_ordinal_log_loss(logits: list[float], label: int, alpha: float) -> float:
    """Returns the loss by the printed formula, in Python floats."""
    exp = [math.exp(z) for z in logits]
    return -sum(math.log(1 - e / sum(exp)) * abs(label - i) ** alpha for i, e in enumerate(exp) if i != label)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("classes", [2, 3, 5, 8])
def test_oll_equals_the_formula(classes, alpha):
    generator = torch.Generator().manual_seed(0)
    logits_BK = 3 * torch.randn(64, classes, generator=generator, dtype=torch.float64)
    labels_B = torch.randint(classes, (64,), generator=generator)
    expected = [slow_ordinal_log_loss(z, y, alpha) for z, y in zip(logits_BK.tolist(), labels_B.tolist(), strict=True)]
    torch.testing.assert_close(
        ordinal_log_loss(logits_BK, labels_B, alpha),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-12,
        atol=1e-12,
    )


def test_at_uniform_probabilities_oll_and_ce_are_those_of_the_documentation():
    logits_BK, labels_B = torch.full((5, 5), 7.0), torch.arange(5)
    found = ordinal_log_loss(logits_BK, labels_B, 1.5)
    torch.testing.assert_close(found, torch.tensor([3.80, 2.24, 1.71, 2.24, 3.80]), rtol=0, atol=0.005)
    assert float(CrossEntropy()(passed(logits_BK, [0, 1, 2, 3, 4]))) == pytest.approx(1.61, abs=0.005)


def test_with_alpha_0_all_mistakes_cost_the_same_and_the_truth_nothing():
    logits_BK = torch.tensor([[0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    first, second = ordinal_log_loss(logits_BK, torch.tensor([0, 0]), 0.0).tolist()
    assert first == pytest.approx(second, rel=1e-6)
    sure = torch.tensor([[99.0, 0.0, 0.0, 0.0]])
    assert ordinal_log_loss(sure, torch.tensor([0]), 0.0).tolist() == [0.0]


@pytest.mark.parametrize("lead", [17.0, 30.0, 100.0, 1e4])
@pytest.mark.parametrize(("label", "cost"), [(2, 0.0), (0, 2**1.5), (4, 2**1.5), (1, 1.0)])
def test_oll_of_a_sure_answer_is_finite_and_grows_with_the_lead(lead, label, cost):
    logits_BK = torch.zeros(1, 5).index_fill_(1, torch.tensor([2]), lead).requires_grad_()
    loss = ordinal_log_loss(logits_BK, torch.tensor([label]), 1.5)
    loss.sum().backward()
    # 1 - p of the leading class is 4 exp(-lead), and the other classes contribute almost nothing.
    assert loss.item() == pytest.approx(cost * (lead - math.log(4)), abs=1e-3, rel=1e-4)
    assert logits_BK.grad is not None
    expected = torch.full((5,), -cost / 4).index_fill_(0, torch.tensor([2]), cost)
    torch.testing.assert_close(logits_BK.grad[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_the_gradient_of_oll_is_that_of_its_values(alpha):
    generator = torch.Generator().manual_seed(1)
    logits_BK = (4 * torch.randn(3, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    labels_B = torch.tensor([0, 2, 4])
    assert torch.autograd.gradcheck(lambda z: ordinal_log_loss(z, labels_B, alpha), logits_BK)


def test_the_settings_take_the_mean_over_the_batch():
    logits_BK = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    expected = np.mean([slow_ordinal_log_loss(z, y, 2.5) for z, y in zip(logits_BK.tolist(), (0, 1), strict=True)])
    assert float(OrdinalLogLoss(alpha=2.5)(passed(logits_BK, [0.0, 1.0]))) == pytest.approx(expected, rel=1e-6)


def test_ce_is_the_mean_log_likelihood_of_the_true_class():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = CrossEntropy()(passed(torch.tensor(logits), [1.0, 0.0]))
    assert float(found) == pytest.approx(-(np.log(p[0, 1]) + np.log(p[1, 0])) / 2, rel=1e-12)


def test_bce_is_that_of_one_logit_and_finite_where_it_is_sure():
    logits = np.array([0.3, -2.0, 1.0])
    p = 1 / (1 + np.exp(-logits))
    found = BinaryCrossEntropy()(passed(torch.tensor(logits, dtype=torch.float32), [1.0, 0.0, 0.0]))
    assert float(found) == pytest.approx(-(np.log(p[0]) + np.log(1 - p[1]) + np.log(1 - p[2])) / 3, rel=1e-6)
    assert float(BinaryCrossEntropy()(passed(torch.tensor([1e4, -1e4]), [1.0, 1.0]))) == 5e3


def test_mse_is_the_mean_square_and_has_a_gradient_for_a_negative_cosine():
    prediction_B = torch.tensor([-0.5, 0.25], requires_grad=True)
    loss = MeanSquaredError()(passed(prediction_B, [0.5, 0.0]))
    loss.backward()
    assert loss.item() == (1.0 + 0.0625) / 2
    assert prediction_B.grad is not None
    assert prediction_B.grad.tolist() == [-1.0, 0.25]


def test_ceoll_is_the_weighted_sum_of_both():
    raw = {"type": "ordinal", "inputs": "single", "train": "a.csv", "labels": list(ORDINAL.labels or ()), "weight": 0.5}
    losses = [{"kind": "ce", "weight": 3.0}, {"kind": "oll", "weight": 0.25}]
    recipe = validate_recipe({"tasks": {"t": raw | {"losses": losses}}}, "r")
    task = ORDINAL.model_copy(update={"head": Head(dropout=0.0)})
    data = dataset(task, [4, 3], labels=[0.0, 3.0])
    toy = model(task)
    rows = np.arange(2)
    tally = backward(Objective(recipe, toy, torch.Generator(), None), [(data, rows)])
    weight = toy.head("t").layers[0].weight
    logits_BK = toy(collate([(data, rows)], CPU))["t"].prediction
    ce, oll = (loss(passed(logits_BK, [0.0, 3.0])) for loss in (CrossEntropy(), OrdinalLogLoss()))
    (expected,) = torch.autograd.grad(0.5 * (3.0 * ce + 0.25 * oll), weight)
    torch.testing.assert_close(weight.grad, expected)
    assert tally.losses == {"t.ce": pytest.approx(ce.item()), "t.oll": pytest.approx(oll.item())}


def test_smoothing_and_class_weights_are_those_of_the_formula():
    logits_BK = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]], dtype=torch.float64)
    log_p = logits_BK.log_softmax(-1)
    smooth = CrossEntropy(smoothing=0.3)(passed(logits_BK, [0, 2]))
    rows = [-0.7 * log_p[0, 0] - 0.1 * log_p[0].sum(), -0.7 * log_p[1, 2] - 0.1 * log_p[1].sum()]
    torch.testing.assert_close(smooth, torch.stack(rows).mean())
    weighted = CrossEntropy(class_weights=(1.0, 5.0, 3.0))(passed(logits_BK, [0, 2]))
    torch.testing.assert_close(weighted, (-log_p[0, 0] - 3 * log_p[1, 2]) / 2)
    binary = BinaryCrossEntropy(smoothing=0.2)(passed(torch.tensor([1.5], dtype=torch.float64), [1.0]))
    p = 1 / (1 + math.exp(-1.5))
    assert float(binary) == pytest.approx(-0.9 * math.log(p) - 0.1 * math.log(1 - p), abs=1e-12)


def test_class_weights_of_a_yes_no_task_are_those_of_two_classes():
    logits_B = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    labels, weights = [1.0, 0.0, 0.0], (0.25, 3.0)
    found = BinaryCrossEntropy(class_weights=weights)(passed(logits_B, labels))
    log_no, log_yes = -torch.log1p(logits_B.exp()), -torch.log1p((-logits_B).exp())
    torch.testing.assert_close(found, -(3 * log_yes[0] + 0.25 * log_no[1] + 0.25 * log_no[2]) / 3)
    for smoothing in (0.0, 0.2):
        two = torch.stack([torch.zeros_like(logits_B), logits_B], 1)
        classes = CrossEntropy(class_weights=weights, smoothing=smoothing)(passed(two, labels))
        binary = BinaryCrossEntropy(class_weights=weights, smoothing=smoothing)(passed(logits_B, labels))
        torch.testing.assert_close(binary, classes)


def test_balanced_weights_are_the_rows_per_class_over_those_of_each():
    assert CrossEntropy(class_weights="balanced").balanced([1, 2, 5]).class_weights == (8 / 3, 8 / 6, 8 / 15)
    assert BinaryCrossEntropy(class_weights="balanced", smoothing=0.1).balanced([3, 1]) == BinaryCrossEntropy(
        class_weights=(4 / 6, 2.0), smoothing=0.1
    )


# Missing labels -----------------------------------------------------------------------------------------


def test_a_missing_label_of_several_has_no_part_in_the_squared_error_and_every_example_counts_the_same():
    nan = math.nan
    scores_BK = torch.tensor([[0.5, 0.5, 0.5], [0.2, 0.2, 0.2], [9.0, 9.0, 9.0]], requires_grad=True)
    labels_BK = torch.tensor([[1.0, nan, 0.25], [nan, nan, 0.4], [nan, nan, nan]])
    given = Pass(MODEL, BATCH, ORDINAL, Output(torch.zeros(1), torch.zeros(1), (), scores_BK), labels_BK, None, None)
    loss = MeanSquaredError()(given)
    # Of the examples (0.25 + 0.0625) / 2, 0.04 and 0.
    assert loss.item() == pytest.approx((0.15625 + 0.04 + 0) / 3)
    loss.backward()
    expected = torch.tensor([[-0.5, 0.0, 0.25], [0.0, 0.0, -0.4], [0.0, 0.0, 0.0]]) / 3
    torch.testing.assert_close(scores_BK.grad, expected)
