"""Tuning: the data that trials see, stopping and resuming, pruning of poor trials, and refusals."""

import importlib.util
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import toy_run
import yaml
from rich.console import Console
from toy_tuning import SILENT, put_scores, ranged, trials
from typer.testing import CliRunner

from mtbert import cli, locks
from mtbert.recipe.files import load_recipe
from mtbert.studying.trial_results import TrialBar
from mtbert.studying.tunable import Tuning
from mtbert.studying.tuning import run_tuning
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run

folder = toy_run.folder


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], list[float]]], None]:
    return lambda scores_of: put_scores(monkeypatch, scores_of)


def test_trials_see_no_dev_file_and_the_best_is_a_recipe_that_names_it(folder: Path):
    out = folder / "tuned"
    assert run_tuning(Tuning(ranged(folder), ("train.seed=3",), False, out), 3, SILENT) == out / "ranged-tuned.yaml"
    tried = trials(out)
    assert [t["trial"] for t in tried] == [0, 1, 2]
    assert {t["state"] for t in tried} == {"complete"}
    assert all(1e-4 <= t["train.lr"] <= 1e-2 and t["train.epochs"] in (1, 2) for t in tried)
    assert {t["tasks.sst.losses"] for t in tried} <= {'["ce"]', '["ce", "oll"]'}
    assert len({t["train.lr"] for t in tried}) == 3
    best = max(tried, key=lambda t: t["score"])
    found = load_recipe(str(out / "ranged-tuned.yaml"))
    assert found.tune == {}
    assert found.train.seed == 3
    assert found.tasks["sts"].dev is not None
    assert found.tasks["sts"].dev.path == "not-there.csv"
    assert found.train.lr == pytest.approx(best["train.lr"], rel=1e-3)
    assert [loss.kind for loss in found.tasks["sst"].losses] == json.loads(best["tasks.sst.losses"])
    # The score is that of the best evaluation of a run with these settings on a slice of train.
    again = load_recipe(str(out / "ranged-tuned.yaml"), [f"tasks.{task}.dev=null" for task in found.tasks])
    start_run(again, folder / "again", SILENT)
    lines = [json.loads(line) for line in (folder / "again/metrics.jsonl").read_text().splitlines()]
    overall = [line["aggregates"]["overall"] for line in lines if "aggregates" in line]
    assert max(overall) == pytest.approx(best["score"])
    assert not list(out.rglob("*.safetensors"))


def test_trials_on_dev_are_scored_there(folder: Path):
    with pytest.raises(FileNotFoundError, match=r"not-there\.csv"):
        run_tuning(Tuning(ranged(folder), (), True, folder / "tuned"), 1, SILENT)


def test_a_stopped_tuning_resumes_to_the_same_trials(folder: Path, monkeypatch: pytest.MonkeyPatch):
    name = ranged(folder)
    run_tuning(Tuning(name, (), False, folder / "whole"), 3, SILENT)
    real, steps = Run.step, [0]

    def step(self: Run) -> Any:
        steps[0] += 1
        if steps[0] == 22:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    monkeypatch.setattr(Run, "step", step)
    parts = Tuning(name, (), False, folder / "parts")
    with pytest.raises(Stopped, match=r"^stopped in trial \d\. Go on with the same call\.$"):
        run_tuning(parts, 3, SILENT)
    assert "running" in {t["state"] for t in trials(parts.out)} or len(trials(parts.out)) < 3
    run_tuning(parts, 2, SILENT)
    assert len(trials(parts.out)) == 2
    run_tuning(parts, 3, SILENT)
    for file in ("trials.csv", "ranged-tuned.yaml"):
        assert (parts.out / file).read_bytes() == (folder / "whole" / file).read_bytes()
    ended = sum(len(p.read_text().splitlines()) for p in parts.out.rglob("timings.jsonl"))
    assert ended == steps[0]  # no step was repeated


def test_the_run_of_a_trial_is_not_continued_with_other_settings(folder: Path, monkeypatch: pytest.MonkeyPatch):
    tuning = Tuning(ranged(folder), (), False, folder / "tuned")
    real = Run.step
    monkeypatch.setattr(Run, "step", lambda self: os.kill(os.getpid(), signal.SIGTERM) or real(self))
    with pytest.raises(Stopped):
        run_tuning(tuning, 2, SILENT)
    begun = tuning.out / "trials/0/run/recipe.yaml"
    begun.write_text(begun.read_text().replace("lr: ", "lr: 1"))
    with pytest.raises(ValueError, match=r"trials/0: began with other settings\. Remove it, or give another folder\."):
        run_tuning(tuning, 2, SILENT)


