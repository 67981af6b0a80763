"""SMART, Bregman proximal point and R-Drop against slow references, smart-pytorch, and literal numbers.

Dimension key: B examples, K classes, M tokens, D width, L tokens of a sequence.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny import CPU, WIDTH, dataset, model, pieces
from torch import Tensor

from mtbert.batch import Dataset, StepBatch, collate
from mtbert.losses import Pass
from mtbert.losses.bregman import Bregman
from mtbert.losses.divergence import bernoulli_kl, divergence, squared_error, symmetric_kl
from mtbert.losses.rdrop import RDrop
from mtbert.losses.smart import Smart, adversary
from mtbert.model.model import Model
from mtbert.task import Head, Task

PLAIN = Head(dropout=0.0)
COSINE = Head(kind="cosine")
TASKS = {
    "ordinal": Task(name="t", type="ordinal", inputs="single", labels=("0", "1", "2", "3", "4"), head=PLAIN),
    "classification": Task(name="t", type="classification", inputs="separate", labels=("a", "b", "c"), head=PLAIN),
    "binary": Task(name="t", type="binary", inputs="packed", labels=("0", "1"), head=PLAIN),
    "regression": Task(name="t", type="regression", inputs="separate", range=(0.0, 5.0), head=PLAIN),
    "cosine": Task(name="t", type="regression", inputs="separate", range=(0.0, 5.0), head=COSINE),
    "binary cosine": Task(name="t", type="binary", inputs="separate", labels=("0", "1"), head=COSINE),
}
OTHER = Task(name="u", type="regression", inputs="single", range=(0.0, 5.0), head=PLAIN)
# So small that adding it to an embedding changes no bit.
NOTHING: dict[str, Any] = {"noise_std": 1e-30, "step_size": 1e-30}
# So large that every part of a step shows: neither all elements nor none are clamped.
LARGE: dict[str, Any] = {"steps": 2, "step_size": 0.5, "noise_std": 0.1}


def loud(*tasks: Task, dropout: float = 0.0) -> Model:
    """A tiny model whose heads have weights of a size that makes predictions differ; float64."""
    made = model(*tasks, dropout=dropout).double()
    with torch.no_grad():
        for parameter in made.heads.parameters():
            parameter.mul_(25)
    return made


def examples(task: Task, lengths: Sequence[int] = (5, 3, 4)) -> Dataset:
    """Unsorted lengths; a second sentence is longer than its first."""
    return dataset(task, *[[n + 3 * t for n in lengths] for t in range(task.sequences)], labels=[0.0] * len(lengths))


def batch_of(*data: Dataset) -> StepBatch:
    return collate([(d, np.arange(len(d))) for d in data], CPU)


def passed(made: Model, batch: StepBatch, *, ema: Model | None = None, name: str = "t") -> Pass:
    """The pass of a training step, with the generator's seed 0."""
    generator = torch.Generator().manual_seed(0)
    x_ND = made.embed(batch, generator)
    masks = generator.get_state()
    out = made.finish(batch, x_ND, generator)[name]
    return Pass(made, batch, made.tasks[name], out, batch.labels[name], generator, masks, ema=ema)


def gradients(loss: Tensor, made: Model) -> dict[str, Tensor]:
    """Of every parameter that the loss reaches."""
    names = dict(made.named_parameters())
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True, retain_graph=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None}


def assert_same(found: Tensor, expected: Tensor, made: Model, tolerance: float) -> None:
    """The same value and the same gradients, relative to their size; neither is zero."""
    assert expected.item() > 0
    assert found.item() == pytest.approx(expected.item(), rel=tolerance, abs=0)
    ours, theirs = gradients(found, made), gradients(expected, made)
    assert ours.keys() == theirs.keys()
    most = max(float(g.abs().max()) for g in theirs.values())
    assert most > 0
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=tolerance, atol=tolerance * most)


# Divergences ---------------------------------------------------------------------------------------


def kl(p: Tensor, q: Tensor) -> Tensor:
    """``sum p log(p / q)``, with ``sum (p - q)``, which is 0, taken off: nearly equal terms lose no digits then."""
    return (p * ((p - q) / q).log1p() - (p - q)).sum()


def probabilities(task: Task, prediction: Tensor) -> Tensor:
    """Of the classes of one example, from its logits or its one logit."""
    if task.type == "binary":
        return torch.stack([1 / (1 + prediction.exp()), 1 / (1 + (-prediction).exp())])
    return prediction.exp() / prediction.exp().sum()


