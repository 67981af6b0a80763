"""SMART against a slow reference and smart-pytorch, in low precision, and for very sure predictions.

Dimension key: B examples, K classes, M tokens, D width, L tokens of a sequence.
"""

from dataclasses import replace
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny import CPU, WIDTH, dataset, pieces
from torch import Tensor
from toy_passes import (
    LARGE,
    NOTHING,
    OTHER,
    TASKS,
    assert_same,
    batch_of,
    examples,
    gradients,
    kl,
    loud,
    passed,
    probabilities,
    slow_divergence,
)

from mtbert.batch import Dataset, StepBatch
from mtbert.collate import collate
from mtbert.losses.smart import Smart
from mtbert.model.model import Model
from mtbert.task import Head


def slow_smart(settings: Smart, made: Model, data: Dataset) -> Tensor:
    """Returns the loss computed example by example, from the initial noise of the whole batch."""
    task, whole, B = data.task, batch_of(data), len(data)
    draws = torch.randn(len(whole.ids_N), WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cut, order = pieces(draws, whole.layout), whole.places["t"].order_S.tolist()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(B):
        batch = collate([(data, np.array([i]))], CPU)
        x_MD = made.embed(batch, None)
        clean = made.finish(batch, x_MD)["t"].prediction[0]
        noise = [settings.noise_std * cut[order[text * B + i]] for text in range(len(data.sequences))]
        for _ in range(settings.steps):
            leaf = torch.cat(noise).requires_grad_()
            noisy = made.finish(batch, x_MD.detach() + leaf)["t"].prediction[0]
            if settings.mode == "paper":
                loss = slow_divergence(task, noisy, clean.detach(), detached=False)
            elif task.type == "regression" or task.head.kind == "cosine":
                loss = (noisy - clean.detach()) ** 2 / 2
            else:
                loss = kl(probabilities(task, clean.detach()), probabilities(task, noisy))
            (gradient,) = torch.autograd.grad(loss, leaf)
            steps = zip(noise, gradient.split([len(n) for n in noise]), strict=True)
            noise = [slow_step(settings, n, g) for n, g in steps]
        noisy = made.finish(batch, x_MD + torch.cat(noise))["t"].prediction[0]
        total = total + slow_divergence(task, noisy, clean, detached=settings.mode == "reference")
    return total / B


def slow_step(settings: Smart, noise_LD: Tensor, gradient_LD: Tensor) -> Tensor:
    """Returns the noise of one sequence after one step."""
    if settings.mode == "reference":
        moved_LD = noise_LD + settings.step_size * gradient_LD
        return torch.stack([token / (token.abs().max() + 1e-6) for token in moved_LD])
    moved_LD = noise_LD + settings.step_size * gradient_LD / gradient_LD.abs().max()
    return moved_LD.clamp(-settings.radius, settings.radius)


@pytest.mark.parametrize(
    ("kind", "mode", "large"),
    [
        (kind, mode, large)
        for kind, mode, large in product(TASKS, ["reference", "paper"], [False, True])
        if large
        or mode == "reference"
        or "cosine" not in kind  # cosines are float32, so a change of 1e-5 is lost in rounding
    ],
)
def test_smart_has_the_value_and_gradients_of_the_formula(kind: str, mode: str, large: bool):
    task = TASKS[kind]
    settings = Smart.model_validate({"mode": mode} | (LARGE | {"radius": 0.3} if large else {}))
    made, data = loud(task), examples(task)
    found = settings(passed(made, batch_of(data)))
    assert_same(found, slow_smart(settings, made, data), made, 1e-4 if "cosine" in kind else 1e-7)


def their_smart(
    made: Model,
    batch: StepBatch,
    settings: Smart,
    inner: Literal["kl_loss", "sym_kl_loss"],
    monkeypatch: pytest.MonkeyPatch,
) -> Tensor:
    """Returns smart-pytorch's loss for sequences of equal length, with initial noise from a generator of seed 0."""
    import smart_pytorch  # a missing oracle is a failure: make test installs it

    B = len(batch.example_ids["t"])

    def randn_like(x_BLD: Tensor, requires_grad: bool) -> Tensor:
        draws = torch.randn(x_BLD.flatten(0, 1).shape, generator=torch.Generator().manual_seed(0), dtype=x_BLD.dtype)
        return draws.view_as(x_BLD).requires_grad_(requires_grad)

    def states(x_BLD: Tensor) -> Tensor:
        prediction = made.finish(batch, x_BLD.flatten(0, 1))["t"].prediction
        return prediction if prediction.dim() == 2 else torch.stack([torch.zeros_like(prediction), prediction], -1)

    x_BLD = made.embed(batch, None).unflatten(0, (B, -1))
    theirs = smart_pytorch.SMARTLoss(
        states, getattr(smart_pytorch, inner), smart_pytorch.sym_kl_loss,
        num_steps=settings.steps, step_size=settings.step_size, noise_var=settings.noise_std,
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn_like", randn_like)
        value: Tensor = theirs(x_BLD, states(x_BLD))
    return value


@pytest.mark.parametrize("options", [{}, LARGE])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", ["ordinal", "binary"])
def test_reference_mode_is_smart_pytorch_divided_by_the_batch_size(
    kind: str, size: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    task, settings = TASKS[kind], Smart(**options)
    made, batch = loud(task), batch_of(examples(task, [4] * size))
    expected = their_smart(made, batch, settings, "sym_kl_loss", monkeypatch) / size
    assert_same(settings(passed(made, batch)), expected, made, 1e-9)
    if size == 1:  # their other inner loss is the mean of the part that has a gradient
        expected = their_smart(made, batch, settings, "kl_loss", monkeypatch)
        assert_same(settings(passed(made, batch)), expected, made, 1e-9)


@pytest.mark.parametrize("mode", ["reference", "paper"])
def test_a_batch_of_two_copies_has_the_mean_of_one(mode: str, monkeypatch: pytest.MonkeyPatch):
    task = TASKS["ordinal"]
    made, data = loud(task), examples(task, [4])
    settings = Smart.model_validate({"mode": mode, "radius": 0.3} | LARGE)
    once = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", lambda shape, **_: once.repeat(shape[0] // 4, 1))
    one = settings(passed(made, batch_of(data)))
    two = settings(passed(made, collate([(data, np.array([0, 0]))], CPU)))
    assert_same(two, one, made, 1e-9)


def test_the_loss_leaves_no_gradient_in_the_weights_and_is_the_unweighted_mean():
    made = loud(TASKS["ordinal"])
    p = passed(made, batch_of(examples(TASKS["ordinal"])))
    state = p.generator.get_state()
    value = Smart(weight=0.02)(p)
    assert all(parameter.grad is None for parameter in made.parameters())
    p.generator.set_state(state)
    assert Smart(weight=7.0)(p).item() == value.item()


@pytest.mark.parametrize("mode", ["reference", "paper"])
@pytest.mark.parametrize("joint", [False, True])
def test_with_shared_masks_dropout_alone_makes_no_difference(mode: str, joint: bool):
    head = Head(dropout=0.1)
    task = TASKS["ordinal"].model_copy(update={"head": head})
    other = OTHER.model_copy(update={"head": head})
    made = loud(task, other, dropout=0.1).float()
    batch = batch_of(examples(other), examples(task)) if joint else batch_of(examples(task))
    settings: dict[str, Any] = {"mode": mode} | NOTHING
    assert Smart.model_validate(settings)(passed(made, batch)).item() == 0.0
    assert Smart.model_validate(settings | {"shared_masks": False})(passed(made, batch)).item() > 0.01
    # And both passes do have dropout: without it the value differs.
    large = Smart.model_validate({"mode": mode, "radius": 0.3} | LARGE)
    p = passed(made, batch)
    p.generator.manual_seed(5)
    q = passed(loud(task, other).float(), batch)
    q.generator.manual_seed(5)
    assert large(p).item() != pytest.approx(large(q).item(), rel=1e-2)


@pytest.mark.parametrize("mode", ["reference", "paper"])
@pytest.mark.parametrize("first", [False, True])
def test_without_dropout_another_task_in_the_batch_changes_nothing(mode: str, first: bool):
    task = TASKS["classification"]
    made, data, others = loud(task, OTHER), examples(task), examples(OTHER, [2, 9])
    settings = Smart.model_validate({"mode": mode, "radius": 0.3} | LARGE)
    joint = batch_of(data, others) if first else batch_of(others, data)
    assert_same(settings(passed(made, joint)), settings(passed(made, batch_of(data))), made, 1e-9)


def test_paper_mode_is_computed_in_float32_where_the_model_computes_in_bfloat16():
    task = TASKS["ordinal"]
    made, batch = loud(task).float(), batch_of(examples(task))
    for options in ({}, {"shared_masks": False}):
        settings = Smart.model_validate({"mode": "paper", "radius": 1e-3} | options)
        made.compute = torch.float32
        expected = settings(passed(made, batch))
        grads = gradients(expected, made)
        made.compute = torch.bfloat16
        found = settings(passed(made, batch))
        assert found.item() == expected.item() > 0
        torch.testing.assert_close(gradients(found, made), grads, rtol=1e-6, atol=1e-9)
    # The other mode computes in the model's precision.
    coarse = Smart()(passed(made, batch)).item()
    made.compute = torch.float32
    assert coarse != Smart()(passed(made, batch)).item()


def test_paper_mode_takes_embeddings_in_bfloat16():
    # As ELECTRA's projection gives them.
    made, batch = loud(TASKS["ordinal"]).float(), batch_of(examples(TASKS["ordinal"]))
    made.compute = torch.bfloat16
    values = []
    for dtype in (torch.bfloat16, torch.float32):
        p = passed(made, batch)
        x_MD = p.out.embeddings_MD.bfloat16().to(dtype)
        values.append(Smart(mode="paper")(replace(p, out=replace(p.out, embeddings_MD=x_MD))).item())
    assert values[0] == values[1] > 0


@pytest.mark.parametrize("mode", ["reference", "paper"])
@pytest.mark.parametrize("kind", TASKS)
def test_sure_predictions_and_equal_sentences_give_finite_values_and_gradients(kind: str, mode: str):
    task = TASKS[kind]
    made = loud(task).float()
    with torch.no_grad():
        for parameter in made.heads.parameters():
            parameter.mul_(1e5)
    batch = batch_of(dataset(task, *[[4, 4]] * (2 if task.inputs == "separate" else 1), labels=[0.0, 0.0]))
    same = batch.ids_N[:4].repeat(len(batch.ids_N) // 4)
    batch.ids_N.copy_(same)
    value = Smart.model_validate({"mode": mode})(passed(made, batch))
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients(value, made).values())


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("mode", "exact"), ("noise_std", 0.0), ("radius", -1.0)])
def test_settings_that_make_no_sense_are_refused(field: str, value: object):
    with pytest.raises(ValidationError, match=field):
        Smart.model_validate({field: value})
