"""Multiple negatives against its formula and sentence-transformers; properties of all losses that compare rows.

Dimension key: B rows, D width, S sentences, M tokens of a task.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import pairwise_cos_sim
from tiny import CPU, WIDTH, dataset, model
from torch import Tensor, nn
from toy_sentences import (
    COSINE,
    FIRST,
    PAIRS,
    SAME,
    SECOND,
    batch_of,
    large,
    passed,
    random,
    slow_ranking,
    with_gradients,
)

from mtbert.collate import collate
from mtbert.losses import Own
from mtbert.losses.cosent import CoSENT
from mtbert.losses.ranking import MultipleNegatives, multiple_negatives
from mtbert.losses.simcse import SimCSE, UnsupervisedSimCSE
from mtbert.model.heads import CosineHead
from mtbert.model.model import mean_pool

# Multiple negatives --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 10.0, 20.0])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("clusters", [[0, 1, 2, 3, 4], SAME, [3, 3, 3, 3, 3]])
def test_mnrl_equals_the_formula_and_so_does_its_gradient(clusters, symmetric, scale):
    a_BD, p_BD = random(5, 3), random(5, 3, seed=1)
    found = multiple_negatives(a_BD, p_BD, torch.tensor(clusters), scale, symmetric)
    expected = slow_ranking(a_BD, p_BD, clusters, scale)
    if symmetric:
        expected = (expected + slow_ranking(p_BD, a_BD, clusters, scale)) / 2
    torch.testing.assert_close(with_gradients(found, a_BD, p_BD), with_gradients(expected, a_BD, p_BD))


@pytest.mark.parametrize("symmetric", [False, True])
def test_mnrl_equals_that_of_sentence_transformers(symmetric):
    a_BD, p_BD = random(16, 6), random(16, 6, seed=1)
    more = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"} if symmetric else {}
    oracle = MultipleNegativesRankingLoss(nn.Identity(), **more)  # type: ignore[arg-type]
    expected = oracle([{"sentence_embedding": a_BD}, {"sentence_embedding": p_BD}], torch.zeros(16))
    found = multiple_negatives(a_BD, p_BD, torch.arange(16), MultipleNegatives().scale, symmetric)
    torch.testing.assert_close(with_gradients(found, a_BD, p_BD), with_gradients(expected, a_BD, p_BD))


def test_a_row_of_the_same_cluster_is_no_negative():
    x_BD = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    # exp(scale * cosine) is 2 for a row with itself and between the first two rows, and otherwise 1.
    apart = multiple_negatives(x_BD, x_BD, torch.tensor([5, 6, 7]), math.log(2), False)
    same = multiple_negatives(x_BD, x_BD, torch.tensor([5, 5, 7]), math.log(2), False)
    assert apart.item() == pytest.approx((2 * math.log(5 / 2) + math.log(4 / 2)) / 3, rel=1e-12)
    assert same.item() == pytest.approx((2 * math.log(3 / 2) + math.log(4 / 2)) / 3, rel=1e-12)


def test_mnrl_does_not_depend_on_the_order_of_rows():
    a_BD, p_BD, clusters_B, order = random(5, 3), random(5, 3, seed=1), torch.tensor(SAME), [3, 0, 4, 2, 1]
    value, *gradients = with_gradients(multiple_negatives(a_BD, p_BD, clusters_B, 20.0, False), a_BD, p_BD)
    moved = multiple_negatives(a_BD[order], p_BD[order], clusters_B[order], 20.0, False)
    torch.testing.assert_close(with_gradients(moved, a_BD, p_BD), (value, *gradients))


def test_the_symmetric_form_treats_both_sides_alike():
    a_BD, p_BD, clusters_B = random(5, 3), random(5, 3, seed=1), torch.tensor(SAME)

    def loss(first_BD: Tensor, second_BD: Tensor, symmetric: bool) -> float:
        return multiple_negatives(first_BD, second_BD, clusters_B, 5.0, symmetric).item()

    assert loss(a_BD, p_BD, True) == pytest.approx(loss(p_BD, a_BD, True), rel=1e-12)
    assert loss(a_BD, p_BD, False) != pytest.approx(loss(p_BD, a_BD, False), rel=1e-3)
    assert loss(a_BD, a_BD, True) == pytest.approx(loss(a_BD, a_BD, False), rel=1e-12)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("rows", [0, 1])
def test_without_a_negative_mnrl_is_0_and_so_is_its_gradient(rows, symmetric):
    a_BD, p_BD = random(rows, 3), random(rows, 3, seed=1)
    value, *gradients = with_gradients(multiple_negatives(a_BD, p_BD, torch.arange(rows), 20.0, symmetric), a_BD, p_BD)
    assert value.item() == 0.0
    assert [g.tolist() for g in gradients] == [[[0.0] * 3] * rows] * 2


def test_identical_sentences_cost_the_logarithm_of_their_number_or_nothing():
    x_BD = torch.ones(6, 4, dtype=torch.float64, requires_grad=True)
    apart = with_gradients(multiple_negatives(x_BD, x_BD, torch.arange(6), 20.0, False), x_BD)
    assert apart[0].item() == pytest.approx(math.log(6), rel=1e-12)
    torch.testing.assert_close(apart[1], torch.zeros(6, 4, dtype=torch.float64))
    assert multiple_negatives(x_BD, x_BD, torch.zeros(6), 20.0, False).item() == 0.0


def test_a_zero_vector_has_the_cosine_0_and_a_gradient_of_ordinary_size():
    a_BD = torch.tensor([[0.0, 0.0], [0.0, 1.0]], requires_grad=True)
    p_BD = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    value, *gradients = with_gradients(multiple_negatives(a_BD, p_BD, torch.arange(2), 20.0, True), a_BD, p_BD)
    assert value.item() == pytest.approx(math.log(2), rel=1e-6)
    assert all(g.isfinite().all() and g.abs().max() <= 20.0 for g in gradients)


def test_sure_answers_and_tiny_and_huge_vectors_give_finite_gradients():
    a_BD = torch.tensor([[1e-18, 0.0], [0.0, 1e18], [1e-18, 1e-18]], requires_grad=True)
    value, gradient = with_gradients(multiple_negatives(a_BD, a_BD, torch.arange(3), 1e4, False), a_BD)
    assert value.item() == pytest.approx(0.0, abs=1e-3)
    assert gradient.isfinite().all()


def test_vectors_in_bfloat16_are_compared_in_float32():
    a_BD, p_BD = random(5, 3).bfloat16(), random(5, 3, seed=1).bfloat16()
    found = multiple_negatives(a_BD, p_BD, torch.arange(5), 20.0, False)
    assert found.dtype == torch.float32
    assert torch.equal(found, multiple_negatives(a_BD.float(), p_BD.float(), torch.arange(5), 20.0, False))


@pytest.mark.parametrize(("loss", "scale"), [(MultipleNegatives(scale=7.0), 7.0), (SimCSE(temperature=0.25), 4.0)])
def test_only_pairs_labelled_1_take_part(loss, scale):
    batch = batch_of(PAIRS, [1, 0, 1, None, 1], [[8, 8], [9, 3], [8, 8], [5, 6], [4, 4]])
    p = passed(model(PAIRS), batch, "pairs")
    u_BD, v_BD = p.out.vectors
    kept = [0, 2, 4]
    gathered = [u_BD[kept].tolist(), v_BD[kept, None].tolist(), [[8, 8], [8, 8], [4, 4]]]
    assert [x.tolist() for x in loss.gather(p)] == gathered
    torch.testing.assert_close(loss(p), slow_ranking(u_BD[kept], v_BD[kept], [8, 8, 4], scale))


def test_the_symmetric_setting_is_used():
    p = passed(model(PAIRS), batch_of(PAIRS, [1] * 5, [[i, i] for i in range(5)]), "pairs")
    u_BD, v_BD = p.out.vectors
    expected = (slow_ranking(u_BD, v_BD, range(5), 20.0) + slow_ranking(v_BD, u_BD, range(5), 20.0)) / 2
    torch.testing.assert_close(MultipleNegatives(symmetric=True)(p), expected)


@pytest.mark.parametrize("loss", [MultipleNegatives(), SimCSE()])
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 0]])
def test_a_batch_with_at_most_one_positive_gives_0_and_a_zero_gradient(labels, loss):
    made = model(PAIRS)
    value = loss(passed(made, batch_of(PAIRS, labels, [[0, 0], [1, 1], [2, 2]]), "pairs"))
    value.backward()
    assert value.item() == 0.0
    gradient = made.encoder.word_embedding.weight.grad
    assert gradient is not None
    assert gradient.unique().tolist() == [0.0]


# All of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "loss"),
    [
        (PAIRS, MultipleNegatives(symmetric=True)),
        (PAIRS, SimCSE()),
        (PAIRS, UnsupervisedSimCSE()),
        (COSINE, CoSENT()),
    ],
)
def test_a_batch_in_chunks_has_the_gradient_of_the_whole_batch(task, loss):
    """The loss is computed on the vectors of all chunks; their gradient then goes through each chunk separately."""
    made = model(task).double()
    own = large(UnsupervisedSimCSE().build(WIDTH, torch.Generator()).double()) if isinstance(loss, Own) else None
    loss = loss if own is None else loss.with_own(own)
    data = dataset(task, FIRST, SECOND, labels=[1, 0, 1, 1, 1])
    clusters = torch.tensor([[0, 0], [1, 2], [3, 3], [0, 0], [4, 4]])

    def gathered(rows: list[int]) -> tuple[Tensor, ...]:
        batch = replace(collate([(data, np.array(rows))], CPU), clusters={task.name: clusters[rows]})
        return loss.gather(passed(made, batch, task.name))

    parameters = [*made.encoder.parameters(), *(own.parameters() if own else ())]

    def gradients() -> list[Tensor]:
        taken = [torch.zeros_like(x) if x.grad is None else x.grad for x in parameters]
        for x in parameters:
            x.grad = None
        return taken

    whole = loss.compare(*gathered([0, 1, 2, 3, 4]))
    whole.backward()
    expected = gradients()
    chunks = [[0, 2], [1], [3, 4]]  # no positive in the second one
    with torch.no_grad():
        parts = [gathered(rows) for rows in chunks]
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    leaves = [column.requires_grad_(column.is_floating_point()) for column in columns]
    value = loss.compare(*leaves)
    value.backward()
    sizes = [len(part[0]) for part in parts]
    for k, rows in enumerate(chunks):
        for column, leaf in zip(gathered(rows), leaves, strict=True):
            if column.requires_grad:
                assert leaf.grad is not None
                column.backward(leaf.grad.split(sizes)[k], retain_graph=True)
    torch.testing.assert_close(value, whole)
    found = gradients()
    torch.testing.assert_close(found, expected)
    assert max(x.abs().max().item() for x in found) > 1e-3


@pytest.mark.parametrize(
    ("make", "field", "bound"),
    [
        (lambda: MultipleNegatives(scale=0.0), "scale", "greater than 0"),
        (lambda: MultipleNegatives(scale=1e308), "scale", "less than or equal to 10000"),
        (lambda: SimCSE(temperature=0.0), "temperature", "greater than or equal to 0.0001"),
        (lambda: UnsupervisedSimCSE(temperature=-0.05), "temperature", "greater than or equal to 0.0001"),
        (lambda: CoSENT(scale=-1.0), "scale", "greater than 0"),
        (lambda: CoSENT(scale=1e308), "scale", "less than or equal to 10000"),
    ],
)
def test_a_scale_or_temperature_beyond_what_float32_bears_is_refused(make: Callable[[], object], field, bound):
    with pytest.raises(ValidationError, match=rf"\n{field}\n  Input should be {bound}"):
        make()


def test_means_and_cosines_are_those_of_sentence_transformers():
    lengths = torch.tensor([1, 4, 2])
    hidden_MD = random(7, 5).detach().float().requires_grad_()
    rows = [nn.functional.pad(part, (0, 0, 0, 4 - len(part))) for part in hidden_MD.split(lengths.tolist())]
    features = {"token_embeddings": torch.stack(rows), "attention_mask": (torch.arange(4) < lengths[:, None]).long()}
    expected = Pooling(5, "mean")(features)["sentence_embedding"]
    found = mean_pool(hidden_MD, torch.tensor([0, 1, 5, 7]))
    torch.testing.assert_close(found, expected)
    weights = random(3, 5).detach().float()
    torch.testing.assert_close(
        with_gradients((found * weights).sum(), hidden_MD), with_gradients((expected * weights).sum(), hidden_MD)
    )
    u_BD, v_BD = (random(9, 5, seed=seed).detach().float().requires_grad_() for seed in (1, 2))
    found, expected = CosineHead(())((u_BD, v_BD), None), pairwise_cos_sim(u_BD, v_BD)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        with_gradients((found**2).sum(), u_BD, v_BD), with_gradients((expected**2).sum(), u_BD, v_BD)
    )
