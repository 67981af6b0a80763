"""The input of ``predict``: all columns of a file, standard input up to a limit, and a single state of the model."""

import csv
import io
import json

import pytest

from mtbert.storage.card import read_card
from mtbert.storage.model_folder import matching_tokenizer
from mtbert.use.predictor import load


@pytest.mark.parametrize("name", ["a.csv", "-"])
def test_columns_come_back_as_they_were_under_the_separator_that_the_task_needs(toy, mtbert, tmp_path, name):
    content = 'sentence;note, extra\nthe dog runs;one, two\n"not; bad";three\n'
    (tmp_path / "a.csv").write_text(content)
    file = tmp_path / name if name != "-" else name
    done = mtbert("predict", toy / "run", "--task", "sst", "--input", file, stdin=content)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [list(row)[:4] for row in rows] == [["id", "sentence", "note, extra", "label"]] * 2
    assert [list(row.values())[:3] for row in rows] == [
        ["1", "the dog runs", "one, two"],
        ["2", "not; bad", "three"],
    ]


def test_standard_input_is_copied_in_parts_and_has_a_limit(toy, mtbert, monkeypatch):
    content = "\ufeffid,sentence\n" + "".join(f"x{i},not bad {i}\n" for i in range(9))
    size = len(content.encode())
    monkeypatch.setattr("mtbert.use.inputs.COPIED", 16)
    monkeypatch.setattr("mtbert.use.inputs.LARGEST_TABLE", size)
    done = mtbert("predict", toy / "run", "--task", "sst", "--input", "-", stdin=content)
    assert [row["sentence"] for row in csv.DictReader(io.StringIO(done.out))] == [f"not bad {i}" for i in range(9)]
    monkeypatch.setattr("mtbert.use.inputs.LARGEST_TABLE", size - 1)
    said = mtbert("predict", toy / "run", "--task", "sst", "--input", "-", stdin=content).mistake
    assert said == f"--input -: more than {size - 1} bytes. Give fewer rows at a time."


def test_a_model_keeps_the_step_of_the_card_that_it_was_loaded_with(run_copy, monkeypatch):
    card = run_copy / "best" / "mtbert.json"
    trained, tokenizer_of = read_card(run_copy / "best").step, matching_tokenizer

    def saved_meanwhile(*given: object) -> object:
        card.write_text(json.dumps(json.loads(card.read_text()) | {"step": 999}))
        return tokenizer_of(*given)

    monkeypatch.setattr("mtbert.storage.model_folder.matching_tokenizer", saved_meanwhile)
    predictor = load(run_copy)
    assert (predictor.folder, predictor.step) == (run_copy / "best", trained)
    assert trained != 999
