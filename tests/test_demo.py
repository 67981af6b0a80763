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


def jaccard(texts):
    a, b = (set(bag_of_words.words(text)) for text in texts)
    return len(a & b) / len(a | b)


def both(data, task):
    return [*data[task, "train"], *data[task, "dev"]]


@pytest.mark.parametrize(
    ("task", "digest"),
    [
        ("sst", "d4cc41bbd8fb635d1d9bbd9c0ae9de4d9d5614275473319709dc8f66b259b77c"),
        ("quora", "a96dd243d8e3b9fcb18bc1090264ed550e2c549d2315d1d0fd978f0c5c6bf09d"),
        ("sts", "c6346c4efacc3db38dc400a8a83e08e4b2d4d8d3443d498229bef6c5e99418ca"),
    ],
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


def test_negation_turns_a_mild_word_round_and_a_strong_one_neutral(data):
    said = {e.texts[0].partition(" is ")[2]: e.label for e in both(data, "sst") if e.texts[0].count(" is ") == 1}
    assert [said[f"{adverb}dull."] for adverb in ("very ", "", "slightly ", "not ", "anything but ")] == [0, 1, 1, 3, 4]
    assert [said[f"{adverb}good."] for adverb in ("anything but ", "hardly ", "fairly ", "", "truly ")] == [
        0,
        1,
        3,
        3,
        4,
    ]
    assert [said[f"{adverb}superb."] for adverb in ("not ", "hardly ", "", "absolutely ")] == [2, 2, 4, 4]


@pytest.mark.parametrize(
    "twins",
    [
        {
            "The photography is not dull, but the score is very clumsy.": 0.0,
            "The photography is very clumsy, but the score is not dull.": 3.0,
        },
        {
            "Although the direction is anything but engaging, the acting is anything but dull.": 4.0,
            "Although the direction is anything but dull, the acting is anything but engaging.": 0.0,
        },
    ],
)
def test_the_main_clause_decides_over_the_same_words(data, twins):
    grades = {e.texts[0]: e.label for e in data["sst", "train"]}
    assert {text: grades[text] for text in twins} == twins
    assert len({tuple(sorted(bag_of_words.words(text))) for text in twins}) == 1


@pytest.mark.parametrize(
    ("task", "texts", "label"),
    [
        ("quora", ("When can I convert euros to yen?", "When can I convert yen to euros?"), 0.0),
        ("quora", ("Why is juice not better than coffee?", "Why is coffee not better than juice?"), 0.0),
        ("sts", ("The angry child chased the woman at home.", "The angry woman chased the child at home."), 3.0),
    ],
)
def test_exchanged_roles_keep_every_word_and_change_the_label(data, task, texts, label):
    assert (texts, label) in {(e.texts, e.label) for e in data[task, "train"]}
    assert len({tuple(sorted(bag_of_words.words(text))) for text in texts}) == 1


def test_a_paraphrase_may_share_few_words(data):
    for task, label in (("quora", 1.0), ("sts", 4.8)):
        assert min(jaccard(e.texts) for e in data[task, "train"] if e.label == label) < 0.3
        assert max(jaccard(e.texts) for e in data[task, "train"] if e.label < label) == 1.0


@pytest.mark.parametrize(("task", "low", "high"), [("sst", 0.45, 0.58), ("quora", 0.5, 0.65), ("sts", 0.1, 0.4)])
def test_counting_words_learns_something_and_not_much(task, low, high):
    assert low < bag_of_words.score(task) < high


@pytest.mark.parametrize(
    ("task", "split", "message"),
    [
        ("cola", "train", "no generated task 'cola'. Use one of: sst, quora, sts."),
        ("sst", "test", "no generated split 'test'. Use one of: train, dev."),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(task, split, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        demo.examples(task, split)
