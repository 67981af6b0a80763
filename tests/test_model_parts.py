"""Decisions of a model: which tasks have adapters, when a pass is random, and what stays in float32."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
import torch

from mtbert.batch import StepBatch
from mtbert.collate import collate
from mtbert.model.model import mean_pool
from mtbert.model.settings import Pal
from mtbert.task import Head, Task
from mtbert.use.predictor import Predictor

DRY = Head(dropout=0.0)
ONE = Task(name="one", type="ordinal", inputs="single", labels=("a", "b", "c"), head=DRY)
TWO = Task(name="two", type="regression", inputs="separate", range=(0, 5), head=DRY)
QUIET = Pal(width=4, heads=2, dropout=0.0)


def test_only_the_named_tasks_have_adapters():
    assert set(tiny.model(ONE, TWO, adapters=QUIET).adapters) == {"for_one", "for_two"}
    made = tiny.model(ONE, TWO, adapters=QUIET.model_copy(update={"tasks": ("two",)}))
    assert set(made.adapters) == {"for_two"}


LOUD = {"dropout": 0.1}


@pytest.mark.parametrize(
    ("task", "encoder", "adapters", "random"),
    [
        (DRY, {}, None, False),
        (Head(dropout=0.1), {}, None, True),
        (Head(kind="cosine", dropout=0.1), {}, None, False),
        (DRY, {"hidden_dropout": 0.1}, None, True),
        (DRY, {"attention_dropout": 0.1}, None, True),
        (DRY, {}, QUIET, False),
        (DRY, {}, QUIET.model_copy(update=LOUD), True),
        (DRY, {}, QUIET.model_copy(update=LOUD | {"tasks": ("two",)}), False),
        (DRY, {}, Pal(kind="low_rank", dropout=0.1), False),
    ],
)
def test_a_pass_is_random_if_there_is_any_dropout_after_its_embeddings(
    task: Head, encoder: dict[str, float], adapters: Pal | None, random: bool
):
    one = TWO.model_copy(update={"name": "one"}) if task.kind == "cosine" else ONE
    made = tiny.model(one.model_copy(update={"head": task}), TWO, adapters=adapters, shape=encoder)
    assert made.random("one") is random
    texts = 2 if made.tasks["one"].inputs == "separate" else 1
    data = tiny.dataset(made.tasks["one"], *[[3, 5]] * texts, labels=[0.0, 1.0])
    batch = collate([(data, np.arange(2))], tiny.CPU)
    x_ND = made.embed(batch, None)
    one, other = (made.finish(batch, x_ND, torch.Generator().manual_seed(s))["one"].prediction for s in (0, 1))
    assert torch.equal(one, other) is not random


def test_a_mean_of_bfloat16_states_is_summed_in_float32():
    # In bfloat16, with its 8 bits, a sum of ones stops at 256.
    hidden_ND = torch.cat([torch.ones(700, 2), torch.full((1, 2), 3.0)]).bfloat16()
    mean = mean_pool(hidden_ND, torch.tensor([0, 701]))
    assert mean.dtype == torch.float32
    assert mean.tolist() == [pytest.approx([703 / 701] * 2, rel=1e-6)]


def test_predictions_are_float32_where_products_are_bfloat16():
    made = tiny.model(ONE, TWO)
    made.compute = torch.bfloat16
    data = [tiny.dataset(ONE, [3, 5], labels=[0.0, 1.0]), tiny.dataset(TWO, [3, 5], [4, 2], labels=[0.0, 1.0])]
    outputs = made(collate([(d, np.arange(2)) for d in data], tiny.CPU))
    assert {out.prediction.dtype for out in outputs.values()} == {torch.float32}


def test_vectors_of_separate_pairs_lie_example_by_example():
    made = tiny.model(TWO)
    data = tiny.dataset(TWO, [3, 5], [4, 2], labels=[0.0, 1.0])
    found_B2D = Predictor(made, tokenizer=None).vectors_of(data)
    with torch.no_grad():
        u_BD, v_BD = made(collate([(data, np.arange(2))], tiny.CPU))["two"].vectors
    assert found_B2D.shape == (2, 2, tiny.WIDTH)
    np.testing.assert_allclose(found_B2D[:, 0], u_BD, rtol=1e-5)
    np.testing.assert_allclose(found_B2D[:, 1], v_BD, rtol=1e-5)


def test_eight_threads_may_run_one_model_and_each_gets_the_answers_of_a_single_one():
    made = tiny.model(ONE, TWO, layers=3, adapters=QUIET, dropout=0.1)
    rng = np.random.default_rng(0)
    batches = []
    for seed in range(8):  # of other tasks, lengths and numbers of rows each
        sizes = [sorted(rng.integers(2, 40, seed + 2).tolist()) for _ in range(3)]
        one, two = tiny.dataset(ONE, sizes[0], seed=seed), tiny.dataset(TWO, *sizes[1:], seed=seed)
        rows = np.arange(seed + 2)
        batches.append(collate([(one, rows), (two, rows)] if seed % 2 else [(two, rows)], tiny.CPU))

    def answers(batch: StepBatch) -> list[torch.Tensor]:
        with torch.no_grad():
            outs = made(batch, torch.Generator().manual_seed(0))
        return [tensor for out in outs.values() for tensor in (out.prediction, *out.vectors, out.first_SD)]

    before = dict(vars(made)), dict(vars(made.encoder))
    serial = [answers(batch) for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            for found, expected in zip(threads.map(answers, batches), serial, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert (vars(made), vars(made.encoder)) == before
