"""Heads and pooling against literals; the sources of their weights and of their randomness.

Dimension key: B examples, D width, S sequences, N tokens.
"""

import re

import numpy as np
import pytest
import torch
from tiny import CPU, WIDTH, dataset, model
from torch import nn

from mtbert.collate import collate
from mtbert.model.heads import CosineHead, LinearHead, build_head, pair_features
from mtbert.model.model import mean_pool
from mtbert.task import Task

U, V = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 1.0]])


def task(name: str = "t", type_: str = "binary", inputs: str = "separate", **more: object) -> Task:
    return Task.model_validate({"name": name, "type": type_, "inputs": inputs, **more})


def fill(head: nn.Module, *values: list[list[float]] | list[float]) -> LinearHead:
    assert isinstance(head, LinearHead)
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    return head


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("concat", [1, -2, 3, 1]),
        ("concat_diff", [1, -2, 3, 1, 2, 3]),
        ("concat_diff_product", [1, -2, 3, 1, 2, 3, 3, -2]),
    ],
)
def test_pair_features(kind, expected):
    assert pair_features((U, V), kind).tolist() == [expected]
    head = build_head(task(head={"features": kind}), width=2, seed=0)
    assert head((U, V), None).shape == (1,)


def test_a_single_vector_is_its_own_feature():
    assert pair_features((U,), None) is U


def test_a_linear_head_is_weight_and_bias():
    head = fill(
        build_head(task(type_="ordinal", inputs="single", labels=("a", "b", "c")), 2, 0),
        [[1, 0], [0, 1], [2, 2]],
        [0, 5, 0],
    )
    assert head((U,), None).tolist() == [[1, 3, -2]]
    one = fill(build_head(task(inputs="packed"), 2, 0), [[1, 1]], [0.5])
    assert one((U,), None).tolist() == [-0.5]


def test_an_mlp_has_a_relu_between_its_layers():
    head = fill(build_head(task(inputs="single", head="mlp"), 2, 0), [[1, 0], [0, 1]], [0, 0], [[10, 100]], [0.5])
    assert head((U,), None).tolist() == [10.5]  # the ReLU removes the -2
    wide = build_head(task(inputs="single", head={"kind": "mlp", "hidden": 7}), 2, 0)
    assert [tuple(p.shape) for p in wide.parameters()] == [(7, 2), (7,), (1, 7), (1,)]


def test_a_cosine_is_not_clamped_and_does_not_divide_by_zero():
    head = build_head(task(head="cosine"), 2, 0)
    u_BD = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    v_BD = torch.tensor([[-2.0, 0.0], [0.0, 5.0], [4.0, 3.0], [1.0, 0.0]])
    torch.testing.assert_close(head((u_BD, v_BD), None), torch.tensor([-1.0, 0.0, 0.96, 0.0]))
    assert head((u_BD.bfloat16(), v_BD.bfloat16()), None).dtype == torch.float32


@pytest.mark.parametrize(
    ("type_", "labels", "number"), [("binary", ("a", "b"), 1), ("regression", None, 1), ("ordinal", ("a", "b"), 2)]
)
def test_a_head_gives_one_number_for_binary_and_scores_and_else_one_per_class(type_, labels, number):
    made = build_head(task(type_=type_, labels=labels), 2, 0)
    assert made.layers[-1].out_features == number


def test_a_head_needs_its_classes():
    with pytest.raises(
        ValueError, match=re.escape("task mine: the labels are not known yet. Read the train file first.")
    ):
        build_head(task("mine", "classification"), 2, 0)


