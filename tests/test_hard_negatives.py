"""Rankings in the losses that compare rows: wrong candidates are hard negatives, and no text is its own negative.

Dimension key: B rows, C candidates of a row, T texts of a row, D width.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import toy_search
from one_step import backward
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from tiny import CPU, WIDTH, dataset, model
from torch import Tensor, nn
from toy_sentences import cosine, large, passed, random, slow_ranking, with_gradients

from mtbert.batch import StepBatch
from mtbert.collate import collate
from mtbert.losses.ranking import MultipleNegatives, ranking
from mtbert.losses.simcse import SimCSE, UnsupervisedSimCSE
from mtbert.recipe.settings import validate_recipe
from mtbert.task import Task
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.yaml_files import merge

folder = toy_run.folder

SEARCH = Task.model_validate({"name": "search", "type": "ranking", "inputs": "separate", "head": "cosine"})
APART = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
# The second row has the query of the first. The third has the first's right candidate as a wrong one, and the second's
# query as another; its own right candidate is also its last wrong one.
SHARED = [[0, 1, 2, 3], [0, 5, 6, 7], [8, 9, 1, 9], [4, 0, 9, 3]]


def slow(q_BD: Tensor, c_BCD: Tensor, clusters: Sequence[Sequence[int]], scale: float) -> Tensor:
    """Returns the loss by its formula, one cosine at a time."""
    terms = []
    for i, q_D in enumerate(q_BD):
        total = [(scale * cosine(q_D, c_BCD[i, 0])).exp()]
        for j, row in enumerate(clusters):
            for k, text in enumerate(row[1:]):
                right_of_query = k == 0 and row[0] == clusters[i][0]
                if text not in clusters[i][:2] and not right_of_query:
                    total.append((scale * cosine(q_D, c_BCD[j, k])).exp())
        terms.append(-(total[0] / torch.stack(total).sum()).log())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("scale", [0.5, 20.0])
@pytest.mark.parametrize("clusters", [APART, SHARED])
def test_the_loss_of_rankings_equals_its_formula_and_so_does_its_gradient(clusters, scale):
    q_BD, c_BCD = random(len(clusters), 5), random(len(clusters), 3, 5, seed=1)
    found = ranking(q_BD, c_BCD, torch.tensor(clusters), scale, False)
    expected = slow(q_BD, c_BCD, clusters, scale)
    torch.testing.assert_close(with_gradients(found, q_BD, c_BCD), with_gradients(expected, q_BD, c_BCD))


@pytest.mark.parametrize("wrong", [1, 2])
@pytest.mark.parametrize("symmetric", [False, True])
def test_it_equals_that_of_sentence_transformers(symmetric, wrong):
    q_BD, c_BCD = random(9, 6), random(9, 1 + wrong, 6, seed=1)
    more = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"} if symmetric else {}
    oracle = MultipleNegativesRankingLoss(nn.Identity(), **more)  # type: ignore[arg-type]
    parts = [{"sentence_embedding": x_BD} for x_BD in (q_BD, *c_BCD.unbind(1))]
    expected = oracle(parts, torch.zeros(9))
    apart = torch.arange(9 * (2 + wrong)).reshape(9, -1)
    found = ranking(q_BD, c_BCD, apart, 20.0, symmetric)
    torch.testing.assert_close(with_gradients(found, q_BD, c_BCD), with_gradients(expected, q_BD, c_BCD))


def test_a_wrong_candidate_is_a_negative_of_every_row_and_counts_once():
    query_BD = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    c_BCD = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    # exp(scale * cosine) is 2 for the same direction, 1 for a right angle and 1/2 for the opposite one.
    found = ranking(query_BD, c_BCD, torch.tensor([[0, 1, 2], [3, 4, 5]]), math.log(2), False)
    first, second = -math.log(2 / (2 + 1 + 0.5 + 1)), -math.log(2 / (1 + 2 + 1 + 2))
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("clusters", "left"),
    [
        ([[0, 1, 1], [3, 4, 5]], "own wrong candidate that is the right one"),
        ([[0, 1, 0], [3, 4, 5]], "own wrong candidate that is the query"),
    ],
)
def test_no_text_is_its_own_negative(clusters, left):
    q_BD, c_BCD = random(2, 4), random(2, 2, 4, seed=1)
    scale, of_first = 3.0, [(0, 0), (1, 0), (1, 1)]
    terms = [(scale * cosine(q_BD[0], c_BCD[j, k])).exp() for j, k in of_first]
    second = [(scale * cosine(q_BD[1], c_BCD[j, k])).exp() for j, k in ((1, 0), (0, 0), (0, 1), (1, 1))]
    expected = -((terms[0] / sum(terms)).log() + (second[0] / sum(second)).log()) / 2
    assert ranking(q_BD, c_BCD, torch.tensor(clusters), scale, False).item() == pytest.approx(expected.item()), left


def test_one_row_alone_has_its_own_hard_negatives():
    q_BD, c_BCD = random(1, 4), random(1, 3, 4, seed=1)
    expected = slow(q_BD, c_BCD, [[0, 1, 2, 3]], 5.0)
    found = ranking(q_BD, c_BCD, torch.tensor([[0, 1, 2, 3]]), 5.0, False)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert found.item() > 0


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_row_whose_wrong_candidate_is_no_negative_has_no_loss_and_a_finite_gradient(symmetric):
    q_BD, c_BCD = random(1, 4), random(1, 2, 4, seed=1)
    found = ranking(q_BD, c_BCD, torch.tensor([[0, 1, 1]]), 20.0, symmetric)
    value, *gradients = with_gradients(found, q_BD, c_BCD)
    assert value.item() == 0.0
    assert all(g.abs().max() == 0.0 for g in gradients)


# In a pass ------------------------------------------------------------------------------------------


def batch_of(clusters: Sequence[Sequence[int]], lengths: Sequence[int] = (4, 2, 7, 3)) -> StepBatch:
    texts = len(clusters[0])
    labels = [(1.0, *[0.0] * (texts - 2))] * len(clusters)
    of_texts = [[n + t for n in lengths[: len(clusters)]] for t in range(texts)]
    batch = collate([(dataset(SEARCH, *of_texts, labels=labels), np.arange(len(clusters)))], CPU)
    return replace(batch, clusters={"search": torch.tensor(clusters)})


@pytest.mark.parametrize(("loss", "scale"), [(MultipleNegatives(scale=7.0), 7.0), (SimCSE(temperature=0.25), 4.0)])
def test_mnrl_and_simcse_read_the_vectors_of_all_texts_of_a_row(loss, scale):
    p = passed(model(SEARCH), batch_of(SHARED), "search")
    q_BD, *c_BD = p.out.vectors
    assert len(c_BD) == 3
    torch.testing.assert_close(loss(p), slow(q_BD, torch.stack(c_BD, 1), SHARED, scale))


def test_the_prediction_has_the_cosine_of_the_query_and_each_candidate():
    out = passed(model(SEARCH), batch_of(APART), "search").out
    q_BD, *c_BD = out.vectors
    expected = torch.stack([torch.stack([cosine(q_D, c[i]) for c in c_BD]) for i, q_D in enumerate(q_BD)])
    torch.testing.assert_close(out.prediction, expected)


def test_the_vectors_are_those_of_each_text_encoded_alone():
    made = model(SEARCH)
    whole = passed(made, batch_of(APART), "search").out.vectors
    data = dataset(SEARCH, *[[n + t for n in (4, 2, 7)] for t in range(4)], labels=[(1.0, 0.0, 0.0)] * 3)
    for row in range(3):
        alone = made(collate([(data, np.array([row]))], CPU))["search"].vectors
        torch.testing.assert_close([v_BD[row] for v_BD in whole], [v_1D[0] for v_1D in alone])


def test_unsupervised_simcse_reads_every_text_of_a_ranking():
    own = large(UnsupervisedSimCSE().build(WIDTH, torch.Generator()))
    p = passed(model(SEARCH), batch_of(SHARED), "search")
    first_SD = own(p.out.first_SD)
    numbers = [row[k] for k in range(4) for row in SHARED]
    # Without dropout, both passes give the same vectors.
    expected = slow_ranking(first_SD, first_SD, numbers, 20.0)
    torch.testing.assert_close(UnsupervisedSimCSE().with_own(own)(p), expected, rtol=1e-4, atol=1e-4)


# In a step ------------------------------------------------------------------------------------------


def run_of(folder: Path, change: dict[str, Any]) -> Run:
    """Returns a run of rankings in float64 without dropout."""
    raw = toy_search.raw_recipe(folder, losses=["mnrl", {"kind": "simcse", "weight": 0.5}])
    raw["train"]["clip"] = None
    raw["model"]["dropout"] = 0.0
    made = assemble(validate_recipe(merge(raw, change), "toy"))
    made.model.double()
    return made.run()


@pytest.mark.parametrize("budget", [100, 1])
def test_a_token_budget_changes_neither_losses_nor_gradients(folder: Path, budget: int):
    found = []
    for change in ({}, {"train": {"token_budget": budget}}):
        run = run_of(folder, change)
        parts, _ = run._draw()
        tally = backward(run.objective, parts)
        weights = run.model.encoder.named_parameters()
        found.append((tally.losses, {n: p.grad.to_dense().clone() for n, p in weights if p.grad is not None}))
    (losses, whole), (in_parts, parts_) = found
    assert in_parts == pytest.approx(losses, rel=1e-6)
    assert parts_.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts_[name], gradient, rtol=1e-5, atol=1e-8, msg=name)
    assert max(float(g.abs().max()) for g in whole.values()) > 1e-3


def test_clusters_of_a_ranking_are_equal_texts_and_no_chains(folder: Path):
    rows = [("q one", "dog", "cat"), ("q two", "dog", "film"), ("q two", "cat", "plot")] * 10
    raw = toy_search.raw_recipe(folder, columns={"text": ["query", "right", "wrong"]})
    toy_search.write(folder / "data/search.csv", rows)
    data = assemble(validate_recipe(raw, "toy")).data["search"].train
    assert data.clusters is not None
    assert data.clusters[:3].tolist() == [[0, 1, 2], [3, 1, 4], [3, 2, 5]]
