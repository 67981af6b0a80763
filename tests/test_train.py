import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
from rich.console import Console
from safetensors.torch import load_file, save_file

from mtbert import checkpoint, evaluate, files, launch, recipe
from mtbert.batch import Dataset, Example, Sequences, collate
from mtbert.losses.classification import CrossEntropy
from mtbert.model.attention import Groups
from mtbert.objective import micro_batches
from mtbert.prepare import prepare
from mtbert.seeds import torch_generator
from mtbert.task import Task
from mtbert.train import Plan, Run, Stopped

SILENT = Console(quiet=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy_run.set_up(tmp_path)
    return tmp_path


def make(folder: Path, **train: Any) -> Run:
    settings = recipe.validate(toy_run.raw_recipe(folder, **train), "toy")
    device, _, data, model = launch.build(settings, SILENT)
    return Run(settings, model, data, device)


def gradients(run: Run) -> dict[str, torch.Tensor]:
    """Of one step, before clipping would change them (the recipe must not clip)."""
    run.step()
    return {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}


def without_dropout(folder: Path) -> dict[str, Any]:
    raw = toy_run.raw_recipe(folder, clip=None)
    raw["model"]["dropout"] = 0.0
    for task in raw["tasks"].values():
        task["head"] = {"kind": "linear", "dropout": 0.0}
    return raw


def run_of(raw: dict[str, Any], **train: Any) -> Run:
    settings = recipe.validate(recipe.merge(raw, {"train": train}), "toy")
    device, _, data, model = launch.build(settings, SILENT)
    return Run(settings, model.double(), data, device)


# Plan ----------------------------------------------------------------------------------------------

PAPER = {"sst": 8544, "quora": 283010, "sts": 6040}


def plan(**train: Any) -> Plan:
    settings = recipe.load("base")
    return Plan.of(settings.model_copy(update={"train": settings.train.model_copy(update=train)}), PAPER)


def test_the_papers_protocol_has_41418_rounds_and_2_34_passes_of_quora():
    papers = plan(rounds="paper", epochs=10, mode="alternate")
    assert papers.rounds == (755, 755, 755, 17689, 755, 755, 755, 17689, 755, 755)
    assert papers.steps == 3 * 41418
    assert papers.passes["quora"] == pytest.approx(2.34, abs=0.005)


@pytest.mark.parametrize(("rounds", "expected"), [("min", 755), ("max", 17689), (100, 100)])
def test_rounds_per_epoch(rounds: str | int, expected: int):
    assert plan(rounds=rounds, epochs=2).rounds == (expected, expected)


def test_epochs_and_evaluations_count_in_steps_of_the_mode():
    joint, alternate = plan(rounds=10, epochs=3, mode="joint"), plan(rounds=10, epochs=3, mode="alternate")
    assert (joint.steps, alternate.steps) == (30, 90)
    assert [joint.epoch(s) for s in (0, 9, 10, 29)] == [1, 1, 2, 3]
    assert [alternate.epoch(s) for s in (29, 30, 89)] == [1, 2, 3]
    assert joint.evaluations("epoch") == {10, 20, 30}
    assert alternate.evaluations("epoch") == {30, 60, 90}
    assert joint.evaluations(7) == {7, 14, 21, 28, 30}


# Steps ---------------------------------------------------------------------------------------------


def test_joint_takes_every_task_in_a_step_and_alternate_one_in_turn(folder: Path):
    joint, alternate = make(folder, mode="joint"), make(folder, mode="alternate")
    assert list(joint.step().losses) == ["sst.ce", "sst.oll", "quora.bce", "sts.mse"]
    assert [next(iter(alternate.step().losses)) for _ in range(4)] == ["sst.ce", "quora.bce", "sts.mse", "sst.ce"]


def test_a_joint_gradient_is_the_weighted_sum_of_the_tasks_own(folder: Path):
    raw = recipe.merge(without_dropout(folder), {"tasks": {"sts": {"weight": 3.0}, "sst": {"losses": ["ce"]}}})
    joint = gradients(run_of(raw, mode="joint"))
    expected: dict[str, torch.Tensor] = {}
    for task, weight in (("sst", 1.0), ("quora", 1.0), ("sts", 3.0)):
        alone = recipe.merge(raw, {"tasks": {o: None for o in ("sst", "quora", "sts") if o != task}})
        alone["tasks"][task]["weight"] = 1.0
        for name, gradient in gradients(run_of(alone, mode="joint")).items():
            expected[name] = expected.get(name, 0) + weight * gradient
    assert expected.keys() == joint.keys()
    for name, gradient in joint.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("split", [{"token_budget": 40}, {"token_budget": 1}])
def test_a_token_budget_changes_memory_and_not_the_gradient(folder: Path, split: dict[str, int]):
    whole, parts = gradients(run_of(without_dropout(folder))), gradients(run_of(without_dropout(folder), **split))
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_accumulating_two_batches_is_one_batch_of_twice_the_size(folder: Path):
    raw = without_dropout(folder)
    double = recipe.merge(raw, {"tasks": {n: {"batch_size": 2 * t["batch_size"]} for n, t in raw["tasks"].items()}})
    accumulated, large = gradients(run_of(raw, accumulate=2)), gradients(run_of(double))
    for name, gradient in large.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def dataset(name: str, lengths: list[int]) -> Dataset:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    zeros = np.zeros(offsets[-1], dtype=np.int32)
    task = Task(name=name, type="regression", inputs="single")
    return Dataset(
        task, [Example(str(i), ("x",), 0.0) for i in range(len(lengths))], (Sequences(zeros, zeros, offsets),), 0
    )


@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.parametrize("budget", [None, 1, 10, 17, 1000])
def test_micro_batches_hold_every_row_once_and_keep_to_the_budget(pieces: int, budget: int | None):
    a, b = dataset("a", [3, 9, 12, 1, 5]), dataset("b", [4, 4, 4])
    parts = [(a, np.array([4, 2, 2, 0, 1, 3])), (b, np.array([1, 0]))]
    micros = list(micro_batches(parts, pieces, budget))
    rows: dict[str, list[int]] = {"a": [], "b": []}
    for micro in micros:
        tokens = 0
        assert micro
        for data, chosen in micro:
            assert len(chosen)
            rows[data.task.name] += chosen.tolist()
            tokens += int(data.lengths[chosen].sum())
        alone = len(micro) == 1 and len(micro[0][1]) == 1
        assert budget is None or tokens <= budget or alone
    assert {name: sorted(r) for name, r in rows.items()} == {"a": [0, 1, 2, 2, 3, 4], "b": [0, 1]}


def test_the_gradient_is_clipped_to_the_norm_asked_for(folder: Path):
    run = make(folder, clip=0.01)
    assert run.step().grad_norm > 0.01
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in run.model.parameters() if p.grad is not None))
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_training_learns(folder: Path):
    run = run_of(without_dropout(folder), epochs=40, lr=3e-3)
    steps = [run.step() for _ in range(run.plan.steps)]
    first, last = steps[0].losses, steps[-1].losses
    assert last["sst.ce"] < 0.7 * first["sst.ce"]
    assert last["quora.bce"] < 0.7 * first["quora.bce"]


