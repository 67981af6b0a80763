"""The rows that are held out of train for thresholds and calibration: which they are, what is fitted, what is saved."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run

from mtbert import dev_rows, metrics, scoring
from mtbert.answers.calibration import TEMPERATURE_OF_CLASSES
from mtbert.answers.fitting import row_weights
from mtbert.batch import TaskRows
from mtbert.model.model import Model
from mtbert.prepare import Prepared
from mtbert.processes import Processes
from mtbert.recipe.identity import identity
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

folder = toy_run.shared_folder


def raw(folder: Path, names: tuple[str, ...] = ("sst", "quora"), **train: Any) -> dict[str, Any]:
    recipe = toy_run.raw_recipe(folder, **({"lr": 0.01} | train))
    recipe["tasks"] = {name: recipe["tasks"][name] for name in names}
    return recipe


def run_of(recipe: dict[str, Any]) -> Run:
    return assemble(validate_recipe(recipe, "toy")).run()


def texts(data: Any) -> set[str]:
    return {text for column in data.examples.texts for text in column}


def numbers(run: Run, name: str) -> dict[str, torch.Tensor]:
    return {key: number.clone() for key, number in run.predictor.fitted(name).items()}


def ids(one: Prepared) -> list[list[str]]:
    assert one.held_out is not None
    return [list(data.examples.ids) for data in (one.train, one.held_out, one.dev)]


# Which rows ---------------------------------------------------------------------------------------------------


def test_held_out_rows_are_a_tenth_of_train_and_share_no_text_with_the_rest(folder: Path):
    run = run_of(raw(folder, calibrate=True))
    for name, rows in (("sst", 40), ("quora", 60)):
        one = run.data[name]
        assert one.held_out is not None
        train, held_out, dev = ids(one)
        assert sorted(train + held_out + dev) == sorted(set(train + held_out + dev))
        assert len(train + held_out + dev) == rows
        assert len(held_out) == pytest.approx(0.1 * len(train + held_out), abs=1)
        assert not texts(one.held_out) & (texts(one.train) | texts(one.dev))
        assert all(stream.size == len(run.data[stream.name].train) for stream in run.streams)


def test_at_most_so_many_rows_are_held_out(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dev_rows, "MOST_HELD_OUT", 3)
    one = run_of(raw(folder, ("sst",), calibrate=True, held_out=0.5)).data["sst"]
    assert one.held_out is not None
    assert len(one.held_out) == 3


def test_the_seed_of_dev_draws_them_and_the_seed_of_training_does_not(folder: Path):
    first = ids(run_of(raw(folder, ("sst",), calibrate=True, seed=0)).data["sst"])
    assert ids(run_of(raw(folder, ("sst",), calibrate=True, seed=1)).data["sst"]) == first
    recipe = raw(folder, ("sst",), calibrate=True) | {}
    recipe["tasks"]["sst"] |= {"dev": "sst.csv", "dev_seed": 0}
    a = ids(run_of(recipe).data["sst"])
    recipe["tasks"]["sst"]["dev_seed"] = 1
    assert ids(run_of(recipe).data["sst"])[1] != a[1]


def test_nothing_is_held_out_of_a_source_that_fits_nothing(folder: Path):
    plain = run_of(raw(folder))
    assert all(one.held_out is None for one in plain.data.values())
    cosine = raw(folder)
    cosine["tasks"]["quora"] |= {"inputs": "separate", "head": "cosine", "losses": ["mse"]}
    made = run_of(cosine)
    assert made.data["sst"].held_out is None
    assert list(made.data["sst"].train.examples.ids) == list(plain.data["sst"].train.examples.ids)
    assert made.data["quora"].held_out is not None
    assert run_of(cosine | {"train": cosine["train"] | {"held_out": 0}}).data["quora"].held_out is None


def test_all_tasks_of_a_table_hold_the_same_rows_out(folder: Path):
    recipe = raw(folder, ("sst",), calibrate=True)
    settings = recipe["tasks"].pop("sst")
    recipe["tables"] = {"films": {"train": "sst.csv", "columns": {"id": "id", "text": "sentence"}}}
    task = {"table": "films", "inputs": "single", "label": "sentiment"}
    recipe["tasks"] = {
        "stars": task | {"type": settings["type"]},
        "score": task | {"type": "regression"},
        "kind": task | {"type": "classification"},
    }
    data = run_of(recipe).data
    assert ids(data["stars"]) == ids(data["kind"])
    assert data["score"].held_out is None
    assert list(data["score"].train.examples.ids) == list(data["stars"].train.examples.ids)
    assert data["stars"].held_out is not None
    assert data["kind"].held_out is not None
    assert data["stars"].held_out.sequences is data["kind"].held_out.sequences


def test_rows_that_all_share_texts_cannot_be_held_out(folder: Path):
    lines = ["id,sentence,sentiment", *(f"x{i},good film,{i % 5}" for i in range(20))]
    (folder / "data/same.csv").write_text("\n".join(lines) + "\n")
    recipe = raw(folder, ("sst",), calibrate=True)
    recipe["tasks"]["sst"] |= {"train": "same.csv", "dev": "sst.csv"}
    said = "same.csv: no rows can be held out of train for thresholds or calibration, because all 20 rows share texts."
    with pytest.raises(ValueError, match=re.escape(said)):
        run_of(recipe)
    del recipe["tasks"]["sst"]["dev"]
    recipe["tasks"]["sst"]["dev_split"] = "rows"  # then these rows are drawn like dev
    data = run_of(recipe).data["sst"]
    assert data.held_out is not None
    assert (len(data.train), len(data.held_out), len(data.dev)) == (16, 2, 2)


# Fitting ------------------------------------------------------------------------------------------------------


def test_dev_is_never_read_by_what_is_fitted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[tuple[str, ...]] = []
    fit = scoring.fit_answers

    def watched(model: Model, parts: Sequence[TaskRows], processes: Processes) -> None:
        read.extend(tuple(data.examples.ids[i] for i in rows) for data, rows in parts)
        fit(model, parts, processes)

    monkeypatch.setattr(scoring, "fit_answers", watched)
    run = run_of(raw(folder, calibrate=True, held_out=0.4))
    for _ in range(3):
        run.step()
    run.evaluate(lambda _: None)
    before = {name: numbers(run, name) for name in run.data}
    assert sorted(read) == sorted(tuple(ids(one)[1]) for one in run.data.values())
    for one in run.data.values():  # other labels of dev change nothing
        one.dev.examples.labels[:] = one.dev.examples.labels[::-1].copy()
    run.evaluate(lambda _: None)
    for name, fitted in before.items():
        assert {key: x.tolist() for key, x in numbers(run, name).items()} == {k: x.tolist() for k, x in fitted.items()}
    held_out = run.data["sst"].held_out  # other labels of held-out rows do
    assert held_out is not None
    held_out.examples.labels[:] = scoring.predict_examples(run.predictor, held_out).argmax(1).numpy()
    run.evaluate(lambda _: None)
    assert numbers(run, "sst")["scale"] > 2 * before["sst"]["scale"]


@pytest.mark.parametrize("predicts", [True, False])
def test_what_is_fitted_belongs_to_the_weights_that_are_scored(folder: Path, predicts: bool):
    recipe = raw(folder, ("sst",), calibrate=True, held_out=0.5, ema={"decay": 0.9, "predicts": predicts})
    recipe["tasks"]["sst"]["losses"] = ["ce", "bregman"]
    run = run_of(recipe)
    for _ in range(4):
        run.step()
    run.evaluate(lambda _: None)
    assert run.ema is not None
    scored, other = (run.ema, run.model) if predicts else (run.model, run.ema)
    assert scored.fitted("sst")["scale"] != 1
    assert other.fitted("sst")["scale"] == 1
    held_out = run.data["sst"].held_out
    assert held_out is not None
    scale = scored.fitted("sst")["scale"].clone()
    scoring.fit_answers(scored, [(held_out, np.arange(len(held_out)))])
    assert scored.fitted("sst")["scale"] == scale


def test_a_temperature_changes_no_answer_and_lowers_the_loss_on_held_out_rows(folder: Path):
    found = []
    for calibrate in (False, True):
        run = run_of(raw(folder, ("sst",), calibrate=calibrate, held_out=0.5))
        for _ in range(3):
            run.step()
        run.evaluate(lambda _: None)
        found.append(run)
    run = found[1]
    predicted = run.predicted["sst"]
    assert predicted.calibrated is not None
    assert predicted.decision.tolist() == predicted.prediction.argmax(1).tolist()
    scale = run.predictor.fitted("sst")["scale"]
    assert torch.equal(predicted.calibrated, predicted.prediction * scale)
    assert abs(float(scale) - 1) > 1e-3
    sst, scores = run.data["sst"], scoring.evaluate_predicted(run.data["sst"].dev, predicted).metrics
    for name in ("nll", "ece"):
        calibrated, labels = predicted.calibrated.numpy(), sst.dev.examples.labels
        assert scores[name] == metrics.value(sst.task, name, calibrated, labels)
        assert scores[name] != metrics.value(sst.task, name, predicted.prediction.numpy(), labels)
    assert found[0].predicted["sst"].calibrated is None


# Recipes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "train", "said"),
    [
        ({}, {"calibrate": True, "held_out": 0}, "train.calibrate needs held-out rows, found train.held_out 0."),
        ({}, {"calibrate": "isotonic"}, "train.calibrate: 'isotonic' is for yes/no tasks, found none."),
        ({"type": "regression"}, {"calibrate": True}, "train.calibrate: no task gives probabilities"),
        ({}, {"calibrate": "platt"}, "train.calibrate: must be false, true or 'isotonic', found \"platt\""),
        ({}, {"held_out": 1}, "train.held_out"),
    ],
)
def test_a_recipe_that_cannot_be_calibrated_is_refused(folder: Path, tasks: Any, train: Any, said: str):
    recipe = raw(folder, ("sst",), **train)
    recipe["tasks"]["sst"] |= tasks | ({"losses": ["mse"]} if tasks else {})
    with pytest.raises(ValueError, match=re.escape(said)):
        validate_recipe(recipe, "toy")


def test_the_digest_of_a_recipe_names_the_held_out_share_only_where_rows_are_held_out(folder: Path):
    def digest(*tasks: str, **train: Any) -> str:
        return identity(validate_recipe(raw(folder, tasks, **train), "toy"))

    assert digest("sst") == digest("sst", held_out=0) == digest("sst", held_out=0.3)
    assert len({digest("sst", calibrate=True), digest("sst", calibrate=True, held_out=0.3), digest("sst")}) == 3


# Weights and few rows ---------------------------------------------------------------------------------------


def weighted(folder: Path, of: Callable[[str], float], **train: Any) -> dict[str, Any]:
    """Returns a recipe whose task reads the toy's sentences, each with the weight that ``of`` gives to its id."""
    header, *lines = (folder / "data/sst.csv").read_text().splitlines()
    rows = [f"{header},w", *(f"{line},{of(line.partition(',')[0])}" for line in lines)]
    (folder / "data/weighted.csv").write_text("\n".join(rows) + "\n")
    recipe = raw(folder, ("sst",), calibrate=True, **train)
    recipe["tasks"]["sst"] |= {"train": "weighted.csv"}
    recipe["tasks"]["sst"]["columns"] |= {"weight": "w"}
    return recipe


