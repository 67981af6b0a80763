"""Every part that runs on a GPU computes the same there as on the CPU. ``make gpu`` runs this file on a GPU.

With ``MTBERT_GPU_DEVICE=cpu`` the CPU takes the GPU's place, so that the tests themselves can be tried without one.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
from one_step import backward
from rich.console import Console
from torch.testing import assert_close

from mtbert import load, scoring
from mtbert.collate import collate
from mtbert.model import attention
from mtbert.model.attention import Groups, attend
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.storage import run_state
from mtbert.storage.model_folder import load_model
from mtbert.storage.predictions import load_predictions
from mtbert.training.assemble import assemble
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.snapshot import restore, snapshot
from mtbert.training.start import start_run
from mtbert.yaml_files import merge

folder = toy_run.folder

DEVICE = os.environ.get("MTBERT_GPU_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="this machine has no GPU"),
]
SILENT = Console(quiet=True)
STILL = {"model": {"dropout": 0.0}, "tasks": {t: {"head": {"dropout": 0.0}} for t in ("sst", "quora", "sts")}}
Raw = dict[str, Any]


def settings(folder: Path, device: str, *changes: Raw) -> Recipe:
    raw = toy_run.raw_recipe(folder, device=device)
    for change in changes:
        raw = merge(raw, change)
    return validate_recipe(raw, "toy")


def make(folder: Path, device: str, *changes: Raw) -> Run:
    made = settings(folder, device, *changes)
    built = assemble(made)
    with torch.no_grad():  # new weights are so small that differences would not show in losses
        for part, factor in ((built.model.encoder, 3), (built.model.heads, 10)):
            for name, parameter in part.named_parameters():
                if not name.endswith("norm.weight"):
                    parameter.mul_(factor)
    return built.run()


def near(found: torch.Tensor, expected: torch.Tensor, share: float, name: str) -> None:
    """Checks that elements differ by at most ``share`` of the largest; skips a gradient that is 0 up to rounding."""
    found, expected = found.detach().cpu(), expected.detach().cpu()
    most = float(expected.abs().max())
    assert_close(found, expected, rtol=0, atol=share * most + 1e-6, msg=lambda told: f"{name}: {told}")


# Against the CPU, in float32 -----------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_outputs_and_gradients_are_those_of_the_cpu(pooling: str, folder: Path):
    found = []
    for device in (DEVICE, "cpu"):
        run = make(folder, device, STILL, {"model": {"pooling": pooling}})
        batch = collate([(d.train, np.arange(7)) for d in run.data.values()], run.device)
        outputs = run.model(batch)
        backward(run.objective, [(d.train, np.arange(7)) for d in run.data.values()])
        values = {name: out.prediction for name, out in outputs.items()}
        values |= {f"{name} vector": out.vectors[0] for name, out in outputs.items()}
        values |= {name: p.grad.to_dense() for name, p in run.model.named_parameters() if p.grad is not None}
        found.append(values)
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) > 30
    for name, expected in found[1].items():
        assert found[0][name].device.type == DEVICE
        near(found[0][name], expected, 1e-4, name)


MNRL = {"inputs": "separate", "head": {"kind": "linear"}, "losses": ["bce", {"kind": "mnrl", "weight": 0.5}]}
SAME = {
    "alternate": {"train": {"mode": "alternate"}},
    "joint": {"train": {"mode": "joint"}},
    "clipped": {"train": {"mode": "joint", "clip": 0.01}},
    "surgery": {"train": {"mode": "joint", "aggregation": "pcgrad"}},
    "uncertainty": {"train": {"mode": "joint", "weighting": "uncertainty"}},
    "token budget": {"train": {"mode": "joint", "token_budget": 40}},
    "pal": {"train": {"mode": "joint"}, "model": {"pal": {"width": 12, "heads": 3, "dropout": 0.0}}},
    "lora": {"train": {"mode": "joint"}, "model": {"lora": {"rank": 2}}},
    "ema": {"train": {"mode": "joint", "ema": {"decay": 0.9}}, "tasks": {"sst": {"losses": ["ce", "bregman"]}}},
    "gradcache": {"train": {"mode": "joint", "token_budget": 40}, "tasks": {"quora": MNRL}},
    "mean pooling": {"train": {"mode": "joint", "layer_decay": 0.8}, "model": {"pooling": "mean"}},
    "annealed": {"train": {"mode": "alternate", "sampler": "annealed"}},
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_steps_are_those_of_the_cpu(change: Raw, folder: Path):
    ours, theirs = (make(folder, device, STILL, {"train": {"clip": None}}, change) for device in (DEVICE, "cpu"))
    for number in range(3):
        a, b = ours.step(), theirs.step()
        assert a.losses == pytest.approx(dict(b.losses), rel=1e-3), f"step {number}"
        assert a.diagnostics == pytest.approx(dict(b.diagnostics), rel=2e-3, abs=2e-3), f"step {number}"
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-3), f"step {number}"
    expected = dict(theirs.predictor.named_parameters())
    for name, weight in ours.predictor.named_parameters():
        assert weight.device.type == DEVICE
        # Adam makes full steps along a gradient that is only rounding: weights are at most three rates apart.
        assert_close(weight.detach().cpu(), expected[name].detach(), rtol=0, atol=3.1e-3)
    # The gradients of the last step, as the optimizer read them: clipped where the recipe clips.
    most = max(float(p.grad.abs().max()) for p in theirs.trained if p.grad is not None)
    for p, q in zip(ours.trained, theirs.trained, strict=True):
        if q.grad is not None:
            assert_close(p.grad.cpu(), q.grad, rtol=0, atol=5e-3 * most)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "losses",
    [
        ["ce", "smart"],
        ["ce", {"kind": "smart", "mode": "paper", "weight": 1.0}],
        ["ce", "rdrop"],
        ["ce", "oll", {"kind": "simcse-unsup", "weight": 0.1}],
    ],
    ids=["smart", "smart as printed", "rdrop", "simcse"],
)
@pytest.mark.parametrize("mode", ["joint", "alternate"])
def test_random_numbers_are_drawn_the_same_again(losses: list[Any], mode: str, precision: str, folder: Path):
    train = {"mode": mode, "precision": precision, "token_budget": 60}
    change = {"train": train, "model": {"dropout": 0.1}, "tasks": {"sst": {"losses": losses}}}
    runs = [make(folder, DEVICE, change) for _ in range(2)]
    for _ in range(3):
        a, b = (run.step() for run in runs)
        assert all(np.isfinite(value) for value in a.losses.values())
        assert a.grad_norm > 0
        assert a.losses == pytest.approx(dict(b.losses), rel=0.05, abs=1e-3)
    other = make(folder, DEVICE, change, {"train": {"seed": 1}})
    assert other.step().losses != pytest.approx(dict(runs[0].step().losses), rel=1e-3)


def test_products_in_bfloat16_give_nearly_the_losses_of_float32(folder: Path):
    half, full = (make(folder, DEVICE, STILL, {"train": {"mode": "joint", "precision": p}}) for p in ("bf16", "fp32"))
    for _ in range(3):
        assert half.step().losses == pytest.approx(dict(full.step().losses), rel=0.1, abs=0.02)


# Attention -----------------------------------------------------------------------------------------

LENGTHS = [1, 2, 8, 9, 31, 33, 40, 64, 100, 128]


def heads_and_groups(dtype: torch.dtype) -> tuple[torch.Tensor, Groups]:
    """Returns queries, keys and values of 4 heads of width 32 for sequences of two tasks."""
    from mtbert.batch import Layout, Span

    ends = np.cumsum([0, *LENGTHS, *LENGTHS]).tolist()
    cut, n = ends[len(LENGTHS)], len(LENGTHS)
    device = torch.device(DEVICE)
    spans = {"a": Span(0, n, 0, cut), "b": Span(n, 2 * n, cut, ends[-1])}
    groups = Groups(Layout(tuple(ends), spans), device, rounded=True)
    draws = torch.Generator().manual_seed(0)
    qkv = torch.randn(ends[-1] + groups.dummies, 3 * 128, generator=draws).to(device, dtype)
    return qkv.requires_grad_(), groups


def attended(first_only: bool, dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, torch.Tensor]:
    qkv, groups = heads_and_groups(dtype)
    out = attend(qkv, groups, 4, 0.0, None, first_only=first_only)
    pattern = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
    return out.detach().float(), torch.autograd.grad((out.float() * pattern).sum(), qkv)[0].float()


@pytest.mark.parametrize("first_only", [False, True])
def test_the_kernel_attends_as_groups_do(first_only: bool, monkeypatch: pytest.MonkeyPatch):
    qkv, _ = heads_and_groups(torch.bfloat16)
    assert attention._has_kernel(qkv, 4, 0.0) == (DEVICE == "cuda")
    kernel = attended(first_only)
    monkeypatch.setattr(attention, "_has_kernel", lambda *_: False)
    grouped, exact = attended(first_only), attended(first_only, torch.float32)
    for found, expected, what in zip((*kernel, *grouped), (*exact, *exact), ("out", "slope") * 2, strict=True):
        near(found, expected, 0.03, what)


def test_dropout_after_the_attention_has_the_same_masks_with_the_kernel_and_with_groups(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def outputs() -> list[torch.Tensor]:
        run = make(folder, DEVICE, {"train": {"precision": "bf16"}, "model": {"dropout": 0.3}})
        for layer in run.model.encoder.layers:
            layer.attention = replace(layer.attention, dropout=0.0)
        batch = collate([(d.train, np.arange(7)) for d in run.data.values()], run.device)
        made = run.model(batch, torch.Generator(run.device).manual_seed(1))
        return [out.vectors[0].detach().float() for out in made.values()]

    kernel = outputs()
    monkeypatch.setattr(attention, "_has_kernel", lambda *_: False)
    for found, expected in zip(kernel, outputs(), strict=True):
        near(found, expected, 0.1, "vectors")


def test_dropout_of_attention_is_right_on_average():
    qkv, groups = heads_and_groups(torch.bfloat16)
    draws = torch.Generator(qkv.device).manual_seed(0)
    with torch.no_grad():
        expected = attend(qkv, groups, 4, 0.0, None).float()
        masked = [attend(qkv, groups, 4, 0.2, draws).float() for _ in range(200)]
    assert not torch.equal(masked[0], masked[1])
    assert float((torch.stack(masked).mean(0) - expected).abs().mean() / expected.abs().mean()) < 0.1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_last_layer_for_first_tokens_alone_gives_their_vectors(precision: str, folder: Path):
    run = make(folder, DEVICE, STILL, {"train": {"precision": precision}})
    batch = collate([(d.train, np.arange(9)) for d in run.data.values()], run.device)
    assert run.model.first_only(run.data)
    with torch.no_grad():
        short = {name: out.vectors[0] for name, out in run.model(batch).items()}
        run.model.first_only = lambda names: False  # type: ignore[method-assign]
        for name, out in run.model(batch).items():
            near(short[name], out.vectors[0], 1e-4 if precision == "fp32" else 0.05, name)


# A run ---------------------------------------------------------------------------------------------


def test_a_run_saves_resumes_and_predicts(folder: Path):
    train = {"mode": "alternate", "rounds": 2, "epochs": 2, "ema": {"decay": 0.9}}
    made = settings(folder, DEVICE, {"train": train})
    out = folder / "run"
    start_run(made, out, SILENT)
    whole = load_model(out / "last").model.state_dict()
    run = make_from(made)
    for _ in range(6):
        run.step()
    run_state.save_state(snapshot(run), folder)
    again = make_from(made)
    again.ema.load_state_dict(run.ema.state_dict())  # the averaged weights are saved separately
    restore(again, run_state.load_state(folder))
    assert again.generator.get_state().equal(run.generator.get_state())
    before, after = snapshot(run).tensors, snapshot(again).tensors
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    for _ in range(6):
        again.step()
    for name, tensor in again.predictor.state_dict().items():
        assert float((tensor.cpu() - whole[name]).norm()) <= 0.01 * float(whole[name].norm()) + 1e-3, name
    predictor = load(out)
    told = load_predictions(out / "best")
    resume_run(out, SILENT)  # a finished run has nothing to do
    for name, data in again.scored.items():
        found = scoring.predict_examples(predictor.model, data.dev)
        assert found.device.type == "cpu"
        if predictor.model.compute == torch.float32:  # a predictor uses the precision of the hardware
            near(found, told[name].prediction, 1e-3, name)
    answer = predictor.predict("quora", [("a dog runs", "the cat sleeps")])[0]
    assert answer["p(0)"] + answer["p(1)"] == pytest.approx(1.0, abs=1e-5)
    assert predictor.vectors("sst", ["a dog"]).shape == (1, 16)


def make_from(made: Recipe) -> Run:
    return assemble(made).run()


def test_a_cosine_threshold_and_its_answers_are_those_of_the_cpu(folder: Path):
    cosine = {"tasks": {"quora": {"inputs": "separate", "head": "cosine", "losses": ["mse"]}}}
    found = []
    for device in (DEVICE, "cpu"):
        raw = merge(toy_run.raw_recipe(folder, device=device), {"model": {"dropout": 0.0}, **cosine})
        run = make_from(validate_recipe(raw, "toy"))
        train = run.data["quora"].train
        scoring.fit_answers(run.model, [(train, np.arange(len(train)))])
        found.append(
            (float(run.model.head("quora").threshold), scoring.evaluate_model(run.model, run.data["quora"].dev))
        )
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-4)
    assert found[0][1].metrics == pytest.approx(
        found[1][1].metrics, abs=0.11
    )  # an example at the threshold may fall on either side


def test_a_loss_that_is_not_finite_is_reported_with_its_example_and_leaves_the_weights_unchanged(folder: Path):
    run = make(folder, DEVICE, {"train": {"mode": "joint"}})
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    with torch.no_grad():
        run.model.head("quora").layers[-1].bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"step 1: loss quora\.bce is nan for examples '?q\d+"):
        run.step()
    for name, weight in run.model.named_parameters():
        if not name.startswith("heads.for_quora"):
            assert torch.equal(weight, before[name]), name


def test_predictions_come_back_in_order_over_several_batches(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = make(folder, DEVICE, STILL)
    whole = scoring.predict_examples(run.model, run.data["sst"].train)
    for limit in ("TOKENS", "TOKENS_ON_GPU"):
        monkeypatch.setattr(scoring, limit, 30)
    assert_close(scoring.predict_examples(run.model, run.data["sst"].train), whole, rtol=1e-3, atol=1e-4)
