"""SimCSE, supervised and unsupervised, against other losses and two explicit passes.

Dimension key: B rows, D width, S sentences, M tokens of a task.
"""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from tiny import CPU, WIDTH, dataset, model
from torch import Tensor, nn
from toy_sentences import FIRST, PAIRS, SAME, SECOND, SINGLE, batch_of, large, passed, slow_ranking, with_gradients

from mtbert.batch import StepBatch
from mtbert.collate import collate
from mtbert.losses.ranking import MultipleNegatives
from mtbert.losses.simcse import SimCSE, UnsupervisedSimCSE
from mtbert.model.model import Model


def test_supervised_simcse_is_mnrl_with_one_over_its_temperature():
    p = passed(model(PAIRS), batch_of(PAIRS, [1] * 5, [[i, i] for i in SAME]), "pairs")
    found, expected = SimCSE()(p), MultipleNegatives(scale=10.0)(p)
    torch.testing.assert_close(with_gradients(found, *p.out.vectors), with_gradients(expected, *p.out.vectors))
    assert found.item() != pytest.approx(MultipleNegatives()(p).item(), rel=1e-3)


def by_hand(made: Model, batch: StepBatch, own: nn.Module, generator: torch.Generator | None = None) -> Tensor:
    """Returns the layer's result for the first state of each sentence, in the order of the examples."""
    weight_DD, bias_D = own.parameters()
    kept, encode = [], made.encoder.encode
    with patch.object(made.encoder, "encode", lambda *args, **how: kept.append(encode(*args, **how)) or kept[-1]):
        made(batch, generator)
    (sorted_SD,) = kept
    assert len(sorted_SD) == len(batch.layout.offsets) - 1
    (place,) = batch.places.values()
    return torch.stack([torch.tanh(weight_DD @ sorted_SD[i] + bias_D) for i in place.order.tolist()])


@pytest.mark.parametrize(
    ("task", "clusters"), [(PAIRS, [[0, 1], [2, 0], [3, 4], [5, 6], [3, 8]]), (SINGLE, [[i] for i in SAME])]
)
def test_unsupervised_simcse_equals_two_passes_by_hand(task, clusters):
    made = model(task, dropout=0.1)
    own = large(UnsupervisedSimCSE().build(WIDTH, torch.Generator()))
    batch = batch_of(task, [0, 1, 0, 1, 0], clusters)
    p = passed(made, batch, task.name, generator=torch.Generator().manual_seed(3))
    found = UnsupervisedSimCSE().with_own(own)(p)
    twin = torch.Generator().manual_seed(3)
    first_SD, second_SD = (by_hand(made, batch, own, twin) for _ in range(2))
    numbers = [row[k] for k in range(2 if task.inputs == "separate" else 1) for row in clusters]
    parameters = (*own.parameters(), made.encoder.word_embedding.weight)
    torch.testing.assert_close(
        with_gradients(found, *parameters),
        with_gradients(slow_ranking(first_SD, second_SD, numbers, 20.0), *parameters),
        rtol=1e-4,
        atol=1e-4,
    )


def test_both_passes_differ_in_the_masks_of_dropout_and_in_nothing_else():
    own = large(UnsupervisedSimCSE().build(WIDTH, torch.Generator()))
    batch = batch_of(PAIRS, [1] * 5, [[i, i + 5] for i in range(5)])

    def vectors(dropout: float) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(3)
        p = passed(model(PAIRS, dropout=dropout), batch, "pairs", generator=generator)
        return UnsupervisedSimCSE().with_own(own).gather(p)[:2]

    first_SD, second_SD = vectors(0.0)
    assert torch.equal(first_SD, second_SD)
    first_SD, second_SD = vectors(0.1)
    assert ((first_SD - second_SD).abs().amax(1) > 1e-3).all()


def test_in_a_batch_of_several_tasks_the_right_tokens_are_taken():
    made = model(SINGLE, PAIRS)
    own = large(UnsupervisedSimCSE().build(WIDTH, torch.Generator()))
    other, pairs = dataset(SINGLE, [5, 3], labels=[0, 1], seed=9), dataset(PAIRS, FIRST, SECOND, labels=[1] * 5)
    joint = collate([(other, np.arange(2)), (pairs, np.arange(5))], CPU)
    joint = replace(joint, clusters={"one": torch.zeros(2, 1), "pairs": torch.arange(10).view(5, 2)})
    alone = batch_of(PAIRS, [1] * 5, torch.arange(10).view(5, 2).tolist())
    expected = by_hand(made, alone, own)
    first_SD, second_SD, clusters_S = UnsupervisedSimCSE().with_own(own).gather(passed(made, joint, "pairs"))
    torch.testing.assert_close(first_SD, expected)
    torch.testing.assert_close(second_SD, expected)
    assert clusters_S.tolist() == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
    torch.testing.assert_close(own(made(joint)["pairs"].first_SD), expected)


def test_the_layer_of_simcse_is_initialized_like_berts_from_the_generator_alone():
    before = torch.get_rng_state()

    def build(seed: int) -> list[Tensor]:
        own = UnsupervisedSimCSE().build(200, torch.Generator().manual_seed(seed))
        assert own(torch.full((1, 200), 1e4)).abs().max() <= 1.0  # the tanh
        return [parameter.detach() for parameter in own.parameters()]

    weight_DD, bias_D = build(0)
    assert weight_DD.std().item() == pytest.approx(0.02, rel=0.02)
    assert bias_D.tolist() == [0.0] * 200
    assert torch.equal(weight_DD, build(0)[0])
    assert not torch.equal(weight_DD, build(1)[0])
    assert torch.equal(torch.get_rng_state(), before)
