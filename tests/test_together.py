"""Answers of several tasks to the same texts: how many passes they take, and that they are each task's own."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tiny import dataset, model
from tokenizers import Tokenizer, models, pre_tokenizers

from mtbert import scoring
from mtbert.batch import Dataset
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.scoring import predict_examples, predict_together
from mtbert.task import Task
from mtbert.use.predictor import Predictor

WORDS = "the cat dog runs very fast and a bird sings".split()
TEXTS = ["the cat", "a dog runs very fast", "bird", "the bird sings and the dog runs", "a cat and a dog"]
PAIRS = list(zip(TEXTS, TEXTS[::-1], strict=True))

TOPIC = Task(name="topic", type="classification", inputs="single", labels=("a", "b", "c"))
QUALITY = Task(name="quality", type="regression", inputs="single", range=(0, 10))
MOOD = Task(name="mood", type="ordinal", inputs="single", labels=("bad", "so so", "good"))
MEAN = Task(name="mean", type="regression", inputs="single", range=(0, 1), pooling="mean")
PACKED = Task(name="packed", type="binary", inputs="packed", labels=("no", "yes"))
FLAT = Task(name="flat", type="binary", inputs="packed", labels=("no", "yes"), segments=False)
COSINE = Task(name="cosine", type="regression", inputs="separate", range=(0, 5), head={"kind": "cosine"})
SEPARATE = Task(name="separate", type="binary", inputs="separate", labels=("no", "yes"))


def predictor(*tasks: Task, adapters: Pal | None = None) -> Predictor:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return Predictor(strong(*tasks, adapters=adapters), tokenizer)


def strong(*tasks: Task, adapters: Pal | None = None, pooler: bool = True) -> Model:
    """Returns a model of two layers whose heads and adapters have large weights, so that every answer differs."""
    made = model(*tasks, layers=2, adapters=adapters, pooler=pooler)
    generator = torch.Generator().manual_seed(1)
    for parameter in (*made.heads.parameters(), *made.adapters.parameters()):
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return made


def pal(*tasks: str) -> Pal:
    return Pal(kind="attention", width=4, heads=2, tasks=tasks)


class Passes:
    """Counts the passes through the encoder of a model: the tokens that each had, and the rows of its last product."""

    def __init__(self, made: Model) -> None:
        self.tokens: list[int] = []
        self.last: list[int] = []
        made.encoder.layers[0].qkv.register_forward_hook(lambda _, given, out: self.tokens.append(len(out)))
        made.encoder.layers[-1].output.register_forward_hook(lambda _, given, out: self.last.append(len(out)))


def sharing(*tasks: Task, lengths: Sequence[int] = (3, 9, 2, 5)) -> list[Dataset]:
    """Returns a data set of each task, all with the same tokens."""
    made = [dataset(task, lengths) for task in tasks]
    return [Dataset.whole(one.task, one.examples, made[0].sequences) for one in made]


# Passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "adapted", "passes"),
    [
        ([TOPIC, QUALITY, MOOD], [], 1),
        ([TOPIC, QUALITY, MEAN], [], 1),
        ([TOPIC, QUALITY, MOOD], ["quality"], 2),
        ([TOPIC, QUALITY, MOOD], ["topic"], 2),
        ([TOPIC, QUALITY, MOOD], ["topic", "mood"], 3),
        ([PACKED, SEPARATE, COSINE], [], 2),
        ([PACKED, FLAT], [], 2),
    ],
)
def test_tasks_that_encode_texts_alike_share_a_pass_unless_they_have_adapters(tasks, adapted, passes):
    asked = predictor(*tasks, adapters=pal(*adapted) if adapted else None)
    seen = Passes(asked.model)
    asked(TEXTS if tasks[0].texts == 1 else PAIRS)
    assert len(seen.tokens) == passes
    seen.tokens.clear()
    asked.predict([task.name for task in tasks], TEXTS if tasks[0].texts == 1 else PAIRS)
    assert len(seen.tokens) == passes


def test_each_batch_takes_one_pass(monkeypatch):
    monkeypatch.setattr(scoring, "TOKENS", 8)
    made = model(TOPIC, QUALITY, MOOD)
    seen = Passes(made)
    together = predict_together(made, sharing(TOPIC, QUALITY, MOOD))
    assert seen.tokens == [5, 5, 9]  # 2 + 3, 5 and 9 tokens
    assert {name: len(part) for name, part in together.items()} == {"topic": 4, "quality": 4, "mood": 4}


def test_data_sets_with_tokens_of_their_own_are_encoded_one_by_one():
    made = model(TOPIC, QUALITY)
    seen = Passes(made)
    predict_together(made, [dataset(TOPIC, [3, 9]), dataset(QUALITY, [4])])
    assert seen.tokens == [12, 4]


@pytest.mark.parametrize(("other", "rows"), [(MOOD, 4), (MEAN, 19)])
def test_the_last_layer_works_for_first_tokens_alone_if_all_tasks_of_the_pass_pool_them(other, rows):
    made = model(TOPIC, other)
    seen = Passes(made)
    predict_together(made, sharing(TOPIC, other))
    assert seen.last == [rows]


# Answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("adapted", [[], ["quality"], ["topic", "mean"]])
@pytest.mark.parametrize("pooler", [True, False])
def test_each_task_answers_together_as_it_does_alone(compute, adapted, pooler, monkeypatch):
    monkeypatch.setattr(scoring, "TOKENS", 12)
    tasks = (TOPIC, MEAN, QUALITY, MOOD)
    made = strong(*tasks, pooler=pooler, adapters=pal(*adapted) if adapted else None)
    made.compute = compute
    together = predict_together(made, sharing(*tasks))
    assert list(together) == ["topic", "mean", "quality", "mood"]
    for data in sharing(*tasks):
        expected = predict_examples(made, data)
        tolerance = 1e-6 if compute == torch.float32 else 0.05
        torch.testing.assert_close(together[data.task.name], expected, rtol=tolerance, atol=tolerance)
        assert together[data.task.name].dtype == torch.float32
    assert (together["mean"] - together["quality"]).abs().max() > 0.3
    assert (together["topic"] - together["mood"]).abs().max() > 0.3


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_tasks_that_pool_alike_answer_together_bit_for_bit_as_alone(compute):
    made = strong(TOPIC, QUALITY, MOOD)
    made.compute = compute
    data = sharing(TOPIC, QUALITY, MOOD)
    for name, part in predict_together(made, data).items():
        assert torch.equal(part, predict_examples(made, next(one for one in data if one.task.name == name)))


def test_separate_pairs_are_answered_together_with_their_two_texts_in_order():
    asked = predictor(SEPARATE, COSINE)
    together = asked(PAIRS)
    for name in ("separate", "cosine"):
        assert [row[name] for row in together] == [pytest.approx(x, abs=1e-6) for x in asked.predict(name, PAIRS)]
    assert together[0] != together[-1]  # the same two texts the other way round


def test_answers_come_in_the_order_of_the_tasks_asked_also_with_an_adapter_between():
    asked = predictor(TOPIC, QUALITY, MOOD, adapters=pal("quality"))
    (row,) = asked.predict(["mood", "quality", "topic"], "the cat")
    assert [list(answer) for answer in row.values()] == [
        ["label", "p(bad)", "p(so so)", "p(good)"],
        ["score"],
        ["label", "p(a)", "p(b)", "p(c)"],
    ]
    assert list(row) == ["mood", "quality", "topic"]
    assert [asked.predict(name, "the cat")[0] for name in row] == list(row.values())
    assert asked.predict(["topic"], ["the cat"]) == [{"topic": asked.predict("topic", "the cat")[0]}]


def test_nothing_is_left_on_the_model():
    asked = predictor(TOPIC, MEAN, adapters=pal("topic"))
    before = {key: id(value) for key, value in vars(asked.model).items()}
    state = {name: tensor.clone() for name, tensor in asked.model.state_dict().items()}
    asked(TEXTS)
    assert {key: id(value) for key, value in vars(asked.model).items()} == before
    assert all(torch.equal(tensor, state[name]) for name, tensor in asked.model.state_dict().items())


# Refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([], "no task is named. Use topic or quality or packed."),
        (["topic", "qualty"], "task qualty: this model has no such task. Use topic or quality or packed."),
        (["packed", "topic"], "task topic takes single texts, but task packed pairs. Ask one after the other."),
    ],
)
def test_several_tasks_that_cannot_answer_together_are_refused(tasks, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        predictor(TOPIC, QUALITY, PACKED).predict(tasks, ["the cat"])


def test_no_texts_give_no_answers_of_several_tasks():
    assert predictor(TOPIC, QUALITY).predict(["topic", "quality"], []) == []
    assert predictor(TOPIC, QUALITY)([]) == []


def test_the_task_whose_answers_are_not_finite_is_named():
    asked = predictor(TOPIC, QUALITY)
    with torch.no_grad():
        asked.model.head("quality").layers[-1].bias.fill_(np.inf)
    with pytest.raises(FloatingPointError, match=r"^task quality: 5 of 5 answers are not finite \(first: id '0'\)"):
        asked(TEXTS)
