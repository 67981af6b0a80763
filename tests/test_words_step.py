"""Words in a step: their tokens, labels and states by hand, losses over all words of a step, predictions in order."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import tiny
import torch
from one_step import backward
from tiny import CPU
from torch.nn.functional import cross_entropy

from mtbert import scoring
from mtbert.batch import Dataset, Example, Examples, Sequences
from mtbert.collate import collate, only
from mtbert.columns import TextColumn
from mtbert.model.model import Model
from mtbert.ragged import Ragged
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.task import Task
from mtbert.training.objective import Objective, Tally

HEAD = {"dropout": 0}
TAGS = Task(name="tags", type="tokens", inputs="single", labels=("x", "y", "z"), splitter="unicode", head=HEAD)
TOPIC = Task(name="topic", type="classification", inputs="single", labels=("a", "b"), pooling="mean")

# Rows of a table: the tokens of each, and the place of each word's first token, -1 for a word that has none.
LENGTHS = (5, 3, 6, 4, 2)
WORDS = ([1, 2], [1], [1, 1, 4, -1], [-1, 2], [-1])
TRUTH: Mapping[int, Sequence[int]] = {0: [0, 1], 2: [2, 1, 0, 1], 3: [2, 0]}


def table(seed: int = 0) -> tuple[Sequences]:
    ids = np.random.default_rng(seed).integers(5, tiny.VOCAB, sum(LENGTHS)).astype(np.int32)
    return (Sequences(ids, np.zeros_like(ids), np.cumsum([0, *LENGTHS]), Ragged.of(WORDS, np.int64)),)


def tags(sequences: tuple[Sequences], truth: Mapping[int, Sequence[int]] = TRUTH) -> Dataset:
    """Returns the data set of the task ``tags``, whose examples are the rows that have a label."""
    ids, texts = TextColumn.of(f"r{row}" for row in truth), TextColumn.of("x" for _ in truth)
    return Dataset(TAGS, Examples(ids, [texts], Ragged.of(truth.values())), sequences, np.array([*truth]))  # type: ignore[arg-type]


def topics(sequences: tuple[Sequences]) -> Dataset:
    labels = {0: 1.0, 1: 0.0, 3: 1.0}
    examples = Examples.of(Example(f"r{row}", ("x",), label) for row, label in labels.items())
    return Dataset(TOPIC, examples, sequences, np.array([*labels]))


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers)


def states(model: Model, sequences: tuple[Sequences], row: int) -> torch.Tensor:
    """Returns the last layer's output for all tokens of a row that is encoded alone."""
    wanted = Dataset.whole(TOPIC, Examples.of([Example("a", ("x",), 0.0)] * len(LENGTHS)), sequences)
    found: list[torch.Tensor] = []
    hook = model.encoder.layers[-1].register_forward_hook(lambda *given: found.append(given[2]))
    model(collate([(wanted, rows(row))], CPU))
    hook.remove()
    return found[0][: LENGTHS[row]]


def recipe(losses: Sequence[object] = ("ce",), **train: object) -> Recipe:
    common = {"inputs": "single", "train": "x.jsonl"}
    tasks = {
        "tags": common | {"type": "tokens", "labels": ["x", "y", "z"], "losses": list(losses)},
        "topic": common | {"type": "classification", "labels": ["a", "b"], "pooling": "mean"},
    }
    return validate_recipe({"tasks": tasks, "train": {"precision": "fp32"} | train}, "r")


def objective(settings: Recipe, model: Model, average: Model | None = None) -> Objective:
    return Objective(settings, model, torch.Generator().manual_seed(0), average)


# Batches ----------------------------------------------------------------------------------------------------


def test_words_with_a_token_have_labels_owners_and_places_in_the_span():
    data = tags(table())
    batch = collate([(data, rows(2, 0, 1))], CPU)  # the rows 3, 0 and 2, which are sorted by their lengths 4, 5, 6
    words = batch.places["tags"].words
    assert words is not None
    # Row 3 begins at token 0, row 0 at 4, and row 2 at 9.
    assert words.at_W.tolist() == [0 + 2, 4 + 1, 4 + 2, 9 + 1, 9 + 1, 9 + 4]
    assert words.owners.tolist() == [0, 1, 1, 2, 2, 2]
    assert batch.labels["tags"].tolist() == [0, 0, 1, 2, 1, 0]
    assert [data.labels_in(rows(i)) for i in range(3)] == [2, 3, 1]
    assert data.labels_in(rows(0, 2)) == 3


def test_the_part_of_a_task_has_its_words_where_its_own_tokens_are():
    sequences = table()
    data, other = tags(sequences), topics(sequences)
    batch = collate([(other, rows(0, 1, 2)), (data, rows(1, 2))], CPU)
    alone = collate([(data, rows(1, 2))], CPU)
    part = only(batch, "tags")
    assert part.ids_N.tolist() == alone.ids_N.tolist()
    (one, two) = (each.places["tags"].words for each in (part, alone))
    assert one is not None
    assert two is not None
    assert one.at_W.tolist() == two.at_W.tolist()
    assert only(batch, "topic").places["topic"].words is None


# Passes -----------------------------------------------------------------------------------------------------


