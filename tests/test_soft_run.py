"""Runs on soft labels and on weighted rows: steps, training, scores, data check and report."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import torch
import toy_run
import yaml
from commands import Mtbert
from one_step import backward
from rich.console import Console

from mtbert.batch import Examples
from mtbert.prepare import settled
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.training.start import start_run

mtbert = commands.mtbert
folder = toy_run.shared_folder

STARS = ["0", "1", "2", "3", "4"]


@pytest.fixture(scope="module")
def soft_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder and a table of votes, distributions, shares of yes and weights."""
    folder = tmp_path_factory.mktemp("soft")
    toy_run.set_up(folder)
    rng = np.random.default_rng(0)
    with (folder / "data/soft.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "ratings", "neg", "neu", "pos", "toxic", "w", "gold"])
        for i in range(48):
            good = i % 2 == 0
            text = f"{'good' if good else 'bad'} {rng.choice(toy_run.WORDS)} {i}"
            votes = rng.choice(STARS[3:] if good else STARS[:3], 4).tolist()
            shares = [0.1, 0.2, 0.7] if good else [0.7, 0.2, 0.1]
            out.writerow([text, json.dumps(votes), *shares, 0.1 if good else 0.8, i % 4, "4" if good else "0"])
    return folder


def raw(folder: Path, **train: Any) -> dict[str, Any]:
    table = {"train": "soft.csv", "batch_size": 8, "dev_fraction": 0.25}
    of = {"inputs": "single", "table": "soft", "head": {"dropout": 0.0}}
    balanced = [{"kind": "ce", "class_weights": "balanced"}]
    return {
        "data": {"root": str(folder / "data")},
        "model": {"path": str(folder / "encoder"), "max_length": 24, "dropout": 0.0},
        "tables": {"soft": table},
        "tasks": {
            "stars": of
            | {
                "type": "ordinal",
                "labels": STARS,
                "columns": {"votes": "ratings", "weight": "w"},
                "losses": ["ce", "oll"],
            },
            "mood": of | {"type": "classification", "columns": {"shares": ["neg", "neu", "pos"]}, "losses": balanced},
            "toxic": of
            | {"type": "binary", "labels": ["no", "yes"], "columns": {"shares": "toxic", "weight": "w"}}
            | {"losses": ["bce", {"kind": "smart", "weight": 1.0}]},
        },
        "train": {"epochs": 3, "lr": 0.003, "threads": 1, "precision": "fp32"} | train,
    }


@pytest.fixture(scope="module")
def trained(soft_folder: Path) -> Path:
    """The same folder with a recipe, ``mine.yaml``, and a finished run of it, ``run``."""
    (soft_folder / "mine.yaml").write_text(yaml.safe_dump(raw(soft_folder, epochs=8, lr=0.01), sort_keys=False))
    start_run(load_recipe(str(soft_folder / "mine.yaml")), soft_folder / "run", Console(quiet=True))
    return soft_folder


# Steps ------------------------------------------------------------------------------------------------------


def run_of(folder: Path, **train: Any) -> Run:
    made = assemble(validate_recipe(raw(folder, clip=None, **train), "toy"))
    made.model.double()
    return made.run()


def gradients(run: Run) -> dict[str, torch.Tensor]:
    parts, _ = run._draw()
    backward(run.objective, parts)
    return {n: p.grad.to_dense().clone() for n, p in run.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("budget", [1, 40])
def test_a_step_of_weighted_rows_has_the_same_gradient_in_one_pass_and_in_many(soft_folder: Path, budget: int):
    one, many = (gradients(run_of(soft_folder, token_budget=b)) for b in (None, budget))
    assert one.keys() == many.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(many[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


def test_a_step_weights_its_rows_as_a_slow_sum_does(soft_folder: Path):
    raw_one = raw(soft_folder, clip=None)
    raw_one["tasks"] = {"stars": raw_one["tasks"]["stars"] | {"losses": ["ce"]}}
    made = assemble(validate_recipe(raw_one, "toy"))
    made.model.double()
    run = made.run()
    ((data, rows),), _ = run._draw()
    assert data.examples.weights is not None
    tally = backward(run.objective, [(data, rows)])
    weights = data.examples.weights[rows]
    each = [backward(run.objective, [(data, rows[[i]])]).losses["stars.ce"] for i in np.flatnonzero(weights)]
    assert tally.losses["stars.ce"] == pytest.approx(weights[weights > 0] @ each / weights.sum(), rel=1e-6)


def weighted(run: Run, weights: list[float]) -> tuple[Any, np.ndarray]:
    """Returns the data of the first task of a run with other weights of its first rows, and these rows."""
    ((data, _), *_), _ = run._draw()
    rows = np.arange(len(weights))
    found = np.ones(len(data))
    found[rows] = weights
    old = data.examples
    object.__setattr__(data, "examples", Examples(old.ids, old.texts, old.labels, found, old.votes))
    return data, rows


@pytest.mark.parametrize("scale", [1e-90, 1e60])
def test_only_the_ratios_of_weights_matter(soft_folder: Path, scale: float):
    run = run_of(soft_folder)
    data, rows = weighted(run, [1.0, 2.0, 0.5])
    one = backward(run.objective, [(data, rows)]).losses["stars.ce"]
    data, rows = weighted(run, [scale, 2 * scale, 0.5 * scale])
    assert backward(run.objective, [(data, rows)]).losses["stars.ce"] == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("train", [{}, {"token_budget": 1}, {"weighting": "uncertainty"}])
def test_a_step_whose_rows_all_have_weight_0_trains_nothing_of_the_task(soft_folder: Path, train: dict[str, Any]):
    run = run_of(soft_folder, **train)
    data, rows = weighted(run, [0.0, 0.0])
    tally = backward(run.objective, [(data, rows)])
    assert tally.losses == {"stars.ce": 0.0, "stars.oll": 0.0}
    assert all(p.grad is None or not p.grad.to_dense().any() for p in run.model.parameters())


def test_balanced_class_weights_count_expected_rows(soft_folder: Path):
    made = assemble(validate_recipe(raw(soft_folder), "toy"))
    labels = made.data["mood"].train.examples.labels
    counts = labels.sum(0)
    (loss,) = settled(validate_recipe(raw(soft_folder), "toy"), made.data).tasks["mood"].losses
    assert loss.class_weights == pytest.approx((len(labels) / (3 * counts)).tolist(), rel=1e-12)
    assert len(set(loss.class_weights)) > 1


# Commands ---------------------------------------------------------------------------------------------------


def test_soft_labels_train_and_are_scored_told_and_studied(trained: Path, mtbert: Mtbert):
    scored = json.loads(mtbert("evaluate", trained / "run", "--json").out)["tasks"]
    for one in scored.values():
        assert one["metrics"]["cross_entropy"] < one["constant"]["cross_entropy"]
    assert scored["toxic"]["metrics"]["accuracy"] == 1.0
    assert scored["mood"]["classes"][1]["examples"] == 0
    report = mtbert("report", trained / "run")
    assert report.code == 0, report
    answered = mtbert("predict", trained / "run", "--task", "mood", "--input", trained / "data/soft.csv")
    assert answered.code == 0
    hard = mtbert(
        *("evaluate", trained / "run", "--task", "stars", "--split", trained / "data/soft.csv", "--json"),
        *("--set", "tasks.stars.columns.votes=null", "--set", "tasks.stars.columns.label=gold"),
    )
    assert hard.code == 0, hard
    assert "cross_entropy" not in json.loads(hard.out)["tasks"]["stars"]["metrics"]
    soft = mtbert(
        *("evaluate", trained / "run", "--task", "stars", "--split", trained / "data/soft.csv", "--json"),
    )
    assert "cross_entropy" in json.loads(soft.out)["tasks"]["stars"]["metrics"]


def test_logs_scores_and_reports_name_the_same_measures_of_soft_labels(trained: Path, mtbert: Mtbert):
    names = ["accuracy", "macro_f1", "ece", "cross_entropy"]
    run = trained / "run"
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line["evaluation"] for line in logged if "evaluation" in line]
    assert evaluations
    assert all(list(one["mood"]["metrics"]) == list(one["mood"]["baseline"]) == names for one in evaluations)
    scores = json.loads(mtbert("evaluate", run, "--json").out)["tasks"]["mood"]
    assert list(scores["metrics"]) == list(scores["constant"]) == names
    printed = mtbert("evaluate", run, "--task", "mood").out
    assert [name for name in (*names, "nll") if name in printed] == names
    assert mtbert("report", run).code == 0
    page = (run / "report.html").read_text()
    assert not re.search(r"\bnll\b", page)  # within a word it may be part of an id


def test_data_check_tells_votes_and_agreement(trained: Path, mtbert: Mtbert):
    done = mtbert("data", "check", trained / "mine.yaml")
    assert done.code == 0, done
    assert "most voted label" in done.out
    assert re.search(r"agreement, mean +0\.7 +0\.7", done.out)  # that of mood
    assert re.search(r"votes, mean +4 +4", done.out)


def test_a_distribution_that_does_not_sum_to_1_is_one_line(trained: Path, mtbert: Mtbert):
    (trained / "data/wrong.csv").write_text("text,neg,neu,pos\none,0.5,0.2,0.2\n")
    done = mtbert("evaluate", trained / "run", "--task", "mood", "--split", trained / "data/wrong.csv")
    assert done.code == 2
    assert "line 2, column 'neg, neu, pos': shares must sum to 1, found 0.5, 0.2, 0.2" in done.err.replace("\n", " ")
