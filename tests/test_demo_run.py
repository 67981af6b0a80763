"""The demo learns its tasks in four fifths of its steps: real MiniLM weights, generated data, one minute."""

import bag_of_words
import pytest
from rich.console import Console

from mtbert import load
from mtbert.recipe.files import load_recipe
from mtbert.training.start import start_run


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder and the last scores of a run of the shipped demo."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    # One thread, because other tests use the other cores. After 75 rounds quora is not learnt yet, after 110 it is.
    settings = load_recipe("demo", ["train.threads=1", "train.rounds=120"])
    return out, start_run(settings, out, Console(quiet=True))


@pytest.mark.real
@pytest.mark.parametrize(("task", "metric"), [("sst", "accuracy"), ("quora", "accuracy"), ("sts", "pearson")])
def test_the_trained_encoder_is_clearly_better_than_a_bag_of_words(task: str, metric: str, demo):
    scores = demo[1].evaluations
    assert scores[task].metrics[metric] > bag_of_words.score(task) + 0.1
    assert not scores[task].collapsed


@pytest.mark.real
def test_the_trained_demo_reads_a_sentence_and_not_its_words(demo):
    model = load(demo[0])
    good = "Although the acting is dull, the film is superb."
    bad = "Although the acting is superb, the film is dull."
    high, low = (int(answer["label"]) for answer in model.predict("sst", [good, bad]))
    assert high > low
