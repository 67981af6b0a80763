"""Techniques with a pre-norm ModernBERT, and whole numbers of 8 bits in graphs and server for the newer families."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_exports
import toy_run
from one_step import backward, by_task
from tiny import CPU, ragged
from torch import Tensor
from torch.testing import assert_close

from mtbert import scoring
from mtbert.model.attention import Groups
from mtbert.model.lora import merged
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.use.export.onnx import folder_answers
from mtbert.use.serve.engines import ROUNDED_DIFFERENCE, difference, engine_named
from mtbert.yaml_files import merge

STILL = {"model": {"dropout": 0.0}, "tasks": {t: {"head": {"dropout": 0.0}} for t in ("sst", "quora", "sts")}}
CONTRASTIVE = {
    "tasks": {"quora": {"inputs": "separate", "head": {"kind": "linear", "dropout": 0.0}, "losses": ["bce", "mnrl"]}}
}
Raw = dict[str, Any]


@pytest.fixture(scope="module")
def modernbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modernbert")
    toy_run.encoder_folder(folder / "encoder", model_type="modernbert", local_attention=4)
    toy_run.data_folder(folder / "data")
    return folder


def run_of(folder: Path, *changes: Raw) -> Run:
    raw = toy_run.raw_recipe(folder, mode="joint")
    for change in (STILL, *changes):
        raw = merge(raw, change)
    return assemble(validate_recipe(raw, "toy")).run()


def rows(run: Run) -> list[Any]:
    return [(data.train, np.arange(6)) for data in run.data.values()]


def gradients(run: Run, parts: Any) -> dict[str, Tensor]:
    backward(run.objective, parts)
    return {name: p.grad.to_dense() for name, p in run.model.named_parameters() if p.grad is not None}


def test_losses_of_a_whole_batch_have_the_same_gradient_in_several_passes(modernbert: Path):
    runs = [run_of(modernbert, CONTRASTIVE, {"train": {"token_budget": tokens}}) for tokens in (None, 30)]
    whole, parts = (gradients(run, rows(run)) for run in runs)
    assert whole.keys() == parts.keys()
    assert len(whole) == 20
    for name in whole:
        assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6, msg=partial("{}: {}".format, name))


def test_gradients_of_each_task_for_surgery_are_those_of_the_task_alone(modernbert: Path):
    run = run_of(modernbert, {"train": {"aggregation": "pcgrad"}})
    found = by_task(run, rows(run))
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    for task, part, of_task in zip(run.data, rows(run), found, strict=True):
        alone = gradients(run_of(modernbert), [part])
        for parameter, gradient in zip(run.shared, of_task, strict=True):
            expected = alone.get(names[parameter])
            if expected is not None:
                assert gradient is not None
                assert_close(gradient.to_dense(), expected, rtol=1e-4, atol=1e-6, msg=partial("{}: {}".format, task))


def test_averaged_weights_follow_every_weight(modernbert: Path):
    run = run_of(modernbert, {"train": {"ema": {"decay": 0.9}}})
    expected = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for step in range(3):
        run.step()
        decay = (1 + step) / (10 + step)  # below 0.9 in the first steps
        expected = {n: decay * expected[n] + (1 - decay) * p.detach() for n, p in run.model.named_parameters()}
    found = dict(run.predictor.named_parameters())
    assert found.keys() == expected.keys()
    for name in expected:
        assert_close(found[name].detach(), expected[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(found["encoder.final_norm.weight"], run.model.encoder.final_norm.weight)


def test_lora_trains_its_changes_alone_and_is_merged_into_equal_weights(modernbert: Path):
    run = run_of(modernbert, {"model": {"lora": {"rank": 2}}, "train": {"lr": 0.05}})
    before = copy.deepcopy(run.model.encoder)
    for _ in range(2):
        run.step()
    trained = {n for n, p in run.model.encoder.named_parameters() if not torch.equal(p, before.get_parameter(n))}
    assert {name.rsplit(".", 1)[1] for name in trained} == {"a", "b"}
    assert {name.split(".")[2] for name in trained} == {"qkv", "attention_output", "intermediate", "output"}
    plain, ids_N = merged(run.model.encoder), torch.arange(5, 12)
    assert not any("parametrizations" in name for name, _ in plain.named_parameters())
    ours, theirs, first = (states(encoder, ids_N) for encoder in (run.model.encoder, plain, before))
    assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first, ours, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def states(encoder: Any, ids_N: Tensor) -> Tensor:
    groups = Groups(ragged({"t": [len(ids_N)]}).layout, CPU)
    return encoder.encode(encoder.embed(ids_N, torch.zeros_like(ids_N), groups.positions_N, None), groups, None)


@pytest.mark.parametrize("kind", ["mpnet", "modernbert", "deberta-v2"])
def test_rounded_graphs_and_both_engines_of_the_server_answer_nearly_as_mtbert_does(kind: str, tmp_path: Path):
    made = toy_exports.predictor(kind, ["hot", "entities"])
    toy_exports.export_onnx(made, tmp_path, "together", "int8")
    data = made.read("hot", toy_exports.TEXTS)
    found, expected = folder_answers(tmp_path, data)["prediction"], scoring.predict_examples(made.model, data)
    assert 0 < float((found - expected).abs().max()) < 0.03 * float(expected.abs().max())
    assert difference(made, engine_named("onnx", made.model, "fp32")) < 1e-4
    assert 0 < difference(made, engine_named("onnx-int8", made.model, "fp32")) <= ROUNDED_DIFFERENCE