def test_a_word_is_predicted_from_the_last_state_of_its_first_token():
    sequences = table()
    model = tiny.model(TAGS, TOPIC, layers=2)
    out = model(collate([(tags(sequences), rows(1, 0)), (topics(sequences), rows(0, 1))], CPU))
    expected = torch.cat([states(model, sequences, 2)[[1, 1, 4]], states(model, sequences, 0)[[1, 2]]])
    torch.testing.assert_close(out["tags"].vectors[0], expected)
    torch.testing.assert_close(out["tags"].prediction, model.head("tags")((expected,), None))
    torch.testing.assert_close(out["topic"].vectors[0][1], states(model, sequences, 1).mean(0))
    assert not model.first_only(["tags"])  # although the model pools first tokens


def test_tags_and_a_class_of_one_text_are_encoded_once():
    sequences = table()
    batch = collate([(tags(sequences), rows(0, 1, 2)), (topics(sequences), rows(0, 1, 2))], CPU)
    assert len(batch.ids_N) == LENGTHS[0] + LENGTHS[1] + LENGTHS[2] + LENGTHS[3]


def test_words_are_read_from_the_top_layers_of_their_own_task():
    shared, own = (tiny.model(TAGS, TOPIC, layers=2, unshare=k) for k in (0, 1))
    sequences = table()
    batch = collate([(topics(sequences), rows(1, 0, 2)), (tags(sequences), rows(2, 0))], CPU)
    for name, out in own(batch).items():
        torch.testing.assert_close(out.prediction, shared(batch)[name].prediction, rtol=1e-5, atol=1e-6)
    before = own(batch)
    with torch.no_grad():
        own.tops["for_topic"].layers[0].output.bias.add_(torch.arange(tiny.WIDTH))
    assert torch.equal(own(batch)["tags"].prediction, before["tags"].prediction)
    assert not torch.allclose(own(batch)["topic"].prediction, before["topic"].prediction)


@pytest.mark.parametrize("budget", [None, 6, 11])
def test_a_loss_is_the_mean_over_all_words_of_a_step(budget: int | None):
    sequences = table()
    model = tiny.model(TAGS, TOPIC, layers=2)
    made = objective(recipe(token_budget=budget), model)
    parts = [(tags(sequences), rows(0, 1, 2))]
    tally = backward(made, parts)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    at = torch.cat([states(model, sequences, row)[places] for row, places in ((0, [1, 2]), (2, [1, 1, 4]), (3, [2]))])
    loss = cross_entropy(model.head("tags")((at,), None), torch.tensor([0, 1, 2, 1, 0, 0]), reduction="sum") / 6
    loss.backward()  # type: ignore[no-untyped-call]
    assert tally.losses["tags.ce"] == pytest.approx(loss.item(), abs=1e-6)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["smart", "rdrop", "bregman"])
def test_losses_of_predictions_compare_words(kind: str):
    ema = {"ema": {"decay": 0.5, "predicts": False}} if kind == "bregman" else {}
    sequences = table()
    model, average = (tiny.model(TAGS, TOPIC, dropout=0.1, seed=seed) for seed in (0, 1))
    made = objective(recipe(["ce", kind], **ema), model, average)
    tally = backward(made, [(tags(sequences), rows(0, 1, 2)), (topics(sequences), rows(0, 1))])
    assert np.isfinite(tally.losses[f"tags.{kind}"])
    assert tally.losses[f"tags.{kind}"] > 0


def test_a_prediction_that_is_not_finite_names_its_text():
    sequences = table()
    model = tiny.model(TAGS, TOPIC)
    ids = sequences[0].ids
    with torch.no_grad():
        model.encoder.word_embedding.weight[int(ids[LENGTHS[0] + LENGTHS[1] + 4])] = torch.inf
    made = objective(recipe(), model)
    with pytest.raises(FloatingPointError, match=r"loss tags\.ce is nan for examples r2\. Look at these rows"):
        list(made.losses(*made.shards([(tags(sequences), rows(0, 1))]), Tally()))


# Scores -----------------------------------------------------------------------------------------------------


def test_all_words_are_predicted_in_the_order_of_the_texts_and_those_without_a_token_are_nan(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(scoring, "TOKENS", 8)
    sequences = table()
    data = tags(sequences, {row: [0] * len(words) for row, words in enumerate(WORDS)})
    model = tiny.model(TAGS, TOPIC)
    found = scoring.predict_together(model, [data, topics(sequences)])["tags"]
    assert len(found) == sum(map(len, WORDS))
    at = 0
    for row, words in enumerate(WORDS):
        own = states(model, sequences, row)
        for place in words:
            if place < 0:
                assert found[at].isnan().all()
            else:
                expected = model.head("tags")((own[place][None],), None)[0]
                torch.testing.assert_close(found[at], expected, rtol=1e-5, atol=1e-5)
            at += 1
    predicted = scoring.predict_and_decide(model, [data])["tags"]
    assert predicted.offsets is not None
    assert predicted.offsets.tolist() == [0, 2, 3, 7, 9, 10]
    assert (predicted.decision == -1).tolist() == [place < 0 for words in WORDS for place in words]
    assert scoring.evaluate_predicted(data, predicted).examples == 5