@pytest.mark.parametrize(("precision", "rounded"), [("fp32", False), ("bf16", True)])
def test_shapes_are_rounded_where_kernels_are_compiled_for_them(
    folder: Path, precision: str, rounded: bool, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def groups(*arguments: Any, rounded: bool = False) -> Groups:
        asked.append(rounded)
        return Groups(*arguments)

    monkeypatch.setattr("mtbert.model.model.Groups", groups)
    make(folder, precision=precision).step()
    assert asked == [rounded]


def test_bf16_trains_float32_weights_to_nearly_the_same_losses(folder: Path):
    plain, low = make(folder), make(folder, precision="bf16")
    for _ in range(5):
        expected, found = plain.step().losses, low.step().losses
    assert found != expected
    assert found == pytest.approx(expected, rel=0.05)
    assert {p.dtype for p in low.model.parameters()} == {torch.float32}


def test_a_run_draws_nothing_from_global_random_state(folder: Path):
    run = make(folder)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run.step()
    run.evaluate(lambda _: None)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()


def test_the_seed_decides_everything(folder: Path):
    def losses(seed: int) -> list[dict[str, float]]:
        run = make(folder, seed=seed)
        return [dict(run.step().losses) for _ in range(3)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


# What goes wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_by_name_and_leaves_the_weights(
    value: float, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make(folder)
    run.step()
    before = {n: p.clone() for n, p in run.model.named_parameters()}
    monkeypatch.setattr(CrossEntropy, "__call__", lambda self, p: 0 * p.out.prediction.sum() + value)
    with pytest.raises(
        FloatingPointError, match=rf"step 2: loss sst\.ce is {value} for examples s\d+, s\d+, s\d+, s\d+\."
    ):
        run.step()
    assert all(torch.equal(p, before[n]) for n, p in run.model.named_parameters())


def test_the_examples_with_bad_predictions_are_the_ones_named(folder: Path):
    run = make(folder)
    with torch.no_grad():
        run.model.encoder.word_embedding.weight[12] = math.nan  # the word 'plot'
    with pytest.raises(FloatingPointError) as error:
        for _ in range(9):
            run.step()
    named = str(error.value).split("for examples ")[1].split(". ")[0].split(", ")
    rows = {e.id: e for d in run.data.values() for e in d.train.examples}
    word = toy_run.WORDS[12 - 5]
    assert named
    assert all(any(word in text.split() for text in rows[name].texts) for name in named)


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make(folder)
    before = {n: p.clone() for n, p in run.model.named_parameters()}
    # Its value is finite at 0, its derivative is not.
    monkeypatch.setattr(CrossEntropy, "__call__", lambda self, p: (p.out.prediction.sum() * 0).abs().sqrt())
    with pytest.raises(FloatingPointError, match=r"step 1: the gradient of .*sst\.ce.* is (nan|inf)"):
        run.step()
    assert all(torch.equal(p, before[n]) for n, p in run.model.named_parameters())


def test_a_failed_run_keeps_its_last_good_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch):
    settings = recipe.load(str(folder / "toy.yaml"), ["train.checkpoint_every=3"])
    real = CrossEntropy.__call__
    calls = 0

    def fifth_is_nan(self: CrossEntropy, p: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(self, p) * (math.nan if calls == 5 else 1.0)

    monkeypatch.setattr(CrossEntropy, "__call__", fifth_is_nan)
    with pytest.raises(FloatingPointError, match=r"step 5.*last good checkpoint.*last"):
        launch.start(settings, folder / "run", SILENT)
    monkeypatch.undo()
    assert json.loads((folder / "run/last/state.json").read_text())["done"] == 3
    launch.resume(folder / "run", SILENT)


def test_patience_stops_a_run_that_no_longer_gets_better(folder: Path):
    settings = recipe.load(str(folder / "toy.yaml"), ["train.patience=2", "train.epochs=50", "train.lr=1e-9"])
    launch.start(settings, folder / "run", SILENT)
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    overall = [line["aggregates"]["overall"] for line in lines if "evaluation" in line]
    assert len(overall) < 10
    assert max(overall[-2:]) <= max(overall[:-2])


def test_the_best_model_is_kept_beside_the_last(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipe.Recipe, "aggregate", lambda self, name, scores, seen=[]: seen.append(0) or -len(seen))
    launch.start(recipe.load(str(folder / "toy.yaml")), folder / "run", SILENT)
    best, last = ((folder / "run" / name / "model.safetensors").read_bytes() for name in ("best", "last"))
    assert best != last


def test_a_run_keeps_what_its_saved_weights_answered_on_dev(folder: Path):
    scores = launch.start(recipe.load(str(folder / "toy.yaml")), folder / "run", SILENT)
    loaded = checkpoint.load_model(folder / "run/last")
    model, tokenizer = loaded.model, loaded.tokenizer
    kept = checkpoint.load_predictions(folder / "run/last")
    dev = {name: p.dev for name, p in prepare(recipe.load(str(folder / "toy.yaml")), tokenizer).items()}
    assert set(kept) == {"sst", "quora", "sts"}
    for name, predicted in kept.items():
        torch.testing.assert_close(predicted.raw, evaluate.predict(model, dev[name]))
        assert evaluate.judge(dev[name], predicted) == scores[name]


def test_going_on_with_a_finished_run_keeps_its_answers(folder: Path):
    found = recipe.load(str(folder / "toy.yaml"), ["train.rounds=4", "train.epochs=1", "train.checkpoint_every=2"])
    launch.start(found, folder / "run", SILENT)
    before = {p: p.read_bytes() for p in (folder / "run/last").iterdir()}
    launch.resume(folder / "run", SILENT)
    assert {p: p.read_bytes() for p in (folder / "run/last").iterdir()} == before
    assert folder / "run/last/predictions.safetensors" in before


def test_a_finished_run_can_be_the_encoder_of_another_with_its_heads_and_a_new_task(folder: Path):
    launch.start(recipe.load(str(folder / "toy.yaml")), folder / "first", SILENT)
    raw = recipe.merge(
        toy_run.raw_recipe(folder),
        {"model": {"path": str(folder / "first")}, "tasks": {"quora": None}},
    )
    raw["tasks"]["tone"] = {**raw["tasks"]["sst"], "type": "classification", "losses": ["ce"]}
    _, _, _, model = launch.build(recipe.validate(raw, "next"), SILENT)
    from mtbert.checkpoint import load_model

    finished = load_model(folder / "first").model
    assert torch.equal(model.encoder.word_embedding.weight, finished.encoder.word_embedding.weight)
    for name in ("sst", "sts"):
        for key, tensor in finished.head(name).state_dict().items():
            assert torch.equal(model.head(name).state_dict()[key], tensor)
    assert set(model.tasks) == {"sst", "sts", "tone"}


def test_a_head_of_the_same_name_for_another_kind_of_task_is_refused(folder: Path):
    launch.start(recipe.load(str(folder / "toy.yaml")), folder / "first", SILENT)
    change = [f"model.path={folder / 'first'}", "tasks.sts.range=[0, 9]"]
    with pytest.raises(ValueError, match=r"task sts: .*first.* for another range\. Rename the task"):
        launch.start(recipe.load(str(folder / "toy.yaml"), change), folder / "second", SILENT)


# Resume --------------------------------------------------------------------------------------------


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from mtbert.cli import main; main()", *map(str, arguments)]


def everything(run: Path) -> dict[str, bytes]:
    """What must be bitwise equal: weights, optimizer, state and metrics."""
    files = [*(run / "last").iterdir(), *(run / "best").iterdir(), run / "metrics.jsonl"]
    return {str(f.relative_to(run)): f.read_bytes() for f in files}


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    timings = run / "timings.jsonl"
    while not timings.exists() or len(timings.read_text().splitlines()) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.mark.parametrize("mode", ["joint", "alternate"])
def test_a_run_killed_twice_and_resumed_equals_one_never_stopped_bitwise(mode: str, folder: Path):
    rounds = 90 if mode == "joint" else 35  # a round has one step, or three
    sets = [f"train.mode={mode}", "train.epochs=1", f"train.rounds={rounds}", "train.checkpoint_every=7"]
    sets.append("train.evaluate_every=20")
    start = ["train", folder / "toy.yaml", *(word for s in sets for word in ("--set", s)), "--out"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}

    stopped = subprocess.Popen(command(*start, folder / "stopped"), **quiet)
    wait_for_step(folder / "stopped", 25, stopped)
    stopped.kill()  # no warning: the steps since the last checkpoint are lost and made again
    stopped.communicate()

    resumed = subprocess.Popen(command("train", "--resume", folder / "stopped"), **quiet)
    wait_for_step(folder / "stopped", 50, resumed)
    resumed.send_signal(signal.SIGTERM)  # asked: it saves this very step
    output = resumed.communicate()[0]
    assert resumed.returncode == 130, output
    assert f"mtbert train --resume {folder / 'stopped'}" in output.replace("\n", " ")
    assert "Traceback" not in output
    at = json.loads((folder / "stopped/last/state.json").read_text())["done"]
    assert len([x for x in (folder / "stopped/metrics.jsonl").read_text().splitlines() if "losses" in x]) == at

    launch.resume(folder / "stopped", SILENT)
    launch.start(recipe.load(str(folder / "toy.yaml"), sets), folder / "whole", SILENT)
    whole, again = everything(folder / "whole"), everything(folder / "stopped")
    assert whole.keys() == again.keys()
    assert [name for name in whole if whole[name] != again[name]] == []


def test_every_step_can_be_the_one_where_a_run_stops(folder: Path, monkeypatch: pytest.MonkeyPatch):
    settings = recipe.load(
        str(folder / "toy.yaml"), ["train.rounds=2", "train.evaluate_every=2", "train.mode=alternate"]
    )
    launch.start(settings, folder / "whole", SILENT)
    whole = everything(folder / "whole")
    real = Run.step
    for stop in range(1, 12):
        out = folder / f"stopped{stop}"

        def step(self: Run, stop: int = stop) -> Any:
            if self.done == stop:
                os.kill(os.getpid(), signal.SIGTERM)
                monkeypatch.setattr(Run, "step", real)
            return real(self)

        monkeypatch.setattr(Run, "step", step)
        with pytest.raises(Stopped):
            launch.start(settings, out, SILENT)
        launch.resume(out, SILENT)
        assert everything(out) == whole, stop


def test_a_run_killed_before_its_first_checkpoint_starts_again(folder: Path):
    settings = recipe.load(str(folder / "toy.yaml"))
    launch.start(settings, folder / "whole", SILENT)
    launch.start(settings, folder / "early", SILENT)
    for name in ("last", "best"):
        shutil.rmtree(folder / "early" / name)
    log = folder / "early/metrics.jsonl"
    with pytest.raises(FileNotFoundError, match=r"early/last: not there, although this run had saved it"):
        launch.resume(folder / "early", SILENT)
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 20  # nothing is lost by the refusal
    first = next(i for i, line in enumerate(lines) if b"evaluation" in line)
    log.write_bytes(b"".join(lines[: first + 1]))
    launch.resume(folder / "early", SILENT)
    assert everything(folder / "early") == everything(folder / "whole")


def test_resuming_a_finished_run_changes_nothing(folder: Path):
    launch.start(recipe.load(str(folder / "toy.yaml")), folder / "run", SILENT)
    before = everything(folder / "run")
    launch.resume(folder / "run", SILENT)
    assert everything(folder / "run") == before


def test_resuming_on_changed_data_is_refused(folder: Path):
    launch.start(recipe.load(str(folder / "toy.yaml")), folder / "run", SILENT)
    with (folder / "data/sts.csv").open("a") as file:
        file.write("new,a dog,a cat,1\n")
    with pytest.raises(ValueError, match=r"sts\.csv: changed since the run in .*run began"):
        launch.resume(folder / "run", SILENT)


def test_a_run_records_its_recipe_environment_and_data(folder: Path):
    launch.start(recipe.load(str(folder / "toy.yaml")), folder / "run", SILENT)
    assert recipe.load(str(folder / "run/recipe.yaml")) == recipe.load(str(folder / "toy.yaml"))
    environment = json.loads((folder / "run/environment.json").read_text())
    digest = hashlib.sha256((folder / "data/sst.csv").read_bytes()).hexdigest()
    assert environment["data"]["sst.csv"] == digest
    assert environment["threads"] == 1
    assert environment["packages"]["torch"] == torch.__version__


# Starting ------------------------------------------------------------------------------------------


def test_a_run_begins_with_all_its_files_or_with_none(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipe, "dump", lambda _: 1 / 0)  # killed while it writes
    with pytest.raises(ZeroDivisionError):
        launch.start(recipe.load(str(folder / "toy.yaml")), folder / "run", SILENT)
    assert not (folder / "run").exists()
    monkeypatch.undo()
    launch.start(recipe.load(str(folder / "toy.yaml"), ["train.epochs=1"]), folder / "run", SILENT)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_labels_that_are_all_the_same_are_warned_of(folder: Path, capsys: pytest.CaptureFixture[str]):
    raw = toy_run.raw_recipe(folder, epochs=1, rounds=1)
    raw["tasks"]["quora"]["train"] = {"path": "quora.csv", "where": {"is_duplicate": 1}}
    raw["tasks"]["quora"] |= {"dev": "quora.csv", "labels": ["0", "1"]}  # dev has both
    launch.start(recipe.validate(raw, "toy"), folder / "run", Console(width=300))
    assert "warning: task quora: train: all examples have the same label" in capsys.readouterr().out


def test_a_folder_that_is_no_run_is_never_overwritten(folder: Path):
    with pytest.raises(ValueError, match=r"data: exists\. It is no run, so give another --out\."):
        launch.start(recipe.load(str(folder / "toy.yaml")), folder / "data", SILENT, overwrite=True)
    assert (folder / "data/sst.csv").exists()


def test_a_head_goes_on_only_with_the_pooling_it_was_trained_with(folder: Path):
    launch.start(recipe.load(str(folder / "toy.yaml"), ["model.pooling=mean"]), folder / "first", SILENT)
    settings = recipe.load(str(folder / "toy.yaml"), [f"model.path={folder / 'first'}"])
    with pytest.raises(ValueError, match=r"task sst: the head in .* reads pooling 'mean', found 'cls'"):
        launch.start(settings, folder / "second", SILENT)


def test_the_dev_split_is_the_same_for_every_training_seed(folder: Path):
    def ids(seed: int) -> list[str]:
        return [e.id for e in make(folder, seed=seed).data["quora"].dev.examples]

    assert ids(1) == ids(2)


def test_cut_texts_are_counted_in_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]):
    console = Console(width=200)
    launch.start(recipe.load(str(folder / "toy.yaml"), ["model.max_length=8"]), folder / "run", console)
    assert re.search(r"warning: task sst: train: \d+ of 36 examples are cut to 8 tokens\.", capsys.readouterr().out)


