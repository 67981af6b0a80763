"""The decisions of a run: the threshold between yes and no, the metric that selects, the likelihood of a task."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import toy_run
from one_step import backward
from rich.console import Console

from mtbert import scoring
from mtbert.batch import Dataset
from mtbert.model.model import Model
from mtbert.recipe.settings import validate_recipe
from mtbert.task import Head, Task
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

folder = toy_run.shared_folder

SILENT = Console(quiet=True)
COSINE = {"quora": {"inputs": "separate", "head": "cosine", "losses": ["mse"]}}


def run_of(folder: Path, tasks: dict[str, Any], **train: Any) -> Run:
    """Returns a toy run that has only the given tasks, with these changes."""
    raw = toy_run.raw_recipe(folder, **train)
    raw["tasks"] = {name: raw["tasks"][name] | changes for name, changes in tasks.items()}
    settings = validate_recipe(raw, "toy")
    return assemble(settings).run()


# Yes and no ------------------------------------------------------------------------------------------


def best_threshold(model: Model, data: Dataset) -> float:
    """Returns the middle of the first gap between cosines that separates the labels best; tries all gaps."""
    cosines = scoring.predict_examples(model, data).double().numpy()
    labels = data.examples.labels
    edges = np.sort(cosines)
    middles = [-2.0, *((low + high) / 2 for low, high in pairwise(edges)), 2.0]
    return max(middles, key=lambda t: int(((cosines > t) == labels).sum()))


@pytest.mark.parametrize("held_out", [0.3, 0.0])
@pytest.mark.parametrize("predicts", [True, False])
def test_the_threshold_is_fitted_on_held_out_rows_with_the_model_that_predicts_and_decides_with_it(
    folder: Path, predicts: bool, held_out: float
):
    tasks = {"quora": COSINE["quora"] | {"losses": ["mse", "bregman"], "dev_fraction": 0.5}}
    run = run_of(folder, tasks, ema={"decay": 0.9, "predicts": predicts}, lr=0.01, held_out=held_out)
    for _ in range(4):
        run.step()
    assert run.ema is not None
    train, dev = run.data["quora"].held_out or run.data["quora"].train, run.data["quora"].dev
    predictor, other = (run.ema, run.model) if predicts else (run.model, run.ema)
    expected = best_threshold(predictor, train)
    assert expected != pytest.approx(best_threshold(predictor, dev), abs=1e-5)
    assert expected != pytest.approx(best_threshold(other, train), abs=1e-5)
    run.evaluate(lambda _: None)
    raw, decided = run.predicted["quora"].prediction, run.predicted["quora"].decision
    assert threshold(predictor) == pytest.approx(expected, abs=1e-6)
    assert threshold(other) == 0.5
    assert decided.tolist() == (raw > expected).long().tolist()
    assert decided.tolist() != (raw > 0.5).long().tolist()


def threshold(model: Model) -> float:
    return float(model.head("quora").threshold)


def test_the_answer_is_yes_if_yes_is_more_probable_than_no():
    task = Task(name="t", type="binary", inputs="single", labels=("no", "yes"))
    made, logits = tiny.model(task), torch.tensor([-1e-3, 0.0, 1e-3, 0.4])
    assert scoring.decide(made, task, logits).tolist() == [0, 0, 1, 1]
    answers = scoring.decode(made, task, logits)
    assert [a["label"] for a in answers] == ["no", "no", "yes", "yes"]
    assert all((a["p(yes)"] > 0.5) == (a["label"] == "yes") for a in answers)


# The best model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "best", "stale"), [("accuracy", 0.5, 1), ("macro_f1", 0.375, 0)])
def test_the_tasks_own_metric_chooses_the_best_model(
    folder: Path, metric: str, best: float, stale: int, monkeypatch: pytest.MonkeyPatch
):
    scores = iter([{"accuracy": 0.5, "macro_f1": 0.25}, {"accuracy": 0.25, "macro_f1": 0.375}])
    monkeypatch.setattr(scoring, "evaluate_predicted", lambda *_: scoring.Evaluation(next(scores), {}, False, 1))
    run = run_of(folder, {"sst": {"metric": metric}})
    run.evaluate(lambda _: None)
    assert run.best.since == 0
    run.evaluate(lambda _: None)
    assert (run.best.score, run.best.since) == (best, stale)


# The likelihood of a task --------------------------------------------------------------------------------


def test_a_cosine_has_a_gaussian_likelihood_whatever_the_type_of_its_task(folder: Path):
    tasks = COSINE | {"sst": {"losses": ["ce"]}, "sts": {"losses": ["mse"]}}
    run = run_of(folder, tasks, weighting="uncertainty")
    parts, _ = run._draw()
    tally = backward(run.objective, parts)
    # The derivative of factor * exp(-s) * loss + s / 2 at s = 0; the factor is 1/2 for a Gaussian, 1 for classes.
    for name, loss, factor in (("quora", "mse", 0.5), ("sts", "mse", 0.5), ("sst", "ce", 1.0)):
        slope = run.objective.log_variance[f"for_{name}"].grad
        assert slope is not None
        assert slope.item() == pytest.approx(0.5 - factor * tally.losses[f"{name}.{loss}"], rel=1e-5)


def test_a_cosine_that_is_a_score_gets_no_threshold():
    task = Task(name="quora", type="regression", inputs="separate", range=(0.0, 5.0), head=Head(kind="cosine"))
    made, data = tiny.model(task), tiny.dataset(task, [2, 3, 4], labels=[0.0, 1.0, 5.0])
    scoring.fit_answers(made, [(data, np.arange(3))])
    assert made.head("quora").state_dict() == {}
    assert scoring.decide(made, task, torch.tensor([0.25, 1.5])).tolist() == [0.25, 1.5]