def test_a_trial_below_the_median_is_pruned_and_the_best_score_counts(
    folder: Path, scored: Callable[[Callable[[int], list[float]]], None]
):
    heard = []

    def scores_of(number: int) -> list[float]:
        heard.append(number)
        # The last trial is below the median (0.5) only at its end, where pruning would save nothing.
        special = {5: [0.1, 0.9, 0.9], 6: [0.41, 0.55, 0.2]}
        return special.get(number, [0.2 + 0.1 * number, 0.5, 0.8 - 0.1 * number])

    scored(scores_of)
    run_tuning(Tuning(ranged(folder), (), False, folder / "tuned"), 7, SILENT)
    tried = trials(folder / "tuned")
    assert heard == list(range(7))
    assert [t["state"] for t in tried] == ["complete"] * 5 + ["pruned", "complete"]
    assert (
        sum(t["train.lr"] < 1e-3 for t in tried) >= 2
    )  # on a logarithmic scale, values below and above 1e-3 are equally likely
    assert [t["score"] for t in tried[:5]] == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.6])
    assert tried[6]["score"] == 0.55
    best = load_recipe(str(folder / "tuned/ranged-tuned.yaml"))
    assert best.train.lr == pytest.approx(tried[0]["train.lr"], rel=1e-3)
    storage = f"sqlite:///{folder / 'tuned/tune.db'}"
    reported = optuna.load_study(study_name="mtbert", storage=storage).trials[0].intermediate_values
    assert reported == {
        333: 0.2,
        667: 0.5,
    }  # steps are shares of the schedule, because trials may have different lengths


@pytest.mark.parametrize("memory", [True, False])
def test_a_trial_that_fails_is_reported_and_the_others_continue(
    folder: Path, scored: Callable[[Callable[[int], list[float]]], None], memory: bool
):
    def scores_of(number: int) -> list[float]:
        if number == 0:
            raise FloatingPointError("the loss is nan")
        if number == 2:
            raise ValueError("no such thing")
        if number == 3:
            raise MemoryError if memory else FileNotFoundError("no encoder there")
        return [0.5]

    scored(scores_of)
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115
    run_tuning(Tuning(ranged(folder), (), False, folder / "tuned"), 5, console)
    console.file.close()
    assert [t["state"] for t in trials(folder / "tuned")] == ["fail", "complete", "fail", "fail", "complete"]
    said = console.export_text()
    assert "trial 0, 1 of 5: failed: the loss is nan" in said
    assert "trial 1, 2 of 5: overall 0.5000" in said
    assert "trial 3, 4 of 5: failed: " + ("out of memory" if memory else "no encoder there") in said


def test_settings_that_do_not_go_together_fail_only_their_own_trial(
    folder: Path, scored: Callable[[Callable[[int], list[float]]], None]
):
    scored(lambda number: [0.5])
    ranges = {"train.mode": ["alternate", "joint"], "train.aggregation": ["pcgrad", "sum"]}
    run_tuning(Tuning(ranged(folder, ranges), (), False, folder / "tuned"), 8, SILENT)
    tried = trials(folder / "tuned")
    together = [(t["train.mode"], t["train.aggregation"]) == ("alternate", "pcgrad") for t in tried]
    assert any(together)
    assert [t["state"] for t in tried] == ["fail" if x else "complete" for x in together]


def test_the_best_recipe_is_written_even_after_a_kill(
    folder: Path, scored: Callable[[Callable[[int], list[float]]], None]
):
    scored(lambda number: [0.5])
    raw = yaml.safe_load(Path(ranged(folder)).read_text()) | {"control": "toy.yaml"}
    (folder / "ranged.yaml").write_text(yaml.safe_dump(raw))
    tuning = Tuning(str(folder / "ranged.yaml"), (), False, folder / "tuned")
    run_tuning(tuning, 1, SILENT)
    (tuning.out / "ranged-tuned.yaml").unlink()
    assert load_recipe(str(run_tuning(tuning, 1, SILENT))).control is None


@pytest.mark.parametrize("content", ["no data base", None])
def test_a_storage_that_is_damaged_or_gone_is_named(folder: Path, scored: Callable[..., None], content: str | None):
    scored(lambda number: [0.5])
    tuning = Tuning(ranged(folder), (), False, folder / "tuned")
    run_tuning(tuning, 1, SILENT)
    (tuning.out / "tune.db").unlink()
    if content is not None:
        (tuning.out / "tune.db").write_text(content * 100)
    with pytest.raises(ValueError, match=r"tuned/tune\.db: (damaged|not there).* or give another folder\."):
        run_tuning(tuning, 2, SILENT)


def test_a_second_tuning_in_a_folder_is_refused(folder: Path, scored: Callable[..., None]):
    scored(lambda number: [0.5])
    tuning = Tuning(ranged(folder), (), False, folder / "tuned")
    run_tuning(tuning, 1, SILENT)
    with locks.alone(tuning.out, "tune"), pytest.raises(ValueError, match="another mtbert tune is at work there"):
        run_tuning(tuning, 2, SILENT)
    assert len(trials(tuning.out)) == 1