def test_an_encoder_without_a_pooler_says_which_pooling_it_gets(folder: Path, capsys: pytest.CaptureFixture[str]):
    weights = folder / "encoder/model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("pooler.")}
    save_file(kept | {"cls.bias": torch.zeros(2)}, weights)
    launch.start(recipe.load(str(folder / "toy.yaml")), folder / "run", Console(width=300))
    printed = capsys.readouterr().out
    assert f"{folder / 'encoder'}: missing weights: pooler.dense.bias, pooler.dense.weight" in printed
    assert f"{folder / 'encoder'}: unexpected weights: cls.bias" in printed
    assert "has no pooler: pooling 'cls' takes the [CLS] token's last hidden state as is" in printed


# Techniques in a run -------------------------------------------------------------------------------


def test_surgery_equals_a_slow_one_on_gradients_taken_task_by_task(folder: Path):
    raw = recipe.merge(without_dropout(folder), {"train": {"aggregation": "pcgrad"}})
    run = run_of(raw, mode="joint")
    found = gradients(run)
    alone = {}
    for task in ("sst", "quora", "sts"):
        one = recipe.merge(raw, {"tasks": {o: None for o in ("sst", "quora", "sts") if o != task}})
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
    assert not torch.allclose(found_flat, sum(flat), rtol=1e-3)  # there was a conflict
    for task in alone:  # heads keep their own
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
    settings = recipe.load(str(folder / "toy.yaml"), ["train.ema={decay: 0.9}", "train.lr=0.01"])
    launch.start(settings, folder / "run", SILENT)
    saved = load_file(folder / "run/last/model.safetensors")["embeddings.word_embeddings.weight"]
    state = load_file(folder / "run/last/training.safetensors")
    assert torch.equal(saved, state["average.encoder.word_embedding.weight"])
    assert not torch.equal(saved, state["model.encoder.word_embedding.weight"])
    started = load_file(folder / "encoder/model.safetensors")["embeddings.word_embeddings.weight"]
    assert not torch.equal(saved, started)
    run = make(folder, ema={"decay": 0.9})
    assert run.predictor is run.ema
    settings = recipe.load(
        str(folder / "toy.yaml"), ["train.ema={decay: 0.9, predicts: false}", "tasks.sst.losses=[ce, bregman]"]
    )
    device, _, data, model = launch.build(settings, SILENT)
    assert Run(settings, model, data, device).predictor is model


