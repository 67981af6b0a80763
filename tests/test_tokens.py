"""The answer type of words: tags in cells, decisions, answers for people, and how wrong they are, against literals."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch

from mtbert.answers import LabelKind, WrongCell
from mtbert.answers.tokens import TagLabels, TagLogits
from mtbert.data.words import split
from mtbert.ragged import Ragged
from mtbert.task import Task

NER = Task(name="ner", type="tokens", inputs="single", labels=("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
POS = Task(name="pos", type="tokens", inputs="single", labels=("DET", "NOUN", "VERB"))
FREE = Task(name="t", type="tokens", inputs="single")
KIND: LabelKind[Ragged] = NER.answer.labels
NAN = float("nan")


def cell(*tags: str) -> str:
    return json.dumps(tags)


def of(*rows: list[float]) -> Any:
    return Ragged.of(rows)


# Labels -----------------------------------------------------------------------------------------------------


def test_tags_of_train_become_labels_with_o_first_and_both_tags_of_each_type():
    unicode = {"splitter": "unicode"}
    assert KIND.complete(FREE, [[cell("O", "B-PER"), None, cell("I-LOC")]]) == {"labels": NER.labels} | unicode
    assert KIND.complete(FREE, [[cell("VERB", "DET"), cell("NOUN")]]) == {"labels": POS.labels} | unicode
    assert KIND.complete(FREE, [[cell("10", "9")]]) == {"labels": ("9", "10")} | unicode
    assert KIND.complete(POS, [[cell("X")]]) == unicode


def test_a_splitter_of_the_recipe_stays():
    joined = FREE.model_copy(update={"splitter": "unicode-joined"})
    assert KIND.complete(joined, [[cell("DET", "NOUN")]]) == {"labels": ("DET", "NOUN")}
    assert KIND.complete(joined.model_copy(update={"labels": POS.labels}), [[cell("X")]]) == {}


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (("B-x", "E-x"), "the tags 'B-x', 'E-x' are of another scheme than BIO. Write each entity as B-TYPE"),
        (("I-x", "S-x", "O"), "the tags 'I-x', 'S-x' are of another scheme"),
        (("B-x", "DET"), "the tags 'B-x', 'DET' are of two kinds. Use BIO or plain tags, or list them"),
        (("DET",), "type 'tokens' needs at least 2 classes, found 1: 'DET'."),
    ],
)
def test_tags_of_two_kinds_are_refused(tags: tuple[str, ...], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        KIND.complete(FREE, [[cell(*tags)]])


def test_bio_labels_of_a_recipe_are_complete():
    with pytest.raises(ValueError, match=r"labels in BIO are O, and B- and I- of each type, found no O, I-y\. Add"):
        Task(name="t", type="tokens", inputs="single", labels=("B-x", "I-x", "B-y"))


def test_a_column_is_read_as_repaired_tags_and_a_missing_cell_as_none():
    cells = [cell("O", "I-PER", "I-PER"), None, cell("B-LOC")]
    labels = KIND.read(NER, cells)
    assert isinstance(labels, Ragged)
    assert [labels[i].tolist() for i in range(3)] == [[0, 3, 4], [], [1]]
    assert labels.values.dtype == np.float64
    assert isinstance(KIND, TagLabels)
    assert KIND.repaired(NER, cells).tolist() == [1, 0, 0]
    assert KIND.repaired(POS, [cell("DET", "NOUN")]).tolist() == [0]


def test_codes_stand_for_tags():
    task = NER.model_copy(update={"codes": ("0", "1", "2", "3", "4")})
    found = KIND.read(task, [cell("0", "4", "2")])
    assert isinstance(found, Ragged)
    assert found.values.tolist() == [0, 3, 1]


def test_an_unknown_tag_is_named_by_its_row():
    with pytest.raises(WrongCell, match=r"'B-PET' is not one of the classes .* Did you mean") as error:
        KIND.read(NER, [cell("O"), None, cell("O", "B-PET")])
    assert error.value.row == 2


def test_the_distribution_counts_entities_or_plain_tags():
    found = KIND.distribution(NER, of([0, 3, 4, 3], [1, 2]))
    assert (found.heading, found.counts) == ("entity", (("LOC", 1), ("PER", 2)))
    assert found.numbers == (
        ("words of a text", 3.0), ("entities of a text", 1.5), ("share of words in entities", 5 / 6)
    )  # fmt: skip
    assert KIND.distribution(POS, of([0, 1], [1])).counts == (("DET", 1), ("NOUN", 2), ("VERB", 0))


def test_decisions_fit_by_their_shape_type_and_values():
    labels = of([0, 1], [2])
    assert KIND.fits(NER, np.array([0, -1, 4]), labels)
    flat = (np.array([0, 5, 1]), np.array([0, -2, 1]), np.array([0.0, 1, 2]), np.array([0, 1]))
    for wrong in (*flat, np.zeros((3, 1), np.int64)):
        assert not KIND.fits(NER, wrong, labels)


def test_one_tag_for_all_words_is_collapsed():
    assert KIND.collapsed(np.zeros(9, np.int64))
    assert not KIND.collapsed(np.array([0] * 999 + [1]))


def test_the_report_is_told_words_of_entities_or_tags():
    assert KIND.tell(NER, np.array([3.0, 4, 0, 1, 1])) == "PER 1-2; LOC 4; LOC 5"
    assert KIND.tell(NER, np.array([0, 0])) == "none"
    assert KIND.tell(POS, np.array([0, 2, -1])) == "DET VERB ?"
    assert KIND.summary(NER) == "LOC, PER"


def test_tables_are_by_entity_and_of_confused_entities():
    said, true = np.array([3, 4, 0, 1]), of([3, 4, 0, 3])
    by, confused = KIND.tables(NER, said, true)
    assert not isinstance(by, str)
    assert not isinstance(confused, str)
    assert by.rows == (("LOC", "0.0000", "0.0000", "0.0000", "0", "1"), ("PER", "1.0000", "0.5000", "0.6667", "2", "1"))
    assert confused.columns == ("", "true entity", "1", "2", "none")
    assert confused.rows == (("1", "LOC", "0", "0", "0"), ("2", "PER", "1", "1", "0"), ("", "none", "0", "0", "0"))
    found = KIND.details(NER, said, true)
    assert (found["by_entity"][1]["f1"], found["confusion"]) == (2 / 3, [[0, 0, 0], [1, 1, 0], [0, 0, 0]])


# Predictions ------------------------------------------------------------------------------------------------


def logits(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).log()


def test_the_most_probable_tag_is_decided_and_a_word_without_a_prediction_has_none():
    found = NER.predicts.decide(torch.tensor([[0.0, 1, 0, 0, 0], [NAN] * 5, [3, 1, 0, 0, 0]]), 0.0)
    assert (found.tolist(), found.dtype) == ([1, -1, 0], np.int64)


def test_people_get_spans_with_places_text_and_the_probability_of_all_tags():
    texts = [" Anna Li lives, in Rome", "so"]
    words = [split(text) for text in texts]
    assert list(map(len, words)) == [6, 1]
    sure = [0.92, 0.02, 0.02, 0.02, 0.02]
    rows = [[0.1, 0.1, 0.1, 0.6, 0.1], [0.1, 0.1, 0.1, 0.2, 0.5], sure, sure, sure, [0.1, 0.1, 0.7, 0.05, 0.05], sure]
    assert isinstance(NER.predicts, TagLogits)
    first, second = NER.predicts.decode_words(NER, logits(*rows), texts, words)
    assert first["spans"] == [
        {"start": 1, "end": 8, "label": "PER", "text": "Anna Li", "p": pytest.approx(0.3)},
        {"start": 19, "end": 23, "label": "LOC", "text": "Rome", "p": pytest.approx(0.7)},
    ]
    assert second == {"spans": []}


def test_people_get_words_and_tags_where_tags_are_plain():
    rows = torch.tensor([[0.7, 0.2, 0.1], [NAN] * 3]).log()
    assert isinstance(POS.predicts, TagLogits)
    (found,) = POS.predicts.decode_words(POS, rows, ["a \u200b"], [split("a \u200b")])
    assert found == {"words": ["a", "\u200b"], "tags": ["DET", None], "p": [pytest.approx(0.7), None]}


def test_a_text_is_as_wrong_as_its_words():
    rows = np.log([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [1, 1, 1]])
    rows[3] = np.nan
    found = POS.predicts.judge(POS, rows, np.array([0.0, 0, 2, -1]), of([0, 1], [2, 0]))
    assert isinstance(found.answer, Ragged)
    assert found.answer[1].tolist() == [2, -1]
    np.testing.assert_allclose(found.p_B, [0.4, 0.6 / 3])
    assert found.distance_B.tolist() == [1, 1]
    np.testing.assert_allclose(found.loss_B, [-np.log(0.8 * 0.25), -np.log(0.6 / 3)])
    assert found.wrong_B.tolist() == [True, True]