def test_a_mistake_before_any_trial_ended_is_reported_at_once_and_can_be_corrected(folder: Path):
    data = folder / "data/sst.csv"
    right = data.read_text()
    data.write_text(right.replace("sentiment", "feeling"))
    tuning = Tuning(ranged(folder), (), False, folder / "tuned")
    with pytest.raises(ValueError, match="sentiment"):
        run_tuning(tuning, 1, SILENT)
    data.write_text(right)
    run_tuning(tuning, 1, SILENT)
    assert [t["state"] for t in trials(tuning.out)] == ["complete"]


def test_the_command_tunes_and_prints_the_best(folder: Path, scored: Callable[[Callable[[int], list[float]]], None]):
    scored(lambda number: [0.25 + number / 8])
    out = folder / "tuned"
    done = CliRunner().invoke(cli.app, ["tune", ranged(folder), "--trials", "2", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "trial 1, 2 of 2: overall 0.3750" in done.output
    assert "Best trials" in done.output
    assert done.output.splitlines()[-2:] == [
        f"done: the recipe with the best settings is {out}/ranged-tuned.yaml; all trials are in {out}/trials.csv",
        f"next: mtbert train {out}/ranged-tuned.yaml",
    ]


# Refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, r"ranged\.yaml: nothing to tune\. Add ranges, such as: tune: \{train\.lr: "),
        ({"train.lrr": [1, 2]}, r"^tune\.train\.lrr: 1 cannot be used\. .*Did you mean 'lr'\?"),
        ({"train.lr": [1e-3, -1.0]}, r"^tune\.train\.lr: -1\.0 cannot be used\. "),
        ({"train.epochs": {"low": 1, "high": 2.5}}, r"^tune\.train\.epochs: 2\.5 cannot be used\. "),
        ({"train.lr": {"low": 2, "high": 1}}, r"tune\.train\.lr: low must be less than high, found 2 and 1\."),
        ({"train.lr": {"low": 0, "high": 1, "log": True}}, r"tune\.train\.lr: with log low must be more than 0"),
        ({"train.lr": [1e-3]}, r"tune\.train\.lr"),
        ({"train.lr": 1e-3}, r"tune\.train\.lr"),
    ],
)
def test_ranges_that_cannot_be_used_are_refused(folder: Path, ranges: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        run_tuning(Tuning(ranged(folder, ranges), (), False, folder / "tuned"), 1, SILENT)
    assert not (folder / "tuned").exists()


def test_a_task_whose_dev_would_be_the_slice_of_train_is_refused(folder: Path):
    raw = yaml.safe_load(Path(ranged(folder)).read_text())
    del raw["tasks"]["quora"]["dev"]
    (folder / "ranged.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=r"ranged\.yaml, tasks\.quora: has no dev file, .*or give on_dev=True\."):
        run_tuning(Tuning(str(folder / "ranged.yaml"), (), False, folder / "tuned"), 1, SILENT)
    assert not (folder / "tuned").exists()


def test_a_folder_of_another_kind_is_left_alone(folder: Path, scored: Callable[..., None]):
    scored(lambda number: [0.5])
    name = ranged(folder)
    with pytest.raises(ValueError, match=r"data: exists and is no tuning\. Give another folder\."):
        run_tuning(Tuning(name, (), False, folder / "data"), 1, SILENT)
    tuning = Tuning(name, (), False, folder / "tuned")
    run_tuning(tuning, 1, SILENT)
    for other in (Tuning(name, ("train.seed=1",), False, tuning.out), Tuning(name, (), True, tuning.out)):
        with pytest.raises(ValueError, match=r"has other settings, ranges or data to score on\."):
            run_tuning(other, 2, SILENT)
    (folder / "moved").mkdir()
    run_tuning(
        Tuning(name, (f"data.root={folder / 'moved'}",), False, tuning.out), 2, SILENT
    )  # moved files are accepted
    assert len(trials(tuning.out)) == 2


def test_a_missing_optuna_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mtbert.studying.tuning.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r'Run: pip install "mtbert\[tune\]" \(mtbert docs install\)$'):
        run_tuning(Tuning(ranged(folder), (), False, folder / "tuned"), 1, SILENT)
    assert importlib.util.find_spec("optuna") is not None


def test_the_time_left_is_never_negative_where_an_older_trial_is_taken_over():
    bar = TrialBar(SILENT, 10)
    bar.begins(5)
    bar.at(5, 0.5)
    assert (bar._line()[:12], "-" in bar._line()) == ("trial 5: 50%", False)
    bar.begins(2)
    bar.at(2, 0.25)
    assert (bar._line()[:12], "-" in bar._line()) == ("trial 2: 25%", False)
    assert bar.done == 5.5