def test_low_rank_changes_are_saved_as_plain_weights_that_predict_the_same(folder: Path):
    raw = recipe.merge(toy_run.raw_recipe(folder, lr=0.05), {"model": {"lora": {"rank": 2}}})
    settings = recipe.validate(raw, "toy")
    device, tokenizer, data, model = launch.build(settings, SILENT)
    run = Run(settings, model, data, device)
    for _ in range(5):
        run.step()
    files.write_folder(folder / "saved", lambda to: checkpoint.save_model(run.predictor, tokenizer, to))
    again = checkpoint.load_model(folder / "saved").model
    batch = collate([(data["sst"].train, np.arange(4))], device)
    with torch.no_grad():
        expected, found = (m(batch)["sst"].prediction for m in (run.model, again))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(expected, launch.build(settings, SILENT)[3](batch)["sst"].prediction, atol=1e-3)
    assert set(load_file(folder / "saved/model.safetensors")) == set(load_file(folder / "encoder/model.safetensors"))


def test_adapters_go_on_in_another_run_with_the_same_settings_alone(folder: Path, capsys: pytest.CaptureFixture[str]):
    pal = ["model.pal={kind: attention, width: 6, heads: 2, tasks: [sst, quora]}", "train.epochs=1"]
    launch.start(recipe.load(str(folder / "toy.yaml"), pal), folder / "first", Console())
    # 2 * 16 * 6 + 6 + 16, and in each of two layers 3 * 6 * 6 + 3 * 6.
    assert "PAL: 466 parameters for each of 2 tasks" in " ".join(capsys.readouterr().out.split())
    again = [*pal, f"model.path={folder / 'first'}"]
    model = launch.build(recipe.load(str(folder / "toy.yaml"), again), SILENT)[3]
    saved = load_file(folder / "first/best/adapters.safetensors")
    assert saved.keys() == model.adapters.state_dict().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.adapters.state_dict().items())
    for change in (["model.pal=null"], ["model.pal.width=8"]):
        with pytest.raises(
            ValueError, match=r"task sst: .*best was trained with model\.pal .*Set model\.pal as it was"
        ):
            launch.build(recipe.load(str(folder / "toy.yaml"), [*again, *change]), SILENT)


