"""Dropout: its rate, scale and gradient, its source of randomness, and its places in each family of encoders."""

import math

import pytest
import torch
import torch.nn.attention.varlen
import toy_encoder
from tiny import ragged
from torch.testing import assert_close
from toy_encoder import LENGTHS, run

from mtbert.model.dropout import dropout

encoders = toy_encoder.encoders


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_dropout_has_the_exact_rate_and_scale(p):
    n = 2_000_001  # odd, so that a part of the last draw is unused
    out = dropout(torch.ones(n, dtype=torch.float64), p, torch.Generator().manual_seed(0))
    zeros = int((out == 0).sum())
    assert abs(zeros - n * p) < 4 * math.sqrt(n * p * (1 - p))
    assert_close(out[out != 0], torch.full((n - zeros,), 1 / (1 - p), dtype=torch.float64))


def test_dropout_is_a_function_of_the_generators_state():
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(9))
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    one = dropout(x, 0.5, first)
    assert torch.equal(one, dropout(x, 0.5, second))
    assert torch.equal(first.get_state(), second.get_state())
    assert not torch.equal(one, dropout(x, 0.5, first))
    assert torch.equal(dropout(x.t(), 0.5, torch.Generator().manual_seed(3)) != 0, (one != 0).view(5, 7))


def test_elements_are_dropped_independently():
    # At every distance, two elements are dropped together with probability p * p, although neighbours share a draw of
    # 64 bits; and no draw is used again later.
    n, rare = 200_000, 0.01
    gone = (dropout(torch.ones(n), 0.1, torch.Generator().manual_seed(0)) == 0).double()
    both = torch.fft.irfft(torch.fft.rfft(gone).abs().square(), n)[1:]
    assert (both - n * rare).abs().max() < 6.5 * math.sqrt(n * rare * (1 - rare))


def test_dropout_gradient_is_the_mask():
    x = torch.randn(50, requires_grad=True)
    out = dropout(x, 0.3, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert_close(gradient * x, out)


def test_without_a_generator_or_a_rate_dropout_is_the_identity():
    x, generator = torch.randn(3), torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, generator) is x
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert"])
def test_training_draws_from_its_generator_only(encoders, kind):
    encoder, batch = encoders(kind), ragged(LENGTHS)
    before = torch.get_rng_state()
    with torch.no_grad():
        one = run(encoder, batch, torch.Generator().manual_seed(0))[-1]
        same = run(encoder, batch, torch.Generator().manual_seed(0))[-1]
        other = run(encoder, batch, torch.Generator().manual_seed(1))[-1]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


# One mask per place: embeddings, then (DeBERTa: vectors of distances,) attention probabilities, attention output, layer
# output.
@pytest.mark.parametrize(
    ("kind", "masks"), [("bert", 4), ("electra", 4), ("roberta", 4), ("mpnet", 4), ("deberta-v2", 5), ("distilbert", 3)]
)
def test_dropout_stands_where_the_family_was_trained_with_it(encoders, kind, masks, monkeypatch):
    encoder, batch = encoders(kind), ragged({"a": [5]})
    rates = []

    def count(x, p, generator):
        if p > 0:
            rates.append((p, tuple(x.shape)))
        return x

    monkeypatch.setattr("mtbert.model.encoder.dropout", count)
    monkeypatch.setattr("mtbert.model.layer.dropout", count)
    monkeypatch.setattr("mtbert.model.relative.dropout", count)
    monkeypatch.setattr("mtbert.model.mix.dropout", count)
    with torch.no_grad():
        run(encoder, batch, torch.Generator())
    width = encoder.config.embedding_width
    probabilities, vectors = (0.1, (4, 5, 5)), (0.1, (5, 24))
    layer = [probabilities, vectors, vectors] if masks >= 4 else [probabilities, vectors]
    if masks == 5:
        layer = [(0.1, (32, 24)), (0.1, (2, 5, 5)), vectors, vectors]
    assert rates == [(0.1, (5, width)), *(3 * layer)]