def test_weights_depend_on_seed_and_name_alone_and_leave_the_global_state():
    before = torch.get_rng_state()

    def first(name: str, seed: int) -> torch.Tensor:
        return next(build_head(task(name), WIDTH, seed).parameters())

    assert torch.equal(first("a", 0), first("a", 0))
    assert not torch.equal(first("a", 0), first("a", 1))
    assert not torch.equal(first("a", 0), first("b", 0))
    alone, beside = model(task("a")).head("a"), model(task("b"), task("a")).head("a")
    assert torch.equal(next(alone.parameters()), next(beside.parameters()))
    torch.manual_seed(1)
    assert torch.equal(first("a", 0), next(build_head(task("a"), WIDTH, 0).parameters()))
    torch.set_rng_state(before)
    build_head(task("a", head="mlp"), WIDTH, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_are_initialized_like_berts_and_scores_start_in_the_middle():
    layer = build_head(task(type_="regression", head={"kind": "mlp", "hidden": 400}), 100, 0)
    weight, bias, last, middle = layer.parameters()
    assert weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert last.mean().item() == pytest.approx(0.0, abs=0.003)
    assert (bias.unique().tolist(), middle.tolist()) == ([0.0], [0.5])


def test_dropout_needs_a_generator_and_repeats_with_it():
    head = build_head(task(head={"kind": "mlp", "dropout": 0.5}), WIDTH, 0)
    vectors = (torch.ones(64, WIDTH), torch.ones(64, WIDTH))
    assert head(vectors, None).unique().numel() == 1

    def drawn() -> torch.Tensor:
        return head(vectors, torch.Generator().manual_seed(3))

    assert drawn().unique().numel() > 32
    assert torch.equal(drawn(), drawn())


def test_a_task_may_be_called_like_a_method_of_a_module_dict():
    tasks = [task(name, inputs="single") for name in ("type", "keys", "pop", "forward")]
    made = model(*tasks)
    batch = collate([(dataset(t, [2]), np.arange(1)) for t in tasks], CPU)
    assert list(made(batch)) == ["type", "keys", "pop", "forward"]
    assert made.head("keys") is made.heads["for_keys"]


def test_a_mean_counts_its_own_tokens_only():
    hidden_ND = torch.tensor([[1.0, 9.0], [3.0, 9.0], [100.0, -1.0], [0.0, 2.0], [1.0, 2.0], [5.0, 2.0]])
    found = mean_pool(hidden_ND, torch.tensor([0, 2, 3, 6]))
    assert found.tolist() == [[2.0, 9.0], [100.0, -1.0], [2.0, 2.0]]
    assert mean_pool(hidden_ND.bfloat16(), torch.tensor([0, 6])).dtype == torch.float32


@pytest.mark.parametrize("pooler", [True, False])
def test_cls_pooling_takes_the_first_token_through_the_pooler_where_there_is_one(pooler):
    a, b = task("a", inputs="single"), task("b", inputs="single", pooling="mean")
    made = model(a, b, pooler=pooler)
    batch = collate([(dataset(a, [3, 2]), np.arange(2)), (dataset(b, [4, 1], seed=1), np.arange(2))], CPU)
    seen = []
    encode = made.encoder.encode
    made.encoder.encode = lambda *args, first_only: (  # type: ignore[method-assign]
        seen.append(encode(*args, first_only=first_only)) or seen[-1]
    )
    outputs = made(batch)
    hidden_ND = seen[0]  # sorted by length: a's 2 and 3 tokens, b's 1 and 4
    cls_SD = hidden_ND[[2, 0]]
    expected = torch.tanh(made.encoder.pooler(cls_SD)) if pooler else cls_SD
    torch.testing.assert_close(outputs["a"].vectors[0], expected)
    torch.testing.assert_close(outputs["b"].vectors[0], torch.stack([hidden_ND[6:10].mean(0), hidden_ND[5]]))
    torch.testing.assert_close(outputs["a"].first_SD, cls_SD)
    torch.testing.assert_close(outputs["b"].first_SD, hidden_ND[[6, 5]])
    alone = made(collate([(dataset(a, [3, 2]), np.arange(2))], CPU))["a"]
    assert [len(x) for x in seen] == [10, 2]  # a's first tokens alone where nobody needs more
    torch.testing.assert_close(alone.vectors[0], expected)
    torch.testing.assert_close(alone.first_SD, hidden_ND[[2, 0]])


def test_the_mean_of_sequences_of_one_token_is_that_token():
    # A tokenizer without special tokens gives such sequences; there are as many tokens as sequences.
    a = task("a", inputs="single", pooling="mean")
    made = model(a)
    out = made(collate([(dataset(a, [1, 1, 1]), np.arange(3))], CPU))["a"]
    assert out.vectors[0].shape == (3, WIDTH)
    torch.testing.assert_close(out.vectors[0], out.first_SD)


def test_pooling_is_the_tasks_own_else_the_mean_for_a_cosine_else_the_models():
    made = model(pooling="cls")
    assert made.pooling_of(task()) == "cls"
    assert made.pooling_of(task(pooling="mean")) == "mean"
    assert made.pooling_of(task(head="cosine")) == "mean"
    assert model(pooling="mean").pooling_of(task(pooling="cls")) == "cls"


def test_the_threshold_of_a_cosine_is_saved():
    head = build_head(task(head="cosine"), 2, 0)
    assert isinstance(head, CosineHead)
    assert head.state_dict() == {"threshold": torch.tensor(0.5)}