def test_an_encoder_without_dropout_cannot_have_a_loss_that_lives_on_it(folder: Path):
    config = json.loads((folder / "encoder/config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "encoder/config.json").write_text(json.dumps(config))
    settings = recipe.load(str(folder / "toy.yaml"), ["tasks.sst.losses=[ce, simcse-unsup]"])
    with pytest.raises(ValueError, match=r"tasks\.sst: loss 'simcse-unsup' compares two passes .*none in its config"):
        launch.start(settings, folder / "run", SILENT)
    assert not (folder / "run").exists()


def test_a_batch_without_duplicates_must_fit_into_the_data(folder: Path):
    change = {"tasks": {"quora": {"no_duplicates": True, "batch_size": 1000}}, "train": {"rounds": 1}}
    settings = recipe.validate(recipe.merge(toy_run.raw_recipe(folder), change), "toy")
    with pytest.raises(ValueError, match=r"task quora: no_duplicates cuts .* and 54 train rows are not one of 1000\."):
        launch.start(settings, folder / "run", SILENT)


def test_a_second_task_on_the_same_file_trains_vectors_and_is_not_scored(folder: Path):
    raw = toy_run.raw_recipe(folder, epochs=1)
    pairs = {"train": {"path": "quora.csv", "where": {"is_duplicate": 1}}, "inputs": "separate", "head": "linear"}
    raw["tasks"]["questions"] = raw["tasks"]["quora"] | pairs | {"labels": ["0", "1"], "losses": ["mnrl"]}
    settings = recipe.validate(raw, "toy")
    scores = launch.start(settings, folder / "run", SILENT)
    assert list(scores) == ["sst", "quora", "sts"]
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert "questions.mnrl" in lines[0]["losses"]
    assert list(lines[-1]["evaluation"]) == ["sst", "quora", "sts"]
    from mtbert import use

    assert list(use.evaluate(folder / "run", "dev", None, SILENT, SILENT)) == ["sst", "quora", "sts"]


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"freeze": 2, "pooling": "mean"}, "tasks": {"sts": {"inputs": "separate", "head": "cosine"}}},
        {"model": {"freeze": "all"}, "tasks": {"quora": {"inputs": "separate", "losses": ["mnrl"]}}},
    ],
)
def test_a_task_with_nothing_left_to_train_is_refused(folder: Path, change: dict[str, Any]):
    settings = recipe.validate(recipe.merge(toy_run.raw_recipe(folder), change), "toy")
    with pytest.raises(
        ValueError, match=r"tasks\.(sts|quora): with model\.freeze: (2|all) there is nothing left to train"
    ):
        launch.start(settings, folder / "run", SILENT)


