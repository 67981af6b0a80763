import hashlib
from collections import Counter

import bag_of_words
import numpy as np
import pytest

from mtbert.data import demo

TASKS = ("sst", "quora", "sts")
SPLITS = ("train", "dev")


@pytest.fixture(scope="module")
def data():
    return {(task, split): demo.examples(task, split) for task in TASKS for split in SPLITS}


def both(data, task):
    return [*data[task, "train"], *data[task, "dev"]]


@pytest.mark.parametrize(
    ("task", "digest"),
    [("sst", ""), ("quora", ""), ("sts", "")],
)
def test_every_text_and_label_stays_as_published(data, task, digest):
    text = "\n".join("\t".join((e.id, *e.texts, str(e.label))) for e in both(data, task))
    assert hashlib.sha256(text.encode()).hexdigest() == digest


@pytest.mark.parametrize("task", TASKS)
def test_the_generator_ignores_and_leaves_the_global_random_state(data, task):
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    assert demo.examples(task, "dev") == data[task, "dev"]
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", TASKS)
def test_every_id_says_generated_and_is_unique(data, task, split):
    ids = [e.id for e in data[task, split]]
    assert ids[17] == f"generated-{task}-{split}-17"
    assert len(set(ids)) == len(ids) == {"train": 1600, "dev": 300}[split]


@pytest.mark.parametrize("task", TASKS)
def test_no_text_or_pair_occurs_twice_in_any_order(data, task):
    keys = Counter(tuple(sorted(e.texts)) for e in both(data, task))
    assert max(keys.values()) == 1


@pytest.mark.parametrize("task", TASKS)
def test_every_word_of_dev_occurs_in_train(data, task):
    train, dev = ({w for e in data[task, s] for text in e.texts for w in bag_of_words.words(text)} for s in SPLITS)
    assert dev <= train


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_balanced_and_in_range(data, split):
    grades = Counter(e.label for e in data["sst", split])
    assert set(grades) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert all(0.12 < n / len(data["sst", split]) < 0.30 for n in grades.values())
    assert Counter(e.label for e in data["quora", split]).keys() == {0.0, 1.0}
    assert 0.4 < np.mean([e.label for e in data["quora", split]]) < 0.6
    scores = [e.label for e in data["sts", split]]
    assert min(scores) == 0.0
    assert max(scores) == 5.0
    assert len(set(scores)) > 15


@pytest.mark.parametrize("task", TASKS)
def test_a_text_is_a_capitalised_sentence_of_some_words(data, task):
    texts = [text for e in both(data, task) for text in e.texts]
    assert {len(e.texts) for e in both(data, task)} == {1 if task == "sst" else 2}
    assert all(text[0].isupper() and text[-1] in ".?" and "{" not in text for text in texts)
    assert all(3 < len(bag_of_words.words(text)) < 18 for text in texts)