def slow_divergence(task: Task, a: Tensor, b: Tensor, *, detached: bool) -> Tensor:
    """Of one example, each half written out."""

    def target(x: Tensor) -> Tensor:
        return x.detach() if detached else x

    if task.type == "regression" or task.head.kind == "cosine":
        return ((a - target(b)) ** 2 + (target(a) - b) ** 2) / 2
    p, q = probabilities(task, a), probabilities(task, b)
    return kl(target(q), p) + kl(target(p), q)


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("kind", TASKS)
def test_a_divergence_has_the_values_and_gradients_of_its_formula(kind: str, detached: bool):
    task, generator = TASKS[kind], torch.Generator().manual_seed(1)
    shape = (6,) if task.type in ("binary", "regression") else (6, len(task.labels or ()))
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in "ab")
    weights_B = torch.arange(1.0, 7.0, dtype=torch.float64)
    found_B = divergence(task, a, b, detached=detached)
    expected_B = torch.stack([slow_divergence(task, x, y, detached=detached) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(found_B, expected_B, rtol=1e-12, atol=1e-13)
    ours, theirs = (torch.autograd.grad((weights_B * d).sum(), (a, b)) for d in (found_B, expected_B))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_divergences_have_literal_values():
    logits_BK = torch.tensor([[math.log(1.0), math.log(3.0)]], dtype=torch.float64)
    # p = (1/4, 3/4) against q = (1/2, 1/2): (p - q) * log(p / q) = 1/4 log 2 + 1/4 log 3/2 = 1/4 log 3.
    assert symmetric_kl(logits_BK, torch.zeros_like(logits_BK)).tolist() == pytest.approx([math.log(3) / 4])
    one_B, none_B = torch.tensor([math.log(3.0)]), torch.zeros(1)
    assert bernoulli_kl(one_B, none_B).tolist() == pytest.approx([math.log(3) / 4])
    assert squared_error(torch.tensor([0.25, -0.5]), torch.tensor([0.75, -0.5])).tolist() == [0.25, 0.0]


@pytest.mark.parametrize("detached", [False, True])
def test_divergences_of_sure_predictions_are_finite_with_finite_gradients(detached: bool):
    for sign in (1e4, -1e4):
        a_BK = torch.tensor([[sign, -sign], [sign, 0.0], [sign, -sign]], requires_grad=True)
        b_BK = torch.tensor([[-sign, sign], [0.0, 0.0], [sign, -sign]], requires_grad=True)
        found_B = symmetric_kl(a_BK, b_BK, detached=detached)
        assert found_B.tolist() == pytest.approx([4e4, 5e3, 0.0])
        a_B = torch.tensor([sign, sign, sign], requires_grad=True)
        b_B = torch.tensor([-sign, 0.0, sign], requires_grad=True)
        one_B = bernoulli_kl(a_B, b_B, detached=detached)
        assert one_B.tolist() == pytest.approx([2e4, 5e3, 0.0])
        (found_B.sum() + one_B.sum()).backward()
        for leaf in (a_BK, b_BK, a_B, b_B):
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all()
            assert leaf.grad[0].abs().max() == 1.0
            assert not leaf.grad[2].any()


@pytest.mark.parametrize("kind", TASKS)
def test_a_divergence_of_bfloat16_is_computed_in_float32(kind: str):
    a, b = torch.tensor([[0.5, 1.0]]).bfloat16(), torch.tensor([[0.501, 1.5]]).bfloat16()
    found_B = divergence(TASKS[kind], a, b)
    assert found_B.dtype == torch.float32
    torch.testing.assert_close(found_B, divergence(TASKS[kind], a.float(), b.float()), rtol=0, atol=0)


# The inner maximisation ----------------------------------------------------------------------------

OFFSETS = (0, 2, 5, 6)
WEIGHTS = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3).sin()


def toy_f(x_MD: Tensor) -> Tensor:
    """Logits of three examples, ``[3, 3]``: the mean over tokens, tanh, three outputs."""
    return torch.stack([x_MD[start:stop].mean(0).tanh() @ WEIGHTS for start, stop in pairwise(OFFSETS)])


def toy_x() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def find_noise(f: Callable[[Tensor], Tensor] = toy_f, **settings: Any) -> Tensor:
    """Noise for :func:`toy_x`; small settings where none are given."""
    default = {"mode": "reference", "offsets": OFFSETS, "steps": 1, "step_size": 1e-3, "noise_std": 1e-5}
    default |= {"radius": 1e-5} | settings
    x_MD, generator = toy_x(), torch.Generator().manual_seed(0)

    def apart(a_BK: Tensor, b_BK: Tensor) -> Tensor:
        return symmetric_kl(a_BK, b_BK, detached=default["mode"] == "reference")

    return adversary(f, x_MD, f(x_MD), apart, generator, **default)


def start(noise_std: float) -> Tensor:
    """The noise at the start, for seed 0."""
    return noise_std * torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slow_noise(mode: str, steps: int, step_size: float, noise_std: float, radius: float) -> Tensor:
    """The inner maximisation on :func:`toy_f`, example by example, its gradient derived by hand."""
    found = []
    w = WEIGHTS.numpy()
    xs, noises = (np.split(a.numpy(), OFFSETS[1:-1]) for a in (toy_x(), start(noise_std)))
    for x, noise in zip(xs, noises, strict=True):
        q = np.exp(np.tanh(x.mean(0)) @ w)
        q /= q.sum()
        for _ in range(steps):
            hidden = np.tanh((x + noise).mean(0))
            p = np.exp(hidden @ w)
            p /= p.sum()
            of_logits = p - q  # of KL(q || p)
            if mode == "paper":  # and of KL(p || q)
                of_logits = of_logits + p * (np.log(p / q) - (p * np.log(p / q)).sum())
            gradient = np.tile((w @ of_logits) * (1 - hidden**2) / len(x), (len(x), 1))
            if mode == "reference":
                moved = noise + step_size * gradient
                noise = np.stack([token / (np.abs(token).max() + 1e-6) for token in moved])
            else:
                noise = np.clip(noise + step_size * gradient / np.abs(gradient).max(), -radius, radius)
        found.append(noise)
    return torch.from_numpy(np.concatenate(found))


@pytest.mark.parametrize("mode", ["reference", "paper"])
@pytest.mark.parametrize(
    "settings", [(1, 1e-3, 1e-5, 1e-5), (1, 0.5, 0.1, 0.4), (3, 2.0, 0.5, 1.5), (2, 50.0, 0.1, 0.1)]
)
def test_the_noise_is_that_of_the_formula(mode: str, settings: tuple[int, float, float, float]):
    expected = slow_noise(mode, *settings)
    steps, step_size, noise_std, radius = settings
    found = find_noise(mode=mode, steps=steps, step_size=step_size, noise_std=noise_std, radius=radius)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


def test_the_inner_loss_has_no_graph_but_that_of_the_noise():
    x_MD, seen = toy_x().requires_grad_(), []

    def f(noisy_MD: Tensor) -> Tensor:
        (to_x_MD,) = torch.autograd.grad(noisy_MD.sum(), x_MD, retain_graph=True, allow_unused=True)
        seen.append((noisy_MD.requires_grad, to_x_MD))
        return noisy_MD.sum(-1)

    def apart(a_B: Tensor, b_B: Tensor) -> Tensor:
        seen.append((a_B.requires_grad, b_B.requires_grad))
        return squared_error(a_B, b_B)

    options: dict[str, Any] = {"steps": 2, "step_size": 1.0, "noise_std": 1.0, "radius": 1.0, "offsets": OFFSETS}
    for mode in ("reference", "paper"):
        noise_MD = adversary(f, x_MD, x_MD.sum(-1), apart, torch.Generator(), mode=mode, **options)
        assert not noise_MD.requires_grad
    assert seen == [(True, None), (True, False)] * 4


def test_reference_noise_has_a_largest_element_of_about_1_in_each_token():
    most_M = find_noise().abs().amax(-1)
    assert (most_M < 1).all()
    assert (most_M > 0.75).all()
    near = torch.nn.functional.cosine_similarity(find_noise(), start(1e-5), dim=-1)
    assert (near > 0.99).all()  # nearly random


def test_paper_noise_stays_within_the_radius_and_reaches_it():
    noise_MD = find_noise(mode="paper")
    assert noise_MD.abs().max() == 1e-5
    for piece in torch.tensor_split(noise_MD, OFFSETS[1:-1]):
        assert piece.abs().max() == 1e-5


def test_the_gradient_is_measured_by_its_largest_element_in_the_sequence():
    def f(x_MD: Tensor) -> Tensor:
        # From 0 the gradient of the square is twice this: (2, 0), (-4, 1) in the first sequence, (0, 8) in the second.
        return (x_MD * torch.tensor([[1.0, 0.0], [-2.0, 0.5], [0.0, 4.0]])).sum(-1)

    generator, clean = torch.Generator(), torch.full((3,), -1.0)
    noise_MD = adversary(
        f, torch.zeros(3, 2), clean, squared_error, generator,
        mode="paper", offsets=(0, 2, 3), steps=1, step_size=0.5, noise_std=0.0, radius=0.4,
    )  # fmt: skip
    assert noise_MD.tolist() == [[0.25, 0.0], pytest.approx([-0.4, 0.125]), pytest.approx([0.0, 0.4])]


def test_an_output_that_does_not_move_leaves_the_noise_as_it_starts():
    def still(x_MD: Tensor) -> Tensor:
        return 0 * x_MD[:3, :3]

    torch.testing.assert_close(find_noise(still, mode="paper", radius=1.0), start(1e-5), rtol=0, atol=0)
    first = start(1e-5)
    expected = first / (first.abs().amax(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(find_noise(still), expected, rtol=1e-12, atol=0)
    assert not find_noise(still, noise_std=0.0).any()


def test_a_sequence_without_gradient_does_not_disturb_the_others():
    def first_only(x_MD: Tensor) -> Tensor:
        return torch.cat([toy_f(x_MD)[:1], torch.ones(2, 3, dtype=torch.float64)])

    settings: dict[str, Any] = {"mode": "paper", "step_size": 0.5, "noise_std": 0.1, "radius": 9.0}
    found, whole = find_noise(first_only, **settings), find_noise(**settings)
    torch.testing.assert_close(found[:2], whole[:2], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[2:], start(0.1)[2:], rtol=0, atol=0)


# SMART ---------------------------------------------------------------------------------------------


def slow_smart(settings: Smart, made: Model, data: Dataset) -> Tensor:
    """One example at a time, each a batch of its own; the noise at the start is that of the whole batch."""
    task, whole, B = data.task, batch_of(data), len(data)
    draws = torch.randn(len(whole.ids_N), WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cut, order = pieces(draws, whole.layout), whole.layout.spans["t"].order_S.tolist()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(B):
        batch = collate([(data, np.array([i]))], CPU)
        x_MD = made.embed(batch, None)
        clean = made.finish(batch, x_MD)["t"].prediction[0]
        noise = [settings.noise_std * cut[order[text * B + i]] for text in range(task.sequences)]
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
    """Of one sequence."""
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
        if large or mode == "reference" or "cosine" not in kind  # a cosine is float32: a change of 1e-5 is rounding
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
    """smart-pytorch's value for sequences of one length, with the noise that a generator of seed 0 starts from."""
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
def test_reference_is_smart_pytorch_divided_by_the_batch_size(
    kind: str, size: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    task, settings = TASKS[kind], Smart(**options)
    made, batch = loud(task), batch_of(examples(task, [4] * size))
    expected = their_smart(made, batch, settings, "sym_kl_loss", monkeypatch) / size
    assert_same(settings(passed(made, batch)), expected, made, 1e-9)
    if size == 1:  # their other inner loss is the mean of the half that has a gradient
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
    # The other mode computes as the model does.
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
    batch = batch_of(dataset(task, *[[4, 4]] * task.sequences, labels=[0.0, 0.0]))
    same = batch.ids_N[:4].repeat(len(batch.ids_N) // 4)
    batch.ids_N.copy_(same)
    value = Smart.model_validate({"mode": mode})(passed(made, batch))
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients(value, made).values())


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("mode", "exact"), ("noise_std", 0.0), ("radius", -1.0)])
def test_settings_that_make_no_sense_are_refused(field: str, value: object):
    with pytest.raises(ValidationError, match=field):
        Smart.model_validate({field: value})


# Bregman -------------------------------------------------------------------------------------------


def moved(made: Model) -> Model:
    """A copy with other weights."""
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
    found = Bregman()(passed(made, batch, ema=ema))
    assert_same(found, torch.stack(parts).mean(), made, 1e-4 if "cosine" in kind else 1e-9)
    assert not gradients(found, ema)


def test_bregman_is_0_where_the_averaged_model_is_the_model():
    made, batch = loud(TASKS["ordinal"]), batch_of(examples(TASKS["ordinal"]))
    assert Bregman()(passed(made, batch, ema=copy.deepcopy(made))).item() == 0.0


def test_the_averaged_model_has_no_dropout_and_draws_nothing():
    task = TASKS["ordinal"]
    made, batch = loud(task, OTHER, dropout=0.1), batch_of(examples(OTHER), examples(task))
    p = passed(made, batch, ema=made)
    state = p.generator.get_state()
    expected = symmetric_kl(p.out.prediction, made(batch)["t"].prediction).mean()
    assert Bregman()(p).item() == pytest.approx(expected.item(), rel=1e-9)
    assert expected > 0.01
    assert torch.equal(p.generator.get_state(), state)


# R-Drop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("kind", TASKS)
def test_rdrop_is_half_the_mean_divergence_from_a_second_pass_with_its_own_masks(kind: str, joint: bool):
    task = TASKS[kind]
    made, alone = loud(task, OTHER, dropout=0.1), batch_of(examples(task))
    batch = batch_of(examples(OTHER), examples(task)) if joint else alone
    p = passed(made, batch)
    twin = torch.Generator()
    twin.set_state(p.generator.get_state())
    again = made(alone, twin)["t"].prediction
    parts = [slow_divergence(task, a, b, detached=False) for a, b in zip(p.out.prediction, again, strict=True)]
    assert_same(RDrop()(p), torch.stack(parts).mean() / 2, made, 1e-4 if "cosine" in kind else 1e-9)


def test_rdrop_is_0_without_dropout():
    made, batch = loud(TASKS["ordinal"]), batch_of(examples(TASKS["ordinal"]))
    assert RDrop()(passed(made, batch)).item() == 0.0
