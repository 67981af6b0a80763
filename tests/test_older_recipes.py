"""Runs whose recipes have keys or values that no longer exist: they can be read, and resumed if that is exact."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import toy_run
import yaml
from commands import Mtbert
from rich.console import Console

from mtbert.recipe.files import dump_recipe, load_recipe, load_run_recipe
from mtbert.recipe.identity import identity, recipe_digest, same_settings
from mtbert.recipe.settings import as_plain, validate_recipe
from mtbert.studying.runs import lay_out, run_place
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run
from mtbert.yaml_files import merge

SILENT = Console(quiet=True)
CYCLE = ["train.rounds=[min, min, min, max]", "train.epochs=4", "train.mode=alternate"]
folder = toy_run.folder


def age(run: Path, train: dict[str, Any], batch_size: int | None = None) -> None:
    """Rewrites the recipe of ``run`` and its digest as an earlier version would have written them."""
    raw = merge(yaml.safe_load((run / "recipe.yaml").read_text()), {"train": {"accumulate": 1} | train})
    if batch_size is not None:
        for task in raw["tasks"].values():
            task["batch_size"] = batch_size
    record = json.loads((run / "environment.json").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (run / "environment.json").write_text(json.dumps(record | {"recipe": recipe_digest(raw)}))


def trained(folder: Path, name: str, changes: list[str], monkeypatch: Any, stop: int | None = None) -> Path:
    """Returns the folder of a toy run; if ``stop`` is given, a signal stops the run in that step."""
    real = Run.step

    def step(self: Run) -> Any:
        if self.done == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    monkeypatch.setattr(Run, "step", step)
    if stop is None:
        start_run(load_recipe(str(folder / "toy.yaml"), changes), folder / name, SILENT)
    else:
        with pytest.raises(Stopped):
            start_run(load_recipe(str(folder / "toy.yaml"), changes), folder / name, SILENT)
    monkeypatch.setattr(Run, "step", real)
    return folder / name


def test_the_papers_rounds_have_the_same_identity_as_under_their_old_name():
    # The literal comes from the version that had ``rounds: paper``.
    raw = merge(toy_run.raw_recipe(Path("/nowhere")), {"train": {"rounds": ["min", "min", "min", "max"]}})
    assert identity(validate_recipe(raw, "toy")) == "4cfac039dd6e11cdf046bae25d156dd1f63a9bb0cdcfbe8714c107d36a0dae99"
    raw["train"]["rounds"] = ["min", "min", "max"]
    assert identity(validate_recipe(raw, "toy")) != "4cfac039dd6e11cdf046bae25d156dd1f63a9bb0cdcfbe8714c107d36a0dae99"


def test_a_run_of_the_papers_rounds_resumes_bitwise(folder: Path, monkeypatch: pytest.MonkeyPatch):
    whole = trained(folder, "whole", CYCLE, monkeypatch)
    stopped = trained(folder, "stopped", CYCLE, monkeypatch, stop=7)
    age(stopped, {"rounds": "paper"})
    resume_run(stopped, SILENT)
    assert "rounds: paper\n" in (stopped / "recipe.yaml").read_text()
    for file in ("last/model.safetensors", "last/heads.safetensors", "metrics.jsonl"):
        assert (stopped / file).read_bytes() == (whole / file).read_bytes(), file


def test_a_finished_run_with_old_settings_can_be_scored_reported_and_started_from(
    folder: Path, mtbert: Mtbert, monkeypatch: pytest.MonkeyPatch
):
    run = trained(folder, "run", ["train.epochs=1", "train.rounds=[min, min, min, max]"], monkeypatch)
    before = mtbert("evaluate", run, "--json").out
    size = load_run_recipe(run / "recipe.yaml").tasks["sst"].batch_size
    age(run, {"rounds": "paper", "accumulate": 2}, batch_size=size // 2)
    recipe = load_run_recipe(run / "recipe.yaml")
    assert recipe.train.rounds == ("min", "min", "min", "max")
    assert recipe.tasks["sst"].batch_size == size
    assert mtbert("evaluate", run, "--json").out == before
    assert mtbert("report", run).code == 0
    refused = mtbert("train", "--resume", run, "--epochs", "2").mistake
    assert refused == (
        f"{run}: has train.accumulate, which is no setting any more, so its steps cannot be repeated bit for bit. Its "
        f"model works as before; to train it on, start a new run with --set model.path={run}."
    )
    again = mtbert("train", folder / "toy.yaml", "--set", f"model.path={run}", "--out", folder / "again")
    assert again.code == 0


def test_a_recipe_with_the_default_of_a_dropped_key_is_read(folder: Path):
    assert load_recipe(str(folder / "toy.yaml"), ["train.accumulate=1"]) == load_recipe(str(folder / "toy.yaml"))


def test_a_study_goes_on_with_a_run_whose_recipe_stays_as_an_earlier_version_wrote_it(folder: Path):
    one = run_place(folder / "study", "row", 0)
    one.run.mkdir(parents=True)
    recipe = load_recipe(str(folder / "toy.yaml"))
    raw = merge(yaml.safe_load(dump_recipe(recipe)), {"train": {"accumulate": 1}, "data": {"root": "/before"}})
    (one.run / "recipe.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    lay_out({one: recipe})
    assert load_recipe(str(one.recipe)) == recipe
    kept = yaml.safe_load((one.run / "recipe.yaml").read_text())
    assert kept == merge(raw, {"data": {"root": recipe.data.root}})
    assert recipe_digest(kept) == recipe_digest(raw)  # as the run's record has it


def test_a_study_or_tuning_goes_on_if_it_differs_only_in_settings_that_older_versions_lacked(folder: Path):
    recipe = load_recipe(str(folder / "toy.yaml"))
    raw = as_plain(recipe)
    del raw["train"]["held_out"], raw["train"]["calibrate"], raw["model"]["unshare"]
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw))  # the order of keys does not matter
    assert load_run_recipe(file) != recipe  # nothing was held out
    assert same_settings(file, recipe)  # and nothing would be now, since these tasks fit nothing
    for change in ("train.calibrate=true", "train.lr=0.5", "train.epochs=9", "model.unshare=1", "tasks.quora.head=mlp"):
        changed = load_recipe(str(folder / "toy.yaml"), [change])
        assert same_settings(file, changed) == (change == "tasks.quora.head=mlp"), change  # it is mlp already
    cosine = load_recipe(str(folder / "toy.yaml"), ["tasks.quora.head=cosine", "tasks.quora.inputs=separate"])
    old = as_plain(cosine)
    del old["train"]["held_out"]
    file.write_text(yaml.safe_dump(old))
    assert not same_settings(file, cosine)  # the threshold was fitted on other rows


def test_the_recipe_of_a_run_of_a_newer_version_is_refused_in_one_line(folder: Path):
    raw = as_plain(load_recipe(str(folder / "toy.yaml")))
    raw["train"] |= {"newer": 1, "newest": 2}
    raw["tasks"]["sst"]["novel"] = 3
    (folder / "recipe.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=r"recipe\.yaml, tasks\.sst: unknown key 'novel'\. ") as error:
        load_run_recipe(folder / "recipe.yaml")
    assert str(error.value).endswith(". The recipe has 2 more mistakes. If a newer mtbert wrote it, use that one.")
    assert "\n" not in str(error.value)
