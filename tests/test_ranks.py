"""A study whose metric ranks examples: its statistics read logits, not the decisions made from them."""

import sys
from pathlib import Path

import pytest
import torch
import toy_run
from tiny import RECORD

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import answers
from mtbert.batch import Example, Examples
from mtbert.recipe.files import load_recipe
from mtbert.storage.predictions import Predicted
from mtbert.studying import results
from mtbert.studying.results import DevData, EndedRun, Outline, Results
from mtbert.studying.summary import summarise
from mtbert.task import Task

YES_NO = Task(name="quora", type="binary", inputs="packed", labels=("0", "1"))
LABELS = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
LOGITS = [1.0, 3.0, 2.0, 2.5, 1.5, 4.0]  # all above 0, so that all answers are the same; 5 of 9 pairs are in order


@pytest.fixture
def study(tmp_path: Path) -> Results:
    """A study that consists of a single run, of one task whose metric is ``auc``."""
    settings = load_recipe(
        str(toy_run.set_up(tmp_path)), ["tasks.quora.metric=auc", "tasks.sst=null", "tasks.sts=null"]
    )
    raw = torch.tensor(LOGITS)
    scores = {"metrics": {"auc": 5 / 9}, "baseline": {"auc": 0.5}, "collapsed": True, "examples": 6}
    logged = [{"step": 1, "evaluation": {"quora": scores}}]
    one = EndedRun("plain", 0, settings, RECORD, {"quora": Predicted(raw, (raw > 0).long())}, 1, logged, 1.0, Path())
    examples = Examples.of(Example(f"q{i}", ("a", "b"), label) for i, label in enumerate(LABELS))
    outline = Outline(rows={"plain": None}, sources={"plain": "toy"}, seeds=(0,), reference="plain", threads=1)
    return Results(outline, {"quora": DevData(YES_NO, "auc", 10, examples)}, {"plain": {0: one}}, [], [])


def test_a_study_chosen_by_auc_scores_the_logits_and_is_silent_about_resamples_without_a_yes(study: Results):
    found = summarise(study)
    assert found.rows["plain"].scores["quora"].mean == pytest.approx(5 / 9)
    assert found.baseline["quora"] == 0.5
    low, high = found.rows["plain"].scores["quora"].interval
    assert low < 5 / 9 - 0.1
    assert high > 5 / 9 + 0.1


def test_answers_must_give_the_auc_that_their_run_logged(study: Results):
    run, dev = study.runs["plain"][0], study.dev["quora"]
    assert results._answers(dev, run.predicted["quora"], run)
    turned = Predicted(-run.predicted["quora"].prediction, run.predicted["quora"].decision)
    assert not results._answers(dev, turned, run)
    unknown = Predicted(torch.full((6,), torch.nan), run.predicted["quora"].decision)
    assert not results._answers(dev, unknown, run)


def test_answers_without_logits_are_not_packed_where_the_metric_reads_them(study: Results, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^task quora: metric auc reads logits, and answers alone are packed\.$"):
        answers.pack(study, tmp_path / "packed.npz")
    assert not (tmp_path / "packed.npz").exists()
