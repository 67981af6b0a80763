"""The start of a run, what a finished run keeps, and what another run can take from it."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
import toy_run
from rich.console import Console
from safetensors.torch import load_file, save_file
from toy_steps import make

from mtbert import scoring
from mtbert.prepare import prepare
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.storage.model_folder import load_model
from mtbert.storage.predictions import load_predictions
from mtbert.training.assemble import assemble
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run
from mtbert.yaml_files import merge

SILENT = Console(quiet=True)
folder = toy_run.folder


# Ending ------------------------------------------------------------------------------------------


def test_patience_stops_a_run_that_no_longer_gets_better(folder: Path):
    settings = load_recipe(str(folder / "toy.yaml"), ["train.patience=2", "train.epochs=50", "train.lr=1e-9"])
    start_run(settings, folder / "run", SILENT)
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    overall = [line["aggregates"]["overall"] for line in lines if "evaluation" in line]
    assert len(overall) < 10
    assert max(overall[-2:]) <= max(overall[:-2])


def test_the_best_model_is_kept_beside_the_last(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Recipe, "aggregate", lambda self, name, scores, seen=[]: seen.append(0) or -len(seen))
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT)
    best, last = ((folder / "run" / name / "model.safetensors").read_bytes() for name in ("best", "last"))
    assert best != last


def test_a_run_keeps_what_its_saved_weights_answered_on_dev(folder: Path):
    scores = start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT)
    loaded = load_model(folder / "run/last")
    model, tokenizer = loaded.model, loaded.tokenizer
    kept = load_predictions(folder / "run/last")
    dev = {name: p.dev for name, p in prepare(load_recipe(str(folder / "toy.yaml")), tokenizer).items()}
    assert set(kept) == {"sst", "quora", "sts"}
    for name, predicted in kept.items():
        torch.testing.assert_close(predicted.prediction, scoring.predict_examples(model, dev[name]))
        assert scoring.evaluate_predicted(dev[name], predicted) == scores.evaluations[name]


def test_resuming_a_finished_run_keeps_its_answers(folder: Path):
    found = load_recipe(str(folder / "toy.yaml"), ["train.rounds=4", "train.epochs=1", "train.checkpoint_every=2"])
    start_run(found, folder / "run", SILENT)
    before = {p: p.read_bytes() for p in (folder / "run/last").iterdir()}
    resume_run(folder / "run", SILENT)
    assert {p: p.read_bytes() for p in (folder / "run/last").iterdir()} == before
    assert folder / "run/last/predictions.safetensors" in before


def test_a_finished_run_can_be_the_encoder_of_another_with_its_heads_and_a_new_task(folder: Path):
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "first", SILENT)
    raw = merge(
        toy_run.raw_recipe(folder),
        {"model": {"path": str(folder / "first")}, "tasks": {"quora": None}},
    )
    raw["tasks"]["tone"] = {**raw["tasks"]["sst"], "type": "classification", "losses": ["ce"]}
    model = assemble(validate_recipe(raw, "next")).model
    from mtbert.storage.model_folder import load_model

    finished = load_model(folder / "first").model
    assert torch.equal(model.encoder.word_embedding.weight, finished.encoder.word_embedding.weight)
    for name in ("sst", "sts"):
        for key, tensor in finished.head(name).state_dict().items():
            assert torch.equal(model.head(name).state_dict()[key], tensor)
    assert set(model.tasks) == {"sst", "sts", "tone"}


def test_a_head_of_the_same_name_for_another_kind_of_task_is_refused(folder: Path):
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "first", SILENT)
    change = [f"model.path={folder / 'first'}", "tasks.sts.range=[0, 9]"]
    with pytest.raises(ValueError, match=r"task sts: .*first.* for another range\. Rename the task"):
        start_run(load_recipe(str(folder / "toy.yaml"), change), folder / "second", SILENT)


# Starting ------------------------------------------------------------------------------------------


def test_a_run_records_its_recipe_environment_and_data(folder: Path):
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT)
    assert load_recipe(str(folder / "run/recipe.yaml")) == load_recipe(str(folder / "toy.yaml"))
    environment = json.loads((folder / "run/environment.json").read_text())
    digest = hashlib.sha256((folder / "data/sst.csv").read_bytes()).hexdigest()
    assert environment["data"]["sst.csv"] == digest
    assert environment["threads"] == 1
    assert environment["packages"]["torch"] == torch.__version__


def test_a_run_begins_with_all_its_files_or_with_none(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mtbert.training.start.dump_recipe", lambda _: 1 / 0)  # killed while it writes
    with pytest.raises(ZeroDivisionError):
        start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT)
    assert not (folder / "run").exists()
    monkeypatch.undo()
    start_run(load_recipe(str(folder / "toy.yaml"), ["train.epochs=1"]), folder / "run", SILENT)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_labels_that_are_all_the_same_cause_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]):
    raw = toy_run.raw_recipe(folder, epochs=1, rounds=1)
    raw["tasks"]["quora"]["train"] = {"path": "quora.csv", "where": {"is_duplicate": 1}}
    raw["tasks"]["quora"] |= {"dev": "quora.csv", "labels": ["0", "1"]}  # dev has both
    start_run(validate_recipe(raw, "toy"), folder / "run", Console(width=300))
    assert "warning: task quora: train: all examples have the same label" in capsys.readouterr().out


def test_a_folder_that_is_not_a_run_is_never_overwritten(folder: Path):
    with pytest.raises(ValueError, match=r"data: exists\. It is no run, so give another folder\."):
        start_run(load_recipe(str(folder / "toy.yaml")), folder / "data", SILENT, overwrite=True)
    assert (folder / "data/sst.csv").exists()


def test_a_head_is_taken_over_only_with_the_pooling_it_was_trained_with(folder: Path):
    start_run(load_recipe(str(folder / "toy.yaml"), ["model.pooling=mean"]), folder / "first", SILENT)
    settings = load_recipe(str(folder / "toy.yaml"), [f"model.path={folder / 'first'}"])
    with pytest.raises(ValueError, match=r"task sst: the head in .* reads pooling 'mean', found 'cls'"):
        start_run(settings, folder / "second", SILENT)


def test_the_dev_split_is_the_same_for_every_training_seed(folder: Path):
    def ids(seed: int) -> list[str]:
        return [e.id for e in make(folder, seed=seed).data["quora"].dev.examples]

    assert ids(1) == ids(2)


def test_cut_texts_are_counted_in_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]):
    console = Console(width=200)
    start_run(load_recipe(str(folder / "toy.yaml"), ["model.max_length=8"]), folder / "run", console)
    assert re.search(r"warning: task sst: train: \d+ of 36 examples are cut to 8 tokens\.", capsys.readouterr().out)


def test_an_encoder_without_a_pooler_says_which_pooling_it_gets(folder: Path, capsys: pytest.CaptureFixture[str]):
    weights = folder / "encoder/model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("pooler.")}
    save_file(kept | {"cls.bias": torch.zeros(2)}, weights)
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", Console(width=300))
    printed = capsys.readouterr().out
    assert f"{folder / 'encoder'}: missing weights: pooler.dense.bias, pooler.dense.weight" in printed
    assert f"{folder / 'encoder'}: unexpected weights: cls.bias" in printed
    assert "has no pooler: pooling 'cls' takes the [CLS] token's last hidden state as is" in printed