def test_held_out_rows_count_by_their_weights(folder: Path):
    run = run_of(weighted(folder, lambda row: 1 + int(row[1:]) % 3, held_out=0.5))
    for _ in range(3):
        run.step()
    run.evaluate(lambda _: None)
    held_out = run.data["sst"].held_out
    assert held_out is not None
    examples, logits_BK = held_out.examples, scoring.predict_examples(run.predictor, held_out).double().numpy()
    assert examples.weights is not None
    assert sorted(set(examples.weights)) == [1, 2, 3]
    (scale,) = TEMPERATURE_OF_CLASSES.fit(logits_BK, examples.labels, row_weights(len(examples), examples.weights))
    assert run.predictor.fitted("sst")["scale"].item() == pytest.approx(float(scale), abs=1e-4)
    (unweighted,) = TEMPERATURE_OF_CLASSES.fit(logits_BK, examples.labels, np.ones(len(examples)))
    assert abs(scale - unweighted) > 1e-3


def test_held_out_rows_whose_weights_are_all_0_are_refused(folder: Path):
    held_out = set(ids(run_of(weighted(folder, lambda _: 1)).data["sst"])[1])
    said = (
        f"none of the {len(held_out)} held-out rows has a label of task sst and a weight above 0. Raise train.held_out"
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        run_of(weighted(folder, lambda row: float(row not in held_out)))


def test_a_run_warns_of_numbers_that_too_few_rows_are_held_out_for(folder: Path):
    few = run_of(raw(folder, calibrate=True)).data
    assert [one.warnings for one in few.values()] == [
        (
            "4 held-out rows: a calibration needs 10, so probabilities stay as they are. Raise train.held_out, or drop "
            "train.calibrate.",
        ),
        (
            "5 held-out rows: a calibration needs 10, so probabilities stay as they are. Raise train.held_out, or drop "
            "train.calibrate.",
        ),
    ]
    assert all(not one.warnings for one in run_of(raw(folder, calibrate=True, held_out=0.5)).data.values())
    assert all(not one.warnings for one in run_of(raw(folder)).data.values())
