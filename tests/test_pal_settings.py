"""Projected attention layers: their number of parameters, their initial weights, and their valid settings."""

import re
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from tiny import model
from torch import Tensor, nn

from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.model.pal import build_adapter
from mtbert.model.settings import Pal

CONFIG = replace(model().encoder.config, layers=3)  # width 8, 2 heads

BERT_BASE = replace(
    CONFIG, vocab_size=30522, width=768, embedding_width=768, layers=12, heads=12, intermediate=3072, max_length=512
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        (Pal(), 1_819_836),
        (Pal(shared=False), 5_277_312),
        (Pal(kind="low_rank"), 1_853_616),
        (Pal(kind="low_rank", shared=True), 154_468),
    ],
)
def test_a_network_at_bert_base_has_as_many_parameters_as_the_sources(settings, parameters):
    assert count(build_adapter(settings, BERT_BASE, "t", 0)) == parameters


def test_eight_tasks_at_bert_base_are_1_13_encoders():
    with torch.device("meta"):
        base = count(Encoder(BERT_BASE))
    assert base == 109_482_240
    assert round((base + 8 * count(build_adapter(Pal(), BERT_BASE, "t", 0))) / base, 2) == 1.13


@pytest.mark.parametrize("kind", ["attention", "low_rank"])
def test_weights_are_initialized_like_berts_and_depend_only_on_seed_and_name(kind):
    settings = Pal(kind=kind)

    def made(name: str, seed: int, config: EncoderConfig = CONFIG) -> list[Tensor]:
        return [parameter.detach() for parameter in build_adapter(settings, config, name, seed).parameters()]

    before = torch.get_rng_state()
    first, again = made("a", 0), made("a", 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    for other in (made("b", 0), made("a", 1)):
        assert not any(torch.equal(x, y) for x, y in zip(first, other, strict=True) if x.dim() == 2)
    for parameter in made("a", 0, replace(CONFIG, width=384, layers=2)):
        if parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.02)
            assert parameter.mean().item() == pytest.approx(0.0, abs=5e-4)
        else:
            assert parameter.unique().tolist() == [0.0]


@pytest.mark.parametrize(
    ("settings", "width", "shared"),
    [
        (Pal(), 204, True),
        (Pal(width=None, shared=None, tasks=None), 204, True),
        (Pal(kind="low_rank"), 100, False),
        (Pal(width=12, shared=False, tasks=("a",)), 12, False),
        (Pal(kind="low_rank", width=7, shared=True), 7, True),
    ],
)
def test_settings_left_open_are_as_in_the_source(settings, width, shared):
    assert (settings.resolved_width, settings.resolved_shared) == (width, shared)
    assert (settings.heads, settings.dropout) == (6, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 100}, "found 6 heads and width 100. Use heads: 5, or width: 102."),
        ({"heads": 8}, "found 8 heads and width 204. Use heads: 6, or width: 208."),
        ({"heads": 300}, "found 300 heads and width 204. Use heads: 204, or width: 300."),
        ({"width": 0}, "greater than 0"),
        ({"tasks": ()}, "at least 1 item"),
        ({"hads": 6}, "Did you mean 'heads'?"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_a_repair(settings, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        Pal(**settings)