def test_what_is_frozen_stays_and_lower_layers_are_slower(folder: Path):
    raw = recipe.merge(toy_run.raw_recipe(folder), {"model": {"freeze": 1}, "train": {"layer_decay": 0.5}})
    settings = recipe.validate(raw, "toy")
    device, _, data, model = launch.build(settings, SILENT)
    run = Run(settings, model, data, device)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    run.step()
    same = {n for n, p in model.named_parameters() if torch.equal(p, before[n])}
    assert {n for n in before if "embedding" in n or n.startswith("encoder.layers.0.")} <= same
    assert not any(n.startswith("encoder.layers.1.") and n.endswith("weight") for n in same)
    free = recipe.merge(toy_run.raw_recipe(folder), {"train": {"layer_decay": 0.5}})
    assert {g["factor"] for g in run_of(free).optimizer.param_groups} == {0.25, 0.5, 1.0}


def test_two_tasks_on_one_file_hold_out_the_same_rows(folder: Path):
    raw = toy_run.raw_recipe(folder)
    part = {"train": {"path": "quora.csv", "where": {"is_duplicate": 1}}, "labels": ["0", "1"]}
    raw["tasks"]["pairs"] = raw["tasks"]["quora"] | part
    data = launch.build(recipe.validate(raw, "toy"), SILENT)[2]
    held = {e.id for e in data["quora"].dev.examples}
    assert {e.id for e in data["pairs"].dev.examples} == {i for i in held if int(i[1:]) % 2}
    assert not held & {e.id for e in data["pairs"].train.examples}


