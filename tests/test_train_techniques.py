"""Techniques in a run: surgery, sampling, averaged weights, low-rank changes, adapters, frozen layers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
from rich.console import Console
from safetensors.torch import load_file
from toy_steps import gradients, make, run_of, without_dropout

from mtbert import files
from mtbert.collate import collate
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import validate_recipe
from mtbert.seeds import torch_generator
from mtbert.storage.model_folder import load_model, save_model
from mtbert.training.assemble import assemble
from mtbert.training.start import start_run
from mtbert.yaml_files import merge

SILENT = Console(quiet=True)
folder = toy_run.folder


def test_surgery_equals_a_slow_one_on_gradients_taken_task_by_task(folder: Path):
    raw = merge(without_dropout(folder), {"train": {"aggregation": "pcgrad"}})
    run = run_of(raw, mode="joint")
    found = gradients(run)
    alone = {}
    for task in ("sst", "quora", "sts"):
        one = merge(raw, {"tasks": {o: None for o in ("sst", "quora", "sts") if o != task}})
        one["train"]["aggregation"] = "sum"
        alone[task] = gradients(run_of(one, mode="joint"))
    shared = [n for n, _ in run.model.named_parameters() if n.startswith("encoder.")]
    like = dict(run.model.named_parameters())
    flat = [torch.cat([g.get(n, torch.zeros_like(like[n])).flatten() for n in shared]) for g in alone.values()]
    generator = torch_generator("aggregation", 0, 0)
    expected = torch.zeros_like(flat[0])
    orders = [torch.randperm(3, generator=generator).tolist() for _ in range(3)]
    for i, order in enumerate(orders):
        g = flat[i].clone()
        for j in order:
            if j != i and g @ flat[j] < 0:
                g -= (g @ flat[j]) / (flat[j] @ flat[j]) * flat[j]
        expected += g
    found_flat = torch.cat([found.get(n, torch.zeros_like(like[n])).flatten() for n in shared])
    torch.testing.assert_close(found_flat, expected, rtol=1e-8, atol=1e-11)
    assert not torch.allclose(found_flat, sum(flat), rtol=1e-3)  # the gradients did conflict
    for task in alone:  # heads keep their own gradients
        name = f"heads.for_{task}.layers.0.weight"
        torch.testing.assert_close(found[name], alone[task][name], rtol=1e-9, atol=1e-12)


def test_conflicts_are_logged_and_change_nothing(folder: Path):
    raw = without_dropout(folder)
    plain, watched = run_of(raw, mode="joint"), run_of(raw, mode="joint", conflicts=True)
    expected, found = gradients(plain), gradients(watched)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
    negative = watched.conflicting
    for steps in range(2, 12):
        told = watched.step().diagnostics
        cosines = [told[f"cos({pair})"] for pair in ("sst, quora", "sst, sts", "quora, sts")]
        assert all(-1 <= c <= 1 for c in cosines)
        assert [told[f"weight({t})"] for t in ("sst", "quora", "sts")] == [1.0, 1.0, 1.0]
        negative += min(cosines) < 0
        assert told["conflicting"] == negative / steps
    assert 0 < negative < 11
    assert plain.step().diagnostics == {}


def test_sampled_tasks_come_with_their_probability_and_expected_passes(folder: Path):
    run = make(folder, mode="alternate", sampler="proportional", rounds=20)
    sizes = {n: len(d.train) for n, d in run.data.items()}
    told = run.step().diagnostics
    for name, size in sizes.items():
        assert told[f"p({name})"] == pytest.approx(size / sum(sizes.values()))
        drawn = 2 * 60 * told[f"p({name})"] * run.recipe.tasks[name].batch_size
        assert run.plan.passes[name] == pytest.approx(drawn / size)


def test_annealing_counts_epochs_from_one_to_the_last(folder: Path):
    run = make(folder, mode="alternate", sampler="annealed", rounds=2, epochs=3)
    sizes = [len(d.train) for d in run.data.values()]
    for power in (1.0, 0.6, 0.2):
        weights = [n**power for n in sizes]
        for _ in range(6):
            told = list(run.step().diagnostics.values())
            assert told == pytest.approx([w / sum(weights) for w in weights], rel=1e-12)


def test_averaged_weights_are_what_is_scored_and_saved(folder: Path):
    settings = load_recipe(str(folder / "toy.yaml"), ["train.ema={decay: 0.9}", "train.lr=0.01"])
    start_run(settings, folder / "run", SILENT)
    saved = load_file(folder / "run/last/model.safetensors")["embeddings.word_embeddings.weight"]
    state = load_file(folder / "run/last/training.safetensors")
    assert torch.equal(saved, state["average.encoder.word_embedding.weight"])
    assert not torch.equal(saved, state["model.encoder.word_embedding.weight"])
    started = load_file(folder / "encoder/model.safetensors")["embeddings.word_embeddings.weight"]
    assert not torch.equal(saved, started)
    run = make(folder, ema={"decay": 0.9})
    assert run.predictor is run.ema
    settings = load_recipe(
        str(folder / "toy.yaml"), ["train.ema={decay: 0.9, predicts: false}", "tasks.sst.losses=[ce, bregman]"]
    )
    made = assemble(settings)
    assert made.run().predictor is made.model


def test_low_rank_changes_are_saved_as_plain_weights_that_predict_the_same(folder: Path):
    raw = merge(toy_run.raw_recipe(folder, lr=0.05), {"model": {"lora": {"rank": 2}}})
    settings = validate_recipe(raw, "toy")
    made = assemble(settings)
    run = made.run()
    for _ in range(5):
        run.step()
    files.write_folder(folder / "saved", lambda to: save_model(run.predictor, made.tokenizer, to))
    again = load_model(folder / "saved").model
    batch = collate([(made.data["sst"].train, np.arange(4))], made.device)
    with torch.no_grad():
        expected, found = (m(batch)["sst"].prediction for m in (run.model, again))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(expected, assemble(settings).model(batch)["sst"].prediction, atol=1e-3)
    assert set(load_file(folder / "saved/model.safetensors")) == set(load_file(folder / "encoder/model.safetensors"))


def test_adapters_are_taken_over_by_another_run_only_with_the_same_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    pal = ["model.pal={kind: attention, width: 6, heads: 2, tasks: [sst, quora]}", "train.epochs=1"]
    start_run(load_recipe(str(folder / "toy.yaml"), pal), folder / "first", Console())
    # 2 * 16 * 6 + 6 + 16, and in each of two layers 3 * 6 * 6 + 3 * 6.
    assert "PAL: 466 parameters for each of 2 tasks" in " ".join(capsys.readouterr().out.split())
    again = [*pal, f"model.path={folder / 'first'}"]
    model = assemble(load_recipe(str(folder / "toy.yaml"), again)).model
    saved = load_file(folder / "first/best/adapters.safetensors")
    assert saved.keys() == model.adapters.state_dict().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.adapters.state_dict().items())
    for change in (["model.pal=null"], ["model.pal.width=8"]):
        with pytest.raises(
            ValueError, match=r"task sst: .*best was trained with model\.pal .*Set model\.pal as it was"
        ):
            assemble(load_recipe(str(folder / "toy.yaml"), [*again, *change]))


def test_a_loss_that_needs_dropout_is_refused_for_an_encoder_without_it(folder: Path):
    config = json.loads((folder / "encoder/config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "encoder/config.json").write_text(json.dumps(config))
    settings = load_recipe(str(folder / "toy.yaml"), ["tasks.sst.losses=[ce, simcse-unsup]"])
    with pytest.raises(ValueError, match=r"tasks\.sst: loss 'simcse-unsup' compares two passes .*none in its config"):
        start_run(settings, folder / "run", SILENT)
    assert not (folder / "run").exists()


def test_a_second_task_on_the_same_file_trains_vectors_and_is_not_scored(folder: Path):
    raw = toy_run.raw_recipe(folder, epochs=1)
    pairs = {"train": {"path": "quora.csv", "where": {"is_duplicate": 1}}, "inputs": "separate", "head": "linear"}
    raw["tasks"]["questions"] = raw["tasks"]["quora"] | pairs | {"labels": ["0", "1"], "losses": ["mnrl"]}
    settings = validate_recipe(raw, "toy")
    scores = start_run(settings, folder / "run", SILENT)
    assert list(scores) == ["sst", "quora", "sts"]
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert "questions.mnrl" in lines[0]["losses"]
    assert list(lines[-1]["evaluation"]) == ["sst", "quora", "sts"]
    from mtbert.use.evaluate import score_run

    assert list(score_run(folder / "run", "dev", None).scored) == ["sst", "quora", "sts"]


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"freeze": 2, "pooling": "mean"}, "tasks": {"sts": {"inputs": "separate", "head": "cosine"}}},
        {"model": {"freeze": "all"}, "tasks": {"quora": {"inputs": "separate", "losses": ["mnrl"]}}},
    ],
)
def test_a_task_with_nothing_left_to_train_is_refused(folder: Path, change: dict[str, Any]):
    settings = validate_recipe(merge(toy_run.raw_recipe(folder), change), "toy")
    with pytest.raises(
        ValueError, match=r"tasks\.(sts|quora): with model\.freeze: (2|all) there is nothing left to train"
    ):
        start_run(settings, folder / "run", SILENT)


def test_frozen_weights_stay_and_lower_layers_learn_more_slowly(folder: Path):
    raw = merge(toy_run.raw_recipe(folder), {"model": {"freeze": 1}, "train": {"layer_decay": 0.5}})
    settings = validate_recipe(raw, "toy")
    run = assemble(settings).run()
    before = {n: p.detach().clone() for n, p in run.model.named_parameters()}
    run.step()
    same = {n for n, p in run.model.named_parameters() if torch.equal(p, before[n])}
    assert {n for n in before if "embedding" in n or n.startswith("encoder.layers.0.")} <= same
    assert not any(n.startswith("encoder.layers.1.") and n.endswith("weight") for n in same)
    free = merge(toy_run.raw_recipe(folder), {"train": {"layer_decay": 0.5}})
    assert {g["factor"] for g in run_of(free).optimizer.param_groups} == {0.25, 0.5, 1.0}


def test_two_tasks_on_one_file_hold_out_the_same_rows(folder: Path):
    raw = toy_run.raw_recipe(folder)
    part = {"train": {"path": "quora.csv", "where": {"is_duplicate": 1}}, "labels": ["0", "1"]}
    raw["tasks"]["pairs"] = raw["tasks"]["quora"] | part
    data = assemble(validate_recipe(raw, "toy")).data
    held = {e.id for e in data["quora"].dev.examples}
    assert {e.id for e in data["pairs"].dev.examples} == {i for i in held if int(i[1:]) % 2}
    assert not held & {e.id for e in data["pairs"].train.examples}


def test_a_pass_can_be_repeated_with_its_own_dropout(folder: Path):
    run = make(folder)
    parts, _ = run._draw()
    made = run.objective._passes(collate(parts[:1], run.device))["sst"]
    assert made.repeats
    again = made.finish(made.out.embeddings_MD, made.twin())
    assert torch.equal(again.prediction, made.out.prediction)
    assert not torch.equal(made.finish(made.out.embeddings_MD, None).prediction, made.out.prediction)
