"""The order of predictions, readable answers, and the threshold of a cosine.

Dimension key: B examples.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CPU, dataset, model

from mtbert import scoring
from mtbert.answers.binary import Logit
from mtbert.answers.fitting import Fits
from mtbert.answers.heads import OUTPUTS
from mtbert.answers.known import ANSWER_TYPES
from mtbert.answers.thresholds import most_accurate
from mtbert.batch import Rows
from mtbert.collate import collate
from mtbert.model.model import Model
from mtbert.scoring import decide, decode, evaluate_model, fit_answers, predict_examples
from mtbert.task import Task

ORDINAL = Task(name="o", type="ordinal", inputs="single", labels=("bad", "so so", "good"))
BINARY = Task(name="b", type="binary", inputs="packed", labels=("no", "yes"))
SCORE = Task(name="s", type="regression", inputs="separate", range=(1, 5))
COSINE = Task.model_validate(
    {"name": "c", "type": "binary", "inputs": "separate", "head": "cosine", "labels": ("no", "yes")}
)
LENGTHS = [7, 2, 9, 2, 12, 1, 5, 3, 7, 40]


@pytest.fixture(scope="module")
def made() -> Model:
    return model(ORDINAL, BINARY, SCORE, COSINE)


@pytest.mark.parametrize("tokens", [1, 10, 25, 4096])
@pytest.mark.parametrize("task", [ORDINAL, SCORE], ids=["one text", "separate pair"])
def test_predictions_come_back_in_order_whatever_the_lengths_and_the_batches(made, task, tokens, monkeypatch):
    data = dataset(task, LENGTHS, LENGTHS[::-1]) if task is SCORE else dataset(task, LENGTHS)
    with torch.no_grad():
        alone = [made(collate([(data, np.array([i]))], CPU))[task.name].prediction for i in range(len(data))]
    monkeypatch.setattr(scoring, "TOKENS", tokens)
    told: list[int] = []
    torch.testing.assert_close(predict_examples(made, data, told.append), torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert sum(told) == len(data)
    assert len(told) == {1: 10, 4096: 1}.get(tokens, len(told))


def test_no_batch_but_a_single_example_is_over_the_limit():
    chunks = list(scoring._chunks(np.array([1, 4, 5, 1, 9, 11, 3]), 10))
    assert chunks == [slice(0, 3), slice(3, 5), slice(5, 6), slice(6, 7)]
    assert list(scoring._chunks(np.array([], dtype=np.int64), 10)) == []


def test_vectors_come_back_in_order_one_for_each_sequence(made):
    data = dataset(SCORE, LENGTHS, LENGTHS[::-1])
    u_BD, v_BD = scoring.pooled_vectors(made, data)
    with torch.no_grad():
        out = made(collate([(data, np.array([4]))], CPU))["s"]
    torch.testing.assert_close((u_BD[4:5], v_BD[4:5]), out.vectors, rtol=1e-4, atol=1e-5)


def test_classes_are_answered_with_probabilities_that_sum_to_1(made):
    first, second = decode(made, ORDINAL, torch.tensor([[0.0, math.log(2), 0.0], [3.0, -1.0, 1e4]]))
    assert first == {"label": "so so", "p(bad)": 0.25, "p(so so)": pytest.approx(0.5), "p(good)": 0.25}
    assert second == {"label": "good", "p(bad)": 0.0, "p(so so)": 0.0, "p(good)": 1.0}


def test_a_binary_probability_is_the_sigmoid_of_the_logit(made):
    yes, no, even = decode(made, BINARY, torch.tensor([math.log(3), -math.log(3), 0.0]))
    assert yes == {"label": "yes", "p(no)": pytest.approx(0.25), "p(yes)": pytest.approx(0.75)}
    assert no == {"label": "no", "p(no)": pytest.approx(0.75), "p(yes)": pytest.approx(0.25)}
    assert even == {"label": "no", "p(no)": 0.5, "p(yes)": 0.5}


def test_a_score_is_answered_in_its_range_and_clamped_but_scored_unclamped(made):
    raw_B = torch.tensor([-3.0, 0.25, 1.0, 1.5])
    assert decode(made, SCORE, raw_B) == [{"score": 1.0}, {"score": 2.0}, {"score": 5.0}, {"score": 5.0}]
    assert decide(made, SCORE, raw_B).tolist() == raw_B.tolist()


def test_a_cosine_has_a_threshold_and_no_probabilities(made):
    made.head("c").threshold.fill_(-0.25)
    assert decode(made, COSINE, torch.tensor([-0.5, 0.0])) == [
        {"label": "no", "cosine": -0.5},
        {"label": "yes", "cosine": 0.0},
    ]


def test_an_evaluation_holds_metrics_baseline_and_collapse():
    made = model(ORDINAL)
    data = dataset(ORDINAL, LENGTHS)
    predicted = predict_examples(made, data).argmax(-1).tolist()
    labels = [float((p + (i < 3)) % 3) for i, p in enumerate(predicted)]  # three mistakes
    found = evaluate_model(made, dataset(ORDINAL, LENGTHS, labels=labels))
    assert (found.metrics["accuracy"], found.examples) == (0.7, 10)
    assert found.baseline["accuracy"] == max(labels.count(c) for c in labels) / 10
    with torch.no_grad():
        list(made.head("o").parameters())[-1].copy_(torch.tensor([0.0, 99.0, 0.0]))
    assert evaluate_model(made, dataset(ORDINAL, LENGTHS, labels=labels)).collapsed


def test_an_evaluation_of_a_yes_no_task_ranks_by_the_logits(made):
    data = dataset(BINARY, LENGTHS)
    logits_B = predict_examples(made, data).numpy()
    labels = [float(x > np.median(logits_B)) for x in logits_B]  # in perfect order, whatever the threshold decides
    found = evaluate_model(made, dataset(BINARY, LENGTHS, labels=labels)).metrics
    assert (found["auc"], found["average_precision"]) == (1.0, pytest.approx(1.0))
    assert found["accuracy"] < 1


@pytest.mark.parametrize(("part", "bad"), [("o", math.nan), ("encoder", math.inf)])
def test_answers_that_are_not_finite_are_refused_with_the_task_and_the_example(part, bad):
    broken = model(ORDINAL)
    with torch.no_grad():
        for weights in (broken.head("o") if part == "o" else broken.encoder).parameters():
            weights.fill_(bad)
    for ask in (predict_examples, scoring.pooled_vectors) if part == "encoder" else (predict_examples,):
        said = r"^task o: 10 of 10 answers are not finite \(first: id 'a0'\)\."
        with pytest.raises(FloatingPointError, match=said):
            ask(broken, dataset(ORDINAL, LENGTHS))


def fitted(
    cosines: list[float], labels: list[int], monkeypatch: pytest.MonkeyPatch, rows: Rows | None = None
) -> tuple[float, float]:
    """Returns the threshold that is fitted on the given cosines, and its accuracy on them."""
    made = model(COSINE)
    prediction_B = torch.tensor(cosines)
    monkeypatch.setattr(
        scoring, "predict_rows", lambda _, parts, **__: {d.task.name: prediction_B[rows] for d, rows in parts}
    )
    data = dataset(COSINE, [1] * len(cosines), [1] * len(cosines), labels=[float(y) for y in labels])
    fit_answers(made, [(data, np.arange(len(data)) if rows is None else rows)])
    return made.head("c").threshold.item(), float((decide(made, COSINE, prediction_B) == np.array(labels)).mean())


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_is_as_good_as_the_best_of_all(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    cosines = np.round(rng.uniform(-1, 1, 12), 1)  # rounded, so that some are equal
    labels = (rng.random(12) < 0.5 + 0.4 * cosines).astype(int)
    best = max(np.mean((cosines > t) == labels) for t in [-2.0, *cosines])
    assert fitted(cosines.tolist(), labels.tolist(), monkeypatch)[1] == pytest.approx(best)


@pytest.mark.parametrize(
    ("cosines", "labels", "threshold"),
    [
        ([0.75, 0.25, 0.5, 0.0], [1, 0, 1, 0], 0.375),
        ([0.0, 0.25, 0.5, 0.75], [0, 1, 0, 1], 0.125),  # as good as 0.625: the first
        ([1.0, 1.0, 1.0, 0.5], [1, 1, 0, 0], 0.75),  # no threshold separates equal cosines
        ([-1.0, 0.0], [1, 1], -2.0),
        ([1.0000001, 0.0], [0, 0], 2.0),
    ],
)
def test_the_threshold_is_the_middle_of_the_first_best_gap(cosines, labels, threshold, monkeypatch):
    assert fitted(cosines, labels, monkeypatch)[0] == threshold


def test_the_threshold_is_fitted_on_the_given_rows(monkeypatch):
    cosines, labels = np.linspace(-1, 1, 50).tolist(), [0] * 25 + [1] * 25
    rows = np.random.default_rng(0).permutation(50)[:6]
    low, high = cosines[max(r for r in rows if r < 25)], cosines[min(r for r in rows if r >= 25)]
    assert fitted(cosines, labels, monkeypatch, rows)[0] == pytest.approx((low + high) / 2, abs=1e-6)


def test_a_type_may_fit_a_threshold_on_what_a_head_with_layers_gives(monkeypatch):
    fitting = replace(
        ANSWER_TYPES["binary"], predictions={OUTPUTS: replace(Logit(), fits=Fits(threshold=most_accurate))}
    )
    monkeypatch.setitem(ANSWER_TYPES, "binary", fitting)
    task = Task(name="f", type="binary", inputs="single", labels=("no", "yes"))
    made, data = model(task), dataset(task, [1, 2, 3], labels=[0.0, 0.0, 1.0])
    logits_B = torch.tensor([0.25, 0.75, 1.25])
    monkeypatch.setattr(scoring, "predict_rows", lambda _, parts, **__: {d.task.name: logits_B[r] for d, r in parts})
    fit_answers(made, [(data, np.arange(3))])
    assert made.head("f").threshold.item() == 1.0
    assert decide(made, task, torch.tensor([0.9, 1.1])).tolist() == [0, 1]
    assert "threshold" in made.head("f").state_dict()


def test_a_head_without_a_threshold_stays_as_it_is(made):
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    fit_answers(made, [(dataset(BINARY, [1, 2], labels=[0.0, 1.0]), np.arange(2))])
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