def test_a_pass_can_be_made_again_with_its_own_dropout(folder: Path):
    run = make(folder)
    parts, _ = run._draw()
    made = run.objective._passes(collate(parts[:1], run.device))["sst"]
    assert made.repeats
    again = made.finish(made.out.embeddings_MD, made.twin())
    assert torch.equal(again.prediction, made.out.prediction)
    assert not torch.equal(made.finish(made.out.embeddings_MD, None).prediction, made.out.prediction)


@pytest.mark.parametrize(
    ("old", "new"), [("seed: 0", "seed: 7"), ("lr: 0.001", "lr: 0.01"), ("rounds: min", "rounds: 9")]
)
def test_resuming_with_a_changed_recipe_is_refused(folder: Path, old: str, new: str):
    launch.start(recipe.load(str(folder / "toy.yaml")), folder / "run", SILENT)
    file = folder / "run/recipe.yaml"
    text = file.read_text()
    assert f"  {old}\n" in text
    file.write_text(text.replace(f"  {old}\n", f"  {new}\n"))
    before = (folder / "run/metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"run/recipe\.yaml: changed since the run began\. Undo that, or start a new"):
        launch.resume(folder / "run", SILENT)
    assert (folder / "run/metrics.jsonl").read_bytes() == before
    file.write_text(text)
    launch.resume(folder / "run", SILENT)
