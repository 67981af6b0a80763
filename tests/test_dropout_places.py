"""Dropout has the same places and rates as in transformers: both get the same masks in turn and give equal results."""

import copy
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from mtbert.collate import collate
from mtbert.losses import Pass
from mtbert.losses.smart import Smart
from mtbert.model import encoder, heads, layer, mix, relative
from mtbert.model.attention import Groups
from mtbert.model.families.known import FAMILIES
from mtbert.model.settings import Pal
from mtbert.model.weights import load_encoder
from mtbert.task import Task

HIDDEN, ATTENTION, EMBEDDING = 0.3, 0.5, 0.2
RATES = {
    "distilbert": {"dropout": HIDDEN, "attention_dropout": ATTENTION},
    "bert": {"hidden_dropout_prob": HIDDEN, "attention_probs_dropout_prob": ATTENTION},
    "modernbert": {"embedding_dropout": EMBEDDING, "mlp_dropout": HIDDEN, "attention_dropout": ATTENTION},
}
LENGTH, SEQUENCES = 7, 3


class Masks:
    """Replaces dropout: its n-th call multiplies by the n-th mask of a fixed sequence of masks."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, float]] = []  # number of elements and rate of each call with a rate above 0

    def __call__(self, x: Tensor, p: float) -> Tensor:
        if p == 0:
            return x
        generator = torch.Generator().manual_seed(len(self.calls))
        self.calls.append((x.numel(), p))
        keep = (
            torch.rand(x.numel(), generator=generator) >= 0.4
        )  # the same for every rate, so that the rate shows only in the scale
        return x * keep.view(x.shape) / (1 - p)

    def ours(self, x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
        return x if generator is None else self(x, p)

    def theirs(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return self(x, p) if training else x


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_pass_in_training_equals_transformers_under_the_same_masks(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = copy.deepcopy(tiny.CONFIGS[kind])
    for key, rate in RATES.get(kind, RATES["bert"]).items():
        setattr(config, key, rate)
    monkeypatch.setattr(tiny, "CONFIGS", {kind: config})
    model = tiny.hf_model(kind).float().double().train()  # weights that float32 can represent
    model.set_attn_implementation("eager")  # with others, attention has dropout of its own
    model.save_pretrained(tmp_path)
    ours, masks = load_encoder(str(tmp_path)).encoder.double(), Masks()
    monkeypatch.setattr(encoder, "dropout", masks.ours)
    monkeypatch.setattr(layer, "dropout", masks.ours)
    monkeypatch.setattr(relative, "dropout", masks.ours)
    monkeypatch.setattr(mix, "dropout", masks.ours)
    batch = tiny.ragged({"t": [LENGTH] * SEQUENCES})
    x_ND = ours.embed(batch.ids_N, batch.segments_N, batch.positions_N, torch.Generator())
    found_ND = ours.encode(x_ND, Groups(batch.layout, tiny.CPU), torch.Generator())

    theirs = Masks()
    monkeypatch.setattr(nn.functional, "dropout", theirs.theirs)
    expected = model(batch.ids_N.view(SEQUENCES, LENGTH)).last_hidden_state
    near = 1e-3 if kind in tiny.IN_FLOAT32 else 1e-8
    torch.testing.assert_close(found_ND, expected.flatten(0, 1), rtol=near, atol=near)
    assert masks.calls == theirs.calls
    assert {p for _, p in masks.calls} == {*RATES.get(kind, RATES["bert"]).values()}


def test_a_head_drops_elements_before_each_of_its_layers(monkeypatch: pytest.MonkeyPatch):
    task = Task.model_validate(
        {"name": "t", "type": "regression", "inputs": "single", "head": {"kind": "mlp", "hidden": 4, "dropout": 0.5}}
    )
    head = heads.LinearHead(task, 2, torch.Generator().manual_seed(0), ())
    with torch.no_grad():
        head.layers[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]]))
        head.layers[0].bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))
        head.layers[1].weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
        head.layers[1].bias.copy_(torch.tensor([0.5]))
    masks = iter([torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 1.0]])])
    monkeypatch.setattr(heads, "dropout", lambda x, p, generator: x * next(masks) / (1 - p))
    # (3, 5) without its second element, doubled: (6, 0). The layer gives (6, 0, 7, -6), its ReLU (6, 0, 7, 0), and
    # without the third element, doubled: (12, 0, 0, 0).
    assert head((torch.tensor([[3.0, 5.0]]),), torch.Generator()).tolist() == [12.5]
    assert next(masks, None) is None


@pytest.mark.parametrize("name", ["t", "u"])
def test_with_the_dropout_of_adapters_alone_both_passes_of_smart_have_the_same_masks(name: str):
    tasks = [
        Task.model_validate(
            {"name": name, "type": "ordinal", "inputs": "single", "labels": ("a", "b", "c"), "head": {"dropout": 0.0}}
        )
        for name in ("t", "u")
    ]
    made = tiny.model(*tasks, adapters=Pal(width=4, heads=2, dropout=0.5)).double()
    with torch.no_grad():
        for parameter in [*made.adapters.parameters(), *made.heads.parameters()]:
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    data = [tiny.dataset(task, [3, 4, 6], labels=[0.0, 1.0, 2.0]) for task in tasks]
    batch = collate([(d, np.arange(3)) for d in data], tiny.CPU)
    generator = torch.Generator().manual_seed(0)
    x_ND = made.embed(batch, generator)
    masks = generator.get_state()
    out = made.finish(batch, x_ND, generator)[name]
    made_pass = Pass(made, batch, made.tasks[name], out, batch.labels[name], generator, masks)
    settings = Smart(mode="paper", noise_std=1e-9, radius=1e-9)
    assert 0 <= settings(made_pass).item() < 1e-9
    # The control: with different masks, the noisy pass is far from the clean one.
    assert settings.model_copy(update={"shared_masks": False})(made_pass).item() > 1e-2
