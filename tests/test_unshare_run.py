"""Runs whose tasks have their own top layers: files, resuming, going on, and refusals."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
import transformers
from foreign import one_line
from rich.console import Console
from safetensors.torch import load_file, save_file
from toy_steps import gradients, run_of, without_dropout

from mtbert import load
from mtbert.recipe.settings import validate_recipe
from mtbert.seeds import torch_generator
from mtbert.storage.model_folder import load_model
from mtbert.training.assemble import Assembled, assemble
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run
from mtbert.yaml_files import merge

SILENT = Console(quiet=True)
folder = toy_run.folder
shared = toy_run.shared_folder

TASKS = ("sst", "quora", "sts")
SHORT = {"train": {"rounds": 4, "epochs": 1}}


def made_of(folder: Path, change: dict[str, Any]) -> Assembled:
    raw = merge(merge(toy_run.raw_recipe(folder), SHORT), {"model": {"unshare": 1}})
    return assemble(validate_recipe(merge(raw, change), "r"))


def trained(folder: Path, out: str, change: dict[str, Any]) -> Path:
    raw = merge(merge(toy_run.raw_recipe(folder), SHORT), {"model": {"unshare": 1}})
    start_run(validate_recipe(merge(raw, change), "r"), folder / out, SILENT)
    return folder / out


EMA = {"train": {"ema": {"decay": 0.5}, "layer_decay": 0.7, "evaluate_every": 2, "checkpoint_every": 1}}


@pytest.mark.parametrize(
    "change",
    [{}, EMA, {"model": {"unshare": 2}, "train": {"aggregation": "pcgrad", "mode": "joint"}}],
    ids=["plain", "average", "surgery"],
)
def test_a_stopped_run_resumes_bitwise(folder: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    whole = trained(folder, "whole", change)
    real = Run.step

    def step(self: Run) -> Any:
        if self.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr(Run, "step", real)
        return real(self)

    monkeypatch.setattr(Run, "step", step)
    with pytest.raises(Stopped):
        trained(folder, "stopped", change)
    resume_run(folder / "stopped", SILENT)
    names = {f.relative_to(whole) for part in ("best", "last") for f in (whole / part).iterdir()}
    assert Path("last/tops.safetensors") in names
    for name in {*names, Path("metrics.jsonl")}:
        assert (whole / name).read_bytes() == (folder / "stopped" / name).read_bytes(), name


def test_a_model_folder_is_a_plain_encoder_beside_the_copies_which_differ_after_training(folder: Path):
    best = trained(folder, "run", {}) / "best"
    theirs = transformers.AutoModel.from_pretrained(best).state_dict()
    before, after = (load_file(f / "model.safetensors") for f in (folder / "encoder", best))
    assert after.keys() == before.keys() == set(theirs)
    kept = {name for name in after if torch.equal(after[name], before[name])}
    assert kept >= {name for name in after if name.startswith(("encoder.layer.1.", "pooler."))}
    assert not {name for name in kept if name.endswith("weight") and "layer.0." in name}
    copies = load_file(best / "tops.safetensors")
    names = {name.split(".", 1)[1] for name in copies}
    assert len(copies) == 3 * len(names)
    for name in ("layers.0.qkv.weight", "pooler.weight"):
        assert len({copies[f"for_{task}.{name}"].sum().item() for task in TASKS}) == 3
    assert json.loads((best / "mtbert.json").read_text())["unshare"] == 1


def test_a_loaded_model_answers_as_the_trained_one_and_averages_are_saved(folder: Path):
    out = trained(folder, "run", {"train": {"ema": {"decay": 0.5}}})
    averaged, state = (load_file(out / "last" / f"{name}.safetensors") for name in ("tops", "training"))
    for key in ("for_sst.layers.0.qkv.weight", "for_sts.pooler.weight"):
        assert torch.equal(averaged[key], state[f"average.tops.{key}"])
        assert not torch.equal(averaged[key], state[f"model.tops.{key}"])
    predictor = load(out)
    for name, value in load_file(out / "best/tops.safetensors").items():
        assert torch.equal(predictor.model.tops.state_dict()[name], value)
    (both,) = predictor.predict(["quora", "sts"], [("the dog", "a dog")])
    (alone,) = predictor.predict("sts", [("the dog", "a dog")])
    assert both["sts"]["score"] == pytest.approx(alone["score"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.pop("for_sts.pooler.bias"),
            "top layers of task sts must have layers.0.qkv.weight [48",
        ),
        (lambda t: t.update({"for_sts.pooler.bias": torch.ones(7)}), "found layers.0"),
        (lambda t: t.update({"for_sst.pooler.bias": torch.full((16,), torch.nan)}), "for_sst.pooler.bias has numbers"),
        (lambda t: t.update({"for_other.x": torch.ones(1)}), "mtbert.json: no task reads the saved for_other.x"),
    ],
)
def test_saved_copies_are_checked(shared: Path, tmp_path: Path, change: Any, said: str):
    toy_run.set_up(tmp_path)
    out = trained(tmp_path, "run", {"train": {"rounds": 1}})
    tensors = load_file(out / "best/tops.safetensors")
    change(tensors)
    save_file(tensors, out / "best/tops.safetensors")
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        load_model(out)
    one_line(caught.value, said)


def test_a_card_that_does_not_fit_the_copies_is_refused(folder: Path):
    out = trained(folder, "run", {"train": {"rounds": 1}})
    card = json.loads((out / "best/mtbert.json").read_text())
    for unshare, said in (
        (3, "mtbert.json: unshare must be at most 2 for this encoder, found 3. Train or copy the run again."),
        (2, "tops.safetensors: the copy of the top layers of task sst must have "),
        (0, "mtbert.json: no task reads the saved for_"),
        (-1, "mtbert.json: damaged: unshare: "),
    ):
        (out / "best/mtbert.json").write_text(json.dumps(card | {"unshare": unshare}))
        with pytest.raises(ValueError, match=re.escape(said)) as caught:
            load_model(out)
        one_line(caught.value, said)
    (out / "best/mtbert.json").write_text(json.dumps(card))
    (out / "best/tops.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"tops\.safetensors: not there\."):
        load_model(out)


def test_copies_go_on_in_another_run_or_start_from_shared_layers_but_never_end(folder: Path):
    own = trained(folder, "own", {})
    copies = load_file(own / "best/tops.safetensors")
    again = made_of(folder, {"model": {"path": str(own)}, "tasks": {"sts": None}}).model.tops.state_dict()
    assert again.keys() == {name for name in copies if not name.startswith("for_sts.")}
    assert all(torch.equal(copies[name], value) for name, value in again.items())
    for unshare in (0, 2):
        said = rf"task sst: .* was trained with model\.unshare 1, found {unshare}\. Set model\.unshare as it was"
        with pytest.raises(ValueError, match=said):
            made_of(folder, {"model": {"path": str(own), "unshare": unshare}})

    together = trained(folder, "together", {"model": {"unshare": 0}})
    assert not (together / "best/tops.safetensors").exists()
    model = made_of(folder, {"model": {"path": str(together)}}).model
    for task in TASKS:
        top = model.tops[f"for_{task}"].layers[0].state_dict()
        assert all(torch.equal(model.encoder.layers[1].state_dict()[name], value) for name, value in top.items())
    heads = load_file(together / "best/heads.safetensors")
    assert all(torch.equal(heads[name], value) for name, value in model.heads.state_dict().items())


def test_surgery_leaves_copies_alone_and_equals_a_slow_one_over_the_shared_layers(folder: Path):
    raw = merge(without_dropout(folder), {"model": {"unshare": 1}})
    found = gradients(run_of(merge(raw, {"train": {"aggregation": "pcgrad"}}), mode="joint"))
    alone = {}
    for task in TASKS:
        weights = {other: {"weight": 1.0 if other == task else 0.0} for other in TASKS}
        alone[task] = gradients(run_of(merge(raw, {"tasks": weights}), mode="joint"))
    lower = [n for n in found if n.startswith("encoder.")]
    assert lower
    assert not [n for n in lower if n.startswith(("encoder.layers.1", "encoder.pooler"))]
    flat = [torch.cat([g[n].flatten() for n in lower]) for g in alone.values()]
    products = torch.stack(flat) @ torch.stack(flat).T
    # With three tasks, each projected off the others in the order that the generator of the step draws.
    generator = torch_generator("aggregation", 0, 0)
    expected = torch.zeros_like(flat[0])
    for i, order in enumerate([torch.randperm(3, generator=generator).tolist() for _ in range(3)]):
        g = flat[i].clone()
        for j in order:
            if j != i and g @ flat[j] < 0:
                g -= (g @ flat[j]) / products[j, j] * flat[j]
        expected += g
    torch.testing.assert_close(torch.cat([found[n].flatten() for n in lower]), expected, rtol=1e-8, atol=1e-11)
    assert not torch.allclose(expected, sum(flat), rtol=1e-3)  # the gradients did conflict
    own = [n for n in found if n.startswith("tops.")]
    assert own
    for name in own:
        task = name.split(".")[1].removeprefix("for_")
        torch.testing.assert_close(found[name], alone[task][name], rtol=1e-9, atol=1e-12)


def test_the_size_of_the_copies_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]):
    raw = merge(toy_run.raw_recipe(folder), {"model": {"unshare": 1}, "train": {"rounds": 1, "epochs": 1}})
    start_run(validate_recipe(raw, "r"), folder / "run", Console())
    # A layer has 16 * 48 + 48, 16 * 16 + 16, 2 * 16 * 32 + 48 and two norms of 32; the pooler 16 * 16 + 16.
    assert "own top layers: 2,496 parameters for each of 3 tasks;" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"unshare": 3}}, "model.unshare: 3 is more than the encoder's 2 layers. Use at most 2."),
        ({"model": {"lora": {}}}, "unshare: 1 beside lora, which trains no layer of the encoder itself"),
        ({"model": {"freeze": "all"}}, "unshare: 1 beside freeze: all, which trains no layer"),
        (
            {"model": {"freeze": 2}},
            "model.freeze: 2 reaches into the top 1 of 2 layers, of which model.unshare: 1 gives each task a copy: "
            "frozen copies would stay equal. Use freeze: 1 or fewer, or unshare: 0.",
        ),
        ({"model": {"unshare": -1}}, "model.unshare: "),
        ({"tasks": {"sst": None, "sts": None}}, "model.unshare is about several tasks, found one. Drop it, or"),
        (
            {"model": {"freeze": 1}, "train": {"aggregation": "pcgrad"}},
            "train.aggregation is about weights that the tasks share, and model.freeze: 1 with model.unshare: 1 trains "
            "none of them. Freeze or unshare fewer layers, or drop train.aggregation.",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_a_repair(shared: Path, change: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        made_of(shared, change)


def test_all_shared_layers_may_be_frozen_below_copies_that_train(shared: Path):
    model = made_of(shared, {"model": {"freeze": 1}}).model
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name in trained if name.startswith("encoder.")]
    assert {name.split(".")[1] for name in trained if name.startswith("tops.")} == {"for_sst", "for_quora", "for_sts"}
